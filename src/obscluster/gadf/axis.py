"""Axes of instrument responses, which of their bins have a value, and interpolation among these.

A bin without a value (an empty PSF, a width or a cut of zero) is undefined, not zero: whoever
interpolates through it makes values up.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from astropy import units as u
from numpy.typing import ArrayLike, NDArray

from obscluster.gadf.psf import PROFILES

__all__ = ["INNER_AXES", "Axis", "axis_unit", "blend", "defined_bins", "second_weight"]

_UNITS = {"energy_true": u.TeV, "energy": u.TeV, "migra": u.dimensionless_unscaled}
_TINY = np.finfo(float).tiny


def axis_unit(name: str) -> u.UnitBase:
    """Unit in which an axis is kept: TeV for energies, none for migration, degrees for the rest."""
    return _UNITS.get(name, u.deg)


@dataclass(frozen=True, eq=False)
class Axis:
    """One axis of a response.

    Parameters
    ----------
    name : str
        ``energy_true``, ``energy``, ``migra``, ``offset``, ``rad``, ``fov_lon`` or ``fov_lat``.
    edges : `~numpy.ndarray`
        Bin edges, shape (n + 1,), in the unit of `axis_unit`.
    center : `~numpy.ndarray`
        Bin centres, where values are tabulated, shape (n,); of a logarithmic axis the geometric
        ones.
    interp : {"lin", "log"}
        Scale on which the axis is interpolated.
    """

    name: str
    edges: NDArray[np.float64]
    center: NDArray[np.float64]
    interp: str = "lin"

    @classmethod
    def from_edges(cls, name: str, edges: ArrayLike, interp: str = "lin") -> Axis:
        """Axis of bins between edges."""
        scaled = _scale(np.asarray(edges, dtype=float), interp)
        center = _unscale(0.5 * (scaled[:-1] + scaled[1:]), interp)
        # Edges go through the logarithm too, as in Gammapy: it decides to the last bit which bin
        # holds an energy that lies on an edge.
        return cls(name, _unscale(scaled, interp), center, interp)

    @classmethod
    def from_nodes(cls, name: str, nodes: ArrayLike, interp: str = "lin") -> Axis:
        """Axis of points; bins reach halfway to the neighbours, and as far at the ends."""
        nodes = np.asarray(nodes, dtype=float)
        scaled = _scale(nodes, interp)
        if len(nodes) == 1:
            return cls(name, np.repeat(nodes, 2), nodes, interp)
        inner = 0.5 * (scaled[:-1] + scaled[1:])
        first, last = 2 * scaled[0] - inner[0], 2 * scaled[-1] - inner[-1]
        edges = np.concatenate([[first], inner, [last]])
        return cls(name, _unscale(edges, interp), nodes, interp)

    @property
    def unit(self) -> u.UnitBase:
        """Unit of edges and centres."""
        return axis_unit(self.name)

    @cached_property
    def nbin(self) -> int:
        """Number of bins."""
        return len(self.center)

    @cached_property
    def scaled_center(self) -> NDArray[np.float64]:
        """Bin centres on the scale of interpolation."""
        return _scale(self.center, self.interp)

    def scale(self, values: ArrayLike) -> NDArray[np.float64]:
        """Values, in the axis' unit, on the scale of interpolation."""
        return _scale(np.asarray(values, dtype=float), self.interp)

    def contains(self, values: ArrayLike) -> NDArray[np.bool_]:
        """Whether values, in the axis' unit, lie within the edges.

        A single offset bin holds everything: the response is then constant in offset.
        """
        values = np.asarray(values, dtype=float)
        if self.nbin == 1 and self.name == "offset":
            return np.asarray(np.isfinite(values))
        return np.asarray((values >= self.edges[0]) & (values <= self.edges[-1]))

    def neighbours(self, value: float) -> tuple[int, int, float]:
        """Two bins around a value and the weight of the second, for linear interpolation.

        Beyond the outer centres the line through the last two is continued. With a single bin
        there is nothing to interpolate.
        """
        return _neighbours(self, value)

    def near(self, value: float) -> tuple[slice, Axis]:
        """Bins that are needed to interpolate at a value, and the axis that they make up.

        All, where the value is outside.
        """
        if self.nbin <= 2 or not _contains(self, value):
            return slice(0, self.nbin), self
        return _pair(self, self.neighbours(value)[0])

    def holds(self, value: float) -> bool:
        """As `contains`, for a single value."""
        return _contains(self, value)


# Runs of one production share their axes, and one asks for the same places in all of them.
@lru_cache(maxsize=1024)
def _contains(axis: Axis, value: float) -> bool:
    return bool(axis.contains(value))


@lru_cache(maxsize=1024)
def _neighbours(axis: Axis, value: float) -> tuple[int, int, float]:
    if axis.nbin == 1:
        return 0, 0, 0.0
    nodes, x = axis.scaled_center, float(axis.scale(value))
    i = min(max(int(np.searchsorted(nodes, x, side="right")) - 1, 0), axis.nbin - 2)
    return i, i + 1, float((x - nodes[i]) / (nodes[i + 1] - nodes[i]))


