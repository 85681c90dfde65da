"""The group of what is nearest in scaled features: a run, or a centre."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from astropy.table import Table

from obscluster.files.ecsv import check_columns
from obscluster.files.records import any_value, list_of, mapping, mapping_of, number, require
from obscluster.grouping.rules.base import (
    HEAD,
    LABEL,
    NONE,
    ROUNDING,
    Answer,
    Array,
    FeatureSpaceRule,
    Labels,
)

__all__ = ["NearestCentroid", "NearestRun"]


@dataclass(frozen=True, eq=False)
class NearestRun(FeatureSpaceRule):
    """The group of the most similar run.

    A run fits if it is no further from its nearest neighbour in the group than the runs of the
    group were from theirs; or, where groups may have some width, if the group stays within it.

    Parameters
    ----------
    scaling, names
        See the other rules.
    X : `~numpy.ndarray`
        Scaled features of the runs that made the groups, shape (n_obs, n_features).
    y : `~numpy.ndarray`
        Their labels, shape (n_obs,); -1 for noise.
    limits : mapping
        Label to the largest distance of a new run from its nearest.
    """

    X: Array
    y: Labels
    limits: Mapping[int, float]
    kind: ClassVar[str] = "nearest-run"

    @classmethod
    def fit(
        cls,
        scaling: Mapping[str, Any] | None,
        names: Sequence[str],
        X: Array,
        labels: Labels,
        width: float = 0.0,
    ) -> NearestRun:
        """Rule that gives these runs these labels; groups may be as wide as the width."""
        complete = np.isfinite(X).all(axis=1)
        X, y = X[complete], labels[complete]
        reach = {}
        for label in np.unique(y[y != NONE]).tolist():
            members = X[y == label]
            if len(members) > 1:
                # Half of it on either side, as the next run may be on the other.
                room = 0.5 * (width - float(np.ptp(members, axis=0).max()))
                reach[label] = max(room, float(_nearest(members, members, neighbour=2)[0].max()))
        # A run that is alone says nothing of how far the next may be: the other groups do.
        typical = float(np.median(list(reach.values()))) if reach else np.inf
        typical = 0.5 * width or typical
        limits = {
            label: max(reach.get(label, typical), ROUNDING)
            for label in np.unique(y[y != NONE]).tolist()
        }
        return cls(scaling, tuple(names), X, y, limits)

    def assign(self, runs: Table) -> Answer:
        """See `Rule`."""
        X, complete, reasons = self._matrix(runs)
        labels = np.full(len(X), NONE, dtype=np.int64)
        distance, nearest = _nearest(self.X, X[complete])
        for row, d, found in zip(np.flatnonzero(complete), distance, self.y[nearest], strict=True):
            label = int(found)
            if label == NONE:
                reasons[row] = "the run most like it is in no group"
            elif d > self.limits[label] + ROUNDING:
                reasons[row] = _too_far(d, self.limits[label], "the nearest run")
            else:
                labels[row] = label
        return labels, reasons

    def relabelled(self, labels: Mapping[int, int]) -> NearestRun:
        """See `Rule`."""
        y = np.array([labels.get(label, NONE) for label in self.y.tolist()], dtype=np.int64)
        limits: dict[int, float] = {}
        for old, limit in self.limits.items():
            new = labels.get(old, NONE)
            if new != NONE:
                limits[new] = max(limit, limits.get(new, 0.0))
        return replace(self, y=y, limits=limits)

    def record(self) -> dict[str, Any]:
        """See `Rule`."""
        table = Table(self.X, names=self.names)
        table["label"] = self.y
        return self._head(self.kind) | {"limits": dict(self.limits), "runs": table}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> NearestRun:
        """See `Rule`."""
        _RUNS(record, ())
        table, names = record["runs"], tuple(record["features"])
        require(isinstance(table, Table) and len(table), "runs: expected a table of runs")
        check_columns(table, whole=["label"], numbers=names)
        X = np.column_stack([np.asarray(table[name], dtype=float) for name in names])
        limits = {int(label): float(limit) for label, limit in record["limits"].items()}
        y = np.asarray(table["label"], dtype=np.int64)
        without = {int(label) for label in np.unique(y)} - {NONE, *limits}
        require(not without, f"limits: none of group {', '.join(map(str, sorted(without)))}")
        return cls(record["scaling"], names, X, y, limits)


@dataclass(frozen=True, eq=False)
class NearestCentroid(FeatureSpaceRule):
    """The group whose centre is nearest, if it is not further away than its runs were.

    Parameters
    ----------
    scaling, names
        See the other rules.
    centroids : `~numpy.ndarray`
        Scaled features, shape (n_centroids, n_features).
    y : `~numpy.ndarray`
        Label of each centroid, shape (n_centroids,).
    limits : `~numpy.ndarray`
        Largest distance from each centroid, shape (n_centroids,).
    """

    centroids: Array
    y: Labels
    limits: Array
    kind: ClassVar[str] = "nearest-centroid"

    @classmethod
    def fit(
        cls, scaling: Mapping[str, Any] | None, names: Sequence[str], centroids: Array, X: Array
    ) -> NearestCentroid:
        """Rule with a label per centroid, from 1, and limits that these runs keep."""
        distance, nearest = _nearest(centroids, X)
        reach = np.zeros(len(centroids))
        np.maximum.at(reach, nearest, distance)
        typical = float(np.median(reach[reach > 0])) if (reach > 0).any() else np.inf
        limits = np.where(reach > 0, reach, typical)
        y = np.arange(1, len(centroids) + 1)
        return cls(scaling, tuple(names), np.asarray(centroids, dtype=float), y, limits)

    def assign(self, runs: Table) -> Answer:
        """See `Rule`."""
        X, complete, reasons = self._matrix(runs)
        labels = np.full(len(X), NONE, dtype=np.int64)
        distance, nearest = _nearest(self.centroids, X[complete])
        for row, d, k in zip(np.flatnonzero(complete), distance, nearest, strict=True):
            if self.y[k] == NONE:
                reasons[row] = "what it is most like is no group"
            elif d > self.limits[k] + ROUNDING:
                reasons[row] = _too_far(d, self.limits[k], "the nearest centre")
            else:
                labels[row] = self.y[k]
        return labels, reasons

    def relabelled(self, labels: Mapping[int, int]) -> NearestCentroid:
        """See `Rule`."""
        return replace(self, y=np.array([labels.get(k, NONE) for k in self.y.tolist()]))

    def record(self) -> dict[str, Any]:
        """See `Rule`."""
        centroids = [
            {"label": int(label), "limit": float(limit), "center": center.tolist()}
            for label, limit, center in zip(self.y, self.limits, self.centroids, strict=True)
        ]
        return self._head(self.kind) | {"centroids": centroids}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> NearestCentroid:
        """See `Rule`."""
        _CENTROIDS(record, ())
        items, n_features = record["centroids"], len(record["features"])
        good = all(len(item["center"]) == n_features for item in items)
        require(good, f"a center that has not the {n_features} features")
        return cls(
            record["scaling"],
            tuple(record["features"]),
            np.array([item["center"] for item in items], dtype=float),
            np.array([item["label"] for item in items], dtype=np.int64),
            np.array([item["limit"] for item in items], dtype=float),
        )


# How far a run may be, which is nowhere where no run said so.
_LIMIT = number(0, finite=False)
_RUNS = mapping(HEAD | {"limits": mapping_of(_LIMIT, key=LABEL), "runs": any_value})
_CENTROID = mapping({"label": LABEL, "limit": _LIMIT, "center": list_of(number())})
_CENTROIDS = mapping(HEAD | {"centroids": list_of(_CENTROID, at_least=1)})


def _nearest(points: Array, X: Array, neighbour: int = 1) -> tuple[Array, Labels]:
    """Distance and number of the nearest point, or of the second nearest and so on."""
    # Slow to load; a tree of runs that are only shown does without.
    from scipy.spatial import cKDTree

    distance, number = cKDTree(points).query(X, k=[neighbour])
    return np.asarray(distance)[:, 0], np.asarray(number)[:, 0]


def _too_far(distance: float, limit: float, what: str) -> str:
    return f"{distance:.3g} from {what} in scaled features, where at most {limit:.3g} was seen"
