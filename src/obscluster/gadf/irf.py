"""Instrument responses: IRF tables to axes and arrays, evaluated with units.

https://gamma-astro-data-formats.readthedocs.io/en/v0.3/irfs/index.html

Axes come out in TeV, degrees or without unit, whatever the file uses, so that numeric code needs no
unit arithmetic. Tabulated values keep the file's precision and byte order: nothing is copied until
a part of it is used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from astropy import units as u
from numpy.typing import NDArray
from scipy.interpolate import RegularGridInterpolator

from obscluster.exceptions import RequestError, unknown_name
from obscluster.gadf.axis import Axis, axis_unit
from obscluster.gadf.hdu import HDU
from obscluster.gadf.header import Header
from obscluster.gadf.psf import PROFILES
from obscluster.gadf.units import conversion_factor, parse_unit

__all__ = ["IRF", "IRF_CLASSES", "IRFClass", "hdu_class_of", "read_irf"]

_AXIS_PREFIXES = {
    "energy_true": ("ENERG", "ETRUE"),
    "energy": ("ENERG",),
    "offset": ("THETA",),
    "rad": ("RAD",),
    "migra": ("MIGRA",),
    "fov_lon": ("DETX",),
    "fov_lat": ("DETY",),
}
_LOG_AXES = ("energy_true", "energy")
_TINY = np.finfo(float).tiny


@dataclass(frozen=True)
class IRFClass:
    """What the specification says of one class of response.

    Parameters
    ----------
    hdu_type : str
        GADF ``HDU_TYPE``.
    axes : tuple of str
        Axes of the arrays, in the order of their dimensions here.
    columns : dict
        Columns that hold the values, and the unit that they must convert to.
    """

    hdu_type: str
    axes: tuple[str, ...]
    columns: Mapping[str, u.UnitBase]


_BKG = {"BKG": u.Unit("s-1 TeV-1 sr-1")}
_GAUSS3 = {"SCALE": u.sr**-1, "AMPL_2": u.one, "AMPL_3": u.one} | {
    f"SIGMA_{i}": u.deg for i in (1, 2, 3)
}
IRF_CLASSES = {
    "aeff_2d": IRFClass("aeff", ("energy_true", "offset"), {"EFFAREA": u.m**2}),
    "edisp_2d": IRFClass("edisp", ("energy_true", "migra", "offset"), {"MATRIX": u.one}),
    "psf_table": IRFClass("psf", ("energy_true", "offset", "rad"), {"RPSF": u.sr**-1}),
    "psf_3gauss": IRFClass("psf", ("energy_true", "offset"), _GAUSS3),
    "psf_king": IRFClass("psf", ("energy_true", "offset"), {"GAMMA": u.one, "SIGMA": u.deg}),
    "bkg_2d": IRFClass("bkg", ("energy", "offset"), _BKG),
    "bkg_3d": IRFClass("bkg", ("energy", "fov_lon", "fov_lat"), _BKG),
    "rad_max_2d": IRFClass("rad_max", ("energy", "offset"), {"RAD_MAX": u.deg}),
}
"""GADF class of a response to its specification."""


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
    header : dict
        FITS keywords of the HDU.
    path : `~pathlib.Path`, optional
        The file it was read from.
    """

    hdu_class: str
    axes: dict[str, Axis]
    arrays: dict[str, NDArray[Any]]
    unit: u.UnitBase
    header: Header = field(default_factory=dict)
    path: Path | None = None

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
            Linear interpolation (of the logarithm for a background), zero outside the axes.

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
        values = {name: self._interpolate(name, points) for name in self.arrays}
        if self.is_parametric:
            rad = u.Quantity(coords.get("rad", 0 * u.deg)).to_value(u.deg)
            per_square_degree = PROFILES[self.hdu_class].density(rad, values)
            result = per_square_degree * (u.deg**-2).to(u.sr**-1)
        else:
            (result,) = values.values()
        return u.Quantity(np.where(inside & np.isfinite(result), result, 0.0), self.unit)

    def _interpolate(self, name: str, points: list[Any]) -> NDArray[np.float64]:
        """Values of one column at points in the axes' units, never below zero."""
        logarithmic = self.hdu_class.startswith("bkg")
        values = np.asarray(self.arrays[name], dtype=float)
        values = np.log(np.clip(values, _TINY, None)) if logarithmic else values
        axes = list(self.axes.values())
        points = list(np.broadcast_arrays(*points))
        # An axis of one bin has nothing to interpolate.
        long = [i for i, axis in enumerate(axes) if axis.nbin > 1]
        if long:
            interpolate = RegularGridInterpolator(
                [axes[i].scaled_center for i in long],
                values.reshape([axes[i].nbin for i in long]),
                bounds_error=False,
                fill_value=None,
            )
            where = np.stack([axes[i].scale(points[i]) for i in long], axis=-1)
            result = interpolate(where).reshape(points[0].shape)
        else:
            result = np.full(points[0].shape, values.item())
        return np.asarray(np.clip(np.exp(result) if logarithmic else result, 0.0, None))


