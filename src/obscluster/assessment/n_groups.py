"""How well runs fall into groups, against the number of groups, and a number that is suggested.

scikit-learn computes all distances anew for each grouping, and its sample compares runs with the
sample only, in which small groups are missing. Here distances are computed once, and each run of a
sample is compared with all runs.

Any cut through evenly spread runs gives a positive silhouette: about 0.6 for one feature, 0.4 for
two, and less for more. A silhouette says something only where it is higher than that. The even
spread is that of the gap statistic: in the box around the data along their principal axes
(Tibshirani, Walther and Hastie 2001, J. R. Stat. Soc. B 63, 411).

=====================  ==========================================================  =============
index                  what it compares                                            better is
=====================  ==========================================================  =============
``silhouette``         distance to the runs of the own group, and to those of the  larger, at
                       next one                                                    most 1
``calinski_harabasz``  variance between groups, and within them (Calinski and      larger
                       Harabasz 1974, Commun. Stat. 3, 1)
``davies_bouldin``     scatter of two groups, and the distance of their centres    smaller, at
                       (Davies and Bouldin 1979, IEEE Trans. PAMI 1, 224)          least 0
=====================  ==========================================================  =============

All are in the space of the scaled features. The spreads beside them are in the features' own units.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from astropy import units as u
from astropy.table import Column, QTable, Table
from numpy.typing import NDArray
from scipy import sparse
from scipy.cluster import hierarchy
from scipy.spatial.distance import cdist

from obscluster.assessment.within_groups import (
    NO_RUN,
    Labels,
    Spread,
    members_of,
    row_labels,
    run_ids,
    spread_of,
    widest,
)
from obscluster.exceptions import RequestError
from obscluster.features.scaling import feature_matrix, feature_names, period_of
from obscluster.grouping import UNASSIGNED
from obscluster.grouping.base import Grouping
from obscluster.values.columns import numbers
from obscluster.values.markup import html_text, html_view

__all__ = [
    "Suggestion",
    "even_silhouettes",
    "labels_of_tree",
    "mean_silhouettes",
    "quality",
    "suggest_n_groups",
]

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


def labels_of_tree(
    tree: Grouping | NDArray[np.float64], n_max: int | None = 10
) -> dict[int, NDArray[np.int64]]:
    """Labels for every number of groups that a tree can be cut into.

    All cuts together take one walk through the tree.

    Parameters
    ----------
    tree : `~obscluster.grouping.base.Grouping` or `~numpy.ndarray`
        A grouping with its tree, or a tree in SciPy's format, shape (n - 1, 4).
    n_max : int or None
        Largest number of groups; None for all.

    Returns
    -------
    labels : dict
        Number of groups to labels: of the runs of the grouping, -1 where they are not in the tree,
        or of the leaves. They are those of `scipy.cluster.hierarchy.fcluster` with ``maxclust``.
        Numbers of groups that no height gives, since runs are equally far, are left out; identical
        runs are never split.

    Raises
    ------
    RequestError
        If the grouping has no tree, or the tree is none.
    """
    if n_max is not None and n_max < 1:
        raise RequestError(f"n_max = {n_max}; ask for at least 1 group")
    assigned: NDArray[np.intp] | None = None
    if isinstance(tree, Grouping):
        if tree.linkage is None:
            raise RequestError(
                f"the grouping by {tree.parameters.get('method', 'this method')} has no tree; "
                "give labels for each number of groups instead"
            )
        assigned = np.flatnonzero(tree.labels != UNASSIGNED)
        if len(assigned) != len(tree.linkage) + 1:
            raise RequestError(
                f"{len(assigned)} assigned runs, but the tree has {len(tree.linkage) + 1} leaves; "
                "give the tree itself"
            )
        size, linkage = len(tree), tree.linkage
    else:
        linkage = np.asarray(tree, dtype=float)
        if linkage.size and not (linkage.ndim == 2 and hierarchy.is_valid_linkage(linkage)):
            raise RequestError(f"an array of shape {linkage.shape} that is no tree of SciPy's")
        size = len(linkage) + 1
    cuts = _cuts(linkage.reshape(-1, 4), n_max)
    if assigned is None:
        return cuts
    labels = {}
    for n_groups, of_leaves in cuts.items():
        labels[n_groups] = np.full(size, UNASSIGNED, dtype=np.int64)
        labels[n_groups][assigned] = of_leaves
    return labels


def _cuts(tree: NDArray[np.float64], n_max: int | None) -> dict[int, NDArray[np.int64]]:
    n_leaves = len(tree) + 1
    if n_leaves == 1:
        return {1: np.ones(1, dtype=np.int64)}
    leaves, nodes = _walk(tree)
    # Between neighbouring leaves lies one merge. Its height is what a cut is compared with; where
    # a tree has inversions, SciPy takes the largest height in the branch.
    height = hierarchy.maxdists(tree)[nodes]
    falling = np.sort(height)[::-1]
    n_max = n_leaves if n_max is None else min(n_max, n_leaves)
    labels = {}
    for n_groups in range(1, min(n_max, n_leaves - 1) + 1):
        lowest = falling[n_groups - 1]
        # The merge that makes one group less must be higher than those that are kept.
        if n_groups > 1 and falling[n_groups - 2] == lowest:
            continue
        labels[n_groups] = np.empty(n_leaves, dtype=np.int64)
        labels[n_groups][leaves] = np.concatenate([[1], 1 + np.cumsum(height > lowest)])
    if n_max == n_leaves and falling[-1] > 0:
        labels[n_leaves] = np.arange(1, n_leaves + 1)
    return labels


def _walk(tree: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Leaves in the order in which SciPy counts groups, and the merge between each two of them.

    SciPy counts branches before single leaves.
    """
    n_leaves = len(tree) + 1
    children = tree[:, :2].astype(np.int64).tolist()
    leaves: list[int] = []
    between: list[int] = []
    stack = [(2 * n_leaves - 2, -1)]
    while stack:
        node, merge = stack.pop()
        if node < n_leaves:
            leaves.append(node)
            between.append(merge)
            continue
        left, right = children[node - n_leaves]
        if left < n_leaves <= right:
            left, right = right, left
        # The first leaf of the right branch is where the branches of this merge meet.
        stack += [(right, node - n_leaves), (left, merge)]
    return np.array(leaves), np.array(between[1:])


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


