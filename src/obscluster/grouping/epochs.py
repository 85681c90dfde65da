"""Groups that are contiguous in time: epochs of an instrument.

* `segment`, for a given number of epochs: the boundaries with the least sum of squares within.
* `chain_linkage`, for a tree over the runs, to be cut anywhere: only neighbours in time merge.
* `contiguous_stretches`, for a grouping that ignored time: its stretches become groups.

Runs are put in order of time; at equal times in order of their features, and if these are equal
too, in the order given. So the order of the rows matters only where rows are identical. Runs of
equal time can end up in different epochs: to keep a night together, give one row per night.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from math import isqrt, sqrt
from typing import Any

import numpy as np
from astropy.table import QTable, Table
from numpy.typing import ArrayLike, NDArray
from scipy.cluster.hierarchy import fcluster
from scipy.spatial.distance import cdist

from obscluster.exceptions import RequestError, unknown_name
from obscluster.features.scaling import feature_matrix
from obscluster.grouping.base import Grouping
from obscluster.grouping.method import missing_features, nothing_differs, times_of
from obscluster.grouping.rules import UNASSIGNED

__all__ = ["chain_linkage", "contiguous_stretches", "group_in_time", "segment"]

# (Number of runs)^2 x (number of epochs) that are searched in full.
_EXACT_WORK = 4_000_000_000
# Distances that are held at the same time.
_CHUNK = 1_000_000


def segment(X: ArrayLike, times: ArrayLike, n_groups: int) -> NDArray[np.int64]:
    """Split runs into epochs such that the sum of squares within epochs is the least.

    Dynamic programming over all boundaries [1]_, which takes a time that grows as
    ``n**2 * n_groups``. It is exact up to 20,000 runs in 10 epochs, in general while that product
    is below 4e9. Above, boundaries are chosen among those that Ward's method along time keeps
    longest (see `chain_linkage`), as many as the product allows; the result is then close to the
    best, and never worse than Ward's.

    Parameters
    ----------
    X : array_like
        Features that count alike, such as standardised ones, shape (n, p).
    times : array_like
        Numbers, shape (n,), in any unit.
    n_groups : int
        Number of epochs.

    Returns
    -------
    labels : `~numpy.ndarray`
        Shape (n,), from 1 in order of time; -1 where a feature or the time is missing.

    Raises
    ------
    RequestError
        If the shapes do not match, or there are fewer complete runs than epochs.

    References
    ----------
    .. [1] Bellman, R. (1961), Communications of the ACM 4, 284
    """
    matrix, at = _checked(X, times)
    rows = np.flatnonzero(np.isfinite(matrix).all(axis=1) & np.isfinite(at))
    n_epochs = _whole_number(n_groups, len(rows))
    rows = rows[_time_order(matrix[rows], at[rows])]
    matrix = matrix[rows] - matrix[rows].mean(axis=0)
    places = np.arange(len(rows) + 1)
    n_places = max(isqrt(_EXACT_WORK // n_epochs), n_epochs)
    if len(rows) > n_places:
        kept = [middle for _, middle, _ in _merge_chain(matrix, "ward")[len(rows) - n_places :]]
        places = np.array([0, *sorted(kept), len(rows)])
    labels = np.full(len(at), UNASSIGNED, dtype=np.int64)
    sizes = np.diff(_best_boundaries(matrix, places, n_epochs))
    labels[rows] = np.repeat(np.arange(1, n_epochs + 1), sizes)
    return labels


def _whole_number(n_groups: Any, n_runs: int) -> int:
    if not isinstance(n_groups, int | np.integer) or not 1 <= n_groups <= n_runs:
        raise RequestError(
            f"{n_groups!r} epochs asked of {n_runs} runs that have a time and all features; ask "
            "for a whole number, at least 1 and at most one per run"
        )
    return int(n_groups)


def _best_boundaries(
    X: NDArray[np.float64], places: NDArray[np.int64], n_groups: int
) -> NDArray[np.int64]:
    """Boundaries among the places, from 0 to n, with the least sum of squares between them."""
    zero = np.zeros((1, X.shape[1]))
    sums = np.concatenate([zero, np.cumsum(X, axis=0)])[places]
    squares = np.concatenate([[0.0], np.cumsum((X**2).sum(axis=1))])[places]
    # least[k, j]: of the runs before place j, in k + 1 epochs; the last one begins at origin[k, j].
    least = np.full((n_groups, len(places)), np.inf)
    origin = np.zeros((n_groups, len(places)), dtype=np.int64)
    later = np.arange(n_groups - 1)
    for j in range(1, len(places)):
        difference = sums[j] - sums[:j]
        of_means = np.einsum("ij,ij->i", difference, difference) / (places[j] - places[:j])
        last = np.maximum(squares[j] - squares[:j] - of_means, 0)
        least[0, j] = last[0]
        total = least[:-1, :j] + last
        origin[1:, j] = begin = total.argmin(axis=1)
        least[1:, j] = total[later, begin]
    chosen = [len(places) - 1]
    for k in reversed(range(n_groups)):
        chosen.append(int(origin[k, chosen[-1]]))
    return places[chosen[::-1]]


def chain_linkage(X: ArrayLike, times: ArrayLike, method: str = "ward") -> NDArray[np.float64]:
    """Tree in which only neighbours in time merge.

    At each step the two closest epochs among those next to each other merge, with the heights of
    `scipy.cluster.hierarchy.linkage` for Euclidean distances. All pairs of runs of the two epochs
    count. (scikit-learn's trees with a connectivity are no substitute: their complete and average
    linkage forget the distances to runs that are not next to each other.)

    A merge can be lower than an earlier one, as two epochs may become alike only once the runs
    between them have joined one of them. Heights are therefore the running maximum. Equal ones are
    raised by 1e-15 of the tree's height, so that they rise strictly and the ``maxclust`` criterion
    of SciPy's ``fcluster`` gives as many epochs as asked.

    Ward's method takes 2 s for 100,000 runs. The others look at every pair of runs once, which
    takes 12 s, and little memory.

    Parameters
    ----------
    X : array_like
        Features that count alike, shape (n, p), without missing values.
    times : array_like
        Numbers, shape (n,), in any unit.
    method : {"ward", "complete", "average", "single"}
        What the height of a merge is.

    Returns
    -------
    Z : `~numpy.ndarray`
        Shape (n - 1, 4), see `scipy.cluster.hierarchy.linkage`. Leaves are the rows in the order
        given. The earlier epoch comes first, so that a dendrogram draws the leaves in order of
        time.

    Raises
    ------
    RequestError
        If the method is unknown, the shapes do not match, or a value is missing.
    """
    matrix, at = _checked(X, times)
    if method not in METHODS:
        raise RequestError(unknown_name("linkage method", str(method), METHODS))
    n_missing = int((~np.isfinite(matrix).all(axis=1) | ~np.isfinite(at)).sum())
    if n_missing or not len(at):
        raise RequestError(
            f"{n_missing} of {len(at)} runs have no time or lack a feature; give complete runs only"
        )
    order = _time_order(matrix, at)
    matrix = matrix[order]
    merges = _merge_chain(matrix - matrix.mean(axis=0), method)
    node, size = order.copy(), np.ones(len(at), dtype=np.int64)
    Z = np.empty((len(merges), 4))
    step = 4 * np.spacing(max((height for *_, height in merges), default=0.0) or 1.0)
    lowest = 0.0
    for i, (start, middle, height) in enumerate(merges):
        size[start] += size[middle]
        Z[i] = node[start], node[middle], max(height, lowest), size[start]
        lowest = Z[i, 2] + step
        node[start] = len(at) + i
    return Z


def contiguous_stretches(labels: ArrayLike, times: ArrayLike) -> NDArray[np.int64]:
    """Make every uninterrupted stretch of a group a group of its own.

    Parameters
    ----------
    labels : array_like of int
        Shape (n,); -1 belongs nowhere, stays so and interrupts nothing.
    times : array_like
        Numbers, shape (n,); at equal times the lower label comes first.

    Returns
    -------
    labels : `~numpy.ndarray`
        Shape (n,), from 1 in order of time.

    Raises
    ------
    RequestError
        If the shapes differ, or a run of a group has no time.
    """
    given, at = np.asarray(labels), np.asarray(times, dtype=float)
    if given.ndim != 1 or given.shape != at.shape:
        raise RequestError(f"labels of shape {given.shape}, but times of shape {at.shape}")
    rows = np.flatnonzero(given != UNASSIGNED)
    n_missing = int((~np.isfinite(at[rows])).sum())
    if n_missing:
        raise RequestError(f"{n_missing} runs of a group have no time; give them the label -1")
    rows = rows[np.lexsort((given[rows], at[rows]))]
    stretches = np.full(len(given), UNASSIGNED, dtype=np.int64)
    begins = np.concatenate([[True], given[rows][1:] != given[rows][:-1]])[: len(rows)]
    stretches[rows] = np.cumsum(begins)
    return stretches


def _checked(X: ArrayLike, times: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    matrix, at = np.asarray(X, dtype=float), np.asarray(times, dtype=float)
    if matrix.ndim != 2 or matrix.shape[1] == 0 or at.shape != matrix.shape[:1]:
        raise RequestError(
            f"features of shape {matrix.shape}, times of shape {at.shape}; expected (n, p) and (n,)"
        )
    return matrix, at


def _time_order(X: NDArray[np.float64], times: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.lexsort((*X.T[::-1], times))


class _Ward:
    """Growth of the sum of squares, as SciPy's Ward: sqrt(2 a b / (a + b)) |mean - mean|."""

    def __init__(self, X: NDArray[np.float64]) -> None:
        self.sums = X.copy()

    def height(self, start: int, middle: int, stop: int) -> float:
        a, b = middle - start, stop - middle
        difference = self.sums[start] / a - self.sums[middle] / b
        return sqrt(2 * a * b / (a + b) * float(difference @ difference))

    def merge(self, before: int, start: int, middle: int, stop: int, after: int) -> None:  # noqa: ARG002
        self.sums[start] += self.sums[middle]


