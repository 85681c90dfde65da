"""Instrument responses: IRF tables to axes and arrays.

https://gamma-astro-data-formats.readthedocs.io/en/v0.3/irfs/index.html

Axes come out in TeV, degrees or without unit, whatever the file uses, so that numeric code needs no
unit arithmetic. Tabulated values keep the file's precision and byte order: nothing is copied until
a part of it is used.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
from astropy import units as u
from numpy.typing import NDArray

from obscluster.gadf.axis import Axis
from obscluster.gadf.cleaning import clean
from obscluster.gadf.hdu import HDU
from obscluster.gadf.irf_axes import factor_to, numbers, read_axes, read_axis
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
    spec = _spec(hdu, hdu_class)
    if hdu.n_rows != 1:
        raise hdu.error(f"{hdu.n_rows} rows; a response has one")
    axes = read_axes(hdu, spec)
    bins, near = None, axes
    if offset is not None and "offset" in axes:
        bins, axis = axes["offset"].near(offset)
        near = axes | {"offset": axis}
    arrays: dict[str, NDArray[Any]] = {}
    invalid: dict[str, NDArray[np.bool_]] = {}
    unit: u.UnitBase = _PER_SR
    for name, expected in spec.columns.items():
        # The data challenge of CTA writes BGD where the specification has BKG.
        column = "BGD" if name == "BKG" and name not in hdu and "BGD" in hdu else name
        # A missing cut is not zero.
        values, bad = clean(_read_array(hdu, column, axes, bins), spec.hdu_type == "rad_max")
        if bad is not None:
            invalid[name] = bad
        if spec.name in PROFILES:
            arrays[name] = values * factor_to(hdu, column, expected)
        else:
            without = _PER_MEV if name == "BKG" else expected
            arrays[name], unit = values, _unit(hdu, column, expected, without)
    return IRF(spec.name, near, arrays, unit, hdu.header, hdu.path, invalid)


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
    axes = {"energy": replace(read_axis(hdu, "energy_true"), name="energy")}
    axes["offset"] = read_axis(hdu, "offset")
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


def _read_array(
    hdu: HDU, column: str, axes: dict[str, Axis], bins: slice | None = None
) -> NDArray[Any]:
    """Values in the order of the axes, as a view; of the offsets, some bins only."""
    shape = tuple(axis.nbin for axis in axes.values())
    names = list(axes)
    # FITS lists the fastest axis first, so the transposed cell has the order of the specification.
    if bins is not None and names[-1] == "offset" and hdu.shape(column) == shape[::-1]:
        return numbers(hdu, column, bins).T
    values = _in_order(numbers(hdu, column), shape)
    if values is None:
        raise hdu.error(f"column {column} has shape {hdu.cell(column).T.shape}, its axes {shape}")
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
