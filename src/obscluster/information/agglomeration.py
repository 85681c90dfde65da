"""Agglomeration: merge the two groups that lose least, until one is left.

Agglomeration needs the cost of every pair. With more than a few thousand runs they are first
divided into chunks of alike runs, by cutting the cloud of their scores at its median across its
longest axis, again and again. Each chunk is agglomerated for itself to a small part of its runs,
with the exact costs. What that loses is known exactly, too; and the refinement that comes last
moves single runs again, so that little of it remains.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from obscluster.information.loss import Sums, kept, kept_with, sums_of

__all__ = ["Merges", "agglomerate", "agglomerate_many", "as_linkage", "cut", "in_order"]

Array = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Merges:
    """Merges in the order in which they were made.

    Parameters
    ----------
    pairs : `~numpy.ndarray`
        Nodes that were merged, shape (n_merges, 2): below ``n_leaves`` the leaves, and
        ``n_leaves + i`` what merge i made.
    costs : `~numpy.ndarray`
        Information lost by each, shape (n_merges,).
    n_leaves : int
        Number of leaves.
    n_free : int
        How many of the first merges mix no strata.
    """

    pairs: Ints
    costs: Array
    n_leaves: int
    n_free: int


def agglomerate(
    leaves: Sums, strata: Ints | None = None, n_stop: int = 1, budget: float = np.inf
) -> Merges:
    """Merge by least loss.

    The cost of every pair is kept and computed from the sums of the groups, which takes memory with
    the square of the number of leaves, and time as much for each bin.

    Parameters
    ----------
    leaves : `~obscluster.information.loss.Sums`
        Runs, or groups made before.
    strata : `~numpy.ndarray`, optional
        Leaves of different strata are merged only when nothing else is left, shape (n_leaves,).
    n_stop : int
        Stop at so many groups.
    budget : float
        Stop before the merges cost more than this together.

    Returns
    -------
    merges : `Merges`
        Of equal costs, that of the first leaves comes first.
    """
    n = len(leaves)
    state = _State(leaves, strata)
    pairs: list[tuple[int, int]] = []
    costs: list[float] = []
    spent, n_free = 0.0, -1
    while state.n > max(n_stop, 1):
        cost = state.least()
        if not np.isfinite(cost):
            # Only strata are left, each a single group.
            n_free = len(pairs)
            state.lift_strata()
            cost = state.least()
        if spent + max(cost, 0.0) > budget:
            break
        spent += max(cost, 0.0)
        pairs.append(state.merge(n + len(pairs)))
        costs.append(cost)
    return Merges(
        np.array(pairs, dtype=np.int64).reshape(-1, 2),
        np.array(costs),
        n,
        len(pairs) if n_free < 0 else n_free,
    )


class _State:
    """Groups at hand, compact: the first ``n`` rows of every array."""

    def __init__(self, leaves: Sums, strata: Ints | None):
        self.n = len(leaves)
        self.sums = leaves[np.arange(self.n)]
        self.strata = None if strata is None else strata.copy()
        self.nodes = np.arange(self.n)
        self.parts = kept(self.sums)
        self.cost = np.full((self.n, self.n), np.inf)
        self._all_costs()

    def _all_costs(self) -> None:
        for i in range(self.n - 1):
            row = self._costs_of(i, slice(i + 1, self.n))
            self.cost[i, i + 1 : self.n] = self.cost[i + 1 : self.n, i] = row
        self.nearest = self.cost[: self.n, : self.n].argmin(axis=1)
        self.distance = self.cost[np.arange(self.n), self.nearest]

    def _costs_of(self, i: int, rows: slice) -> Array:
        others = self.sums[rows]
        row = self.parts[i] + self.parts[rows] - kept_with(others, self.sums[slice(i, i + 1)])
        if self.strata is not None:
            row[self.strata[rows] != self.strata[i]] = np.inf
        return row

    def lift_strata(self) -> None:
        """Let everything merge."""
        self.strata = None
        self._all_costs()

    def least(self) -> float:
        """Cost of the cheapest merge."""
        return float(self.distance[: self.n].min())

    def merge(self, node: int) -> tuple[int, int]:
        """Merge the cheapest pair into a new node; return the two old ones."""
        i = int(self.distance[: self.n].argmin())
        a, b = sorted((i, int(self.nearest[i])))
        left, right = sorted((int(self.nodes[a]), int(self.nodes[b])))
        self.sums.add(a, self.sums, b)
        self.nodes[a] = node
        stale = (self.nearest == a) | (self.nearest == b)
        last = self.n - 1
        self._move(last, b, stale)
        self.n = n = last
        self.parts[a] = kept(self.sums[slice(a, a + 1)])[0]
        row = self._costs_of(a, slice(0, n))
        row[a] = np.inf
        self.cost[a, :n] = self.cost[:n, a] = row
        closer = row < self.distance[:n]
        self.nearest[:n][closer] = a
        self.distance[:n][closer] = row[closer]
        stale[a] = True
        rows = np.flatnonzero(stale[:n])
        self.nearest[rows] = self.cost[rows, :n].argmin(axis=1)
        self.distance[rows] = self.cost[rows, self.nearest[rows]]
        return left, right

    def _move(self, source: int, target: int, stale: NDArray[np.bool_]) -> None:
        """Put a row in another's place."""
        if source == target:
            return
        self.sums.set(target, self.sums, source)
        for values in (self.nodes, self.parts, self.nearest, self.distance, stale):
            values[target] = values[source]
        if self.strata is not None:
            self.strata[target] = self.strata[source]
        self.cost[target, : self.n] = self.cost[source, : self.n]
        self.cost[: self.n, target] = self.cost[: self.n, source]
        self.cost[target, target] = np.inf
        self.nearest[self.nearest == source] = target