class _Pairs:
    """Largest, smallest or mean distance; every pair of rows is looked at once at most."""

    def __init__(self, X: NDArray[np.float64], join: np.ufunc, mean: bool = False) -> None:
        self.X, self.join, self.mean = X, join, mean
        # Of the epochs on both sides of a boundary: maximum, minimum or sum.
        neighbours = np.sqrt(((X[1:] - X[:-1]) ** 2).sum(axis=1))
        self.joined = [0.0, *neighbours.tolist(), 0.0]

    def height(self, start: int, middle: int, stop: int) -> float:
        n_pairs = (middle - start) * (stop - middle) if self.mean else 1
        return self.joined[middle] / n_pairs

    def merge(self, before: int, start: int, middle: int, stop: int, after: int) -> None:
        if before < start:
            self._add(start, before, start, middle, stop)
        if stop < after:
            self._add(stop, start, middle, stop, after)

    def _add(self, boundary: int, start: int, end: int, first: int, last: int) -> None:
        """Let distances between rows [start, end) and [first, last) count at a boundary."""
        found = self.joined[boundary]
        rows = max(1, _CHUNK // (last - first))
        for edge in range(start, end, rows):
            distances = cdist(self.X[edge : min(edge + rows, end)], self.X[first:last])
            found = float(self.join(found, self.join.reduce(distances, axis=None)))
        self.joined[boundary] = found


METHODS: dict[str, Callable[[NDArray[np.float64]], _Ward | _Pairs]] = {
    "ward": _Ward,
    "complete": lambda X: _Pairs(X, np.maximum),
    "average": lambda X: _Pairs(X, np.add, mean=True),
    "single": lambda X: _Pairs(X, np.minimum),
}
"""Linkage methods of `chain_linkage`."""


def _merge_chain(X: NDArray[np.float64], method: str) -> list[tuple[int, int, float]]:
    """Merges of neighbours, the closest first: start, boundary that falls, height."""
    n = len(X)
    links = METHODS[method](X)
    before, after = list(range(-1, n)), list(range(1, n + 2))
    # A boundary whose sides have changed since has a newer entry.
    version = [0] * (n + 1)
    heap = [(links.height(m - 1, m, m + 1), m, 0) for m in range(1, n)]
    heapq.heapify(heap)
    merges = []
    while heap:
        height, middle, seen = heapq.heappop(heap)
        if seen != version[middle]:
            continue
        start, stop = before[middle], after[middle]
        merges.append((start, middle, height))
        links.merge(max(before[start], 0), start, middle, stop, min(after[stop], n))
        after[start], before[stop] = stop, start
        for boundary in (start, stop):
            if 0 < boundary < n:
                version[boundary] += 1
                entry = links.height(before[boundary], boundary, after[boundary])
                heapq.heappush(heap, (entry, boundary, version[boundary]))
    return merges


def group_in_time(scaled: QTable, part: Table, n_groups: int | None, method: str) -> Grouping:
    """Epochs by scaled features: a tree in which only neighbours in time merge, or the best epochs.

    Parameters
    ----------
    scaled : `~astropy.table.QTable`
        Scaled features.
    part : `~astropy.table.Table`
        The same runs with their times.
    n_groups : int or None
        Number of epochs, 1 for None.
    method : str
        Linkage of the tree, or "segments" for the epochs with the least sum of squares.
    """
    X, names = feature_matrix(scaled)
    complete = np.flatnonzero(np.isfinite(X).all(axis=1))
    if not 1 <= (n_groups or 1) <= len(complete):
        raise RequestError(f"{n_groups} groups asked of {len(complete)} runs; ask for fewer")
    times = times_of(part)[complete]
    obs_ids = np.asarray(scaled["obs_id"])
    labels = np.full(len(X), UNASSIGNED, dtype=np.int64)
    tree = None
    remarks = nothing_differs(X[complete], names)
    n_groups = 1 if remarks else n_groups
    # Runs that begin together are told apart by their number.
    order = np.lexsort([obs_ids[complete], times])
    ranks = np.empty(len(order))
    ranks[order] = np.arange(len(order))
    if method == "segments":
        labels[complete] = segment(X[complete], ranks, n_groups or 1)
    else:
        tree = chain_linkage(X[complete], ranks, method)
        labels[complete] = fcluster(tree, n_groups or 1, "maxclust") if len(tree) else 1
    parameters = {
        "method": "kmeans" if method == "segments" else "hierarchical",
        "linkage": {"method": method},
        "features": names,
    }
    first = sorted(range(1, labels.max() + 1), key=lambda k: ranks[labels[complete] == k].min())
    reasons = missing_features(scaled)
    grouping = Grouping(obs_ids, labels, tree, parameters, reasons=reasons, remarks=remarks)
    return grouping.relabelled({old: new for new, old in enumerate(first, start=1)})
