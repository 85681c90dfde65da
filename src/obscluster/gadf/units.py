"""Units as files write them, to `astropy.units`."""

from __future__ import annotations

import warnings
from functools import lru_cache

from astropy import units as u

__all__ = ["conversion_factor", "parse_unit"]


@lru_cache(maxsize=1024)
def parse_unit(text: str) -> u.UnitBase:
    """Unit for the text of a TUNIT keyword.

    FITS notation comes first, then astropy's generic one and OGIP's; what none knows becomes an
    `~astropy.units.UnrecognizedUnit`, which is shown as it stands but cannot be converted.
    """
    text = text.strip()
    with warnings.catch_warnings():
        # Deprecated notations are common in real files, and unambiguous.
        warnings.simplefilter("ignore", u.UnitsWarning)
        for notation in ("fits", "generic", "ogip"):
            try:
                unit = u.Unit(text, format=notation)
            except (ValueError, TypeError):
                continue
            # "s, m" is a unit of a structure, which nothing here can use.
            if isinstance(unit, u.UnitBase):
                return unit
    return u.UnrecognizedUnit(text)


@lru_cache(maxsize=1024)
def conversion_factor(text: str, unit: u.UnitBase) -> float | None:
    """Factor from the unit written in a file to the given one; None where they do not compare."""
    written = parse_unit(text)
    if isinstance(written, u.UnrecognizedUnit) or not written.is_equivalent(unit):
        return None
    return float(written.to(unit))
