"""An instrument response: axes and arrays, interpolated with units among the bins with a value."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from astropy import units as u
from numpy.typing import NDArray

from obscluster.exceptions import RequestError, unknown_name
from obscluster.gadf.axis import INNER_AXES, Axis, blend, defined_bins, second_weight
from obscluster.gadf.header import Header
from obscluster.gadf.psf import PROFILES

__all__ = ["IRF"]

_TINY = np.finfo(float).tiny
# Logarithms up to there are those of zero.
_LOG_ZERO = float(np.log(_TINY)) + 1.0

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
# Lower neighbour of each point along an axis, and the weight of the upper one.
_Place = tuple[NDArray[np.intp], Array]
_Values = tuple[Array, Mask]


@dataclass(frozen=True, eq=False)
class IRF:
    """One response of one observation.

    Parameters
    ----------
    hdu_class : str
        GADF class, such as ``aeff_2d``.
    axes : dict
        Axis name to `~obscluster.gadf.axis.Axis`, in the order of the dimensions.
    arrays : dict
        Column name to values. A parametric PSF has several, with angles in degrees.
    unit : `~astropy.units.UnitBase`
        Unit of the response; of a PSF, per solid angle.
    header : mapping
        FITS keywords of the HDU.
    path : `~pathlib.Path`, optional
        The file it was read from.
    invalid : dict
        Column name to where values were no numbers (or absurdly large) in the file, if any were;
        they are zero here.
    """

    hdu_class: str
    axes: dict[str, Axis]
    arrays: dict[str, NDArray[Any]]
    unit: u.UnitBase
    header: Header = field(default_factory=dict)
    path: Path | None = None
    invalid: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)

    @property
    def n_invalid(self) -> int:
        """How many values were no numbers (or absurdly large) in the file; they are zero here."""
        return sum(int(where.sum()) for where in self.invalid.values())

    @property
    def is_pointlike(self) -> bool:
        """Whether a directional cut was applied (``HDUCLAS3 = POINT-LIKE``)."""
        return str(self.header.get("HDUCLAS3", "")).strip().upper() == "POINT-LIKE"

    @property
    def is_parametric(self) -> bool:
        """Whether this is a PSF given by the parameters of a function."""
        return self.hdu_class in PROFILES

    @property
    def data(self) -> NDArray[Any]:
        """Tabulated values, shape as `axes`.

        Raises
        ------
        AttributeError
            If this is a parametric PSF: see `arrays`.
        """
        if self.is_parametric:
            raise AttributeError(f"a {self.hdu_class} has parameters, not data: see .arrays")
        return next(iter(self.arrays.values()))

    @property
    def defined(self) -> NDArray[np.bool_]:
        """Which bins have a value, see `~obscluster.gadf.axis.defined_bins`.

        Shape as `axes` without ``rad`` and ``migra``, along which a bin has a value as a whole.
        """
        return defined_bins(self.hdu_class, self.arrays, self.axes, self.invalid)

    @property
    def quantity(self) -> u.Quantity:
        """`data` with its unit."""
        return u.Quantity(self.data, self.unit)

    def __repr__(self) -> str:
        shape = " x ".join(f"{name} {axis.nbin}" for name, axis in self.axes.items())
        return f"<IRF {self.hdu_class}: {shape}>"

    def evaluate(self, **coords: Any) -> u.Quantity:
        """Interpolate the response.

        Parameters
        ----------
        **coords : `~astropy.units.Quantity` or str
            One per axis (and ``rad`` of a parametric PSF); arrays broadcast against each other. An
            axis that is left out is taken at all its centres, in its own dimension.

        Returns
        -------
        values : `~astropy.units.Quantity`
            Linear interpolation (of the logarithm for a background), zero outside the axes. Only
            bins with a value count, see `defined`: next to one that has none the other one holds
            for half the way, and NaN for the rest. A background is interpolated through energies
            without one, from the nearest that have one on either side.

        Raises
        ------
        RequestError
            If there is no axis of that name.
        """
        names = [*self.axes, "rad"] if self.is_parametric else [*self.axes]
        for name in coords:
            if name not in names:
                raise RequestError(unknown_name(f"axis of {self.hdu_class}", name, names))
        grids = np.meshgrid(
            *[axis.center for axis in self.axes.values()], indexing="ij", sparse=True
        )
        points = [
            u.Quantity(coords[name]).to_value(axis.unit) if name in coords else grid
            for (name, axis), grid in zip(self.axes.items(), grids, strict=True)
        ]
        inside = np.asarray(True)
        for axis, point in zip(self.axes.values(), points, strict=True):
            inside = inside & axis.contains(point)
        if self.hdu_class.startswith("bkg"):
            result = self._background(points)
        elif self.is_parametric:
            # Density of a PSF that is given by parameters.
            rad = u.Quantity(coords.get("rad", 0 * u.deg))
            profile, parameters = PROFILES[self.hdu_class], self._interpolate(points)
            with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
                per_square_degree = profile.density(rad.to_value(u.deg), parameters)
            # Continued beyond the outer bins, a width may vanish.
            usable = profile.usable(parameters)
            result = np.where(usable, per_square_degree * (u.deg**-2).to(u.sr**-1), np.nan)
        else:
            (result,) = self._interpolate(points).values()
            if self.hdu_class == "rad_max_2d":
                # Continued beyond the outer bins, a cut may vanish.
                result = np.where(result > 0, result, np.nan)
        result = np.where(np.isfinite(result), result, np.nan)
        return u.Quantity(np.where(inside, result, 0.0), self.unit)

    def near(self, offset: float) -> IRF:
        """The response in those bins of offset that are needed to interpolate at one.

        Parameters
        ----------
        offset : float
            In degrees.

        Returns
        -------
        irf : `IRF`
            With views of the values; this one where it has no such axis, no more bins than that,
            or the offset is outside.
        """
        axis = self.axes.get("offset")
        if axis is None:
            return self
        bins, part = axis.near(offset)
        if part is axis:
            return self
        where = (*[slice(None)] * list(self.axes).index("offset"), bins)
        invalid = {name: mask[where] for name, mask in self.invalid.items() if mask[where].any()}
        return replace(
            self,
            axes=self.axes | {"offset": part},
            arrays={name: values[where] for name, values in self.arrays.items()},
            invalid=invalid,
        )

    def _interpolate(self, points: list[Any]) -> dict[str, Array]:
        """Values of all columns at points in the axes' units, never below zero."""
        defined, names = self.defined, list(self.axes)
        places = list(map(_place, self.axes.values(), points))
        with_mask = [k for k, name in enumerate(names) if name not in INNER_AXES]

        def of(values: NDArray[Any]) -> Array:
            def read(index: tuple[Any, ...]) -> _Values:
                return values[index].astype(float), defined[tuple(index[k] for k in with_mask)]

            return np.asarray(np.clip(_along(places, read, blend)[0], 0.0, None))

        return {name: of(values) for name, values in self.arrays.items()}

    def _background(self, points: list[Any]) -> Array:
        """Background, interpolated in its logarithm."""
        defined, energy = self.defined, self.axes["energy"]
        logs = np.log(np.clip(np.asarray(self.data, dtype=float), _TINY, None))
        places = list(map(_place, self.axes.values(), np.broadcast_arrays(*points)))

        def at(energy_index: Any, where: Any = ...) -> _Values:
            def read(index: tuple[Any, ...]) -> _Values:
                return logs[energy_index, *index], defined[energy_index, *index]

            return _along([(i[where], t[where]) for i, t in places[1:]], read, _blend_logs)

        i, t = places[0]
        (lower, lower_ok), (upper, upper_ok) = at(i), at(np.minimum(i + 1, energy.nbin - 1))
        weight = second_weight(t, lower_ok, upper_ok)
        result = _blend_logs(lower, upper, weight)
        gaps = np.not_equal(weight, t)
        if gaps.any():
            x = energy.scale(np.broadcast_arrays(*points)[0][gaps])
            across = _across(energy.scaled_center, x, lambda index: at(index, gaps))
            result[gaps] = np.where(np.isnan(across), result[gaps], across)
        with np.errstate(over="ignore"):
            return np.where(result <= _LOG_ZERO, 0.0, np.exp(result))


