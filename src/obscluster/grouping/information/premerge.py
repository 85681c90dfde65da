"""Pre-merging of many runs: almost identical ones first, so that the rest fits in memory.

Agglomeration needs the cost of every pair. With more than a few thousand runs they are first
divided into chunks of alike runs, by cutting the cloud of their scores at its median across its
longest axis, again and again. Each chunk is agglomerated for itself to a small part of its runs,
with the exact costs. What that loses is known exactly, too; and the refinement that comes last
moves single runs again, so that little of it remains.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from obscluster.grouping.information.kept import Sums, sums_of
from obscluster.grouping.information.tree import Merges, agglomerate, cut

__all__ = ["agglomerate_many"]

Array = NDArray[np.float64]
Ints = NDArray[np.int64]

MAX_DIRECT = 2000
"""So many runs are agglomerated at once."""

_CHUNK = 1000


def agglomerate_many(
    runs: Sums, strata: Ints | None = None, max_direct: int = MAX_DIRECT
) -> tuple[Merges, float]:
    """Agglomerate any number of runs.

    Parameters
    ----------
    runs : `~obscluster.grouping.information.kept.Sums`
        Runs.
    strata : `~numpy.ndarray`, optional
        See `~obscluster.grouping.information.tree.agglomerate`.
    max_direct : int
        With more runs, they are first merged to about so many groups.

    Returns
    -------
    merges : `~obscluster.grouping.information.tree.Merges`
        The tree over the runs.
    loss : float
        Information that would be lost if the pre-merged groups were the last ones; 0 if there are
        none.
    """
    if len(runs) <= max_direct:
        return agglomerate(runs, strata), 0.0
    names = np.zeros(len(runs), dtype=np.int64) if strata is None else strata
    chunks = [
        chunk
        for stratum in np.unique(names)
        for chunk in _chunks(runs, np.flatnonzero(names == stratum))
    ]
    first = _merge_chunks(runs, chunks, max_direct / len(runs))
    labels = cut(first, len(runs) - len(first.pairs))
    groups = sums_of(runs, labels, int(labels.max()) + 1)
    group_strata = np.zeros(len(groups), dtype=np.int64)
    group_strata[labels] = names
    rest = agglomerate(groups, None if strata is None else group_strata)
    return _join(first, rest, labels), float(np.maximum(first.costs, 0.0).sum())


def _chunks(runs: Sums, rows: Ints) -> list[Ints]:
    """Rows in chunks of alike runs."""
    if len(rows) <= _CHUNK:
        return [rows]
    mu = runs.mu[rows]
    total = mu.sum(axis=0)
    # Scores relative to the mean one; a bin that a run does not have says nothing.
    mean = runs.d[rows].sum(axis=0) / total
    scores = np.where(mu[:, np.newaxis, :] > 1e-200, runs.d[rows] / mu[:, np.newaxis, :] - mean, 0)
    scores = (scores * np.sqrt(total)).reshape(len(rows), -1)
    _, vectors = np.linalg.eigh(scores.T @ scores)
    order = np.argsort(scores @ vectors[:, -1], kind="stable")
    half = len(rows) // 2
    parts = (np.sort(rows[order[:half]]), np.sort(rows[order[half:]]))
    return [chunk for part in parts for chunk in _chunks(runs, part)]


def _merge_chunks(runs: Sums, chunks: list[Ints], fraction: float) -> Merges:
    """Merges within the chunks, cheapest first."""
    trees = [agglomerate(runs[rows], n_stop=max(int(len(rows) * fraction), 1)) for rows in chunks]
    # In the order of what is lost within each chunk: a node still comes after its parts.
    spent = np.concatenate([np.cumsum(np.maximum(tree.costs, 0.0)) for tree in trees])
    order = np.argsort(spent, kind="stable")
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    n, start, pairs = len(runs), 0, []
    for rows, tree in zip(chunks, trees, strict=True):
        end = start + len(tree.pairs)
        nodes = np.append(rows, n + place[start:end])
        pairs.append(np.sort(nodes[tree.pairs], axis=1))
        start = end
    costs = np.concatenate([tree.costs for tree in trees])
    return Merges(np.concatenate(pairs)[order], costs[order], n, len(order))


def _join(first: Merges, rest: Merges, labels: Ints) -> Merges:
    """Tree over runs, from one over runs and one over the groups that it leaves."""
    n, n_first = first.n_leaves, len(first.pairs)
    # The last node that holds a run of each group.
    root = np.empty(rest.n_leaves, dtype=np.int64)
    parent = np.arange(n + n_first)
    parent[first.pairs.ravel()] = np.repeat(np.arange(n, n + n_first), 2)
    for node in range(len(parent) - 1, -1, -1):
        parent[node] = parent[parent[node]]
    root[labels] = parent[:n]
    nodes = np.append(root, n + n_first + np.arange(len(rest.pairs)))
    pairs = np.sort(nodes[rest.pairs], axis=1)
    return Merges(
        np.concatenate([first.pairs, pairs]),
        np.append(first.costs, rest.costs),
        n,
        n_first + rest.n_free,
    )
