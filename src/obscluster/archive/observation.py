"""One observation, whose parts are read when first asked for; and several of them, in order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar, overload

import numpy as np
from astropy import units as u
from astropy.coordinates import EarthLocation, SkyCoord
from astropy.table import Row, Table
from astropy.time import Time
from numpy.typing import NDArray

from obscluster.archive.quantities import Known, quantity_of
from obscluster.exceptions import DataError, FormatError, MissingDataError, ReadError, RequestError
from obscluster.gadf.events import GTI, EventList, read_events, read_gti
from obscluster.gadf.fits import HDU, FitsFile
from obscluster.gadf.hdu_index import HDULocation
from obscluster.gadf.header import Header
from obscluster.gadf.irf import rad_max_of, read_irf
from obscluster.gadf.keywords import (
    LOCATION_KEYS,
    NUMBERS,
    HeaderNumbers,
    Keywords,
    ObservationMeta,
    factor_of,
    make_meta,
    number_of,
)
from obscluster.gadf.pointing import Pointing, PointingTable, read_pointing
from obscluster.gadf.response import IRF
from obscluster.gadf.shared_irfs import SharedIRFs, Wanted
from obscluster.gadf.time import quiet_times

__all__ = ["Observation", "ObservationMeta", "Observations"]

IRF_TYPES = ("aeff", "edisp", "psf", "bkg", "rad_max")
# What the header of the obs-index may say for all of its observations.
_INDEX_KEYS = (*LOCATION_KEYS, "TELESCOP")

T = TypeVar("T")


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
    base_dir : `~pathlib.Path`, optional
        Directory of the archive that it is from.

    Attributes
    ----------
    unread : dict
        OBS_ID to why a file of it could not be read, if that ever was so: values that were asked
        for may be lacking, or be those of the obs-index.

    Notes
    -----
    A pickled observation keeps what its row of the obs-index says, and no more of that table; what
    was read of the files is read again. It is small, so that it can be sent to where it is needed.
    """

    def __init__(
        self,
        obs_id: int,
        locations: Mapping[str, HDULocation],
        row: Row | None = None,
        base_dir: Path | None = None,
    ):
        self.obs_id = obs_id
        self.locations = dict(locations)
        self.base_dir = base_dir
        self.unread: dict[int, str] = {}
        self._row = row

    def __getstate__(self) -> dict[str, Any]:
        return {
            "obs_id": self.obs_id,
            "locations": self.locations,
            "base_dir": self.base_dir,
            "unread": {},
            "_row": None,
            "index_row": self.index_row,
            "index_units": self.index_units,
            "index_header": self.index_header,
        }

    def __repr__(self) -> str:
        return f"<Observation {self.obs_id}: {', '.join(self.locations)}>"

    # Whether good time intervals are read along with the responses, see `passing`.
    _with_gti = False

    def passing(self, with_gti: bool = False) -> Observation:
        """The same observation for a passing look: what it reads is not kept here.

        Of many observations, what was read of each would take more memory than anything else.

        Parameters
        ----------
        with_gti : bool
            Good time intervals will be asked for: read them along with other parts of their file.
        """
        other = type(self).__new__(type(self))
        other.__dict__.update(self.__dict__)
        # It reads by way of the observation that made it.
        other.__dict__.pop("_pointing", None)
        other.unread = {}
        other._with_gti = with_gti
        return other

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
        """Directional cut of a point-like response, None if there is none.

        Where the index lists no such HDU, it may be with the effective area: see
        `~obscluster.gadf.irf.rad_max_of`.
        """
        return self.read_irfs("rad_max").get("rad_max")

    def read_irfs(
        self,
        *hdu_types: str,
        shared: SharedIRFs | None = None,
        offset: Callable[[], float] | None = None,
    ) -> dict[str, IRF]:
        """Read several responses, each file in one pass and no further than needed.

        Nothing is kept: use this for one look at many observations.

        Parameters
        ----------
        *hdu_types : str
            Among aeff, edisp, psf, bkg and rad_max.
        shared : `~obscluster.gadf.shared_irfs.SharedIRFs`, optional
            Holds the responses of files that several observations share.
        offset : callable, optional
            Tells the offset in degrees, once the header is known, around which responses are
            wanted: no more is read, see `~obscluster.gadf.response.IRF.near`. Of what is shared,
            everything is.

        Returns
        -------
        irfs : dict
            HDU type to response, without those that the index does not list.

        Raises
        ------
        DataError
            If a file or an HDU is missing or damaged.
        """
        by_file: dict[Path, list[Wanted]] = {}
        for name in hdu_types:
            location = self.locations.get(name) or self._stand_in(name)
            if location is not None:
                by_file.setdefault(location.path, []).append((name, location))
        irfs: dict[str, IRF | None] = {}
        for path, wanted in by_file.items():
            if shared is not None and path in shared.paths:
                irfs |= shared.get(self._read_file, path, wanted)
            else:
                irfs |= self._read_file(wanted, offset)
        return {name: irf for name, irf in irfs.items() if irf is not None}

    def files(self, *hdu_types: str) -> list[Path]:
        """Files that `read_irfs` would read, as the index names them."""
        found = (self.locations.get(name) or self._stand_in(name) for name in hdu_types)
        return [location.path for location in found if location is not None]

    def _read_file(
        self, wanted: Sequence[Wanted], offset: Callable[[], float] | None = None
    ) -> dict[str, IRF | None]:
        """Responses of one file, which the index names for all of them."""
        irfs: dict[str, IRF | None] = {}
        with self._opened(wanted[0][1]) as file:
            self._keep_header(file)
            gti = self.locations.get("gti") if self._with_gti else None
            if gti is not None and gti.path == file.path and "gti" not in self.__dict__:
                # What is wrong with them is said when they are looked at.
                with suppress(DataError):
                    self.__dict__["gti"] = read_gti(gti.find(file))
            near = None if offset is None else offset()
            for name, location in wanted:
                hdu = location.find(file)
                listed = location.hdu_type == name
                irfs[name] = read_irf(hdu, location.hdu_class, near) if listed else rad_max_of(hdu)
        return irfs

    def _stand_in(self, hdu_type: str) -> HDULocation | None:
        """Where a response may be found that the index does not list: the cut of a point-like."""
        if hdu_type != "rad_max":
            return None
        return self.locations.get("aeff") or self.locations.get("edisp")

    def read_events(self, *columns: str) -> EventList:
        """Read some columns of the event list; nothing is kept.

        Parameters
        ----------
        *columns : str
            Names of the columns.

        Raises
        ------
        DataError
            If file, HDU or column is missing or damaged.
        """
        return self._read("events", lambda hdu: read_events(hdu, columns))

    def _keep_header(self, file: FitsFile) -> None:
        """Take the EVENTS header along, where the open file has it."""
        location = self.locations.get("events")
        if "header" in self.__dict__ or location is None:
            return
        # Most often it is the same object, which is seen faster.
        if location.path is file.path or location.path == file.path:
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
        with self._opened(location) as file:
            return location.find(file).header

    @property
    def obs_table(self) -> Table | None:
        """The obs-index that the observation comes from, None if there is none."""
        return None if self._row is None else self._row.table

    @property
    def index_place(self) -> int | None:
        """Place of the observation in `obs_table`, None if there is no such table."""
        return None if self._row is None else self._row.index

    @cached_property
    def index_header(self) -> Mapping[str, Any]:
        """Keywords of the obs-index, such as its time reference."""
        return {} if self._row is None else self._row.table.meta

    @cached_property
    def index_row(self) -> dict[str, Any]:
        """Columns of the obs-index for this observation; missing values are left out.

        Numbers of GADF are in its units, whatever the index has; one that is none, or beyond all
        limits (such as -999), is missing.
        """
        if self._row is None:
            return {}
        index = self._row.table.meta
        values = {key: index[key] for key in _INDEX_KEYS if index.get(key) is not None}
        columns = self._row.table.columns
        for name, value in zip(self._row.colnames, self._row, strict=True):
            if np.ma.is_masked(value):
                continue
            plain = value.item() if isinstance(value, np.generic) else value
            if name in NUMBERS:
                factor = factor_of(name, columns[name].unit)
                number = number_of(name, number_of("", plain) * factor)
                if np.isnan(number):
                    continue
                plain = number if factor != 1 or isinstance(plain, str) else plain
            values[name] = plain
        return values

    @cached_property
    def index_units(self) -> dict[str, u.UnitBase]:
        """Units of the columns of the obs-index that are none of GADF, where they have one."""
        if self._row is None:
            return {}
        table = self._row.table
        units = {name: table[name].unit for name in table.colnames if name not in NUMBERS}
        return {name: unit for name, unit in units.items() if unit is not None}

    def quantity(self, name: str) -> Known:
        """A quantity of the observation: its value with unit, and where it comes from.

        Parameters
        ----------
        name : str
            Name by GADF (``ZEN_PNT``) or as a feature (``zenith``), any column of the obs-index,
            or any keyword of the EVENTS header.

        Returns
        -------
        known : `~obscluster.archive.quantities.Known`
            ``value`` (NaN if it is unknown), ``source`` ("index", "header", "good time",
            "computed", "unknown") and ``note``, which says why it is unknown or doubtful.

        Examples
        --------
        >>> data_store.obs(33787).quantity("zenith")  # doctest: +SKIP
        Known(value=<Quantity 50.42 deg>, source='index', note='')
        """
        return quantity_of(self, name)

    @cached_property
    def meta(self) -> ObservationMeta:
        """Identifier, location, dead time, and everything optional."""

        def more_keywords() -> Header:
            return self._read("pointing", lambda hdu: hdu.header)

        has_more = "pointing" in self.locations
        try:
            return make_meta(
                self.obs_id,
                self.index_row,
                HeaderNumbers(self.header),
                more_keywords if has_more else None,
            )
        except ValueError as error:
            raise FormatError(f"run {self.obs_id}: {error}", self._events_path) from None

    @property
    def observatory_earth_location(self) -> EarthLocation | None:
        """Place of the telescopes, None if neither header nor index says."""
        return self.meta.location

    @property
    def tstart(self) -> Time:
        """Start of the first good time interval; without any, TSTART."""
        return self._limits[0]

    @property
    def tstop(self) -> Time:
        """Stop of the last good time interval; without any, TSTOP."""
        return self._limits[1]

    @cached_property
    def _limits(self) -> tuple[Time, Time]:
        try:
            gti = self.gti
        except DataError:
            ends = [self.quantity(name).value.to_value(u.d) for name in ("start", "stop")]
            if not np.isfinite(ends).all():
                raise
            first, last = (Time(end, format="mjd", scale="tt") for end in ends)
            return first, last
        first = int(np.argmin(gti.table["START"]))
        last = int(np.argmax(gti.table["STOP"]))
        return gti.time_start[first], gti.time_stop[last]

    @property
    def tmid(self) -> Time:
        """Middle of the observation."""
        with quiet_times():
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
        """Good time less dead time, in seconds; see `quantity` for where it comes from."""
        return self.quantity("livetime").value

    @property
    def livetime(self) -> u.Quantity:
        """Good time less dead time, in seconds."""
        return self.observation_live_time_duration

    @cached_property
    def pointing_table(self) -> PointingTable | None:
        """Pointing directions at a number of times, None if the index lists no such table."""
        if "pointing" not in self.locations:
            return None
        return self._read("pointing", read_pointing)

    @property
    def is_drift(self) -> bool:
        """Whether the telescopes stood still in altitude and azimuth (``OBS_MODE = DRIFT``)."""
        return self._pointing.mode == "DRIFT"

    def get_pointing_icrs(self, time: Time | None = None) -> SkyCoord:
        """Pointing direction in ICRS.

        Parameters
        ----------
        time : `~astropy.time.Time`, optional
            When, for an observation that does not follow a point on the sky; mid-time unless told.

        Raises
        ------
        DataError
            If the direction is nowhere given.
        """
        if self._pointing.fixed_radec is None and time is None:
            time = self.tmid
        return self._pointing.get_icrs(time)

    def pointing_lon_lat(self) -> tuple[float, float]:
        """Pointing right ascension and declination in radians, at mid-time if it moves.

        Raises
        ------
        DataError
            If the direction is nowhere given.
        """
        fixed = self._pointing.fixed_radec
        if fixed is not None:
            return float(np.radians(fixed[0])), float(np.radians(fixed[1]))
        coord = self.get_pointing_icrs()
        return float(coord.ra.rad), float(coord.dec.rad)

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
        return self._pointing.get_altaz(time)

    @cached_property
    def _pointing(self) -> Pointing:
        return Pointing(
            Keywords(self.index_row, HeaderNumbers(self.header)),
            lambda: self.meta.location,
            lambda: self.pointing_table,
            f"run {self.obs_id}",
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
        with self._opened(location) as file:
            return reader(location.find(file))

    @contextmanager
    def _opened(self, location: HDULocation) -> Iterator[FitsFile]:
        """The file of a location; that it cannot be read is remembered, whoever makes do without.

        So nobody takes what was made of the rest for a result that is to be kept.
        """
        try:
            with location.open() as file:
                yield file
        except ReadError as error:
            self.unread.setdefault(self.obs_id, error.reason)
            raise


class Observations(Sequence[Observation]):
    """Several observations, in order.

    Parameters
    ----------
    observations : iterable of `Observation`, optional
        The observations.
    """

    def __init__(self, observations: Iterable[Observation] = ()):
        self._observations = list(observations)

    def __len__(self) -> int:
        return len(self._observations)

    def __iter__(self) -> Iterator[Observation]:
        return iter(self._observations)

    @overload
    def __getitem__(self, item: int | str) -> Observation: ...
    @overload
    def __getitem__(self, item: slice | list[int] | NDArray[Any]) -> Observations: ...

    def __getitem__(self, item: Any) -> Observation | Observations:
        """One by its place, or by its identifier as a str; several by slice, mask or list."""
        if isinstance(item, str):
            try:
                return self._observations[self.ids.index(item)]
            except ValueError:
                raise KeyError(f"no observation {item} among {len(self)}") from None
        if isinstance(item, slice):
            return Observations(self._observations[item])
        if isinstance(item, list | np.ndarray):
            return Observations(self._observations[i] for i in np.arange(len(self))[item])
        return self._observations[item]

    def __repr__(self) -> str:
        ids = ", ".join(self.ids[:5]) + (", ..." if len(self) > 5 else "")
        return f"<Observations: {len(self)} ({ids})>" if len(self) else "<Observations: none>"

    @property
    def ids(self) -> list[str]:
        """Identifiers as str, as Gammapy has them."""
        return [str(obs.obs_id) for obs in self]

    @property
    def obs_ids(self) -> NDArray[np.int64]:
        """Identifiers, shape (n_obs,)."""
        return np.array([obs.obs_id for obs in self], dtype=np.int64)

    def group_by_label(self, labels: Sequence[Any] | NDArray[Any]) -> dict[str, Observations]:
        """Split into groups.

        Parameters
        ----------
        labels : sequence of int or str
            One per observation.

        Returns
        -------
        groups : dict
            ``group_<label>`` to its `Observations`, in the order of the labels.

        Raises
        ------
        RequestError
            If there is not one label per observation.
        """
        if np.ma.is_masked(labels):
            raise RequestError("some labels are missing (masked)")
        labels = np.asarray(labels)
        if labels.dtype.kind == "f" and not np.isfinite(labels).all():
            raise RequestError("some labels are missing (not a number)")
        if labels.shape != (len(self),):
            raise RequestError(f"{len(self)} observations but labels of shape {labels.shape}")
        return {
            f"group_{label}": self[np.flatnonzero(labels == label)] for label in np.unique(labels)
        }
