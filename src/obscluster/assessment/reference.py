"""What the silhouette would be if the runs did not come in clumps.

Any cut through evenly spread runs gives a positive silhouette: about 0.6 for one feature, 0.4 for
two, and less for more. A silhouette says something only where it is higher than that. The even
spread is that of the gap statistic: in the box around the data along their principal axes
(Tibshirani, Walther and Hastie 2001, J. R. Stat. Soc. B 63, 411).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.cluster import hierarchy

from obscluster.assessment.silhouette import mean_silhouettes
from obscluster.assessment.tree import labels_of_tree

__all__ = ["even_silhouettes"]

# With more runs, the silhouettes are the same.
_MAX_RUNS = 300
_QUANTILE = 0.95


def even_silhouettes(
    X: NDArray[np.float64], n_groups: Sequence[int], n_trials: int = 40, random_state: int = 0
) -> NDArray[np.float64]:
    """Silhouettes that runs without clumps exceed, for any number of groups, in one of 20 cases.

    Parameters
    ----------
    X : `~numpy.ndarray`
        Scaled features, shape (n_obs, n_features), without NaN.
    n_groups : sequence of int
        Numbers of groups.
    n_trials : int
        How often as many runs, at most 300, are spread evenly and grouped by Ward's method.
    random_state : int
        Seed.

    Returns
    -------
    silhouettes : `~numpy.ndarray`
        Shape (len(n_groups),); NaN where it is not defined.
    """
    result = np.full(len(n_groups), np.nan)
    n_runs = min(len(X), _MAX_RUNS)
    wanted = [number for number in n_groups if 1 < number < n_runs]
    if not wanted or n_trials < 1 or not np.ptp(X, axis=0).any():
        return result
    centred = X - X.mean(axis=0)
    axes = np.linalg.svd(centred, full_matrices=False)[2]
    extent = np.ptp(centred @ axes.T, axis=0)
    generator = np.random.default_rng(random_state)
    trials = []
    for _ in range(n_trials):
        even = generator.uniform(size=(n_runs, len(extent))) * extent
        labels = labels_of_tree(hierarchy.linkage(even, "ward"), max(wanted))
        trials.append(mean_silhouettes(even, [labels[number] for number in wanted])[0])
    found = np.array(trials)
    mean, std = found.mean(axis=0), found.std(axis=0)
    # One of several numbers of groups exceeds its own quantile more often than a single one does.
    highest = np.max((found - mean) / np.where(std > 0, std, 1.0), axis=1)
    result[np.isin(n_groups, wanted)] = mean + np.quantile(highest, _QUANTILE) * std
    return result
