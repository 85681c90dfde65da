"""Pictures of a grouping.

- `plot_conditions`: observing conditions against each other, with cuts: what the groups mean for
  whoever took the data.
- `plot_features`: features of the instrument response against each other: what the grouping saw.
- `plot_dendrogram`: the tree behind a hierarchical grouping, and where it was cut.

Each draws into ``ax`` (default: the current axes), returns it, and leaves backend, style and layout
to the caller; ``plt.subplots(layout="constrained")`` makes room for everything. `save_figure`
writes a picture.
"""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
from astropy import units as u
from astropy.table import Table
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.cbook import normalize_kwargs
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray
from scipy.cluster import hierarchy

from obscluster.exceptions import RequestError, unknown_name
from obscluster.report.style import (
    UNASSIGNED,
    Label,
    as_labels,
    axis_text,
    count_text,
    draw_legend,
    group_style,
    group_text,
    marker_handle,
    note_handle,
    unit_text,
)

__all__ = ["group_style", "plot_conditions", "plot_dendrogram", "plot_features", "save_figure"]

CUT_STYLE: dict[str, Any] = {"color": "0.25", "linestyle": "--", "linewidth": 1.2, "zorder": 0.9}
NOT_FEATURES = {"obs_id", "label", "labels"}
MAX_LABELLED_LEAVES = 60


class _Values(NamedTuple):
    """What one axis shows: numbers in ``unit`` (NaN where masked), and how to call them."""

    values: NDArray[np.float64]
    name: str
    unit: u.UnitBase | None = None
    description: str | None = None


def plot_conditions(
    table: Table,
    labels: ArrayLike,
    x: str = "ZEN_PNT",
    y: str = "MUONEFF",
    cut: Any = None,
    names: Mapping[Label, str] | None = None,
    ax: Axes | None = None,
    **kwargs: Any,
) -> Axes:
    """Plot observing conditions against each other, by group.

    Parameters
    ----------
    table : `~astropy.table.Table` or `~astropy.table.QTable`, length n_obs
        Observing conditions, one row per run.
    labels : array-like of int or str, shape (n_obs,)
        Group of each run, row by row; -1 is unassigned.
    x, y : str, optional
        Numeric columns of ``table``. Axes are in the unit of the column.
    cut : float, `~astropy.units.Quantity`, or a sequence of these, optional
        Values of ``x`` to mark by dashed lines; plain numbers are in the unit of the column.
    names : dict, optional
        Display names of groups by label.
    ax : `~matplotlib.axes.Axes`, optional
        Where to draw; the current axes by default.
    **kwargs
        Passed to `matplotlib.axes.Axes.scatter`, such as ``s`` and ``alpha``.

    Returns
    -------
    ax : `~matplotlib.axes.Axes`
        The axes. Runs without a finite value on both axes are not drawn; the legend counts the
        points of each group, and those runs.

    Raises
    ------
    RequestError
        Unknown or non-numeric column, numbers of rows and labels that differ, or a cut that is not
        finite or has the wrong unit.
    """
    x_values, y_values = _read(table, x), _read(table, y)
    cuts = _cut_values(cut, x_values)
    return _scatter(ax, x_values, y_values, labels, names, cuts, "conditions", kwargs)


def plot_features(
    features: Table,
    labels: ArrayLike,
    x: str | None = None,
    y: str | None = None,
    names: Mapping[Label, str] | None = None,
    ax: Axes | None = None,
    **kwargs: Any,
) -> Axes:
    """Plot two features against each other, by group.

    Parameters
    ----------
    features : `~astropy.table.Table` or `~astropy.table.QTable`, length n_obs
        Features, one row per run; a column ``obs_id`` is no feature.
    labels : array-like of int or str, shape (n_obs,)
        Group of each run, row by row; -1 is unassigned.
    x, y : str, optional
        Numeric columns of ``features``; by default the first ones not yet taken. A single feature
        is drawn on the y axis, against the position of the run in order of ``obs_id`` (in order of
        the rows without that column).
    names : dict, optional
        Display names of groups by label.
    ax : `~matplotlib.axes.Axes`, optional
        Where to draw; the current axes by default.
    **kwargs
        Passed to `matplotlib.axes.Axes.scatter`, such as ``s`` and ``alpha``.

    Returns
    -------
    ax : `~matplotlib.axes.Axes`
        The axes. Runs without a finite value on both axes are not drawn; the legend counts the
        points of each group, and those runs.

    Raises
    ------
    RequestError
        No numeric feature at all, unknown or non-numeric column, or numbers of rows and labels
        that differ.
    """
    free = [
        name
        for name in features.colnames
        if name.lower() not in NOT_FEATURES and name not in (x, y) and _is_numeric(features[name])
    ]
    chosen = [x or (free.pop(0) if free else None), y or (free.pop(0) if free else None)]
    found = [_read(features, name) for name in chosen if name is not None]
    if not found:
        known = ", ".join(features.colnames) or "none"
        raise RequestError(f"no numeric feature to plot; columns of the table: {known}")
    x_values, y_values = found if len(found) == 2 else (_run_rank(features), found[0])
    ax = _scatter(ax, x_values, y_values, labels, names, np.empty(0), "features", kwargs)
    if len(found) == 1:
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    return ax


