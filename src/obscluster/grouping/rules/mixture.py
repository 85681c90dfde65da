"""The group that most probably made a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from astropy.table import Table

from obscluster.files.records import list_of, mapping, number, require
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

__all__ = ["Mixture"]


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
        # Slow to load, and only a mixture needs it.
        from scipy.linalg import solve_triangular

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
        _RECORD(record, ())
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
_RECORD = mapping(HEAD | {"components": list_of(_COMPONENT, at_least=1), "floor": number()})
