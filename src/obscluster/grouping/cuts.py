"""Groups that can be said in one sentence: intervals of a quantity, categories, and both.

==============  ==================================================================
edges           bins
==============  ==================================================================
``cut``         below and above given values, the median or the mean
``edges``       between given edges; runs outside belong nowhere
``quantiles``   of equal numbers of runs
``width``       of equal width
``livetime``    of equal livetime
``adaptive``    that grow from below until they hold a minimum of livetime or runs
==============  ==================================================================

All take plain numbers, NaN where missing, and return rising edges; a bin holds its lower edge. Cuts
that the data define lie midway between two runs.

A value on a cut belongs to the upper group. Missing values, and those outside the outer edges,
belong nowhere.
"""

from __future__ import annotations

import contextlib
import re
import warnings
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, ClassVar, Literal

import numpy as np
from astropy import units as u
from astropy.table import Column, Table
from numpy.typing import NDArray
from pydantic import Field, PositiveInt, model_validator

from obscluster.archive.quantities import QUANTITIES, column_of
from obscluster.exceptions import ObsClusterWarning, RequestError, unknown_name
from obscluster.features.scaling import feature_matrix
from obscluster.files.description import Strict
from obscluster.grouping.base import Grouping
from obscluster.grouping.method import (
    ConstraintsConfig,
    Method,
    MethodConfig,
    Request,
    ScalingConfig,
    scaler,
)
from obscluster.grouping.rules import UNASSIGNED, Bins, Categories, Cells, texts_of
from obscluster.values.columns import full_turn, numbers, require_numbers
from obscluster.values.tolerance import minimum_hours

__all__ = [
    "STATISTICS",
    "CutConfig",
    "CutsConfig",
    "adaptive_edges",
    "bin_labels",
    "bins_of",
    "categories_of",
    "cut_edges",
    "group_adaptive",
    "group_by_category",
    "group_by_cells",
    "group_by_cut",
    "group_by_edges",
    "group_by_livetime",
    "group_by_quantiles",
    "group_by_width",
    "livetime_edges",
    "quantile_edges",
    "width_edges",
]

Array = NDArray[np.float64]

STATISTICS: dict[str, Callable[[Array], Any]] = {"median": np.median, "mean": np.mean}
"""Cuts that the data define."""


def bin_labels(values: Any, edges: Any) -> NDArray[np.int64]:
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
    values, edges = np.asarray(values, dtype=float), np.asarray(edges, dtype=float)
    bins = np.digitize(values, edges).astype(np.int64)
    inside = (bins > 0) & (bins < len(edges)) & np.isfinite(values)
    labels = np.full(len(values), -1, dtype=np.int64)
    labels[inside] = 1 + np.unique(bins[inside], return_inverse=True)[1]
    return labels


def cut_edges(cuts: Sequence[float]) -> Array:
    """Edges of the bins below, between and above some values."""
    return np.concatenate([[-np.inf], np.unique(cuts), [np.inf]])


def quantile_edges(values: Array, quantiles: int | Sequence[float], name: str) -> Array:
    """Edges at quantiles.

    Parameters
    ----------
    values : `~numpy.ndarray`
        Shape (n,).
    quantiles : int or sequence of float
        Number of bins, or where to cut, between 0 and 1.
    name : str
        What the quantity is called, for messages.
    """
    if isinstance(quantiles, int | np.integer):
        fractions = np.arange(1, _check_n(int(quantiles), "quantile groups", name)) / quantiles
    else:
        fractions = np.asarray(quantiles, dtype=float)
    if not ((fractions > 0) & (fractions < 1)).all():
        raise RequestError(f"quantiles {fractions.tolist()}; expected values between 0 and 1")
    return cut_edges(np.quantile(values[np.isfinite(values)], fractions).tolist())


