"""Where a tabulated distribution function reaches a value."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator

__all__ = ["quantile"]

# Points on either side that a monotone cubic interpolation of one interval depends on, and one
# more.
_REACH = 3


def quantile(x: NDArray[np.float64], cumulative: NDArray[np.float64], value: float) -> float:
    """First place where a rising function reaches a value.

    Between the points it is interpolated by monotone cubics, which for a smooth distribution is
    two to three digits better than straight lines at the binning that instruments use.

    Parameters
    ----------
    x : `~numpy.ndarray`
        Rising places, shape (n,).
    cumulative : `~numpy.ndarray`
        Non-decreasing function there, shape (n,).
    value : float
        Value to reach.

    Returns
    -------
    place : float
        NaN if the function never reaches the value.
    """
    if not cumulative[-1] >= value:
        return float("nan")
    above = int(np.searchsorted(cumulative, value))
    if above == 0 or cumulative[above] == value:
        return float(x[above])
    window = slice(max(above - _REACH, 0), above + _REACH)
    curve = PchipInterpolator(x[window], cumulative[window])
    roots = curve.solve(value, extrapolate=False)
    inside = roots[(roots >= x[above - 1]) & (roots <= x[above])]
    return float(inside[0]) if len(inside) else float(x[above])
