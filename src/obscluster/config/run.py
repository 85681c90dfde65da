"""The whole description, and how it is read."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from obscluster.config.archive import ArchiveConfig, relocated
from obscluster.config.grouping import (
    ConstraintsConfig,
    CutsConfig,
    GroupingConfig,
    HierarchicalConfig,
    ScalingConfig,
)
from obscluster.config.parts import (
    AssessConfig,
    CountsConfig,
    FeaturesConfig,
    ReportConfig,
    SourceConfig,
)
from obscluster.config.selection import SelectionConfig
from obscluster.config.values import AngleText
from obscluster.description import Strict, validated
from obscluster.exceptions import ArchiveError
from obscluster.files.yaml import Document, read_document

__all__ = [
    "RunConfig",
    "make_config",
    "read_config",
    "read_description",
]


class RunConfig(Strict):
    """Everything that makes a grouping."""

    archive: str | ArchiveConfig
    target: str | None = None
    frame: Literal["icrs", "galactic"] = "icrs"
    radius: AngleText = "2 deg"
    selection: tuple[SelectionConfig, ...] = ()
    features: FeaturesConfig = FeaturesConfig()
    scaling: ScalingConfig = ScalingConfig()
    grouping: GroupingConfig = HierarchicalConfig()
    constraints: ConstraintsConfig = ConstraintsConfig()
    source: SourceConfig | None = None
    counts: CountsConfig = CountsConfig()
    # None is as far as it goes by itself: what cannot be had is left out, with a reason.
    assess: AssessConfig | bool | None = None
    report: ReportConfig | bool | None = None
    # What obscluster.reduction.make_reduce_config checks; it cannot be seen from here.
    reduce: dict[str, Any] | None = None
    workers: int = Field(default=1, ge=1)
    # Address of a dask.distributed scheduler, see obscluster.engine.
    scheduler: str | None = None

    @property
    def archive_path(self) -> str:
        """Directory of the archive."""
        return self.archive if isinstance(self.archive, str) else self.archive.path

    @model_validator(mode="after")
    def _fits_together(self) -> RunConfig:
        spread = bool(self.constraints.max_spread)
        if self.grouping.method == "spread" and not spread:
            raise ValueError("method spread needs constraints.max_spread")
        numbered = getattr(self.grouping, "n_groups", None) is not None
        if spread and numbered and self.grouping.method != "information":
            raise ValueError("max_spread finds the number of groups itself; leave n_groups out")
        if self.grouping.method == "information":
            if self.target is None:
                raise ValueError("method information needs a target, where the source is")
            asked = self.constraints
            given = [n for n in ("per_pointing", "max_spread", "contiguous") if getattr(asked, n)]
            given += ["short"] if asked.short != "merge" else []
            if given:
                raise ValueError(
                    "method information keeps to within, and to one of min_livetime and min_runs; "
                    f"leave {', '.join(given)} out"
                )
            if asked.min_livetime is not None and asked.min_runs is not None:
                raise ValueError("method information takes min_livetime or min_runs, not both")
        if self.grouping.method == "labels" and self.constraints != ConstraintsConfig():
            raise ValueError("method labels takes the groups as they are; leave constraints out")
        if self.grouping.method == "cuts" and self.scaling != ScalingConfig():
            raise ValueError("cuts take the quantities as they are; leave scaling out")
        adaptive = isinstance(self.grouping, CutsConfig) and any(
            cut.adaptive for cut in self.grouping.by
        )
        minimum = (self.constraints.min_livetime, self.constraints.min_runs)
        if adaptive and minimum == (None, None):
            raise ValueError("adaptive bins need constraints.min_livetime or min_runs")
        return self


def make_config(content: dict[str, Any], document: Document | None = None) -> RunConfig:
    """Checked description of a run.

    Parameters
    ----------
    content : dict
        Keys and values.
    document : `~obscluster.files.yaml.Document`, optional
        Where they stand in a file, for the messages.

    Raises
    ------
    RequestError
        If a key is unknown or a value is not usable; the message names it.
    """
    return validated(RunConfig, content, document)


def read_config(path: Path, settings: Iterable[str] = ()) -> RunConfig:
    """Description of a run from a YAML file, also from the groups.yaml of results.

    Parameters
    ----------
    path : `~pathlib.Path`
        The file.
    settings : iterable of str
        What replaces values of the file, such as ``grouping.n_groups=3``.

    Raises
    ------
    ArchiveError
        If the file cannot be read, or is not YAML.
    RequestError
        If a key is unknown or a value is not usable; the message names it, and its line.
    """
    document = read_description(path, settings)
    return make_config(document.content, document)


def read_description(path: Path, settings: Iterable[str] = ()) -> Document:
    """What `read_config` checks: the content of the file, and where it stands.

    Raises
    ------
    ArchiveError
        If the file cannot be read, or is not YAML.
    RequestError
        If a setting cannot be put in place.
    """
    document = read_document(path)
    content = document.content
    # The record of a grouping has what was asked under this key.
    if "config" in content and "archive" in content and "rule" in content:
        # Where the archive was, also for somebody who stands in another directory.
        asked = content["config"]
        if not isinstance(asked, dict):
            raise ArchiveError(f"{path}: config: given {asked!r:.40}, expected keys and values")
        content = {**asked, "archive": relocated(asked.get("archive"), content["archive"])}
        document = Document(content, document.name)
    return document.with_settings(settings)
