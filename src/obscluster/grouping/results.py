"""Files of results."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Column, QTable, Table

from obscluster.archive.obs_table import ObservationTable, differing_column, several_rows
from obscluster.exceptions import ArchiveError
from obscluster.files.records import (
    any_value,
    check_record,
    list_of,
    mapping,
    mapping_of,
    optional,
    text,
    whole,
)
from obscluster.gadf.index import write_index
from obscluster.grouping.base import RECORD_FILE, Grouping
from obscluster.grouping.rules import UNASSIGNED

__all__ = ["read_grouping", "write_obs_index", "write_run_lists"]

# Of a million runs.
_GROUP = mapping({}, {"kind": mapping_of(text, key=text)})
_TEXTS = optional(mapping_of(text, key=text))
# What readers of a grouping take from groups.yaml, beside what the grouping does.
_RECORD = mapping(
    {"config": mapping_of(any_value, key=text)},
    {
        "archive": optional(text),
        "assigned": list_of(mapping({})),
        "clustered": list_of(text),
        "cut_flow": optional(list_of(mapping({}))),
        "feature_files": _TEXTS,
        "groups": optional(mapping_of(_GROUP, key=whole())),
        "index_files": _TEXTS,
        "label_files": _TEXTS,
        "versions": _TEXTS,
    },
)


def read_grouping(
    groups: str | os.PathLike[str], trust: bool = False
) -> tuple[Grouping, dict[str, Any], QTable, Path]:
    """A grouping that was written, with its record.

    Parameters
    ----------
    groups : str or path
        ``groups.yaml``, or the directory that has it.
    trust : bool
        Read files also if they changed since they were written.

    Returns
    -------
    grouping : `~obscluster.grouping.base.Grouping`
        The groups.
    record : dict
        Content of groups.yaml; ``config`` is what was asked.
    features : `~astropy.table.QTable`
        ``obs_id``, ``label`` and the features.
    directory : `~pathlib.Path`
        Where they are.

    Raises
    ------
    ArchiveError
        If the files are not those of a grouping that a description made, or changed since.
    """
    path = Path(groups)
    directory = path if path.is_dir() else path.parent
    grouping, record, features = Grouping.read_all(path, trust)
    check_record(record, _RECORD, directory / RECORD_FILE)
    clustered = record.get("clustered", [])
    if len(set(clustered)) < len(clustered):
        raise ArchiveError(f"{directory / RECORD_FILE}: clustered: names a feature twice")
    return grouping, record, features, directory


def write_run_lists(directory: Path, grouping: Grouping) -> list[str]:
    """One text file per group (and of the unassigned runs): an OBS_ID on each line."""
    names = []
    for group, obs_ids in grouping.groups.items():
        name = f"{group}.txt"
        (directory / name).write_text("".join(f"{obs_id}\n" for obs_id in obs_ids.tolist()))
        names.append(name)
    return names


def write_obs_index(
    directory: Path,
    table: ObservationTable,
    grouping: Grouping,
    selected: ObservationTable | None = None,
) -> list[str]:
    """Copy of the archive's obs-index with an integer column GROUP_ID.

    All observations of the archive are in it; those of no group, or not selected, have -1. Where an
    OBS_ID has several rows (event types), the selected one has the group.
    """
    copy = Table(table, copy=True)
    labels = grouping.label_of(np.asarray(table["OBS_ID"]))
    column, _ = differing_column(table) if several_rows(table) else ("", {})
    if column and selected is not None:
        chosen = {(int(row["OBS_ID"]), str(row[column])) for row in selected}
        rows = [(int(row["OBS_ID"]), str(row[column])) in chosen for row in table]
        labels = np.where(rows, labels, UNASSIGNED)
    description = "group found by obscluster, -1 for none"
    copy["GROUP_ID"] = Column(labels, description=description)
    name = "obs-index.fits.gz"
    write_index(copy, directory / name)
    return [name]