def width_edges(values: Array, n_bins: int, name: str) -> Array:
    """Edges of bins of equal width from the lowest to the highest value."""
    _check_n(n_bins, "bins of equal width", name)
    known = values[np.isfinite(values)]
    edges = np.linspace(known.min(), known.max(), n_bins + 1)
    # The highest value belongs to the last bin, also where all are the same.
    edges[-1] = np.nextafter(known.max(), np.inf)
    return np.unique(edges)


def livetime_edges(values: Array, livetime: Array, n_bins: int, name: str) -> Array:
    """Edges of bins that hold nearly the same livetime.

    Parameters
    ----------
    values : `~numpy.ndarray`
        Shape (n,).
    livetime : `~numpy.ndarray`
        Of each run, shape (n,).
    n_bins : int
        Number of bins.
    name : str
        What the quantity is called, for messages.
    """
    _check_n(n_bins, "bins of equal livetime", name)
    places, sums = _sums_below(values, livetime[:, None])
    total = sums[-1, 0] if len(sums) else 0.0
    if not total > 0:
        raise RequestError(f"no run with {name} has a livetime, so there are no equal bins of it")
    targets = total * np.arange(1, n_bins) / n_bins
    chosen = [float(places[np.argmin(np.abs(sums[:-1, 0] - t))]) for t in targets if len(places)]
    return cut_edges(chosen)


def adaptive_edges(values: Array, amounts: Array, minimum: Sequence[float], name: str) -> Array:
    """Edges of bins that grow from below until they hold enough.

    What remains at the top, and is not enough, belongs to the last bin.

    Parameters
    ----------
    values : `~numpy.ndarray`
        Shape (n,).
    amounts : `~numpy.ndarray`
        What is summed of each run, such as its livetime and 1, shape (n, n_amounts).
    minimum : sequence of float
        What a bin must hold of each, shape (n_amounts,).
    name : str
        What the quantity is called, for messages.

    Raises
    ------
    RequestError
        If all runs together do not hold the minimum.
    """
    places, sums = _sums_below(values, amounts)
    wanted = np.asarray(minimum, dtype=float)
    if not len(sums) or not (sums[-1] >= wanted).all():
        total = ", ".join(f"{x:g}" for x in (sums[-1] if len(sums) else wanted * 0))
        text = ", ".join(f"{x:g}" for x in wanted)
        raise RequestError(
            f"all runs with {name} together hold {total}, but each bin is to hold {text}; ask for "
            "less"
        )
    cuts, below = [], np.zeros_like(wanted)
    for place, so_far in zip(places, sums[:-1], strict=True):
        enough_left = (sums[-1] - so_far >= wanted).all()
        if (so_far - below >= wanted).all() and enough_left:
            cuts.append(float(place))
            below = so_far
    return cut_edges(cuts)


def _sums_below(values: Array, amounts: Array) -> tuple[Array, Array]:
    """Where to cut between two different values, and what lies below each place and in all."""
    known = np.isfinite(values)
    distinct, place = np.unique(values[known], return_inverse=True)
    sums = np.zeros((len(distinct), amounts.shape[1]))
    np.add.at(sums, place, np.nan_to_num(amounts[known]))
    return 0.5 * (distinct[:-1] + distinct[1:]), np.cumsum(sums, axis=0)


def _check_n(n_bins: int, what: str, name: str) -> int:
    if n_bins < 1:
        raise RequestError(f"{n_bins} {what} of {name}; expected 1 or more")
    return n_bins


# What people call these columns.
_WORDS = {
    "ZEN_PNT": "zenith",
    "ALT_PNT": "altitude",
    "AZ_PNT": "azimuth",
    "OFFSET_OBJ": "offset",
    "LIVETIME": "livetime",
    "MUONEFF": "muoneff",
    "TELLIST": "telescopes",
    "N_TELS": "n_tels",
}


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
    return group_by_cells(table, [bins_of(table, column, "cut", cut)], "cut")


