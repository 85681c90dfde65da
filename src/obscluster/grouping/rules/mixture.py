"""The group that most probably made a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from astropy.table import Table

from obscluster.grouping.rules.base import NONE, ROUNDING, Answer, Array, FeatureSpaceRule, Labels

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
        items = record["components"]
        return cls(
            record["scaling"],
            tuple(record["features"]),
            np.array([item["weight"] for item in items], dtype=float),
            np.array([item["mean"] for item in items], dtype=float),
            np.array([item["covariance"] for item in items], dtype=float),
            np.array([item["label"] for item in items], dtype=np.int64),
            float(record["floor"]),
        )
