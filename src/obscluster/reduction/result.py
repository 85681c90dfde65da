"""What a reduction has written, read back."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from astropy.coordinates import SkyCoord
from gammapy.datasets import Datasets

from obscluster.exceptions import RequestError
from obscluster.files.checksums import check_files
from obscluster.files.exchange import repair
from obscluster.files.records import (
    any_value,
    check_record,
    list_of,
    mapping,
    mapping_of,
    number,
    path_in,
    text,
)
from obscluster.files.yaml import read_yaml
from obscluster.reduction.files import (
    DATASETS_FILE,
    MODELS_FILE,
    RECORD_FILE,
    RUNS_FILE,
    RUNS_MODELS_FILE,
)
from obscluster.reduction.messages import captured
from obscluster.reduction.parts import check_part

__all__ = ["Reduction", "read_reduction"]


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