def _read(table: Table, name: str) -> _Values:
    if name not in table.colnames:
        raise RequestError(unknown_name("column", name, table.colnames))
    column = table[name]
    if not _is_numeric(column):
        raise RequestError(
            f"column {name!r} cannot be plotted: one number per run is needed; "
            f"numeric columns: {', '.join(c for c in table.colnames if _is_numeric(table[c]))}"
        )
    values = column.value.astype(float)  # `value` is the one spelling of Column and Quantity
    if hasattr(values, "filled"):
        values = values.filled(np.nan)
    return _Values(np.asarray(values), name, column.unit, column.info.description)


def _is_numeric(column: Any) -> bool:
    # Time and SkyCoord columns have no dtype.
    kind = getattr(getattr(column, "dtype", None), "kind", None)
    return kind in ("i", "u", "f") and column.ndim == 1


def _run_rank(table: Table) -> _Values:
    """Position of each run, from 1, in order of obs_id; an axis of obs_ids is mostly gaps."""
    for name in table.colnames:
        if name.lower() == "obs_id":
            order = np.argsort(np.asarray(table[name]), kind="stable")
            rank = np.empty(len(table))
            rank[order] = np.arange(1, len(table) + 1)
            return _Values(rank, f"run, in order of {name}")
    return _Values(np.arange(1.0, len(table) + 1), "run, in order of the table")


def _cut_values(cut: Any, x: _Values) -> NDArray[np.float64]:
    """Cuts as numbers in the unit of ``x``."""
    if cut is None:
        return np.empty(0)
    # Plain numbers beside Quantities in one sequence are allowed, so each is converted by itself.
    single = not isinstance(cut, list | tuple) and np.ndim(cut) == 0
    unit = u.dimensionless_unscaled if x.unit is None else x.unit
    try:
        values = [
            float(one.to_value(unit)) if isinstance(one, u.Quantity) else float(one)
            for one in ([cut] if single else cut)
        ]
    except (u.UnitConversionError, TypeError, ValueError) as error:
        raise RequestError(
            f"cut {cut!r} cannot be compared with {x.name!r} in {unit.to_string() or 'no unit'}: "
            "give numbers in that unit, or Quantities"
        ) from error
    if not np.all(np.isfinite(values)):
        raise RequestError(f"cut {cut!r} is not finite")
    return np.array(values)


