"""Both index tables of an archive, from the headers of its files."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Column, Table

from obscluster.exceptions import ArchiveError, DataError
from obscluster.gadf.discover.obs_index import GADF, make_obs_index
from obscluster.gadf.discover.paths import (
    Paths,
    common_directory,
    find_files,
    relative_directory,
)
from obscluster.gadf.discover.responses import link_parts
from obscluster.gadf.discover.scan import FileContent, Part, scan_file
from obscluster.gadf.index import expand_path
from obscluster.gadf.irf_class import IRF_CLASSES

__all__ = ["Discovery", "discover"]

_TYPE_ORDER = (
    "events",
    "gti",
    "pointing",
    *dict.fromkeys(c.hdu_type for c in IRF_CLASSES.values()),
)
_MAX_ID = 2**63


@dataclass(frozen=True)
class Discovery:
    """What was found.

    Parameters
    ----------
    obs_table : `~astropy.table.Table`
        The obs-index, ordered by OBS_ID.
    hdu_table : `~astropy.table.Table`
        The hdu-index, ordered by OBS_ID.
    base_dir : `~pathlib.Path`
        What FILE_DIR is relative to.
    skipped : dict
        File to the reason why it was left out.
    remarks : list of str
        What else a user should know.
    """

    obs_table: Table
    hdu_table: Table
    base_dir: Path
    skipped: dict[Path, str]
    remarks: list[str]


def discover(
    paths: Paths,
    irf_paths: Paths | None = None,
    base_dir: str | os.PathLike[str] | None = None,
    progress: Callable[[Sequence[Path]], Iterable[Path]] | None = None,
) -> Discovery:
    """Build the index tables of files.

    Parameters
    ----------
    paths : path, pattern, directory, or several of them
        The files: see `obscluster.gadf.discover.paths.find_files`.
    irf_paths : path or list of paths, optional
        Response file for all runs, or one per run.
    base_dir : path, optional
        What FILE_DIR is to be relative to; unless told, the directory if ``paths`` is one, else
        the deepest that holds all runs.
    progress : callable, optional
        Wraps the list of the files while they are read.

    Returns
    -------
    discovery : `Discovery`
        The tables, and what was left out.

    Raises
    ------
    ArchiveError
        If there is no run, no file can be read, or two files hold the same run.
    RequestError
        If the paths or the response files do not fit.
    """
    files = find_files(paths)
    contents: dict[Path, FileContent] = {}
    skipped: dict[Path, str] = {}
    for path in files if progress is None else progress(files):
        try:
            contents[path] = scan_file(path)
        except DataError as error:
            skipped[path] = (
                error.message if error.hdu is None else f"HDU {error.hdu}: {error.message}"
            )
    found = [content for content in contents.values() if content.header is not None]
    if not found:
        raise _no_runs(files, skipped)
    runs, remarks = _number_runs(found)
    others = [content for content in contents.values() if content.header is None]
    candidates = [p for p in files if p in skipped or contents[p].header is not None]
    links = link_parts(runs, others, candidates, irf_paths)
    base = _base_directory(paths, found, base_dir)
    obs_table = make_obs_index(
        list(runs),
        [run.header or {} for run in runs.values()],
        [run.n_events for run in runs.values()],
    )
    hdu_table = _make_hdu_index(list(runs), links.parts, base)
    return Discovery(obs_table, hdu_table, base, skipped, remarks + links.remarks)


def _no_runs(files: Sequence[Path], skipped: dict[Path, str]) -> ArchiveError:
    where = str(files[0]) if len(files) == 1 else f"{files[0]} and {len(files) - 1} more files"
    if len(skipped) == len(files):
        return ArchiveError(f"{where}: none can be read ({skipped[files[0]]})")
    more = f"; {len(skipped)} cannot be read" if skipped else ""
    return ArchiveError(f"{where}: no EVENTS table (HDUCLAS1 = EVENTS) in any of them{more}")


def _base_directory(
    paths: Paths, runs: Sequence[FileContent], base_dir: str | os.PathLike[str] | None
) -> Path:
    if base_dir is not None:
        return expand_path(base_dir)
    if isinstance(paths, str | os.PathLike) and (directory := expand_path(paths)).is_dir():
        return directory
    return common_directory(run.path for run in runs)


def _number_runs(runs: Sequence[FileContent]) -> tuple[dict[int, FileContent], list[str]]:
    """OBS_ID to run, in order, and what to say about runs that did not have any."""
    numbered: dict[int, FileContent] = {}
    for run in runs:
        if run.obs_id is None:
            continue
        if run.obs_id in numbered:
            other = numbered[run.obs_id].path
            raise ArchiveError(
                f"run {run.obs_id} is in two files, {other} and {run.path}; leave one of them out"
            )
        numbered[run.obs_id] = run
    nameless = [run for run in runs if run.obs_id is None]
    remarks = []
    if nameless:
        ids, how = _invent_ids([run.path.name for run in nameless], numbered)
        numbered.update(zip(ids, nameless, strict=True))
        examples = ", ".join(
            f"{i} for {run.path.name}" for i, run in zip(ids[:3], nameless[:3], strict=True)
        )
        remarks.append(
            f"{len(nameless)} of {len(runs)} runs have no whole number as OBS_ID in the header; "
            f"{how}, such as {examples}"
        )
    return dict(sorted(numbered.items())), remarks


def _invent_ids(names: Sequence[str], taken: Iterable[int]) -> tuple[list[int], str]:
    """Identifiers for files without, and how they came about."""
    used = set(taken)
    digits = [re.findall("[0-9]+", name) for name in names]
    # Preferably what does not change when further files come to the archive.
    longest = [max(groups, key=len, default="") for groups in digits]
    joined = ["".join(groups) for groups in digits]
    for texts in (longest, joined):
        ids = [int(text) for text in texts if text]
        unique = len(set(ids)) == len(names) and not used & set(ids)
        if unique and max(ids) < _MAX_ID:
            return ids, "the digits of the file names stand in"
    free = (number for number in itertools.count(1) if number not in used)
    return list(itertools.islice(free, len(names))), "running numbers stand in"


def _make_hdu_index(obs_ids: Sequence[int], parts: Sequence[Sequence[Part]], base: Path) -> Table:
    """The hdu-index (GADF: hdu-index)."""
    directories: dict[Path, str] = {}
    rows: list[tuple[Any, ...]] = []
    for obs_id, own in zip(obs_ids, parts, strict=True):
        for part in sorted(own, key=lambda part: _TYPE_ORDER.index(part.hdu_type)):
            parent = part.path.parent
            if parent not in directories:
                directories[parent] = relative_directory(part.path, base)
            place = (directories[parent], part.path.name, part.hdu_name, part.size)
            rows.append((obs_id, part.hdu_type, part.hdu_class, *place))
    names = ("OBS_ID", "HDU_TYPE", "HDU_CLASS", "FILE_DIR", "FILE_NAME", "HDU_NAME", "SIZE")
    columns = [
        Column(np.array(values, dtype=np.int64 if name in ("OBS_ID", "SIZE") else None), name=name)
        for name, values in zip(names, zip(*rows, strict=True), strict=True)
    ]
    header = GADF | {"HDUCLAS1": "INDEX", "HDUCLAS2": "HDU", "EXTNAME": "HDU_INDEX"}
    return Table(columns, copy=False, meta=header)
