"""Instrument responses: IRF tables to axes and arrays.

https://gamma-astro-data-formats.readthedocs.io/en/v0.3/irfs/index.html

Axes come out in TeV, degrees or without unit, whatever the file uses, so that numeric code needs no
unit arithmetic. Tabulated values keep the file's precision and byte order: nothing is copied until
a part of it is used.
"""

from __future__ import annotations

import sys
from collections.abc import Container
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
from astropy import units as u
from numpy.typing import NDArray

from obscluster.gadf.axis import Axis, axis_unit
from obscluster.gadf.hdu import HDU
from obscluster.gadf.irf_class import (
    AXIS_PREFIXES,
    IRF_CLASSES,
    IRFClass,
    hdu_class_of,
    irf_class_of,
)
from obscluster.gadf.psf import PROFILES
from obscluster.gadf.response import IRF
from obscluster.gadf.structure import Structure
from obscluster.gadf.units import conversion_factor, convertible_unit

__all__ = [
    "IRF",
    "IRF_CLASSES",
    "IRFClass",
    "hdu_class_of",
    "irf_class_of",
    "rad_max_of",
    "read_irf",
]

_LOG_AXES = ("energy_true", "energy")
# No bin edge, in TeV or degrees, and no value of a response is as large: it is damage.
_MAX_AXIS = 1e9
_HUGE = 1e30
# Type in the file, to the first byte (without sign) from which on a number may be huge: its
# exponent is then 99 or more, and 2^99 < 1e30.
_SMALL_FIRST_BYTE = {">f4": (99 + 127) >> 1, ">f8": (99 + 1023) >> 4}
_LITTLE_ENDIAN = sys.byteorder == "little"


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
    spec = _spec(hdu, hdu_class)
    if hdu.n_rows != 1:
        raise hdu.error(f"{hdu.n_rows} rows; a response has one")
    axes = _read_axes(hdu, spec)
    arrays: dict[str, NDArray[Any]] = {}
    unit: u.UnitBase = u.sr**-1
    n_invalid = 0
    for name, expected in spec.columns.items():
        # The data challenge of CTA writes BGD where the specification has BKG.
        column = "BGD" if name == "BKG" and name not in hdu and "BGD" in hdu else name
        values, n_bad = _clean(_read_array(hdu, column, axes), keep_nan=spec.hdu_type == "rad_max")
        n_invalid += n_bad
        if spec.name in PROFILES:
            arrays[name] = values * _factor(hdu, column, expected)
        else:
            # Gammapy, too, takes a background without unit to be per MeV.
            without = u.Unit("s-1 MeV-1 sr-1") if name == "BKG" else expected
            arrays[name], unit = values, _unit(hdu, column, expected, without)
    return IRF(spec.name, axes, arrays, unit, hdu.header, hdu.path, n_invalid)


