"""Classes of instrument responses, and how a HDU shows of which class it is.

https://gamma-astro-data-formats.readthedocs.io/en/v0.3/general/hduclass.html
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from astropy import units as u

from obscluster.gadf.hdu import HDU
from obscluster.gadf.structure import Structure

__all__ = [
    "AXIS_PREFIXES",
    "IRF_CLASSES",
    "IRFClass",
    "hdu_class_of",
    "hdu_type_of",
    "irf_class_of",
]

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
