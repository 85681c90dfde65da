"""Hierarchical clustering: a tree of merges, and where it is cut.

Tree and cut are SciPy's, with all its linkage methods, metrics and criteria. Of many runs,
fastcluster builds the same tree without a matrix of all distances, where the method allows it
(Müllner 2013, J. Stat. Softw. 53, 9).
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, Literal, cast

import fastcluster
import numpy as np
from astropy.table import Column, QTable, Table
from numpy.typing import NDArray
from pydantic import Field, model_validator
from scipy.cluster import hierarchy

from obscluster.exceptions import ObsClusterWarning, RequestError
from obscluster.features.scaling import feature_matrix, is_constant
from obscluster.grouping.base import Grouping
from obscluster.grouping.epochs import group_in_time
from obscluster.grouping.method import (
    Method,
    MethodConfig,
    Request,
    missing_features,
    positions_by,
    scaler,
)
from obscluster.grouping.rules import UNASSIGNED, NearestRun
from obscluster.grouping.trees import reorder_leaves
from obscluster.values.fields import Number

__all__ = [
    "HierarchicalConfig",
    "group_hierarchical",
    "hierarchical_clustering",
    "linkage_tree",
]

Array = NDArray[np.float64]


# From here on the matrix of distances takes more time and memory than it is worth.
_MANY = 1000
_VECTOR_METHODS = ("ward", "centroid", "median", "single")


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


class HierarchicalConfig(MethodConfig):
    """A tree of merges; cut at a number of groups, or by another criterion of SciPy's."""

    method: Literal["hierarchical"] = "hierarchical"
    n_groups: Number = None
    linkage: Linkage = "ward"
    metric: Metric = "euclidean"
    criterion: Literal["maxclust", "distance", "inconsistent"] = "maxclust"
    threshold: float | None = Field(default=None, gt=0)

    @property
    def numbered(self) -> bool:
        """See `MethodConfig`."""
        return self.threshold is None

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

    def prepare(self, request: Request) -> Method:
        """See `MethodConfig`."""
        scale = scaler(request, request.names, request.scaling)
        options = {"method": self.linkage, "metric": self.metric}

        def group(part: Table, n_groups: int | None) -> Grouping:
            scaled = scale(part)
            if request.constraints.contiguous:
                return group_in_time(scaled, part, n_groups, self.linkage)
            cut = {"criterion": self.criterion, "t": self.threshold}
            if self.threshold is None:
                cut = {"criterion": "maxclust", "t": n_groups}
            return group_hierarchical(scaled, options, cut)

        if request.constraints.contiguous and self.threshold is not None:
            raise RequestError("contiguous groups are cut at their number; leave the threshold out")
        return Method(group, positions_by(scale), self.numbered, nested=self.numbered, in_time=True)


def hierarchical_clustering(
    features: Table,
    linkage_kwargs: Mapping[str, Any] | None = None,
    fcluster_kwargs: Mapping[str, Any] | None = None,
) -> QTable:
    """Cluster a feature table.

    Parameters
    ----------
    features : `~astropy.table.Table`
        Feature table, usually scaled by `~obscluster.features.scaling.standard_scaler`.
    linkage_kwargs : mapping, optional
        Passed to `scipy.cluster.hierarchy.linkage`; ``method="ward"`` and
        ``metric="euclidean"`` unless told.
    fcluster_kwargs : mapping, optional
        Passed to `scipy.cluster.hierarchy.fcluster`; ``criterion="maxclust"`` and ``t=3`` unless
        told.

    Returns
    -------
    features : `~astropy.table.QTable`
        A copy with a column ``labels``; -1 for rows with missing features.

    Raises
    ------
    RequestError
        If SciPy does not know or accept an argument, or more groups are asked than there are runs.
    """
    _, labels = _tree_and_labels(features, linkage_kwargs, fcluster_kwargs)
    labelled = QTable(features, copy=True)
    labelled["labels"] = Column(labels, description="Group, -1 for none")
    return labelled


