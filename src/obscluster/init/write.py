"""The description as text and as a file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from obscluster.config.archive import open_archive
from obscluster.exceptions import RequestError
from obscluster.files.checksums import UNSEALED
from obscluster.files.output import check_file, write_file
from obscluster.gadf.index import expand_path
from obscluster.init.blocks import (
    feature_blocks,
    first_blocks,
    grouping_blocks,
    last_blocks,
    reduction_blocks,
)
from obscluster.init.look import look_at
from obscluster.obs_table import several_rows
from obscluster.store import DataStore

__all__ = ["describe_reduction", "describe_run", "write_description"]

Archive = str | os.PathLike[str] | Mapping[str, str]


def write_description(
    archive: Archive,
    path: str | os.PathLike[str],
    overwrite: bool = False,
    verify: bool = False,
    force: bool = False,
    reduction: bool = False,
) -> str:
    """Write a description that `obscluster.run.run_plan` takes as it is.

    Parameters
    ----------
    archive : str, path or mapping
        Directory of the archive, or a block with ``path``, ``obs_index`` and ``hdu_index``.
    path : str or path
        The YAML file, which appears whole or not at all.
    overwrite : bool
        Replace a file that is there, if nobody has changed it.
    verify : bool
        Take livetimes from the good time intervals of all runs, rather than from the index.
    force : bool
        Replace any file that is there.
    reduction : bool
        Write one for `obscluster.reduction.read_reduce_config` instead.

    Returns
    -------
    text : str
        What was written, but for the last line, which has its checksum.

    Raises
    ------
    ArchiveError
        If the archive cannot be read.
    RequestError
        If the file is there already, or cannot be written.
    """
    path = Path(path)
    place = expand_path(archive["path"] if isinstance(archive, Mapping) else os.fspath(archive))
    check_file(path, overwrite, force, place)
    text = describe_reduction(archive) if reduction else describe_run(archive, verify)
    seal = f"\n# As `obscluster init` wrote it: {UNSEALED}\n"
    write_file(path, text + seal, overwrite, force, place)
    return text


def describe_run(archive: Archive, verify: bool = False) -> str:
    """Commented description of a run, as YAML.

    Parameters
    ----------
    archive : str, path or mapping
        Directory of the archive, or a block with ``path``, ``obs_index`` and ``hdu_index``.
    verify : bool
        Take livetimes from the good time intervals of all runs, rather than from the index.

    Raises
    ------
    ArchiveError
        If the archive cannot be read.
    RequestError
        If it holds no run.
    """
    looked_at = look_at(_opened(archive), verify)
    blocks = [
        *first_blocks(archive, looked_at),
        *feature_blocks(looked_at),
        *grouping_blocks(looked_at),
        *last_blocks(looked_at),
    ]
    return "\n\n".join(blocks) + "\n"


def describe_reduction(archive: Archive) -> str:
    """Commented description of a reduction, as YAML.

    Parameters
    ----------
    archive : str, path or mapping
        Directory of the archive, or a block with ``path``, ``obs_index`` and ``hdu_index``.

    Raises
    ------
    ArchiveError
        If the archive cannot be read.
    RequestError
        If it holds no run.
    """
    return "\n\n".join(reduction_blocks(look_at(_opened(archive)))) + "\n"


def _opened(archive: Archive) -> DataStore:
    data_store = open_archive(archive)
    if len(data_store.obs_table) == 0:
        raise RequestError(f"{data_store.base_dir}: the archive has no run")
    if text := several_rows(data_store.obs_table):
        raise RequestError(f"{data_store.base_dir}: {text}")
    return data_store