def group_by_edges(table: Table, column: str, edges: Any) -> Grouping:
    """Bins between edges; runs outside belong nowhere.

    Parameters
    ----------
    table, column
        See `group_by_cut`.
    edges : sequence, or `~astropy.units.Quantity`
        Rising values, two or more.
    """
    return group_by_cells(table, [bins_of(table, column, "edges", edges)], "edges")


def group_by_quantiles(table: Table, column: str, quantiles: int | Sequence[float]) -> Grouping:
    """Groups of equal numbers of runs, or split at given quantiles.

    Parameters
    ----------
    table, column
        See `group_by_cut`.
    quantiles : int or sequence of float
        Number of groups, or where to cut, between 0 and 1.
    """
    return group_by_cells(table, [bins_of(table, column, "quantiles", quantiles)], "quantiles")


def group_by_width(table: Table, column: str, n_bins: int) -> Grouping:
    """Bins of equal width between the lowest and the highest value.

    Parameters
    ----------
    table, column
        See `group_by_cut`.
    n_bins : int
        Number of bins.
    """
    return group_by_cells(table, [bins_of(table, column, "width", n_bins)], "width")


def group_by_livetime(table: Table, column: str, n_bins: int, livetime: Any = None) -> Grouping:
    """Bins that hold nearly the same livetime.

    Parameters
    ----------
    table, column
        See `group_by_cut`.
    n_bins : int
        Number of bins.
    livetime : array_like, optional
        Livetime of each run, shape (n_obs,), in seconds if without unit; the column ``LIVETIME`` or
        ``livetime`` unless told.
    """
    axis = bins_of(table, column, "livetime", n_bins, livetime=livetime)
    return group_by_cells(table, [axis], "livetime")


def group_adaptive(
    table: Table,
    column: str,
    min_livetime: Any = None,
    min_runs: int | None = None,
    livetime: Any = None,
) -> Grouping:
    """Bins that grow from the lowest value until each holds enough.

    Parameters
    ----------
    table, column
        See `group_by_cut`. The cosine of the zenith angle (feature ``cos-zenith``) is usual, since
        responses change with it evenly.
    min_livetime : `~astropy.units.Quantity` or str, optional
        Such as ``"5 h"``.
    min_runs : int, optional
        At least one of the two must be given.
    livetime : array_like, optional
        See `group_by_livetime`.

    Raises
    ------
    RequestError
        If all runs together do not hold that much.
    """
    axis = bins_of(table, column, "adaptive", (min_livetime, min_runs), livetime=livetime)
    return group_by_cells(table, [axis], "adaptive")


def group_by_category(table: Table, column: str) -> Grouping:
    """One group per value of a column, such as the telescope pattern.

    Parameters
    ----------
    table : `~astropy.table.Table`
        Observation or feature table, with ``OBS_ID`` or ``obs_id``.
    column : str
        Any column, of text or numbers.
    """
    return group_by_cells(table, [categories_of(table, column)], "category")


def bins_of(table: Table, column: str, way: str, value: Any, livetime: Any = None) -> Bins:
    """Intervals of a column.

    Parameters
    ----------
    table, column
        See `group_by_cut`.
    way : {"cut", "edges", "quantiles", "width", "livetime", "adaptive"}
        See `obscluster.grouping.cuts`.
    value
        What the function of that way takes.
    livetime : array_like, optional
        See `group_by_livetime`.
    """
    content = require_numbers(_completed(table, [column]), column)
    values, unit = numbers(content), content.unit or u.one
    if not np.isfinite(values).any():
        raise RequestError(f"no run has a value in column {column}")
    turn = full_turn(column, content)
    values = values if turn is None else np.mod(values, turn)
    if way == "cut":
        cuts = [_number(c, values, unit, column) for c in _as_list(value)]
        if not cuts:
            raise RequestError(f"no cut of {column} is given; expected one or more values")
        edges = cut_edges(cuts)
    elif way == "edges":
        edges = np.array([_number(edge, values, unit, column) for edge in _as_list(value)])
        if len(edges) < 2 or (np.diff(edges) <= 0).any():
            raise RequestError(f"edges of {column}: {edges.tolist()}; expected two or more, rising")
    elif way == "quantiles":
        edges = quantile_edges(values, value, column)
    elif way == "width":
        edges = width_edges(values, value, column)
    elif way == "livetime":
        edges = livetime_edges(values, _livetime(table, livetime), value, column)
    elif way == "adaptive":
        amounts, minimum = _amounts(table, livetime, *value)
        edges = adaptive_edges(values, amounts, minimum, column)
    else:
        ways = ("cut", "edges", "quantiles", "width", "livetime", "adaptive")
        raise RequestError(unknown_name("way to cut", way, ways))
    return Bins(column, tuple(map(float, edges)), str(unit))


