"""Where a tabulated distribution function reaches a value."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

__all__ = ["normal_quantile", "quantile"]

# Points on either side that a monotone cubic interpolation of one interval depends on, and one
# more.
_REACH = 3
_LAST_DIGIT = 4 * np.finfo(float).eps


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
    return _solve(x[window], cumulative[window], value, x[above - 1], x[above])


def normal_quantile(x: NDArray[np.float64], cumulative: NDArray[np.float64], value: float) -> float:
    """Quantile of a distribution that is not far from a normal one.

    As `quantile`, but interpolated as multiples of sigma: the distribution function turned into
    the normal variable that has it. That is almost a straight line, so that bins as wide as sigma
    give four digits.

    Parameters
    ----------
    x : `~numpy.ndarray`
        Rising places, shape (n,).
    cumulative : `~numpy.ndarray`
        Distribution function there, from 0 to 1, shape (n,).
    value : float
        Fraction, between 0 and 1.
    """
    above = int(np.searchsorted(cumulative, value))
    if above == 0 or cumulative[above - 1] <= 0 or cumulative[above] >= 1:
        # One side is infinitely many sigma away.
        return quantile(x, cumulative, value)
    # Slow to load, and the published features do without.
    from scipy.special import ndtri

    near = np.arange(max(above - _REACH, 0), min(above + _REACH, len(x)))
    near = near[(cumulative[near] > 0) & (cumulative[near] < 1)]
    sigmas = np.asarray(ndtri(cumulative[near]))
    return _solve(x[near], sigmas, float(ndtri(value)), x[above - 1], x[above])


def _solve(
    x: NDArray[np.float64], y: NDArray[np.float64], value: float, lo: float, hi: float
) -> float:
    """Where the curve through the points has a value, between two of them that are neighbours.

    The curve is the monotone cubic of Fritsch and Butland, as `scipy.interpolate.PchipInterpolator`
    has it, worked out for the one interval that matters.
    """
    places, values = x.tolist(), y.tolist()
    k = places.index(lo)
    width, rise = hi - lo, values[k + 1] - values[k]
    begin, end = _slope(places, values, k) * width, _slope(places, values, k + 1) * width
    # y(t) - y(0) = begin t + b t^2 + a t^3 for t from 0 to 1.
    a, b = begin + end - 2 * rise, 3 * rise - 2 * begin - end
    wanted = value - values[k]

    def excess(t: float) -> float:
        return ((a * t + b) * t + begin) * t - wanted

    return lo + width * _root(excess)


def _slope(x: list[float], y: list[float], k: int) -> float:
    """Slope of the curve at a point: a harmonic mean of those of its intervals."""
    widths = [x[i + 1] - x[i] for i in range(max(k - 2, 0), min(k + 2, len(x) - 1))]
    slopes = [
        (y[i + 1] - y[i]) / (x[i + 1] - x[i]) for i in range(max(k - 2, 0), min(k + 2, len(x) - 1))
    ]
    if len(slopes) == 1:
        return slopes[0]
    if k == 0:
        return _end_slope(*widths[:2], *slopes[:2])
    if k == len(x) - 1:
        return _end_slope(*widths[:-3:-1], *slopes[:-3:-1])
    before = 1 if k > 1 else 0
    (h, g), (d, e) = widths[before : before + 2], slopes[before : before + 2]
    if d * e <= 0:
        return 0.0
    u, v = 2 * g + h, g + 2 * h
    return (u + v) / (u / d + v / e)


def _end_slope(h: float, g: float, d: float, e: float) -> float:
    """Slope at an end, from widths and slopes of the two intervals next to it."""
    slope = ((2 * h + g) * d - h * e) / (h + g)
    if slope * d <= 0:
        return 0.0
    return 3 * d if d * e <= 0 and abs(slope) > 3 * abs(d) else slope


def _root(excess: Callable[[float], float]) -> float:
    """Root of a rising function between 0 and 1, to the last digit."""
    lo, hi = 0.0, 1.0
    low, high = excess(lo), excess(hi)
    while True:
        # The secant, and halving where it would leave the interval or creep.
        secant = lo - low * (hi - lo) / (high - low) if high > low else 0.5 * (lo + hi)
        for t in (secant, 0.5 * (lo + hi)):
            if not lo < t < hi:
                continue
            at_t = excess(t)
            if at_t == 0:
                return t
            lo, low, hi, high = (lo, low, t, at_t) if at_t > 0 else (t, at_t, hi, high)
        if hi - lo <= _LAST_DIGIT:
            return lo if -low <= high else hi