def _scatter(
    ax: Axes | None,
    x: _Values,
    y: _Values,
    labels: ArrayLike,
    names: Mapping[Label, str] | None,
    cuts: NDArray[np.float64],
    what: str,
    kwargs: dict[str, Any],
) -> Axes:
    """Draw one set of points per group, cuts of ``x``, the legend and the labels of the axes."""
    kwargs = normalize_kwargs(kwargs, PathCollection)
    if taken := {"c", "color", "marker", "label"} & kwargs.keys():
        raise RequestError(f"{', '.join(sorted(taken))}: set by the groups, see group_style")
    group = as_labels(labels)
    if len(group) != len(x.values):
        raise RequestError(
            f"the table has {len(x.values)} rows, but there are {len(group)} labels; "
            "one label per row is needed"
        )
    drawn = np.isfinite(x.values) & np.isfinite(y.values)
    style = group_style(group)
    # From 20 runs on a slide to 10,000 in an archive, about the same fraction of the axes is inked.
    decades = np.log10(max(int(np.count_nonzero(drawn)), 1))
    options = {
        "s": np.interp(decades, [1.3, 4.0], [40.0, 5.0]),
        "alpha": np.interp(decades, [1.3, 4.0], [0.9, 0.4]),
        "linewidth": np.interp(decades, [1.3, 3.0], [0.5, 0.0]),
        "edgecolor": "white",
    } | kwargs
    members = {label: drawn & (group == label) for label in style}
    counts = {label: int(np.count_nonzero(rows)) for label, rows in members.items()}
    # Small groups on top of large ones, and unassigned runs below all.
    order = sorted(style, key=lambda one: (one != UNASSIGNED, -counts[one]))
    ax = plt.gca() if ax is None else ax
    points: list[Artist] = []
    for label in order:
        color, marker = style[label]
        rows = members[label]
        extra: dict[str, Any] = options | {"label": group_text(label, counts[label], names)}
        if label == UNASSIGNED:
            del extra["edgecolor"]  # a cross has none
            extra["linewidth"] = kwargs.get("linewidth", 1.0)
        xy = x.values[rows], y.values[rows]
        points.append(ax.scatter(*xy, c=[color], marker=marker, **extra))
    handles = {
        label: marker_handle(group_text(label, counts[label], names), *style[label])
        for label in style
        if counts[label]
    }
    others: list[Artist] = []
    if len(cuts):
        numbers = ", ".join(f"{value:.4g}" for value in cuts)
        text = f"{'cut' if len(cuts) == 1 else 'cuts'} {numbers} {unit_text(x.unit)}".strip()
        lines = [ax.axvline(value, label=text, **CUT_STYLE) for value in cuts]
        others.append(lines[0])  # one entry in the legend serves all of them
    if UNASSIGNED in handles:
        others.append(handles.pop(UNASSIGNED))
    if missing := int(np.count_nonzero(~drawn)):
        others.append(note_handle(f"{count_text(missing)} without these {what}"))
    draw_legend(ax, [*handles.values()], others, avoid=points)
    same = x.description == y.description and x.name != y.name
    for axis, shown in ((ax.xaxis, x), (ax.yaxis, y)):
        description = None if same else shown.description
        axis.set_label_text(axis_text(axis, shown.name, shown.unit, description))
    return ax


def plot_dendrogram(
    linkage: ArrayLike,
    labels: ArrayLike,
    obs_ids: ArrayLike | None = None,
    height: float | None = None,
    names: Mapping[Label, str] | None = None,
    height_label: str = "merge height",
    ax: Axes | None = None,
    **kwargs: Any,
) -> Axes:
    """Plot the tree of a hierarchical grouping, its branches in the colours of the groups.

    Parameters
    ----------
    linkage : array-like, shape (n_leaves - 1, 4)
        Merges, as `scipy.cluster.hierarchy.linkage` returns them.
    labels : array-like of int or str, shape (n_obs,)
        Group of each run; -1 is unassigned. Either each run is a leaf, or each assigned run.
    obs_ids : array-like, shape (n_obs,), optional
        Identifiers to write at the leaves, if these are few enough to be legible.
    height : float, optional
        Height of the cut, in the unit of the linkage; by default halfway between the last merge
        within a group and the first between groups. No line is drawn if no horizontal cut makes
        these groups.
    names : dict, optional
        Display names of groups by label.
    height_label : str, optional
        What the height of a merge is, such as ``"Ward distance"``.
    ax : `~matplotlib.axes.Axes`, optional
        Where to draw; the current axes by default.
    **kwargs
        Passed to `matplotlib.axes.Axes.plot` for the branches, such as ``linewidth``.

    Returns
    -------
    ax : `~matplotlib.axes.Axes`
        The axes; leaves are at 0, 1, ... on x, in the order of
        `scipy.cluster.hierarchy.leaves_list`.

    Raises
    ------
    RequestError
        No valid linkage, a number of labels or obs_ids that does not fit it, or a cut that is not
        finite.
    """
    kwargs = normalize_kwargs(kwargs, Line2D)
    if taken := {"color", "label"} & kwargs.keys():
        raise RequestError(f"{', '.join(sorted(taken))}: set by the groups, see group_style")
    merges = _valid_linkage(linkage)
    group, ids = _leaf_groups(len(merges) + 1, labels, obs_ids)
    position, level, owner = _tree(merges, group)
    if height is None:
        height = _cut_height(merges, owner)
    elif not np.isfinite(height):
        raise RequestError(f"height of the cut is {height!r}; a finite number is needed")
    ax = plt.gca() if ax is None else ax
    before = len(ax.lines)
    handles, others = _draw_branches(ax, merges, position, level, owner, names, kwargs)
    branches = [*ax.lines][before:]
    if height is not None:
        others = [ax.axhline(height, label=f"cut {height:.4g}", **CUT_STYLE), *others]
    n_leaves = len(group)
    margin = 0.5 + 0.01 * n_leaves
    ax.set_xlim(-margin, n_leaves - 1 + margin)
    top = max(level.max(), height or 0.0)
    ax.set_ylim(0.0, 1.05 * top if top > 0.0 else 1.0)
    ax.set_ylabel(height_label)
    lost = draw_legend(ax, handles, others, avoid=branches)
    _label_leaves(ax, position[:n_leaves], ids, ax.bbox.width - lost)
    return ax


