"""What a reduction has written, read back; groups that are complete, kept until all are."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from astropy.coordinates import SkyCoord
from gammapy.datasets import Datasets
from gammapy.modeling.models import Models
from gammapy.utils.scripts import to_yaml
from gammapy.utils.scripts import write_yaml as write_gammapy_yaml

from obscluster.archive.store import DataStore
from obscluster.exceptions import ArchiveError, RequestError
from obscluster.files.exchange import carry, repair
from obscluster.files.records import (
    any_value,
    check_files,
    check_record,
    checksum,
    list_of,
    mapping,
    mapping_of,
    number,
    path_in,
    text,
    whole,
)
from obscluster.files.yaml import plain, read_yaml, write_yaml
from obscluster.reduction.makers import Plan
from obscluster.reduction.messages import captured
from obscluster.reduction.stack import GroupStack

__all__ = [
    "COMPARISON_FILE",
    "DATASETS_FILE",
    "FIT_DIRECTORY",
    "FIT_FILE",
    "GROUP_FILE",
    "MODELS_FILE",
    "PARTS",
    "RECORD_FILE",
    "RUNS_FILE",
    "RUNS_MODELS_FILE",
    "Reduction",
    "check_part",
    "find_complete",
    "group_key",
    "read_part",
    "read_reduction",
    "write_datasets",
    "write_lists",
]

DATASETS_FILE = "datasets.yaml"
MODELS_FILE = "models.yaml"
RECORD_FILE = "reduction.yaml"
# Where `obscluster fit` puts its results unless told, within those of the reduction.
FIT_DIRECTORY = "fit"
FIT_FILE = "fit.yaml"
COMPARISON_FILE = "comparison.ecsv"
RUNS_FILE = "runs.yaml"
RUNS_MODELS_FILE = "runs_models.yaml"


def write_datasets(directory: Path, stack: GroupStack) -> list[dict[str, Any]]:
    """Write the dataset of a group, and those of its runs if they are kept.

    Parameters
    ----------
    directory : `~pathlib.Path`
        Where the files go.
    stack : `~obscluster.reduction.stack.GroupStack`
        The group.

    Returns
    -------
    records : list of dict
        For each dataset its ``entry`` in Gammapy's list, its ``files``, and its ``models``; that
        of the group first.
    """
    datasets = [] if stack.dataset is None else [stack.dataset]
    return [_write(directory, dataset) for dataset in (*datasets, *stack.runs)]


def _write(directory: Path, dataset: Any) -> dict[str, Any]:
    before = {path.name for path in directory.iterdir()}
    entry = dataset.to_dict()
    dataset.write(directory / entry["filename"])
    files = sorted({path.name for path in directory.iterdir()} - before)
    # In 3D, the normalisation of the background of a run.
    models = dataset.models.to_dict()["components"] if dataset.models else []
    return {"entry": plain(entry), "files": files, "models": plain(models)}


def write_lists(directory: Path, groups: Mapping[str, Any]) -> None:
    """Write what Gammapy opens: ``datasets.yaml``, and ``runs.yaml`` if runs are kept.

    Parameters
    ----------
    directory : `~pathlib.Path`
        Where the files of all datasets are.
    groups : mapping
        Name of each group to its record.
    """
    records = [record for group in groups.values() for record in group["datasets"]]
    of_groups = [record["entry"] for record in records if record["entry"]["name"] in groups]
    runs = [record["entry"] for record in records if record["entry"]["name"] not in groups]
    _write_list(directory / DATASETS_FILE, of_groups)
    if runs:
        _write_list(directory / RUNS_FILE, runs)
    models = [model for record in records for model in record["models"]]
    if models:
        components = Models.from_dict({"components": models})
        components.write(directory / RUNS_MODELS_FILE, write_covariance=False, checksum=True)


def _write_list(path: Path, entries: list[dict[str, Any]]) -> None:
    write_gammapy_yaml(to_yaml({"datasets": entries}), path, checksum=True)


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
                target = parts / name
                shutil.rmtree(target, ignore_errors=True)
                target.mkdir(parents=True)
                carry(output, target, record["checksums"])
                write_yaml(target / GROUP_FILE, record)
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


@dataclass(frozen=True, eq=False)
class Reduction:
    """Datasets of groups on disk.

    Parameters
    ----------
    directory : `~pathlib.Path`
        Where they are.
    record : mapping
        What is in ``reduction.yaml``: what was asked, and for each group its runs, those left out
        with their reasons, and what Gammapy said.
    """

    directory: Path
    record: Mapping[str, Any]

    @property
    def groups(self) -> dict[str, Any]:
        """Name of each group to its record."""
        return dict(self.record["groups"])

    @property
    def skipped(self) -> dict[int, str]:
        """Runs that were left out, and why."""
        return {i: why for group in self.groups.values() for i, why in group["skipped"].items()}

    @property
    def archive(self) -> Path | None:
        """Where the runs were read, if the record says so."""
        archive = self.record.get("archive")
        return Path(archive) if archive and isinstance(archive, str) else None

    @property
    def unread(self) -> dict[int, str]:
        """Those that were left out because a file of them could not be read, and why."""
        return {
            int(i): group["skipped"][i]
            for group in self.groups.values()
            for i in group.get("unread", ())
        }

    @property
    def obs_ids(self) -> list[int]:
        """Runs of all groups, with those that were left out."""
        groups = self.groups.values()
        return sorted({int(i) for group in groups for i in (*group["obs_ids"], *group["skipped"])})

    @property
    def position(self) -> SkyCoord:
        """The target."""
        return SkyCoord(self.record["position"]["ra"], self.record["position"]["dec"], unit="deg")

    def read(self) -> Datasets:
        """The datasets of the groups, with the models to begin a fit with."""
        with captured():
            return Datasets.read(
                _checked_list(self.directory, DATASETS_FILE, "datasets"),
                _checked_list(self.directory, MODELS_FILE, "components"),
                lazy=False,
            )

    def require_runs(self) -> None:
        """Check that the datasets of the runs are there.

        Raises
        ------
        RequestError
            If they were not kept.
        """
        if not (self.directory / RUNS_FILE).exists():
            raise RequestError(
                f"{self.directory}: has no datasets of single runs; reduce with keep_runs: true"
            )

    def read_runs(self) -> Datasets:
        """The datasets of the runs.

        Raises
        ------
        RequestError
            If they were not kept.
        """
        self.require_runs()
        with captured():
            models = None
            if (self.directory / RUNS_MODELS_FILE).exists():
                models = _checked_list(self.directory, RUNS_MODELS_FILE, "components")
            runs = _checked_list(self.directory, RUNS_FILE, "datasets")
            return Datasets.read(runs, models, lazy=False)


def read_reduction(directory: str | os.PathLike[str], trust: bool = False) -> Reduction:
    """What `reduce_groups` has written.

    Parameters
    ----------
    directory : str or path
        Where it is.
    trust : bool
        Read files also if they changed since they were written.

    Raises
    ------
    ArchiveError
        If the directory does not hold it, or files changed since they were written.
    """
    path = Path(directory)
    repair(path)
    if not trust:
        check_files(path, ("reduce",))
    record = read_yaml(path / RECORD_FILE)
    check_record(record, _RECORD, path / RECORD_FILE)
    for group in record["groups"].values():
        check_part(group, path / RECORD_FILE)
    for name in record.get("files", ()):
        path_in(path, name, path / RECORD_FILE)
    return Reduction(path, record)


_RECORD = mapping(
    {
        "groups": mapping_of(mapping({}), key=text),
        "position": mapping({"ra": number(), "dec": number(-90)}),
        "config": mapping_of(any_value, key=text),
    },
    {"files": list_of(text), "kinds": mapping_of(mapping_of(text, key=text), key=text)},
)
_LISTS = {
    "datasets": mapping({"name": text, "type": text, "filename": text}),
    "components": mapping({"type": text}, {"name": text}),
}


def _checked_list(directory: Path, name: str, key: str) -> Path:
    """A list in Gammapy's format, whose files are in the directory."""
    path = path_in(directory, name, directory / RECORD_FILE)
    content = read_yaml(path)
    check_record(content, mapping({key: list_of(_LISTS[key])}), path)
    for item in content[key]:
        if "filename" in item:
            path_in(directory, item["filename"], path)
    return path
