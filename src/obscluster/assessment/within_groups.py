"""How far the runs within a group differ, feature by feature, in the features' own units."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from astropy.table import Table
from numpy.typing import ArrayLike, NDArray

from obscluster.exceptions import RequestError
from obscluster.features.scaling import feature_names, period_of
from obscluster.grouping import UNASSIGNED
from obscluster.grouping.base import Grouping
from obscluster.values.columns import numbers, range_of, relative_spread

__all__ = [
    "NO_RUN",
    "Labels",
    "Spread",
    "members_of",
    "row_labels",
    "run_ids",
    "spread_of",
    "spreads",
    "widest",
    "worst_spreads",
]

Labels = ArrayLike | Grouping
"""Group of each run, see `row_labels`."""


def run_ids(table: Table) -> NDArray[np.int64]:
    """Identifiers of the rows, shape (n_obs,).

    Raises
    ------
    RequestError
        If there is no column ``obs_id``, or a run appears twice.
    """
    if "obs_id" not in table.colnames:
        raise RequestError(f"no column obs_id among {', '.join(table.colnames)}")
    obs_ids = np.asarray(table["obs_id"], dtype=np.int64)
    found, counts = np.unique(obs_ids, return_counts=True)
    if (counts > 1).any():
        raise RequestError(f"run {found[counts > 1][0]} has several rows; one per run is needed")
    return obs_ids


def row_labels(table: Table, labels: Labels) -> NDArray[np.int64]:
    """Label of each row.

    Parameters
    ----------
    table : `~astropy.table.Table`
        One row per run, with ``obs_id``.
    labels : `~obscluster.grouping.base.Grouping` or array_like of int
        Labels by identifier, or row by row: from 1, and -1 for runs of no group.

    Returns
    -------
    labels : `~numpy.ndarray`
        Shape (n_obs,).

    Raises
    ------
    RequestError
        If there is not one integer for each row, an integer is no label, or a grouping has none
        of the runs.
    """
    obs_ids = run_ids(table)
    if isinstance(labels, Grouping):
        if len(obs_ids) and not np.isin(obs_ids, labels.obs_ids).any():
            raise RequestError(
                f"none of the {len(obs_ids)} runs of the table is among the {len(labels)} of the "
                "grouping; give the grouping of these runs"
            )
        return labels.label_of(obs_ids)
    found = np.asarray(labels)
    if found.shape != obs_ids.shape:
        raise RequestError(
            f"labels of shape {found.shape} for a table of {len(obs_ids)} runs; "
            "give one label for each row, or a Grouping"
        )
    if found.size and found.dtype.kind not in "iu":
        raise RequestError(f"labels such as {found.flat[0]!r}; expected integers from 1, or -1")
    wrong = found[(found < 1) & (found != UNASSIGNED)]
    if wrong.size:
        raise RequestError(
            f"label {wrong[0]}; labels count from 1, and -1 is for runs of no group "
            "(add 1 to labels of scikit-learn, but not to -1)"
        )
    return found.astype(np.int64)


def members_of(labels: NDArray[np.int64]) -> dict[int, NDArray[np.intp]]:
    """Rows of each group, by label in rising order; runs of no group are left out."""
    order = np.argsort(labels, kind="stable")
    found, starts = np.unique(labels[order], return_index=True)
    parts = np.split(order, starts[1:]) if len(found) else []
    return {
        int(label): rows for label, rows in zip(found, parts, strict=True) if label != UNASSIGNED
    }


NO_RUN = -1
"""Stands for a run where there is none."""
# Deviations that differ by less, relatively, are equal: two runs are equally far from their mean.
_ROUNDING = 1e-12
# The mean direction of angles means nothing if their mean vector is shorter than this.
_NO_DIRECTION = 1e-9


class Spread(NamedTuple):
    """Range of one feature in one group, in the unit of the feature; NaN without any value."""

    n_obs: int
    min: float
    max: float
    mean: float
    spread: float
    percent: float
    worst_run: int
    deviation: float


def spreads(features: Table, labels: Labels) -> Table:
    """Range of every feature in every group.

    Parameters
    ----------
    features : `~astropy.table.Table`
        Unscaled feature table with ``obs_id``. Missing values do not count.
    labels : `~obscluster.grouping.base.Grouping` or array_like of int
        Group of each run; -1 for none.

    Returns
    -------
    spreads : `~astropy.table.Table`
        One row for each group and feature: ``label``, ``feature``, ``unit``, ``n_obs`` (runs that
        have the feature), ``min``, ``max``, ``mean`` and ``spread`` = max - min in that unit,
        ``percent`` (spread over the middle of the range; NaN where the range holds zero),
        ``worst_run`` (the run farthest from the mean; -1 for none) and its signed ``deviation``
        from the mean. Of angles, the range is the shortest arc that holds all, the mean is that of
        their directions, and there is no ``percent``.

    Raises
    ------
    RequestError
        If there is no ``obs_id`` or feature, or the labels do not fit the rows.
    """
    columns, obs_ids, found = _ordered(features, labels)
    rows = []
    for label, members in members_of(found).items():
        for name, unit, values, period in columns:
            spread = spread_of(values[members], obs_ids[members], period)
            rows.append((label, name, unit, *spread))
    return _table(
        rows,
        {
            "label": (np.int64, "Group"),
            "feature": (np.str_, "Feature"),
            "unit": (np.str_, "Unit of the feature"),
            "n_obs": (np.int64, "Runs of the group that have the feature"),
            "min": (np.float64, "Smallest value, in that unit"),
            "max": (np.float64, "Largest value, in that unit"),
            "mean": (np.float64, "Mean, in that unit"),
            "spread": (np.float64, "Largest minus smallest value, in that unit"),
            "percent": (np.float64, "Spread over the middle of the range, in per cent"),
            "worst_run": (np.int64, "Run farthest from the mean, -1 for none"),
            "deviation": (np.float64, "Its value minus the mean, in that unit"),
        },
    )


def worst_spreads(features: Table, labels: Labels) -> Table:
    """Largest spread of every feature over all groups.

    Parameters
    ----------
    features, labels
        See `spreads`.

    Returns
    -------
    worst : `~astropy.table.Table`
        One row for each feature: ``feature``, ``unit``, the largest ``spread`` in that unit, the
        ``label`` of its group, ``worst_run`` and ``deviation`` in that group; the largest
        ``percent`` and ``percent_label``, which may be another group. ``percent`` is NaN if it is
        in any group, since the largest is then not known; labels are -1 where there is none.
    """
    columns, obs_ids, found = _ordered(features, labels)
    groups = members_of(found)
    rows = []
    for name, unit, values, period in columns:
        each = {
            label: spread_of(values[members], obs_ids[members], period)
            for label, members in groups.items()
        }
        label, percent_label = widest(each)
        worst, percent = each.get(label, _NOTHING), each.get(percent_label, _NOTHING).percent
        rows.append(
            (
                *(name, unit, worst.spread, label, worst.worst_run, worst.deviation),
                *(percent, percent_label),
            )
        )
    return _table(
        rows,
        {
            "feature": (np.str_, "Feature"),
            "unit": (np.str_, "Unit of the feature"),
            "spread": (np.float64, "Largest spread within a group, in that unit"),
            "label": (np.int64, "Its group, -1 for none"),
            "worst_run": (np.int64, "Run farthest from the mean of that group, -1 for none"),
            "deviation": (np.float64, "Its value minus that mean, in that unit"),
            "percent": (np.float64, "Largest spread over the middle of the range, in per cent"),
            "percent_label": (np.int64, "Its group, -1 for none"),
        },
    )


def spread_of(
    values: NDArray[np.float64], obs_ids: NDArray[np.int64], period: float | None = None
) -> Spread:
    """Spread of the runs of one group.

    Parameters
    ----------
    values : `~numpy.ndarray`
        One feature, shape (n,); NaN where missing.
    obs_ids : `~numpy.ndarray`
        Runs in rising order, shape (n,); the first of those that are equally far from the mean is
        the worst.
    period : float, optional
        Of angles: a full turn.
    """
    known = np.isfinite(values)
    values, obs_ids = values[known], obs_ids[known]
    lo, hi = range_of(values, period)
    if not len(values):
        return _NOTHING
    mean = _mean(values, lo, hi, period)
    deviations = values - mean if period is None else _wrapped(values - mean, period)
    worst, deviation = NO_RUN, np.nan
    if np.isfinite(mean):
        distances = np.abs(deviations)
        row = int(np.argmax(distances >= distances.max() * (1 - _ROUNDING)))
        worst, deviation = int(obs_ids[row]), float(deviations[row])
    # The zero of an angle is a convention, so that a width relative to it means nothing.
    percent = 100 * relative_spread(lo, hi) if period is None else np.nan
    return Spread(len(values), lo, hi, mean, hi - lo, percent, worst, deviation)


_NOTHING = Spread(0, np.nan, np.nan, np.nan, np.nan, np.nan, NO_RUN, np.nan)


def widest(spreads_by_label: dict[int, Spread]) -> tuple[int, int]:
    """Labels of the groups with the largest spread, absolute and in per cent; -1 for none."""
    known = {label: one for label, one in spreads_by_label.items() if one.n_obs}
    if not known:
        return NO_RUN, NO_RUN
    label = max(known, key=lambda label: known[label].spread)
    if not all(np.isfinite(one.percent) for one in known.values()):
        return label, NO_RUN
    return label, max(known, key=lambda label: known[label].percent)


def _mean(values: NDArray[np.float64], lo: float, hi: float, period: float | None) -> float:
    if lo == hi:
        return lo
    if period is None:
        # Rounding may carry the mean of nearly equal values out of their range.
        return float(np.clip(values.mean(), lo, hi))
    vector = np.exp(2j * np.pi / period * values).mean()
    if abs(vector) < _NO_DIRECTION:
        return np.nan
    centre = 0.5 * (lo + hi)
    direction = float(np.angle(vector)) * period / (2 * np.pi)
    # Of all equal angles the one that lies in the range.
    return centre + float(_wrapped(np.array(direction - centre), period))


def _wrapped(difference: NDArray[np.float64], period: float) -> NDArray[np.float64]:
    """Differences of angles between minus and plus half a turn."""
    wrapped: NDArray[np.float64] = np.mod(difference + 0.5 * period, period) - 0.5 * period
    return wrapped


_Column = tuple[str, str, NDArray[np.float64], float | None]


def _ordered(
    features: Table, labels: Labels
) -> tuple[list[_Column], NDArray[np.int64], NDArray[np.int64]]:
    """Name, unit, values and period of the features, identifiers and labels, by identifier."""
    found, obs_ids = row_labels(features, labels), run_ids(features)
    order = np.argsort(obs_ids)
    columns = [
        (name, str(column.unit or ""), numbers(column)[order], period_of(name, column))
        for name, column in ((name, features[name]) for name in feature_names(features))
    ]
    return columns, obs_ids[order], found[order]


def _table(rows: Iterable[tuple[Any, ...]], columns: dict[str, tuple[type, str]]) -> Table:
    """Table with the given types, also without rows."""
    listed = list(rows)
    table = Table()
    for i, (name, (dtype, description)) in enumerate(columns.items()):
        table[name] = np.array([row[i] for row in listed], dtype=dtype)
        table[name].info.description = description
    return table
