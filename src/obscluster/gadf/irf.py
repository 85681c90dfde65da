"""Instrument responses: IRF tables to axes and arrays.

https://gamma-astro-data-formats.readthedocs.io/en/v0.3/irfs/index.html

Axes come out in TeV, degrees or without unit, whatever the file uses, so that numeric code needs no
unit arithmetic. Tabulated values keep the file's precision and byte order: nothing is copied until
a part of it is used.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from astropy import units as u
from numpy.typing import NDArray

from obscluster.gadf.axis import Axis
from obscluster.gadf.cleaning import clean
from obscluster.gadf.columns import Column
from obscluster.gadf.hdu import HDU
from obscluster.gadf.irf_axes import factor_of, numbers, read_axes, read_axis, unfit
from obscluster.gadf.irf_class import IRF_CLASSES, IRFClass, hdu_class_of, irf_class_of
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

# Gammapy, too, takes a background without unit to be per MeV.
_PER_MEV = u.Unit("s-1 MeV-1 sr-1")
_PER_SR = u.sr**-1


def read_irf(hdu: HDU, hdu_class: str | None = None, offset: float | None = None) -> IRF:
    """Response from a table HDU.

    Parameters
    ----------
    hdu : `~obscluster.gadf.hdu.HDU`
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
    values = np.full((1, 1), _angle(hdu, keyword))
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
