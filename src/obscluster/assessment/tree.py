"""All the groupings that a tree holds."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.cluster import hierarchy

from obscluster.exceptions import RequestError
from obscluster.grouping.base import UNASSIGNED, Grouping

__all__ = ["labels_of_tree"]


def labels_of_tree(
    tree: Grouping | NDArray[np.float64], n_max: int | None = 10
) -> dict[int, NDArray[np.int64]]:
    """Labels for every number of groups that a tree can be cut into.

    All cuts together take one walk through the tree.

    Parameters
    ----------
    tree : `~obscluster.grouping.base.Grouping` or `~numpy.ndarray`
        A grouping with its tree, or a tree in SciPy's format, shape (n - 1, 4).
    n_max : int or None
        Largest number of groups; None for all.

    Returns
    -------
    labels : dict
        Number of groups to labels: of the runs of the grouping, -1 where they are not in the tree,
        or of the leaves. They are those of `scipy.cluster.hierarchy.fcluster` with ``maxclust``.
        Numbers of groups that no height gives, since runs are equally far, are left out; identical
        runs are never split.

    Raises
    ------
    RequestError
        If the grouping has no tree, or the tree is none.
    """
    if n_max is not None and n_max < 1:
        raise RequestError(f"n_max = {n_max}; ask for at least 1 group")
    assigned: NDArray[np.intp] | None = None
    if isinstance(tree, Grouping):
        if tree.linkage is None:
            raise RequestError(
                f"the grouping by {tree.parameters.get('method', 'this method')} has no tree; "
                "give labels for each number of groups instead"
            )
        assigned = np.flatnonzero(tree.labels != UNASSIGNED)
        if len(assigned) != len(tree.linkage) + 1:
            raise RequestError(
                f"{len(assigned)} assigned runs, but the tree has {len(tree.linkage) + 1} leaves; "
                "give the tree itself"
            )
        size, linkage = len(tree), tree.linkage
    else:
        linkage = np.asarray(tree, dtype=float)
        if linkage.size and not (linkage.ndim == 2 and hierarchy.is_valid_linkage(linkage)):
            raise RequestError(f"an array of shape {linkage.shape} that is no tree of SciPy's")
        size = len(linkage) + 1
    cuts = _cuts(linkage.reshape(-1, 4), n_max)
    if assigned is None:
        return cuts
    labels = {}
    for n_groups, of_leaves in cuts.items():
        labels[n_groups] = np.full(size, UNASSIGNED, dtype=np.int64)
        labels[n_groups][assigned] = of_leaves
    return labels


def _cuts(tree: NDArray[np.float64], n_max: int | None) -> dict[int, NDArray[np.int64]]:
    n_leaves = len(tree) + 1
    if n_leaves == 1:
        return {1: np.ones(1, dtype=np.int64)}
    leaves, nodes = _walk(tree)
    # Between neighbouring leaves lies one merge. Its height is what a cut is compared with; where
    # a tree has inversions, SciPy takes the largest height in the branch.
    height = hierarchy.maxdists(tree)[nodes]
    falling = np.sort(height)[::-1]
    n_max = n_leaves if n_max is None else min(n_max, n_leaves)
    labels = {}
    for n_groups in range(1, min(n_max, n_leaves - 1) + 1):
        lowest = falling[n_groups - 1]
        # The merge that makes one group less must be higher than those that are kept.
        if n_groups > 1 and falling[n_groups - 2] == lowest:
            continue
        labels[n_groups] = np.empty(n_leaves, dtype=np.int64)
        labels[n_groups][leaves] = np.concatenate([[1], 1 + np.cumsum(height > lowest)])
    if n_max == n_leaves and falling[-1] > 0:
        labels[n_leaves] = np.arange(1, n_leaves + 1)
    return labels


def _walk(tree: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Leaves in the order in which SciPy counts groups, and the merge between each two of them.

    SciPy counts branches before single leaves.
    """
    n_leaves = len(tree) + 1
    children = tree[:, :2].astype(np.int64).tolist()
    leaves: list[int] = []
    between: list[int] = []
    stack = [(2 * n_leaves - 2, -1)]
    while stack:
        node, merge = stack.pop()
        if node < n_leaves:
            leaves.append(node)
            between.append(merge)
            continue
        left, right = children[node - n_leaves]
        if left < n_leaves <= right:
            left, right = right, left
        # The first leaf of the right branch is where the branches of this merge meet.
        stack += [(right, node - n_leaves), (left, merge)]
    return np.array(leaves), np.array(between[1:])
