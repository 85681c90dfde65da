"""New runs into existing groups.

A grouping that was written holds its rule, so that months later the same groups can take new runs.
Runs that have a group keep it, whatever happens; new ones are put where the rule says, or flagged.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Column, QTable, Table, vstack
from numpy.typing import NDArray

from obscluster.archive.kinds import Kind, joined, make_kind, may_be_stacked
from obscluster.archive.obs_table import LIVETIME
from obscluster.config import RunConfig, make_config, relocated
from obscluster.exceptions import ObsClusterWarning, RequestError
from obscluster.files.output import results_directory
from obscluster.files.records import checksum, versions
from obscluster.grouping import UNASSIGNED
from obscluster.grouping.base import RECORD_FILE, Grouping, write_grouping
from obscluster.grouping.results import read_grouping, write_run_lists
from obscluster.parallel.engine import Progress
from obscluster.values.columns import numbers
from obscluster.workflow.runs import Runs, characterise

__all__ = ["Assignment", "assign_observations", "write_assignment"]

Archive = str | os.PathLike[str] | Mapping[str, str]

# Features of the same run that differ by more, relatively, were computed from other files.
_CHANGED = 1e-6


@dataclass(frozen=True, eq=False)
class Assignment:
    """Where the runs of an archive belong.

    Parameters
    ----------
    table : `~astropy.table.QTable`
        One row per selected run of the archive: ``obs_id``, ``label``, ``status`` ("known": it
        has its place already, "new": it was put into a group, "fits none", "unread": it has
        no place because a file of it could not be read) and ``notes``.
    grouping : `~obscluster.grouping.base.Grouping`
        The earlier grouping with the new runs, those that fit none as -1.
    features : `~astropy.table.QTable`
        Features of all runs of the grouping, as far as they are known.
    origin : `~pathlib.Path`
        Directory of the earlier grouping.
    record : mapping
        Its record.
    runs : `~obscluster.workflow.runs.Runs`
        The runs of the archive.
    kinds : dict
        Label to the kind of the runs of the group, see `obscluster.archive.kinds`.
    """

    table: QTable
    grouping: Grouping
    features: QTable
    origin: Path
    record: Mapping[str, Any]
    runs: Runs
    kinds: Mapping[int, Kind]

    @property
    def unread(self) -> Mapping[int, str]:
        """Runs of the archive of which a file could not be read, and why.

        Those that have no place for it are tried again when the groups are extended once more.
        """
        return self.runs.unread

    @property
    def changed_index(self) -> list[str]:
        """Index files that are not those of which the groups were made, by their checksums."""
        recorded = self.record.get("index_files") or {}
        return [
            path.name
            for path, value in self.runs.data_store.index_checksums.items()
            if recorded.get(path.name) != value
        ]

    def count(self, status: str) -> int:
        """Number of runs with a status."""
        return int((self.table["status"] == status).sum())


def assign_observations(
    groups: str | os.PathLike[str],
    archive: Archive,
    workers: int = 1,
    progress: Progress | None = None,
    trust: bool = False,
) -> Assignment:
    """Put the runs of an archive into groups that were made before.

    The selection and the features are those of the grouping. What changed since then is warned of:
    its own files, files of features, and responses of runs that it knows.

    Parameters
    ----------
    groups : str or path
        ``groups.yaml``, or the directory that has it.
    archive : str, path or mapping
        Directory with obs-index and hdu-index files, or a block with ``path``, ``obs_index`` and
        ``hdu_index``.
    workers : int
        Runs read at once.
    progress : callable, optional
        ``progress(iterable, total, what)`` wraps long loops.
    trust : bool
        Read the files of the grouping also if they changed since they were written.

    Raises
    ------
    ArchiveError
        If the files are not those of a grouping, or changed since they were written.
    RequestError
        If the grouping has no rule, or the archive cannot be read.
    """
    earlier, record, old, directory = read_grouping(groups, trust)
    if earlier.rule is None:
        raise RequestError(f"{directory}: the grouping has no rule, so new runs have no group")
    place = archive if isinstance(archive, Mapping) else os.fspath(archive)
    config = _config(record["config"], place, workers)
    _warn_of_feature_files(record.get("feature_files") or {})
    runs = characterise(config, progress)
    obs_ids = np.asarray(runs.table["obs_id"], dtype=np.int64)
    unread = np.isin(obs_ids, list(runs.unread))
    rule = earlier.rule
    earlier, old = _without_unread(earlier, old, record, obs_ids)
    _warn_of_changed_features(old, runs.features[~unread])
    known = np.isin(obs_ids, earlier.obs_ids)
    labels = earlier.label_of(obs_ids)
    notes = [earlier.reasons.get(int(i), "") for i in obs_ids]
    fresh = np.flatnonzero(~known)
    kinds = _kinds_of_groups(earlier, record, runs)
    if len(fresh):
        labels[fresh], reasons = rule.assign(runs.table[fresh])
        for row, reason in zip(fresh, reasons, strict=True):
            text = str(runs.features["notes"][row])
            notes[row] = "; ".join(filter(None, [reason, text if reason else ""]))
    _keep_kinds_apart(kinds, runs, fresh, labels, notes)
    status = np.where(known, "known", np.where(labels == UNASSIGNED, "fits none", "new"))
    status = np.where((status == "fits none") & unread, "unread", status)
    table = QTable({"obs_id": obs_ids, "label": labels, "status": status})
    table["notes"] = Column(notes, dtype=str)
    grouping = replace(
        earlier,
        obs_ids=np.concatenate([earlier.obs_ids, obs_ids[fresh]]),
        labels=np.concatenate([earlier.labels, labels[fresh]]),
        # The tree knows only the runs that made it.
        linkage=None,
        reasons={
            **earlier.reasons,
            **{int(obs_ids[row]): notes[row] for row in fresh if labels[row] == UNASSIGNED},
        },
    )
    added = QTable(runs.features[fresh], copy=True)
    features = vstack([old, added], join_type="outer", metadata_conflicts="silent")
    aside = {"label", "notes"} | ({LIVETIME} - set(old.colnames))
    columns = [name for name in features.colnames if name not in aside]
    return Assignment(table, grouping, features[columns], directory, record, runs, kinds)


def _kinds_of_groups(earlier: Grouping, record: Mapping[str, Any], runs: Runs) -> dict[int, Kind]:
    """Kind of each group, as it was written or as its runs in the archive have it."""
    written, known = record.get("groups") or {}, runs.kinds
    found = {}
    for label in range(1, earlier.n_groups + 1):
        members = earlier.obs_ids[earlier.labels == label].tolist()
        of_runs = dict.fromkeys(known[i] for i in members if i in known)
        found[label] = joined([make_kind(written.get(label, {}).get("kind", {})), *of_runs])
    return found


def _keep_kinds_apart(
    of_group: dict[int, Kind],
    runs: Runs,
    fresh: NDArray[np.int64],
    labels: NDArray[np.int64],
    notes: list[str],
) -> None:
    """Take new runs out of groups with whose runs they may not be stacked, and note why."""
    known, obs_ids = runs.kinds, runs.table["obs_id"].tolist()
    for row in fresh[labels[fresh] != UNASSIGNED].tolist():
        label, kind = int(labels[row]), known[obs_ids[row]]
        # A rule that was edited may name groups that no run was in.
        group = of_group.get(label, Kind())
        if may_be_stacked(group, kind):
            of_group[label] = joined([group, kind])
        else:
            labels[row] = UNASSIGNED
            notes[row] = f"is {kind}, which may not be stacked with {group}"


def _without_unread(
    earlier: Grouping, old: QTable, record: Mapping[str, Any], obs_ids: NDArray[np.int64]
) -> tuple[Grouping, QTable]:
    """The earlier groups without runs that were in none because they could not be read."""
    unread = [int(i) for i in record.get("unread") or {}]
    again = np.isin(earlier.obs_ids, np.intersect1d(unread, obs_ids))
    again &= earlier.labels == UNASSIGNED
    if not again.any():
        return earlier, old
    gone = set(earlier.obs_ids[again].tolist())
    kept = replace(
        earlier,
        obs_ids=earlier.obs_ids[~again],
        labels=earlier.labels[~again],
        reasons={i: why for i, why in earlier.reasons.items() if i not in gone},
    )
    return kept, old[~np.isin(np.asarray(old["obs_id"]), list(gone))]


def _still_unread(assignment: Assignment) -> dict[int, str]:
    """Runs in no group because they could not be read, now or when the groups were made."""
    known = {**(assignment.record.get("unread") or {}), **assignment.unread}
    grouping = assignment.grouping
    outside = grouping.obs_ids[grouping.labels == UNASSIGNED].tolist()
    table = assignment.table
    settled = set(table["obs_id"][table["status"] == "fits none"].tolist())
    return {i: known[i] for i in sorted(outside) if i in known and i not in settled}


def write_assignment(assignment: Assignment, output: Path, overwrite: bool = False) -> list[str]:
    """Write the extended grouping, which can take further runs in its turn.

    Parameters
    ----------
    assignment : `Assignment`
        What to write.
    output : `~pathlib.Path`
        Directory, which appears whole or not at all.
    overwrite : bool
        Replace earlier results in it.

    Returns
    -------
    files : list of str
        Names of the files in the output.
    """
    grouping = assignment.grouping
    base_dir = assignment.runs.data_store.base_dir
    with results_directory(output, "group", overwrite, base_dir) as staging:
        assignment.table.write(staging / "assignment.ecsv", format="ascii.ecsv")
        files = ["assignment.ecsv", *write_run_lists(staging, grouping), *grouping.files]
        store = assignment.runs.data_store
        unread = _still_unread(assignment)
        history = [*assignment.record.get("assigned", []), _step(assignment)]
        record = {
            **{key: value for key, value in assignment.record.items() if key not in _REWRITTEN},
            "versions": versions(),
            "index_files": {path.name: value for path, value in store.index_checksums.items()},
            "assigned": history,
            "n_obs": len(grouping),
            **({"unread": unread} if unread else {}),
            "groups": {
                label: {
                    "n_obs": int((grouping.labels == label).sum()),
                    "kind": assignment.kinds.get(label, Kind()).parts,
                }
                for label in range(1, grouping.n_groups + 1)
            },
            "files": sorted(files),
        }
        write_grouping(staging, grouping, Table(assignment.features, copy=False), record)
    return sorted(files)


# Keys of a record that the grouping writes anew.
_REWRITTEN = (
    *("parameters", "names", "remarks", "unassigned", "linkage", "rule", "checksums"),
    "unread",
)


def _step(assignment: Assignment) -> dict[str, Any]:
    return {
        "archive": str(assignment.runs.data_store.base_dir),
        "groups": str(assignment.origin),
        "groups_checksum": checksum(assignment.origin / RECORD_FILE),
        "known": assignment.count("known"),
        "new": assignment.count("new"),
        "fits_none": assignment.count("fits none"),
        "unread": assignment.count("unread"),
    }


def _config(content: Mapping[str, Any], archive: Archive, workers: int) -> RunConfig:
    """What was asked, of another archive; all features are wanted, also those that runs lack."""
    place = relocated(content.get("archive"), archive)
    config = make_config({**content, "archive": place, "workers": workers})
    features = config.features.model_copy(update={"missing": "unassigned"})
    return config.model_copy(update={"features": features})


def _warn_of_feature_files(files: Mapping[str, str]) -> None:
    for name, value in files.items():
        path = Path(name)
        if not path.is_file():
            raise RequestError(f"{name}: no such file; the grouping has features that it defines")
        if checksum(path) != value:
            text = f"{name}: changed since the groups were made, so may be its features"
            warnings.warn(text, ObsClusterWarning, stacklevel=3)


def _warn_of_changed_features(old: QTable, new: QTable) -> None:
    """Say which runs of the grouping have other features now; they keep their groups."""
    common, i, j = np.intersect1d(
        np.asarray(old["obs_id"]), np.asarray(new["obs_id"]), return_indices=True
    )
    changed: dict[int, str] = {}
    for name in new.colnames:
        if name in ("obs_id", "notes") or name not in old.colnames:
            continue
        before = numbers(old[name], new[name].unit)[i]
        now = numbers(new[name])[j]
        same = np.isclose(now, before, rtol=_CHANGED, atol=0, equal_nan=True)
        for obs_id, was, value in zip(common[~same], before[~same], now[~same], strict=True):
            changed.setdefault(int(obs_id), f"{name} was {was:.4g}, is {value:.4g}")
    if changed:
        first = "; ".join(f"run {obs_id}: {text}" for obs_id, text in list(changed.items())[:3])
        warnings.warn(
            f"{len(changed)} runs have other features than when the groups were made, and keep "
            f"their groups ({first})",
            ObsClusterWarning,
            stacklevel=3,
        )
