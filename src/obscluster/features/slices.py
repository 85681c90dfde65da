"""A response at one energy and offset: what all features of the response begin with.

Only the neighbouring bins are touched; values are interpolated linearly in offset and in the
logarithm of the energy, and continued beyond the outer bin centres, as Gammapy does it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from obscluster.features.base import NotComputableError
from obscluster.gadf.irf import IRF

__all__ = ["at_energy", "at_offset", "check_energy"]

Array = NDArray[np.float64]

_SLACK = 1e-9


def check_energy(irf: IRF, energy: float, axis_name: str = "energy_true") -> None:
    """Raise `NotComputableError` if an energy, in TeV, is outside a response."""
    axis = irf.axes[axis_name]
    # An energy that is an edge must not fall out by a rounding error.
    if not (axis.holds(energy * (1 - _SLACK)) or axis.holds(energy * (1 + _SLACK))):
        lo, hi = axis.edges[[0, -1]]
        raise NotComputableError(f"{energy:g} TeV is outside the energies {lo:.3g} to {hi:.3g} TeV")


def at_offset(
    irf: IRF, column: str, offset: float, energy_index: int | slice = slice(None)
) -> Array:
    """Values of one energy bin, or of all, at an offset in degrees.

    Parameters
    ----------
    irf : `~obscluster.gadf.irf.IRF`
        A response whose first axis is energy.
    column : str
        Which of its arrays.
    offset : float
        Offset from the pointing, in degrees.
    energy_index : int or slice
        Energy bin.

    Returns
    -------
    values : `~numpy.ndarray`
        Shape of the array without the offset axis, and without energy if that is an int.

    Raises
    ------
    NotComputableError
        If the offset is outside the response.
    """
    axis = irf.axes["offset"]
    if not axis.holds(offset):
        lo, hi = max(axis.edges[0], 0.0), axis.edges[-1]
        raise NotComputableError(
            f"offset {offset:.2f} deg is outside the {irf.hdu_class}'s {lo:.2f} to {hi:.2f} deg"
        )
    i, j, t = axis.neighbours(offset)
    values = irf.arrays[column]
    # Energy is the first axis; what lies between it and the offset is kept whole.
    between = (slice(None),) * (list(irf.axes).index("offset") - 1)
    lower = values[(energy_index, *between, i)].astype(float)
    if i == j:
        return lower
    return np.asarray((1 - t) * lower + t * values[(energy_index, *between, j)].astype(float))


def at_energy(
    irf: IRF, column: str, energy: float, offset: float, axis_name: str = "energy_true"
) -> Array:
    """Values at an energy in TeV and an offset in degrees; energy and offset axes are gone.

    Raises
    ------
    NotComputableError
        If energy or offset is outside the response.
    """
    check_energy(irf, energy, axis_name)
    i, j, t = irf.axes[axis_name].neighbours(energy)
    if i == j:
        return at_offset(irf, column, offset, i)
    lower, upper = at_offset(irf, column, offset, slice(i, j + 1))
    return np.asarray((1 - t) * lower + t * upper)
