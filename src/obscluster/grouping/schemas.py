"""How runs are put into groups: a model for each method."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, PositiveInt, model_validator

from obscluster.files.description import Strict
from obscluster.values.fields import Fraction, Number, TimeText, ToleranceText

__all__ = [
    "ConstraintsConfig",
    "CutConfig",
    "CutsConfig",
    "GroupingConfig",
    "HDBSCANConfig",
    "HierarchicalConfig",
    "InformationConfig",
    "KMeansConfig",
    "LabelsConfig",
    "MixtureConfig",
    "ScalingConfig",
    "SpreadConfig",
]

Linkage = Literal["ward", "single", "complete", "average", "weighted", "centroid", "median"]
Metric = Literal[
    "euclidean",
    "sqeuclidean",
    "seuclidean",
    "cityblock",
    "chebyshev",
    "minkowski",
    "mahalanobis",
    "canberra",
    "braycurtis",
    "correlation",
    "cosine",
]


class HierarchicalConfig(Strict):
    """A tree of merges; cut at a number of groups, or by another criterion of SciPy's."""

    method: Literal["hierarchical"] = "hierarchical"
    n_groups: Number = None
    linkage: Linkage = "ward"
    metric: Metric = "euclidean"
    criterion: Literal["maxclust", "distance", "inconsistent"] = "maxclust"
    threshold: float | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _one_cut(self) -> HierarchicalConfig:
        if (self.criterion == "maxclust") != (self.threshold is None):
            raise ValueError(
                "criterion distance or inconsistent goes with a threshold, maxclust with n_groups"
            )
        if self.threshold is not None and self.n_groups is not None:
            raise ValueError("give n_groups or a threshold, not both")
        if self.linkage in ("ward", "centroid", "median") and self.metric != "euclidean":
            raise ValueError(f"linkage {self.linkage} is for metric euclidean only")
        return self


class KMeansConfig(Strict):
    """Compact groups around centres."""

    method: Literal["kmeans"] = "kmeans"
    n_groups: Number = None
    n_init: PositiveInt = 20
    random_state: int = Field(default=0, ge=0, lt=2**32)


class MixtureConfig(Strict):
    """Components of a Gaussian mixture."""

    method: Literal["mixture"] = "mixture"
    n_groups: Number = None
    covariance_type: Literal["full", "tied", "diag", "spherical"] = "full"
    n_init: PositiveInt = 10
    random_state: int = Field(default=0, ge=0, lt=2**32)


class HDBSCANConfig(Strict):
    """Dense regions, and noise."""

    method: Literal["hdbscan"] = "hdbscan"
    cluster_runs: int = Field(default=5, ge=2)
    neighbours: PositiveInt | None = None
    epsilon: float = Field(default=0.0, ge=0)


class InformationConfig(Strict):
    """Groups that lose least information on ``source``: a number, or the fewest within a loss."""

    method: Literal["information"] = "information"
    n_groups: Annotated[int | None, Field(ge=1)] = None
    max_loss: Fraction | None = None

    @model_validator(mode="after")
    def _one_of_two(self) -> InformationConfig:
        if (self.n_groups is None) == (self.max_loss is None):
            raise ValueError("give either n_groups or max_loss, such as 1%")
        return self


class SpreadConfig(Strict):
    """The fewest groups that keep to ``constraints.max_spread``."""

    method: Literal["spread"] = "spread"


_WAYS = ("cut", "edges", "quantiles", "width", "livetime", "adaptive", "categories")


class CutConfig(Strict):
    """One quantity, a feature or a column, and one way to cut it."""

    column: str
    cut: tuple[str | float, ...] | None = None
    edges: tuple[str | float, ...] | None = None
    quantiles: PositiveInt | tuple[float, ...] | None = None
    width: PositiveInt | None = None
    livetime: PositiveInt | None = None
    adaptive: bool | None = None
    categories: bool | None = None

    @model_validator(mode="after")
    def _one_way(self) -> CutConfig:
        given = [name for name in _WAYS if getattr(self, name)]
        if len(given) > 1:
            raise ValueError(f"give one of {', '.join(_WAYS)}; not {' and '.join(given)}")
        return self

    @property
    def way(self) -> tuple[str, Any]:
        """How the quantity is cut, at the median unless told, and the value of that."""
        name = next((name for name in _WAYS if getattr(self, name)), None)
        return ("cut", "median") if name is None else (name, getattr(self, name))


class CutsConfig(Strict):
    """Groups by one quantity, or by the combinations of several.

    One quantity can be written in short: ``by: ZEN_PNT`` and ``edges: [...]`` beside it.
    """

    method: Literal["cuts"] = "cuts"
    by: tuple[CutConfig, ...] = Field(min_length=1)

    @model_validator(mode="before")
    @classmethod
    def _in_short(cls, content: Any) -> Any:
        if not isinstance(content, dict):
            return content
        by = content.get("by")
        items = [by] if isinstance(by, str | dict) else by
        if not isinstance(items, list | tuple):
            return content
        ways = {key: value for key, value in content.items() if key in _WAYS}
        items = [{"column": item} if isinstance(item, str) else item for item in items]
        if ways and len(items) == 1 and isinstance(items[0], dict):
            items = [{**items[0], **ways}]
            content = {key: value for key, value in content.items() if key not in _WAYS}
        return {**content, "by": items}


class LabelsConfig(Strict):
    """Groups that somebody made by hand, see `obscluster.grouping.labels`."""

    method: Literal["labels"] = "labels"
    file: str = Field(min_length=1)


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


class ScalingConfig(Strict):
    """How much a difference counts, see `obscluster.features.scaling.scale_features`."""

    method: Literal["standard", "robust", "tolerance", "none"] = "standard"
    tolerances: dict[str, ToleranceText] = Field(default_factory=dict)
    weights: dict[str, Annotated[float, Field(gt=0)]] = Field(default_factory=dict)
    log: tuple[str, ...] = ()


class ConstraintsConfig(Strict):
    """What groups must keep to, see `obscluster.grouping.constraints`."""

    within: tuple[str, ...] = ()
    min_livetime: TimeText | None = None
    min_runs: PositiveInt | None = None
    per_pointing: bool = False
    short: Literal["merge", "unassign"] = "merge"
    max_spread: dict[str, ToleranceText] = Field(default_factory=dict)
    contiguous: bool = False

    @model_validator(mode="after")
    def _has_minimum(self) -> ConstraintsConfig:
        if self.per_pointing and self.min_livetime is None and self.min_runs is None:
            raise ValueError("per_pointing needs min_livetime or min_runs")
        return self
