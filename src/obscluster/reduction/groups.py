"""Every group of a grouping to one stacked dataset, in files that Gammapy opens.

A group that is complete is kept beside the output until all are, so that a reduction that was
interrupted goes on from there when it is started again.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

from astropy import units as u

from obscluster.archive.description import open_archive
from obscluster.archive.kinds import Kind
from obscluster.archive.selection import resolve_target
from obscluster.archive.store import DataStore
from obscluster.config import make_config, relocated
from obscluster.config.reduction import ReduceConfig
from obscluster.exceptions import ArchiveError, RequestError
from obscluster.files.exchange import carry
from obscluster.files.output import check_output, recorded, reserved, results_directory
from obscluster.files.records import (
    any_value,
    check_record,
    checksum,
    mapping,
    mapping_of,
    optional,
    text,
    versions,
)
from obscluster.files.yaml import read_yaml, write_yaml
from obscluster.grouping.base import Grouping
from obscluster.parallel.engine import Progress
from obscluster.reduction.archive import (
    gammapy_store,
    group_kinds,
    read_observations,
    required_irfs,
    why_unread,
)
from obscluster.reduction.makers import (
    Outcome,
    Plan,
    make_plan,
    off_advice,
    plain_reason,
    reduce_runs,
    sparse_counts,
)
from obscluster.reduction.messages import captured
from obscluster.reduction.models import starting_models
from obscluster.reduction.result import (
    FIT_DIRECTORY,
    GROUP_FILE,
    MODELS_FILE,
    PARTS,
    RECORD_FILE,
    Reduction,
    find_complete,
    group_key,
    read_part,
    write_datasets,
    write_lists,
)
from obscluster.reduction.stack import GroupStack

__all__ = ["Progress", "reduce_groups"]

# Up to so many, datasets of single runs are kept unless told: light curves are made of them.
KEPT_RUNS = 200


def reduce_groups(
    groups: str | os.PathLike[str] | Grouping,
    config: ReduceConfig,
    output: str | os.PathLike[str],
    archive: str | os.PathLike[str] | Mapping[str, str] | DataStore | None = None,
    progress: Progress | None = None,
    overwrite: bool = False,
    trust: bool = False,
) -> Reduction:
    """Reduce the runs of each group and stack them to one dataset per group.

    Parameters
    ----------
    groups : str, path or `~obscluster.grouping.base.Grouping`
        ``groups.yaml`` or the directory that has it, or the grouping itself.
    config : `~obscluster.config.reduction.ReduceConfig`
        What to do.
    output : str or path
        Directory, which appears whole or not at all.
    archive : str, path, mapping or `~obscluster.archive.store.DataStore`, optional
        Where the runs are (a mapping: ``path``, ``obs_index``, ``hdu_index``); that of the groups
        by default.
    progress : callable, optional
        ``progress(iterable, total, what)`` wraps long loops.
    overwrite : bool
        Replace earlier results in the output; groups in it that are as asked are kept. A fit in
        it, of datasets that change, is removed.
    trust : bool
        Read the files of the groups also if they changed since they were written.

    Returns
    -------
    reduction : `Reduction`
        What was written: ``datasets.yaml``, ``models.yaml``, files of the datasets, and
        ``reduction.yaml`` with the runs that were left out.

    Raises
    ------
    RequestError
        If there is no target, a group holds runs that may not be stacked, the output cannot be
        written, or no run of any group can be reduced.
    """
    output = Path(output)
    check_output(output, overwrite)
    grouping, asked = _read_groups(groups, trust)
    if not isinstance(archive, DataStore):
        place = archive if archive is None or isinstance(archive, Mapping) else os.fspath(archive)
        archive = relocated(asked.get("archive"), place)
    if not archive or (isinstance(archive, Mapping) and "path" not in archive):
        raise RequestError("the grouping does not say where its runs are; pass the archive")
    data_store = open_archive(archive)
    # The target of the reduction, else that of the groups.
    text, frame = config.target, config.frame
    if text is None:
        text, frame = asked.get("target"), asked.get("frame") or "icrs"
    if text is None:
        raise RequestError(
            "the groups have no target; say where the source is, such as target: 83.63 22.01"
        )
    position = resolve_target(data_store.obs_table, text, frame=frame).position
    members = grouping.members
    keep_runs = config.keep_runs
    if keep_runs is None:
        keep_runs = sum(map(len, members.values())) <= KEPT_RUNS
    plan = make_plan(config.model_copy(update={"keep_runs": keep_runs}), position)
    kinds = group_kinds(data_store, members)
    keys = {name: group_key(plan, data_store, name, obs_ids) for name, obs_ids in members.items()}
    with reserved(output, overwrite, data_store.base_dir, keep=PARTS) as held:
        parts = held.kept(PARTS)
        done = {name: find_complete(name, key, parts, output) for name, key in keys.items()}
        todo = {name: obs_ids for name, obs_ids in members.items() if done[name] is None}
        for name in _reduce(todo, plan, data_store, keys, parts, progress):
            done[name] = parts / name
        places = {name: place for name, place in done.items() if place is not None}
        made = {name: read_part(place / GROUP_FILE) for name, place in places.items()}
        if not any(group["obs_ids"] for group in made.values()):
            # There is nothing in it with which the next start could go on.
            shutil.rmtree(parts)
            raise RequestError(_none_reduced(made))
        # Of runs that are kept without having been asked for, nothing need be said.
        advice = off_advice(made, config)
        record = _write(output, overwrite, places, made, plan, data_store, kinds, advice)
    return Reduction(output, record)


def _read_groups(
    groups: str | os.PathLike[str] | Grouping, trust: bool
) -> tuple[Grouping, dict[str, Any]]:
    """The grouping, and what was asked for when it was made."""
    if isinstance(groups, Grouping):
        return groups, {}
    path = Path(groups)
    grouping, record, _ = Grouping.read_all(path, trust)
    check_record(record, _ASKED, path)
    asked = record.get("config") or {}
    place = relocated(asked.get("archive"), record.get("archive"))
    if not asked or not place:
        return grouping, {**asked, "archive": place}
    return grouping, make_config({**asked, "archive": place}).model_dump(exclude_none=True)


_ASKED = mapping(
    {}, {"config": optional(mapping_of(any_value, key=text)), "archive": optional(text)}
)


def _reduce(
    members: Mapping[str, list[int]],
    plan: Plan,
    data_store: DataStore,
    keys: Mapping[str, str],
    parts: Path,
    progress: Progress | None,
) -> Iterator[str]:
    """Reduce groups and write each to a part of its own; yields their names."""
    if not members:
        return
    store = gammapy_store(data_store)
    required = required_irfs(plan.config.kind)
    found, missing = {}, {}
    for name, obs_ids in members.items():
        found[name], missing[name] = read_observations(store, obs_ids, required)
    observations = [obs for group in found.values() for obs in group.values()]
    # All groups share the workers, so that none waits at the end of a group.
    with closing(reduce_runs(observations, plan, plan.config.workers)) as outcomes:
        for name in members:
            runs: Iterable[Outcome] = islice(outcomes, len(found[name]))
            if progress is not None:
                runs = progress(runs, len(found[name]), name)
            _reduce_group(name, runs, missing[name], plan, keys[name], parts, data_store)
            yield name


def _reduce_group(
    name: str,
    outcomes: Iterable[Outcome],
    missing: Mapping[int, str],
    plan: Plan,
    key: str,
    parts: Path,
    data_store: DataStore,
) -> None:
    """Stack the runs of a group and write the dataset, as a whole or not at all."""
    stack = GroupStack(name, plan)
    skipped = dict(missing)
    messages: Counter[str] = Counter()
    unread = []
    for outcome in outcomes:
        reason = outcome.reason
        if not reason:
            with captured() as said:
                reason = stack.add(outcome.dataset, _conditions(data_store, outcome.obs_id))
            messages.update(said)
        if reason:
            why = why_unread(data_store, outcome.obs_id)
            skipped[outcome.obs_id] = why or plain_reason(reason)
            unread += [outcome.obs_id] if why or outcome.unread else []
        else:
            messages.update(outcome.messages)
    # No name of a group begins with a dot.
    staging = parts / f".{name}"
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    with captured() as said:
        content = stack.summary()
        datasets = write_datasets(staging, stack)
    files = [name for dataset in datasets for name in dataset["files"]]
    record = {
        "key": key,
        "obs_ids": stack.obs_ids,
        "livetime": f"{stack.livetime.to_value(u.h):.4f} h",
        **content,
        **_few_off(stack),
        "skipped": dict(sorted(skipped.items())),
        # Of these the group is not complete, and is not kept.
        **({"unread": sorted(unread)} if unread else {}),
        "messages": dict(messages + said),
        "datasets": datasets,
        "checksums": {name: checksum(staging / name) for name in files},
    }
    write_yaml(staging / GROUP_FILE, record)
    shutil.rmtree(parts / name, ignore_errors=True)
    staging.rename(parts / name)


def _conditions(data_store: DataStore, obs_id: int) -> dict[str, float]:
    """What the dataset of a group keeps of its runs; NaN where it is not known."""
    run = data_store.obs(obs_id)
    return {name: float(run.quantity(name).value.value) for name in ("ZEN_PNT", "MUONEFF")}


def _few_off(stack: GroupStack) -> dict[str, Any]:
    """Counts in bins with few OFF counts, of the group and of its runs if they are written."""
    if getattr(stack.dataset, "counts_off", None) is None:
        return {}
    found = {"group": sparse_counts(stack.dataset)}
    if stack.runs:
        found["runs"] = sparse_counts(stack.dataset, len(stack.obs_ids))
    return {"few_off": found}


def _none_reduced(groups: Mapping[str, dict[str, Any]]) -> str:
    reasons = {why for group in groups.values() for why in group["skipped"].values()}
    more = " ..." if len(reasons) > 3 else ""
    return f"no run can be reduced: {'; '.join(sorted(reasons)[:3])}{more}"


def _write(
    output: Path,
    overwrite: bool,
    places: Mapping[str, Path],
    groups: Mapping[str, dict[str, Any]],
    plan: Plan,
    data_store: DataStore,
    kinds: Mapping[str, Kind],
    advice: list[str],
) -> dict[str, Any]:
    """Put the groups together, and make them appear at once."""
    record: dict[str, Any] = {
        "obscluster": "reduction of groups",
        "versions": {**versions(), "gammapy": version("gammapy")},
        "config": plan.config.model_dump(),
        "archive": str(data_store.base_dir),
        "index_files": {p.name: value for p, value in data_store.index_checksums.items()},
        "position": {"ra": float(plan.position.ra.deg), "dec": float(plan.position.dec.deg)},
        "kinds": {name: kind.parts for name, kind in kinds.items()},
        "advice": advice,
        "groups": groups,
    }
    same = {name: group["checksums"] for name, group in groups.items()} == _checksums(output)
    fit = set() if same else _fit_files(output)
    with results_directory(output, "reduce", overwrite, data_store.base_dir, drop=fit) as staging:
        for name, group in groups.items():
            carry(places[name], staging, group["checksums"])
        write_lists(staging, groups)
        names = [name for name, group in groups.items() if group["obs_ids"]]
        starting_models(plan.config, plan.position, names).write(
            staging / MODELS_FILE, write_covariance=False, checksum=True
        )
        record["files"] = sorted({path.name for path in staging.iterdir()} | {RECORD_FILE})
        write_yaml(staging / RECORD_FILE, record)
    return record


def _checksums(output: Path) -> dict[str, Any]:
    """Checksums of the datasets that are there already, by group."""
    try:
        groups = read_yaml(output / RECORD_FILE).get("groups")
        check_record(groups, mapping_of(mapping({})), output / RECORD_FILE)
    except ArchiveError:
        return {}
    return {name: group.get("checksums") for name, group in (groups or {}).items()}


def _fit_files(output: Path) -> set[str]:
    """Files of a fit of datasets that will be no more, relative to the output."""
    names = recorded(output / FIT_DIRECTORY)
    return {f"{FIT_DIRECTORY}/{name}" for name in names}
