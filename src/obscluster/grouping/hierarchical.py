"""Hierarchical clustering: a tree of merges, and where it is cut.

The tree and the cut are SciPy's, with all its linkage methods, metrics and criteria.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from astropy.table import Column, QTable, Table
from numpy.typing import NDArray
from scipy.cluster import hierarchy

from obscluster.exceptions import ObsClusterWarning, RequestError
from obscluster.grouping.base import UNASSIGNED, Grouping
from obscluster.scaling import feature_matrix, is_constant

__all__ = ["group_hierarchical", "hierarchical_clustering"]


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
    if "obs_id" not in features.colnames:
        raise RequestError(f"no column obs_id among {', '.join(features.colnames)}")
    tree, labels = _tree_and_labels(features, linkage_kwargs, fcluster_kwargs)
    parameters = {
        "method": "hierarchical",
        "linkage": _linkage_options(linkage_kwargs),
        "fcluster": _fcluster_options(fcluster_kwargs),
        "features": feature_matrix(features)[1],
    }
    return Grouping(np.asarray(features["obs_id"]), labels, tree, parameters)


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
        tree = hierarchy.linkage(X[complete], **_linkage_options(linkage_kwargs))
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
    return _reorder_leaves(tree, complete), labels


def _check_n_groups(n_groups: Any, n_runs: int) -> None:
    number = isinstance(n_groups, int | float | np.number)
    if not number or not float(n_groups).is_integer() or n_groups < 1:
        raise RequestError(f"t = {n_groups!r} groups asked; ask for at least 1, a whole number")
    if n_groups > n_runs:
        raise RequestError(f"{n_groups} groups asked of {n_runs} runs; ask for at most {n_runs}")


def _reorder_leaves(tree: NDArray[np.float64], order: NDArray[np.int64]) -> NDArray[np.float64]:
    """Tree whose leaves count in the order of the rows rather than of the identifiers."""
    n_leaves = len(order)
    rank = np.empty(n_leaves, dtype=np.int64)
    rank[np.argsort(order)] = np.arange(n_leaves)
    nodes = tree[:, :2].astype(np.int64)
    renamed = np.where(nodes < n_leaves, rank[np.minimum(nodes, n_leaves - 1)], nodes)
    reordered = tree.copy()
    reordered[:, :2] = np.sort(renamed, axis=1)
    return reordered
