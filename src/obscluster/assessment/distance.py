"""Runs that are like no other.

A run is an outlier if it is far from every group, its own included, in units of the scatter of that
group. Each feature is looked at by itself, and the one that deviates most counts: features of the
response go up and down together, so that a sum over them would count the same deviation several
times. A run that is unusual only in the combination of its features is not found; see
``sklearn.covariance.MinCovDet`` for that.

Centre and scatter of a group are medians, which few outliers hardly move. A run is never part of
what it is compared with, so that it cannot hide behind itself, and a group of its own does not
shelter it. Small groups know little about their scatter: it is combined with that of all groups.
"""

from __future__ import annotations

import numpy as np
from astropy.table import Column, Table
from numpy.typing import NDArray

from obscluster.assessment.within_groups import Labels, members_of, row_labels, run_ids
from obscluster.exceptions import RequestError
from obscluster.features.scaling import feature_matrix

__all__ = ["outliers"]

# Median absolute deviation to standard deviation of a Gaussian distribution.
_MAD = 1.4826022185056018
# Two runs differ by more than one of them from a centre that is known.
_PAIR = np.sqrt(2.0)
# Weight of the scatter of all groups against that of one group, in runs.
_PRIOR = 5.0
# Fewer runs in groups than that do not tell the scatter within groups.
_MIN_POOLED = 5
# Of fewer runs, the median deviation may be small by chance.
_MIN_MEDIAN = 10
# Few runs may seem to scatter less than they do; this keeps false alarms below 1 % of 10 runs.
_SMALL = 4.0
# Of larger groups, a single run moves median and scatter so little that it may stay in.
_MAX_LEFT_OUT = 100
# Scatter below this part of that of all runs is due to rounding errors: the runs are identical.
_ROUNDING = 1e-9

Array = NDArray[np.float64]


def outliers(scaled: Table, labels: Labels, threshold: float = 5.0) -> Table:
    """Runs that are far from every group.

    Parameters
    ----------
    scaled : `~astropy.table.Table`
        Scaled features with ``obs_id``; how they are scaled does not matter. Runs that miss a
        feature are left out.
    labels : `~obscluster.grouping.base.Grouping` or array_like of int
        Group of each run; those with -1 are compared with all groups.
    threshold : float
        Distance from which a run is listed; with zero all are.

    Returns
    -------
    outliers : `~astropy.table.Table`
        The farthest first: ``obs_id``, ``label``, ``distance`` to the ``nearest`` group (its
        label), the ``feature`` that deviates most from that group, and ``deviation``, by how much,
        in units of the scatter of the group; ``distance`` is its absolute value.

    Raises
    ------
    RequestError
        If the threshold is negative, there is no ``obs_id`` or feature, or labels do not fit.
    """
    if not threshold >= 0:
        raise RequestError(f"threshold = {threshold}; expected a number from 0, such as 5")
    obs_ids, found = run_ids(scaled), row_labels(scaled, labels)
    X, names = feature_matrix(scaled)
    order = np.argsort(obs_ids)
    order = order[np.isfinite(X[order]).all(axis=1)]
    obs_ids, found, X = obs_ids[order], found[order], X[order]
    groups = members_of(found)
    pooled = _pooled_scatter(X, list(groups.values()))
    distance, nearest = np.full(len(X), np.inf), np.full(len(X), -1)
    feature, deviation = np.zeros(len(X), dtype=np.intp), np.full(len(X), np.nan)
    rows = np.arange(len(X))
    for label, members in groups.items():
        z = _deviations(X, X[members], pooled)
        z[members] = _without_itself(X[members], pooled)
        largest = np.abs(z).argmax(axis=1)
        value = z[rows, largest]
        closer = np.abs(value) < distance
        distance[closer], nearest[closer] = np.abs(value[closer]), label
        feature[closer], deviation[closer] = largest[closer], value[closer]
    far = np.flatnonzero((nearest > 0) & (distance >= threshold))
    far = far[np.lexsort((obs_ids[far], -distance[far]))]
    table = Table()
    for name, column, description in (
        ("obs_id", obs_ids[far], "Observation identifier"),
        ("label", found[far], "Group, -1 for none"),
        ("distance", distance[far], "Distance to the nearest group, in units of its scatter"),
        ("nearest", nearest[far], "The nearest group"),
        ("feature", np.array(names)[feature[far]], "Feature that deviates most"),
        ("deviation", deviation[far], "By how much, in units of the scatter"),
    ):
        table[name] = Column(column, description=description)
    table.meta.update(threshold=threshold, n_obs=len(X))
    return table


