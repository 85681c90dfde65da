"""Instrument responses: the class of an HDU, its axes, and its values as arrays.

https://gamma-astro-data-formats.readthedocs.io/en/v0.3/general/hduclass.html

https://gamma-astro-data-formats.readthedocs.io/en/v0.3/irfs/index.html

Axes come out in TeV, degrees or without unit, whatever the file uses, so that numeric code needs no
unit arithmetic. Tabulated values keep the file's precision and byte order: nothing is copied until
a part of it is used.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Container, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from astropy import units as u
from numpy.typing import NDArray

from obscluster.gadf.axis import Axis, axis_unit
from obscluster.gadf.fits import HDU, Column, Structure
from obscluster.gadf.psf import PROFILES
from obscluster.gadf.response import IRF
from obscluster.gadf.units import conversion_factor, convertible_unit

__all__ = [
    "AXIS_PREFIXES",
    "IRF",
    "IRF_CLASSES",
    "IRFClass",
    "clean",
    "factor_of",
    "hdu_class_of",
    "hdu_type_of",
    "irf_class_of",
    "numbers",
    "rad_max_of",
    "read_axes",
    "read_axis",
    "read_irf",
    "unfit",
]

# No value of a response is as large: it is damage.
_HUGE = 1e30
# Type in the file, to the first byte (without sign) from which on a number may be huge: its
# exponent is then 99 or more, and 2^99 < 1e30.
_SMALL_FIRST_BYTE = {">f4": (99 + 127) >> 1, ">f8": (99 + 1023) >> 4}
_LITTLE_ENDIAN = sys.byteorder == "little"


def clean(
    values: NDArray[Any], keep_nan: bool = False
) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
    """Values with zero for what is no number, and where there were such; None for nowhere.

    Some write NaN into bins without simulated events; a single one would spoil every value that is
    interpolated next to it. A missing cut is not zero, though.
    """
    if _all_small(values):
        return values, None
    # Damage may look like a signalling NaN, of which numpy warns wherever it is touched.
    with np.errstate(invalid="ignore"):
        bad = ~(np.abs(values) <= _HUGE)
    if not bad.any():
        return values, None
    return np.where(bad, np.nan if keep_nan else 0.0, values), bad


def _all_small(values: NDArray[Any]) -> bool:
    """Whether all are surely numbers, and not huge, seen from the first byte of each.

    It holds the sign and the upper bits of the exponent, which are ones in what is no number. Of a
    cube of values that is a quarter of the work of comparing them; False says nothing.
    """
    limit = _SMALL_FIRST_BYTE.get(values.dtype.str)
    if limit is None or not values.size or _LITTLE_ENDIAN is False:
        return False
    # The bytes of the file read as integers of this machine: the first byte becomes the lowest.
    bits = values.view(f"<u{values.dtype.itemsize}")
    return int((bits & 0x7F).max()) < limit


AXIS_PREFIXES = {
    "energy_true": ("ENERG", "ETRUE"),
    "energy": ("ENERG",),
    "offset": ("THETA",),
    "rad": ("RAD",),
    "migra": ("MIGRA",),
    "fov_lon": ("DETX",),
    "fov_lat": ("DETY",),
}
"""Axis to the names that its columns may begin with, before _LO and _HI."""


@dataclass(frozen=True)
class IRFClass:
    """What the specification says of one class of response.

    Parameters
    ----------
    name : str
        GADF ``HDU_CLASS``.
    hdu_type : str
        GADF ``HDU_TYPE``.
    axes : tuple of str
        Axes of the arrays, in the order of their dimensions here.
    columns : dict
        Columns that hold the values, and the unit that they must convert to.
    """

    name: str
    hdu_type: str
    axes: tuple[str, ...]
    columns: Mapping[str, u.UnitBase]


_BKG = {"BKG": u.Unit("s-1 TeV-1 sr-1")}
_GAUSS3 = {"SCALE": u.sr**-1, "AMPL_2": u.one, "AMPL_3": u.one} | {
    f"SIGMA_{i}": u.deg for i in (1, 2, 3)
}
_SPECS = (
    IRFClass("aeff_2d", "aeff", ("energy_true", "offset"), {"EFFAREA": u.m**2}),
    IRFClass("edisp_2d", "edisp", ("energy_true", "migra", "offset"), {"MATRIX": u.one}),
    IRFClass("psf_table", "psf", ("energy_true", "offset", "rad"), {"RPSF": u.sr**-1}),
    IRFClass("psf_3gauss", "psf", ("energy_true", "offset"), _GAUSS3),
    IRFClass("psf_king", "psf", ("energy_true", "offset"), {"GAMMA": u.one, "SIGMA": u.deg}),
    IRFClass("bkg_2d", "bkg", ("energy", "offset"), _BKG),
    IRFClass("bkg_3d", "bkg", ("energy", "fov_lon", "fov_lat"), _BKG),
    IRFClass("rad_max_2d", "rad_max", ("energy", "offset"), {"RAD_MAX": u.deg}),
)
IRF_CLASSES = {spec.name: spec for spec in _SPECS}
"""GADF class of a response to its specification."""

# Columns of the tables of a run that are no responses.
_RUN_TABLES = {
    "events": ("TIME", "ENERGY", "RA", "DEC"),
    "gti": ("START", "STOP"),
    "pointing": ("TIME", "RA_PNT", "DEC_PNT"),
}


def hdu_class_of(header: Mapping[str, Any]) -> str | None:
    """Class of a response by its HDUCLAS keywords, None if it is none that is known.

    Extension names differ between productions; these keywords are what the specification fixes.
    Some write the class without its type (``3GAUSS`` for ``PSF_3GAUSS``), or with a dash.
    """
    if str(header.get("HDUCLAS1", "")).strip().upper() != "RESPONSE":
        return None
    name = re.sub(r"[\s-]+", "_", str(header.get("HDUCLAS4", "")).strip().lower())
    kind = str(header.get("HDUCLAS2", "")).strip().lower()
    kind = {"eff_area": "aeff", "rpsf": "psf"}.get(kind, kind)
    for candidate in (name, f"{kind}_{name}"):
        if candidate in IRF_CLASSES:
            return candidate
    return None


# Most HDUs of an archive share their structure, so that what they are is found out once.
@lru_cache(maxsize=128)
def irf_class_of(structure: Structure) -> str | None:
    """Class of a response by its keywords, or else by its columns; None if it is none.

    Columns decide only if they are exactly the axes and values of one class.
    """
    return hdu_class_of(structure.header) or _class_by_columns(structure)


def hdu_type_of(hdu: HDU) -> str | None:
    """GADF type of a HDU by its keywords, or else by its columns; None if it is none."""
    written = str(hdu.header.get("HDUCLAS1", "")).strip().lower()
    return written if written in _RUN_TABLES else _hdu_type_of(hdu.structure)


@lru_cache(maxsize=128)
def _hdu_type_of(structure: Structure) -> str | None:
    hdu_class = irf_class_of(structure)
    if hdu_class is not None:
        return IRF_CLASSES[hdu_class].hdu_type
    names = _column_names(structure)
    found = (kind for kind, columns in _RUN_TABLES.items() if names.issuperset(columns))
    return next(found, None)


def _class_by_columns(structure: Structure) -> str | None:
    names = _column_names(structure)
    prefixes = {name[:-3] for name in names if name.endswith(("_LO", "_HI"))}
    for hdu_class, spec in IRF_CLASSES.items():
        axes = [prefixes.intersection(AXIS_PREFIXES[axis]) for axis in spec.axes]
        if (
            names.issuperset(spec.columns)
            and all(axes)
            and prefixes == set[str]().union(*axes)
            # A point-like area may bring its cut along, as a column of the same name.
            and (hdu_class != "rad_max_2d" or "EFFAREA" not in names)
        ):
            return hdu_class
    return None


def _column_names(structure: Structure) -> set[str]:
    """Names of the columns in upper case; none if it is no table, or a damaged one."""
    if not structure.is_table:
        return set()
    try:
        # The data challenge of CTA writes BGD where the specification has BKG.
        return {"BKG" if name == "BGD" else name for name in structure.by_upper_name}
    except ValueError:
        return set()


_LOG_AXES = ("energy_true", "energy")
# No bin edge, in TeV or degrees, is as large: it is damage.
_MAX_AXIS = 1e9
# Width of a bin, relative to the axis, that rounding would close.
_CLOSED = 1e-13


def read_axes(hdu: HDU, spec: IRFClass, values: Column) -> dict[str, Axis]:
    """Axes of a response, by name; ``values`` is the first column of its values."""
    known = _axes_before_values(hdu.structure, spec.name, hdu.bytes_before(values))
    if known is not None:
        return dict(known)
    return {name: read_axis(hdu, name) for name in spec.axes}


@lru_cache(maxsize=64)
def _axes_before_values(
    structure: Structure, hdu_class: str, leading: bytes
) -> dict[str, Axis] | None:
    """Axes from the bytes that precede the values in the row, as most files have it, else None.

    Runs of one production share header and axes, so that this is done once for all of them.
    """
    axes = {}
    for name in IRF_CLASSES[hdu_class].axes:
        prefix = _prefix(structure.by_upper_name, name)
        if prefix is None:
            return None
        columns = [structure.by_upper_name[f"{prefix}_{end}"] for end in ("LO", "HI")]
        if not all(
            column.dtype[1:2] in ("f", "i") and column.offset + column.width <= len(leading)
            for column in columns
        ):
            return None
        edges = tuple((c.dtype, leading[c.offset : c.offset + c.width]) for c in columns)
        try:
            factors = tuple(factor_of(column, axis_unit(name)) for column in columns)
            axes[name] = _make_axis(name, prefix, edges, factors)
        except ValueError:
            # The other way tells what is wrong.
            return None
    return axes


def _prefix(columns: Container[str], name: str) -> str | None:
    """What the names of an axis' columns begin with, None if there are none."""
    prefixes = AXIS_PREFIXES[name]
    return next((p for p in prefixes if f"{p}_LO" in columns and f"{p}_HI" in columns), None)


