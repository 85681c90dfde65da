"""What a reduction has written, read back."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from astropy.coordinates import SkyCoord
from gammapy.datasets import Datasets

from obscluster.exceptions import ArchiveError, RequestError
from obscluster.files.checksums import check_files
from obscluster.files.exchange import repair
from obscluster.files.yaml import read_yaml
from obscluster.reduction.files import (
    DATASETS_FILE,
    MODELS_FILE,
    RECORD_FILE,
    RUNS_FILE,
    RUNS_MODELS_FILE,
)
from obscluster.reduction.messages import captured

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
                self.directory / DATASETS_FILE, self.directory / MODELS_FILE, lazy=False
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
            models = self.directory / RUNS_MODELS_FILE
            return Datasets.read(
                self.directory / RUNS_FILE, models if models.exists() else None, lazy=False
            )


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
    missing = [key for key in ("groups", "position", "config") if key not in record]
    if missing:
        raise ArchiveError(f"{path / RECORD_FILE}: has no {', '.join(missing)}")
    return Reduction(path, record)
