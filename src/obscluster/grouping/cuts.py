"""Groups by an observing quantity: at a cut value, between edges, or at quantiles.

A value on a cut belongs to the upper group. Missing values, and those outside the outer edges,
belong nowhere.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from astropy import units as u
from astropy.table import Table
from numpy.typing import ArrayLike, NDArray

from obscluster.columns import full_turn, numbers, require_numbers
from obscluster.exceptions import ObsClusterWarning, RequestError
from obscluster.grouping.base import UNASSIGNED, Grouping

__all__ = ["bin_labels", "group_by_cut", "group_by_edges", "group_by_quantiles"]

STATISTICS: dict[str, Callable[[NDArray[np.float64]], Any]] = {
    "median": np.median,
    "mean": np.mean,
}
"""Cuts that the data define."""

# What people call these columns.
_WORDS = {
    "ZEN_PNT": "zenith",
    "ALT_PNT": "altitude",
    "AZ_PNT": "azimuth",
    "OFFSET_OBJ": "offset",
    "LIVETIME": "livetime",
    "MUONEFF": "muoneff",
}


def bin_labels(values: ArrayLike, edges: ArrayLike) -> NDArray[np.int64]:
    """Bin of each value, numbered from 1 without gaps.

    Parameters
    ----------
    values : array_like
        Numbers, shape (n,); NaN where missing.
    edges : array_like
        Rising bin edges, shape (n_bins + 1,); a bin holds its lower edge. Outer ones may be
        infinite.

    Returns
    -------
    labels : `~numpy.ndarray`
        Shape (n,); -1 outside the edges. Empty bins are not counted.
    """
    return _without_gaps(_bins(np.asarray(values, dtype=float), np.asarray(edges, dtype=float)))


def _bins(values: NDArray[np.float64], edges: NDArray[np.float64]) -> NDArray[np.int64]:
    """Number of the bin of each value, from 1; empty bins count."""
    bins = np.digitize(values, edges).astype(np.int64)
    bins[(bins == 0) | (bins == len(edges)) | ~np.isfinite(values)] = UNASSIGNED
    return bins


def _without_gaps(bins: NDArray[np.int64]) -> NDArray[np.int64]:
    labels = bins.copy()
    inside = bins != UNASSIGNED
    labels[inside] = 1 + np.unique(bins[inside], return_inverse=True)[1]
    return labels


def group_by_cut(table: Table, column: str, cut: Any = "median") -> Grouping:
    """Split at one or several values.

    Parameters
    ----------
    table : `~astropy.table.Table`
        Observation or feature table, with ``OBS_ID`` or ``obs_id``.
    column : str
        Quantity to split.
    cut : "median", "mean", number, `~astropy.units.Quantity`, str such as "30 deg", or a list
        Where; a number without unit is in the unit of the column.

    Returns
    -------
    grouping : `~obscluster.grouping.base.Grouping`
        Groups in rising order of the quantity; two have names such as ``low_zenith``.

    Raises
    ------
    RequestError
        If there is no such column of numbers, a cut is not usable, or no run has a value.
    """
    values, unit = _values(table, column)
    cuts = np.unique([_number(c, values, unit, column) for c in _as_list(cut)])
    if len(cuts) == 0:
        raise RequestError(f"no cut of {column} is given; expected one or more values")
    return _group(table, column, values, unit, np.concatenate([[-np.inf], cuts, [np.inf]]), "cut")


def group_by_edges(table: Table, column: str, edges: Any) -> Grouping:
    """Bins between edges; runs outside belong nowhere.

    Parameters
    ----------
    table, column
        See `group_by_cut`.
    edges : sequence, or `~astropy.units.Quantity`
        Rising values, two or more.
    """
    values, unit = _values(table, column)
    given = np.array([_number(edge, values, unit, column) for edge in _as_list(edges)])
    if len(given) < 2 or (np.diff(given) <= 0).any():
        raise RequestError(f"edges of {column}: {given.tolist()}; expected two or more, rising")
    turn = full_turn(column, table[column])
    if turn is not None:
        # Edges may begin anywhere on the circle, such as at -90 deg.
        values = given[0] + np.mod(values - given[0], turn)
    return _group(table, column, values, unit, given, "edges")


def group_by_quantiles(table: Table, column: str, quantiles: int | Sequence[float]) -> Grouping:
    """Groups of equal numbers of runs, or split at given quantiles.

    Parameters
    ----------
    table, column
        See `group_by_cut`.
    quantiles : int or sequence of float
        Number of groups, or where to cut, between 0 and 1.
    """
    values, unit = _values(table, column)
    if isinstance(quantiles, int | np.integer):
        if quantiles < 1:
            raise RequestError(f"{quantiles} quantile groups of {column}; expected 1 or more")
        fractions = np.arange(1, quantiles) / quantiles
    else:
        fractions = np.asarray(quantiles, dtype=float)
    if not ((fractions > 0) & (fractions < 1)).all():
        raise RequestError(f"quantiles {fractions.tolist()}; expected values between 0 and 1")
    cuts = np.unique(np.quantile(values[np.isfinite(values)], fractions))
    edges = np.concatenate([[-np.inf], cuts, [np.inf]])
    return _group(table, column, values, unit, edges, "quantiles")


def _group(
    table: Table,
    column: str,
    values: NDArray[np.float64],
    unit: u.UnitBase,
    edges: NDArray[np.float64],
    method: str,
) -> Grouping:
    bins = _bins(values, edges)
    # A bin without runs has neither label nor name.
    every_name = _names(column, edges, unit)
    found = np.unique(bins[bins != UNASSIGNED]).tolist()
    names = {label: every_name[number] for label, number in enumerate(found, start=1)}
    if not found:
        raise RequestError(f"no run has {column} within {edges.tolist()} {unit}".rstrip())
    empty = [name for number, name in every_name.items() if number not in found]
    if empty:
        text = f"no run is in {', '.join(empty)}; {len(found)} of {len(every_name)} groups remain"
        warnings.warn(text, ObsClusterWarning, stacklevel=3)
    parameters = {
        "method": method,
        "by": column,
        "edges": [float(edge) for edge in edges if np.isfinite(edge)],
        "unit": unit.to_string(),
    }
    obs_ids = table["obs_id" if "obs_id" in table.colnames else "OBS_ID"]
    return Grouping(np.asarray(obs_ids), _without_gaps(bins), None, parameters, names)


def _names(column: str, edges: NDArray[np.float64], unit: u.UnitBase) -> dict[int, str]:
    """Names of the bins that hold something, such as low_zenith or zenith_20_to_40_deg."""
    word = _WORDS.get(column, column)
    if len(edges) == 3 and not np.isfinite(edges[[0, -1]]).any():
        return {1: f"low_{word}", 2: f"high_{word}"}
    if len(edges) == 2 and not np.isfinite(edges).any():
        return {1: f"all_{word}"}
    suffix = f"_{unit}".replace(" ", "") if unit != u.one else ""
    names = []
    for lo, hi in pairwise(edges):
        if not np.isfinite(lo):
            names.append(f"{word}_below_{hi:g}{suffix}")
        elif not np.isfinite(hi):
            names.append(f"{word}_from_{lo:g}{suffix}")
        else:
            names.append(f"{word}_{lo:g}_to_{hi:g}{suffix}")
    return dict(enumerate(names, start=1))


def _values(table: Table, column: str) -> tuple[NDArray[np.float64], u.UnitBase]:
    content = require_numbers(table, column)
    values = numbers(content)
    if not np.isfinite(values).any():
        raise RequestError(f"no run has a value in column {column}")
    turn = full_turn(column, content)
    return (values if turn is None else np.mod(values, turn)), content.unit or u.one


def _as_list(value: Any) -> list[Any]:
    if isinstance(value, str) or np.ndim(value) == 0:
        return [value]
    return list(value)


def _number(value: Any, values: NDArray[np.float64], unit: u.UnitBase, column: str) -> float:
    if isinstance(value, str) and value in STATISTICS:
        return float(STATISTICS[value](values[np.isfinite(values)]))
    try:
        quantity = u.Quantity(value)
        plain = quantity.unit == u.one and not isinstance(value, u.Quantity)
        number = float(quantity.value if plain else quantity.to_value(unit))
    except (TypeError, ValueError, u.UnitsError):
        wanted = f"in {unit}" if unit != u.one else "without unit"
        raise RequestError(
            f"{value!r} is no value of {column}; give a number {wanted}, or one of "
            f"{', '.join(STATISTICS)}"
        ) from None
    if not np.isfinite(number):
        raise RequestError(f"{value!r} is no value of {column}")
    return number