# Kaufman and Rousseeuw (1990, Finding Groups in Data) call structure below this silhouette weak.
_WEAK = 0.5


@dataclass(frozen=True)
class Suggestion:
    """A number of groups.

    Parameters
    ----------
    n_groups : int
        The number.
    reason : str
        Why, in one sentence with the numbers that decided.
    """

    n_groups: int
    reason: str

    def __str__(self) -> str:
        return f"{_groups(self.n_groups)}: {self.reason}"

    def _repr_html_(self) -> str:
        """For a notebook."""
        return html_view(html_text(_groups(self.n_groups), strong=True), html_text(self.reason))


def suggest_n_groups(
    quality: Table, tolerance: float = 0.05, min_silhouette: float = 0.25
) -> Suggestion:
    """Suggest a number of groups.

    A number qualifies if its silhouette is at least ``min_silhouette``, and if it does more than
    set single runs apart, which are outliers rather than groups. Of these, it is the smallest
    whose silhouette is within ``tolerance`` of the highest: each further group makes the joint fit
    slower. If none qualifies, one group is suggested.

    The reason says whether evenly spread runs would have such a silhouette too. Then, and if there
    is no structure at all, only the spreads can tell how many groups are needed.

    Parameters
    ----------
    quality : `~astropy.table.Table`
        See `~obscluster.assessment.n_groups.quality`.
    tolerance : float
        Silhouettes that differ by no more are equally good. That of 100 runs is uncertain by about
        0.025.
    min_silhouette : float
        Below, there is no structure. Kaufman and Rousseeuw (1990) call 0.25 to 0.5 weak, to 0.7
        reasonable, and above strong.

    Returns
    -------
    suggestion : `Suggestion`
        The number and the reason.

    Raises
    ------
    RequestError
        If the table is empty or another one.
    """
    needed = ("n_groups", "n_obs", "n_single", "silhouette", "silhouette_even")
    if missing := [name for name in needed if name not in quality.colnames]:
        raise RequestError(f"no column {', '.join(missing)}; give the table that quality() returns")
    if len(quality) == 0:
        raise RequestError("no number of groups was tried; give quality() some labels")
    n_groups, n_obs, n_single, silhouette, even = (np.asarray(quality[name]) for name in needed)
    if not np.isfinite(silhouette).any():
        return Suggestion(1, _why_undefined(n_groups, n_obs))
    silhouette = np.where(np.isfinite(silhouette), silhouette, -np.inf)
    top = int(np.argmax(silhouette))
    splits = (silhouette >= min_silhouette) & (n_groups - n_single >= 2)
    tried = f"of {_range(n_groups[np.isfinite(silhouette)])}"
    if not splits.any():
        of_top = f"{silhouette[top]:.2f} for {_groups(n_groups[top])}"
        reason = f"the highest silhouette {tried}, {of_top}, "
        if silhouette[top] < min_silhouette:
            reason = f"no clear structure, since {reason}is below {min_silhouette:g}"
        else:
            reason += "comes from setting single runs apart; see whether they are outliers"
        return Suggestion(1, reason + _spread_of_all(quality))
    best = int(np.argmax(np.where(splits, silhouette, -np.inf)))
    good = splits & (silhouette >= silhouette[best] - tolerance)
    chosen = int(np.flatnonzero(good)[np.argmin(n_groups[good])])
    reason = f"the silhouette is {silhouette[chosen]:.2f}"
    if chosen != best:
        reason += f", within {tolerance:g} of {silhouette[best]:.2f} for {_groups(n_groups[best])}"
    else:
        reason += f", the highest {tried}" + (" that qualify" if best != top else "")
    reason += _remarks(silhouette[chosen], even[chosen])
    if n_groups[chosen] == n_groups.max() and n_groups[chosen] > 2:
        reason += "; more groups were not tried"
    if n_single[chosen]:
        alone = "group is" if n_single[chosen] == 1 else "groups are"
        reason += f"; {n_single[chosen]} {alone} a single run, perhaps an outlier"
    return Suggestion(int(n_groups[chosen]), reason)


