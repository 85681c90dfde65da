"""How well runs fall into groups, against the number of groups.

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

from collections.abc import Mapping
from typing import Any

import numpy as np
from astropy import units as u
from astropy.table import Column, QTable, Table
from numpy.typing import NDArray

from obscluster.assessment.reference import even_silhouettes
from obscluster.assessment.rows import Labels, members_of, row_labels, run_ids
from obscluster.assessment.silhouette import mean_silhouettes
from obscluster.assessment.spread import NO_RUN, Spread, spread_of, widest
from obscluster.columns import numbers
from obscluster.exceptions import RequestError
from obscluster.grouping.base import UNASSIGNED
from obscluster.scaling import feature_matrix, feature_names, period_of

__all__ = ["quality"]

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
        The same runs with scaled features, see `~obscluster.scaling.standard_scaler`; in them
        distances are taken.
    labels_by_n : mapping
        Number of groups to the labels of the rows of ``features``, such as those of
        `~obscluster.assessment.tree.labels_of_tree`. Of several that turn out to have the same
        number of groups, the first counts.
    n_sample : int
        With more runs than that, the silhouette is the mean over a random sample of so many, each
        compared with all runs. What was done is in ``meta["silhouette"]``.
    n_trials : int
        Number of trials for ``silhouette_even``, see
        `~obscluster.assessment.reference.even_silhouettes`; none for 0.
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
        see `~obscluster.assessment.spread.worst_spreads`. Indices are NaN where they are not
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
    # scikit-learn takes a second to load.
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
