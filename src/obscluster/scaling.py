"""Feature table to matrix: units end here, and every feature counts alike."""

from __future__ import annotations

from typing import Any

import numpy as np
from astropy import units as u
from astropy.table import QTable, Table
from numpy.typing import NDArray

from obscluster.columns import full_turn, is_numeric, numbers
from obscluster.exceptions import RequestError

__all__ = [
    "NOT_FEATURES",
    "feature_matrix",
    "feature_names",
    "is_constant",
    "standard_scaler",
    "unroll_cyclic",
]

NOT_FEATURES = ("obs_id", "dataset_name", "label", "labels", "group_id", "notes")
"""Columns of a feature table that are not features, here or in Gammapy's, in lower case."""
# A feature whose relative spread is below this varies by rounding errors only.
_ROUNDING = 1e-12


def feature_names(features: Table) -> list[str]:
    """Names of the feature columns: all numeric ones but the identifier and the labels.

    Raises
    ------
    RequestError
        If there is none.
    """
    names = [
        name
        for name in features.colnames
        if name.lower() not in NOT_FEATURES and is_numeric(features[name])
    ]
    if not names:
        raise RequestError(f"no feature among the columns {', '.join(features.colnames)}")
    return names


def feature_matrix(features: Table) -> tuple[NDArray[np.float64], list[str]]:
    """Numbers of the feature columns.

    Returns
    -------
    X : `~numpy.ndarray`
        Shape (n_obs, n_features), NaN where a value is missing.
    names : list of str
        Names of the columns.
    """
    names = feature_names(features)
    return np.column_stack([numbers(features[name]) for name in names]), names


def unroll_cyclic(features: Table) -> QTable:
    """Replace each cyclic feature by its sine and cosine, so that 359 and 1 deg are close.

    Parameters
    ----------
    features : `~astropy.table.Table`
        Feature table; azimuths and right ascensions are cyclic.

    Returns
    -------
    features : `~astropy.table.QTable`
        A copy with columns such as ``azimuth-sin`` and ``azimuth-cos``.
    """
    unrolled = QTable(features, copy=True)
    for name in feature_names(features):
        turn = _period(name, features[name])
        if turn is None:
            continue
        angle = numbers(features[name]) * (2 * np.pi / turn)
        place = unrolled.colnames.index(name)
        description = features[name].info.description or name
        unrolled.remove_column(name)
        for word, function in (("cos", np.cos), ("sin", np.sin)):
            unrolled.add_column(u.Quantity(function(angle)), index=place, name=f"{name}-{word}")
            unrolled[f"{name}-{word}"].info.description = f"{description}, {word}ine"
    return unrolled


def _period(name: str, column: Any) -> float | None:
    """After which value a feature starts again, from its meta or its name."""
    meta = column.info.meta or {}
    return float(meta["period"]) if "period" in meta else full_turn(name, column)


def standard_scaler(features: Table) -> QTable:
    """Features of zero mean and unit variance.

    Missing values stay missing and do not count. A feature that does not vary becomes zero. Cyclic
    ones become sine and cosine first.

    Parameters
    ----------
    features : `~astropy.table.Table`
        Feature table, see `~obscluster.features.table.get_features`.

    Returns
    -------
    scaled : `~astropy.table.QTable`
        The same columns, the features without unit. ``meta["scaling"]`` holds the mean and the
        standard deviation of each, in its unit.
    """
    scaled = unroll_cyclic(features)
    constants: dict[str, dict[str, Any]] = {}
    for name in feature_names(scaled):
        column = scaled[name]
        unit, description = column.unit or u.one, column.info.description or name
        values = numbers(column)
        known = values[np.isfinite(values)]
        mean = float(known.mean()) if len(known) else np.nan
        std = float(known.std()) if len(known) else np.nan
        if is_constant(known):
            std, centred = 0.0, np.zeros(len(values))
        else:
            centred = (values - mean) / std
        scaled[name] = u.Quantity(np.where(np.isfinite(values), centred, np.nan))
        scaled[name].info.description = f"{description}, standardised"
        constants[name] = {"mean": mean, "std": std, "unit": str(unit)}
    scaled.meta["scaling"] = {"method": "standard", "constants": constants}
    return scaled


def is_constant(values: NDArray[np.float64]) -> bool:
    """Whether numbers differ by rounding errors at most."""
    return len(values) > 0 and bool(np.ptp(values) <= _ROUNDING * np.abs(values).max())
