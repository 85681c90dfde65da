"""Feature table to matrix: units end here, and it is decided how much a difference counts.

==============  ==================================================================
scaling         a difference counts as 1 if it is
==============  ==================================================================
``standard``    the standard deviation of all runs
``robust``      1.4826 times the median absolute deviation (a standard deviation
                that outliers do not move)
``tolerance``   what the user calls a difference: ``psf-r68: 10%``, ``zenith: 5 deg``
``none``        1, in the unit of the feature
==============  ==================================================================

Beside these, a feature can be taken as its logarithm, and has a weight that multiplies its
differences.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from astropy import units as u
from astropy.table import QTable, Table
from numpy.typing import NDArray

from obscluster.exceptions import RequestError, unknown_name
from obscluster.values.columns import full_turn, is_numeric, numbers
from obscluster.values.tolerance import parse_tolerance

__all__ = [
    "NOT_FEATURES",
    "SCALINGS",
    "apply_scaling",
    "feature_matrix",
    "feature_names",
    "is_constant",
    "period_of",
    "scale_features",
    "standard_scaler",
    "unroll_cyclic",
    "unscale",
]

NOT_FEATURES = ("obs_id", "dataset_name", "label", "labels", "group_id", "notes")
"""Columns of a feature table that are not features, here or in Gammapy's, in lower case."""
# A feature whose relative spread is below this varies by rounding errors only.
_ROUNDING = 1e-12
# Median absolute deviation of a normal distribution of unit width, inverted.
_MAD_TO_SIGMA = 1.482602218505602

Array = NDArray[np.float64]


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


def feature_matrix(features: Table) -> tuple[Array, list[str]]:
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
        turn = period_of(name, features[name])
        if turn is None:
            continue
        angle = numbers(features[name]) * (2 * np.pi / turn)
        place = unrolled.colnames.index(name)
        description = features[name].info.description or name
        unrolled.remove_column(name)
        for word, function in (("cos", np.cos), ("sin", np.sin)):
            unrolled.add_column(u.Quantity(function(angle)), index=place, name=f"{name}-{word}")
            unrolled[f"{name}-{word}"].info.description = f"{description}, {word}ine"
            unrolled[f"{name}-{word}"].info.meta = {"feature": name, "radian": 2 * np.pi / turn}
    return unrolled


def period_of(name: str, column: Any) -> float | None:
    """After which value a feature starts again, from its meta or its name; None if it does not."""
    meta = column.info.meta or {}
    return float(meta["period"]) if "period" in meta else full_turn(name, column)


def _standard(values: Array) -> tuple[float, float]:
    return float(values.mean()), float(values.std())


def _robust(values: Array) -> tuple[float, float]:
    center = float(np.median(values))
    scale = _MAD_TO_SIGMA * float(np.median(np.abs(values - center)))
    # More than half of the runs are the same: the rest still differ.
    return center, scale if scale > 0 else float(values.std())


SCALINGS: dict[str, Callable[[Array], tuple[float, float]] | None] = {
    "standard": _standard,
    "robust": _robust,
    "tolerance": None,
    "none": None,
}
"""Scaling to what gives centre and scale of the known values, where these decide."""


def scale_features(
    features: Table,
    method: str = "standard",
    tolerances: Mapping[str, Any] | None = None,
    weights: Mapping[str, float] | None = None,
    log: Iterable[str] = (),
) -> QTable:
    """Features as numbers whose differences can be compared.

    Missing values stay missing and do not count. A feature that does not vary becomes zero. Cyclic
    ones become sine and cosine first.

    Parameters
    ----------
    features : `~astropy.table.Table`
        Feature table, see `~obscluster.features.table.get_features`.
    method : {"standard", "robust", "tolerance", "none"}
        What counts as a difference of 1.
    tolerances : mapping, optional
        For ``tolerance``: feature to what counts as 1, such as ``"10%"`` or ``"0.01 deg"``.
        Per cent are steps of the logarithm: from 1 to 1.1 it is 1, from 1 to 1.21 it is 2.
    weights : mapping, optional
        Feature to a factor for its differences, 1 unless told.
    log : iterable of str
        Features of which the logarithm is taken first.

    Returns
    -------
    scaled : `~astropy.table.QTable`
        The same columns, the features without unit. ``meta["scaling"]`` holds the constants of
        each, in its unit, for `apply_scaling`.

    Raises
    ------
    RequestError
        If the method or a feature is unknown, a tolerance or weight is missing or not usable, or
        the logarithm is asked of values that are not positive.
    """
    if method not in SCALINGS:
        raise RequestError(unknown_name("scaling", method, SCALINGS))
    tolerances, weights, log = dict(tolerances or {}), dict(weights or {}), set(log)
    _check_names(features, method, tolerances, weights, log)
    unrolled = unroll_cyclic(features)
    constants: dict[str, dict[str, Any]] = {}
    for name in feature_names(unrolled):
        column = unrolled[name]
        meta = column.info.meta or {}
        asked = meta.get("feature", name)
        unit = column.unit or u.one
        values = numbers(column)
        known = values[np.isfinite(values)]
        takes_log = asked in log
        center, scale = 0.0, 1.0
        if method == "tolerance":
            given_unit = features[asked].unit or u.one
            tolerance = parse_tolerance(tolerances[asked], given_unit, asked)
            takes_log = takes_log or tolerance.relative
            step = np.log1p(tolerance.value) if tolerance.relative else tolerance.value
            # An angle is seen through its sine and cosine, whose differences are radians.
            scale = step * meta.get("radian", 1.0)
        if takes_log:
            known = _log_of(known, asked)
        fit = SCALINGS[method]
        if fit is not None and is_constant(known):
            center, scale = float(known[0]), 0.0
        elif fit is not None:
            center, scale = fit(known) if len(known) else (np.nan, np.nan)
        constants[name] = {"center": center, "scale": scale, "unit": str(unit)}
        constants[name] |= {"log": True} if takes_log else {}
        constants[name] |= {"weight": float(weights[asked])} if asked in weights else {}
    return apply_scaling(features, {"method": method, "constants": constants})


