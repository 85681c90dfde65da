"""The silhouette, for many groupings of many runs at once.

scikit-learn computes all distances anew for each grouping, and its sample compares runs with the
sample only, in which small groups are missing. Here distances are computed once, and each run of a
sample is compared with all runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.spatial.distance import cdist

from obscluster.grouping.base import UNASSIGNED

__all__ = ["mean_silhouettes"]

# Distances held in memory at a time: 32 MB.
_CHUNK = 4_000_000


def mean_silhouettes(
    X: NDArray[np.float64],
    labelings: Sequence[NDArray[np.int64]],
    n_sample: int = 5000,
    random_state: int = 0,
) -> tuple[list[float], str]:
    """Mean silhouette of several groupings of the same runs.

    The silhouette of a run is (b - a) / max(a, b), where a is its mean distance to the other runs
    of its group and b that to the runs of the next group, for which it is smallest (Rousseeuw 1987,
    J. Comput. Appl. Math. 20, 53). It is zero for a run alone in its group, and where a = b = 0.

    Parameters
    ----------
    X : `~numpy.ndarray`
        Scaled features, shape (n_obs, n_features), without NaN.
    labelings : sequence of `~numpy.ndarray`
        Labels, shape (n_obs,) each; runs with -1 do not count.
    n_sample : int
        With more runs than that, the mean is over a random sample of so many.
    random_state : int
        Seed of the sample.

    Returns
    -------
    means : list of float
        NaN for one group, and for as many groups as runs.
    remark : str
        Over which runs the mean is taken.
    """
    rows, remark = np.arange(len(X)), f"mean over all {len(X)} runs"
    if len(X) > n_sample:
        rows = np.random.default_rng(random_state).choice(len(X), n_sample, replace=False)
        remark = (
            f"mean over {n_sample} of {len(X)} runs, drawn with random_state {random_state}, each "
            "compared with all runs"
        )
    groups = [_Groups(labels) for labels in labelings]
    step = max(1, _CHUNK // max(len(X), 1))
    for start in range(0, len(rows), step):
        chunk = rows[start : start + step]
        distances = cdist(X, X[chunk])
        for each in groups:
            each.add(distances, chunk)
    return [each.mean() for each in groups], remark


class _Groups:
    """Members of the groups of one labeling, and the silhouettes found so far."""

    def __init__(self, labels: NDArray[np.int64]) -> None:
        assigned = np.flatnonzero(labels != UNASSIGNED)
        found, rows = np.unique(labels[assigned], return_inverse=True)
        self.own = np.full(len(labels), -1)
        self.own[assigned] = rows
        self.sizes = np.bincount(rows, minlength=len(found))
        shape = len(found), len(labels)
        # A sparse matrix takes the sums over groups in one pass, however many groups there are.
        self.members: Any = sparse.csr_array((np.ones(len(assigned)), (rows, assigned)), shape)
        self.defined = 1 < len(found) < len(assigned)
        self.parts: list[NDArray[np.float64]] = []

    def add(self, distances: NDArray[np.float64], chunk: NDArray[np.int64]) -> None:
        """Silhouettes of some runs from their distances to all, shape (n_obs, n_chunk)."""
        if not self.defined:
            return
        inside = self.own[chunk] >= 0
        own = self.own[chunk][inside]
        sums = (self.members @ distances)[:, inside]
        place = own, np.arange(len(own))
        within = sums[place] / np.maximum(self.sizes[own] - 1, 1)
        others = sums / self.sizes[:, np.newaxis]
        others[place] = np.inf
        between = others.min(axis=0)
        larger = np.maximum(within, between)
        counts = (self.sizes[own] > 1) & (larger > 0)
        values = np.zeros(len(own))
        np.divide(between - within, larger, out=values, where=counts)
        self.parts.append(values)

    def mean(self) -> float:
        values = np.concatenate([np.empty(0), *self.parts])
        return float(values.mean()) if len(values) else np.nan
