"""Checks of headers, event lists and good time intervals.

https://gamma-astro-data-formats.readthedocs.io/en/v0.3/general/hduclass.html
https://gamma-astro-data-formats.readthedocs.io/en/v0.3/events/events.html#mandatory-header-keywords

https://gamma-astro-data-formats.readthedocs.io/en/v0.3/events/index.html
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import isfinite, isnan, nan
from typing import Any

import numpy as np
from astropy import units as u
from numpy.typing import NDArray

from obscluster.check.findings import Finding, error, info, warning
from obscluster.gadf.events import GTI, EventList, read_events, read_gti
from obscluster.gadf.fits import HDU, read_numbers
from obscluster.gadf.hdu_index import HDULocation
from obscluster.gadf.irf import IRF_CLASSES, hdu_class_of
from obscluster.gadf.time import quiet_times, time_unit

__all__ = [
    "TABLE_CLASSES",
    "check_event_times",
    "check_events",
    "check_gti",
    "check_identity",
    "check_keywords",
    "check_livetime",
    "check_obs_id",
    "check_run_times",
    "good_livetime",
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
    hdu : `~obscluster.gadf.fits.HDU`
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
    hdu : `~obscluster.gadf.fits.HDU`
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


Array = NDArray[np.float64]

# Headers and index round to seconds.
TIME_TOLERANCE = 1.0
# Event times and intervals are compared as they are stored; this allows for rounding to float64.
EVENT_TOLERANCE = 1e-3
DEADC_TOLERANCE = 0.01

_COLUMNS = {"TIME": u.s, "RA": u.deg, "DEC": u.deg, "ENERGY": u.TeV}


def check_events(hdu: HDU) -> Iterator[Finding]:
    """Columns, units and values of an event list.

    Parameters
    ----------
    hdu : `~obscluster.gadf.fits.HDU`
        The EVENTS table.
    """
    missing = [name for name in _COLUMNS if name not in hdu]
    if missing:
        yield error(f"no column {', '.join(missing)}; it has {', '.join(hdu.colnames)}")
    if "EVENT_ID" not in hdu:
        yield warning("no column EVENT_ID, mandatory in GADF")
    present = [name for name in _COLUMNS if name in hdu]
    bare = [name for name in present if not hdu.unit(name)]
    if bare:
        assumed = ", ".join(str(_COLUMNS[name]) for name in bare)
        yield warning(f"no unit of column {', '.join(bare)}; {assumed} assumed")
    events = read_events(hdu, present)
    if len(events) == 0:
        yield warning("no events")
        return
    for name in present:
        yield from _check_event_values(name, read_numbers(hdu, name, _COLUMNS[name]))


def _check_event_values(name: str, values: Array) -> Iterator[Finding]:
    finite = np.isfinite(values)
    yield from _counted(~finite, f"{name} is NaN or infinite")
    bad = {
        "ENERGY": (values <= 0, "ENERGY is not positive"),
        "RA": ((values < -180) | (values > 360), "RA is not within 0 to 360 deg"),
        "DEC": (np.abs(values) > 90, "DEC is not within -90 to 90 deg"),
    }.get(name)
    if bad is not None:
        yield from _counted(bad[0] & finite, bad[1])


def check_gti(hdu: HDU) -> Iterator[Finding]:
    """Whether intervals are in order, of positive length and apart.

    Parameters
    ----------
    hdu : `~obscluster.gadf.fits.HDU`
        The GTI table.
    """
    start, stop = _intervals(read_gti(hdu))
    bare = [name for name in ("START", "STOP") if not hdu.unit(name)]
    if bare:
        yield warning(f"no unit of column {', '.join(bare)}; s assumed")
    if (stop <= start).any():
        worst = int(np.argmin(stop - start))
        yield error(
            f"{(stop <= start).sum()} of {len(start)} intervals end before they begin: "
            f"START = {start[worst]:.3f}, STOP = {stop[worst]:.3f}"
        )
        return
    if (np.diff(start) < 0).any():
        yield warning("the intervals are not in order of START")
    order = np.argsort(start, kind="stable")
    overlap = np.maximum.accumulate(stop[order])[:-1] - start[order][1:]
    if len(overlap) and overlap.max() > EVENT_TOLERANCE:
        yield error(
            f"{(overlap > EVENT_TOLERANCE).sum()} of {len(start)} intervals overlap with another, "
            f"by up to {overlap.max():.3f} s: that time counts twice"
        )


def check_run_times(gti_hdu: HDU, events_hdu: HDU) -> Iterator[Finding]:
    """Good time intervals against TSTART, TSTOP and ONTIME of the EVENTS header."""
    gti = read_gti(gti_hdu)
    start, stop = _intervals(gti)
    header = events_hdu.header
    first, last = seconds(header, "TSTART"), seconds(header, "TSTOP")
    ontime = number(header, "ONTIME")
    shift = _shift(gti, read_events(events_hdu, ["TIME"]))
    before, after = first - (start + shift).min(), (stop + shift).max() - last
    if before > TIME_TOLERANCE:
        yield warning(f"the good time intervals begin {before:.1f} s before TSTART = {first:.1f}")
    if after > TIME_TOLERANCE:
        yield warning(f"the good time intervals end {after:.1f} s after TSTOP = {last:.1f}")
    total = float((stop - start).sum())
    if abs(ontime - total) > max(TIME_TOLERANCE, 0.01 * total):
        yield warning(f"ONTIME = {ontime:.1f} s, but the good time intervals add up to {total:.1f}")


def good_livetime(gti_hdu: HDU, header: Mapping[str, Any]) -> float:
    """Seconds of the good time intervals less dead time, GTI x DEADC; NaN if one is not known."""
    start, stop = _intervals(read_gti(gti_hdu))
    ontime, livetime = number(header, "ONTIME"), number(header, "LIVETIME")
    deadc = number(header, "DEADC")
    if not 0 < deadc <= 1:
        deadc = livetime / ontime if ontime > 0 else np.nan
    return float((stop - start).sum()) * deadc


def check_event_times(events_hdu: HDU, gti_hdu: HDU) -> Iterator[Finding]:
    """How many events lie outside the good time intervals."""
    events, gti = read_events(events_hdu, ["TIME"]), read_gti(gti_hdu)
    start, stop = _intervals(gti)
    if not len(events):
        return
    time = u.Quantity(events.table["TIME"], "s").to_value("s").astype(float) - _shift(gti, events)
    order = np.argsort(start, kind="stable")
    start, stop = start[order], stop[order]
    place = np.maximum(np.searchsorted(start, time, side="right") - 1, 0)
    # Seconds to the nearest interval: the one that began last, or the next.
    after = np.maximum(time - stop[place], 0.0)
    following = start[np.minimum(place + 1, len(start) - 1)]
    away = np.where(time < start[place], start[place] - time, after)
    away = np.where(following > time, np.minimum(away, following - time), away)
    outside = away > EVENT_TOLERANCE
    if outside.any():
        yield from _counted(
            outside, f"TIME is outside the good time intervals by up to {away[outside].max():.4g} s"
        )


def check_livetime(ontime: float, livetime: float, deadc: float) -> Iterator[Finding]:
    """Whether ONTIME, LIVETIME and DEADC are possible and agree; NaN where one is missing."""
    if livetime > ontime * 1.0001:
        yield error(f"LIVETIME = {livetime:.2f} s exceeds ONTIME = {ontime:.2f} s")
        return
    if livetime < 0 or ontime < 0:
        yield error(f"LIVETIME = {livetime:.2f} s, ONTIME = {ontime:.2f} s; expected positive")
        return
    if deadc < 0 or deadc > 1:
        yield error(f"DEADC = {deadc:.4g}; expected LIVETIME / ONTIME, between 0 and 1")
    elif ontime > 0 and abs(deadc - livetime / ontime) > DEADC_TOLERANCE:
        yield warning(f"DEADC = {deadc:.4f}, but LIVETIME / ONTIME = {livetime / ontime:.4f}")
    if livetime == 0 and ontime > 0:
        yield info("LIVETIME is zero")


def _counted(bad: NDArray[np.bool_], what: str) -> Iterator[Finding]:
    """A warning for some events, an error if it is all of them."""
    if bad.all():
        yield error(f"{what} for all {len(bad)} events")
    elif bad.any():
        yield warning(f"{what} for {bad.sum()} of {len(bad)} events")


def _intervals(gti: GTI) -> tuple[Array, Array]:
    start, stop = (
        np.atleast_1d(u.Quantity(gti.table[name], "s").to_value("s")).astype(float)
        for name in ("START", "STOP")
    )
    return start, stop


def _shift(gti: GTI, events: EventList) -> float:
    """Seconds to add to times of the intervals to have those of the events."""
    one, other = gti.time_ref, events.time_ref
    if (one.scale, one.jd1, one.jd2) == (other.scale, other.jd1, other.jd2):
        return 0.0
    with quiet_times():
        return float((one - other).to_value("s"))
