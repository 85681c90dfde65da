"""An archive as a description names it, opened."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from obscluster.description import Strict
from obscluster.gadf.index import expand_path
from obscluster.store import DataStore

__all__ = ["ArchiveConfig", "open_archive", "relocated"]


class ArchiveConfig(Strict):
    """An archive whose index files have other names, see `DataStore.from_dir`."""

    path: str
    obs_index: str | None = None
    hdu_index: str | None = None


def open_archive(
    archive: str | os.PathLike[str] | ArchiveConfig | Mapping[str, str] | DataStore,
    absolute: bool = False,
) -> DataStore:
    """An archive by its directory, or by a block with the names of its index files.

    Parameters
    ----------
    archive : str, path, `~obscluster.config.ArchiveConfig`, mapping or `DataStore`
        As a description has it; an archive that is open already is taken as it is.
    absolute : bool
        Make its paths absolute, for workers that stand elsewhere.

    Raises
    ------
    ArchiveError
        If it cannot be read.
    """
    if isinstance(archive, DataStore):
        return archive
    if isinstance(archive, str | os.PathLike):
        archive = ArchiveConfig(path=os.fspath(archive))
    elif not isinstance(archive, ArchiveConfig):
        archive = ArchiveConfig(**archive)
    place = expand_path(archive.path)
    place = place.absolute() if absolute else place
    return DataStore.from_dir(place, archive.hdu_index, archive.obs_index)


def relocated(asked: Any, given: Any) -> Any:
    """An archive as it was asked for, with another place or other index files.

    Parameters
    ----------
    asked, given : str, mapping with path, obs_index and hdu_index, or None
        What of ``given`` is not None takes the place of what was asked.

    Returns
    -------
    archive : str, dict or None
        As a description has it.
    """
    blocks = [a if isinstance(a, Mapping) else {"path": a} for a in (asked, given)]
    merged = {key: v for block in blocks for key, v in block.items() if v is not None}
    return merged.get("path") if set(merged) <= {"path"} else merged
