"""How a new run finds its group: the part of a grouping that lasts.

==================  ===============================================================================
rule                a run belongs to the group
==================  ===============================================================================
`Cells`             whose intervals and categories it falls into (cuts, epochs)
`NearestRun`        of the run that is most like it (trees, density, information, spread)
`NearestCentroid`   whose centre is nearest (k-means)
`Mixture`           that most probably made it (Gaussian mixture)
`Nested`            that another rule finds among those of its epoch, telescope pattern, ...
==================  ===============================================================================

A run that is unlike all that were there when the groups were made fits none: it is labelled -1, and
the note says why.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol

import numpy as np
from astropy import units as u
from astropy.table import Table
from numpy.typing import NDArray
from scipy.linalg import solve_triangular
from scipy.spatial import cKDTree

from obscluster.exceptions import RequestError, unknown_name
from obscluster.features.scaling import apply_scaling
from obscluster.files.ecsv import check_columns
from obscluster.files.records import (
    Check,
    RecordError,
    any_value,
    list_of,
    mapping,
    mapping_of,
    number,
    one_of,
    optional,
    require,
    text,
    whole,
)
from obscluster.values.columns import full_turn, is_numeric, numbers

__all__ = [
    "NONE",
    "ROUNDING",
    "RULES",
    "Answer",
    "Array",
    "Bins",
    "Categories",
    "Cells",
    "FeatureSpaceRule",
    "Labels",
    "Mixture",
    "NearestCentroid",
    "NearestRun",
    "Nested",
    "Rule",
    "rule_from_record",
]

__all__ += ["HEAD", "LABEL", "UNASSIGNED", "column_of", "texts_of", "unit_text"]

UNASSIGNED = -1
"""Label of runs that belong to no group."""

Array = NDArray[np.float64]
Labels = NDArray[np.int64]
Answer = tuple[Labels, list[str]]

NONE = -1
"""Label of a run that fits no group."""
ROUNDING = 1e-9
"""Scaled distances that differ by less are the same but for rounding."""


def unit_text(value: Any, at: tuple[str | int, ...]) -> None:
    """A unit that astropy knows, see `obscluster.files.records`."""
    text(value, at)
    try:
        u.Unit(value)
    except (TypeError, ValueError):
        raise RecordError(f"{'.'.join(map(str, at))}: {value[:40]!r} is no unit") from None


LABEL = whole(NONE, 10**9)
"""Label of a group in a record."""

_CONSTANTS = mapping(
    {
        "center": number(finite=False),
        "scale": number(finite=False),
        "unit": unit_text,
    },
    {"weight": number(), "log": one_of(True, False)},
)
HEAD: dict[str, Check] = {
    "features": list_of(text, at_least=1),
    "scaling": optional(mapping({"constants": mapping_of(_CONSTANTS, key=text)})),
}
"""What records of rules that compare scaled features have."""


class Rule(Protocol):
    """What every rule can do."""

    kind: ClassVar[str]

    def assign(self, runs: Table) -> Answer:
        """Label of each run, -1 where it fits none, and why, shape (n_obs,) each.

        Parameters
        ----------
        runs : `~astropy.table.Table`
            The features and columns that the rule needs, in units.
        """

    def relabelled(self, labels: Mapping[int, int]) -> Rule:
        """The same rule with other labels; -1 for groups that are no more."""

    def record(self) -> dict[str, Any]:
        """Plain content, in which long matrices are tables."""

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Rule:
        """The rule that was recorded.

        Raises
        ------
        RecordError
            If the record is not that of such a rule.
        """


@dataclass(frozen=True, eq=False)
class FeatureSpaceRule:
    """Rules that compare scaled features.

    Parameters
    ----------
    scaling : mapping or None
        Constants for `~obscluster.features.scaling.apply_scaling`; None if features are taken as
        they are.
    names : tuple of str
        Scaled features, the columns of the matrix.
    """

    scaling: Mapping[str, Any] | None
    names: tuple[str, ...]

    def _matrix(self, runs: Table) -> tuple[Array, NDArray[np.bool_], list[str]]:
        """Scaled features, which runs have them all, and why the others do not."""
        scaled = runs if self.scaling is None else apply_scaling(runs, self.scaling)
        X = np.column_stack([numbers(column_of(scaled, name)) for name in self.names])
        reasons = []
        for row in X:
            missing = [n for n, v in zip(self.names, row, strict=True) if np.isnan(v)]
            unlike = [n for n, v in zip(self.names, row, strict=True) if np.isinf(v)]
            reason = f"no {', '.join(missing)}" if missing else ""
            if unlike and not missing:
                reason = f"{', '.join(unlike)} had the same value in all runs before, not this one"
            reasons.append(reason)
        return X, np.asarray(np.isfinite(X).all(axis=1)), reasons

    def _head(self, kind: str) -> dict[str, Any]:
        return {"kind": kind, "features": list(self.names), "scaling": self.scaling}


def texts_of(runs: Table, name: str) -> list[str]:
    """Values of a column as text, empty where there is none; whole numbers without a point."""
    column = column_of(runs, name)
    if is_numeric(column):
        return [f"{value:.12g}" if np.isfinite(value) else "" for value in numbers(column)]
    return ["" if np.ma.is_masked(value) else str(value).strip() for value in column]


def column_of(runs: Table, name: str) -> Any:
    if name not in runs.colnames:
        raise RequestError(unknown_name("column", name, runs.colnames))
    return runs[name]


@dataclass(frozen=True)
class Bins:
    """Intervals of a quantity; each holds its lower edge.

    Parameters
    ----------
    name : str
        Column.
    edges : tuple of float
        Rising, in the unit; the outer ones may be infinite.
    unit : str
        Unit of the edges.
    """

    name: str
    edges: tuple[float, ...]
    unit: str = ""

    def cells(self, runs: Table) -> tuple[Labels, list[str]]:
        """Number of the interval of each run, from 0, and why there is none."""
        column = column_of(runs, self.name)
        values = numbers(column, u.Unit(self.unit))
        turn = full_turn(self.name, column)
        if turn is not None:
            start = self.edges[0] if np.isfinite(self.edges[0]) else 0.0
            values = np.where(np.isfinite(values), start + np.mod(values - start, turn), np.nan)
        cells = np.digitize(values, self.edges) - 1
        outside = (cells < 0) | (cells >= len(self.edges) - 1)
        missing = ~np.isfinite(values)
        cells = np.where(outside | missing, NONE, cells).astype(np.int64)
        lo, hi = self.edges[0], self.edges[-1]
        reasons = []
        for value, is_missing, is_outside in zip(values, missing, outside, strict=True):
            reason = ""
            if is_missing:
                reason = f"no {self.name}"
            elif is_outside:
                shown = f"{self.name} = {value:.4g} {self.unit}".rstrip()
                reason = f"{shown} is outside the edges {lo:.4g} to {hi:.4g}"
            reasons.append(reason)
        return cells, reasons

    def name_of(self, cell: int) -> str:
        """The interval in words."""
        lo, hi, unit = self.edges[cell], self.edges[cell + 1], f" {self.unit}" if self.unit else ""
        if not np.isfinite(lo):
            return f"{self.name} below {hi:g}{unit}" if np.isfinite(hi) else f"any {self.name}"
        if not np.isfinite(hi):
            return f"{self.name} from {lo:g}{unit}"
        return f"{self.name} {lo:g} to {hi:g}{unit}"


@dataclass(frozen=True)
class Categories:
    """Values of a column that are told apart.

    Parameters
    ----------
    name : str
        Column.
    values : tuple of str
        Its values, as text.
    """

    name: str
    values: tuple[str, ...]

    def cells(self, runs: Table) -> tuple[Labels, list[str]]:
        """Number of the value of each run, from 0, and why there is none."""
        number_of = {value: number for number, value in enumerate(self.values)}
        texts = texts_of(runs, self.name)
        cells = np.array([number_of.get(value, NONE) for value in texts], dtype=np.int64)
        reasons = [
            ""
            if value in number_of
            else (f"{self.name} = {value} was not there before" if value else f"no {self.name}")
            for value in texts
        ]
        return cells, reasons

    def name_of(self, cell: int) -> str:
        """The value in words."""
        return f"{self.name} {self.values[cell]}"


@dataclass(frozen=True)
class Cells:
    """Groups that are cells of one or several quantities.

    Parameters
    ----------
    axes : tuple of `Bins` or `Categories`
        The quantities.
    labels : mapping
        Cell, a number per axis, to label.
    """

    axes: tuple[Bins | Categories, ...]
    labels: Mapping[tuple[int, ...], int]
    kind: ClassVar[str] = "cells"

    def cells(self, runs: Table) -> tuple[Labels, list[str]]:
        """Cell of each run, shape (n_obs, n_axes), -1 where there is none, and why."""
        found = [axis.cells(runs) for axis in self.axes]
        reasons = [
            "; ".join(reason for reason in reasons if reason)
            for reasons in zip(*(reasons for _, reasons in found), strict=True)
        ]
        return np.column_stack([cells for cells, _ in found]), reasons

    def assign(self, runs: Table) -> Answer:
        """See `Rule`."""
        cells, reasons = self.cells(runs)
        labels = np.full(len(runs), NONE, dtype=np.int64)
        for row, cell in enumerate(map(tuple, cells.tolist())):
            if NONE in cell:
                continue
            labels[row] = self.labels.get(cell, NONE)
            if cell not in self.labels:
                reasons[row] = f"no run was in {self.name_of(cell)} before"
            elif labels[row] == NONE:
                reasons[row] = f"{self.name_of(cell)} is no group"
        return labels, reasons

    def name_of(self, cell: Sequence[int]) -> str:
        """A cell in words."""
        names = [axis.name_of(number) for axis, number in zip(self.axes, cell, strict=True)]
        return ", ".join(names)

    def relabelled(self, labels: Mapping[int, int]) -> Cells:
        """See `Rule`."""
        return replace(
            self, labels={cell: labels.get(old, NONE) for cell, old in self.labels.items()}
        )

    def record(self) -> dict[str, Any]:
        """See `Rule`."""
        axes = [
            {"column": axis.name, "edges": list(axis.edges), "unit": axis.unit}
            if isinstance(axis, Bins)
            else {"column": axis.name, "values": list(axis.values)}
            for axis in self.axes
        ]
        cells = [{"cell": list(cell), "label": label} for cell, label in self.labels.items()]
        return {"kind": self.kind, "axes": axes, "cells": cells}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Cells:
        """See `Rule`."""
        _CELLS_RECORD(record, ())
        axes = tuple(
            Bins(axis["column"], tuple(map(float, axis["edges"])), axis["unit"])
            if "edges" in axis
            else Categories(axis["column"], tuple(map(str, axis["values"])))
            for axis in record["axes"]
        )
        n_cells = [
            len(axis.edges) - 1 if isinstance(axis, Bins) else len(axis.values) for axis in axes
        ]
        for axis in axes:
            rising = isinstance(axis, Categories) or bool((np.diff(axis.edges) > 0).all())
            require(rising, f"edges of {axis.name}: expected numbers that rise")
        for item in record["cells"]:
            cell = item["cell"]
            inside = len(cell) == len(axes) and all(map(int.__lt__, cell, n_cells))
            require(
                inside, f"cell {cell[:5]}: not one of {' times '.join(map(str, n_cells))} cells"
            )
        return cls(axes, {tuple(item["cell"]): int(item["label"]) for item in record["cells"]})


def _is_axis(value: Any, at: tuple[str | int, ...]) -> None:
    if isinstance(value, Mapping) and "edges" in value:
        _BINS(value, at)
    else:
        _CATEGORIES(value, at)


_EDGES = list_of(number(finite=False), at_least=2)
_BINS = mapping({"column": text, "edges": _EDGES, "unit": unit_text})
_CATEGORIES = mapping({"column": text, "values": list_of(text)})
_CELL = mapping({"cell": list_of(whole(0)), "label": LABEL})
_CELLS_RECORD = mapping({"axes": list_of(_is_axis, at_least=1), "cells": list_of(_CELL)})


@dataclass(frozen=True, eq=False)
class Mixture(FeatureSpaceRule):
    """The normal distribution that most probably made the run.

    A run fits if the mixture is no thinner there than where its thinnest run was.

    Parameters
    ----------
    scaling, names
        See the other rules.
    weights : `~numpy.ndarray`
        Of the components, shape (n_components,).
    means : `~numpy.ndarray`
        Shape (n_components, n_features).
    covariances : `~numpy.ndarray`
        Shape (n_components, n_features, n_features).
    y : `~numpy.ndarray`
        Label of each component, shape (n_components,).
    floor : float
        Lowest logarithm of the density.
    """

    weights: Array
    means: Array
    covariances: Array
    y: Labels
    floor: float
    kind: ClassVar[str] = "mixture"

    def log_densities(self, X: Array) -> Array:
        """Logarithm of weight times density, shape (n_obs, n_components)."""
        columns = []
        for weight, mean, covariance in zip(
            self.weights, self.means, self.covariances, strict=True
        ):
            root = np.linalg.cholesky(covariance)
            whitened = solve_triangular(root, (X - mean).T, lower=True)
            constant = np.log(weight) - np.log(np.diag(root)).sum()
            constant -= 0.5 * len(mean) * np.log(2 * np.pi)
            columns.append(constant - 0.5 * (whitened**2).sum(axis=0))
        return np.column_stack(columns)

    def assign(self, runs: Table) -> Answer:
        """See `Rule`."""
        X, complete, reasons = self._matrix(runs)
        labels = np.full(len(X), NONE, dtype=np.int64)
        densities = self.log_densities(X[complete])
        total = np.logaddexp.reduce(densities, axis=1)
        likeliest = densities.argmax(axis=1)
        for row, k, density in zip(np.flatnonzero(complete), likeliest, total, strict=True):
            if self.y[k] == NONE:
                reasons[row] = "what it is most like is no group"
            elif density < self.floor - ROUNDING:
                text = f"log density {density:.3g}, lower than that of any run before"
                reasons[row] = f"{text}, {self.floor:.3g}"
            else:
                labels[row] = self.y[k]
        return labels, reasons

    def relabelled(self, labels: Mapping[int, int]) -> Mixture:
        """See `Rule`."""
        return replace(self, y=np.array([labels.get(k, NONE) for k in self.y.tolist()]))

    def record(self) -> dict[str, Any]:
        """See `Rule`."""
        components = [
            {
                "label": int(label),
                "weight": float(weight),
                "mean": mean.tolist(),
                "covariance": covariance.tolist(),
            }
            for label, weight, mean, covariance in zip(
                self.y, self.weights, self.means, self.covariances, strict=True
            )
        ]
        return self._head(self.kind) | {"components": components, "floor": self.floor}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Mixture:
        """See `Rule`."""
        _MIXTURE_RECORD(record, ())
        items, n_features = record["components"], len(record["features"])
        for item in items:
            rows = [item["mean"], *item["covariance"]]
            good = len(rows) == n_features + 1 and all(len(row) == n_features for row in rows)
            require(good, f"a component with a mean and covariance not of {n_features} features")
            require(_is_positive(item["covariance"]), "a covariance that is not positive definite")
        return cls(
            record["scaling"],
            tuple(record["features"]),
            np.array([item["weight"] for item in items], dtype=float),
            np.array([item["mean"] for item in items], dtype=float),
            np.array([item["covariance"] for item in items], dtype=float),
            np.array([item["label"] for item in items], dtype=np.int64),
            float(record["floor"]),
        )


def _is_positive(covariance: list[list[float]]) -> bool:
    """Whether a matrix is that of a normal distribution."""
    matrix = np.array(covariance, dtype=float)
    try:
        np.linalg.cholesky(matrix)
    except np.linalg.LinAlgError:
        return False
    return np.allclose(matrix, matrix.T)


_NUMBERS = list_of(number())
_COMPONENT = mapping(
    {"label": LABEL, "weight": number(0), "mean": _NUMBERS, "covariance": list_of(_NUMBERS)}
)
_MIXTURE_RECORD = mapping(HEAD | {"components": list_of(_COMPONENT, at_least=1), "floor": number()})


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
    distance, number = cKDTree(points).query(X, k=[neighbour])
    return np.asarray(distance)[:, 0], np.asarray(number)[:, 0]


def _too_far(distance: float, limit: float, what: str) -> str:
    return f"{distance:.3g} from {what} in scaled features, where at most {limit:.3g} was seen"


@dataclass(frozen=True)
class Nested:
    """A rule within each part that another rule finds.

    Parameters
    ----------
    outer : `~obscluster.grouping.rules.Rule`
        Finds the part.
    inner : mapping
        Part to its rule.
    """

    outer: Rule
    inner: Mapping[int, Rule]
    kind: ClassVar[str] = "nested"

    def assign(self, runs: Table) -> Answer:
        """See `Rule`."""
        parts, reasons = self.outer.assign(runs)
        labels = np.full(len(runs), NONE, dtype=np.int64)
        for part, rule in self.inner.items():
            rows = np.flatnonzero(parts == part)
            if len(rows):
                labels[rows], inside = rule.assign(runs[rows])
                for row, reason in zip(rows, inside, strict=True):
                    reasons[row] = reason
        return labels, reasons

    def relabelled(self, labels: Mapping[int, int]) -> Nested:
        """See `Rule`."""
        return replace(self, inner={k: rule.relabelled(labels) for k, rule in self.inner.items()})

    def record(self) -> dict[str, Any]:
        """See `Rule`."""
        return {
            "kind": self.kind,
            "outer": self.outer.record(),
            "inner": {part: rule.record() for part, rule in self.inner.items()},
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Nested:
        """See `Rule`."""
        _NESTED_RECORD(record, ())
        inner = {int(k): rule_from_record(r) for k, r in record["inner"].items()}
        return cls(rule_from_record(record["outer"]), inner)


_RULE = mapping({"kind": text})
_NESTED_RECORD = mapping({"outer": _RULE, "inner": mapping_of(_RULE, key=LABEL)})

RULES: dict[str, type[Rule]] = {
    rule.kind: rule for rule in (Cells, NearestRun, NearestCentroid, Mixture, Nested)
}
"""Rules by their name in groups.yaml."""


def rule_from_record(record: Mapping[str, Any]) -> Rule:
    """The rule that a record describes.

    Raises
    ------
    RequestError
        If it is of an unknown kind.
    """
    kind = str(record["kind"])
    if kind not in RULES:
        raise RequestError(unknown_name("assignment rule", kind, RULES))
    return RULES[kind].from_record(record)