def _valid_linkage(linkage: ArrayLike) -> NDArray[np.float64]:
    try:
        merges = np.array(linkage, dtype=float)
        if merges.shape != (0, 4):  # a single run, which SciPy does not accept
            hierarchy.is_valid_linkage(merges, throw=True)
    except (TypeError, ValueError) as error:
        raise RequestError(f"not a linkage matrix as SciPy defines it: {error}") from error
    if not np.all(np.isfinite(merges)):
        raise RequestError("not a linkage matrix: it has values that are not finite")
    return merges


def _leaf_groups(
    n_leaves: int, labels: ArrayLike, obs_ids: ArrayLike | None
) -> tuple[NDArray[np.object_], NDArray[Any] | None]:
    """Labels and obs_ids of the leaves: all runs, or those that are assigned."""
    group = as_labels(labels)
    ids = None if obs_ids is None else np.asarray(obs_ids)
    if ids is not None and ids.shape != group.shape:
        raise RequestError(f"there are {ids.size} obs_ids, but {len(group)} labels")
    if len(group) == n_leaves:
        return group, ids
    assigned = group != UNASSIGNED
    if np.count_nonzero(assigned) != n_leaves:
        raise RequestError(
            f"the linkage has {n_leaves} leaves, but there are {len(group)} labels, "
            f"{np.count_nonzero(assigned)} of them assigned; one of the two must agree"
        )
    return group[assigned], None if ids is None else ids[assigned]


def _tree(
    merges: NDArray[np.float64], group: NDArray[np.object_]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.object_]]:
    """Position, height and group of every node, leaves first; group None where several meet.

    A loop over merges and not `scipy.cluster.hierarchy.dendrogram`, whose recursion gives up on
    the chains of single linkage; children come before their parents in a linkage matrix.
    """
    n_leaves = len(group)
    position = np.empty(2 * n_leaves - 1)
    leaves = hierarchy.leaves_list(merges) if len(merges) else np.zeros(1, dtype=int)
    position[leaves] = np.arange(n_leaves)
    level = np.concatenate([np.zeros(n_leaves), merges[:, 2]])
    owner = np.concatenate([group, np.full(n_leaves - 1, None, dtype=object)])
    for node, (left, right) in enumerate(merges[:, :2].astype(int), start=n_leaves):
        position[node] = 0.5 * (position[left] + position[right])
        owner[node] = owner[left] if owner[left] == owner[right] else None
    return position, level, owner


def _cut_height(merges: NDArray[np.float64], owner: NDArray[np.object_]) -> float | None:
    """Height between merges within groups and merges between them; None if there is no such."""
    children, parents = owner[merges[:, :2].astype(int)], owner[len(merges) + 1 :]
    between = parents == None  # noqa: E711 (elementwise)
    within = ~between & (parents != UNASSIGNED)
    tops = [label for label in children[between].ravel() if label not in (None, UNASSIGNED)]
    if not between.any() or len(tops) != len(set(tops)):
        return None  # one group, or a group in several branches
    below = merges[within, 2].max(initial=0.0)
    above = merges[between, 2].min()
    return float(0.5 * (below + above)) if below < above else None


