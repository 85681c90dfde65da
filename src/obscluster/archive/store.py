"""Archives: which observations there are, and several of them at once."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from obscluster.archive.obs_table import (
    ObservationTable,
    RunFiles,
    as_obs_ids,
    differing_column,
    several_rows,
)
from obscluster.archive.observation import IRF_TYPES, Observation, Observations
from obscluster.exceptions import (
    ArchiveError,
    DataError,
    ObsClusterWarning,
    RequestError,
    SkippedRunWarning,
    join_lines,
)
from obscluster.files.exchange import repair
from obscluster.files.records import checksum, checksum_of
from obscluster.gadf.discover import discover
from obscluster.gadf.discover_runs import KEYWORDS, make_obs_index
from obscluster.gadf.hdu_index import HDUIndex
from obscluster.gadf.index import (
    HDU_INDEX,
    OBS_INDEX,
    expand_path,
    find_index,
    has_index,
    read_index,
    split_hdu,
    whole_number,
)
from obscluster.gadf.keywords import HeaderNumbers
from obscluster.gadf.remote import is_remote, read_remote

__all__ = ["DataStore", "Observation", "Observations"]

_KINDS = (OBS_INDEX, HDU_INDEX)
# What must be in a run, by the names that Gammapy gives to these requirements.
_REQUIRED = {
    "full-enclosure": ("events", "gti", "aeff", "edisp", "psf", "bkg"),
    "point-like": ("events", "gti", "aeff", "edisp"),
    "all-optional": (),
}


class DataStore:
    """An archive of observations.

    Parameters
    ----------
    hdu_index : `~obscluster.gadf.hdu_index.HDUIndex`
        Where the parts of each observation lie.
    obs_table : `~obscluster.archive.obs_table.ObservationTable`
        What is known of each observation.
    """

    def __init__(self, hdu_index: HDUIndex, obs_table: ObservationTable):
        self.hdu_index = hdu_index
        self.obs_table = obs_table
        self.index_files: tuple[Path, ...] = ()
        self.index_hdus: tuple[int | str | None, ...] = ()

    @cached_property
    def index_checksums(self) -> dict[Path, str]:
        """Each index file to its checksum, see `obscluster.files.records`.

        Raises
        ------
        ArchiveError
            If one at a URL cannot be read.
        """
        found: dict[Path, str] = {}
        for path in self.index_files:
            try:
                remote = is_remote(path)
                found[path] = checksum_of(read_remote(path)) if remote else checksum(path)
            except OSError as error:
                raise ArchiveError(f"index file {path}: cannot be read ({error})") from None
        return found

    @classmethod
    def from_dir(
        cls,
        base_dir: str | os.PathLike[str],
        hdu_table_filename: str | None = None,
        obs_table_filename: str | None = None,
        strict: bool = True,
    ) -> DataStore:
        """Open an archive by its index files, plain or gzipped.

        Parameters
        ----------
        base_dir : str or path
            Directory of the archive, or one above it that holds no other; ``~`` and environment
            variables are expanded. Or its URL, such as ``https://host/archive`` or
            ``s3://bucket/archive``, see `obscluster.gadf.remote`.
        hdu_table_filename, obs_table_filename : str, optional
            Names of the index files where they are not ``hdu-index.fits.gz`` and
            ``obs-index.fits.gz``, relative to ``base_dir``; of several tables in a file, one by its
            number or EXTNAME: ``index.fits[2]``. Environment variables are expanded.
        strict : bool
            Raise an error where the unit of a column of GADF cannot be used.

        Raises
        ------
        ArchiveError
            If the directory or an index file is missing or cannot be read, or a unit cannot be
            used.

        Warns
        -----
        ObsClusterWarning
            If there is no obs-index, so that the headers of all runs are read; if rows are there
            twice; if a file has several tables that may be the index.

        Examples
        --------
        >>> data_store = DataStore.from_dir("$GAMMAPY_DATA/hess-dl3-dr1")  # doctest: +SKIP
        """
        named = hdu_table_filename is not None or obs_table_filename is not None
        directory = _index_directory(expand_path(base_dir), named)
        if not is_remote(directory):
            # What `obscluster index` had begun when it was killed.
            repair(directory)
        hdu_path = find_index(directory, HDU_INDEX, hdu_table_filename)
        obs_hdu, hdu_hdu = (
            split_hdu(name or "")[1] for name in (obs_table_filename, hdu_table_filename)
        )
        hdu_table = read_index(hdu_path, HDU_INDEX, hdu_hdu)
        hdu_table.meta["BASE_DIR"] = str(directory)
        hdu_index = HDUIndex(hdu_table, directory)
        index_files: tuple[Path, ...] = (hdu_path,)
        if obs_table_filename is None and not has_index(directory, OBS_INDEX):
            obs_table = _from_headers(hdu_index)
        else:
            obs_path = find_index(directory, OBS_INDEX, obs_table_filename)
            index_files = (obs_path, hdu_path)
            obs_table = _in_order(ObservationTable.read(obs_path, obs_hdu, strict), obs_path)
        obs_table.files = RunFiles(hdu_index, str(index_files[0]))
        data_store = cls(hdu_index, obs_table)
        data_store.index_files = index_files
        data_store.index_hdus = (obs_hdu, hdu_hdu)
        if is_remote(directory):
            # Now rather than when hours of work are written down, and the server may be gone.
            _ = data_store.index_checksums
        return data_store

    @classmethod
    def from_files(
        cls,
        paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
        irf_paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]] | None = None,
        progress: Callable[[Sequence[Path]], Iterable[Path]] | None = None,
    ) -> DataStore:
        """Open files that have no index; what an index would say is taken from their headers.

        Responses are those asked for; else those in the file of the run, or in one that names its
        OBS_ID; else those in ``$CALDB`` that its header names; else, if no run has its own and
        exactly one file has responses, these.

        Parameters
        ----------
        paths : path, pattern, directory, or several of them
            The files; ``~``, environment variables and ``**`` are expanded. Of a directory, all
            FITS files in it and below it.
        irf_paths : path or list of paths, optional
            One file with responses for all runs, or one per run.
        progress : callable, optional
            Wraps the list of the files while their headers are read.

        Raises
        ------
        ArchiveError
            If there is no run, no file can be read, or two files hold the same run.
        RequestError
            If the paths or the response files do not fit.

        Warns
        -----
        SkippedRunWarning
            If files were left out because they cannot be read.
        ObsClusterWarning
            If runs have no OBS_ID in the header, or no response.

        Examples
        --------
        >>> data_store = DataStore.from_files("$GAMMAPY_DATA/cta-1dc/data/**/*.fits")
        ... # doctest: +SKIP
        """
        # An archive with an index does without.
        found = discover(paths, irf_paths, progress=progress)
        for remark in found.remarks:
            warnings.warn(remark, ObsClusterWarning, stacklevel=2)
        if found.skipped:
            reasons = [f"{path}: {reason}" for path, reason in found.skipped.items()]
            more = f"; and {len(reasons) - 10} more" if len(reasons) > 10 else ""
            text = f"{len(reasons)} files left out: {'; '.join(reasons[:10])}{more}"
            warnings.warn(text, SkippedRunWarning, stacklevel=2)
        found.hdu_table.meta["BASE_DIR"] = str(found.base_dir)
        obs_table = ObservationTable(found.obs_table, copy=False)
        hdu_index = HDUIndex(found.hdu_table, found.base_dir)
        obs_table.files = RunFiles(hdu_index)
        return cls(hdu_index, obs_table)

    @property
    def has_plain_index(self) -> bool:
        """Whether each index is a file with one table, which any other program finds, too."""
        return len(set(self.index_files)) == 2 and self.index_hdus == (None, None)

    @property
    def base_dir(self) -> Path:
        """Directory of the archive."""
        return self.hdu_index.directory

    @property
    def hdu_table(self) -> Table:
        """The hdu-index as a table."""
        return self.hdu_index.table

    @property
    def obs_ids(self) -> NDArray[np.int64]:
        """Observations that the hdu-index knows, in order, shape (n_obs,)."""
        return self.hdu_index.obs_ids

    def __repr__(self) -> str:
        return f"<DataStore {self.base_dir}: {len(self.obs_table)} observations>"

    def info(self, show: bool = True) -> str | None:
        """What the index files say in short; `obscluster.workflow.info` opens files, too.

        Parameters
        ----------
        show : bool
            Print the text rather than return it.
        """
        obs_ids, hdu_table = self.obs_ids, self.hdu_table
        span = f" (OBS_ID {obs_ids[0]} to {obs_ids[-1]})" if len(obs_ids) else ""
        # One of the two columns is enough for an index.
        column = "HDU_CLASS" if "HDU_CLASS" in hdu_table.colnames else "HDU_TYPE"
        classes = np.unique(np.asarray(hdu_table[column])).tolist()
        text = join_lines(
            [
                f"archive: {self.base_dir}",
                f"observations: {len(self.obs_table)} in the obs-index",
                f"HDUs: {len(hdu_table)} of {len(obs_ids)} observations{span}",
                f"HDU classes: {', '.join(classes)}",
            ]
        )
        if not show:
            return text
        print(text)
        return None

    def ambiguous_parts(self, selected: ObservationTable) -> str:
        """What to do where event types were selected whose files nobody can tell apart.

        Parameters
        ----------
        selected : `~obscluster.archive.obs_table.ObservationTable`
            The rows of the obs-index that are to be used.

        Returns
        -------
        text : str
            Empty if all is well.
        """
        column, _ = differing_column(self.obs_table) if several_rows(self.obs_table) else ("", {})
        if not column or column in self.hdu_index.keys:
            return ""
        for obs_id in np.asarray(selected["OBS_ID"]).tolist():
            if self.hdu_index.has_choices(obs_id):
                return (
                    f"the hdu-index lists several files of a kind for run {obs_id}, and has no "
                    f"column {column} that says which is which; write one with it"
                )
        return ""

    def obs(self, obs_id: int) -> Observation:
        """One observation.

        Raises
        ------
        RequestError
            If the archive does not have it.
        """
        return self.get_observations([obs_id])[0]

    def get_observations(
        self,
        obs_id: Iterable[int] | ObservationTable | None = None,
        skip_missing: bool = False,
        required_irf: str | Sequence[str] = "all-optional",
    ) -> Observations:
        """Several observations.

        Parameters
        ----------
        obs_id : iterable of int or `~obscluster.archive.obs_table.ObservationTable`, optional
            Which, in this order; all of the obs-index by default. Of an OBS_ID with several rows
            (event types), pass the selected rows.
        skip_missing : bool
            Leave out what the hdu-index does not know, instead of raising an error.
        required_irf : str or sequence of str
            Leave out observations without these HDUs: "full-enclosure", "point-like",
            "all-optional", or HDU types.

        Raises
        ------
        RequestError
            If an observation is not in the archive, has several rows, or the requirement is
            unknown.
        """
        required = _REQUIRED.get(required_irf) if isinstance(required_irf, str) else required_irf
        if required is None or not set(required) <= {"events", "gti", *IRF_TYPES}:
            raise RequestError(
                f"required_irf {required_irf!r}; expected {', '.join(_REQUIRED)} or HDU types"
            )
        table = obs_id if isinstance(obs_id, Table) else self.obs_table
        whole = obs_id is None or isinstance(obs_id, Table)
        wanted = as_obs_ids(table["OBS_ID"] if whole else obs_id)  # type: ignore[arg-type]
        known = np.isin(wanted, self.hdu_index.obs_ids)
        if not (known.all() or skip_missing):
            more = f" and {(~known).sum() - 1} more" if (~known).sum() > 1 else ""
            raise RequestError(
                f"{self.base_dir}: the hdu-index has no run {wanted[~known][0]}{more}; "
                "pass skip_missing=True to go on without"
            )
        have = np.asarray(table["OBS_ID"])
        order = np.argsort(have, kind="stable")
        if whole:
            places, listed = np.arange(len(have)), np.ones(len(have), dtype=bool)
        else:
            at = np.searchsorted(have, wanted, sorter=order)
            places = order[np.minimum(at, max(len(have) - 1, 0))] if len(have) else at
            listed = np.isin(wanted, have)
        text = several_rows(table[np.isin(have, wanted)])
        if text:
            raise RequestError(f"{self.base_dir}: {text}")
        observations = []
        for obs, place, in_table, in_index in zip(
            wanted.tolist(), places.tolist(), listed.tolist(), known.tolist(), strict=True
        ):
            if not in_index:
                continue
            row = table[place] if in_table else None
            key = (obs,) if row is None else self.hdu_index.key_of(row)
            locations = self.hdu_index.locations(*key)
            if all(name in locations for name in required):
                observations.append(Observation(obs, locations, row, self.base_dir))
        return Observations(observations)


def _in_order(table: ObservationTable, path: Path) -> ObservationTable:
    """Rows ordered by OBS_ID, as users of Gammapy know it; one that is there twice counts once."""
    obs_ids = np.asarray(table["OBS_ID"])
    if not (np.diff(obs_ids) <= 0).any():
        return table
    table = table[np.argsort(obs_ids, kind="stable")]
    # Rows that differ are of event types, or wait for a selection.
    sorted_ids = np.asarray(table["OBS_ID"])
    again = np.flatnonzero(np.diff(sorted_ids, prepend=sorted_ids[:1] - 1) == 0)
    first = np.ones(len(table), dtype=bool)
    seen: set[tuple[str, ...]] = set()
    for row in np.unique(np.concatenate([again, again - 1])).tolist():
        key = tuple(repr(value) for value in table[row])
        first[row] = key not in seen
        seen.add(key)
    if not first.all():
        n_twice = int((~first).sum())
        text = f"{path}: {n_twice} rows are there twice, word by word; each counts once"
        warnings.warn(text, ObsClusterWarning, stacklevel=3)
    found: ObservationTable = table[first]
    return found


def _from_headers(hdu_index: HDUIndex) -> ObservationTable:
    """What an obs-index would say, from the headers of all runs."""
    obs_ids, headers, counts = [], [], []
    for obs_id in hdu_index.obs_ids.tolist():
        run = Observation(obs_id, hdu_index.locations(obs_id))
        try:
            header = HeaderNumbers(run.header)
            found = {key: header[key] for key in KEYWORDS if key in header}
            n_events = whole_number(run.header.get("NAXIS2"))
        except (DataError, ValueError):
            # The run is there; why nothing is known of it is said where it is read.
            found, n_events = {}, None
        obs_ids.append(obs_id)
        headers.append(found)
        counts.append(n_events or 0)
    warnings.warn(
        f"{hdu_index.directory}: no obs-index; what it would say is taken from the headers of "
        f"{len(obs_ids)} runs (obscluster index {hdu_index.directory} writes one)",
        ObsClusterWarning,
        stacklevel=3,
    )
    return ObservationTable(make_obs_index(obs_ids, headers, counts), copy=False)


def _index_directory(directory: Path, named: bool) -> Path:
    """Directory that holds the index: the one named, or the only one below it.

    At a URL it is the one named: what is below cannot be listed over HTTP.
    """
    if is_remote(directory) or named or any(has_index(directory, k) for k in _KINDS):
        return directory
    below = sorted({path.parent for kind in _KINDS for path in directory.rglob(f"{kind}.fits*")})
    if len(below) > 1:
        names = ", ".join(str(path.relative_to(directory)) for path in below[:5])
        raise ArchiveError(f"{directory}: holds several archives; name one of {names}")
    return below[0] if below else directory
