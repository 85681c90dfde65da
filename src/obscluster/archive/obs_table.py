"""The observation table: one row per observation, with the columns of the GADF obs-index."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import Row, Table
from astropy.time import Time
from numpy.typing import NDArray

from obscluster.archive.observation import Observation
from obscluster.archive.quantities import Known, column_of
from obscluster.archive.selection import Selection, cut_flow, pointing, selection_mask
from obscluster.exceptions import DataError, RequestError
from obscluster.gadf.hdu_index import KEY_COLUMNS, HDUIndex
from obscluster.gadf.header import Header
from obscluster.gadf.index import OBS_INDEX, expand_path, read_index
from obscluster.gadf.keywords import NUMBERS, Number, column_numbers
from obscluster.gadf.time import quiet_times, time_ref_from_header
from obscluster.parallel.engine import Progress
from obscluster.values.columns import numbers

__all__ = [
    "LIVETIME",
    "ObservationTable",
    "RunFiles",
    "as_obs_ids",
    "differing_column",
    "livetime_text",
    "livetimes",
    "several_rows",
]

LIVETIME = "livetime"
"""Feature that every grouping has, clustered by it or not."""
OBS_ID = Number("Observation identifier")


class RunFiles:
    """The files of an archive's runs, which are asked for what the obs-index does not say.

    Headers are kept, so that none is read twice.

    Parameters
    ----------
    hdu_index : `~obscluster.gadf.hdu_index.HDUIndex`
        Where the parts of each observation lie.
    index_name : str
        The obs-index, for messages.

    Attributes
    ----------
    unread : dict
        OBS_ID to why a file of it could not be read when it was asked.
    """

    def __init__(self, hdu_index: HDUIndex, index_name: str = "obs-index"):
        self.hdu_index = hdu_index
        self.index_name = index_name
        self.unread: dict[int, str] = {}
        self._headers: dict[tuple[Any, ...], Header] = {}

    def __deepcopy__(self, memo: dict[int, Any]) -> RunFiles:
        return self

    def observation(self, row: Row) -> Observation:
        """Observation of a row of the obs-index; without files, if the hdu-index has none.

        It knows what this row says, and no column that the table of the row lacks.
        """
        key = self.hdu_index.key_of(row)
        run = Observation(key[0], self.hdu_index.locations(*key), row, self.hdu_index.directory)
        run.unread = self.unread
        if key not in self._headers:
            # What cannot be read is said by whoever asks the observation for it.
            with suppress(DataError):
                self._headers[key] = run.header
        if key in self._headers:
            run.__dict__["header"] = self._headers[key]
        return run


class ObservationTable(Table):
    """Observation table, with selections.

    Columns keep the names of the specification (OBS_ID, RA_PNT, ZEN_PNT, ...) and have units; the
    header is in ``meta``.

    https://gamma-astro-data-formats.readthedocs.io/en/v0.3/data_storage/obs_index/index.html

    Attributes
    ----------
    files : `RunFiles` or None
        Of the table of an archive: what is asked where a column is missing, or a value in it.
    """

    def __init__(self, data: Any = None, *args: Any, **kwargs: Any):
        super().__init__(data, *args, **kwargs)
        self.files: RunFiles | None = getattr(data, "files", None)

    def __getitem__(self, item: Any) -> Any:
        found = super().__getitem__(item)
        if isinstance(found, ObservationTable):
            found.files = self.files
        return found

    @classmethod
    def read(
        cls,
        filename: str | os.PathLike[str],
        hdu: int | str | None = None,
        strict: bool = True,
    ) -> ObservationTable:
        """Read an obs-index file, plain or gzipped; of several tables, the HDU asked for.

        Parameters
        ----------
        filename : str or path
            The file.
        strict : bool
            Raise an error where the unit of a column of GADF cannot be used.

        Raises
        ------
        ArchiveError
            If it cannot be read, has no OBS_ID, or a unit that cannot be used.
        """
        return cls.from_table(read_index(expand_path(filename), OBS_INDEX, hdu, strict))

    @classmethod
    def from_table(cls, table: Table) -> ObservationTable:
        """The same columns, with their descriptions by GADF."""
        table = cls(table, copy=False)
        for name in table.colnames:
            known = OBS_ID if name == "OBS_ID" else NUMBERS.get(name)
            table[name].description = None if known is None else known.description
        return table

    def quantity(self, name: str, progress: Progress | None = None) -> Known:
        """A quantity of all observations: values with unit, and where they come from.

        What the obs-index does not say is asked from the headers and computed, if the table is
        that of an archive; see `obscluster.archive.quantities`.

        Parameters
        ----------
        name : str
            Name by GADF (``ZEN_PNT``) or as a feature (``zenith``), any column, any keyword.
        progress : callable, optional
            ``progress(iterable, total, what)`` wraps the observations whose headers are read.

        Returns
        -------
        known : `~obscluster.archive.quantities.Known`
            ``value``, ``source`` and ``note`` as arrays, shape (n_obs,); NaN and "unknown" where
            nobody knows.

        Raises
        ------
        RequestError
            If there is no quantity of that name.
        """
        return column_of(self, name, progress=progress)

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
        if name not in self.colnames:
            raise KeyError(name)
        seconds = column_numbers(self, name)
        if not np.isfinite(seconds).any() and self[name].dtype.kind not in "fiu":
            raise RequestError(f"the column {name} of the obs-index does not hold times")
        with quiet_times():
            return self.time_ref + seconds * u.s

    def select_observations(
        self, selections: Selection | Sequence[Selection] | None = None
    ) -> ObservationTable:
        """Observations that pass all selections.

        Parameters
        ----------
        selections : mapping or sequence of mappings, optional
            See `obscluster.archive.selection`.

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