def _draw_branches(
    ax: Axes,
    merges: NDArray[np.float64],
    position: NDArray[np.float64],
    level: NDArray[np.float64],
    owner: NDArray[np.object_],
    names: Mapping[Label, str] | None,
    kwargs: dict[str, Any],
) -> tuple[list[Artist], list[Artist]]:
    """Draw the tree, one line per group; legend handles of groups, and of unassigned runs."""
    n_leaves = len(merges) + 1
    left, right = merges[:, :2].astype(int).T
    parent = np.arange(n_leaves, 2 * n_leaves - 1)
    # Two legs and the bar that joins them; a leg belongs to the group of its lower end.
    begin = np.concatenate([left, right, left])
    end = np.concatenate([left, right, right])
    foot = np.concatenate([level[left], level[right], level[parent]])
    gap = np.full(3 * len(merges), np.nan)
    pieces_x = np.stack([position[begin], position[end], gap], axis=1)
    pieces_y = np.stack([foot, np.tile(level[parent], 3), gap], axis=1)
    pieces_owner = np.concatenate([owner[left], owner[right], owner[parent]])
    options: dict[str, Any] = {
        "linewidth": np.interp(np.log10(n_leaves), [1.5, 2.5, 3.5], [1.5, 1.0, 0.6]),
        "solid_capstyle": "projecting",
    } | kwargs
    mixed = pieces_owner == None  # noqa: E711 (elementwise)
    # The few branches above the groups stay visible however fine the twigs become.
    trunk = {"color": "0.45"} | options | {"linewidth": kwargs.get("linewidth", 1.2)}
    ax.plot(pieces_x[mixed].ravel(), pieces_y[mixed].ravel(), **trunk)
    handles: list[Artist] = []
    others: list[Artist] = []
    group = owner[:n_leaves]
    for label, (color, marker) in group_style(group).items():
        rows = pieces_owner == label
        text = group_text(label, int(np.count_nonzero(group == label)), names)
        ax.plot(pieces_x[rows].ravel(), pieces_y[rows].ravel(), color=color, label=text, **options)
        if n_leaves <= MAX_LABELLED_LEAVES:
            at = position[:n_leaves][group == label]
            ax.plot(at, 0.0 * at, color=color, marker=marker, ls="none", clip_on=False, ms=4)
        else:
            marker = ""
        handle = marker_handle(text, color, marker, line=True)
        (others if label == UNASSIGNED else handles).append(handle)
    return handles, others


def _label_leaves(
    ax: Axes, position: NDArray[np.float64], ids: NDArray[Any] | None, pixels: float
) -> None:
    """Write obs_ids below the leaves if they are few enough to be legible, else their number."""
    n_leaves = len(position)
    room = pixels * 72.0 / ax.figure.dpi / (n_leaves + 1)  # points per leaf
    if ids is None or n_leaves > MAX_LABELLED_LEAVES or room < 5.0:
        ax.set_xticks([])
        ax.set_xlabel(count_text(n_leaves))
        return
    order = np.argsort(position)
    texts = [str(one) for one in ids[order]]
    ax.set_xticks(position[order], texts, rotation=90, fontsize=min(9.0, 0.9 * room))
    ax.tick_params(axis="x", length=0.0, pad=6.0)
    ax.set_xlabel("obs_id")


def save_figure(
    ax_or_figure: Axes | Figure | SubFigure, path: Path | str, dpi: float = 150
) -> None:
    """Write a figure as PNG, whole or not at all, with the same bytes for the same picture.

    Parameters
    ----------
    ax_or_figure : `~matplotlib.axes.Axes` or `~matplotlib.figure.Figure`
        The figure, or axes in it; it stays open.
    path : `~pathlib.Path` or str
        File to write; an existing one is replaced once the picture is complete.
    dpi : float, optional
        Pixels per inch.

    Raises
    ------
    RequestError
        The file cannot be written, or the axes are in no figure any more.
    """
    figure = ax_or_figure.figure  # of a Figure: itself; of Axes in a SubFigure: the latter
    if isinstance(figure, SubFigure):
        figure = figure.figure
    if figure is None:
        raise RequestError("these axes are in no figure any more; plot again")
    image = io.BytesIO()
    # The bounding box includes a legend outside of the axes; the version of Matplotlib is left out.
    figure.savefig(image, format="png", dpi=dpi, bbox_inches="tight", metadata={"Software": None})
    path = Path(path)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.write_bytes(image.getvalue())
        partial.replace(path)
    except OSError as error:
        raise RequestError(f"cannot write the figure to {path}: {error.strerror}") from error
    finally:
        partial.unlink(missing_ok=True)
