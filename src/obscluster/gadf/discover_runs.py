"""The obs-index of an archive without index files, from the headers of event lists.

https://gamma-astro-data-formats.readthedocs.io/en/v0.3/data_storage/obs_index/index.html

What a header does not say, or says in a way that cannot be used, is missing: NaN, masked, or empty
text. It is computed where the specification says how.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from astropy import units as u
from astropy.coordinates import AltAz, EarthLocation, SkyCoord
from astropy.table import Column, MaskedColumn, Table
from astropy.time import Time
from astropy.utils import iers
from numpy.typing import NDArray

from obscluster.gadf.header import Header
from obscluster.gadf.index import whole_number
from obscluster.gadf.keywords import (
    LOCATION_KEYS,
    NUMBERS,
    location_from_keywords,
    location_of_telescope,
    number_of,
)
from obscluster.gadf.time import time_ref_from_header
from obscluster.version import __version__

__all__ = [
    "GADF",
    "KEYWORDS",
    "TIME_KEYS",
    "Times",
    "common_times",
    "dates",
    "earth_rotation",
    "fill_pointing",
    "make_obs_index",
]

FloatArray = NDArray[np.float64]

TIME_KEYS = ("MJDREFI", "MJDREFF", "MJDREF", "TIMESYS")
"""Keywords that say from when times count."""

# Years 1941 to 2132: outside, a header is damaged, and astronomical time is not known.
_FIRST_MJD, _LAST_MJD = 30000, 100000


@dataclass(frozen=True)
class Times:
    """Start and stop of runs, in seconds since one reference.

    Parameters
    ----------
    reference : `~astropy.time.Time` or None
        The reference; None if no header has any.
    meta : dict
        Its keywords.
    start, stop : `~numpy.ndarray`
        Seconds, NaN where not known, shape (n_obs,).
    """

    reference: Time | None
    meta: dict[str, Any]
    start: FloatArray
    stop: FloatArray

    @property
    def middle(self) -> FloatArray:
        """Middle of the runs in seconds, NaN where it is not known or no sensible time."""
        return self.sensible(0.5 * (self.start + self.stop))

    def sensible(self, seconds: FloatArray) -> FloatArray:
        """Seconds, NaN where they lead to no sensible time."""
        if self.reference is None:
            return np.full_like(seconds, np.nan)
        mjd = self.reference.mjd + seconds / 86400
        return np.where((mjd > _FIRST_MJD) & (mjd < _LAST_MJD), seconds, np.nan)


@contextmanager
def earth_rotation() -> Iterator[None]:
    """Let astropy compute with the Earth rotation table that comes with it.

    Never with one from the network: the same files have to give the same index. After the end of
    the table, the rotation is off by less than a second of time, of which astropy would warn.
    """
    with warnings.catch_warnings(), iers.earth_orientation_table.set(iers.IERS_B.open()):
        warnings.simplefilter("ignore")
        yield


def common_times(headers: Sequence[Header], start: FloatArray, stop: FloatArray) -> Times:
    """Times relative to the reference of the first run that has one.

    Parameters
    ----------
    headers : sequence of dict
        With the keywords of the reference.
    start, stop : `~numpy.ndarray`
        Seconds since the reference of each header, shape (n_obs,).

    Returns
    -------
    times : `Times`
        Those of a run without reference are NaN, unless no run has one.
    """
    keys = [tuple(str(header.get(key)) for key in TIME_KEYS) for header in headers]
    references = {key: _reference(headers[keys.index(key)]) for key in dict.fromkeys(keys)}
    first = next((key for key in keys if references[key] is not None), None)
    if first is None:
        return Times(None, {}, start, stop)
    shift = np.array([0.0 if key == first else np.nan for key in keys])
    with earth_rotation():
        for key, reference in references.items():
            if key != first and reference is not None:
                seconds = float((reference - references[first]).to_value("s"))
                shift[[other == key for other in keys]] = seconds
    header = headers[keys.index(first)]
    # Keywords of the reference, in the form of the specification.
    if "MJDREFI" in header:
        whole, fraction = float(header["MJDREFI"]), float(header.get("MJDREFF") or 0.0)
    else:
        whole, fraction = 0.0, float(header["MJDREF"])
    day = np.floor(whole + fraction)
    if not whole.is_integer() or not 0 <= fraction < 1:
        whole, fraction = day, (whole - day) + fraction
    meta: dict[str, Any] = {"MJDREFI": int(whole), "MJDREFF": fraction, "TIMEUNIT": "s"}
    meta["TIMESYS"] = str(header.get("TIMESYS") or "TT").strip().upper()
    frame = header.get("TIMEREF")
    if isinstance(frame, str) and frame.isprintable() and frame.isascii() and frame.strip():
        meta["TIMEREF"] = frame.strip().upper()
    return Times(references[first], meta, start + shift, stop + shift)


def dates(times: Times, seconds: FloatArray) -> list[str]:
    """Date and time of day in UTC, such as 2004-03-26T02:56:42.000; empty if not known."""
    seconds = times.sensible(seconds)
    known = np.isfinite(seconds)
    found = np.full(len(seconds), "", dtype="U23")
    if times.reference is not None and known.any():
        with earth_rotation():
            found[known] = (times.reference + seconds[known] * u.s).utc.isot
    return [str(stamp) for stamp in found]


def _reference(header: Header) -> Time | None:
    """Reference of a header, None if it has none that can be used."""
    try:
        reference = time_ref_from_header(header)
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
    # The local time of an unknown place is no time.
    usable = reference.scale != "local" and 0 <= reference.mjd < _LAST_MJD
    return reference if usable else None


BoolArray = NDArray[np.bool_]


def fill_pointing(angles: dict[str, FloatArray], drift: BoolArray, times: Times) -> None:
    """Compute missing directions, in place, all runs at once.

    Parameters
    ----------
    angles : dict
        RA_PNT, DEC_PNT, GLON_PNT, GLAT_PNT, ZEN_PNT, ALT_PNT, AZ_PNT, GEOLON and GEOLAT in
        degrees, ALTITUDE in metres, shape (n_obs,) each. NaN is replaced where possible.
    drift : `~numpy.ndarray`
        Where the telescopes stood still in altitude and azimuth: the right ascension is then that
        of the middle of the run, whatever the header says.
    times : `Times`
        Start and stop.
    """
    _complete(angles, "ALT_PNT", 90.0 - angles["ZEN_PNT"])
    middle = times.middle
    placed = np.isfinite(middle) & _finite(angles, "GEOLON", "GEOLAT", "ALTITUDE")

    rows = np.flatnonzero(drift & placed & _finite(angles, "ALT_PNT", "AZ_PNT"))
    if len(rows):
        horizontal = SkyCoord(
            alt=angles["ALT_PNT"][rows] * u.deg,
            az=angles["AZ_PNT"][rows] * u.deg,
            frame=_frame(angles, times, middle, rows),
        )
        with earth_rotation():
            sky = horizontal.icrs
        for name, values in (("RA_PNT", sky.ra), ("DEC_PNT", sky.dec)):
            angles[name] = angles[name].copy()
            angles[name][rows] = values.deg
        for name in ("GLON_PNT", "GLAT_PNT"):
            angles[name] = np.where(drift, np.nan, angles[name])

    known = _finite(angles, "RA_PNT", "DEC_PNT")
    rows = np.flatnonzero(~drift & placed & known & ~_finite(angles, "ALT_PNT", "AZ_PNT"))
    if len(rows):
        with earth_rotation():
            found = _pointing(angles, rows).transform_to(_frame(angles, times, middle, rows))
        for name, values in (("ALT_PNT", found.alt), ("AZ_PNT", found.az)):
            _complete(angles, name, _scatter(values.deg, rows, len(known)))
    _complete(angles, "ZEN_PNT", 90.0 - angles["ALT_PNT"])

    rows = np.flatnonzero(known & ~_finite(angles, "GLON_PNT", "GLAT_PNT"))
    if len(rows):
        galactic = _pointing(angles, rows).galactic
        for name, values in (("GLON_PNT", galactic.l), ("GLAT_PNT", galactic.b)):
            _complete(angles, name, _scatter(values.deg, rows, len(known)))


def _finite(angles: dict[str, FloatArray], *names: str) -> BoolArray:
    return np.all([np.isfinite(angles[name]) for name in names], axis=0)


def _complete(angles: dict[str, FloatArray], name: str, values: FloatArray) -> None:
    angles[name] = np.where(np.isfinite(angles[name]), angles[name], values)


def _scatter(values: FloatArray, rows: NDArray[np.intp], n_obs: int) -> FloatArray:
    out = np.full(n_obs, np.nan)
    out[rows] = values
    return out


def _pointing(angles: dict[str, FloatArray], rows: NDArray[np.intp]) -> SkyCoord:
    return SkyCoord(angles["RA_PNT"][rows] * u.deg, angles["DEC_PNT"][rows] * u.deg, frame="icrs")


def _frame(
    angles: dict[str, FloatArray], times: Times, middle: FloatArray, rows: NDArray[np.intp]
) -> AltAz:
    location = EarthLocation.from_geodetic(
        lon=angles["GEOLON"][rows] * u.deg,
        lat=angles["GEOLAT"][rows] * u.deg,
        height=angles["ALTITUDE"][rows] * u.m,
    )
    return AltAz(obstime=times.reference + middle[rows] * u.s, location=location)


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
    # Split dates that hold the time of day, and compute missing ones.
    for end, computed in (("OBS", dates(times, times.start)), ("END", dates(times, times.stop))):
        date_words, time_words = texts[f"DATE-{end}"], texts[f"TIME-{end}"]
        for row, stamp in enumerate(computed):
            text = date_words[row] or stamp
            date, _, time = text.partition("T")
            date_words[row], time_words[row] = date, time_words[row] or time
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