def _remarks(silhouette: float, even: float) -> str:
    """How much the silhouette means; where nothing is known of evenly spread runs, they pass."""
    reached = f"; evenly spread runs reach up to {even:.2f}" if np.isfinite(even) else ""
    if silhouette <= even:
        return f"{reached}, so that there is no natural boundary and the spreads should decide"
    weak = "; the structure is weak, so look at the spreads too" if silhouette < _WEAK else ""
    return reached + weak


def _why_undefined(n_groups: NDArray[np.int64], n_obs: NDArray[np.int64]) -> str:
    if n_obs.max() < 3:
        return f"silhouettes need at least 3 runs, and there are {n_obs.max()}"
    if (n_groups < 2).all():
        return "no other number was tried, perhaps since the runs are identical"
    return "no silhouette is defined, as with identical runs or as many groups as runs"


def _spread_of_all(quality: Table) -> str:
    """What stacking all runs means for the feature that differs most."""
    one = np.flatnonzero(np.asarray(quality["n_groups"]) == 1)
    names = [name for name in quality.colnames if name.endswith(" percent")]
    percent = {name: float(quality[name][one[0]]) for name in names} if len(one) else {}
    known = {name: value for name, value in percent.items() if np.isfinite(value)}
    if not known:
        return ""
    name = max(known, key=lambda name: known[name])
    feature = name.removesuffix(" percent")
    return f"; {feature} differs by {known[name]:.0f}% then, choose more groups if that is too much"