def _completed(table: Table, names: Sequence[str]) -> Table:
    """The table with quantities as an archive knows them, not its index alone."""
    if getattr(table, "files", None) is None or QUANTITIES.keys().isdisjoint(names):
        return table
    completed = Table(table, copy=False)
    for name in QUANTITIES.keys() & names:
        known = column_of(table, name).value
        completed[name] = Column(known.value, unit=known.unit)
    return completed


def categories_of(table: Table, column: str) -> Categories:
    """The values of a column; numbers in their order, text in that of the alphabet."""
    texts = sorted({text for text in texts_of(table, column) if text})
    if not texts:
        raise RequestError(f"no run has a value in column {column}")
    # Numbers only if all are: "1,2" and "3" are lists of telescopes.
    with contextlib.suppress(ValueError):
        texts = sorted(texts, key=float)
    return Categories(column, tuple(texts))


def group_by_cells(
    table: Table, axes: Sequence[Bins | Categories], method: str = "cells"
) -> Grouping:
    """Groups that are the cells of one or several quantities, those that hold runs.

    Parameters
    ----------
    table : `~astropy.table.Table`
        Observation or feature table, with ``OBS_ID`` or ``obs_id``.
    axes : sequence of `~obscluster.grouping.rules.Bins` or `~obscluster.grouping.rules.Categories`
        The quantities, see `bins_of` and `categories_of`.
    method : str
        What the result says it was made by.

    Returns
    -------
    grouping : `~obscluster.grouping.base.Grouping`
        Groups in the order of the first quantity, then of the second, and so on.
    """
    table = _completed(table, [axis.name for axis in axes])
    cells, reasons = Cells(tuple(axes), {}).cells(table)
    inside = (cells != UNASSIGNED).all(axis=1)
    names = [_names(axis) for axis in axes]
    if not inside.any():
        text = ", ".join(_range_text(axis) for axis in axes)
        raise RequestError(f"no run has {text}")
    found, place = np.unique(cells[inside], axis=0, return_inverse=True)
    labels = np.full(len(table), UNASSIGNED, dtype=np.int64)
    labels[inside] = 1 + place.reshape(-1)
    if len(axes) == 1 and len(found) < len(names[0]):
        empty = [name for number, name in enumerate(names[0]) if [number] not in found.tolist()]
        text = f"no run is in {', '.join(empty)}; {len(found)} of {len(names[0])} groups remain"
        warnings.warn(text, ObsClusterWarning, stacklevel=3)
    rule = Cells(
        tuple(axes), {tuple(cell): label for label, cell in enumerate(found.tolist(), start=1)}
    )
    group_names = {
        label: "_".join(name[number] for name, number in zip(names, cell, strict=True))
        for cell, label in rule.labels.items()
    }
    obs_ids = np.asarray(table["obs_id" if "obs_id" in table.colnames else "OBS_ID"])
    outside = {
        int(obs_id): reason
        for obs_id, reason, is_inside in zip(obs_ids, reasons, inside, strict=True)
        if not is_inside
    }
    return Grouping(obs_ids, labels, None, _parameters(axes, method), group_names, rule, outside)


