"""Every method by its name, ready to be called.

What is asked of a method comes as its configuration; `obscluster.grouping.toolbox` calls it and
sees to the constraints.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from astropy import units as u
from astropy.table import QTable, Table
from numpy.typing import NDArray

from obscluster.exceptions import RequestError, unknown_name
from obscluster.features.scaling import apply_scaling, feature_matrix, period_of, scale_features
from obscluster.grouping.base import Grouping
from obscluster.grouping.cuts import bins_of, categories_of, group_by_cells
from obscluster.grouping.epochs import chain_linkage, segment
from obscluster.grouping.hierarchical import group_hierarchical, missing_features
from obscluster.grouping.partition import (
    group_hdbscan,
    group_kmeans,
    group_mixture,
    nothing_differs,
)
from obscluster.grouping.rules import UNASSIGNED, Bins, Categories, NearestRun, column_of, texts_of
from obscluster.grouping.schemas import (
    ConstraintsConfig,
    CutsConfig,
    HDBSCANConfig,
    HierarchicalConfig,
    KMeansConfig,
    MixtureConfig,
    ScalingConfig,
    SpreadConfig,
)
from obscluster.grouping.spread import fewest_groups, within_tolerance
from obscluster.values.columns import numbers
from obscluster.values.tolerance import Tolerance, parse_tolerance

__all__ = [
    "METHODS",
    "TIME",
    "Method",
    "Request",
    "matching_columns",
    "scaled_features",
    "times_of",
    "tolerances_of",
]

Array = NDArray[np.float64]
Labels = NDArray[np.int64]

TIME = "mjd"
"""Column by which runs follow each other."""
# Categories count as further apart than anything else.
_APART = 1e3


@dataclass(frozen=True, eq=False)
class Request:
    """Runs, and what is asked of all methods alike.

    Parameters
    ----------
    runs : `~astropy.table.QTable`
        All runs, see `obscluster.grouping.toolbox.group_runs`.
    names : tuple of str
        Columns to cluster by.
    scaling : `~obscluster.config.ScalingConfig`
        How much a difference counts.
    constraints : `~obscluster.config.ConstraintsConfig`
        What groups must keep to.
    """

    runs: QTable
    names: tuple[str, ...]
    scaling: ScalingConfig
    constraints: ConstraintsConfig


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
    """

    group: Callable[[Table, int | None], Grouping]
    positions: Callable[[Table], Array]
    numbered: bool = False
    nested: bool = False
    in_time: bool = False


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
    asked : `~obscluster.config.ScalingConfig`
        How.
    """
    return scale_features(
        runs[["obs_id", *names]],
        asked.method,
        matching_columns(asked.tolerances, names),
        matching_columns(asked.weights, names),
        matching_columns(dict.fromkeys(asked.log), names),
    )


def _scaler(
    request: Request, names: Sequence[str], asked: ScalingConfig
) -> Callable[[Table], QTable]:
    """What scales the features of some of the runs, by constants of them all."""
    scaling = scaled_features(request.runs, names, asked).meta["scaling"]
    return lambda part: apply_scaling(part[["obs_id", *names]], scaling)


def _hierarchical(request: Request, config: HierarchicalConfig) -> Method:
    scale = _scaler(request, request.names, request.scaling)
    options = {"method": config.linkage, "metric": config.metric}

    def group(part: Table, n_groups: int | None) -> Grouping:
        scaled = scale(part)
        if request.constraints.contiguous:
            return _in_time(scaled, part, n_groups, config.linkage)
        cut = {"criterion": config.criterion, "t": config.threshold}
        if config.threshold is None:
            cut = {"criterion": "maxclust", "t": n_groups}
        return group_hierarchical(scaled, options, cut)

    if request.constraints.contiguous and config.threshold is not None:
        raise RequestError("contiguous groups are cut at their number; leave the threshold out")
    numbered = config.threshold is None
    return Method(group, _positions(scale), numbered, nested=numbered, in_time=True)


def _in_time(scaled: QTable, part: Table, n_groups: int | None, method: str) -> Grouping:
    """A tree in which only neighbours in time merge, or the best epochs (k-means)."""
    X, names = feature_matrix(scaled)
    complete = np.flatnonzero(np.isfinite(X).all(axis=1))
    if not 1 <= (n_groups or 1) <= len(complete):
        raise RequestError(f"{n_groups} groups asked of {len(complete)} runs; ask for fewer")
    times = times_of(part)[complete]
    obs_ids = np.asarray(scaled["obs_id"])
    labels = np.full(len(X), UNASSIGNED, dtype=np.int64)
    tree = None
    remarks = nothing_differs(X[complete], names)
    n_groups = 1 if remarks else n_groups
    # Runs that begin together are told apart by their number.
    order = np.lexsort([obs_ids[complete], times])
    ranks = np.empty(len(order))
    ranks[order] = np.arange(len(order))
    if method == "segments":
        labels[complete] = segment(X[complete], ranks, n_groups or 1)
    else:
        # Loaded when there is need: it takes longer than many a grouping.
        from scipy.cluster.hierarchy import fcluster

        tree = chain_linkage(X[complete], ranks, method)
        labels[complete] = fcluster(tree, n_groups or 1, "maxclust") if len(tree) else 1
    parameters = {
        "method": "kmeans" if method == "segments" else "hierarchical",
        "linkage": {"method": method},
        "features": names,
    }
    first = sorted(range(1, labels.max() + 1), key=lambda k: ranks[labels[complete] == k].min())
    reasons = missing_features(scaled)
    grouping = Grouping(obs_ids, labels, tree, parameters, reasons=reasons, remarks=remarks)
    return grouping.relabelled({old: new for new, old in enumerate(first, start=1)})


def _kmeans(request: Request, config: KMeansConfig) -> Method:
    scale = _scaler(request, request.names, request.scaling)

    def group(part: Table, n_groups: int | None) -> Grouping:
        scaled = scale(part)
        if request.constraints.contiguous:
            return _in_time(scaled, part, n_groups, "segments")
        return group_kmeans(scaled, n_groups or 1, config.n_init, config.random_state)

    return Method(group, _positions(scale), numbered=True, in_time=True)


def _mixture(request: Request, config: MixtureConfig) -> Method:
    scale = _scaler(request, request.names, request.scaling)

    def group(part: Table, n_groups: int | None) -> Grouping:
        options = (config.covariance_type, config.n_init, config.random_state)
        return group_mixture(scale(part), n_groups or 1, *options)

    return Method(group, _positions(scale), numbered=True)


def _hdbscan(request: Request, config: HDBSCANConfig) -> Method:
    scale = _scaler(request, request.names, request.scaling)

    def group(part: Table, _n_groups: int | None) -> Grouping:
        options = (config.cluster_runs, config.neighbours, config.epsilon)
        return group_hdbscan(scale(part), *options)

    return Method(group, _positions(scale))


def _spread(request: Request, _config: SpreadConfig) -> Method:
    columns = list(tolerances_of(request.runs, request.constraints))
    tolerances = request.constraints.max_spread
    scale = _scaler(request, columns, ScalingConfig(method="tolerance", tolerances=tolerances))

    def group(part: Table, _n_groups: int | None) -> Grouping:
        tolerances = tolerances_of(part, request.constraints)
        values = np.column_stack([numbers(part[name]) for name in columns])
        periods = [period_of(name, part[name]) for name in columns]
        order = np.argsort(np.asarray(part["obs_id"]), kind="stable")
        labels = np.empty(len(part), dtype=np.int64)
        limits = list(tolerances.values())
        if request.constraints.contiguous:
            labels[order] = _fewest_epochs(values[order], times_of(part)[order], limits, periods)
        else:
            labels[order] = fewest_groups(values[order], limits, periods, columns)
        scaled = scale(part)
        X, scaled_names = feature_matrix(scaled)
        return Grouping(
            np.asarray(part["obs_id"]),
            labels,
            None,
            {"method": "spread", "features": columns},
            rule=NearestRun.fit(scaled.meta["scaling"], scaled_names, X, labels, width=1.0),
            reasons=missing_features(scaled),
        )

    return Method(group, _positions(scale), in_time=True)


def _fewest_epochs(
    values: Array, times: Array, tolerances: Sequence[Tolerance], periods: Sequence[float | None]
) -> Labels:
    """Each epoch goes on for as long as all features keep to their tolerances."""
    labels = np.full(len(times), UNASSIGNED, dtype=np.int64)
    label, begin = 0, 0
    complete = np.flatnonzero(np.isfinite(values).all(axis=1))
    rows = complete[np.argsort(times[complete], kind="stable")]
    for end in range(len(rows)):
        members = values[rows[begin : end + 1]]
        keeps = all(
            within_tolerance(column, tolerance, period)
            for column, tolerance, period in zip(members.T, tolerances, periods, strict=True)
        )
        if not keeps or label == 0:
            label, begin = label + 1, end
        labels[rows[end]] = label
    return labels


def _cuts(request: Request, config: CutsConfig) -> Method:
    runs, asked = request.runs, request.constraints
    columns = [(cut, _one_column(cut.column, runs.colnames)) for cut in config.by]
    names = [column for _, column in columns]
    if len(set(names)) < len(names):
        raise RequestError(f"cuts by {', '.join(names)}: name each quantity once")

    def axes_of(part: Table) -> list[Bins | Categories]:
        axes: list[Bins | Categories] = []
        for cut, column in columns:
            way, value = cut.way
            if way == "adaptive":
                value = (asked.min_livetime, asked.min_runs)
            axes.append(
                categories_of(part, column)
                if way == "categories"
                else bins_of(part, column, way, value)
            )
        return axes

    axes = axes_of(runs)
    numeric = [axis.name for axis in axes if isinstance(axis, Bins)]
    scale = _scaler(request, numeric, ScalingConfig()) if numeric else None

    def group(part: Table, _n_groups: int | None) -> Grouping:
        method = config.by[0].way[0] if len(axes) == 1 else "cuts"
        return group_by_cells(part, axes_of(part), method)

    def positions(part: Table) -> Array:
        X = np.zeros((len(part), 0))
        if scale is not None:
            X = np.nan_to_num(feature_matrix(scale(part))[0])
        for axis in axes:
            if isinstance(axis, Categories):
                texts = texts_of(part, axis.name)
                one_hot = np.array([[text == value for value in axis.values] for text in texts])
                X = np.hstack([X, _APART * one_hot])
        return X

    return Method(group, positions)


def _one_column(name: str, colnames: Sequence[str]) -> str:
    columns = [c for c in colnames if c == name or c.startswith(f"{name}@")]
    if not columns:
        raise RequestError(unknown_name("column", name, colnames))
    if len(columns) > 1:
        raise RequestError(f"{name} at several energies; give one, such as {columns[0]}")
    return columns[0]


def _positions(scale: Callable[[Table], QTable]) -> Callable[[Table], Array]:
    return lambda part: feature_matrix(scale(part))[0]


METHODS: dict[str, Callable[..., Method]] = {
    "hierarchical": _hierarchical,
    "cuts": _cuts,
    "kmeans": _kmeans,
    "mixture": _mixture,
    "hdbscan": _hdbscan,
    "spread": _spread,
}
