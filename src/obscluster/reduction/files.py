"""Files of datasets, in Gammapy's format."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gammapy.modeling.models import Models
from gammapy.utils.scripts import to_yaml
from gammapy.utils.scripts import write_yaml as write_gammapy_yaml

from obscluster.files.yaml import plain
from obscluster.reduction.stack import GroupStack

__all__ = [
    "COMPARISON_FILE",
    "DATASETS_FILE",
    "FIT_DIRECTORY",
    "FIT_FILE",
    "MODELS_FILE",
    "RECORD_FILE",
    "RUNS_FILE",
    "RUNS_MODELS_FILE",
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
