"""Numbers of a run in GADF: keywords of EVENTS headers, and columns of an obs-index.

https://gamma-astro-data-formats.readthedocs.io/en/v0.3/data_storage/obs_index/index.html
https://gamma-astro-data-formats.readthedocs.io/en/v0.3/events/events.html

A unit that a file writes is obeyed: TUNIT of a column, TIMEUNIT for the times of a header, and
``[km]`` at the beginning of a comment (FITS Standard 4.0, section 4.3.2). Without one it is that of
the specification.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from astropy import units as u
from astropy.table import Table
from numpy.typing import NDArray

from obscluster.gadf.header import written_unit
from obscluster.gadf.units import conversion_factor, convertible_unit, parse_unit

__all__ = [
    "NUMBERS",
    "HeaderNumbers",
    "Number",
    "column_numbers",
    "factor_of",
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
