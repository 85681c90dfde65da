"""Times as GADF stores them: seconds since a reference that the header gives.

https://gamma-astro-data-formats.readthedocs.io/en/v0.3/general/time.html
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from astropy import units as u
from astropy.time import Time
from astropy.utils.exceptions import AstropyWarning
from astropy.utils.iers import conf as iers_conf

from obscluster.gadf.units import convertible_unit

__all__ = ["MAX_SECONDS", "has_time_ref", "quiet_times", "time_ref_from_header", "time_unit"]

MAX_SECONDS = 1e10
"""Longest time, in seconds, that anything counts from a reference (317 years)."""

# MJD of the years 1858 to 2132: a reference beyond is damage, or days of another count.
_MJD_RANGE = (0.0, 1e5)
# Names of the FITS standard (4.0, table 30) and of early GADF that astropy does not know.
_SCALES = {
    **dict.fromkeys(("gmt", "ut"), "utc"),
    **dict.fromkeys(("tdt", "et"), "tt"),
    "iat": "tai",
    # Formats rather than scales, or a clock that is tied to none (and that astropy cannot convert):
    # the scale is then that of the specification.
    **dict.fromkeys(("mjd", "jd", "tjd", "local"), "tt"),
}


def has_time_ref(header: Mapping[str, Any]) -> bool:
    """Whether the header says from when times count."""
    return "MJDREFI" in header or "MJDREF" in header


def time_unit(header: Mapping[str, Any]) -> u.UnitBase:
    """Unit of times in a header (TSTART, TSTOP) by TIMEUNIT; seconds where it is none of a time."""
    written = header.get("TIMEUNIT")
    unit = convertible_unit(written, u.s) if isinstance(written, str) and written.strip() else None
    return u.s if unit is None else unit


def time_ref_from_header(header: Mapping[str, Any]) -> Time:
    """Reference time of a header.

    Parameters
    ----------
    header : mapping
        With MJDREFI and MJDREFF, or MJDREF; as numbers or text. TIMESYS may be in lower case or
        missing (TT is assumed, the default of the specification).

    Returns
    -------
    time_ref : `~astropy.time.Time`
        Reference time, format MJD.

    Raises
    ------
    KeyError
        If there is no reference in the header.
    ValueError
        If a keyword is not a number or no sensible date, or TIMESYS is not a time scale.
    """
    for key in ("MJDREFI", "MJDREF"):
        if key in header and header[key] is None:
            raise ValueError(f"{key} has no value")
    # A realisation may follow in brackets: UTC(NIST).
    written = str(header.get("TIMESYS") or "tt").strip().lower().partition("(")[0]
    scale = _SCALES.get(written, written)
    if scale not in Time.SCALES:
        raise ValueError(f"TIMESYS = {written!r} is no time scale")
    if "MJDREFI" in header:
        # Some productions write these as text.
        day, fraction = float(header["MJDREFI"]), float(header.get("MJDREFF") or 0.0)
    else:
        day, fraction = float(header["MJDREF"]), 0.0
    first, last = _MJD_RANGE
    if not (first <= day <= last and abs(fraction) <= last):
        raise ValueError(f"MJD {day:g} + {fraction:g} is not from {first:g} to {last:g}")
    return Time(day, fraction, format="mjd", scale=scale)


@contextmanager
def quiet_times() -> Iterator[None]:
    """Compute with times of any year, without warnings or downloads.

    Leap seconds and the rotation of the Earth are not known for the future, and not to the
    microsecond for last week. For angles of pointings it does not matter: without this, astropy
    warns, wants to fetch tables, and fails where there is no network.
    """
    with (
        warnings.catch_warnings(),
        iers_conf.set_temp("auto_max_age", None),
        iers_conf.set_temp("iers_degraded_accuracy", "ignore"),
    ):
        warnings.filterwarnings("ignore", message="ERFA function")
        warnings.simplefilter("ignore", AstropyWarning)
        yield
