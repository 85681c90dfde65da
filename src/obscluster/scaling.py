"""Feature table to matrix: units end here, and every feature counts alike."""

from __future__ import annotations

from typing import Any

import numpy as np
from astropy import units as u
from astropy.table import QTable, Table
from numpy.typing import NDArray

from obscluster.exceptions import RequestError

__all__ = ["feature_matrix", "feature_names", "standard_scaler"]

# Columns of a feature table that are not features, in Gammapy's tables or here.
_NOT_FEATURES = ("obs_id", "dataset_name", "labels", "notes")


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
        if name not in _NOT_FEATURES and features[name].dtype.kind in "fiu"
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
    return np.column_stack([_values(features[name]) for name in names]), names


def standard_scaler(features: Table) -> QTable:
    """Features of zero mean and unit variance.

    Missing values stay missing and do not count. A feature that does not vary becomes zero.

    Parameters
    ----------
    features : `~astropy.table.Table`
        Feature table, see `~obscluster.features.table.get_irfs_features`.

    Returns
    -------
    scaled : `~astropy.table.QTable`
        The same columns, the features without unit. ``meta["scaling"]`` holds the mean and the
        standard deviation of each, in its unit.
    """
    scaled = QTable(features, copy=True)
    constants: dict[str, dict[str, Any]] = {}
    for name in feature_names(features):
        values = _values(features[name])
        known = values[np.isfinite(values)]
        mean = float(known.mean()) if len(known) else np.nan
        std = float(known.std()) if len(known) else np.nan
        # Rounding of the mean leaves a constant feature with a spread of a few last digits.
        constant = len(known) > 0 and bool(np.ptp(known) == 0)
        centred = np.where(np.isfinite(values), values - mean, np.nan)
        scaled[name] = u.Quantity(centred * 0.0 if constant else centred / std)
        scaled[name].info.description = f"{features[name].info.description or name}, standardised"
        unit = features[name].unit or u.one
        constants[name] = {"mean": mean, "std": 0.0 if constant else std, "unit": str(unit)}
    scaled.meta["scaling"] = {"method": "standard", "constants": constants}
    return scaled


def _values(column: Any) -> NDArray[np.float64]:
    """Plain numbers of a column, NaN where masked."""
    plain = column.value if isinstance(column, u.Quantity) else column
    return np.ma.filled(np.ma.asarray(plain).astype(float), np.nan)