def group_hierarchical(
    features: Table,
    linkage_kwargs: Mapping[str, Any] | None = None,
    fcluster_kwargs: Mapping[str, Any] | None = None,
) -> Grouping:
    """As `hierarchical_clustering`, with the tree as part of the result.

    Returns
    -------
    grouping : `~obscluster.grouping.base.Grouping`
        Labels, tree and parameters.
    """
    if "obs_id" not in features.colnames:
        raise RequestError(f"no column obs_id among {', '.join(features.colnames)}")
    tree, labels = _tree_and_labels(features, linkage_kwargs, fcluster_kwargs)
    X, names = feature_matrix(features)
    parameters = {
        "method": "hierarchical",
        "linkage": _linkage_options(linkage_kwargs),
        "fcluster": _fcluster_options(fcluster_kwargs),
        "features": names,
    }
    return Grouping(
        np.asarray(features["obs_id"]),
        labels,
        tree,
        parameters,
        rule=NearestRun.fit(features.meta.get("scaling"), names, X, labels),
        reasons=missing_features(features),
    )


def linkage_tree(
    X: NDArray[np.float64], method: str = "ward", metric: str = "euclidean", **options: Any
) -> NDArray[np.float64]:
    """Tree of merges in SciPy's format.

    Parameters
    ----------
    X : `~numpy.ndarray`
        Scaled features, shape (n_obs, n_features), without missing values.
    method, metric
        As `scipy.cluster.hierarchy.linkage`.
    **options
        Passed to it.

    Returns
    -------
    tree : `~numpy.ndarray`
        Shape (n_obs - 1, 4).
    """
    plain = metric == "euclidean" and not options
    if plain and method in _VECTOR_METHODS and len(X) > _MANY:
        return np.asarray(fastcluster.linkage_vector(X, method))
    return np.asarray(hierarchy.linkage(X, cast(Any, method), cast(Any, metric), **options))


def _linkage_options(kwargs: Mapping[str, Any] | None) -> dict[str, Any]:
    return {"method": "ward", "metric": "euclidean"} | dict(kwargs or {})


def _fcluster_options(kwargs: Mapping[str, Any] | None) -> dict[str, Any]:
    return {"criterion": "maxclust", "t": 3} | dict(kwargs or {})


def _tree_and_labels(
    features: Table,
    linkage_kwargs: Mapping[str, Any] | None,
    fcluster_kwargs: Mapping[str, Any] | None,
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Tree over the complete rows, in their order, and the label of every row."""
    X, names = feature_matrix(features)
    complete = np.flatnonzero(np.isfinite(X).all(axis=1))
    if len(complete) == 0:
        raise RequestError("no run has all the features, so there is nothing to cluster")
    options = _fcluster_options(fcluster_kwargs)
    if "maxclust" in str(options["criterion"]):
        n_groups = options["t"]
        n_runs = len(complete)
        number = isinstance(n_groups, int | float | np.number)
        if not number or not float(n_groups).is_integer() or n_groups < 1:
            raise RequestError(f"t = {n_groups!r} groups asked; ask for at least 1, a whole number")
        if n_groups > n_runs:
            raise RequestError(
                f"{n_groups} groups asked of {n_runs} runs; ask for at most {n_runs}"
            )
    # In the order of the identifiers, so that the labels do not depend on that of the rows.
    if "obs_id" in features.colnames:
        complete = complete[np.argsort(np.asarray(features["obs_id"])[complete], kind="stable")]
    labels = np.full(len(X), UNASSIGNED, dtype=np.int64)
    if len(complete) == 1:
        labels[complete] = 1
        return np.empty((0, 4)), labels
    try:
        tree = linkage_tree(X[complete], **_linkage_options(linkage_kwargs))
        labels[complete] = hierarchy.fcluster(tree, **options)
    except (ValueError, TypeError, AttributeError) as error:
        raise RequestError(f"hierarchical clustering: {error}") from None
    if all(is_constant(X[complete, i]) for i in range(X.shape[1])):
        labels[complete] = 1
        text = f"nothing distinguishes the {len(complete)} runs: {', '.join(names)} do not vary"
        warnings.warn(f"{text}; all are in one group", ObsClusterWarning, stacklevel=3)
    elif options["criterion"] == "maxclust" and labels.max() < options["t"]:
        text = f"{options['t']} groups asked, but the tree falls into {labels.max()} at any height"
        warnings.warn(text, ObsClusterWarning, stacklevel=3)
    return reorder_leaves(tree, complete), labels