def _range(numbers: NDArray[np.int64]) -> str:
    if len(numbers) == 1:
        return _groups(int(numbers[0]))
    return f"{numbers.min()} to {numbers.max()} groups"


def _groups(number: int) -> str:
    return "1 group" if number == 1 else f"{number} groups"


# Variance within groups that is rounding errors only, relative to all variance.
_ROUNDING = 1e-20

_COLUMNS: dict[str, tuple[type, str]] = {
    "n_groups": (np.int64, "Number of groups"),
    "n_obs": (np.int64, "Runs that count"),
    "silhouette": (np.float64, "Mean silhouette"),
    "silhouette_even": (np.float64, "Mean silhouette that 95 % of evenly spread runs do not reach"),
    "calinski_harabasz": (np.float64, "Calinski-Harabasz index"),
    "davies_bouldin": (np.float64, "Davies-Bouldin index"),
    "smallest": (np.int64, "Runs in the smallest group"),
    "n_single": (np.int64, "Groups of a single run"),
}


def quality(
    features: Table,
    scaled: Table,
    labels_by_n: Mapping[int, Labels],
    n_sample: int = 5000,
    n_trials: int = 40,
    random_state: int = 0,
) -> QTable:
    """Indices and spreads for several numbers of groups.

    Runs of no group, and those without all of the scaled features, do not count.

    Parameters
    ----------
    features : `~astropy.table.Table`
        Unscaled feature table with ``obs_id``.
    scaled : `~astropy.table.Table`
        The same runs with scaled features, see `~obscluster.features.scaling.standard_scaler`; in
        them distances are taken.
    labels_by_n : mapping
        Number of groups to the labels of the rows of ``features``, such as those of
        `~obscluster.assessment.n_groups.labels_of_tree`. Of several that turn out to have the same
        number of groups, the first counts.
    n_sample : int
        With more runs than that, the silhouette is the mean over a random sample of so many, each
        compared with all runs. What was done is in ``meta["silhouette"]``.
    n_trials : int
        Number of trials for ``silhouette_even``, see
        `~obscluster.assessment.n_groups.even_silhouettes`; none for 0.
    random_state : int
        Seed of the sample, and of the trials.

    Returns
    -------
    quality : `~astropy.table.QTable`
        One row for each number of groups: ``n_groups``, ``n_obs`` (runs that count),
        ``silhouette``, ``silhouette_even`` (what evenly spread runs hardly exceed),
        ``calinski_harabasz``, ``davies_bouldin``, ``smallest`` (runs in the smallest group),
        ``n_single`` (groups of a single run), and for each feature ``"<feature> spread"`` (the
        largest within a group, with unit), ``"<feature> percent"`` and ``"<feature> worst run"``,
        see `~obscluster.assessment.within_groups.worst_spreads`. Indices are NaN where they are not
        defined: for one group, for as many groups as runs, and if all runs are identical; the
        Calinski-Harabasz index also if the runs of each group are.

    Raises
    ------
    RequestError
        If the tables have different runs, or labels do not fit.
    """
    obs_ids, others = run_ids(features), run_ids(scaled)
    order, other_order = np.argsort(obs_ids), np.argsort(others)
    if not np.array_equal(obs_ids[order], others[other_order]):
        raise RequestError(
            f"features of {len(obs_ids)} runs and scaled features of {len(others)}, which are not "
            "the same runs; scale the feature table that you give"
        )
    X = feature_matrix(scaled)[0][other_order]
    complete = np.isfinite(X).all(axis=1)
    X, order = X[complete], order[complete]
    found: dict[int, NDArray[np.int64]] = {}
    for n_asked in sorted(labels_by_n):
        labels = row_labels(features, labels_by_n[n_asked])[order]
        n_groups = len(members_of(labels))
        if n_groups:
            found.setdefault(n_groups, labels)
    measure = _Spreads(features, order)
    silhouettes, remark = mean_silhouettes(X, list(found.values()), n_sample, random_state)
    even = even_silhouettes(X, list(found), n_trials, random_state)
    rows: list[dict[str, float]] = []
    for (n_groups, labels), *both in zip(found.items(), silhouettes, even, strict=True):
        groups = members_of(labels)
        sizes = np.array([len(members) for members in groups.values()])
        calinski_harabasz, davies_bouldin = _variance_indices(X, labels)
        rows.append(
            {
                "n_groups": n_groups,
                "n_obs": sizes.sum(),
                "silhouette": both[0],
                "silhouette_even": both[1],
                "calinski_harabasz": calinski_harabasz,
                "davies_bouldin": davies_bouldin,
                "smallest": sizes.min(),
                "n_single": (sizes == 1).sum(),
            }
            | measure.worst(groups)
        )
    table = _table(sorted(rows, key=lambda row: row["n_groups"]), features)
    table.meta["silhouette"] = remark
    return table


