"""Ward's tree of few runs and its cut, as SciPy gives them, ties included.

To load SciPy's takes several times longer than all that is done with a few runs. The tree is grown
along chains of nearest neighbours (Murtagh 1983, Comput. J. 26, 354), distances to what was merged
follow from those before (Lance and Williams 1967, Comput. J. 9, 373).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["cut_tree", "ward_tree"]

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
