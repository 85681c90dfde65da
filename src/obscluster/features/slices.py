"""A response at one energy and offset, and quantiles: what features of the response begin with.

Only the neighbouring bins are touched; values are interpolated linearly in offset and in the
logarithm of the energy, and continued beyond the outer bin centres, as Gammapy does it. Bins
without a value do not count (`obscluster.gadf.axis`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from obscluster.features.base import NotComputableError
from obscluster.gadf.axis import Axis, blend, defined_bins, second_weight
from obscluster.gadf.response import IRF

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
    "normal_quantile",
    "quantile",
]

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
    # It takes 0.3 s to load, as long as the features of a hundred runs.
    from scipy.special import ndtri

    above = int(np.searchsorted(cumulative, value))
    if above == 0 or cumulative[above - 1] <= 0 or cumulative[above] >= 1:
        # One side is infinitely many sigma away.
        return quantile(x, cumulative, value)
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
