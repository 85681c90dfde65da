"""Time, memory and quality of the groups that lose least information.

    python benchmarks/information.py

There is no peer to compare with. The floor is Ward's method on the same whitened scores: the same
kind of tree, without exact costs, refinement or budget. Large sets run in processes of their own,
for their memory.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time

import fastcluster
import numpy as np

from obscluster.information.cluster import cluster_by_information
from obscluster.information.loss import information_loss
from obscluster.information.scores import Scores

REQUESTS = {
    1000: ({"max_loss": 0.01}, {"n_groups": 5}, {"n_groups": 20}, {"max_loss": 0.002}),
    20_000: ({"max_loss": 0.01}, {"n_groups": 5}),
}


def make_scores(n_obs: int, n_energies: int = 25, n_rings: int = 8, seed: int = 0) -> Scores:
    """Runs of any zenith angle, mirrors, offset and epoch; 200 bins, 2 parameters."""
    rng = np.random.default_rng(seed)
    airmass, mirrors = rng.uniform(1, 2, n_obs), rng.uniform(0.7, 1.0, n_obs)
    offset, epoch = rng.uniform(0.3, 1.5, n_obs), rng.choice([0.8, 1.0, 1.3], n_obs)
    livetime = rng.uniform(600, 1700, n_obs)
    edges = np.geomspace(0.1, 100, n_energies + 1)
    energy = np.sqrt(edges[1:] * edges[:-1])
    rings = np.linspace(0, 0.4, n_rings + 1)
    shape = (n_obs, n_energies * n_rings)
    mu, b, d = np.empty(shape), np.empty(shape), np.empty((*shape, 2))
    for i in range(n_obs):
        threshold = 0.15 * airmass[i] ** 2.5 / mirrors[i]
        x = energy / threshold
        area = airmass[i] ** 1.8 * np.exp(-(x**-3.0)) / (1 + 2 / x)
        area *= np.exp(-0.5 * (offset[i] / 1.7) ** 3)
        sigma = 0.06 * epoch[i] * x**-0.1 * (1 + 0.4 / np.maximum(x, 0.7))
        inside = np.diff(-np.expm1(-0.5 * (rings / sigma[:, None]) ** 2), axis=1)
        signal = (1e-3 * livetime[i] * area * energy**-1.7)[:, None] * inside
        rate = 2e-3 * energy**-1.7 * np.exp(-(x**-4.0)) * np.exp(-0.5 * (offset[i] / 1.2) ** 2)
        background = (livetime[i] * rate)[:, None] * np.diff(rings**2) * 10
        safe = (edges[:-1] >= threshold)[:, None]
        signal, background = signal * safe, background * safe
        mu[i], b[i] = (signal + background).ravel(), background.ravel()
        d[i, :, 0] = signal.ravel()
        d[i, :, 1] = -(signal * np.log(energy)[:, None]).ravel()
    return Scores(np.arange(n_obs), mu, d, b, ("amplitude", "index"), livetime)


def whitened(scores: Scores) -> np.ndarray:
    """Scores in units in which squared distance times weight is lost information."""
    weight = np.divide(1.0, scores.mu, out=np.zeros_like(scores.mu), where=scores.mu > 0)
    fisher = np.einsum("ikp,ikq,ik->pq", scores.d, scores.d, weight)
    rows = (scores.d * np.sqrt(weight)[:, :, None]) @ np.linalg.inv(np.linalg.cholesky(fisher)).T
    return np.ascontiguousarray(rows.reshape(len(scores), -1))


def measure(n_obs: int) -> None:
    """Times and losses for a number of runs."""
    scores = make_scores(n_obs)
    print(f"{n_obs:,} runs, {scores.mu.shape[1]} bins, 2 parameters")
    start = time.perf_counter()
    X = whitened(scores)
    if n_obs <= 2000:
        fastcluster.linkage_vector(X, "ward")
        print(f"  Ward on whitened scores     {time.perf_counter() - start:5.1f} s")
    for options in REQUESTS[n_obs]:
        start = time.perf_counter()
        grouping = cluster_by_information(scores, **options)
        took = time.perf_counter() - start
        loss = information_loss(scores, grouping.labels)
        what = ", ".join(f"{name} {value:g}" for name, value in options.items())
        before = grouping.parameters["pre_merge_loss"]
        print(
            f"  {what:<27} {took:5.1f} s, {grouping.n_groups} groups, loss {loss:.3%}, "
            f"by pre-merging at most {before:.4%}"
        )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    print(f"  {peak:.2f} GB at most")


if __name__ == "__main__":
    if sys.argv[1:]:
        measure(int(sys.argv[1]))
    else:
        for number in REQUESTS:
            sys.stdout.flush()
            subprocess.run([sys.executable, __file__, str(number)], check=True)
