"""A response at one energy and offset: what all features of the response begin with.

Only the neighbouring bins are touched; values are interpolated linearly in offset and in the
logarithm of the energy, and continued beyond the outer bin centres, as Gammapy does it. Bins
without a value do not count (`obscluster.gadf.defined`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from obscluster.features.base import NotComputableError
from obscluster.gadf.axis import Axis
from obscluster.gadf.defined import blend, defined_bins, second_weight
from obscluster.gadf.irf import IRF

__all__ = [
    "Remark",
    "at_energy",
    "at_offset",
    "check_energy",
    "check_offset",
    "columns_at_energy",
    "columns_at_offset",
    "energy_weights",
    "no_value",
]

Array = NDArray[np.float64]

Remark = Callable[[str], None]
"""Takes what the user should know, such as `obscluster.features.base.Run.remark`."""

_SLACK = 1e-9


def check_energy(irf: IRF, energy: float, axis_name: str = "energy_true") -> None:
    """Raise `NotComputableError` if an energy, in TeV, is outside a response."""
    axis = irf.axes[axis_name]
    # An energy that is an edge must not fall out by a rounding error.
    if not (axis.holds(energy * (1 - _SLACK)) or axis.holds(energy * (1 + _SLACK))):
        lo, hi = axis.edges[[0, -1]]
        raise NotComputableError(
            f"energy outside the response ({irf.hdu_class}: {energy:g} TeV, "
            f"expected {lo:.3g} to {hi:.3g} TeV)"
        )


def check_offset(irf: IRF, offset: float) -> None:
    """Raise `NotComputableError` if an offset, in degrees, is outside a response."""
    axis = irf.axes["offset"]
    if not axis.holds(offset):
        lo, hi = max(axis.edges[0], 0.0), axis.edges[-1]
        raise NotComputableError(
            f"offset outside the response ({irf.hdu_class}: {offset:.2f} deg, "
            f"expected {lo:.2f} to {hi:.2f} deg)"
        )


class _Rows(NamedTuple):
    """Values of some energy bins at an offset.

    Parameters
    ----------
    values : dict
        Column name to values, of the energies first; NaN where there are none.
    defined : `~numpy.ndarray`
        At which of the energies there is a value.
    alone : `~numpy.ndarray`
        Where it is that of one offset bin, as its neighbour has none.
    complete : bool
        Whether all bins around have a value, as most often.
    """

    values: dict[str, Array]
    defined: NDArray[np.bool_]
    alone: NDArray[np.bool_]
    complete: bool = False


def _rows(irf: IRF, offset: float, energies: slice) -> _Rows:
    check_offset(irf, offset)
    i, j, t = irf.axes["offset"].neighbours(offset)
    at = list(irf.axes).index("offset")
    # Energy is the first axis; what lies between it and the offset is kept whole.
    where = (energies, *[slice(None)] * (at - 1), slice(i, j + 1))
    block = {name: values[where].astype(float) for name, values in irf.arrays.items()}
    invalid = {name: mask[where] for name, mask in irf.invalid.items()}
    defined = defined_bins(irf.hdu_class, block, irf.axes, invalid)
    first, second = ((slice(None),) * at + (bins,) for bins in (0, -1))
    if defined.all():
        if i == j:
            values = {name: part[first] for name, part in block.items()}
        else:
            values = {name: _line(part[first], part[second], t) for name, part in block.items()}
        return _Rows(values, defined[:, 0], ~defined[:, 0], complete=True)
    weight = second_weight(t, defined[:, 0], defined[:, -1])
    values = {}
    for name, part in block.items():
        shape = (-1,) + (1,) * (part.ndim - 2)
        values[name] = blend(part[first], part[second], weight.reshape(shape))
    known = ~np.isnan(weight)
    return _Rows(values, known, known & (weight != t))


def _line(first: Array, second: Array, weight: float) -> Array:
    # Some of the numbers of a distribution may be none, and yet it has others.
    with np.errstate(invalid="ignore", over="ignore"):
        return np.asarray((1 - weight) * first + weight * second)


def at_offset(
    irf: IRF,
    column: str,
    offset: float,
    energies: slice = slice(None),
    remark: Remark | None = None,
) -> Array:
    """Values of a column; see `columns_at_offset`."""
    return columns_at_offset(irf, offset, energies, remark)[column]


def columns_at_offset(
    irf: IRF, offset: float, energies: slice = slice(None), remark: Remark | None = None
) -> dict[str, Array]:
    """Values of energy bins at an offset in degrees.

    Parameters
    ----------
    irf : `~obscluster.gadf.irf.IRF`
        A response whose first axis is energy.
    offset : float
        Offset from the pointing, in degrees.
    energies : slice
        Energy bins.
    remark : callable, optional
        Is told if values are those of one neighbour, as the other has none.

    Returns
    -------
    values : dict
        Column name to values, shape of the array without the offset axis; NaN where there is no
        value.

    Raises
    ------
    NotComputableError
        If the offset is outside the response.
    """
    rows = _rows(irf, offset, energies)
    if remark is not None and rows.alone.any():
        remark(_alone(irf, f"{offset:.2f} deg"))
    return rows.values


def energy_weights(
    axis: Axis, energies: Array, defined: NDArray[np.bool_]
) -> tuple[NDArray[np.intp], Array]:
    """Bins around many energies and how they count.

    For sums over energies, in which a place without a value is lost: next to a bin that has none
    the other one counts alone, all the way, and beyond the outer centres these hold.

    Parameters
    ----------
    axis : `~obscluster.gadf.axis.Axis`
        Axis of energy.
    energies : `~numpy.ndarray`
        In TeV, shape (n,).
    defined : `~numpy.ndarray`
        Which bins of the axis have a value.

    Returns
    -------
    bins, weights : `~numpy.ndarray`
        Shape (2, n); the weights add up to one, or are zero where neither has a value.
    """
    position = np.interp(axis.scale(energies), axis.scaled_center, np.arange(axis.nbin))
    lower = np.minimum(position.astype(np.intp), max(axis.nbin - 2, 0))
    bins = np.stack([lower, np.minimum(lower + 1, axis.nbin - 1)])
    weights = np.stack([1 - position + lower, position - lower]) * defined[bins]
    total = weights.sum(axis=0)
    return bins, np.divide(weights, total, out=np.zeros_like(weights), where=total > 0)


def at_energy(
    irf: IRF,
    column: str,
    energy: float,
    offset: float,
    axis_name: str = "energy_true",
    remark: Remark | None = None,
) -> Array:
    """Values of a column; see `columns_at_energy`."""
    return columns_at_energy(irf, energy, offset, axis_name, remark)[column]


def columns_at_energy(
    irf: IRF,
    energy: float,
    offset: float,
    axis_name: str = "energy_true",
    remark: Remark | None = None,
) -> dict[str, Array]:
    """Values at an energy in TeV and an offset in degrees; energy and offset axes are gone.

    Parameters
    ----------
    irf : `~obscluster.gadf.irf.IRF`
        A response whose first axis is energy.
    energy : float
        In TeV.
    offset : float
        Offset from the pointing, in degrees.
    axis_name : str
        Name of the energy axis.
    remark : callable, optional
        Is told if the values are those of one neighbour, as the other has none.

    Returns
    -------
    values : dict
        Column name to values.

    Raises
    ------
    NotComputableError
        If energy or offset is outside the response, or it has no value there.
    """
    check_energy(irf, energy, axis_name)
    i, j, t = irf.axes[axis_name].neighbours(energy)
    rows = _rows(irf, offset, slice(i, j + 1))
    if rows.complete and i != j:
        return {name: _line(part[0], part[1], t) for name, part in rows.values.items()}
    if i == j:
        weight = 0.0 if rows.defined[0] else np.nan
        values = {name: part[0] for name, part in rows.values.items()}
    elif rows.defined.all():
        weight = t
        values = {name: _line(low, high, t) for name, (low, high) in rows.values.items()}
    else:
        weight = float(second_weight(t, *rows.defined))
        values = {
            name: blend(low, high, np.asarray(weight)) for name, (low, high) in rows.values.items()
        }
    place = f"{energy:g} TeV, {offset:.2f} deg"
    if np.isnan(weight):
        raise no_value(irf, place)
    used = rows.alone[[weight != 1, weight != 0][: len(rows.alone)]]
    if remark is not None and (weight != t or used.any()):
        remark(_alone(irf, place))
    return values


def no_value(irf: IRF, place: str) -> NotComputableError:
    """What is raised where a response has no value, at a place such as "1 TeV, 0.50 deg"."""
    return NotComputableError(f"the response is empty ({irf.hdu_class} at {place})")


def _alone(irf: IRF, place: str) -> str:
    return f"value of the nearest bin, the one beside it is empty ({irf.hdu_class} at {place})"