def read_axis(hdu: HDU, name: str) -> Axis:
    """Axis from its _LO and _HI columns."""
    prefix = _prefix(hdu, name)
    if prefix is None:
        columns = " or ".join(f"{p}_LO and {p}_HI" for p in AXIS_PREFIXES[name])
        raise hdu.error(f"no columns {columns}; it has {', '.join(hdu.colnames)}")
    names = (f"{prefix}_LO", f"{prefix}_HI")
    cells = [numbers(hdu, column) for column in names]
    edges = tuple((cell.dtype.str, cell.tobytes()) for cell in cells)
    try:
        factors = tuple(factor_of(hdu.structure.column(end), axis_unit(name)) for end in names)
        return _make_axis(name, prefix, edges, factors)
    except ValueError as error:
        raise hdu.error(str(error)) from None


@lru_cache(maxsize=256)
def _make_axis(
    name: str,
    prefix: str,
    edges: tuple[tuple[str, bytes], ...],
    factors: tuple[float, ...],
) -> Axis:
    """Axis from types and bytes of lower and upper edges, and their factors to the axis' unit.

    Runs of one production share their axes, and what is worked out for them.
    """
    lo, hi = (
        clean(np.frombuffer(data, dtype), keep_nan=True)[0].astype(float) * factor
        for (dtype, data), factor in zip(edges, factors, strict=True)
    )
    if lo.size != hi.size or lo.size == 0:
        raise ValueError(f"{prefix}_LO has {lo.size} values, {prefix}_HI has {hi.size}")
    # Equal edges mean that values belong to points rather than to bins.
    with np.errstate(invalid="ignore", over="ignore"):
        at_points = bool((np.abs(lo - hi) <= 1e-5 * np.abs(hi)).all())
    points = hi if at_points else np.append(lo, hi[-1])
    if not (np.abs(points) <= _MAX_AXIS).all():
        raise ValueError(f"{prefix}_LO and {prefix}_HI have values beyond {_MAX_AXIS:g}, or none")
    # An absurd scale makes bins of next to no width.
    if (np.diff(points) <= _CLOSED * np.abs(points).max()).any():
        raise ValueError(f"{prefix}_LO and {prefix}_HI do not rise from bin to bin")
    interp = "log" if name in _LOG_AXES else "lin"
    if interp == "log" and points[0] < 0:
        raise ValueError(f"{prefix}_LO has negative energies")
    axis = (Axis.from_nodes if at_points else Axis.from_edges)(name, points, interp)
    for array in (axis.edges, axis.center):
        array.flags.writeable = False
    return axis


