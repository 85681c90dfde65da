"""The description of a run: what to read, select, compute and group.

Quantities are texts with a unit, such as ``"2 deg"``.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from obscluster.exceptions import RequestError

__all__ = ["CutsConfig", "FeaturesConfig", "HierarchicalConfig", "RunConfig", "make_config"]


class _Strict(BaseModel):
    """Unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class FeaturesConfig(_Strict):
    """Which features, and where in the response."""

    names: tuple[str, ...] = ("edisp-res", "psf-radius")
    energy: tuple[str, ...] = ("1 TeV",)
    offset: str | None = None
    containment_fraction: float = Field(default=0.68, gt=0, lt=1)
    files: tuple[str, ...] = ()
    missing: Literal["unassigned", "drop-feature"] = "unassigned"


class HierarchicalConfig(_Strict):
    """Clustering of scaled features."""

    method: Literal["hierarchical"] = "hierarchical"
    n_groups: int = Field(default=2, ge=1)
    linkage: str = "ward"
    metric: str = "euclidean"


class CutsConfig(_Strict):
    """Groups by one quantity: a feature or a column; one of cut, edges and quantiles."""

    method: Literal["cuts"] = "cuts"
    by: str
    cut: tuple[str, ...] | None = None
    edges: tuple[str, ...] | None = None
    quantiles: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _one_rule(self) -> CutsConfig:
        given = [name for name in ("cut", "edges", "quantiles") if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"give one of cut, edges and quantiles, not {' and '.join(given)}")
        return self


class RunConfig(_Strict):
    """Everything that makes a grouping."""

    archive: str
    target: str | None = None
    frame: Literal["icrs", "galactic"] = "icrs"
    radius: str = "2 deg"
    selection: tuple[dict[str, Any], ...] = ()
    features: FeaturesConfig = FeaturesConfig()
    grouping: Annotated[HierarchicalConfig | CutsConfig, Field(discriminator="method")] = (
        HierarchicalConfig()
    )
    workers: int = Field(default=1, ge=1)


def make_config(content: dict[str, Any]) -> RunConfig:
    """Checked description of a run.

    Raises
    ------
    RequestError
        If a key is unknown or a value is not usable; the message names it.
    """
    try:
        return RunConfig.model_validate(content)
    except ValidationError as error:
        problems = []
        for problem in error.errors(include_url=False):
            where = ".".join(str(part) for part in problem["loc"])
            problems.append(f"{where}: {problem['msg']} (given {problem['input']!r})")
        raise RequestError("; ".join(problems)) from None