def _deviations(X: Array, members: Array, pooled: Array) -> Array:
    """How far runs are from a group, in units of its scatter, shape (n_obs, n_features)."""
    if len(members) < 3:
        return _nearest((X[:, np.newaxis] - members) / (pooled * _PAIR))
    centre, scatter = _centre_and_scatter(members, pooled)
    deviations: Array = (X - centre) / scatter
    return deviations


def _without_itself(members: Array, pooled: Array) -> Array:
    """How far each run of a group is from the others, shape (n, n_features)."""
    n = len(members)
    if n < 4:
        z = (members[:, np.newaxis] - members) / (pooled * _PAIR)
        z[np.arange(n), np.arange(n)] = np.inf
        return _nearest(z)
    others = members if n > _MAX_LEFT_OUT else _left_out(members)
    centre, scatter = _centre_and_scatter(others, pooled)
    deviations: Array = (members - centre) / scatter
    return deviations


def _nearest(z: Array) -> Array:
    """Deviations from the nearest of one or two runs, of shape (n_obs, n, n_features).

    Two runs have no middle that the one could not spoil for the other.
    """
    nearest = np.abs(z).max(axis=-1).argmin(axis=-1)
    return z[np.arange(len(z)), nearest]


def _centre_and_scatter(members: Array, pooled: Array) -> tuple[Array, Array]:
    """Median, and how far a further run is expected from it, shapes (..., n_features).

    Parameters
    ----------
    members : `~numpy.ndarray`
        Three or more runs of a group, shape (..., n, n_features).
    pooled : `~numpy.ndarray`
        Scatter within all groups, shape (n_features,).
    """
    n = members.shape[-2]
    centre = np.median(members, axis=-2)
    own = _scatter(np.abs(members - centre[..., np.newaxis, :]))
    # Identical runs claim to have no scatter.
    weight = np.where(own > _ROUNDING * pooled, n - 2, 0.0)
    # Of the logarithms, so that a tight group counts as tight though all others are wide.
    ratio = np.log(np.maximum(own / pooled, _ROUNDING))
    scatter = pooled * np.exp(weight / (weight + _PRIOR) * ratio)
    return centre, scatter


def _scatter(distances: Array) -> Array:
    """Scatter from absolute deviations of shape (..., n, n_features), on the safe side."""
    scatter: Array = _MAD * np.median(distances, axis=-2) * (1 + _SMALL / distances.shape[-2])
    return scatter


def _left_out(members: Array) -> Array:
    """For each run the others of its group, shape (n, n - 1, n_features)."""
    n = len(members)
    others = np.arange(n - 1) + (np.arange(n - 1) >= np.arange(n)[:, np.newaxis])
    left: Array = members[others]
    return left


def _pooled_scatter(X: Array, groups: list[NDArray[np.intp]]) -> Array:
    """Scatter within groups, shape (n_features,), from all of them."""
    residuals = [np.empty((0, X.shape[1]))]
    for rows in groups:
        members, n = X[rows], len(rows)
        if n > _MAX_LEFT_OUT:
            residuals.append(members - np.median(members, axis=0))
        elif n > 1:
            centre = np.median(_left_out(members), axis=1)
            residuals.append(members - centre)
    found = np.concatenate(residuals)
    scatter = np.zeros(X.shape[1])
    if len(found) >= _MIN_POOLED:
        scatter = _scatter(np.abs(found))
    if len(X):
        # Most runs may be identical, or too few in groups: then by the scatter of all runs.
        overall = _MAD * np.median(np.abs(X - np.median(X, axis=0)), axis=0)
        std = X.std(axis=0)
        overall = np.where((len(X) >= _MIN_MEDIAN) & (overall > _ROUNDING * std), overall, std)
        scatter = np.where(scatter > _ROUNDING * std, scatter, overall)
    # A feature that never varies deviates nowhere, whatever it is divided by.
    return np.where(scatter > 0, scatter, 1.0)
