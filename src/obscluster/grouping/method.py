"""What a grouping method is, and what all methods share.

A method is one module of the package: its class is the block ``grouping`` of a description, with
its name and its options, and says what it needs and what it can do; `MethodConfig.prepare` makes it
ready for certain runs. `obscluster.config` lists the classes. Nobody else asks for names.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from astropy import units as u
from astropy.table import QTable, Table
from numpy.typing import NDArray
from pydantic import Field, PositiveInt, model_validator

from obscluster.archive.store import DataStore
from obscluster.exceptions import ObsClusterWarning, RequestError, unknown_name
from obscluster.features.scaling import apply_scaling, feature_matrix, is_constant, scale_features
from obscluster.files.description import Strict
from obscluster.grouping.base import Grouping
from obscluster.grouping.rules import column_of
from obscluster.values.columns import numbers
from obscluster.values.fields import TimeText, ToleranceText
from obscluster.values.tolerance import Tolerance, parse_tolerance

__all__ = [
    "TIME",
    "ConstraintsConfig",
    "Method",
    "MethodConfig",
    "Request",
    "ScalingConfig",
    "matching_columns",
    "missing_features",
    "nothing_differs",
    "positions_by",
    "scaled_features",
    "scaler",
    "times_of",
    "tolerances_of",
]

Array = NDArray[np.float64]

TIME = "mjd"
"""Column by which runs follow each other."""


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


@dataclass(frozen=True, eq=False)
class Request:
    """Runs, and what is asked of all methods alike.

    Parameters
    ----------
    runs : `~astropy.table.QTable`
        All runs in the order of their identifiers, see `obscluster.workflow.group.group_runs`.
    names : tuple of str
        Columns to cluster by.
    scaling : `ScalingConfig`
        How much a difference counts.
    constraints : `ConstraintsConfig`
        What groups must keep to.
    scores : `~obscluster.information.scores.Scores`, optional
        Expected counts of the runs, for methods that need them.
    fit_background : bool
        Whether a fit is to find the normalisation of the background of each group.
    """

    runs: QTable
    names: tuple[str, ...]
    scaling: ScalingConfig
    constraints: ConstraintsConfig
    scores: Any = None
    fit_background: bool = False


@dataclass(frozen=True, eq=False)
class Method:
    """A method, ready to be called.

    Parameters
    ----------
    group : callable
        ``group(runs, n_groups) -> Grouping``; the number is None where none is asked.
    positions : callable
        ``positions(runs)``: where the runs lie, for what is near to what.
    numbered : bool
        Whether it takes a number of groups.
    nested : bool
        Whether more groups are always parts of fewer.
    in_time : bool
        Whether it makes contiguous groups itself, if asked.
    constrained : bool
        Whether its groups keep to all constraints that it allows.
    """

    group: Callable[[Table, int | None], Grouping]
    positions: Callable[[Table], Array]
    numbered: bool = False
    nested: bool = False
    in_time: bool = False
    constrained: bool = False


class MethodConfig(Strict):
    """A grouping method: its options, and what it needs and can do.

    A class of one's own has a field ``method`` with its name as the only choice and as the default,
    options as further fields, and `prepare`.
    """

    method: str

    clusters: ClassVar[bool] = True
    """Groups by the features of the description, rather than by what the method names itself."""
    completeness: ClassVar[Literal["all", "each", "none"]] = "all"
    """Whether some run must have all features, or each of them, or nothing is asked."""
    resampled: ClassVar[bool] = True
    """Whether groups depend on the other runs, so that resampling tells how stable they are."""
    needs_scores: ClassVar[bool] = False
    """Whether it needs the expected counts of a source."""

    @property
    def numbered(self) -> bool:
        """Whether it takes a number of groups."""
        return "n_groups" in type(self).model_fields

    @property
    def files(self) -> tuple[str, ...]:
        """Files that it reads."""
        return ()

    def columns(self, constraints: ConstraintsConfig) -> list[tuple[str, str | None]]:
        """Columns by which it groups, none for the features of the description.

        Each comes with the way in which it is cut, where texts can be cut, too.
        """
        del constraints
        return []

    def check_with(self, description: Any) -> None:
        """Check what else a description asks, see `~obscluster.config.RunConfig`.

        Raises
        ------
        ValueError
            If it does not go together.
        """
        if description.constraints.max_spread and getattr(self, "n_groups", None) is not None:
            raise ValueError("max_spread finds the number of groups itself; leave n_groups out")

    def check_archive(self, data_store: DataStore) -> None:
        """Check whether the files of the method are for an archive, before any work.

        Raises
        ------
        RequestError
            If not.
        """

    def prepare(self, request: Request) -> Method:
        """The method, ready to be called.

        Raises
        ------
        RequestError
            If it cannot be done with these runs.
        """
        raise NotImplementedError


def matching_columns(asked: Mapping[str, Any], colnames: Sequence[str]) -> dict[str, Any]:
    """What is asked of a name, for each column of that name, at whatever energies.

    Raises
    ------
    RequestError
        If a name has no column.
    """
    found: dict[str, Any] = {}
    for name, value in asked.items():
        columns = [c for c in colnames if c == name or c.startswith(f"{name}@")]
        if not columns:
            raise RequestError(unknown_name("feature", name, colnames))
        found |= dict.fromkeys(columns, value)
    return found


def tolerances_of(runs: Table, asked: ConstraintsConfig) -> dict[str, Tolerance]:
    given = matching_columns(asked.max_spread, runs.colnames)
    return {
        name: parse_tolerance(value, runs[name].unit or u.one, name)
        for name, value in given.items()
    }


def times_of(runs: Table) -> Array:
    times = numbers(column_of(runs, TIME), u.d)
    if not np.isfinite(times).all():
        late = int(runs["obs_id"][np.flatnonzero(~np.isfinite(times))[0]])
        raise RequestError(f"run {late} has no time, so groups cannot be contiguous in time")
    return times


def scaled_features(runs: Table, names: Sequence[str], asked: ScalingConfig) -> QTable:
    """Features scaled as asked; what is asked of a name holds at all its energies.

    Parameters
    ----------
    runs : `~astropy.table.Table`
        With ``obs_id`` and features in units.
    names : sequence of str
        The columns to scale.
    asked : `ScalingConfig`
        How.
    """
    return scale_features(
        runs[["obs_id", *names]],
        asked.method,
        matching_columns(asked.tolerances, names),
        matching_columns(asked.weights, names),
        matching_columns(dict.fromkeys(asked.log), names),
    )


def scaler(
    request: Request, names: Sequence[str], asked: ScalingConfig
) -> Callable[[Table], QTable]:
    """What scales the features of some of the runs, by constants of them all."""
    scaling = scaled_features(request.runs, names, asked).meta["scaling"]
    return lambda part: apply_scaling(part[["obs_id", *names]], scaling)


def positions_by(scale: Callable[[Table], QTable]) -> Callable[[Table], Array]:
    """Where runs lie, by their scaled features."""
    return lambda part: feature_matrix(scale(part))[0]


def missing_features(features: Table) -> dict[int, str]:
    """Observation to which features it lacks, for those that lack any."""
    X, names = feature_matrix(features)
    lacking = ~np.isfinite(X)
    return {
        int(features["obs_id"][row]): "no " + ", ".join(np.array(names)[lacking[row]].tolist())
        for row in np.flatnonzero(lacking.any(axis=1))
    }


def nothing_differs(X: Array, names: list[str]) -> list[str]:
    """Remark, and warning, that all runs are the same; none if they are not.

    Parameters
    ----------
    X : `~numpy.ndarray`
        Scaled features, shape (n_obs, n_features).
    names : list of str
        What they are called.
    """
    if len(X) < 2 or not all(is_constant(column) for column in X.T):
        return []
    text = f"nothing distinguishes the {len(X)} runs: {', '.join(names)} do not vary"
    warnings.warn(f"{text}; all are in one group", ObsClusterWarning, stacklevel=4)
    return [text]