def _variance_indices(X: NDArray[np.float64], labels: NDArray[np.int64]) -> tuple[float, float]:
    """Calinski-Harabasz and Davies-Bouldin index, NaN where they are not defined."""
    # scikit-learn takes more than a second to load.
    from sklearn.metrics import calinski_harabasz_score, davies_bouldin_score

    assigned = labels != UNASSIGNED
    X, labels = X[assigned], labels[assigned]
    groups = list(members_of(labels).values())
    total = float(((X - X.mean(axis=0)) ** 2).sum())
    # Equal numbers have a mean that may differ from them by rounding errors.
    noise = _ROUNDING * float((X**2).sum())
    if not 1 < len(groups) < len(X) or total <= noise:
        return np.nan, np.nan
    within = sum(float(((X[rows] - X[rows].mean(axis=0)) ** 2).sum()) for rows in groups)
    davies_bouldin = float(davies_bouldin_score(X, labels))
    if within <= noise:
        return np.nan, davies_bouldin
    return float(calinski_harabasz_score(X, labels)), davies_bouldin


class _Spreads:
    """Largest spreads of the features; of nested groups, each is looked at once."""

    def __init__(self, features: Table, order: NDArray[np.intp]) -> None:
        self.obs_ids = run_ids(features)[order]
        self.columns = {
            name: (numbers(features[name])[order], period_of(name, features[name]))
            for name in feature_names(features)
        }
        self.known: dict[tuple[str, bytes], Spread] = {}

    def worst(self, groups: Mapping[int, NDArray[np.intp]]) -> dict[str, float]:
        """Largest spread, absolute and in per cent, and the worst run, by column."""
        worst: dict[str, float] = {}
        for name in self.columns:
            each = {label: self._spread(name, members) for label, members in groups.items()}
            label, percent_label = widest(each)
            none = label == NO_RUN
            worst[f"{name} spread"] = np.nan if none else each[label].spread
            worst[f"{name} worst run"] = NO_RUN if none else each[label].worst_run
            none = percent_label == NO_RUN
            worst[f"{name} percent"] = np.nan if none else each[percent_label].percent
        return worst

    def _spread(self, name: str, members: NDArray[np.intp]) -> Spread:
        key = name, members.tobytes()
        if key not in self.known:
            values, period = self.columns[name]
            self.known[key] = spread_of(values[members], self.obs_ids[members], period)
        return self.known[key]


def _table(rows: list[dict[str, Any]], features: Table) -> QTable:
    table = QTable()
    for name, (dtype, description) in _COLUMNS.items():
        table[name] = Column([row[name] for row in rows], dtype=dtype, description=description)
    names = feature_names(features)
    for name in names:
        key = f"{name} spread"
        values = np.array([row[key] for row in rows], dtype=float)
        table[key] = u.Quantity(values, features[name].unit or u.one)
        table[key].info.description = f"Largest spread of {name} within a group"
        for key, dtype, description in (
            (f"{name} percent", np.float64, f"Largest spread of {name} over its middle, per cent"),
            (f"{name} worst run", np.int64, f"Run farthest from its group's mean {name}"),
        ):
            table[key] = Column([row[key] for row in rows], dtype=dtype, description=description)
    table.meta["features"] = names
    return table
