"""Hierarchical clustering: a tree of merges, and where it is cut.

Tree and cut are as of SciPy, with all its linkage methods, metrics and criteria. Ward's tree of few
runs, and cuts into a number of groups, are done here (`obscluster.grouping.ward`), since loading
SciPy takes longer than all else; of many runs, fastcluster builds the same tree without a matrix of
all distances, where the method allows it (Müllner 2013, J. Stat. Softw. 53, 9).
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from astropy.table import Column, QTable, Table
from numpy.typing import NDArray

from obscluster.exceptions import ObsClusterWarning, RequestError
from obscluster.grouping import UNASSIGNED
from obscluster.grouping.trees import reorder_leaves
from obscluster.grouping.ward import cut_tree, ward_tree
from obscluster.scaling import feature_matrix, is_constant

if TYPE_CHECKING:
    from obscluster.grouping.base import Grouping

__all__ = [
    "group_hierarchical",
    "hierarchical_clustering",
    "linkage_tree",
    "missing_features",
]

# Up to here, Ward's tree takes less time than it takes to load SciPy.
_FEW = 300
# From here on the matrix of distances takes more time and memory than it is worth.
_MANY = 1000
_VECTOR_METHODS = ("ward", "centroid", "median", "single")


def hierarchical_clustering(
    features: Table,
    linkage_kwargs: Mapping[str, Any] | None = None,
    fcluster_kwargs: Mapping[str, Any] | None = None,
) -> QTable:
    """Cluster a feature table.

    Parameters
    ----------
    features : `~astropy.table.Table`
        Feature table, usually scaled by `~obscluster.scaling.standard_scaler`.
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
    # Not for who asks for labels only.
    from obscluster.grouping.base import Grouping
    from obscluster.grouping.rules import NearestRun

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


def missing_features(features: Table) -> dict[int, str]:
    """Observation to which features it lacks, for those that lack any."""
    X, names = feature_matrix(features)
    lacking = ~np.isfinite(X)
    return {
        int(features["obs_id"][row]): "no " + ", ".join(np.array(names)[lacking[row]].tolist())
        for row in np.flatnonzero(lacking.any(axis=1))
    }


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
    if plain and method == "ward" and len(X) <= _FEW:
        return ward_tree(X)
    # Loaded when there is need.
    if plain and method in _VECTOR_METHODS and len(X) > _MANY:
        import fastcluster

        return np.asarray(fastcluster.linkage_vector(X, method))
    from scipy.cluster import hierarchy

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
        _check_n_groups(options["t"], len(complete))
    # In the order of the identifiers, so that the labels do not depend on that of the rows.
    if "obs_id" in features.colnames:
        complete = complete[np.argsort(np.asarray(features["obs_id"])[complete], kind="stable")]
    labels = np.full(len(X), UNASSIGNED, dtype=np.int64)
    if len(complete) == 1:
        labels[complete] = 1
        return np.empty((0, 4)), labels
    try:
        tree = linkage_tree(X[complete], **_linkage_options(linkage_kwargs))
        labels[complete] = _cut(tree, options)
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


def _cut(tree: NDArray[np.float64], options: Mapping[str, Any]) -> NDArray[Any]:
    """Labels of the leaves of a tree."""
    rises = bool((tree[1:, 2] >= tree[:-1, 2]).all())
    if options.keys() == {"criterion", "t"} and options["criterion"] == "maxclust" and rises:
        return cut_tree(tree, int(options["t"]))
    from scipy.cluster import hierarchy

    return np.asarray(hierarchy.fcluster(tree, **options))


def _check_n_groups(n_groups: Any, n_runs: int) -> None:
    number = isinstance(n_groups, int | float | np.number)
    if not number or not float(n_groups).is_integer() or n_groups < 1:
        raise RequestError(f"t = {n_groups!r} groups asked; ask for at least 1, a whole number")
    if n_groups > n_runs:
        raise RequestError(f"{n_groups} groups asked of {n_runs} runs; ask for at most {n_runs}")
