"""Pictures of a grouping.

- `plot_conditions`: observing conditions against each other, with cuts: what the groups mean for
  whoever took the data.
- `plot_features`: features of the instrument response against each other: what the grouping saw.
- `obscluster.plots.dendrogram.plot_dendrogram`: the tree behind a hierarchical grouping.

Each draws into ``ax`` (default: the current axes), returns it, and leaves backend, style and layout
to the caller; ``plt.subplots(layout="constrained")`` makes room for everything. `save_figure`
writes a picture.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from astropy.table import Table
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.cbook import normalize_kwargs
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray

from obscluster.exceptions import RequestError
from obscluster.features.scaling import NOT_FEATURES
from obscluster.files.output import write_file
from obscluster.grouping import UNASSIGNED
from obscluster.plots.style import (
    CUT_STYLE,
    Label,
    Values,
    as_labels,
    axis_text,
    count_text,
    cut_values,
    draw_legend,
    group_style,
    group_text,
    marker_handle,
    note_handle,
    read_column,
    run_rank,
    unit_text,
)
from obscluster.values.columns import is_numeric

__all__ = ["plot_conditions", "plot_features", "save_figure"]

# More cuts are counted in the legend, not listed.
_MAX_CUTS = 5


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
    x_values, y_values = read_column(table, x), read_column(table, y)
    cuts = cut_values(cut, x_values)
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
        if name.lower() not in NOT_FEATURES and name not in (x, y) and is_numeric(features[name])
    ]
    chosen = [x or (free.pop(0) if free else None), y or (free.pop(0) if free else None)]
    found = [read_column(features, name) for name in chosen if name is not None]
    if not found:
        known = ", ".join(features.colnames) or "none"
        raise RequestError(f"no numeric feature to plot; columns of the table: {known}")
    x_values, y_values = found if len(found) == 2 else (run_rank(features), found[0])
    ax = _scatter(ax, x_values, y_values, labels, names, np.empty(0), "features", kwargs)
    if len(found) == 1:
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    return ax


def _scatter(
    ax: Axes | None,
    x: Values,
    y: Values,
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
    members = {label: drawn & (group == label) for label in style}
    counts = {label: int(np.count_nonzero(rows)) for label, rows in members.items()}
    texts = {label: group_text(label, counts[label], names) for label in style}
    # From 20 runs on a slide to 10,000 in an archive, about the same part of the axes is inked.
    decades = np.log10(max(int(np.count_nonzero(drawn)), 1))
    options: dict[str, Any] = {
        "s": np.interp(decades, [1.3, 4.0], [40.0, 5.0]),
        "alpha": np.interp(decades, [1.3, 4.0], [0.9, 0.4]),
        "linewidth": np.interp(decades, [1.3, 3.0], [0.5, 0.0]),
        "edgecolor": "white",
    } | kwargs
    ax = plt.gca() if ax is None else ax
    points: list[Artist] = []
    # Small groups on top of large ones, and unassigned runs below all.
    for label in sorted(style, key=lambda one: (one != UNASSIGNED, -counts[one])):
        color, marker = style[label]
        extra = options | {"label": texts[label], "marker": marker}
        if label == UNASSIGNED:
            del extra["edgecolor"]  # a cross has none
            extra["linewidth"] = kwargs.get("linewidth", 1.0)
        xy = x.values[members[label]], y.values[members[label]]
        points.append(ax.scatter(*xy, c=[color], **extra))

    handles = {
        label: marker_handle(texts[label], *style[label]) for label in style if counts[label]
    }
    others: list[Artist] = []
    if len(cuts):
        text = f"{len(cuts)} cuts"
        if len(cuts) <= _MAX_CUTS:
            # Days need more digits than anything else.
            numbers = ", ".join(f"{v:.4g}" if abs(v) < 1e4 else f"{v:.1f}" for v in cuts)
            text = f"{'cut' if len(cuts) == 1 else 'cuts'} {numbers} {unit_text(x.unit)}".strip()
        lines = [ax.axvline(value, label=text, **CUT_STYLE) for value in cuts]
        others.append(lines[0])  # one entry in the legend serves all of them
    if UNASSIGNED in handles:
        others.append(handles.pop(UNASSIGNED))
    if missing := int(np.count_nonzero(~drawn)):
        others.append(note_handle(f"{count_text(missing)} without these {what}"))
    draw_legend(ax, [*handles.values()], others, avoid=points)

    if x.description == y.description and x.name != y.name:  # does not tell the axes apart
        x, y = x._replace(description=None), y._replace(description=None)
    ax.set_xlabel(axis_text(ax.xaxis, x))
    ax.set_ylabel(axis_text(ax.yaxis, y))
    return ax


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
    write_file(Path(path), image.getvalue(), force=True)