def standard_scaler(features: Table) -> QTable:
    """Features of zero mean and unit variance, by Gammapy's name.

    As `scale_features` with its defaults.

    Parameters
    ----------
    features : `~astropy.table.Table`
        Feature table, see `~obscluster.features.table.get_features`.

    Returns
    -------
    scaled : `~astropy.table.QTable`
        See `scale_features`.
    """
    return scale_features(features)


def apply_scaling(features: Table, scaling: Mapping[str, Any]) -> QTable:
    """Scale features by constants that were found before, usually from other runs.

    Parameters
    ----------
    features : `~astropy.table.Table`
        Feature table with, at least, the features that were scaled.
    scaling : mapping
        ``meta["scaling"]`` of a scaled table.

    Returns
    -------
    scaled : `~astropy.table.QTable`
        Features as numbers; one without variation becomes zero, as long as it has that value, and
        infinite otherwise.

    Raises
    ------
    RequestError
        If a feature is missing or has another unit.
    """
    scaled = unroll_cyclic(features)
    for name, constants in scaling["constants"].items():
        if name not in scaled.colnames:
            raise RequestError(unknown_name("feature", name, feature_names(scaled)))
        description = scaled[name].info.description or name
        try:
            values = numbers(scaled[name], u.Unit(constants["unit"]))
        except u.UnitsError as error:
            raise RequestError(f"feature {name}: {error}") from None
        scaled[name] = u.Quantity(_scaled(values, constants))
        scaled[name].info.description = f"{description}, scaled"
    scaled.meta["scaling"] = {**scaling}
    return scaled


def unscale(X: Array, scaling: Mapping[str, Any], names: Iterable[str]) -> Array:
    """Values in the units of the features, from scaled ones.

    Parameters
    ----------
    X : `~numpy.ndarray`
        Scaled values, shape (..., n_features).
    scaling : mapping
        ``meta["scaling"]`` of the scaled table.
    names : iterable of str
        Names of the features, of scaled columns: an angle is its sine and cosine.
    """
    columns = []
    for value, name in zip(np.moveaxis(np.asarray(X, dtype=float), -1, 0), names, strict=True):
        constants = scaling["constants"][name]
        value = constants["center"] + constants["scale"] * value / constants.get("weight", 1.0)
        columns.append(np.exp(value) if constants.get("log") else value)
    return np.stack(columns, axis=-1)


def is_constant(values: NDArray[np.float64]) -> bool:
    """Whether numbers differ by rounding errors at most."""
    return len(values) > 0 and bool(np.ptp(values) <= _ROUNDING * np.abs(values).max())


def _scaled(values: Array, constants: Mapping[str, Any]) -> Array:
    center, scale = constants["center"], constants["scale"]
    with np.errstate(invalid="ignore", divide="ignore"):
        if constants.get("log"):
            values = np.log(np.where(values > 0, values, np.nan))
        if scale == 0:
            far = np.abs(values - center) > 1e3 * _ROUNDING * max(abs(center), 1e-300)
            none = np.where(far, np.copysign(np.inf, values - center), 0.0)
            return np.where(np.isfinite(values), none, np.nan)
        result = (values - center) / scale * constants.get("weight", 1.0)
    return np.where(np.isfinite(values), result, np.nan)


def _log_of(values: Array, name: str) -> Array:
    if not (values > 0).all():
        raise RequestError(
            f"{name} has values that are not positive, the lowest {values.min():.4g}: they have no "
            "logarithm and no percentage; give it an absolute tolerance, or leave it out of the "
            "logarithms"
        )
    return np.log(values)


def _check_names(
    features: Table,
    method: str,
    tolerances: Mapping[str, Any],
    weights: Mapping[str, float],
    log: set[str],
) -> None:
    names = feature_names(features)
    for what, given in (("tolerance", tolerances), ("weight", weights), ("logarithm", log)):
        for name in given:
            if name not in names:
                raise RequestError(unknown_name(f"feature with a {what}", name, names))
    if tolerances and method != "tolerance":
        raise RequestError(f"tolerances are given, but the scaling is {method!r}; use 'tolerance'")
    missing = [name for name in names if name not in tolerances]
    if method == "tolerance" and missing:
        raise RequestError(
            f"no tolerance for {', '.join(missing)}; say what difference counts as 1, for every "
            "feature"
        )
    for name, weight in weights.items():
        if not (float(weight) > 0 and np.isfinite(float(weight))):
            raise RequestError(f"weight {weight} of {name}; expected a number above zero")
    cyclic = [name for name in log if period_of(name, features[name]) is not None]
    if cyclic:
        raise RequestError(f"{cyclic[0]} is an angle that starts again: it has no logarithm")