def factor_of(column: Column, unit: u.UnitBase) -> float:
    """Factor from the unit of a column to the expected one; without a unit it is that one."""
    factor = conversion_factor(column.unit, unit) if column.unit else 1.0
    if factor is None:
        raise unfit(column, unit)
    return factor


def unfit(column: Column, expected: u.UnitBase) -> ValueError:
    """Error for a column whose unit does not convert to the expected one."""
    text = f"unit {column.unit!r} of column {column.name} does not convert to {expected}"
    return ValueError(text)


def numbers(hdu: HDU, column: str | Column, part: slice | None = None) -> NDArray[Any]:
    """The one cell of a column, or a part of it, if it holds numbers; see `HDU.cell`."""
    cell = hdu.cell(column, part)
    if cell.dtype.kind not in "fiu":
        name = column if isinstance(column, str) else column.name
        raise hdu.error(f"column {name} does not hold numbers")
    return cell


# Gammapy, too, takes a background without unit to be per MeV.
_PER_MEV = u.Unit("s-1 MeV-1 sr-1")
_PER_SR = u.sr**-1


def read_irf(hdu: HDU, hdu_class: str | None = None, offset: float | None = None) -> IRF:
    """Response from a table HDU.

    Parameters
    ----------
    hdu : `~obscluster.gadf.fits.HDU`
        Table of one row.
    hdu_class : str, optional
        GADF class, for a header that does not tell.
    offset : float, optional
        In degrees: only the bins that are needed to interpolate there, as of `IRF.near`.

    Returns
    -------
    irf : `IRF`
        Axes, and views of the stored values.

    Raises
    ------
    FormatError
        If the table is not a response of that class: columns, units or shapes do not fit.
    """
    try:
        layout = _layout(hdu.structure, hdu_class)
    except ValueError as error:
        raise hdu.error(str(error)) from None
    spec = layout.spec
    if hdu.n_rows != 1:
        raise hdu.error(f"{hdu.n_rows} rows; a response has one")
    axes = read_axes(hdu, spec, layout.columns[0])
    bins, near = None, axes
    if offset is not None and "offset" in axes:
        bins, axis = axes["offset"].near(offset)
        near = axes | {"offset": axis}
    arrays: dict[str, NDArray[Any]] = {}
    invalid: dict[str, NDArray[np.bool_]] = {}
    for name, column, factor in zip(spec.columns, layout.columns, layout.factors, strict=True):
        # A missing cut is not zero.
        values, bad = clean(_read_array(hdu, column, axes, bins), spec.hdu_type == "rad_max")
        arrays[name] = values if factor == 1 else values * factor
        if bad is not None:
            invalid[name] = bad
    return IRF(spec.name, near, arrays, layout.unit, hdu.header, hdu.path, invalid)


