"""Keywords of GADF as numbers with units, and the place of the telescopes.

https://gamma-astro-data-formats.readthedocs.io/en/v0.3/data_storage/obs_index/index.html
https://gamma-astro-data-formats.readthedocs.io/en/v0.3/events/events.html

A unit that a file writes is obeyed: TUNIT of a column, TIMEUNIT for the times of a header, and
``[km]`` at the beginning of a comment (FITS Standard 4.0, section 4.3.2). Without one it is that of
the specification.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from astropy import units as u
from astropy.coordinates import EarthLocation
from astropy.table import Table
from numpy.typing import NDArray

from obscluster.exceptions import DataError
from obscluster.gadf.header import written_unit
from obscluster.gadf.units import conversion_factor, convertible_unit, parse_unit

__all__ = [
    "LOCATION_KEYS",
    "NUMBERS",
    "SITES",
    "HeaderNumbers",
    "Keywords",
    "Number",
    "ObservationMeta",
    "column_numbers",
    "factor_of",
    "location_from_keywords",
    "location_of_telescope",
    "make_meta",
    "number_of",
    "unit_of_column",
]


class Number(NamedTuple):
    """A number that describes a run; a value beyond its limits stands for damage, or for unknown.

    Parameters
    ----------
    description : str
        One line.
    unit : `~astropy.units.UnitBase` or None
        Its unit by GADF; None where files write it in units that astropy does not know.
    low, high : float
        Smallest and largest value, in the unit.
    """

    description: str
    unit: u.UnitBase | None = u.one
    low: float = -np.inf
    high: float = np.inf


# 317 years: nothing lasts longer, or counts from longer ago.
_SECONDS = 1e10

NUMBERS = {
    "RA_PNT": Number("Pointing right ascension", u.deg, -900, 900),
    "DEC_PNT": Number("Pointing declination", u.deg, -90, 90),
    "GLON_PNT": Number("Pointing Galactic longitude", u.deg, -900, 900),
    "GLAT_PNT": Number("Pointing Galactic latitude", u.deg, -90, 90),
    "ZEN_PNT": Number("Zenith angle", u.deg, 0, 180),
    "ALT_PNT": Number("Altitude", u.deg, -90, 90),
    "AZ_PNT": Number("Azimuth", u.deg, -900, 900),
    "RA_OBJ": Number("Target right ascension", u.deg, -900, 900),
    "DEC_OBJ": Number("Target declination", u.deg, -90, 90),
    "OFFSET_OBJ": Number("Offset of the target", u.deg, 0, 180),
    "ONTIME": Number("Time with dead time", u.s, 0, _SECONDS),
    "LIVETIME": Number("Live time", u.s, 0, _SECONDS),
    "DEADC": Number("Dead time correction", u.one, 0, 100),
    "TSTART": Number("Start time", u.s, -_SECONDS, _SECONDS),
    "TSTOP": Number("Stop time", u.s, -_SECONDS, _SECONDS),
    "N_TELS": Number("Number of telescopes", u.one, 0),
    "EVENT_COUNT": Number("Number of events", u.one, 0),
    "MUONEFF": Number("Muon efficiency", u.one, 0),
    "NSBLEVEL": Number("Night-sky background", None),
    "BROKPIX": Number("Fraction of broken pixels", u.one, 0),
    "TRGRATE": Number("System trigger rate", u.Hz, 0),
    "ZTRGRATE": Number("Zenith-equivalent trigger rate", u.Hz, 0),
    "AIRTEMP": Number("Air temperature in deg C", None),
    "PRESSURE": Number("Air pressure", u.hPa, 0),
    "RELHUM": Number("Relative humidity", None),
    "SAFE_ENERGY_LO": Number("Lowest safe energy", u.TeV, 0),
    "SAFE_ENERGY_HI": Number("Highest safe energy", u.TeV, 0),
    "GEOLON": Number("Longitude of the telescopes", u.deg, -360, 360),
    "GEOLAT": Number("Latitude of the telescopes", u.deg, -90, 90),
    "ALTITUDE": Number("Altitude of the telescopes", u.m, -1e5, 1e5),
    "GEOALT": Number("Altitude of the telescopes", u.m, -1e5, 1e5),
}
"""GADF name to what it is."""

# Beside these: places of FITS 4.0, and the numbers of a response's header that are used.
_UNITS = {name: number.unit for name, number in NUMBERS.items()} | {
    **dict.fromkeys(("OBSGEO-L", "OBSGEO-B"), u.deg),
    **dict.fromkeys(("OBSGEO-H", "OBSGEO-X", "OBSGEO-Y", "OBSGEO-Z"), u.m),
}
_TIMES = ("TSTART", "TSTOP")


def number_of(name: str, value: Any) -> float:
    """Value in the unit of GADF, NaN where it is missing, no number, or beyond its limits.

    Parameters
    ----------
    name : str
        GADF name; of others, any finite number is good.
    value : object
        Number, also as text, as some productions write it.
    """
    if value is None or isinstance(value, bool | np.bool_):
        return np.nan
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return np.nan
    spec = NUMBERS.get(name)
    low, high = (-np.inf, np.inf) if spec is None else (spec.low, spec.high)
    return number if low <= number <= high and abs(number) < np.inf else np.nan


class HeaderNumbers(Mapping[str, Any]):
    """A header whose numbers are in the units of GADF.

    Parameters
    ----------
    header : mapping
        As it was read.

    Raises
    ------
    ValueError
        On looking at a number whose unit cannot be understood.
    """

    def __init__(self, header: Mapping[str, Any]):
        self._header = header

    def __getitem__(self, key: str) -> Any:
        value = self._header[key]
        unit = _UNITS.get(key)
        if unit is None or unit == u.one or value is None:
            return value
        text = written_unit(self._header, key)
        if not text and key in _TIMES:
            text = str(self._header.get("TIMEUNIT") or "").strip()
        if not text:
            return value
        factor = conversion_factor(text, unit)
        if factor is None:
            if key not in _TIMES:
                # Brackets in a comment may hold anything.
                return value
            raise ValueError(f"unit {text!r} of {key} does not convert to {unit}")
        try:
            return value if factor == 1 else float(value) * factor
        except (TypeError, ValueError):
            return value

    def __iter__(self) -> Iterator[str]:
        return iter(self._header)

    def __len__(self) -> int:
        return len(self._header)

    def __contains__(self, key: object) -> bool:
        return key in self._header


def unit_of_column(name: str, text: str, header: Mapping[str, Any]) -> u.UnitBase | None:
    """Unit of a column of an index, None where GADF has none for it.

    Parameters
    ----------
    name : str
        The column.
    text : str
        Its unit as written, empty if there is none.
    header : mapping
        Header of the index, whose TIMEUNIT counts for times without unit.

    Raises
    ------
    ValueError
        If the unit that is written is none that converts to that of GADF.
    """
    expected = _UNITS.get(name)
    if expected is None:
        return None
    if not text and name in _TIMES:
        text = str(header.get("TIMEUNIT") or "").strip()
    if not text:
        return expected
    unit = convertible_unit(text, expected)
    if unit is None and expected == u.one and isinstance(parse_unit(text), u.UnrecognizedUnit):
        # A word for what is counted.
        return expected
    if unit is None:
        wanted = str(expected) or "a pure number"
        raise ValueError(f"column {name} has the unit {text!r}, which does not convert to {wanted}")
    return unit


@lru_cache(maxsize=256)
def factor_of(name: str, unit: u.UnitBase | None) -> float:
    """Factor from the unit of a column to that of GADF; 1 where one of them has none.

    Raises
    ------
    ValueError
        If it does not convert.
    """
    expected = _UNITS.get(name)
    if expected is None or unit is None:
        return 1.0
    return float((unit_of_column(name, str(unit), {}) or u.one).to(expected))


def column_numbers(table: Table, name: str) -> NDArray[np.float64]:
    """Column of an index in the unit of GADF, NaN where there is no (usable) number.

    Parameters
    ----------
    table : `~astropy.table.Table`
        The index.
    name : str
        GADF name; of another column, in its own unit.

    Returns
    -------
    values : `~numpy.ndarray`
        Shape (n_obs,); all NaN if there is no such column, or it holds several values a row.

    Raises
    ------
    ValueError
        If its unit does not convert to that of GADF.
    """
    unknown = np.full(len(table), np.nan)
    if name not in table.colnames or table[name].ndim != 1:
        return unknown
    column = table[name]
    masked = np.ma.asarray(column.value if isinstance(column, u.Quantity) else column)
    if masked.dtype.kind in "fiu":
        values = np.ma.filled(masked.astype(float), np.nan)
    else:
        # Numbers come as text in some productions.
        given = np.ma.filled(masked.astype(object), None)
        values = np.array([number_of("", value) for value in given.tolist()], dtype=float)
    spec = NUMBERS.get(name)
    if spec is None:
        return np.where(np.isfinite(values), values, np.nan)
    values = values * factor_of(name, column.unit)
    with np.errstate(invalid="ignore"):
        inside = (values >= spec.low) & (values <= spec.high) & (np.abs(values) < np.inf)
    return np.where(inside, values, np.nan)


_GEOCENTRIC = ("OBSGEO-X", "OBSGEO-Y", "OBSGEO-Z")
LOCATION_KEYS = (
    *("GEOLON", "GEOLAT", "GEOALT", "ALTITUDE", "OBSGEO-L", "OBSGEO-B", "OBSGEO-H"),
    *_GEOCENTRIC,
)
"""Keywords that say where: those of GADF, and those of FITS 4.0 (used by LST and MAGIC)."""

SITES = {
    # Headers of the public data releases: H.E.S.S. DL3 DR1, FACT open data.
    "HESS": (16.50022222, -23.27177778, 1835.0),
    "FACT": (-17.890701, 28.761795, 2199.4),
    # Constants of the programs that write these data: V2DL3, and the site of gammapy.data.
    "VERITAS": (-110.952408, 31.674951, 1277.1),
    "MAGIC": (-17.89, 28.76194444, 2200.0),
    # gammapy.data.observatory_locations: ctao_north (LST-1 is a hundred metres away), ctao_south.
    "CTAN": (-17.892005, 28.762164, 2147.0),
    "CTAS": (-70.31634444, -24.68342778, 2150.0),
}
"""Site to longitude and latitude in degrees (east and north positive) and height in metres."""

_ALIASES = {
    **dict.fromkeys(("CTAONORTH", "CTAON", "CTANORTH", "LST", "LST1", "LSTN"), "CTAN"),
    **dict.fromkeys(("CTAOSOUTH", "CTAOS", "CTASOUTH"), "CTAS"),
    **dict.fromkeys(("MAGIC1", "MAGIC2", "MAGICI", "MAGICII"), "MAGIC"),
    **dict.fromkeys(("HESSI", "HESSII"), "HESS"),
}
# Distances from the centre of the Earth that are a place on it, in metres.
_EARTH = (6.3e6, 6.4e6)
_RANGES = (("longitude", 360.0), ("latitude", 90.0), ("height", 20_000.0))


def location_from_keywords(values: Mapping[str, Any]) -> EarthLocation | None:
    """Location from GEOLON, GEOLAT and ALTITUDE (or GEOALT), OBSGEO-L, -B and -H, or -X, -Y and -Z.

    Parameters
    ----------
    values : mapping
        Keywords; numbers may be text.

    Returns
    -------
    location : `~astropy.coordinates.EarthLocation` or None
        None if a keyword is missing.

    Raises
    ------
    ValueError
        If one of the keywords is not a number, or not a place on Earth.
    """
    height = "GEOALT" if values.get("GEOALT") is not None else "ALTITUDE"
    for keys in (("GEOLON", "GEOLAT", height), ("OBSGEO-L", "OBSGEO-B", "OBSGEO-H")):
        if all(values.get(key) is not None for key in keys):
            return _location(
                *[_number(key, values[key], *r) for key, r in list(zip(keys, _RANGES, strict=True))]
            )
    if all(values.get(key) is not None for key in _GEOCENTRIC):
        # Metres from the centre of the Earth (FITS 4.0, section 8.4.1).
        x, y, z = (_number(key, values[key], "distance in m", 1e7) for key in _GEOCENTRIC)
        place = EarthLocation.from_geocentric(x * u.m, y * u.m, z * u.m)
        _number("height of OBSGEO-X, -Y, -Z", float(place.height.to_value(u.m)), *_RANGES[2])
        return place
    return None


def location_of_telescope(name: str) -> EarthLocation | None:
    """Location of an observatory by the keyword TELESCOP; None if it is not known.

    Examples
    --------
    >>> location_of_telescope("H.E.S.S.").lat
    <Latitude -23.27177778 deg>
    """
    letters = re.sub(r"[^A-Z0-9]", "", name.upper())
    site = SITES.get(_ALIASES.get(letters, letters))
    return None if site is None else _location(*site)


def _location(lon: float, lat: float, height: float) -> EarthLocation:
    return EarthLocation.from_geodetic(lon=lon * u.deg, lat=lat * u.deg, height=height * u.m)


def _number(key: str, value: Any, what: str, limit: float) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise ValueError(f"{key} = {value!r}; expected a number") from None
    if not (np.isfinite(number) and abs(number) <= limit):
        raise ValueError(f"{key} = {value!r}; expected a {what} of at most {limit:g}")
    return number


@dataclass(frozen=True)
class ObservationMeta:
    """What is known of an observation beside its data.

    Parameters
    ----------
    obs_id : int
        Identifier.
    location : `~astropy.coordinates.EarthLocation` or None
        Place of the telescopes.
    deadtime_fraction : float
        Part of the time in which nothing could be recorded, by DEADC, or LIVETIME over ONTIME; NaN
        where neither is known.
    optional : mapping
        Every keyword of the EVENTS header and every column of the obs-index by its name, such as
        ``MUONEFF``; where both have it, the header counts, which is more precise.
    """

    obs_id: int
    location: EarthLocation | None
    deadtime_fraction: float
    optional: Mapping[str, Any] = field(default_factory=dict)


class Keywords(Mapping[str, Any]):
    """What header and index say, as one mapping: the header counts, where it gives a value.

    Nothing is copied, since of hundreds of keywords a few are asked for.

    Parameters
    ----------
    index_row, header : mapping
        Columns of the obs-index, and the EVENTS header.
    """

    def __init__(self, index_row: Mapping[str, Any], header: Mapping[str, Any]):
        self._index_row = index_row
        self._header = header

    def __getitem__(self, key: str) -> Any:
        value = self._header.get(key)
        if value is None:
            return self._index_row[key]
        # What is no number does not hide one.
        unusable = key in NUMBERS and key in self._index_row and np.isnan(number_of(key, value))
        return self._index_row[key] if unusable else value

    def __iter__(self) -> Iterator[str]:
        given = (key for key, value in self._header.items() if value is not None)
        return iter(dict.fromkeys([*self._index_row, *given]))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __repr__(self) -> str:
        return repr(dict(self))


def make_meta(
    obs_id: int,
    index_row: Mapping[str, Any],
    header: Mapping[str, Any],
    more_keywords: Callable[[], Mapping[str, Any]] | None = None,
) -> ObservationMeta:
    """Merge what index and header say.

    Parameters
    ----------
    obs_id : int
        Identifier.
    index_row, header : mapping
        Columns of the obs-index, and the EVENTS header.
    more_keywords : callable, optional
        Reads the header of the pointing table, for a location that is nowhere else: LST and MAGIC
        have it there.

    Raises
    ------
    ValueError
        If a number of the location is none.
    """
    optional = Keywords(index_row, header)
    deadc = number_of("DEADC", optional.get("DEADC"))
    if np.isnan(deadc):
        livetime, ontime = (number_of(key, optional.get(key)) for key in ("LIVETIME", "ONTIME"))
        deadc = livetime / ontime if ontime > 0 else np.nan
    location = location_from_keywords(optional)
    if location is None and more_keywords is not None:
        with suppress(DataError):
            location = location_from_keywords(more_keywords())
    if location is None:
        location = location_of_telescope(str(optional.get("TELESCOP") or ""))
    return ObservationMeta(obs_id, location, 1.0 - deadc, optional)