def rad_max_of(hdu: HDU) -> IRF | None:
    """Directional cut that a point-like response brings along.

    Parameters
    ----------
    hdu : `~obscluster.gadf.hdu.HDU`
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
    keyword, has_column = hdu.header.get("RAD_MAX"), "RAD_MAX" in hdu
    if hdu.n_rows != 1 or (keyword is None and not has_column):
        return None
    # The cut depends on reconstructed energy; its axis is that of the response.
    axes = {"energy": replace(_read_axis(hdu, "energy_true"), name="energy")}
    axes["offset"] = _read_axis(hdu, "offset")
    if has_column:
        values: NDArray[Any] = _read_array(hdu, "RAD_MAX", axes)
        return IRF(
            "rad_max_2d",
            axes,
            {"RAD_MAX": values},
            _unit(hdu, "RAD_MAX", u.deg, u.deg),
            hdu.header,
            hdu.path,
        )
    single = {
        name: Axis.from_edges(name, axis.edges[[0, -1]], axis.interp) for name, axis in axes.items()
    }
    values = np.full((1, 1), _angle(hdu, keyword))
    return IRF("rad_max_2d", single, {"RAD_MAX": values}, u.deg, hdu.header, hdu.path)


def _spec(hdu: HDU, hdu_class: str | None) -> IRFClass:
    """Specification for a HDU."""
    spec = _spec_of(hdu.structure, hdu_class)
    if spec is None:
        found = hdu_class or hdu.header.get("HDUCLAS4")
        raise hdu.error(f"unknown response class {found!r}; known: {', '.join(IRF_CLASSES)}")
    return spec


@lru_cache(maxsize=128)
def _spec_of(structure: Structure, hdu_class: str | None) -> IRFClass | None:
    """Specification: the keywords count, then what the index says, then the columns."""
    by_itself = irf_class_of(structure)
    for candidate in (hdu_class_of(structure.header), hdu_class, by_itself):
        if candidate in IRF_CLASSES:
            return IRF_CLASSES[candidate]
    return None


def _clean(values: NDArray[Any], keep_nan: bool) -> tuple[NDArray[Any], int]:
    """Values with zero for what is no number, and how many there were.

    Some write NaN into bins without simulated events; a single one would spoil every value that is
    interpolated next to it. A missing cut is not zero, though.
    """
    if _all_small(values):
        return values, 0
    # Damage may look like a signalling NaN, of which numpy warns wherever it is touched.
    with np.errstate(invalid="ignore"):
        bad = ~(np.abs(values) <= _HUGE)
    n_bad = int(bad.sum())
    if n_bad == 0:
        return values, 0
    return np.where(bad, np.nan if keep_nan else 0.0, values), n_bad


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


def _unit(hdu: HDU, column: str, expected: u.UnitBase, without: u.UnitBase) -> u.UnitBase:
    """Unit of a column, which must convert to the expected one, or what holds without a unit."""
    text = hdu.unit(column)
    unit = convertible_unit(text, expected) if text else without
    if unit is None:
        raise hdu.error(f"unit {text!r} of column {column} does not convert to {expected}")
    return unit


def _angle(hdu: HDU, value: Any) -> float:
    """Angle of a keyword in degrees; LST writes it with its unit, ``0.2 deg``."""
    number, _, text = str(value).strip().partition(" ")
    factor = conversion_factor(text, u.deg) if text.strip() else 1.0
    try:
        angle = float(number) * (np.nan if factor is None else factor)
    except ValueError:
        angle = np.nan
    if not 0 < angle <= 360:
        raise hdu.error(f"RAD_MAX = {value!r}; expected an angle in degrees")
    return float(angle)


def _factor(hdu: HDU, column: str, unit: u.UnitBase) -> float:
    """Factor from the unit of a column to the expected one; without a unit it is that one."""
    text = hdu.unit(column)
    if not text:
        return 1.0
    factor = conversion_factor(text, unit)
    if factor is None:
        raise hdu.error(f"unit {text!r} of column {column} does not convert to {unit}")
    return factor


def _read_axes(hdu: HDU, spec: IRFClass) -> dict[str, Axis]:
    """Axes of a response, by name."""
    known = _axes_before_values(
        hdu.structure, spec.name, hdu.bytes_before(next(iter(spec.columns)))
    )
    if known is not None:
        return dict(known)
    return {name: _read_axis(hdu, name) for name in spec.axes}


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
        factors = [conversion_factor(c.unit, axis_unit(name)) if c.unit else 1.0 for c in columns]
        if None in factors or not all(
            column.dtype[1:2] in ("f", "i") and column.offset + column.width <= len(leading)
            for column in columns
        ):
            return None
        edges = tuple((c.dtype, leading[c.offset : c.offset + c.width]) for c in columns)
        try:
            axes[name] = _make_axis(name, prefix, edges, tuple(f for f in factors if f))
        except ValueError:
            # The other way tells what is wrong.
            return None
    return axes


def _prefix(columns: Container[str], name: str) -> str | None:
    """What the names of an axis' columns begin with, None if there are none."""
    prefixes = AXIS_PREFIXES[name]
    return next((p for p in prefixes if f"{p}_LO" in columns and f"{p}_HI" in columns), None)


def _read_axis(hdu: HDU, name: str) -> Axis:
    """Axis from its _LO and _HI columns."""
    prefix = _prefix(hdu, name)
    if prefix is None:
        columns = " or ".join(f"{p}_LO and {p}_HI" for p in AXIS_PREFIXES[name])
        raise hdu.error(f"no columns {columns}; it has {', '.join(hdu.colnames)}")
    names = (f"{prefix}_LO", f"{prefix}_HI")
    cells = [_numbers(hdu, column) for column in names]
    edges = tuple((cell.dtype.str, cell.tobytes()) for cell in cells)
    factors = tuple(_factor(hdu, column, axis_unit(name)) for column in names)
    try:
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
        _clean(np.frombuffer(data, dtype), keep_nan=True)[0].astype(float) * factor
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
    if (np.diff(points) <= 0).any():
        raise ValueError(f"{prefix}_LO and {prefix}_HI do not rise from bin to bin")
    interp = "log" if name in _LOG_AXES else "lin"
    if interp == "log" and points[0] < 0:
        raise ValueError(f"{prefix}_LO has negative energies")
    axis = (Axis.from_nodes if at_points else Axis.from_edges)(name, points, interp)
    for array in (axis.edges, axis.center):
        array.flags.writeable = False
    return axis


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
