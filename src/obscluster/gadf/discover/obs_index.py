"""The obs-index, from the headers of event lists.

https://gamma-astro-data-formats.readthedocs.io/en/v0.3/data_storage/obs_index/index.html

What a header does not say, or says in a way that cannot be used, is missing: NaN, masked, or empty
text. It is computed where the specification says how.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from astropy import units as u
from astropy.table import Column, MaskedColumn, Table
from numpy.typing import NDArray

from obscluster.gadf.discover.pointing import fill_pointing
from obscluster.gadf.discover.times import TIME_KEYS, Times, common_times, dates
from obscluster.gadf.header import Header
from obscluster.gadf.index import whole_number
from obscluster.gadf.keywords import NUMBERS, number_of
from obscluster.gadf.location import (
    LOCATION_KEYS,
    location_from_keywords,
    location_of_telescope,
)
from obscluster.version import __version__

__all__ = ["GADF", "KEYWORDS", "make_obs_index"]

FloatArray = NDArray[np.float64]

GADF = {
    "HDUCLASS": "GADF",
    "HDUDOC": "https://github.com/open-gamma-ray-astro/gamma-astro-data-formats",
    "HDUVERS": "0.3",
    "CREATOR": f"obscluster {__version__}",
}
"""Keywords of every index table."""


# Columns of numbers, of which those of the second line are left out where no run has a value.
_NUMBERS = (
    *("RA_PNT", "DEC_PNT", "GLON_PNT", "GLAT_PNT", "ZEN_PNT", "ALT_PNT", "AZ_PNT"),
    *("ONTIME", "LIVETIME", "DEADC", "TSTART", "TSTOP"),
)
_OPTIONAL = (
    *("RA_OBJ", "DEC_OBJ", "MUONEFF", "NSBLEVEL", "BROKPIX", "TRGRATE", "ZTRGRATE"),
    *("AIRTEMP", "PRESSURE", "RELHUM", "GEOLON", "GEOLAT", "ALTITUDE"),
)
_TEXTS = {
    "OBJECT": "Target",
    "OBS_MODE": "Observation mode",
    "DATE-OBS": "Start date",
    "TIME-OBS": "Start time of day",
    "DATE-END": "Stop date",
    "TIME-END": "Stop time of day",
    "TELLIST": "Telescopes",
    "TELESCOP": "Telescope",
    "INSTRUME": "Instrument",
    "CALDB": "Name in the calibration database",
    "IRF": "Name of the response",
}
_REQUIRED_TEXTS = ("DATE-OBS", "TIME-OBS", "DATE-END", "TIME-END", "TELLIST")
_SITE = ("GEOLON", "GEOLAT", "ALTITUDE")
_ALIASES = {
    "DATE-OBS": ("DATE-OBS", "DATE_OBS"),
    "TIME-OBS": ("TIME-OBS", "TIME_OBS"),
    "DATE-END": ("DATE-END", "DATE_END"),
    "TIME-END": ("TIME-END", "TIME_END"),
    # The second are those of FITS 4.0.
    "GEOLON": ("GEOLON", "OBSGEO-L"),
    "GEOLAT": ("GEOLAT", "OBSGEO-B"),
    "ALTITUDE": ("GEOALT", "ALTITUDE", "OBSGEO-H"),
}
KEYWORDS = (
    *("OBS_ID", "N_TELS", "QUALITY", "TIMEREF", *TIME_KEYS, *LOCATION_KEYS),
    *(*_NUMBERS, *_OPTIONAL, *_TEXTS, *(key for keys in _ALIASES.values() for key in keys)),
)
"""Keywords of an EVENTS header that this module uses."""

_ORDER = (
    *("OBS_ID", "RA_PNT", "DEC_PNT", "GLON_PNT", "GLAT_PNT", "ZEN_PNT", "ALT_PNT", "AZ_PNT"),
    *("OBJECT", "RA_OBJ", "DEC_OBJ", "OBS_MODE", "ONTIME", "LIVETIME", "DEADC", "TSTART", "TSTOP"),
    *("DATE-OBS", "TIME-OBS", "DATE-END", "TIME-END", "N_TELS", "TELLIST", "QUALITY"),
    *("MUONEFF", "NSBLEVEL", "EVENT_COUNT"),
)


def make_obs_index(
    obs_ids: Sequence[int], headers: Sequence[Header], n_events: Sequence[int]
) -> Table:
    """Build the obs-index.

    Parameters
    ----------
    obs_ids : sequence of int
        Identifiers, rising.
    headers : sequence of dict
        Keywords of each EVENTS header.
    n_events : sequence of int
        Number of events of each run.

    Returns
    -------
    table : `~astropy.table.Table`
        One row per run with the required columns of the specification, and the optional ones that
        a header has. Times count from the reference of the first run that has one, which is in
        ``meta``, as is the location of the telescopes if it is the same for all runs; else it is
        in columns.
    """
    numbers = {
        name: np.array([_number(header, name) for header in headers], dtype=np.float64)
        for name in (*_NUMBERS, *_OPTIONAL)
    }
    texts = {name: [_text(header, name) for header in headers] for name in _TEXTS}
    times = common_times(headers, numbers["TSTART"], numbers["TSTOP"])
    numbers["TSTART"], numbers["TSTOP"] = times.start, times.stop
    _fill_durations(numbers)
    _fill_dates(texts, times)
    drift = np.array([mode.upper() == "DRIFT" for mode in texts["OBS_MODE"]], dtype=bool)
    _fill_sites(numbers, headers)
    given = {name: numbers[name] for name in _SITE}
    numbers |= _known_sites(given, texts["TELESCOP"])
    fill_pointing(numbers, drift, times)
    numbers |= given
    meta = GADF | {"HDUCLAS1": "INDEX", "HDUCLAS2": "OBS", "EXTNAME": "OBS_INDEX"} | times.meta
    meta |= _take_common_site(numbers)

    columns = {
        "OBS_ID": Column(np.array(obs_ids, dtype=np.int64), description="Observation identifier"),
        "N_TELS": _n_tels(headers),
        "QUALITY": _quality(headers),
        "EVENT_COUNT": Column(np.array(n_events, dtype=np.int64), description="Number of events"),
    }
    for name, values in numbers.items():
        spec = NUMBERS[name]
        if name in _NUMBERS or np.isfinite(values).any():
            unit = None if spec.unit == u.one else spec.unit
            columns[name] = Column(values, unit=unit, description=spec.description)
    for name, words in texts.items():
        if name in _REQUIRED_TEXTS or any(words):
            columns[name] = Column(np.array(words, dtype=np.str_), description=_TEXTS[name])
    names = [name for name in _ORDER if name in columns]
    names += [name for name in columns if name not in names]
    return Table([columns[name] for name in names], names=names, copy=False, meta=meta)


def _value(header: Header, name: str) -> Any:
    keys = _ALIASES.get(name, (name,))
    return next((header[key] for key in keys if header.get(key) is not None), None)


def _number(header: Header, name: str) -> float:
    keys = _ALIASES.get(name, (name,))
    return next((n for key in keys if np.isfinite(n := number_of(name, header.get(key)))), np.nan)


def _text(header: Header, name: str) -> str:
    value = _value(header, name)
    text = "" if value is None else str(value).strip()
    # FITS text is printable ASCII.
    return "".join(c if " " <= c <= "~" else "?" for c in text)


def _fill_durations(numbers: dict[str, FloatArray]) -> None:
    """Of ONTIME, LIVETIME and DEADC any two give the third (GADF: LIVETIME = DEADC * ONTIME)."""
    ontime, livetime, deadc = (numbers[name] for name in ("ONTIME", "LIVETIME", "DEADC"))
    elapsed = numbers["TSTOP"] - numbers["TSTART"]
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        ontime = _fill(
            ontime,
            np.where(deadc > 0, livetime / deadc, np.nan),
            np.where(elapsed > 0, elapsed, np.nan),
        )
        numbers["ONTIME"] = ontime
        numbers["LIVETIME"] = _fill(livetime, deadc * ontime)
        numbers["DEADC"] = _fill(deadc, np.where(ontime > 0, livetime / ontime, np.nan))


def _fill(values: FloatArray, *others: FloatArray) -> FloatArray:
    """Values, and where they are missing, those of the first other that has them."""
    for other in others:
        values = np.where(np.isfinite(values) | ~np.isfinite(other), values, other)
    return values


def _fill_dates(texts: dict[str, list[str]], times: Times) -> None:
    """Split dates that hold the time of day, and compute missing ones."""
    for end, computed in (("OBS", dates(times, times.start)), ("END", dates(times, times.stop))):
        date_words, time_words = texts[f"DATE-{end}"], texts[f"TIME-{end}"]
        for row, stamp in enumerate(computed):
            text = date_words[row] or stamp
            date, _, time = text.partition("T")
            date_words[row], time_words[row] = date, time_words[row] or time


def _n_tels(headers: Sequence[Header]) -> MaskedColumn | Column:
    values = [whole_number(header.get("N_TELS")) for header in headers]
    description = "Number of telescopes"
    filled = np.array([-1 if value is None else value for value in values], dtype=np.int64)
    if None not in values:
        return Column(filled, description=description)
    mask = [value is None for value in values]
    return MaskedColumn(filled, mask=mask, fill_value=-1, description=description)


def _quality(headers: Sequence[Header]) -> Column:
    values = [whole_number(header.get("QUALITY")) for header in headers]
    # The specification has a number for what is not known.
    filled = [-1 if value is None else value for value in values]
    return Column(np.array(filled, dtype=np.int64), description="Quality, -1 unknown, 0 best")


def _fill_sites(numbers: dict[str, FloatArray], headers: Sequence[Header]) -> None:
    """Locations that headers give otherwise than by longitude, latitude and height."""
    for row in np.flatnonzero(np.isnan([numbers[name] for name in _SITE]).any(axis=0)).tolist():
        with contextlib.suppress(ValueError):
            site = location_from_keywords(headers[row])
            if site is not None:
                place = (site.lon.deg, site.lat.deg, site.height.to_value("m"))
                for name, value in zip(_SITE, place, strict=True):
                    numbers[name][row] = value


def _known_sites(given: dict[str, FloatArray], telescopes: Sequence[str]) -> dict[str, FloatArray]:
    """Locations of the telescopes; where the headers have none, by the name of the telescope."""
    filled = {name: values.copy() for name, values in given.items()}
    missing = ~np.all([np.isfinite(values) for values in given.values()], axis=0)
    names = np.array(telescopes, dtype=np.str_)
    for telescope in np.unique(names[missing]):
        site = location_of_telescope(str(telescope))
        if site is not None:
            rows = missing & (names == telescope)
            place = (site.lon.deg, site.lat.deg, site.height.to_value("m"))
            for name, value in zip(_SITE, place, strict=True):
                filled[name][rows] = value
    return filled


def _take_common_site(numbers: dict[str, FloatArray]) -> dict[str, float]:
    """Take the location of the telescopes out of the columns if it is one for all runs."""
    values = {name: np.unique(numbers[name]) for name in _SITE}
    # NaN is a value here: a run without location does not get that of the others.
    if any(len(value) != 1 for value in values.values()):
        return {}
    for name in _SITE:
        numbers[name] = np.full_like(numbers[name], np.nan)
    return {name: float(value[0]) for name, value in values.items() if np.isfinite(value[0])}
