"""The whole description of a run, and how it is read."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, PositiveInt, model_validator

from obscluster.archive.description import ArchiveConfig, SelectionConfig, relocated
from obscluster.exceptions import ArchiveError
from obscluster.files.description import Strict, validated
from obscluster.files.yaml import Document, read_document
from obscluster.grouping.cuts import CutsConfig
from obscluster.grouping.hierarchical import HierarchicalConfig
from obscluster.grouping.labels import LabelsConfig
from obscluster.grouping.method import ConstraintsConfig, MethodConfig, ScalingConfig
from obscluster.grouping.partition import HDBSCANConfig, KMeansConfig, MixtureConfig
from obscluster.grouping.spread import SpreadConfig
from obscluster.information.cluster import InformationConfig
from obscluster.values.fields import (
    AngleEdges,
    AngleText,
    BackgroundText,
    EnergyEdges,
    EnergyText,
    Flux,
    OffsetText,
)

__all__ = [
    "DEFAULT_FEATURES",
    "METHODS",
    "AssessConfig",
    "CountsConfig",
    "FeaturesConfig",
    "GroupingConfig",
    "ReportConfig",
    "RunConfig",
    "SourceConfig",
    "make_config",
    "read_config",
    "read_description",
]

DEFAULT_FEATURES = ("edisp-res", "psf-radius", "aeff", "rad-max", "zenith")
"""Features to group by where nobody names any: the first two that all runs have."""


class FeaturesConfig(Strict):
    """Which features, and where in the response."""

    # None is the first two of DEFAULT_FEATURES that all runs have.
    names: tuple[str, ...] | None = None
    energy: tuple[EnergyText, ...] = ("1 TeV",)
    offset: OffsetText | None = None
    containment_fraction: float = Field(default=0.68, gt=0, lt=1)
    files: tuple[str, ...] = ()
    missing: Literal["unassigned", "drop-feature"] = "unassigned"
    # Directory of features that were computed before, see obscluster.features.cache.
    cache: str | None = None


class SourceConfig(Strict):
    """What is measured, see `obscluster.information.make_source`."""

    amplitude: Flux = "1 % Crab"
    index: float = 2.7
    reference: EnergyText = "1 TeV"
    model: Literal["power-law", "cutoff-power-law", "log-parabola"] = "power-law"
    cutoff: EnergyText | None = None
    curvature: float | None = None
    size: OffsetText = "0 deg"
    parameters: tuple[Literal["amplitude", "index", "lambda_", "curvature", "size"], ...] = (
        "amplitude",
        "index",
    )

    @model_validator(mode="after")
    def _has_what_the_model_needs(self) -> SourceConfig:
        for name, owner in (("cutoff", "cutoff-power-law"), ("curvature", "log-parabola")):
            if (getattr(self, name) is not None) != (self.model == owner):
                verb = "needs" if self.model == owner else "has no"
                raise ValueError(f"a {self.model} {verb} {name}")
        return self


class CountsConfig(Strict):
    """How expected counts are taken, see `obscluster.information.get_scores`."""

    energy: EnergyEdges = ("0.1 TeV", "100 TeV")
    bins_per_decade: PositiveInt = 8
    rings: AngleEdges | None = None
    safe_energy: Literal["aeff-max", "index", "none"] = "aeff-max"
    aeff_fraction: float = Field(default=0.1, ge=0, lt=1)
    background: BackgroundText = "auto"
    fit_background: bool = False


class AssessConfig(Strict):
    """How the groups are judged, see `obscluster.workflow.assess.assess_grouping`."""

    max_groups: PositiveInt = 10
    # None is 50, and none at all for more runs than one would wait for.
    n_resamples: Annotated[int, Field(ge=0)] | None = None


class ReportConfig(Strict):
    """The HTML report, see `obscluster.workflow.report.write_report`."""

    title: str | None = None


GroupingConfig = Annotated[
    HierarchicalConfig
    | CutsConfig
    | KMeansConfig
    | MixtureConfig
    | HDBSCANConfig
    | SpreadConfig
    | InformationConfig
    | LabelsConfig,
    Field(discriminator="method"),
]
"""All grouping methods: each is a class of the module that does it."""

METHODS: dict[str, type[MethodConfig]] = {
    config.model_fields["method"].default: config
    for config in get_args(get_args(GroupingConfig)[0])
}
"""Grouping methods by name."""


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
    # Address of a dask.distributed scheduler, see obscluster.parallel.engine.
    scheduler: str | None = None

    @property
    def archive_path(self) -> str:
        """Directory of the archive."""
        return self.archive if isinstance(self.archive, str) else self.archive.path

    @model_validator(mode="after")
    def _fits_together(self) -> RunConfig:
        self.grouping.check_with(self)
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
