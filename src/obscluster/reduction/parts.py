"""Groups that are complete, kept beside the output until all are."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from obscluster.exceptions import ArchiveError
from obscluster.files.checksums import checksum
from obscluster.files.exchange import carry
from obscluster.files.records import (
    any_value,
    check_record,
    list_of,
    mapping,
    mapping_of,
    number,
    path_in,
    text,
    whole,
)
from obscluster.files.yaml import read_yaml, write_yaml
from obscluster.reduction.files import RECORD_FILE
from obscluster.reduction.makers import Plan
from obscluster.store import DataStore

__all__ = ["GROUP_FILE", "PARTS", "check_part", "find_complete", "group_key", "read_part"]

GROUP_FILE = "group.yaml"
# Directory of the groups that are complete.
PARTS = "parts"


def group_key(plan: Plan, data_store: DataStore, name: str, obs_ids: list[int]) -> str:
    """What tells whether a group that is there already is the one that is asked for."""
    asked = plan.config.model_dump(exclude={"workers", "fit", "target", "frame"})
    file = plan.config.exclusion.file
    content = {
        "config": asked,
        "position": [plan.position.ra.deg, plan.position.dec.deg],
        "exclusion": None if file is None else checksum(Path(file)),
        "archive": str(data_store.base_dir.absolute()),
        "index": list(data_store.index_checksums.values()),
        # A file that was mended since makes another dataset.
        "files": _files(data_store, obs_ids),
        "group": name,
        "obs_ids": obs_ids,
        "gammapy": version("gammapy"),
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _files(data_store: DataStore, obs_ids: list[int]) -> list[list[Any]]:
    """Name, size and time of the files of runs."""
    table = data_store.hdu_table
    rows = table[np.isin(np.asarray(table["OBS_ID"]), obs_ids)]
    names = {
        "/".join(str(part).strip() for part in pair)
        for pair in zip(rows["FILE_DIR"], rows["FILE_NAME"], strict=True)
    }
    found: list[list[Any]] = []
    for name in sorted(names):
        try:
            status = (Path(data_store.base_dir) / name).stat()
        except OSError:
            found.append([name])
        else:
            found.append([name, status.st_size, status.st_mtime_ns])
    return found


def find_complete(name: str, key: str, parts: Path, output: Path) -> Path | None:
    """Directory with the group as asked, from an interrupted or an earlier reduction."""
    for place, file in ((parts / name, GROUP_FILE), (output, RECORD_FILE)):
        try:
            record = read_yaml(place / file)
            if file == RECORD_FILE:
                check_record(record, mapping({"groups": mapping({name: any_value})}), place / file)
                record = record["groups"][name]
            check_part(record, place / file)
        except ArchiveError:
            # Whatever it is, it is not the group that was asked for.
            continue
        # What made runs fail may be mended, even if it is not in the key.
        if (
            record.get("key") == key
            and record["obs_ids"]
            and not record.get("unread")
            and all(
                (place / n).is_file() and checksum(place / n) == value
                for n, value in record["checksums"].items()
            )
        ):
            if place == output:
                # The output is about to be replaced.
                _copy_part(output, parts / name, record)
            return parts / name
    return None


# What is read of a group that was reduced.
PART = mapping(
    {
        "obs_ids": list_of(whole()),
        "livetime": text,
        "skipped": mapping_of(text, key=whole()),
        "messages": mapping_of(whole(0), key=text),
        "datasets": list_of(
            mapping(
                {
                    "entry": mapping({"name": text, "type": text, "filename": text}),
                    "files": list_of(text),
                    "models": list_of(mapping({})),
                }
            )
        ),
        "checksums": mapping_of(text, key=text),
    },
    {
        "key": text,
        "counts": number(),
        "background": number(finite=False),
        "energy_min": text,
        "few_off": mapping_of(
            mapping({"counts": number(), "sparse": number(), "background": number()}), key=text
        ),
    },
)


def check_part(record: Any, path: Path) -> None:
    """Check the record of a group, in a file of its own or with those of the others.

    Raises
    ------
    ArchiveError
        If it does not hold what it should, or names a file outside of the directory.
    """
    check_record(record, PART, path)
    names = {name for dataset in record["datasets"] for name in dataset["files"]}
    names |= {dataset["entry"]["filename"] for dataset in record["datasets"]}
    for name in sorted(names | set(record["checksums"])):
        path_in(path.parent, name, path)


def read_part(path: Path) -> dict[str, Any]:
    """Record of a group that is complete, see `check_part`."""
    record = read_yaml(path)
    check_part(record, path)
    return record


def _copy_part(source: Path, target: Path, record: Mapping[str, Any]) -> None:
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    carry(source, target, record["checksums"])
    write_yaml(target / GROUP_FILE, record)
