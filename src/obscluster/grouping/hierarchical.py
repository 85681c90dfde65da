"""Ward's tree of few runs and its cut, as SciPy gives them, ties included.

To load SciPy's takes several times longer than all that is done with a few runs. The tree is grown
along chains of nearest neighbours (Murtagh 1983, Comput. J. 26, 354), distances to what was merged
follow from those before (Lance and Williams 1967, Comput. J. 9, 373).

Hierarchical clustering: a tree of merges, and where it is cut.

Tree and cut are as of SciPy, with all its linkage methods, metrics and criteria. Ward's tree of few
runs, and cuts into a number of groups, are done here (`obscluster.grouping.hierarchical`), since
loading SciPy takes longer than all else; of many runs, fastcluster builds the same tree without a
matrix of all distances, where the method allows it (Müllner 2013, J. Stat. Softw. 53, 9).
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from astropy.table import Column, QTable, Table
from numpy.typing import NDArray

from obscluster.exceptions import ObsClusterWarning, RequestError
from obscluster.features.scaling import feature_matrix, is_constant
from obscluster.grouping.rules import UNASSIGNED
from obscluster.grouping.trees import reorder_leaves

if TYPE_CHECKING:
    from obscluster.grouping.base import Grouping

__all__ = [
    "cut_tree",
    "group_hierarchical",
    "hierarchical_clustering",
    "linkage_tree",
    "missing_features",
    "ward_tree",
]

Array = NDArray[np.float64]


def ward_tree(X: Array) -> Array:
    """Tree of merges by Ward's criterion, Euclidean.

    Time grows with the cube of the number of runs: for many, there are better ways.

    Parameters
    ----------
    X : `~numpy.ndarray`
        Scaled features, shape (n_obs, n_features), finite.

    Returns
    -------
    tree : `~numpy.ndarray`
        As of `scipy.cluster.hierarchy.linkage`, shape (n_obs - 1, 4).

    Raises
    ------
    ValueError
        If values are so large that their distances are no numbers.
    """
    n = len(X)
    with np.errstate(over="ignore"):
        # One feature after the other, as SciPy adds them up: numpy would do it in another order.
        distances = np.sqrt(sum((x[:, None] - x) ** 2 for x in X.T))
    if not np.isfinite(distances).all():
        raise ValueError("the distances between runs are not finite")
    np.fill_diagonal(distances, np.inf)
    sizes = np.ones(n)
    merges: list[tuple[int, int, float]] = []
    chain: list[int] = []
    while len(merges) < n - 1:
        if not chain:
            chain.append(int(np.argmax(sizes > 0)))
        x = chain[-1]
        y = int(distances[x].argmin())
        # Of equally near ones, the one that the chain came from.
        if len(chain) > 1 and distances[x, chain[-2]] <= distances[x, y]:
            first, second = sorted(chain[-2:])
            merges.append((first, second, float(distances[first, second])))
            _merge(distances, sizes, first, second)
            del chain[-2:]
        else:
            chain.append(y)
    return _numbered(sorted(merges, key=lambda merge: merge[2]), n)


def _merge(distances: Array, sizes: Array, gone: int, kept: int) -> None:
    """Join two clusters: one takes the place of both."""
    between, joint = distances[gone, kept], sizes[gone] + sizes[kept]
    others = np.flatnonzero(sizes)
    others = others[(others != gone) & (others != kept)]
    share = 1.0 / (joint + sizes[others])
    squares = (
        (sizes[others] + sizes[gone]) * share * distances[others, gone] * distances[others, gone]
        + (sizes[others] + sizes[kept]) * share * distances[others, kept] * distances[others, kept]
        - sizes[others] * share * between * between
    )
    distances[kept, others] = distances[others, kept] = np.sqrt(squares)
    distances[gone], distances[:, gone] = np.inf, np.inf
    sizes[gone], sizes[kept] = 0, joint


def _numbered(merges: list[tuple[int, int, float]], n: int) -> Array:
    """Merges, in order of their height, with the numbers of the clusters that they join."""
    tree = np.empty((n - 1, 4))
    # Of every run, the cluster that it is in; of every cluster, its size.
    cluster_of, size_of = np.arange(n), np.ones(2 * n - 1)
    for row, (x, y, height) in enumerate(merges):
        pair = sorted((int(cluster_of[x]), int(cluster_of[y])))
        size_of[n + row] = size_of[pair].sum()
        tree[row] = (*pair, height, size_of[n + row])
        cluster_of[np.isin(cluster_of, pair)] = n + row
    return tree


def cut_tree(tree: Array, n_groups: int) -> NDArray[np.int64]:
    """At most so many groups: the tree is cut at the lowest height that gives no more.

    Parameters
    ----------
    tree : `~numpy.ndarray`
        Shape (n_obs - 1, 4), with heights that do not fall.
    n_groups : int
        At least 1.

    Returns
    -------
    labels : `~numpy.ndarray`
        From 1, in the order of `scipy.cluster.hierarchy.fcluster`, shape (n_obs,).
    """
    heights, n = tree[:, 2], len(tree) + 1
    if n_groups >= n:
        return np.arange(1, n + 1)
    height = heights[n - 1 - n_groups]
    labels = np.zeros(n, dtype=np.int64)
    n_found = 0
    # Of a cluster above the cut, its parts are taken before its single runs.
    waiting: list[tuple[int, int]] = [(2 * n - 2, 0)]
    while waiting:
        node, label = waiting.pop()
        if label == 0 and (node < n or heights[node - n] <= height):
            n_found += 1
            label = n_found
        if node < n:
            labels[node] = label
            continue
        left, right = (int(child) for child in tree[node - n, :2])
        parts = [child for child in (left, right) if child >= n]
        runs = [child for child in (left, right) if child < n]
        waiting.extend((child, label) for child in reversed(parts + runs))
    return labels


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
