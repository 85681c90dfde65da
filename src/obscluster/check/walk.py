"""The walk over an archive: every file is opened once, and everything listed in it is checked.

https://gamma-astro-data-formats.readthedocs.io/en/v0.3/data_storage/hdu_index/index.html
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Table

from obscluster.archive.observation import IRF_TYPES
from obscluster.archive.store import DataStore
from obscluster.check.findings import (
    ARCHIVE,
    Finding,
    Row,
    error,
    findings_table,
    guarded,
    some,
    warning,
)
from obscluster.check.headers import (
    TABLE_CLASSES,
    check_event_times,
    check_events,
    check_gti,
    check_identity,
    check_keywords,
    check_livetime,
    check_obs_id,
    check_run_times,
    good_livetime,
    number,
)
from obscluster.check.indices import (
    HeaderFacts,
    check_against_headers,
    check_index_livetimes,
    check_indices,
    facts_of,
    index_files,
)
from obscluster.check.responses import check_irf
from obscluster.exceptions import DataError
from obscluster.gadf.fits import HDU, FitsFile
from obscluster.gadf.hdu_index import HDULocation
from obscluster.parallel.engine import Engine, Serial

__all__ = ["check_archive"]


@dataclass
class _Listed:
    """An HDU, and the runs for which the index lists it."""

    location: HDULocation
    obs_ids: list[int] = field(default_factory=list)
    has_rad_max: bool = True


_File = tuple[Path, list[_Listed]]
_Job = list[_File]
"""Files that are open together: those of one run, or one that several runs share."""


@dataclass
class _Result:
    rows: list[Row] = field(default_factory=list)
    facts: list[HeaderFacts] = field(default_factory=list)
    livetimes: dict[int, float] = field(default_factory=dict)
    n_hdus: int = 0


def check_archive(
    data_store: DataStore,
    engine: Engine | None = None,
    progress: Callable[[Iterable[Any]], Iterable[Any]] | None = None,
) -> Table:
    """Check every run and every HDU of an archive.

    Parameters
    ----------
    data_store : `~obscluster.archive.store.DataStore`
        The archive.
    engine : `~obscluster.parallel.engine.Engine`, optional
        Where files are checked; one after the other unless told.
    progress : callable, optional
        Wraps the iterable of the results, one for each run and each shared file.

    Returns
    -------
    findings : `~astropy.table.Table`
        One row per finding: obs_id, hdu, severity ("error", "warning" or "info"), finding, file.
        What concerns several runs that share a file is one row, with -1 as obs_id, as is what
        concerns the archive. ``meta`` has ``n_runs`` and ``n_hdus``, the number of different HDUs
        that were looked at.

    Examples
    --------
    >>> findings = check_archive(DataStore.from_dir("archive"))  # doctest: +SKIP
    >>> findings[findings["severity"] == "error"]  # doctest: +SKIP
    """
    rows = list(check_indices(data_store))
    jobs = _jobs(data_store)
    base_dir = data_store.base_dir
    results = (Serial() if engine is None else engine).map(lambda job: _check(job, base_dir), jobs)
    facts: list[HeaderFacts] = []
    livetimes: dict[int, float] = {}
    n_hdus = 0
    for result in results if progress is None else progress(results):
        rows += result.rows
        facts += result.facts
        livetimes |= result.livetimes
        n_hdus += result.n_hdus
    rows += check_against_headers(data_store, facts)
    rows += check_index_livetimes(data_store, livetimes)
    n_runs = len({*data_store.obs_table["OBS_ID"].tolist(), *data_store.obs_ids.tolist()})
    meta = {"archive": str(base_dir), "n_runs": n_runs, "n_hdus": n_hdus}
    meta["index_files"] = list(index_files(data_store))
    return findings_table(rows, meta)


def _jobs(data_store: DataStore) -> list[_Job]:
    """What to check together, in the order of the runs."""
    files: dict[Path, dict[tuple[str, str, str], _Listed]] = {}
    for obs_id in data_store.obs_ids.tolist():
        locations = data_store.hdu_index.locations(obs_id)
        for location in locations.values():
            key = (location.hdu_type, location.hdu_class, location.hdu_name)
            listed = files.setdefault(location.path, {}).setdefault(key, _Listed(location))
            listed.obs_ids.append(obs_id)
            listed.has_rad_max &= "rad_max" in locations
    jobs: dict[Any, _Job] = {}
    for path, content in files.items():
        users = {obs_id for listed in content.values() for obs_id in listed.obs_ids}
        # The files of one run are looked at together, since its events and intervals belong
        # together; a shared file is a job of its own.
        together = path if len(users) > 1 else users.pop()
        jobs.setdefault(together, []).append((path, list(content.values())))
    return list(jobs.values())


def _check(job: _Job, base_dir: Path) -> _Result:
    """Check the files of a job."""
    result = _Result()
    # Events and intervals that can be read, to be held against each other: run to type to HDU.
    tables: dict[int, dict[str, tuple[HDU, str]]] = {}
    # Damaged numbers overflow, and are reported where they matter.
    with ExitStack() as stack, np.errstate(all="ignore"):
        for path, content in job:
            name = os.path.relpath(path, base_dir)
            for listed, hdu in _check_file(content, name, stack, result):
                for obs_id in listed.obs_ids:
                    tables.setdefault(obs_id, {})[listed.location.hdu_type] = (hdu, name)
        for obs_id, found in tables.items():
            if {"events", "gti"} <= set(found):
                result.rows += _check_times(obs_id, *found["events"], *found["gti"])
                events, gti = found["events"][0], found["gti"][0]
                with suppress(DataError):
                    result.livetimes[obs_id] = good_livetime(gti, events.header)
    return result


def _check_file(
    content: list[_Listed], name: str, stack: ExitStack, result: _Result
) -> list[tuple[_Listed, HDU]]:
    """Open a file, read it to its end, check what is listed; return the HDUs without error."""
    result.n_hdus += len(content)
    users = sorted({obs_id for listed in content for obs_id in listed.obs_ids})
    whole = _Listed(content[0].location, users)
    types = some((listed.location.hdu_type for listed in content), 6)
    try:
        file = stack.enter_context(FitsFile(content[0].location.existing_path))
    except DataError as problem:
        # A missing file is named with the first HDU that is listed in it.
        what = problem.message.partition(", though the index lists it")[0]
        _add(result, whole, "", error(f"{what}; the index lists {types} in it"), name)
        return []
    damage = None
    try:
        # What comes after the last HDU is looked for as well, so a packed file is unpacked and its
        # checksum verified.
        others = list(file)
    except DataError as problem:
        damage, others = problem.message, []
        _add(result, whole, "", error(f"{damage}; the index lists {types} in it"), name)
    intact = []
    for listed in content:
        try:
            hdu = listed.location.find(file)
            findings = list(guarded(_check_hdu(hdu, listed)))
        except DataError as problem:
            hdu, findings = None, [error(problem.message)]
        for finding in findings:
            if finding.text != damage:
                _add(result, listed, listed.location.hdu_type, finding, name)
        if hdu is None:
            continue
        others = [other for other in others if other is not hdu]
        if listed.location.hdu_type == "events":
            result.facts += [facts_of(hdu, obs_id, name) for obs_id in listed.obs_ids]
        if all(finding.severity != "error" for finding in findings):
            intact.append((listed, hdu))
    for hdu in others:
        for finding in guarded(_check_unlisted(hdu)):
            text = f"{finding.text} (HDU {hdu.name}, not in the index)"
            _add(result, whole, "", warning(text), name)
    return intact


def _check_hdu(hdu: HDU, listed: _Listed) -> Iterator[Finding]:
    """All checks of one HDU, by its type."""
    location = listed.location
    hdu_type = location.hdu_type
    if hdu_type not in (*TABLE_CLASSES, *IRF_TYPES):
        yield from _check_unlisted(hdu)
        return
    yield from check_identity(hdu, location)
    yield from check_keywords(hdu, hdu_type)
    if hdu_type in ("events", "gti") and len(listed.obs_ids) == 1:
        yield from check_obs_id(hdu, location.obs_id)
    if hdu_type == "events":
        keys = ("ONTIME", "LIVETIME", "DEADC")
        yield from check_livetime(*(number(hdu.header, key) for key in keys))
        yield from check_events(hdu)
    elif hdu_type == "gti":
        yield from check_gti(hdu)
    elif hdu_type == "pointing":
        yield from _check_unlisted(hdu)
    else:
        yield from check_irf(hdu, location.hdu_class, listed.has_rad_max)


def _check_unlisted(hdu: HDU) -> Iterator[Finding]:
    """Whether the data of a table is there; nothing else is known of it."""
    if hdu.header.get("XTENSION") == "BINTABLE" and hdu.data_size and hdu.colnames:
        hdu.view(hdu.colnames[0])
    yield from ()


def _check_times(
    obs_id: int, events: HDU, events_file: str, gti: HDU, gti_file: str
) -> Iterator[Row]:
    """Events and intervals of a run against each other."""
    for finding in guarded(check_run_times(gti, events)):
        yield Row(obs_id, "gti", *finding, gti_file)
    for finding in guarded(check_event_times(events, gti)):
        yield Row(obs_id, "events", *finding, events_file)


def _add(result: _Result, listed: _Listed, hdu_type: str, finding: Finding, file: str) -> None:
    """Note a finding, once for all runs that it concerns."""
    shared = len(listed.obs_ids) > 1
    text = finding.text + (f" ({len(listed.obs_ids)} runs: {some(listed.obs_ids, 3)})" * shared)
    obs_id = ARCHIVE if shared else listed.obs_ids[0]
    result.rows.append(Row(obs_id, hdu_type, finding.severity, text, file))
