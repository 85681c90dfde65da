"""Units as files write them, to `astropy.units`."""

from __future__ import annotations

import re
import warnings
from functools import lru_cache

import numpy as np
from astropy import units as u

__all__ = ["conversion_factor", "convertible_unit", "parse_unit", "unit_factor"]

# Words of units as some productions spell them, in lower case, to FITS. Only whole words are
# replaced, and only where the text as it stands is no unit or not the expected one: "S" is siemens,
# but seconds in a column of times.
_SPELLINGS = {
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), "s"),
    **dict.fromkeys(("min", "mins", "minute", "minutes"), "min"),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), "h"),
    **dict.fromkeys(("d", "day", "days"), "d"),
    **dict.fromkeys(("ev", "electronvolt"), "eV"),
    **{f"{prefix.lower()}ev": f"{prefix}eV" for prefix in "kMGTP"},
    **dict.fromkeys(("deg", "degs", "degree", "degrees", "degr"), "deg"),
    **dict.fromkeys(("arcmin", "arcmins", "arcminute", "arcminutes"), "arcmin"),
    **dict.fromkeys(("arcsec", "arcsecs", "arcsecond", "arcseconds"), "arcsec"),
    **dict.fromkeys(("rad", "rads", "radian", "radians"), "rad"),
    **dict.fromkeys(("sr", "ster", "steradian", "steradians"), "sr"),
    **dict.fromkeys(("m", "meter", "meters", "metre", "metres"), "m"),
    **dict.fromkeys(("cm", "centimeter", "centimeters"), "cm"),
    **dict.fromkeys(("km", "kilometer", "kilometers"), "km"),
    "hz": "Hz",
    # Numbers of things are pure numbers here.
    **dict.fromkeys(("count", "counts", "event", "events", "evts", "ct", "cts"), "1"),
    **dict.fromkeys(("none", "unitless", "dimensionless", "adim", "na", "unity"), "1"),
}
_WORD = re.compile(r"[A-Za-z]+\.?")
_NO_UNIT = ("", "-", "--", "1")
# What astropy's parsers raise on odd texts, beside the documented ValueError and TypeError.
_PARSER_ERRORS = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)


@lru_cache(maxsize=1024)
def parse_unit(text: str) -> u.UnitBase:
    """Unit for the text of a TUNIT keyword.

    FITS notation comes first, then astropy's generic one and OGIP's, then all of them with unusual
    spellings put right. What is still none becomes an `~astropy.units.UnrecognizedUnit`, which is
    shown as it stands but cannot be converted.

    Examples
    --------
    >>> parse_unit("1/(s MeV sr)"), parse_unit("Degrees"), parse_unit("[TEV]")
    (Unit("1 / (MeV s sr)"), Unit("deg"), Unit("TeV"))
    """
    for candidate in (text.strip(), _respelled(text)):
        unit = _parse(candidate)
        if unit is not None and _has_scale(unit):
            return unit
    return u.UnrecognizedUnit(text.strip())


@lru_cache(maxsize=1024)
def convertible_unit(text: str, expected: u.UnitBase) -> u.UnitBase | None:
    """Unit for a text, as `parse_unit`, that converts to the expected one; None if it does not.

    Where a text can be read in two ways, such as ``S`` (siemens, or seconds), what is expected
    decides.
    """
    for candidate in (text.strip(), _respelled(text)):
        unit = _parse(candidate)
        if unit is not None and unit.is_equivalent(expected):
            factor = unit.to(expected)
            # A text such as "0 m" or "1e999 m" is a unit to astropy.
            if isinstance(factor, float) and 0 < factor < np.inf:
                return unit
    return None


@lru_cache(maxsize=1024)
def conversion_factor(text: str, unit: u.UnitBase) -> float | None:
    """Factor from the unit written in a file to the given one; None where they do not compare."""
    written = convertible_unit(text, unit)
    return None if written is None else float(written.to(unit))


@lru_cache(maxsize=1024)
def unit_factor(unit: u.UnitBase, other: u.UnitBase) -> float:
    """Factor from one unit to another, which astropy works out anew each time."""
    return float(unit.to(other))


def _has_scale(unit: u.UnitBase) -> bool:
    """Whether a unit has a size: a text such as "0 m" or "1e999 m" is a unit to astropy."""
    try:
        with np.errstate(all="ignore"):
            return 0 < unit.decompose().scale < np.inf
    except (*_PARSER_ERRORS, u.UnitsError):
        return False


def _respelled(text: str) -> str:
    """The same unit in a usual spelling: no quotes or brackets around, known words replaced."""
    text = text.strip().strip("'\"").strip()
    if text[:1] in ("[", "(") and text[-1:] in ("]", ")"):
        text = text[1:-1].strip()
    if text in _NO_UNIT:
        return ""
    return _WORD.sub(lambda word: _SPELLINGS.get(word[0].rstrip(".").lower(), word[0]), text)


def _parse(text: str) -> u.UnitBase | None:
    with warnings.catch_warnings():
        # Deprecated notations are common in real files, and unambiguous.
        warnings.simplefilter("ignore", u.UnitsWarning)
        for notation in ("fits", "generic", "ogip"):
            try:
                unit = u.Unit(text, format=notation)
            except _PARSER_ERRORS:
                continue
            # "s, m" is a unit of a structure, which nothing here can use.
            if isinstance(unit, u.UnitBase):
                return unit
    return None