def cut(merges: Merges, n_groups: int) -> Ints:
    """Labels from 0 of the groups before the last merges.

    Parameters
    ----------
    merges : `Merges`
        The tree.
    n_groups : int
        Number of groups.

    Returns
    -------
    labels : `~numpy.ndarray`
        Shape (n_leaves,); the first leaf is in group 0, and so on.
    """
    n = merges.n_leaves
    n_merges = n - n_groups
    parent = np.arange(n + n_merges)
    parent[merges.pairs[:n_merges].ravel()] = np.repeat(np.arange(n, n + n_merges), 2)
    # A node comes after its parts, so from the top down every node knows its root.
    for node in range(len(parent) - 1, -1, -1):
        parent[node] = parent[parent[node]]
    return in_order(parent[:n])


def in_order(labels: Ints) -> Ints:
    """The same groups, numbered from 0 by their first member."""
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype=np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return np.asarray(rank[inverse], dtype=np.int64)


def as_linkage(merges: Merges, base: float = 0.0, rows: Ints | None = None) -> Array:
    """Tree in SciPy's format, the loss after each merge as height.

    Parameters
    ----------
    merges : `Merges`
        All of them, down to one group.
    base : float
        Loss of the leaves kept apart.
    rows : `~numpy.ndarray`, optional
        Row of each leaf in a table; the leaves of the result count in the order of the rows.

    Returns
    -------
    linkage : `~numpy.ndarray`
        Shape (n_leaves - 1, 4). Heights never fall: where a merge gains, as it may if backgrounds
        are fitted, they stay.
    """
    n = merges.n_leaves
    sizes = np.ones(n + len(merges.pairs))
    for i, (left, right) in enumerate(merges.pairs):
        sizes[n + i] = sizes[left] + sizes[right]
    names = np.arange(n + len(merges.pairs))
    if rows is not None:
        names[np.argsort(rows)] = np.arange(n)
    pairs = np.sort(names[merges.pairs], axis=1)
    heights = np.maximum.accumulate(np.maximum(base + np.cumsum(merges.costs), 0.0))
    return np.column_stack([pairs, heights, sizes[n:]])


MAX_DIRECT = 2000
"""So many runs are agglomerated at once."""

_CHUNK = 1000


def agglomerate_many(
    runs: Sums, strata: Ints | None = None, max_direct: int = MAX_DIRECT
) -> tuple[Merges, float]:
    """Agglomerate any number of runs.

    Parameters
    ----------
    runs : `~obscluster.information.loss.Sums`
        Runs.
    strata : `~numpy.ndarray`, optional
        See `~obscluster.information.agglomeration.agglomerate`.
    max_direct : int
        With more runs, they are first merged to about so many groups.

    Returns
    -------
    merges : `~obscluster.information.agglomeration.Merges`
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
    # Merges within the chunks, cheapest first.
    trees = [
        agglomerate(runs[rows], n_stop=max(int(len(rows) * (max_direct / len(runs))), 1))
        for rows in chunks
    ]
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
    first = Merges(np.concatenate(pairs)[order], costs[order], n, len(order))
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
