"""Trees of merges in SciPy's format: several joined into one, and leaves taken out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["join_trees", "prune_tree", "reorder_leaves"]

Array = NDArray[np.float64]
Labels = NDArray[np.int64]


def join_trees(trees: Sequence[tuple[Array, Labels]]) -> Array:
    """One tree of several, joined above all other merges.

    Parameters
    ----------
    trees : sequence of tuple
        Each tree, shape (n - 1, 4), and which rows of a table its leaves are, shape (n,).

    Returns
    -------
    tree : `~numpy.ndarray`
        Its leaves count in the order of the rows.
    """
    rows = np.sort(np.concatenate([leaves for _, leaves in trees]))
    n_leaves = len(rows)
    merges: list[list[float]] = []
    roots: list[tuple[int, int]] = []
    for tree, leaves in trees:
        # From the node of a part to that of the whole.
        nodes = np.searchsorted(rows, leaves).tolist()
        for left, right, height, size in tree.tolist():
            merges.append([nodes[int(left)], nodes[int(right)], height, size])
            nodes.append(n_leaves + len(merges) - 1)
        if nodes:
            roots.append((nodes[-1], len(leaves)))
    top = max((merge[2] for merge in merges), default=0.0) or 1.0
    node, size = roots[0]
    for step, (other, more) in enumerate(roots[1:], start=1):
        size += more
        merges.append([node, other, top * (1 + 0.1 * step), size])
        node = n_leaves + len(merges) - 1
    return _in_order_of_height(np.array(merges, dtype=float).reshape(-1, 4), n_leaves)


def prune_tree(tree: Array, keep: NDArray[np.bool_]) -> Array:
    """The tree without some of its leaves.

    Parameters
    ----------
    tree : `~numpy.ndarray`
        Shape (n - 1, 4).
    keep : `~numpy.ndarray`
        Which leaves stay, shape (n,).

    Returns
    -------
    tree : `~numpy.ndarray`
        Its leaves are numbered anew in their order; heights stay.
    """
    n_leaves = int(keep.sum())
    numbers = np.cumsum(keep) - 1
    # The node that stands for an old one, or None, and how many leaves are below it.
    nodes: list[int | None] = [int(numbers[i]) if kept else None for i, kept in enumerate(keep)]
    sizes = [1] * n_leaves
    merges: list[list[float]] = []
    for left, right, height, _ in tree.tolist():
        first, second = nodes[int(left)], nodes[int(right)]
        if first is None or second is None:
            nodes.append(second if first is None else first)
            continue
        sizes.append(sizes[first] + sizes[second])
        merges.append([first, second, height, sizes[-1]])
        nodes.append(n_leaves + len(merges) - 1)
    return np.array(merges, dtype=float).reshape(-1, 4)


def reorder_leaves(tree: Array, order: Labels) -> Array:
    """The tree with other numbers of its leaves.

    Parameters
    ----------
    tree : `~numpy.ndarray`
        Shape (n - 1, 4).
    order : `~numpy.ndarray`
        Which row each leaf is, shape (n,); leaves are then counted in the order of the rows.
    """
    n_leaves = len(order)
    rank = np.empty(n_leaves, dtype=np.int64)
    rank[np.argsort(order)] = np.arange(n_leaves)
    nodes = tree[:, :2].astype(np.int64)
    renamed = np.where(nodes < n_leaves, rank[np.minimum(nodes, n_leaves - 1)], nodes)
    reordered = tree.copy()
    reordered[:, :2] = np.sort(renamed, axis=1)
    return reordered


def _in_order_of_height(tree: Array, n_leaves: int) -> Array:
    """The same tree with merges in the order of their heights, as SciPy wants it."""
    order = np.argsort(tree[:, 2], kind="stable")
    number = np.arange(n_leaves + len(tree))
    number[n_leaves + order] = n_leaves + np.arange(len(order))
    result = tree[order].copy()
    result[:, :2] = np.sort(number[result[:, :2].astype(np.int64)], axis=1)
    return result