def rad_max_of(hdu: HDU) -> IRF | None:
    """Directional cut that a point-like response brings along.

    Parameters
    ----------
    hdu : `~obscluster.gadf.fits.HDU`
        Effective area or energy dispersion, with a keyword RAD_MAX (degrees, or text with a unit)
        or a column RAD_MAX.

    Returns
    -------
    rad_max : `IRF` or None
        Of class ``rad_max_2d``; from the keyword it has a single bin over the axes of the
        response, as in Gammapy's `RadMax2D.from_irf`. None if the response has no cut.

    Raises
    ------
    FormatError
        If the keyword is no angle, or the columns do not fit.
    """
    if str(hdu.header.get("HDUCLAS3", "")).strip().upper() != "POINT-LIKE" or not hdu.is_table:
        return None
    keyword = hdu.header.get("RAD_MAX")
    column = hdu.structure.column("RAD_MAX") if "RAD_MAX" in hdu else None
    if hdu.n_rows != 1 or (keyword is None and column is None):
        return None
    # The cut depends on reconstructed energy; its axis is that of the response.
    axes = {"energy": replace(read_axis(hdu, "energy_true"), name="energy")}
    axes["offset"] = read_axis(hdu, "offset")
    if column is not None:
        arrays = {"RAD_MAX": _read_array(hdu, column, axes)}
        try:
            unit = _unit(column, u.deg, u.deg)
        except ValueError as error:
            raise hdu.error(str(error)) from None
        return IRF("rad_max_2d", axes, arrays, unit, hdu.header, hdu.path)
    single = {
        name: Axis.from_edges(name, axis.edges[[0, -1]], axis.interp) for name, axis in axes.items()
    }
    # Angle of a keyword in degrees; LST writes it with its unit, ``0.2 deg``.
    number, _, text = str(keyword).strip().partition(" ")
    factor = conversion_factor(text, u.deg) if text.strip() else 1.0
    try:
        angle = float(number) * (np.nan if factor is None else factor)
    except ValueError:
        angle = np.nan
    if not 0 < angle <= 360:
        raise hdu.error(f"RAD_MAX = {keyword!r}; expected an angle in degrees")
    values = np.full((1, 1), float(angle))
    return IRF("rad_max_2d", single, {"RAD_MAX": values}, u.deg, hdu.header, hdu.path)


