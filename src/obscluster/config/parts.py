"""What is computed of the runs, how it is scaled, and what groups must keep to."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveInt, model_validator

from obscluster.config.values import (
    AngleEdges,
    BackgroundText,
    EnergyEdges,
    EnergyText,
    Flux,
    OffsetText,
)
from obscluster.description import Strict

__all__ = [
    "DEFAULT_FEATURES",
    "AssessConfig",
    "CountsConfig",
    "FeaturesConfig",
    "ReportConfig",
    "SourceConfig",
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
    # Directory of features that were computed before, see obscluster.cache.
    cache: str | None = None


class SourceConfig(Strict):
    """What is measured, see `obscluster.features.information.make_source`."""

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
    """How expected counts are taken, see `obscluster.features.information.get_scores`."""

    energy: EnergyEdges = ("0.1 TeV", "100 TeV")
    bins_per_decade: PositiveInt = 8
    rings: AngleEdges | None = None
    safe_energy: Literal["aeff-max", "index", "none"] = "aeff-max"
    aeff_fraction: float = Field(default=0.1, ge=0, lt=1)
    background: BackgroundText = "auto"
    fit_background: bool = False


class AssessConfig(Strict):
    """How the groups are judged, see `obscluster.assess.assess_grouping`."""

    max_groups: PositiveInt = 10
    # None is 50, and none at all for more runs than one would wait for.
    n_resamples: Annotated[int, Field(ge=0)] | None = None


class ReportConfig(Strict):
    """The HTML report, see `obscluster.present.write_report`."""

    title: str | None = None
