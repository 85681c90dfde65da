"""Partition and density: k-means, Gaussian mixture, HDBSCAN, as scikit-learn has them.

- `group_kmeans`: compact groups of similar size in feature space; fast; a centre describes each.
- `group_mixture`: groups that may be elongated, overlap, and differ in size; says how probable.
- `group_hdbscan`: finds itself how many groups there are, of any shape, and leaves runs that
  belong to none of them as noise, -1.

Each starts from fixed random numbers and runs on one thread, so that the result is always the same.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray
from pydantic import Field, PositiveInt
from threadpoolctl import threadpool_limits

from obscluster.exceptions import ObsClusterWarning, RequestError
from obscluster.features.scaling import feature_matrix
from obscluster.grouping.base import Grouping
from obscluster.grouping.epochs import group_in_time
from obscluster.grouping.method import (
    Method,
    MethodConfig,
    Request,
    missing_features,
    nothing_differs,
    positions_by,
    scaler,
)
from obscluster.grouping.rules import UNASSIGNED, Mixture, NearestCentroid, NearestRun, Rule
from obscluster.values.fields import Number

__all__ = [
    "HDBSCANConfig",
    "KMeansConfig",
    "MixtureConfig",
    "group_hdbscan",
    "group_kmeans",
    "group_mixture",
]

Array = NDArray[np.float64]
Labels = NDArray[np.int64]
Scaling = Any


class KMeansConfig(MethodConfig):
    """Compact groups around centres."""

    method: Literal["kmeans"] = "kmeans"
    n_groups: Number = None
    n_init: PositiveInt = 20
    random_state: int = Field(default=0, ge=0, lt=2**32)

    def prepare(self, request: Request) -> Method:
        """See `MethodConfig`."""
        scale = scaler(request, request.names, request.scaling)

        def group(part: Table, n_groups: int | None) -> Grouping:
            scaled = scale(part)
            if request.constraints.contiguous:
                return group_in_time(scaled, part, n_groups, "segments")
            return group_kmeans(scaled, n_groups or 1, self.n_init, self.random_state)

        return Method(group, positions_by(scale), numbered=True, in_time=True)


class MixtureConfig(MethodConfig):
    """Components of a Gaussian mixture."""

    method: Literal["mixture"] = "mixture"
    n_groups: Number = None
    covariance_type: Literal["full", "tied", "diag", "spherical"] = "full"
    n_init: PositiveInt = 10
    random_state: int = Field(default=0, ge=0, lt=2**32)

    def prepare(self, request: Request) -> Method:
        """See `MethodConfig`."""
        scale = scaler(request, request.names, request.scaling)

        def group(part: Table, n_groups: int | None) -> Grouping:
            options = (self.covariance_type, self.n_init, self.random_state)
            return group_mixture(scale(part), n_groups or 1, *options)

        return Method(group, positions_by(scale), numbered=True)


class HDBSCANConfig(MethodConfig):
    """Dense regions, and noise."""

    method: Literal["hdbscan"] = "hdbscan"
    cluster_runs: int = Field(default=5, ge=2)
    neighbours: PositiveInt | None = None
    epsilon: float = Field(default=0.0, ge=0)

    def prepare(self, request: Request) -> Method:
        """See `MethodConfig`."""
        scale = scaler(request, request.names, request.scaling)

        def group(part: Table, _n_groups: int | None) -> Grouping:
            options = (self.cluster_runs, self.neighbours, self.epsilon)
            return group_hdbscan(scale(part), *options)

        return Method(group, positions_by(scale))


def group_kmeans(
    features: Table, n_groups: int = 2, n_init: int = 20, random_state: int = 0
) -> Grouping:
    """Partition by k-means.

    Parameters
    ----------
    features : `~astropy.table.Table`
        Feature table with ``obs_id``, usually scaled by
        `~obscluster.features.scaling.scale_features`.
    n_groups : int
        Number of groups.
    n_init : int
        How often to start; the best result counts.
    random_state : int
        Seed.

    Returns
    -------
    grouping : `~obscluster.grouping.base.Grouping`
        Groups in rising order of the first feature.

    Raises
    ------
    RequestError
        If more groups are asked than there are runs, or no run has all features.
    """
    parameters = {"method": "kmeans", "n_groups": n_groups, "n_init": n_init}

    def fit(X: Array, n: int) -> Callable[[Scaling, list[str]], Rule]:
        from sklearn.cluster import KMeans

        model = KMeans(n, n_init=n_init, random_state=random_state).fit(X)
        centers = _in_order(model.cluster_centers_)
        return lambda scaling, names: NearestCentroid.fit(scaling, names, centers, X)

    return _group(features, n_groups, parameters | {"random_state": random_state}, fit)


def group_mixture(
    features: Table,
    n_groups: int = 2,
    covariance_type: str = "full",
    n_init: int = 10,
    random_state: int = 0,
) -> Grouping:
    """Groups that are the components of a Gaussian mixture.

    Parameters
    ----------
    features, n_groups, n_init, random_state
        See `group_kmeans`. A component that is nowhere the most probable makes no group.
    covariance_type : {"full", "tied", "diag", "spherical"}
        Shape of the components.

    Returns
    -------
    grouping : `~obscluster.grouping.base.Grouping`
        Groups in rising order of the first feature.
    """
    kinds = ("full", "tied", "diag", "spherical")
    if covariance_type not in kinds:
        raise RequestError(f"covariance_type {covariance_type!r}; expected {', '.join(kinds)}")
    parameters = {
        "method": "mixture",
        "n_groups": n_groups,
        "covariance_type": covariance_type,
        "n_init": n_init,
        "random_state": random_state,
    }

    def fit(X: Array, n: int) -> Callable[[Scaling, list[str]], Rule]:
        if len(X) < 2:
            # Of a single run there is no distribution.
            return lambda scaling, names: NearestCentroid.fit(scaling, names, X, X)
        from sklearn.mixture import GaussianMixture

        model = GaussianMixture(
            n, covariance_type=covariance_type, n_init=n_init, random_state=random_state
        ).fit(X)
        order = np.lexsort(model.means_.T[::-1])
        covariances = _full(model.covariances_, covariance_type, n, X.shape[1])[order]
        weights, means = model.weights_[order], model.means_[order]
        y = np.arange(1, n + 1)

        def rule(scaling: Scaling, names: list[str]) -> Rule:
            first = Mixture(scaling, tuple(names), weights, means, covariances, y, -np.inf)
            density = np.logaddexp.reduce(first.log_densities(X), axis=1)
            return Mixture(
                scaling, tuple(names), weights, means, covariances, y, float(density.min())
            )

        return rule

    return _group(features, n_groups, parameters, fit)


def group_hdbscan(
    features: Table, min_runs: int = 5, min_samples: int | None = None, epsilon: float = 0.0
) -> Grouping:
    """Groups that are dense regions; runs outside of them are noise, -1.

    Parameters
    ----------
    features : `~astropy.table.Table`
        See `group_kmeans`.
    min_runs : int
        Smallest group (``min_cluster_size``), at least 2.
    min_samples : int, optional
        Neighbours that make a place dense; ``min_runs`` unless told. Fewer leave less noise.
    epsilon : float
        Scaled distance below which groups are not split (``cluster_selection_epsilon``).

    Returns
    -------
    grouping : `~obscluster.grouping.base.Grouping`
        Groups in rising order of the first feature.

    Raises
    ------
    RequestError
        If there are fewer runs than ``min_runs``, or no run has all features.
    """
    complete, X, names = _complete(features)
    if min_runs < 2:
        raise RequestError(f"{min_runs} runs as smallest group; HDBSCAN needs at least 2")
    if len(X) < min_runs and len(X) > 1:
        raise RequestError(
            f"groups of at least {min_runs} runs asked, but there are {len(X)} in all; ask for less"
        )
    parameters = {
        "method": "hdbscan",
        "min_runs": min_runs,
        "min_samples": min_samples,
        "epsilon": epsilon,
        "features": names,
    }
    found = np.ones(len(X), dtype=np.int64)
    remarks = nothing_differs(X, names)
    if not remarks and len(X) > 1:
        try:
            found = _one_thread(lambda: _hdbscan(X, min_runs, min_samples, epsilon))
        except (ValueError, TypeError) as error:
            raise RequestError(
                f"HDBSCAN of {len(X)} runs with min_runs {min_runs}, min_samples {min_samples} and "
                f"epsilon {epsilon:g}: {error}"
            ) from None
    n_noise = int((found == UNASSIGNED).sum())
    if n_noise == len(X):
        raise RequestError(
            f"all {len(X)} runs are noise: no {min_runs} of them are close together; ask for "
            "smaller groups (min_runs), fewer neighbours (min_samples), or another method"
        )
    labels = np.full(len(features), UNASSIGNED, dtype=np.int64)
    labels[complete] = found
    reasons = missing_features(features)
    noise = np.asarray(features["obs_id"])[complete][found == UNASSIGNED]
    reasons |= dict.fromkeys(noise.tolist(), "noise: not close to enough other runs")
    rule = NearestRun.fit(features.meta.get("scaling"), names, X, found)
    obs_ids = np.asarray(features["obs_id"])
    return Grouping(obs_ids, labels, None, parameters, {}, rule, reasons, remarks)


def _hdbscan(X: Array, min_runs: int, min_samples: int | None, epsilon: float) -> Labels:
    from sklearn.cluster import HDBSCAN

    model = HDBSCAN(
        min_cluster_size=min_runs,
        min_samples=min_samples,
        cluster_selection_epsilon=epsilon,
        copy=True,
    )
    raw = model.fit(X).labels_
    found = sorted(set(raw[raw >= 0].tolist()))
    if not found:
        return np.full(len(X), UNASSIGNED, dtype=np.int64)
    centers = np.array([X[raw == k].mean(axis=0) for k in found])
    rank = {found[i]: place for place, i in enumerate(np.lexsort(centers.T[::-1]), start=1)}
    return np.array([rank.get(k, UNASSIGNED) for k in raw.tolist()], dtype=np.int64)


def _group(
    features: Table,
    n_groups: int,
    parameters: dict[str, Any],
    fit: Callable[[Array, int], Callable[[Scaling, list[str]], Rule]],
) -> Grouping:
    """Groups by a model that becomes a rule; the rule itself then says who belongs where."""
    complete, X, names = _complete(features)
    if not 1 <= n_groups <= len(X):
        raise RequestError(f"{n_groups} groups asked of {len(X)} runs; ask for 1 to {len(X)}")
    remarks = nothing_differs(X, names)
    n_distinct = len(np.unique(X, axis=0))
    n = 1 if remarks else min(n_groups, n_distinct)
    if n < n_groups and not remarks:
        text = f"{n_groups} groups asked, but only {n} runs are different"
        warnings.warn(text, ObsClusterWarning, stacklevel=3)
    make_rule = _one_thread(lambda: fit(X, n))
    scaling = features.meta.get("scaling")
    # The rule sees the scaled features as they are, and scales new ones.
    plain_rule = make_rule(None, names)
    found, _ = plain_rule.assign(features[complete])
    kept = np.unique(found[found != UNASSIGNED]).tolist()
    number = {old: new for new, old in enumerate(kept, start=1)}
    labels = np.full(len(features), UNASSIGNED, dtype=np.int64)
    labels[complete] = [number.get(k, UNASSIGNED) for k in found.tolist()]
    return Grouping(
        np.asarray(features["obs_id"]),
        labels,
        None,
        parameters | {"features": names},
        {},
        make_rule(scaling, names).relabelled(number),
        missing_features(features),
        remarks,
    )


def _complete(features: Table) -> tuple[NDArray[np.int64], Array, list[str]]:
    """Rows that have all features, in the order of obs_id, their matrix, and its columns."""
    if "obs_id" not in features.colnames:
        raise RequestError(f"no column obs_id among {', '.join(features.colnames)}")
    X, names = feature_matrix(features)
    complete = np.flatnonzero(np.isfinite(X).all(axis=1))
    if len(complete) == 0:
        raise RequestError("no run has all the features, so there is nothing to cluster")
    # In the order of the identifiers, so that the labels do not depend on that of the rows.
    complete = complete[np.argsort(np.asarray(features["obs_id"])[complete], kind="stable")]
    return complete, X[complete], names


def _in_order(centers: Array) -> Array:
    """Rows in rising order of the first column, then of the second, and so on."""
    return np.asarray(centers[np.lexsort(centers.T[::-1])], dtype=float)


def _full(covariances: Array, kind: str, n: int, n_features: int) -> Array:
    """Matrices of all components, shape (n, n_features, n_features)."""
    eye = np.eye(n_features)
    if kind == "tied":
        return np.repeat(covariances[None], n, axis=0)
    if kind == "diag":
        return np.asarray(covariances[:, :, None] * eye)
    if kind == "spherical":
        return np.asarray(covariances[:, None, None] * eye)
    return covariances


def _one_thread(work: Callable[[], Any]) -> Any:
    """Result of some work in which sums do not depend on the number of threads."""
    with threadpool_limits(1), warnings.catch_warnings():
        # What scikit-learn says of few distinct points and of convergence, we say ourselves.
        warnings.filterwarnings("ignore", module="sklearn")
        return work()