def several_rows(table: Table) -> str:
    """What to do about runs with several rows, such as event types; empty if there are none.

    Parameters
    ----------
    table : `~astropy.table.Table`
        Observation table.
    """
    obs_ids, counts = np.unique(np.asarray(table["OBS_ID"]), return_counts=True)
    twice = obs_ids[counts > 1]
    if not len(twice):
        return ""
    column, values = differing_column(table)
    text = f"{len(twice)} runs have several rows in the obs-index (OBS_ID {_some(twice)})"
    if not column:
        return f"{text}, of which no column says which is which"
    known = ", ".join(f"{value} ({n})" for value, n in list(values.items())[:6])
    first = next(iter(values))
    return (
        f"{text}, which differ in {column}: {known}; select one of each, such as by "
        f"--where {column} = {first}"
    )


def differing_column(table: Table) -> tuple[str, dict[str, int]]:
    """Column that tells rows of the same OBS_ID apart, and its values with their numbers of rows.

    The usual ones come first; empty if there is none.
    """
    obs_ids = np.asarray(table["OBS_ID"])
    names = [name for name in table.colnames if name != "OBS_ID" and table[name].ndim == 1]
    for name in sorted(names, key=lambda n: (n not in KEY_COLUMNS, names.index(n))):
        values = np.array([str(value).strip() for value in table[name]])
        pairs = {*zip(obs_ids.tolist(), values.tolist(), strict=True)}
        if len(pairs) == len(table):
            found, counts = np.unique(values, return_counts=True)
            return name, dict(zip(found.tolist(), counts.tolist(), strict=True))
    return "", {}


def _some(obs_ids: NDArray[Any]) -> str:
    """A few identifiers, and how many more there are."""
    text = ", ".join(str(i) for i in obs_ids[:5])
    return f"{text} and {len(obs_ids) - 5} more" if len(obs_ids) > 5 else text


def livetimes(table: ObservationTable, features: Table | None = None) -> NDArray[np.float64]:
    """Live time of each observation in hours, NaN where nobody knows.

    Parameters
    ----------
    table : `~obscluster.archive.obs_table.ObservationTable`
        The observations.
    features : `~astropy.table.Table`, optional
        Their feature table: where it has livetimes, which are those of the good time, they count.
    """
    hours = np.full(len(table), np.nan)
    if features is not None and LIVETIME in features.colnames:
        hours = numbers(features[LIVETIME], u.h)
    if np.isnan(hours).any():
        hours = np.where(np.isnan(hours), table.quantity(LIVETIME).value.to_value(u.h), hours)
    return np.asarray(hours)


def livetime_text(hours: NDArray[np.float64]) -> str:
    """Sum of live times in words: ``5.3 h``, and of how many runs it is unknown.

    Parameters
    ----------
    hours : `~numpy.ndarray`
        Live times in hours, NaN where unknown.
    """
    n_unknown = int(np.isnan(hours).sum())
    if n_unknown and n_unknown == len(hours):
        return "unknown livetime"
    runs = "1 run" if n_unknown == 1 else f"{n_unknown} runs"
    return f"{np.nansum(hours):.1f} h" + (f" + {runs} of unknown livetime" if n_unknown else "")
