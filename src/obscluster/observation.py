"""One observation: its parts are read when first asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from astropy import units as u
from astropy.coordinates import AltAz, Angle, EarthLocation, SkyCoord
from astropy.table import Row
from astropy.time import Time

from obscluster.exceptions import FormatError, MissingDataError
from obscluster.gadf.events import GTI, EventList, read_events, read_gti
from obscluster.gadf.fits import FitsFile
from obscluster.gadf.hdu import HDU
from obscluster.gadf.hdu_index import HDULocation
from obscluster.gadf.header import Header
from obscluster.gadf.irf import IRF, read_irf

__all__ = ["Observation", "ObservationMeta"]

IRF_TYPES = ("aeff", "edisp", "psf", "bkg", "rad_max")
_LOCATION_KEYS = ("GEOLON", "GEOLAT", "GEOALT", "ALTITUDE")

T = TypeVar("T")


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
        Part of the time in which nothing could be recorded.
    optional : dict
        Every keyword of the EVENTS header and every column of the obs-index by its name, such as
        ``MUONEFF``; where both have it, the header counts, which is more precise.
    """

    obs_id: int
    location: EarthLocation | None
    deadtime_fraction: float
    optional: Mapping[str, Any] = field(default_factory=dict)


class Observation:
    """One observation; files are opened when something is first asked for.

    Parameters
    ----------
    obs_id : int
        Identifier.
    locations : mapping
        HDU type to `~obscluster.gadf.hdu_index.HDULocation`.
    row : `~astropy.table.Row`, optional
        The observation in the obs-index, for what the headers do not say.
    """

    def __init__(self, obs_id: int, locations: Mapping[str, HDULocation], row: Row | None = None):
        self.obs_id = obs_id
        self.locations = dict(locations)
        self._row = row

    def __repr__(self) -> str:
        return f"<Observation {self.obs_id}: {', '.join(self.locations)}>"

    @property
    def available_hdus(self) -> list[str]:
        """HDU types that the index lists."""
        return list(self.locations)

    @property
    def available_irfs(self) -> list[str]:
        """Response types that the index lists."""
        return [name for name in IRF_TYPES if name in self.locations]

    @cached_property
    def events(self) -> EventList:
        """Event list."""
        return self._read("events", read_events)

    @cached_property
    def gti(self) -> GTI:
        """Good time intervals."""
        return self._read("gti", read_gti)

    @cached_property
    def aeff(self) -> IRF | None:
        """Effective area, None if the index lists none."""
        return self.read_irfs("aeff").get("aeff")

    @cached_property
    def edisp(self) -> IRF | None:
        """Energy dispersion, None if the index lists none."""
        return self.read_irfs("edisp").get("edisp")

    @cached_property
    def psf(self) -> IRF | None:
        """Point-spread function, None if the index lists none."""
        return self.read_irfs("psf").get("psf")

    @cached_property
    def bkg(self) -> IRF | None:
        """Background, None if the index lists none."""
        return self.read_irfs("bkg").get("bkg")

    @cached_property
    def rad_max(self) -> IRF | None:
        """Directional cut of a point-like response, None if the index lists none."""
        return self.read_irfs("rad_max").get("rad_max")

    def read_irfs(self, *hdu_types: str) -> dict[str, IRF]:
        """Read several responses, each file in one pass and no further than needed.

        Nothing is kept: use this for one look at many observations.

        Parameters
        ----------
        *hdu_types : str
            Among aeff, edisp, psf, bkg and rad_max.

        Returns
        -------
        irfs : dict
            HDU type to response, without those that the index does not list.

        Raises
        ------
        DataError
            If a file or an HDU is missing or damaged.
        """
        by_file: dict[Path, list[HDULocation]] = {}
        for name in hdu_types:
            location = self.locations.get(name)
            if location is not None:
                by_file.setdefault(location.existing_path, []).append(location)
        irfs = {}
        for path, locations in by_file.items():
            with FitsFile(path) as file:
                self._keep_header(file)
                for location in locations:
                    hdu = location.find(file)
                    irfs[location.hdu_type] = read_irf(hdu, location.hdu_class)
        return irfs

    def _keep_header(self, file: FitsFile) -> None:
        """Take the EVENTS header along, where the open file has it."""
        location = self.locations.get("events")
        if location is not None and location.path == file.path and "header" not in self.__dict__:
            with suppress(MissingDataError):
                self.__dict__["header"] = location.find(file).header

    @cached_property
    def header(self) -> Header:
        """Keywords of the EVENTS header, empty if the index lists no events.

        Raises
        ------
        DataError
            If the file is missing or damaged.
        """
        location = self.locations.get("events")
        if location is None:
            return {}
        with FitsFile(location.existing_path) as file:
            return location.find(file).header

    @cached_property
    def index_row(self) -> dict[str, Any]:
        """Columns of the obs-index for this observation; missing values are left out."""
        if self._row is None:
            return {}
        index = self._row.table.meta
        values = {key: index[key] for key in _LOCATION_KEYS if key in index}
        for name, value in zip(self._row.colnames, self._row, strict=True):
            if not np.ma.is_masked(value):
                values[name] = value.item() if isinstance(value, np.generic) else value
        return values

    @cached_property
    def meta(self) -> ObservationMeta:
        """Identifier, location, dead time, and everything optional."""
        optional = {**self.index_row, **self.header}
        dead = optional.get("DEADC")
        fraction = 0.0 if dead is None else 1.0 - self._number("DEADC", optional)
        return ObservationMeta(self.obs_id, self._location(optional), fraction, optional)

    @property
    def observatory_earth_location(self) -> EarthLocation | None:
        """Place of the telescopes, None if neither header nor index says."""
        return self.meta.location

    @property
    def tstart(self) -> Time:
        """Start of the first good time interval."""
        return self.gti.time_start[0]

    @property
    def tstop(self) -> Time:
        """Stop of the last good time interval."""
        return self.gti.time_stop[-1]

    @property
    def tmid(self) -> Time:
        """Middle of the observation."""
        return self.tstart + 0.5 * (self.tstop - self.tstart)

    @property
    def observation_time_duration(self) -> u.Quantity:
        """Good time, with dead time, in seconds."""
        return self.gti.time_sum

    @property
    def observation_dead_time_fraction(self) -> float:
        """Part of the good time in which nothing could be recorded."""
        return self.meta.deadtime_fraction

    @property
    def observation_live_time_duration(self) -> u.Quantity:
        """Good time less dead time, in seconds."""
        return self.observation_time_duration * (1 - self.observation_dead_time_fraction)

    @property
    def livetime(self) -> u.Quantity:
        """Good time less dead time, in seconds."""
        return self.observation_live_time_duration

    @property
    def is_drift(self) -> bool:
        """Whether the telescopes stood still in altitude and azimuth (``OBS_MODE = DRIFT``)."""
        return str(self.meta.optional.get("OBS_MODE", "")).strip().upper() == "DRIFT"

    def get_pointing_icrs(self, time: Time | None = None) -> SkyCoord:
        """Pointing direction in ICRS.

        Parameters
        ----------
        time : `~astropy.time.Time`, optional
            Needed for a drift observation only.

        Raises
        ------
        DataError
            If the direction is nowhere given.
        """
        if self.is_drift:
            return self.get_pointing_altaz(self.tmid if time is None else time).icrs
        return SkyCoord(*self.pointing_lon_lat(), unit="rad", frame="icrs")

    def pointing_lon_lat(self) -> tuple[float, float]:
        """Pointing right ascension and declination in radians, at mid-time for a drift.

        Raises
        ------
        DataError
            If the direction is nowhere given.
        """
        if self.is_drift:
            coord = self.get_pointing_icrs(self.tmid)
            return float(coord.ra.rad), float(coord.dec.rad)
        optional = self.meta.optional
        ra, dec = (np.radians(self._number(key, optional)) for key in ("RA_PNT", "DEC_PNT"))
        return float(ra), float(dec)

    def get_pointing_altaz(self, time: Time) -> SkyCoord:
        """Pointing direction as altitude and azimuth; ``.zen`` is the zenith angle.

        Parameters
        ----------
        time : `~astropy.time.Time`
            When.

        Raises
        ------
        DataError
            If the direction or the location of the telescopes is nowhere given.
        """
        location = self.observatory_earth_location
        if location is None:
            raise self._missing("GEOLON, GEOLAT and ALTITUDE")
        frame = AltAz(obstime=time, location=location)
        if self.is_drift:
            optional = self.meta.optional
            alt, az = (self._number(key, optional) for key in ("ALT_PNT", "AZ_PNT"))
            return SkyCoord(alt=alt * u.deg, az=az * u.deg, frame=frame)
        return self.get_pointing_icrs(time).transform_to(frame)

    def _location(self, optional: Mapping[str, Any]) -> EarthLocation | None:
        height = "GEOALT" if "GEOALT" in optional else "ALTITUDE"
        if not all(key in optional for key in ("GEOLON", "GEOLAT", height)):
            return None
        return EarthLocation.from_geodetic(
            lon=Angle(self._number("GEOLON", optional), u.deg),
            lat=Angle(self._number("GEOLAT", optional), u.deg),
            height=self._number(height, optional) * u.m,
        )

    def _number(self, key: str, optional: Mapping[str, Any]) -> float:
        value = optional.get(key)
        if value is None:
            raise self._missing(key)
        try:
            # Numbers come as text in some productions.
            number = float(value)
        except (TypeError, ValueError):
            raise FormatError(
                f"run {self.obs_id}: {key} = {value!r}; expected a number", self._events_path
            ) from None
        if not np.isfinite(number):
            raise self._missing(key)
        if key in ("DEC_PNT", "ALT_PNT", "GEOLAT") and abs(number) > 90:
            raise FormatError(
                f"run {self.obs_id}: {key} = {value!r}; expected -90 to 90 deg", self._events_path
            )
        return number

    def _missing(self, key: str) -> FormatError:
        return FormatError(
            f"run {self.obs_id}: {key} is neither in the EVENTS header nor in the obs-index",
            self._events_path,
        )

    @property
    def _events_path(self) -> Path | None:
        location = self.locations.get("events")
        return None if location is None else location.path

    def _read(self, hdu_type: str, reader: Callable[[HDU], T]) -> T:
        location = self.locations.get(hdu_type)
        if location is None:
            raise MissingDataError(f"run {self.obs_id}: the hdu-index lists no {hdu_type}")
        with FitsFile(location.existing_path) as file:
            return reader(location.find(file))
