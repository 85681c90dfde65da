"""Where the telescopes looked: fixed on the sky, fixed above the horizon, or by a pointing table.

https://gamma-astro-data-formats.readthedocs.io/en/v0.3/events/pointing.html
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from astropy import units as u
from astropy.coordinates import AltAz, EarthLocation, SkyCoord
from astropy.time import Time
from numpy.typing import NDArray

from obscluster.exceptions import FormatError
from obscluster.gadf.fits import HDU, read_numbers, read_time_ref
from obscluster.gadf.header import Header
from obscluster.gadf.time import quiet_times

__all__ = ["Pointing", "PointingTable", "read_pointing"]

_COLUMNS = (("RA_PNT", "DEC_PNT"), ("AZ_PNT", "ALT_PNT"))
# Values of OBS_MODE for which one direction on the sky does not tell (OGIP, GADF 0.3).
_MOVING = ("SLEW", "SCAN", "RASTER")
_LIMITS = {"DEC_PNT": 90.0, "ALT_PNT": 90.0}


@dataclass(frozen=True, eq=False)
class PointingTable:
    """Pointing directions at a number of times.

    Between the times, the direction moves along the chord between unit vectors, so that neither the
    poles nor the way from 360 to 0 deg matter; before the first and after the last time it stays.

    Parameters
    ----------
    time_ref : `~astropy.time.Time`
        What times count from.
    seconds : `~numpy.ndarray`
        Times in seconds, rising, shape (n,).
    radec, azalt : `~numpy.ndarray`, optional
        Right ascension and declination, azimuth and altitude, in degrees, shape (2, n); at least
        one of them.
    header : mapping
        FITS keywords of the HDU.
    """

    time_ref: Time
    seconds: NDArray[np.float64]
    radec: NDArray[np.float64] | None
    azalt: NDArray[np.float64] | None
    header: Header = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.seconds)

    @property
    def time(self) -> Time:
        """Times, shape (n,)."""
        with quiet_times():
            return self.time_ref + self.seconds * u.s

    def get_icrs(self, time: Time) -> SkyCoord | None:
        """Direction in ICRS at one or more times; None if the table has no RA_PNT and DEC_PNT."""
        if self.radec is None:
            return None
        lon, lat = self._interpolate(self.radec, time)
        return SkyCoord(lon, lat, unit="deg", frame="icrs")

    def get_altaz(self, time: Time, location: EarthLocation) -> SkyCoord | None:
        """Altitude and azimuth at one or more times; None if the table has neither."""
        if self.azalt is None:
            return None
        az, alt = self._interpolate(self.azalt, time)
        frame = AltAz(obstime=time, location=location)
        return SkyCoord(az=az * u.deg, alt=alt * u.deg, frame=frame)

    def _interpolate(
        self, angles: NDArray[np.float64], time: Time
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        with quiet_times():
            seconds = (time - self.time_ref).to_value(u.s)
        lon, lat = np.radians(angles)
        vectors = (np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat))
        x, y, z = (np.interp(seconds, self.seconds, component) for component in vectors)
        return np.degrees(np.arctan2(y, x)) % 360.0, np.degrees(np.arctan2(z, np.hypot(x, y)))


class Pointing:
    """Where an observation looked, by its keywords and its pointing table.

    Of a drift, the fixed altitude and azimuth count; of anything else, the fixed direction on the
    sky. The table counts where that is missing, and where OBS_MODE says that there is no such
    thing (SLEW, SCAN, RASTER).

    Parameters
    ----------
    values : mapping
        Keywords OBS_MODE, RA_PNT, DEC_PNT, ALT_PNT (or ZEN_PNT), AZ_PNT, where there are any.
    find_location : callable
        Tells the place of the telescopes; None if nobody knows.
    read_table : callable
        Reads the pointing table; gives None if there is none.
    label : str
        Names the observation in errors.
    path : `~pathlib.Path`, optional
        Its file.
    """

    def __init__(
        self,
        values: Mapping[str, Any],
        find_location: Callable[[], EarthLocation | None],
        read_table: Callable[[], PointingTable | None],
        label: str,
        path: Path | None = None,
    ):
        self._values = values
        self._find_location = find_location
        self._read_table = read_table
        self._label = label
        self._path = path

    @property
    def mode(self) -> str:
        """OBS_MODE in upper case, empty if there is none."""
        return str(self._values.get("OBS_MODE", "")).strip().upper()

    @cached_property
    def fixed_radec(self) -> tuple[float, float] | None:
        """Right ascension and declination in degrees, if they are what counts."""
        if self.mode == "DRIFT" and (self._has_altaz or self._table is not None):
            return None
        if self.mode in _MOVING and self._table is not None:
            return None
        if all(self._has(key) for key in _COLUMNS[0]):
            return self._number("RA_PNT"), self._number("DEC_PNT")
        if self.mode != "DRIFT" and self._table is None:
            # Names the one that is missing.
            return self._number("RA_PNT"), self._number("DEC_PNT")
        return None

    def get_icrs(self, time: Time | None = None) -> SkyCoord:
        """Direction in ICRS; without a fixed one, at a time.

        Raises
        ------
        FormatError
            If the direction is nowhere given.
        """
        if self.fixed_radec is not None:
            return SkyCoord(*self.fixed_radec, unit="deg", frame="icrs")
        found = None if self._is_fixed_altaz or self._table is None else self._table.get_icrs(time)
        if found is not None:
            return found
        with quiet_times():
            return self.get_altaz(time).icrs

    def get_altaz(self, time: Time) -> SkyCoord:
        """Direction as altitude and azimuth at a time.

        Raises
        ------
        FormatError
            If the direction, or the location, is nowhere given.
        """
        location = self._require_location()
        frame = AltAz(obstime=time, location=location)
        if self.fixed_radec is None and not self._is_fixed_altaz and self._table is not None:
            found = self._table.get_altaz(time, location)
            if found is not None:
                return found
        elif self.fixed_radec is None:
            az = self._number("AZ_PNT")
            return SkyCoord(alt=self._altitude() * u.deg, az=az * u.deg, frame=frame)
        with quiet_times():
            return self.get_icrs(time).transform_to(frame)

    @cached_property
    def _table(self) -> PointingTable | None:
        return self._read_table()

    @property
    def _has_altaz(self) -> bool:
        return self._has("AZ_PNT") and (self._has("ALT_PNT") or self._has("ZEN_PNT"))

    @property
    def _is_fixed_altaz(self) -> bool:
        return self.mode == "DRIFT" and self._has_altaz

    def _has(self, key: str) -> bool:
        value = self._values.get(key)
        return value is not None and str(value).strip().lower() not in ("", "nan")

    def _altitude(self) -> float:
        if self._has("ALT_PNT") or not self._has("ZEN_PNT"):
            return self._number("ALT_PNT")
        return 90.0 - self._number("ZEN_PNT")

    def _number(self, key: str) -> float:
        if not self._has(key):
            raise self._missing(key)
        value = self._values[key]
        try:
            # Numbers come as text in some productions.
            number = float(value)
        except (TypeError, ValueError):
            raise self._error(f"{key} = {value!r}; expected a number") from None
        limit = _LIMITS.get(key, 720.0)
        if not abs(number) <= limit:
            raise self._error(f"{key} = {value!r}; expected -{limit:g} to {limit:g} deg")
        return number

    def _require_location(self) -> EarthLocation:
        location = self._find_location()
        if location is None:
            telescope = str(self._values.get("TELESCOP") or "").strip()
            raise self._missing(
                "GEOLON, GEOLAT or ALTITUDE",
                f", and the site of TELESCOP = {telescope!r} is not known",
            )
        return location

    def _missing(self, key: str, more: str = "") -> FormatError:
        return self._error(f"{key} is neither in the EVENTS header nor in the obs-index{more}")

    def _error(self, message: str) -> FormatError:
        return FormatError(f"{self._label}: {message}", self._path)


def read_pointing(hdu: HDU) -> PointingTable:
    """Pointing table from its HDU.

    Parameters
    ----------
    hdu : `~obscluster.gadf.fits.HDU`
        The POINTING table: TIME, with RA_PNT and DEC_PNT, or ALT_PNT and AZ_PNT, or both. Rows
        without a number are left out.

    Raises
    ------
    FormatError
        If columns, rows or the reference time are missing.
    """
    time_ref = read_time_ref(hdu)
    seconds = read_numbers(hdu, "TIME", u.s)
    good = np.isfinite(seconds)
    angles: list[NDArray[np.float64] | None] = []
    for lon, lat in _COLUMNS:
        if lon in hdu and lat in hdu:
            pair = np.stack([read_numbers(hdu, lon, u.deg), read_numbers(hdu, lat, u.deg)])
            valid = (np.abs(pair[0]) <= 720) & (np.abs(pair[1]) <= 90)
            # Columns that nobody filled are none.
            if valid.any():
                good &= valid
                angles.append(pair)
                continue
        angles.append(None)
    if all(pair is None for pair in angles) or not good.any():
        raise hdu.error("no time with a direction; it needs TIME, RA_PNT and DEC_PNT")
    order = np.flatnonzero(good)[np.argsort(seconds[good], kind="stable")]
    radec, azalt = (None if pair is None else pair[:, order] for pair in angles)
    return PointingTable(time_ref, seconds[order], radec, azalt, hdu.header)