class _Layout(NamedTuple):
    """What the header tells of a response: its columns, their factors and the unit."""

    spec: IRFClass
    columns: tuple[Column, ...]
    factors: tuple[float, ...]
    unit: u.UnitBase


# Runs of one production have the same headers.
@lru_cache(maxsize=128)
def _layout(structure: Structure, hdu_class: str | None) -> _Layout:
    """Layout of a response; ValueError if the table is none."""
    spec = _spec(structure, hdu_class)
    # The data challenge of CTA writes BGD where the specification has BKG.
    columns = tuple(
        structure.find("BGD" if name == "BKG" and structure.find(name) is None else name)
        or structure.column(name)
        for name in spec.columns
    )
    expected = tuple(spec.columns.values())
    if spec.name in PROFILES:
        factors = map(factor_of, columns, expected)
        return _Layout(spec, columns, tuple(factors), _PER_SR)
    without = _PER_MEV if "BKG" in spec.columns else expected[0]
    return _Layout(spec, columns, (1.0,), _unit(columns[0], expected[0], without))


def _spec(structure: Structure, hdu_class: str | None) -> IRFClass:
    """Specification: the keywords count, then what the index says, then the columns."""
    by_itself = irf_class_of(structure)
    for candidate in (hdu_class_of(structure.header), hdu_class, by_itself):
        if candidate in IRF_CLASSES:
            return IRF_CLASSES[candidate]
    found = hdu_class or structure.header.get("HDUCLAS4")
    raise ValueError(f"unknown response class {found!r}; known: {', '.join(IRF_CLASSES)}")


def _unit(column: Column, expected: u.UnitBase, without: u.UnitBase) -> u.UnitBase:
    """Unit of a column, which must convert to the expected one, or what holds without a unit."""
    unit = convertible_unit(column.unit, expected) if column.unit else without
    if unit is None:
        raise unfit(column, expected)
    return unit


def _read_array(
    hdu: HDU, column: Column, axes: dict[str, Axis], bins: slice | None = None
) -> NDArray[Any]:
    """Values in the order of the axes, as a view; of the offsets, some bins only."""
    shape = tuple(axis.nbin for axis in axes.values())
    names = list(axes)
    # FITS lists the fastest axis first, so the transposed cell has the order of the specification.
    if bins is not None and names[-1] == "offset" and column.shape == shape[::-1]:
        return numbers(hdu, column, bins).T
    values = _in_order(numbers(hdu, column), shape)
    if values is None:
        found = hdu.cell(column).T.shape
        raise hdu.error(f"column {column.name} has shape {found}, its axes {shape}")
    return values if bins is None else values[(*[slice(None)] * names.index("offset"), bins)]


def _in_order(cell: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any] | None:
    """Values of a cell in the order of the axes, None if they do not fit."""
    # The backgrounds of H.E.S.S. and CTA are stored the other way round.
    for candidate in (cell.T, cell):
        if candidate.shape == shape:
            return candidate
    # Axes of one bin may have been dropped.
    dropped = cell.T.squeeze().shape == tuple(n for n in shape if n > 1)
    return cell.T.reshape(shape) if dropped else None