def _parameters(axes: Sequence[Bins | Categories], method: str) -> dict[str, Any]:
    first = axes[0]
    if len(axes) > 1 or isinstance(first, Categories):
        return {"method": method, "by": [axis.name for axis in axes]}
    edges = [edge for edge in first.edges if np.isfinite(edge)]
    return {"method": method, "by": first.name, "edges": edges, "unit": first.unit}


def _names(axis: Bins | Categories) -> list[str]:
    """Names of the cells, such as low_zenith or zenith_20_to_40_deg."""
    word = _WORDS.get(axis.name, axis.name)
    if isinstance(axis, Categories):
        return [f"{word}_{re.sub(r'[^A-Za-z0-9.+-]+', '-', value)}" for value in axis.values]
    edges = np.array(axis.edges)
    if len(edges) == 3 and not np.isfinite(edges[[0, -1]]).any():
        return [f"low_{word}", f"high_{word}"]
    if len(edges) == 2 and not np.isfinite(edges).any():
        return [f"all_{word}"]
    suffix = f"_{axis.unit}".replace(" ", "") if axis.unit else ""
    names = []
    for lo, hi in pairwise(edges):
        if not np.isfinite(lo):
            names.append(f"{word}_below_{hi:g}{suffix}")
        elif not np.isfinite(hi):
            names.append(f"{word}_from_{lo:g}{suffix}")
        else:
            names.append(f"{word}_{lo:g}_to_{hi:g}{suffix}")
    return names


def _range_text(axis: Bins | Categories) -> str:
    if isinstance(axis, Categories):
        return f"a value of {axis.name}"
    return f"{axis.name} within {list(axis.edges)} {axis.unit}".rstrip()


def _livetime(table: Table, given: Any) -> NDArray[np.float64]:
    """Livetime of each run in hours."""
    if given is None:
        name = next((n for n in ("livetime", "LIVETIME") if n in table.colnames), None)
        if name is None:
            raise RequestError("no column LIVETIME, so the livetime of the bins is not known")
        given = table[name]
    # Seconds, as in GADF, where there is no unit.
    return (numbers(given, u.s) if hasattr(given, "unit") else np.asarray(given, float)) / 3600


def _amounts(
    table: Table, livetime: Any, min_livetime: Any, min_runs: int | None
) -> tuple[NDArray[np.float64], list[float]]:
    amounts: list[NDArray[np.float64]] = []
    minimum: list[float] = []
    if min_livetime is not None:
        minimum.append(minimum_hours(min_livetime))
        amounts.append(_livetime(table, livetime))
    if min_runs is not None:
        minimum.append(float(min_runs))
        amounts.append(np.ones(len(table)))
    if not minimum:
        raise RequestError("adaptive bins need a minimum livetime or a minimum number of runs")
    return np.column_stack(amounts), minimum


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


_WAYS = ("cut", "edges", "quantiles", "width", "livetime", "adaptive", "categories")
# Categories count as further apart than anything else.
_APART = 1e3


class CutConfig(Strict):
    """One quantity, a feature or a column, and one way to cut it."""

    column: str
    cut: tuple[str | float, ...] | None = None
    edges: tuple[str | float, ...] | None = None
    quantiles: PositiveInt | tuple[float, ...] | None = None
    width: PositiveInt | None = None
    livetime: PositiveInt | None = None
    adaptive: bool | None = None
    categories: bool | None = None

    @model_validator(mode="after")
    def _one_way(self) -> CutConfig:
        given = [name for name in _WAYS if getattr(self, name)]
        if len(given) > 1:
            raise ValueError(f"give one of {', '.join(_WAYS)}; not {' and '.join(given)}")
        return self

    @property
    def way(self) -> tuple[str, Any]:
        """How the quantity is cut, at the median unless told, and the value of that."""
        name = next((name for name in _WAYS if getattr(self, name)), None)
        return ("cut", "median") if name is None else (name, getattr(self, name))


