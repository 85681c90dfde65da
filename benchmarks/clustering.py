"""Ward's clustering of many runs, against the way that Gammapy does it.

    python benchmarks/clustering.py

Gammapy's `hierarchical_clustering` gives SciPy all pairwise distances; obscluster builds the same
tree without them. Both sides run in the same process, several times in turn, and the medians count.
The memory for 100,000 runs is that of a process of its own.
"""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
from astropy.table import Table
from scipy.cluster import hierarchy
from scipy.spatial.distance import pdist

from obscluster.grouping.hierarchical import group_hierarchical, linkage_tree

N_RUNS, N_FEATURES, REPEATS = 10_000, 4, 3
MANY = 100_000


def features(n_runs: int) -> np.ndarray:
    """Scaled features of three kinds of run."""
    rng = np.random.default_rng(0)
    centers = rng.normal(0, 2, (3, N_FEATURES))
    return centers[rng.integers(0, 3, n_runs)] + rng.normal(size=(n_runs, N_FEATURES))


def seconds(function: Callable[[], object]) -> float:
    """Time of one call."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def compare() -> None:
    """Time of both sides, and whether their trees are the same."""
    X = features(N_RUNS)
    theirs, ours = [], []
    for _ in range(REPEATS):
        theirs.append(seconds(lambda: hierarchy.linkage(pdist(X), "ward")))
        ours.append(seconds(lambda: linkage_tree(X, "ward")))
    first, second = hierarchy.linkage(pdist(X), "ward"), linkage_tree(X, "ward")
    apart = float(np.abs(first[:, 2] - second[:, 2]).max())
    same = all(
        np.array_equal(
            hierarchy.fcluster(first, n, "maxclust"), hierarchy.fcluster(second, n, "maxclust")
        )
        for n in (*range(2, 51), 100, 1000)
    )
    ratio = statistics.median(theirs) / statistics.median(ours)
    print(f"Ward, {N_RUNS:,} runs, {N_FEATURES} features, medians of {REPEATS}")
    print(f"  pdist and SciPy   {statistics.median(theirs):.2f} s")
    print(f"  obscluster        {statistics.median(ours):.2f} s, {ratio:.1f} times faster")
    print(f"  same labels for 2 to 50, 100 and 1000 groups: {same}; heights differ by {apart:.1g}")


def many() -> None:
    """Group 100,000 runs, from the table to the labels; to be run in a process of its own."""
    table = Table(features(MANY), names=[f"x{i}" for i in range(N_FEATURES)])
    table["obs_id"] = np.arange(MANY)
    took = seconds(lambda: group_hierarchical(table, fcluster_kwargs={"t": 10}))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    print(f"Ward, {MANY:,} runs: {took:.0f} s, {peak:.2f} GB at most, of the whole process")


if __name__ == "__main__":
    if sys.argv[1:] == ["many"]:
        many()
    else:
        compare()
        sys.stdout.flush()
        subprocess.run([sys.executable, __file__, "many"], check=True)
