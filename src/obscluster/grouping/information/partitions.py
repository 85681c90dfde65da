"""Good partitions into a number of groups: from the tree, and from their neighbours.

A cut of the tree, refined, is nearly always the best partition there is. Where it is not, the
refined partition into one group less, with a group split, or into one more, with two merged, often
is. So partitions are made for a range of numbers, downwards and then upwards, and the best is kept.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from obscluster.grouping.information.kept import Sums, kept, kept_with, sums_of
from obscluster.grouping.information.refine import (
    Limits,
    loss_of,
    refine,
    splits,
    unions,
)
from obscluster.grouping.information.tree import Merges, cut

__all__ = ["best_partitions", "heavy_enough"]

Ints = NDArray[np.int64]

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
    runs : `~obscluster.grouping.information.kept.Sums`
        Runs.
    merges : `~obscluster.grouping.information.tree.Merges`
        Tree over the runs.
    limits : `~obscluster.grouping.information.refine.Limits`
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
