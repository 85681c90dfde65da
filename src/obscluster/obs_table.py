"""The observation table: one row per observation, with the columns of the GADF obs-index."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import Table
from astropy.time import Time
from numpy.typing import NDArray

from obscluster.exceptions import RequestError
from obscluster.gadf.index import OBS_INDEX, expand_path, read_index
from obscluster.gadf.time import MAX_SECONDS, quiet_times, time_ref_from_header
from obscluster.selection import Selection, cut_flow, pointing, selection_mask

__all__ = ["ObservationTable"]

_DESCRIPTIONS = {
    "OBS_ID": "Observation identifier",
    "RA_PNT": "Pointing right ascension",
    "DEC_PNT": "Pointing declination",
    "GLON_PNT": "Pointing Galactic longitude",
    "GLAT_PNT": "Pointing Galactic latitude",
    "ZEN_PNT": "Zenith angle",
    "ALT_PNT": "Altitude",
    "AZ_PNT": "Azimuth",
    "OFFSET_OBJ": "Offset of the target",
    "ONTIME": "Time with dead time",
    "LIVETIME": "Live time",
    "DEADC": "Dead time correction",
    "TSTART": "Start time",
    "TSTOP": "Stop time",
    "N_TELS": "Number of telescopes",
    "MUONEFF": "Muon efficiency",
    "NSBLEVEL": "Night-sky background",
    "EVENT_COUNT": "Number of events",
}


class ObservationTable(Table):
    """Observation table, with selections.

    Columns keep the names of the specification (OBS_ID, RA_PNT, ZEN_PNT, ...) and have units; the
    header is in ``meta``.

    https://gamma-astro-data-formats.readthedocs.io/en/v0.3/data_storage/obs_index/index.html
    """

    @classmethod
    def read(
        cls, filename: str | os.PathLike[str], hdu: int | str | None = None
    ) -> ObservationTable:
        """Read an obs-index file, plain or gzipped; of several tables, the HDU asked for.

        Raises
        ------
        ArchiveError
            If it cannot be read or has no OBS_ID.
        """
        table = cls(read_index(expand_path(filename), OBS_INDEX, hdu), copy=False)
        for name in table.colnames:
            table[name].description = _DESCRIPTIONS.get(name)
        return table

    @property
    def pointing_radec(self) -> SkyCoord:
        """Pointing directions in ICRS, shape (n_obs,)."""
        return pointing(self)

    @property
    def pointing_galactic(self) -> SkyCoord:
        """Pointing directions in Galactic coordinates, shape (n_obs,)."""
        return pointing(self).galactic

    @property
    def time_ref(self) -> Time:
        """Reference of TSTART and TSTOP."""
        return time_ref_from_header(self.meta)

    @property
    def time_start(self) -> Time:
        """Start times, shape (n_obs,)."""
        return self._times("TSTART")

    @property
    def time_stop(self) -> Time:
        """Stop times, shape (n_obs,)."""
        return self._times("TSTOP")

    def _times(self, name: str) -> Time:
        """Times of a column; those that are missing or absurd are NaN."""
        column = self[name]
        try:
            seconds = np.ma.filled(np.ma.asarray(column).astype(float), np.nan)
            seconds = seconds * (column.unit or u.s).to(u.s)
        except (TypeError, ValueError):
            raise RequestError(f"the column {name} of the obs-index does not hold times") from None
        seconds[~(np.abs(seconds) <= MAX_SECONDS)] = np.nan
        with quiet_times():
            return self.time_ref + seconds * u.s

    def select_observations(
        self, selections: Selection | Sequence[Selection] | None = None
    ) -> ObservationTable:
        """Observations that pass all selections.

        Parameters
        ----------
        selections : mapping or sequence of mappings, optional
            See `obscluster.selection`.

        Returns
        -------
        obs_table : `ObservationTable`
            The rows that pass, as a new table.

        Raises
        ------
        RequestError
            If a selection is not usable.

        Examples
        --------
        >>> selection = dict(type="sky_circle", frame="icrs", lon="329.717 deg",
        ...                  lat="-30.226 deg", radius="2 deg")
        >>> selected = obs_table.select_observations(selection)  # doctest: +SKIP
        """
        if selections is None:
            return self.copy()
        steps = [selections] if isinstance(selections, Mapping) else selections
        passed = np.ones(len(self), dtype=bool)
        for step in steps:
            passed &= selection_mask(self, step)
        return self[passed]

    def cut_flow(self, selections: Selection | Sequence[Selection]) -> Table:
        """How many observations each step of a selection drops.

        Returns
        -------
        cut_flow : `~astropy.table.Table`
            One row per step: ``selection``, ``passed``, ``dropped``.
        """
        return cut_flow(self, selections)

    def select_range(
        self, selection_variable: str, value_range: Any, inverted: bool = False
    ) -> ObservationTable:
        """Observations with a column in a range: the selection ``par_box``."""
        return self.select_observations(
            {
                "type": "par_box",
                "variable": selection_variable,
                "value_range": value_range,
                "inverted": inverted,
            }
        )

    def select_time_range(
        self, time_range: Any, partial_overlap: bool = False, inverted: bool = False
    ) -> ObservationTable:
        """Observations within two times: the selection ``time_box``."""
        return self.select_observations(
            {
                "type": "time_box",
                "time_range": time_range,
                "partial_overlap": partial_overlap,
                "inverted": inverted,
            }
        )

    def select_sky_circle(
        self, center: SkyCoord, radius: Any, inverted: bool = False
    ) -> ObservationTable:
        """Observations that point near a direction: the selection ``sky_circle``."""
        return self.select_observations(
            {
                "type": "sky_circle",
                "lon": center.icrs.ra,
                "lat": center.icrs.dec,
                "radius": radius,
                "inverted": inverted,
            }
        )

    def select_obs_id(self, obs_id: int | Iterable[int]) -> ObservationTable:
        """Rows of the given observations, in the order asked.

        Raises
        ------
        RequestError
            If one is not in the table.
        """
        wanted = as_obs_ids(obs_id)
        have = np.asarray(self["OBS_ID"])
        order = np.argsort(have, kind="stable")
        place = np.searchsorted(have, wanted, sorter=order)
        place = np.minimum(place, max(len(have) - 1, 0))
        missing = wanted if len(have) == 0 else wanted[have[order[place]] != wanted]
        if len(missing):
            raise RequestError(f"no observation {_some(missing)} in the table of {len(have)}")
        return self[order[place]]


def as_obs_ids(obs_id: int | Iterable[int]) -> NDArray[np.int64]:
    """Identifiers as integers, shape (n,), whatever holds them."""
    values: Iterable[Any]
    if isinstance(obs_id, np.ndarray):
        values = np.atleast_1d(obs_id)
    else:
        many = isinstance(obs_id, Iterable) and not isinstance(obs_id, str)
        values = obs_id if many else [obs_id]  # type: ignore[assignment]
    ids: list[int] = []
    for value in values:
        try:
            ids.append(int(value))
            if not isinstance(value, str) and ids[-1] != value:
                raise ValueError
        except (TypeError, ValueError):
            raise RequestError(f"obs_id {value}: expected a whole number") from None
    return np.array(ids, dtype=np.int64)


def _some(obs_ids: NDArray[Any]) -> str:
    """A few identifiers, and how many more there are."""
    text = ", ".join(str(i) for i in obs_ids[:5])
    return f"{text} and {len(obs_ids) - 5} more" if len(obs_ids) > 5 else text