@lru_cache(maxsize=1024)
def _pair(axis: Axis, lower: int) -> tuple[slice, Axis]:
    bins = slice(lower, lower + 2)
    edges, center = axis.edges[lower : lower + 3], axis.center[bins]
    return bins, Axis(axis.name, edges, center, axis.interp)


def _scale(values: NDArray[np.float64], interp: str) -> NDArray[np.float64]:
    # An energy axis may begin at zero; the logarithm then stops at the smallest number.
    return np.log(np.clip(values, _TINY, None)) if interp == "log" else values


def _unscale(values: NDArray[np.float64], interp: str) -> NDArray[np.float64]:
    return np.exp(values) if interp == "log" else values


Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

INNER_AXES = ("migra", "rad")
"""Axes along which a bin of a response is a distribution, so that it has a value as a whole."""


def defined_bins(
    hdu_class: str,
    arrays: Mapping[str, NDArray[Any]],
    axes: Mapping[str, Axis],
    invalid: Mapping[str, Mask],
) -> Mask:
    """Which bins have a value.

    Parameters
    ----------
    hdu_class : str
        GADF class, such as ``psf_table``.
    arrays : mapping
        Column name to values, of all bins or of a few: a block in the order of the axes, with all
        of ``rad`` and ``migra``, and of a background with all energies.
    axes : mapping
        Axes of the response, by name.
    invalid : mapping
        Column name to where the file has no number; as `arrays`.

    Returns
    -------
    defined : `~numpy.ndarray`
        Shape of the block without ``rad`` or ``migra``. Undefined is

        - a tabulated PSF or a dispersion without content;
        - a PSF with a parameter that is no number, with a width that is not above zero, or with
          nothing in it; a Gaussian of amplitude zero needs no width;
        - a directional cut that is not above zero;
        - an effective area or a background that is no number (zero is a value);
        - a background of zero next to an energy that has some, or between two that have.
    """
    (name, values), names = next(iter(arrays.items())), list(axes)
    if hdu_class in PROFILES:
        return _without(PROFILES[hdu_class].usable(arrays), *invalid.values())
    if hdu_class == "psf_table":
        with np.errstate(invalid="ignore", over="ignore"):
            content = np.moveaxis(values, names.index("rad"), -1) @ _ring_areas(axes["rad"])
        return np.asarray((content > 0) & (content < np.inf))
    if hdu_class == "edisp_2d":
        return np.asarray(_positive(values).any(axis=names.index("migra")))
    if hdu_class == "rad_max_2d":
        return _positive(values)
    finite = _without(np.isfinite(values), *(invalid[name],) if name in invalid else ())
    if not hdu_class.startswith("bkg"):
        return finite
    filled = finite & (values > 0)
    beside = np.zeros_like(filled)
    beside[1:] |= filled[:-1]
    beside[:-1] |= filled[1:]
    between = np.logical_or.accumulate(filled, axis=0)
    between &= np.logical_or.accumulate(filled[::-1], axis=0)[::-1]
    return np.asarray(finite & (filled | ~(beside | between)))


def _positive(values: NDArray[Any]) -> Mask:
    return np.asarray((values > 0) & (values < np.inf))


def _without(mask: Mask, *others: Mask) -> Mask:
    for other in others:
        mask = mask & ~other
    return mask


@lru_cache(maxsize=64)
def _ring_areas(axis: Axis) -> Array:
    """Areas of the rings, but for a factor."""
    return axis.center * np.diff(axis.edges)


def second_weight(weight: Any, first: Any, second: Any) -> Array:
    """Weight of the second of two neighbours for interpolation among those that are defined.

    Where one of them is undefined the other one counts alone, if it is nearer than half of the
    distance between them. Who has no weight does not matter.

    Parameters
    ----------
    weight : array-like
        Weight of the second where both are defined; below 0 or above 1 the line is continued.
    first, second : array-like of bool
        Whether they are defined; everything broadcasts.

    Returns
    -------
    weight : `~numpy.ndarray`
        NaN where there is no value.
    """
    weight, first, second = np.asarray(weight, dtype=float), np.asarray(first), np.asarray(second)
    first_alone = first & ((weight == 0) | ~second & (np.abs(weight) < 0.5))
    second_alone = second & ((weight == 1) | ~first & (np.abs(1 - weight) < 0.5))
    result = np.where(first & second, weight, np.nan)
    return np.where(first_alone, 0.0, np.where(second_alone, 1.0, result))


def blend(first: Array, second: Array, weight: Array) -> Array:
    """Linear interpolation; of a neighbour without weight any value will do, even none."""
    with np.errstate(invalid="ignore", over="ignore"):
        both = (1 - weight) * first + weight * second
    return np.where(weight == 0, first, np.where(weight == 1, second, both))