def hdu_class_of(header: Mapping[str, Any]) -> str | None:
    """Class of a response by its HDUCLAS keywords, None if it is none that is known.

    Extension names differ between productions; these keywords are what the specification fixes.
    Some write the class without its type (``3GAUSS`` for ``PSF_3GAUSS``).
    """
    if str(header.get("HDUCLAS1", "")).strip().upper() != "RESPONSE":
        return None
    name = str(header.get("HDUCLAS4", "")).strip().lower()
    kind = str(header.get("HDUCLAS2", "")).strip().lower()
    kind = {"eff_area": "aeff", "rpsf": "psf"}.get(kind, kind)
    for candidate in (name, f"{kind}_{name}"):
        if candidate in IRF_CLASSES:
            return candidate
    return None


def read_irf(hdu: HDU, hdu_class: str | None = None) -> IRF:
    """Response from a table HDU.

    Parameters
    ----------
    hdu : `~obscluster.gadf.hdu.HDU`
        Table of one row.
    hdu_class : str, optional
        GADF class, for a header that does not tell.

    Returns
    -------
    irf : `IRF`
        Axes, and views of the stored values.

    Raises
    ------
    FormatError
        If the table is not a response of that class: columns, units or shapes do not fit.
    """
    hdu_class = hdu_class_of(hdu.header) or hdu_class
    if hdu_class not in IRF_CLASSES:
        found = hdu_class or hdu.header.get("HDUCLAS4")
        raise hdu.error(f"unknown response class {found!r}; known: {', '.join(IRF_CLASSES)}")
    spec = IRF_CLASSES[hdu_class]
    if hdu.n_rows != 1:
        raise hdu.error(f"{hdu.n_rows} rows; a response has one")
    axes = {name: _read_axis(hdu, name) for name in spec.axes}
    if hdu_class in PROFILES:
        arrays = {
            name: _read_array(hdu, name, axes) * _factor(hdu, name, unit)
            for name, unit in spec.columns.items()
        }
        return IRF(hdu_class, axes, arrays, u.sr**-1, hdu.header, hdu.path)
    ((name, expected),) = spec.columns.items()
    # The data challenge of CTA writes BGD where the specification has BKG.
    column = "BGD" if name == "BKG" and name not in hdu and "BGD" in hdu else name
    values = _read_array(hdu, column, axes)
    text = hdu.unit(column)
    if name == "BKG" and not text:
        unit = u.Unit("s-1 MeV-1 sr-1")
    else:
        _factor(hdu, column, expected)
        unit = parse_unit(text) if text else expected
    return IRF(hdu_class, axes, {name: values}, unit, hdu.header, hdu.path)


def _factor(hdu: HDU, column: str, unit: u.UnitBase) -> float:
    """Factor from the unit of a column to the expected one."""
    text = hdu.unit(column)
    factor = conversion_factor(text, unit)
    if factor is None and not text:
        return 1.0
    if factor is None:
        raise hdu.error(f"unit {text!r} of column {column} does not convert to {unit}")
    return factor


def _read_axis(hdu: HDU, name: str) -> Axis:
    """Axis from its _LO and _HI columns."""
    prefixes = _AXIS_PREFIXES[name]
    prefix = next((p for p in prefixes if f"{p}_LO" in hdu and f"{p}_HI" in hdu), None)
    if prefix is None:
        columns = " or ".join(f"{p}_LO and {p}_HI" for p in prefixes)
        raise hdu.error(f"no columns {columns}; it has {', '.join(hdu.colnames)}")
    # A single bin may be stored as a scalar.
    lo, hi = (
        _numbers(hdu, column).astype(float).ravel() * _factor(hdu, column, axis_unit(name))
        for column in (f"{prefix}_LO", f"{prefix}_HI")
    )
    if lo.size != hi.size or lo.size == 0:
        raise hdu.error(f"{prefix}_LO has {lo.size} values, {prefix}_HI has {hi.size}")
    # Equal edges mean that values belong to points rather than to bins.
    at_points = bool(np.allclose(lo, hi))
    points = hi if at_points else np.append(lo, hi[-1])
    if not np.isfinite(points).all() or (np.diff(points) <= 0).any():
        raise hdu.error(f"{prefix}_LO and {prefix}_HI do not rise from bin to bin")
    interp = "log" if name in _LOG_AXES else "lin"
    if interp == "log" and points[0] < 0:
        raise hdu.error(f"{prefix}_LO has negative energies")
    return (Axis.from_nodes if at_points else Axis.from_edges)(name, points, interp)


def _numbers(hdu: HDU, column: str) -> NDArray[Any]:
    """The one cell of a column, if it holds numbers."""
    cell: NDArray[Any] = np.asarray(hdu.view(column)[0])
    if cell.dtype.kind not in "fiu":
        raise hdu.error(f"column {column} does not hold numbers")
    return cell


def _read_array(hdu: HDU, column: str, axes: dict[str, Axis]) -> NDArray[Any]:
    """Values in the order of the axes, as a view."""
    shape = tuple(axis.nbin for axis in axes.values())
    cell = _numbers(hdu, column)
    # FITS lists the fastest axis first, so the transposed cell has the order of the specification;
    # the backgrounds of H.E.S.S. and CTA are stored the other way round.
    for candidate in (cell.T, cell):
        if candidate.shape == shape:
            return candidate
    # Axes of one bin may have been dropped.
    if cell.T.squeeze().shape == tuple(n for n in shape if n > 1):
        return cell.T.reshape(shape)
    raise hdu.error(f"column {column} has shape {cell.T.shape}, its axes {shape}")