class CutsConfig(MethodConfig):
    """Groups by one quantity, or by the combinations of several.

    One quantity can be written in short: ``by: ZEN_PNT`` and ``edges: [...]`` beside it.
    """

    method: Literal["cuts"] = "cuts"
    by: tuple[CutConfig, ...] = Field(min_length=1)

    clusters: ClassVar[bool] = False
    completeness: ClassVar[Literal["all", "each", "none"]] = "each"
    resampled: ClassVar[bool] = False

    def columns(self, constraints: ConstraintsConfig) -> list[tuple[str, str | None]]:
        """See `MethodConfig`."""
        del constraints
        return [(cut.column, cut.way[0]) for cut in self.by]

    def check_with(self, description: Any) -> None:
        """See `MethodConfig`."""
        if description.scaling != ScalingConfig():
            raise ValueError("cuts take the quantities as they are; leave scaling out")
        minimum = (description.constraints.min_livetime, description.constraints.min_runs)
        if any(cut.adaptive for cut in self.by) and minimum == (None, None):
            raise ValueError("adaptive bins need constraints.min_livetime or min_runs")

    @model_validator(mode="before")
    @classmethod
    def _in_short(cls, content: Any) -> Any:
        if not isinstance(content, dict):
            return content
        by = content.get("by")
        items = [by] if isinstance(by, str | dict) else by
        if not isinstance(items, list | tuple):
            return content
        ways = {key: value for key, value in content.items() if key in _WAYS}
        items = [{"column": item} if isinstance(item, str) else item for item in items]
        if ways and len(items) == 1 and isinstance(items[0], dict):
            items = [{**items[0], **ways}]
            content = {key: value for key, value in content.items() if key not in _WAYS}
        return {**content, "by": items}

    def prepare(self, request: Request) -> Method:
        """See `MethodConfig`."""
        runs, asked = request.runs, request.constraints
        columns = [(cut, _one_column(cut.column, runs.colnames)) for cut in self.by]
        names = [column for _, column in columns]
        if len(set(names)) < len(names):
            raise RequestError(f"cuts by {', '.join(names)}: name each quantity once")

        def axes_of(part: Table) -> list[Bins | Categories]:
            axes: list[Bins | Categories] = []
            for cut, column in columns:
                way, value = cut.way
                if way == "adaptive":
                    value = (asked.min_livetime, asked.min_runs)
                axes.append(
                    categories_of(part, column)
                    if way == "categories"
                    else bins_of(part, column, way, value)
                )
            return axes

        axes = axes_of(runs)
        numeric = [axis.name for axis in axes if isinstance(axis, Bins)]
        scale = scaler(request, numeric, ScalingConfig()) if numeric else None

        def group(part: Table, _n_groups: int | None) -> Grouping:
            method = self.by[0].way[0] if len(axes) == 1 else "cuts"
            return group_by_cells(part, axes_of(part), method)

        def positions(part: Table) -> Array:
            X = np.zeros((len(part), 0))
            if scale is not None:
                X = np.nan_to_num(feature_matrix(scale(part))[0])
            for axis in axes:
                if isinstance(axis, Categories):
                    texts = texts_of(part, axis.name)
                    one_hot = np.array([[text == value for value in axis.values] for text in texts])
                    X = np.hstack([X, _APART * one_hot])
            return X

        return Method(group, positions)


def _one_column(name: str, colnames: Sequence[str]) -> str:
    columns = [c for c in colnames if c == name or c.startswith(f"{name}@")]
    if not columns:
        raise RequestError(unknown_name("column", name, colnames))
    if len(columns) > 1:
        raise RequestError(f"{name} at several energies; give one, such as {columns[0]}")
    return columns[0]
