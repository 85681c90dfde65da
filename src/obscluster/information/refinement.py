"""Refinement: move single runs between groups while the loss falls; good partitions into a number.

A cut of the tree, refined, is nearly always the best partition there is. Where it is not, the
refined partition into one group less, with a group split, or into one more, with two merged, often
is. So partitions are made for a range of numbers, downwards and then upwards, and the best is kept.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from obscluster.information.agglomeration import Merges, cut
from obscluster.information.loss import Sums, kept, kept_with, sums_of, sums_without

__all__ = ["Limits", "best_partitions", "heavy_enough", "loss_of", "refine", "splits", "unions"]

Array = NDArray[np.float64]
Ints = NDArray[np.int64]

# Gains below this are rounding.
_GAIN = 1e-12
_MAX_SWEEPS = 100


@dataclass(frozen=True)
class Limits:
    """What a group must keep to.

    Parameters
    ----------
    strata : `~numpy.ndarray`
        Runs of different strata are never in one group, shape (n_obs,).
    weights : `~numpy.ndarray`
        Weight of each run, shape (n_obs,).
    min_weight : float
        Least weight of a group.
    """

    strata: Ints
    weights: Array
    min_weight: float = 0.0

    @classmethod
    def none(cls, n_obs: int) -> Limits:
        """Nothing to keep to."""
        return cls(np.zeros(n_obs, dtype=np.int64), np.ones(n_obs))


def loss_of(runs: Sums, labels: Ints) -> float:
    """Loss of groups whose labels count from 0."""
    return 1 - float(kept(sums_of(runs, labels, int(labels.max()) + 1)).sum())


def refine(runs: Sums, labels: Ints, limits: Limits, swaps: bool = True) -> Ints:
    """Move runs, one at a time, and exchange pairs of them, while that lowers the loss.

    Parameters
    ----------
    runs : `~obscluster.information.loss.Sums`
        Runs.
    labels : `~numpy.ndarray`
        Groups, counted from 0, shape (n_obs,). Their number stays.
    limits : `Limits`
        What groups must keep to; the labels given do.
    swaps : bool
        Exchange pairs, too, which takes time with the square of the number of runs.

    Returns
    -------
    labels : `~numpy.ndarray`
        The loss is never larger than that of the labels given.
    """
    state = _Partition(runs, labels, limits)
    for _ in range(_MAX_SWEEPS):
        moved = state.sweep_moves()
        if not moved and swaps:
            moved = state.sweep_swaps()
        state.renew()
        if not moved:
            break
    return state.labels


class _Partition:
    """Labels with the sums of their groups."""

    def __init__(self, runs: Sums, labels: Ints, limits: Limits):
        self.runs, self.limits = runs, limits
        self.labels = labels.copy()
        self.n_groups = int(labels.max()) + 1
        self.strata = np.zeros(self.n_groups, dtype=np.int64)
        self.strata[labels] = limits.strata
        self.renew()

    def renew(self) -> None:
        """Sums from the members: differences would gather rounding errors."""
        self.groups = sums_of(self.runs, self.labels, self.n_groups)
        self.parts = kept(self.groups)
        self.sizes = np.bincount(self.labels, minlength=self.n_groups)
        self.weights = np.bincount(
            self.labels, weights=self.limits.weights, minlength=self.n_groups
        )

    def sweep_moves(self) -> bool:
        """Move each run to where it costs least; whether any was moved."""
        moved = False
        for i in range(len(self.labels)):
            here = self.labels[i]
            if self.sizes[here] == 1 or not self._may_leave(i, here):
                continue
            run = self.runs[slice(i, i + 1)]
            rest = sums_without(self.groups[slice(here, here + 1)], run)
            rest_part = kept(rest)[0]
            gains = kept_with(self.groups, run) - self.parts - (self.parts[here] - rest_part)
            gains[here] = -np.inf
            gains[self.strata != self.limits.strata[i]] = -np.inf
            there = int(gains.argmax())
            if gains[there] > _GAIN:
                self._move(i, there, rest, rest_part)
                moved = True
        return moved

    def _may_leave(self, i: int, group: int) -> bool:
        return bool(self.weights[group] - self.limits.weights[i] >= self.limits.min_weight)

    def _move(self, i: int, there: int, rest: Sums, rest_part: float) -> None:
        here = self.labels[i]
        self.groups.set(here, rest, 0)
        self.groups.add(there, self.runs, i)
        self.parts[here] = rest_part
        self.parts[there] = kept(self.groups[slice(there, there + 1)])[0]
        self.sizes[[here, there]] += (-1, 1)
        weight = self.limits.weights[i]
        self.weights[[here, there]] += (-weight, weight)
        self.labels[i] = there

    def sweep_swaps(self) -> bool:
        """Exchange each run with the one that gains most; whether any was exchanged."""
        swapped = False
        for i in range(len(self.labels)):
            here = self.labels[i]
            run = self.runs[slice(i, i + 1)]
            # Each pair once.
            others = np.arange(i + 1, len(self.labels))
            others = others[
                (self.labels[others] != here)
                & (self.limits.strata[others] == self.limits.strata[i])
                & ((self.sizes[here] > 1) | (self.sizes[self.labels[others]] > 1))
            ]
            others = others[self._weights_allow(i, others)]
            if len(others) == 0:
                continue
            there = self.labels[others]
            rest = sums_without(self.groups[slice(here, here + 1)], run)
            partners = self.runs[others]
            theirs = sums_without(self.groups[there], partners)
            gains = kept_with(partners, rest) + kept_with(theirs, run)
            gains -= self.parts[here] + self.parts[there]
            best = int(gains.argmax())
            if gains[best] > _GAIN:
                self.labels[[i, others[best]]] = self.labels[[others[best], i]]
                self.renew()
                swapped = True
        return swapped

    def _weights_allow(self, i: int, others: Ints) -> NDArray[np.bool_]:
        change = self.limits.weights[others] - self.limits.weights[i]
        here, there = self.weights[self.labels[i]], self.weights[self.labels[others]]
        least = self.limits.min_weight
        return np.asarray((here + change >= least) & (there - change >= least))


def unions(runs: Sums, labels: Ints, limits: Limits, n_unions: int) -> list[Ints]:
    """Partitions with one group less: the pairs whose merge costs least, the cheapest first."""
    state = _Partition(runs, labels, limits)
    n = state.n_groups
    costs = np.full((n, n), np.inf)
    for a in range(n - 1):
        rows = slice(a + 1, n)
        merged = kept_with(state.groups[rows], state.groups[slice(a, a + 1)])
        allowed = state.strata[rows] == state.strata[a]
        costs[a, rows] = np.where(allowed, state.parts[a] + state.parts[rows] - merged, np.inf)
    result = []
    for place in np.argsort(costs, axis=None, kind="stable")[:n_unions]:
        a, b = divmod(int(place), n)
        if np.isfinite(costs[a, b]):
            united = np.where(labels == b, a, labels)
            result.append(np.where(united > b, united - 1, united))
    return result


def splits(
    runs: Sums, labels: Ints, limits: Limits, swaps: bool = True, every: bool = True
) -> list[Ints]:
    """Partitions with one group more: each group split, or the one that gains most.

    A group is split by taking out the run that fits least, and moving runs from then on.

    Parameters
    ----------
    runs, labels, limits, swaps
        See `refine`.
    every : bool
        Return a partition for each group that can be split, else the best one.
    """
    n_groups = int(labels.max()) + 1
    result, gains = [], []
    for group in range(n_groups):
        members = np.flatnonzero(labels == group)
        if len(members) == 1:
            continue
        inside = runs[members]
        halves = _split(inside, _part_of(limits, members), swaps)
        if halves is None:
            continue
        whole = np.zeros(len(members), dtype=np.int64)
        gains.append(loss_of(inside, whole) - loss_of(inside, halves))
        divided = labels.copy()
        divided[members[halves == 1]] = n_groups
        result.append(divided)
    return result if every or not result else [result[int(np.argmax(gains))]]


def _part_of(limits: Limits, members: Ints) -> Limits:
    return Limits(limits.strata[members], limits.weights[members], limits.min_weight)


def _split(runs: Sums, limits: Limits, swaps: bool) -> Ints | None:
    """Labels 0 and 1; None if both parts cannot be heavy enough."""
    total = sums_of(runs, np.zeros(len(runs), dtype=np.int64), 1)
    gains = kept(sums_without(total, runs)) + kept(runs)
    rest = limits.weights.sum() - limits.weights
    gains[(limits.weights < limits.min_weight) | (rest < limits.min_weight)] = -np.inf
    seed = int(gains.argmax())
    if not np.isfinite(gains[seed]):
        return None
    labels = np.zeros(len(runs), dtype=np.int64)
    labels[seed] = 1
    return refine(runs, labels, limits, swaps)


# With more runs, exchanges of pairs take too long and gain nothing.
_MAX_SWAPS = 200
# Up to so many runs every split and several unions are tried, down and up until nothing changes.
_MAX_THOROUGH = 30
_N_UNIONS = 6
_MAX_ROUNDS = 5


def best_partitions(
    runs: Sums, merges: Merges, limits: Limits, fewest: int, most: int
) -> dict[int, Ints]:
    """Partitions into a range of numbers of groups.

    Parameters
    ----------
    runs : `~obscluster.information.loss.Sums`
        Runs.
    merges : `~obscluster.information.agglomeration.Merges`
        Tree over the runs.
    limits : `~obscluster.information.refinement.Limits`
        What groups must keep to.
    fewest, most : int
        Numbers of groups.

    Returns
    -------
    partitions : dict
        Number of groups to labels from 0, shape (n_obs,). A number that the limits forbid is left
        out. The loss never rises with the number of groups, unless backgrounds are fitted.
    """
    swaps = len(runs) <= _MAX_SWAPS
    thorough = len(runs) <= _MAX_THOROUGH
    n_unions = _N_UNIONS if thorough else 1
    losses: dict[int, float] = {}
    found: dict[int, Ints] = {}

    def offer(labels: Ints) -> None:
        labels = refine(runs, labels, limits, swaps)
        n_groups, loss = int(labels.max()) + 1, loss_of(runs, labels)
        # The first one wins unless another is better by more than rounding.
        if n_groups not in found or loss < losses[n_groups] - 1e-13:
            found[n_groups], losses[n_groups] = labels, loss

    for n_groups in range(fewest, most + 1):
        offer(heavy_enough(runs, cut(merges, n_groups), limits))
    for _ in range(_MAX_ROUNDS if thorough else 1):
        before = dict(losses)
        for n_groups in range(most - 1, fewest - 1, -1):
            if n_groups + 1 in found:
                for labels in unions(runs, found[n_groups + 1], limits, n_unions):
                    offer(labels)
        # Upwards last: a group more then never loses more.
        for n_groups in range(fewest + 1, most + 1):
            if n_groups - 1 in found:
                for labels in splits(runs, found[n_groups - 1], limits, swaps, thorough):
                    offer(labels)
        if losses == before:
            break
    return {n: labels for n, labels in sorted(found.items()) if fewest <= n <= most}


def heavy_enough(runs: Sums, labels: Ints, limits: Limits) -> Ints:
    """Merge groups that are too light, the lightest first, with those that cost least."""
    while True:
        n_groups = int(labels.max()) + 1
        weights = np.bincount(labels, weights=limits.weights, minlength=n_groups)
        if n_groups == 1 or weights.min() >= limits.min_weight:
            return labels
        groups = sums_of(runs, labels, n_groups)
        parts = kept(groups)
        strata = np.zeros(n_groups, dtype=np.int64)
        strata[labels] = limits.strata
        light = int(weights.argmin())
        costs = parts + parts[light] - kept_with(groups, groups[slice(light, light + 1)])
        costs[strata != strata[light]] = np.inf
        costs[light] = np.inf
        a, b = sorted((light, int(costs.argmin())))
        labels = np.where(labels == b, a, labels)
        labels = np.where(labels > b, labels - 1, labels)
