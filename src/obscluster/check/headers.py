"""Keywords of the specification, and whether an HDU is what the index says.

https://gamma-astro-data-formats.readthedocs.io/en/v0.3/general/hduclass.html
https://gamma-astro-data-formats.readthedocs.io/en/v0.3/events/events.html#mandatory-header-keywords
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import isfinite, isnan, nan
from typing import Any

from astropy import units as u

from obscluster.check.findings import Finding, error, info, warning
from obscluster.gadf.hdu import HDU
from obscluster.gadf.hdu_index import HDULocation
from obscluster.gadf.irf import IRF_CLASSES, hdu_class_of
from obscluster.gadf.time import time_unit

__all__ = [
    "TABLE_CLASSES",
    "check_identity",
    "check_keywords",
    "check_obs_id",
    "number",
    "obs_mode",
    "seconds",
]

TABLE_CLASSES = ("events", "gti", "pointing")
"""Types whose class has the same name and stands in HDUCLAS1."""

_CLASS_KEYS = ("HDUCLASS", "HDUDOC", "HDUVERS", "HDUCLAS1")
_TIME_KEYS = ("MJDREFI", "MJDREFF", "TIMEUNIT", "TIMESYS", "TIMEREF")
_EVENTS_KEYS = (
    *("OBS_ID", "TSTART", "TSTOP", "ONTIME", "LIVETIME", "DEADC"),
    *("EQUINOX", "RADECSYS", "ORIGIN", "TELESCOP", "INSTRUME", "CREATOR"),
)
_NUMBERS = (
    *("TSTART", "TSTOP", "ONTIME", "LIVETIME", "DEADC", "MJDREFI", "MJDREFF"),
    *("RA_PNT", "DEC_PNT", "ALT_PNT", "AZ_PNT"),
)
# The FITS standard renamed or replaced these, and readers take either.
_SYNONYMS = {"RADECSYS": ("RADESYS", "RADESYSA"), "MJDREFI": ("MJDREF",), "MJDREFF": ("MJDREF",)}


def check_keywords(hdu: HDU, hdu_type: str) -> Iterator[Finding]:
    """Whether the mandatory keywords are there.

    Parameters
    ----------
    hdu : `~obscluster.gadf.hdu.HDU`
        The HDU.
    hdu_type : str
        GADF ``HDU_TYPE``.
    """
    wanted: tuple[str, ...] = _CLASS_KEYS
    if hdu_type == "events":
        pointing = (
            ("ALT_PNT", "AZ_PNT") if obs_mode(hdu.header) == "DRIFT" else ("RA_PNT", "DEC_PNT")
        )
        wanted += (*_EVENTS_KEYS, *pointing, *_TIME_KEYS)
        if str(hdu.header.get("HDUVERS", "")).strip().startswith("0.3"):
            wanted += ("OBS_MODE",)
    elif hdu_type in ("gti", "pointing"):
        wanted += _TIME_KEYS
    else:
        wanted += ("HDUCLAS2", "HDUCLAS3", "HDUCLAS4")
    missing = [
        key
        for key in wanted
        if all(hdu.header.get(name) is None for name in (key, *_SYNONYMS.get(key, ())))
    ]
    if missing:
        yield warning(f"no keyword {', '.join(missing)}, mandatory in GADF")
    for key in wanted:
        if key in _NUMBERS and hdu.header.get(key) is not None and isnan(number(hdu.header, key)):
            yield warning(f"{key} = {hdu.header[key]!r}; expected a number")


def check_obs_id(hdu: HDU, obs_id: int) -> Iterator[Finding]:
    """Whether OBS_ID, a number or a text, is that of the index."""
    written = hdu.header.get("OBS_ID")
    if written is None:
        return
    try:
        # Not by way of a float, which has no room for some identifiers.
        same = int(written) == obs_id
    except (TypeError, ValueError):
        same = False
    if not same:
        yield error(f"OBS_ID = {written!r} in the header, {obs_id} in the index")


def check_identity(hdu: HDU, location: HDULocation) -> Iterator[Finding]:
    """Whether name and class in the header agree with the index.

    Parameters
    ----------
    hdu : `~obscluster.gadf.hdu.HDU`
        The HDU that was found.
    location : `~obscluster.gadf.hdu_index.HDULocation`
        Its row of the index.
    """
    wanted = location.hdu_name.strip()
    if wanted and hdu.name != wanted.upper():
        yield info(f"EXTNAME = {hdu.name!r}, HDU_NAME = {wanted!r} in the index; found by HDUCLAS")
    header = hdu.header
    if location.hdu_type in TABLE_CLASSES:
        found = str(header.get("HDUCLAS1") or "").strip().lower()
        if found and found != location.hdu_type:
            yield error(
                f"HDUCLAS1 = {header['HDUCLAS1']!r}, but the index has it as {location.hdu_type}"
            )
        return
    hdu_class = hdu_class_of(header)
    written = str(header.get("HDUCLAS4") or "").strip()
    if hdu_class is None:
        if written and location.hdu_class in IRF_CLASSES:
            yield info(f"HDUCLAS4 = {written!r}; expected {location.hdu_class.upper()!r}")
        return
    hdu_type = IRF_CLASSES[hdu_class].hdu_type
    if hdu_type != location.hdu_type:
        yield error(
            f"the header says {hdu_class}, of type {hdu_type}; the index has it as "
            f"{location.hdu_type}"
        )
    elif hdu_class != location.hdu_class:
        yield warning(
            f"the header says {hdu_class}, HDU_CLASS = {location.hdu_class!r} in the index; "
            "obscluster goes by the header, others by the index"
        )
    if written.lower() != hdu_class:
        yield info(f"HDUCLAS4 = {written!r}; expected {hdu_class.upper()!r}")


def obs_mode(header: Mapping[str, Any]) -> str:
    """OBS_MODE in upper case, empty if there is none."""
    return str(header.get("OBS_MODE") or "").strip().upper()


def number(header: Mapping[str, Any], key: str) -> float:
    """Value of a keyword as a number, NaN if it is missing or none; text is converted."""
    try:
        value = float(header.get(key, nan))
    except (TypeError, ValueError):
        return nan
    return value if isfinite(value) else nan


def seconds(header: Mapping[str, Any], key: str) -> float:
    """Time of a keyword (TSTART, TSTOP) in seconds, NaN if it is missing; TIMEUNIT is obeyed."""
    return number(header, key) * float(time_unit(header).to(u.s))