def _place(axis: Axis, points: Any) -> _Place:
    """Where points, in the axis' unit, lie among the centres of its bins."""
    x, nodes = axis.scale(points), axis.scaled_center
    if axis.nbin == 1:
        return np.zeros(x.shape, dtype=np.intp), np.zeros(x.shape)
    i = np.clip(np.searchsorted(nodes, x, side="right") - 1, 0, axis.nbin - 2)
    return i, (x - nodes[i]) / (nodes[i + 1] - nodes[i])


def _along(
    places: Sequence[_Place],
    read: Callable[[tuple[Any, ...]], _Values],
    blender: Callable[[Array, Array, Array], Array],
    index: tuple[Any, ...] = (),
) -> _Values:
    """Values and whether there are any, interpolated along the last axis first.

    `read` gives those of bins, an index per axis.
    """
    if not places:
        return read(index)
    (i, t), *others = places
    lower, lower_ok = _along(others, read, blender, (*index, i))
    if not t.any():
        # On a centre, or a single bin: there may be no next one.
        return lower, lower_ok
    upper, upper_ok = _along(others, read, blender, (*index, i + 1))
    weight = second_weight(t, lower_ok, upper_ok)
    return blender(lower, upper, weight), ~np.isnan(weight)


def _blend_logs(first: Array, second: Array, weight: Array) -> Array:
    """As `blend`; but a line that leads to the logarithm of zero is not continued."""
    empty = np.minimum(first, second) <= _LOG_ZERO
    return blend(first, second, np.where(empty, np.clip(weight, 0.0, 1.0), weight))


def _across(nodes: Array, x: Array, at: Callable[[int], _Values]) -> Array:
    """Line between the nearest nodes with something on either side; NaN where there are not two."""
    x0, y0, x1, y1 = np.full((4, *x.shape), np.nan)
    for index, node in enumerate(nodes):
        value, ok = at(index)
        filled = ok & (value > _LOG_ZERO)
        before, after = filled & (node <= x), filled & (node > x) & np.isnan(x1)
        x0, y0 = np.where(before, node, x0), np.where(before, value, y0)
        x1, y1 = np.where(after, node, x1), np.where(after, value, y1)
    return np.asarray(y0 + (x - x0) / (x1 - x0) * (y1 - y0))
