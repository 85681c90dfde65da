"""Archives: which observations there are, and several of them at once."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
from astropy.table import Table, unique
from numpy.typing import NDArray

from obscluster.exceptions import (
    ArchiveError,
    ObsClusterWarning,
    RequestError,
    SkippedRunWarning,
)
from obscluster.gadf.hdu_index import HDUIndex
from obscluster.gadf.index import (
    HDU_INDEX,
    OBS_INDEX,
    expand_path,
    find_index,
    read_index,
    split_hdu,
)
from obscluster.gadf.remote import is_remote
from obscluster.obs_table import ObservationTable, as_obs_ids
from obscluster.observation import IRF_TYPES, Observation
from obscluster.observations import Observations

__all__ = ["DataStore", "Observation", "Observations"]

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
    obs_table : `~obscluster.obs_table.ObservationTable`
        What is known of each observation.
    """

    def __init__(self, hdu_index: HDUIndex, obs_table: ObservationTable):
        self.hdu_index = hdu_index
        self.obs_table = obs_table
        self.index_files: tuple[Path, ...] = ()
        self.index_hdus: tuple[int | str | None, ...] = ()

    @classmethod
    def from_dir(
        cls,
        base_dir: str | os.PathLike[str],
        hdu_table_filename: str | None = None,
        obs_table_filename: str | None = None,
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
            number or EXTNAME: ``index.fits[2]``.

        Raises
        ------
        ArchiveError
            If the directory or an index file is missing or cannot be read.

        Examples
        --------
        >>> data_store = DataStore.from_dir("$GAMMAPY_DATA/hess-dl3-dr1")  # doctest: +SKIP
        """
        directory = _index_directory(expand_path(base_dir))
        obs_path = find_index(directory, OBS_INDEX, obs_table_filename)
        hdu_path = find_index(directory, HDU_INDEX, hdu_table_filename)
        obs_hdu, hdu_hdu = (
            split_hdu(name or "")[1] for name in (obs_table_filename, hdu_table_filename)
        )
        obs_table = ObservationTable.read(obs_path, obs_hdu)
        # Rows are ordered by OBS_ID and unique in it, as users of Gammapy know it.
        obs_ids = np.asarray(obs_table["OBS_ID"])
        if (np.diff(obs_ids) <= 0).any():
            obs_table = unique(obs_table, keys="OBS_ID")
        hdu_table = read_index(hdu_path, HDU_INDEX, hdu_hdu)
        hdu_table.meta["BASE_DIR"] = str(directory)
        data_store = cls(HDUIndex(hdu_table, directory), obs_table)
        data_store.index_files = (obs_path, hdu_path)
        data_store.index_hdus = (obs_hdu, hdu_hdu)
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
        from obscluster.gadf.discover import discover

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
        return cls(HDUIndex(found.hdu_table, found.base_dir), obs_table)

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
        """What the index files say in short; `obscluster.info` opens run files and tells more.

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
        text = "\n".join(
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
        obs_id: Iterable[int] | None = None,
        skip_missing: bool = False,
        required_irf: str | Sequence[str] = "all-optional",
    ) -> Observations:
        """Several observations.

        Parameters
        ----------
        obs_id : iterable of int, optional
            Which, in this order; all of the obs-index unless told.
        skip_missing : bool
            Leave out what the hdu-index does not know, instead of raising an error.
        required_irf : str or sequence of str
            Leave out observations without these HDUs: "full-enclosure", "point-like",
            "all-optional", or HDU types.

        Raises
        ------
        RequestError
            If an observation is not in the archive, or the requirement is unknown.
        """
        required = _REQUIRED.get(required_irf) if isinstance(required_irf, str) else required_irf
        if required is None or not set(required) <= {"events", "gti", *IRF_TYPES}:
            raise RequestError(
                f"required_irf {required_irf!r}; expected {', '.join(_REQUIRED)} or HDU types"
            )
        wanted = as_obs_ids(self.obs_table["OBS_ID"] if obs_id is None else obs_id)
        known = np.isin(wanted, self.hdu_index.obs_ids)
        if not (known.all() or skip_missing):
            more = f" and {(~known).sum() - 1} more" if (~known).sum() > 1 else ""
            raise RequestError(
                f"{self.base_dir}: the hdu-index has no run {wanted[~known][0]}{more}; "
                "pass skip_missing=True to go on without"
            )
        have = np.asarray(self.obs_table["OBS_ID"])
        observations = []
        wanted = wanted[known]
        places = np.searchsorted(have, wanted)
        listed = np.isin(wanted, have)
        for obs, place, in_table in zip(
            wanted.tolist(), places.tolist(), listed.tolist(), strict=True
        ):
            locations = self.hdu_index.locations(obs)
            if all(name in locations for name in required):
                index_row = self.obs_table[place] if in_table else None
                observations.append(Observation(obs, locations, index_row, self.base_dir))
        return Observations(observations)


def _index_directory(directory: Path) -> Path:
    """Directory that holds the index: the one named, or the only one below it.

    At a URL it is the one named: what is below cannot be listed over HTTP.
    """
    if is_remote(directory):
        return directory
    if any((directory / f"{OBS_INDEX}.fits{suffix}").is_file() for suffix in ("", ".gz")):
        return directory
    below = sorted({path.parent for path in directory.rglob(f"{OBS_INDEX}.fits*")})
    if len(below) > 1:
        names = ", ".join(str(path.relative_to(directory)) for path in below[:5])
        raise ArchiveError(f"{directory}: holds several archives; name one of {names}")
    return below[0] if below else directory
