"""The description of a run: what to read, select, compute and group.

Quantities are texts with a unit, such as ``"2 deg"``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    PositiveInt,
    model_validator,
)

from obscluster.description import Strict, validated
from obscluster.exceptions import RequestError
from obscluster.yaml_file import read_yaml

__all__ = [
    "ConstraintsConfig",
    "CountsConfig",
    "CutConfig",
    "CutsConfig",
    "FeaturesConfig",
    "GroupingConfig",
    "HDBSCANConfig",
    "HierarchicalConfig",
    "InformationConfig",
    "KMeansConfig",
    "MixtureConfig",
    "RunConfig",
    "ScalingConfig",
    "SourceConfig",
    "SpreadConfig",
    "make_config",
    "read_config",
]


def _whole_or_auto(value: Any) -> Any:
    if value is None or value == "auto":
        return value
    try:
        number = int(value)
    except (TypeError, ValueError):
        number = 0
    if number < 1 or number != float(value):
        raise ValueError(f"{value!r}; expected a whole number from 1, or 'auto'")
    return number


def _fraction(value: Any) -> Any:
    """Number from 0 to 1, also as a percentage."""
    if value is None:
        return value
    text = str(value).strip()
    try:
        number = float(text[:-1]) / 100 if text.endswith("%") else float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number <= 1:
        raise ValueError(f"{value!r}; expected a fraction such as 1% or 0.01")
    return number


Number = Annotated[int | Literal["auto"] | None, BeforeValidator(_whole_or_auto)]
"""A number of groups; "auto" takes what `obscluster.assessment` suggests."""


class FeaturesConfig(Strict):
    """Which features, and where in the response."""

    names: tuple[str, ...] = ("edisp-res", "psf-radius")
    energy: tuple[str, ...] = ("1 TeV",)
    offset: str | None = None
    containment_fraction: float = Field(default=0.68, gt=0, lt=1)
    files: tuple[str, ...] = ()
    missing: Literal["unassigned", "drop-feature"] = "unassigned"


class ScalingConfig(Strict):
    """How much a difference counts, see `obscluster.scaling.scale_features`."""

    method: Literal["standard", "robust", "tolerance", "none"] = "standard"
    tolerances: dict[str, str | float] = Field(default_factory=dict)
    weights: dict[str, float] = Field(default_factory=dict)
    log: tuple[str, ...] = ()


class ConstraintsConfig(Strict):
    """What groups must keep to, see `obscluster.grouping.constraints`."""

    within: tuple[str, ...] = ()
    min_livetime: str | None = None
    min_runs: PositiveInt | None = None
    per_pointing: bool = False
    short: Literal["merge", "unassign"] = "merge"
    max_spread: dict[str, str | float] = Field(default_factory=dict)
    contiguous: bool = False

    @model_validator(mode="after")
    def _has_minimum(self) -> ConstraintsConfig:
        if self.per_pointing and self.min_livetime is None and self.min_runs is None:
            raise ValueError("per_pointing needs min_livetime or min_runs")
        return self


class HierarchicalConfig(Strict):
    """A tree of merges; cut at a number of groups, or by another criterion of SciPy's."""

    method: Literal["hierarchical"] = "hierarchical"
    n_groups: Number = None
    linkage: str = "ward"
    metric: str = "euclidean"
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
    max_loss: Annotated[float | None, BeforeValidator(_fraction)] = None

    @model_validator(mode="after")
    def _one_of_two(self) -> InformationConfig:
        if (self.n_groups is None) == (self.max_loss is None):
            raise ValueError("give either n_groups or max_loss, such as 1%")
        return self


class SourceConfig(Strict):
    """What is measured, see `obscluster.features.information.make_source`."""

    amplitude: str | float = "1 % Crab"
    index: float = 2.7
    reference: str = "1 TeV"
    model: Literal["power-law", "cutoff-power-law", "log-parabola"] = "power-law"
    cutoff: str | None = None
    curvature: float | None = None
    size: str = "0 deg"
    parameters: tuple[str, ...] = ("amplitude", "index")


class CountsConfig(Strict):
    """How expected counts are taken, see `obscluster.features.information.get_scores`."""

    energy: tuple[str, ...] = ("0.1 TeV", "100 TeV")
    bins_per_decade: PositiveInt = 8
    rings: tuple[str, ...] | None = None
    safe_energy: Literal["aeff-max", "index", "none"] = "aeff-max"
    aeff_fraction: float = Field(default=0.1, ge=0, lt=1)
    background: str = "auto"
    fit_background: bool = False


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


GroupingConfig = Annotated[
    HierarchicalConfig
    | CutsConfig
    | KMeansConfig
    | MixtureConfig
    | HDBSCANConfig
    | SpreadConfig
    | InformationConfig,
    Field(discriminator="method"),
]


class RunConfig(Strict):
    """Everything that makes a grouping."""

    archive: str
    target: str | None = None
    frame: Literal["icrs", "galactic"] = "icrs"
    radius: str = "2 deg"
    selection: tuple[dict[str, Any], ...] = ()
    features: FeaturesConfig = FeaturesConfig()
    scaling: ScalingConfig = ScalingConfig()
    grouping: GroupingConfig = HierarchicalConfig()
    constraints: ConstraintsConfig = ConstraintsConfig()
    source: SourceConfig | None = None
    counts: CountsConfig = CountsConfig()
    # What obscluster.reduction.make_reduce_config checks; it cannot be seen from here.
    reduce: dict[str, Any] | None = None
    workers: int = Field(default=1, ge=1)

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
        if self.grouping.method == "cuts" and self.scaling != ScalingConfig():
            raise ValueError("cuts take the quantities as they are; leave scaling out")
        adaptive = isinstance(self.grouping, CutsConfig) and any(
            cut.adaptive for cut in self.grouping.by
        )
        minimum = (self.constraints.min_livetime, self.constraints.min_runs)
        if adaptive and minimum == (None, None):
            raise ValueError("adaptive bins need constraints.min_livetime or min_runs")
        return self


def make_config(content: dict[str, Any]) -> RunConfig:
    """Checked description of a run.

    Raises
    ------
    RequestError
        If a key is unknown or a value is not usable; the message names it.
    """
    return validated(RunConfig, content)


def read_config(path: Path) -> RunConfig:
    """Description of a run from a YAML file, also from the groups.yaml of results.

    Raises
    ------
    ArchiveError
        If the file cannot be read, or is not YAML.
    RequestError
        If a key is unknown or a value is not usable; the message names it.
    """
    content = read_yaml(path)
    # The record of a grouping has what was asked under this key.
    if "config" in content and "archive" in content and "rule" in content:
        # Where the archive was, also for somebody who stands in another directory.
        content = {**content["config"], "archive": content["archive"]}
    try:
        return make_config(content)
    except RequestError as error:
        raise RequestError(f"{path}: {error}") from None
