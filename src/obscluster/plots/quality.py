"""Pictures of the number of groups: indices, spreads within groups, and what stacking costs."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from astropy import units as u
from astropy.table import QTable, Table
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import (
    FuncFormatter,
    LogLocator,
    MaxNLocator,
    NullFormatter,
    StrMethodFormatter,
)
from numpy.typing import NDArray

from obscluster.assessment.n_groups import Suggestion
from obscluster.exceptions import RequestError
from obscluster.plots.scatter import save_figure
from obscluster.plots.style import (
    CUT_STYLE,
    OKABE_ITO,
    draw_legend,
    group_style,
    marker_handle,
    note_handle,
)

__all__ = ["plot_frontier", "plot_quality", "write_frontier_plot"]

_INDICES = {
    "silhouette": "silhouette\n(higher is better)",
    "calinski_harabasz": "Calinski-Harabasz\n(higher is better)",
    "davies_bouldin": "Davies-Bouldin\n(lower is better)",
}
_EVEN = "silhouette_even"
_PERCENT = " percent"
_MAX_MARKERS = 30
# Spreads that differ by more are drawn on a logarithmic axis.
_MAX_RATIO = 10.0


def plot_quality(
    quality: Table,
    suggestion: Suggestion | int | None = None,
    axes: Sequence[Axes] | None = None,
) -> Figure | SubFigure:
    """Plot indices and the largest spreads within groups against the number of groups.

    Parameters
    ----------
    quality : `~astropy.table.Table`
        See `~obscluster.assessment.n_groups.quality`.
    suggestion : `~obscluster.assessment.n_groups.Suggestion` or int, optional
        Number of groups to mark.
    axes : sequence of `~matplotlib.axes.Axes`, optional
        Four, for silhouette, Calinski-Harabasz index, Davies-Bouldin index and spreads; those of a
        new figure by default.

    Returns
    -------
    figure : `~matplotlib.figure.Figure`
        The figure of the axes. Features whose spread has no per cent, since their range holds zero
        or they are angles, are named in the legend.

    Raises
    ------
    RequestError
        If the table is another one or empty, or there are not four axes.
    """
    if missing := [name for name in ("n_groups", *_INDICES) if name not in quality.colnames]:
        raise RequestError(f"no column {', '.join(missing)}; give the table that quality() returns")
    if len(quality) == 0:
        raise RequestError("no number of groups to plot; give quality() some labels")
    panels = _new_axes() if axes is None else list(axes)
    if len(panels) != 4:
        raise RequestError(f"{len(panels)} axes; four are needed, see plot_quality")
    n_groups = np.asarray(quality["n_groups"], dtype=np.int64)
    chosen = suggestion.n_groups if isinstance(suggestion, Suggestion) else suggestion
    if _EVEN in quality.colnames:
        _draw_reference(panels[0], n_groups, np.asarray(quality[_EVEN], dtype=float))
    for ax, (name, text) in zip(panels, _INDICES.items(), strict=False):
        _draw_index(ax, n_groups, np.asarray(quality[name], dtype=float), text)
    panels[0].set_ylim(top=1.0)
    lines, others = _draw_spreads(panels[3], n_groups, quality)
    for ax in panels:
        ax.set_xlim(n_groups.min() - 0.5, n_groups.max() + 0.5)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        ax.set_axisbelow(True)
        ax.grid(color="0.92")
        if chosen is not None:
            mark = ax.axvline(chosen, label=f"suggested: {_count(chosen)}", **CUT_STYLE)
            others = [*others, mark] if ax is panels[3] else others
    for ax in panels[2:]:
        ax.set_xlabel("number of groups")
    drawn = [line for line in panels[3].lines if len(np.atleast_1d(line.get_xdata())) > 0]
    draw_legend(panels[3], lines, others, avoid=drawn)
    return panels[0].figure


def _new_axes() -> list[Axes]:
    figure = plt.figure(figsize=(10.0, 6.0), layout="constrained")
    grid = figure.add_gridspec(3, 2, width_ratios=(2, 3), height_ratios=(2, 1, 1))
    left = [figure.add_subplot(grid[0, 0])]
    left += [figure.add_subplot(grid[row, 0], sharex=left[0]) for row in (1, 2)]
    for ax in left[:2]:
        ax.tick_params(axis="x", labelbottom=False)
    figure.align_ylabels(left)
    return [*left, figure.add_subplot(grid[:, 1])]


def _draw_index(
    ax: Axes, n_groups: NDArray[np.int64], values: NDArray[np.float64], text: str
) -> None:
    ax.plot(n_groups, values, color=OKABE_ITO[0], marker="o", ms=_marker_size(len(n_groups)))
    ax.set_ylabel(text)
    if not np.isfinite(values).any():
        white = {"facecolor": "white", "edgecolor": "none"}
        middle = ax.text(0.5, 0.5, "not defined", ha="center", va="center", bbox=white)
        middle.set_transform(ax.transAxes)
        ax.set_yticks([])
        return
    ax.set_ylim(_from_zero(values))


def _draw_reference(ax: Axes, n_groups: NDArray[np.int64], even: NDArray[np.float64]) -> None:
    """Shade the silhouettes that tell nothing."""
    if not np.isfinite(even).any():
        return
    text = "evenly spread runs"
    ax.fill_between(n_groups, even, -1.0, color="0.88", linewidth=0.0, zorder=0.8, label=text)
    ax.legend(loc="best", fontsize="small", handlelength=1.2)


def _draw_spreads(
    ax: Axes, n_groups: NDArray[np.int64], quality: Table
) -> tuple[list[Artist], list[Artist]]:
    """Draw a line for each feature, and return the handles of the legend."""
    names = [name.removesuffix(_PERCENT) for name in quality.colnames if name.endswith(_PERCENT)]
    style = group_style(np.arange(1, len(names) + 1))
    handles: list[Artist] = []
    without = []
    for name, (color, marker) in zip(names, style.values(), strict=True):
        values = np.asarray(quality[name + _PERCENT], dtype=float)
        if not np.isfinite(values).any():
            without.append(name)
            continue
        size = _marker_size(len(n_groups)) + 1.0
        ax.plot(n_groups, values, label=name, color=color, marker=marker, ms=size, alpha=0.9)
        handles.append(marker_handle(name, color, marker, line=True))
    ax.set_ylabel("largest spread within a group, relative to its middle [%]")
    shown = np.concatenate([np.empty(0), *(line.get_ydata() for line in ax.lines)])
    shown = shown[np.isfinite(shown)]
    if not len(shown):
        ax.set_yticks([])
    elif 0 < _MAX_RATIO * shown.min() < shown.max():
        # On a linear axis, nobody could tell the features with small spreads apart.
        ax.set_yscale("log")
        ax.set_ylim(0.8 * shown.min(), 1.25 * shown.max())
        ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        ax.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        ax.yaxis.set_minor_formatter(NullFormatter())
    else:
        ax.set_ylim(_from_zero(shown))
    others: list[Artist] = []
    if without:
        text = f"no per cent of {', '.join(without)}"
        others.append(note_handle("\n".join(textwrap.wrap(text, 28, break_on_hyphens=False))))
    return handles, others


def _from_zero(values: NDArray[np.float64]) -> tuple[float, float]:
    """Limits of an axis with zero, and with room above and below the points."""
    lo, hi = min(0.0, float(np.nanmin(values))), max(0.0, float(np.nanmax(values)))
    room = 0.08 * (hi - lo) or 1.0
    return lo - room * (lo < 0), hi + room


def _marker_size(n_points: int) -> float:
    """Many points need small markers, to stay apart."""
    return float(np.interp(n_points, [10, _MAX_MARKERS], [5.0, 2.5]))


def _count(n_groups: int) -> str:
    return "1 group" if n_groups == 1 else f"{n_groups} groups"


_WAYS = {
    "information": ("least information loss", "o", 0, "-"),
    "ward": ("Ward's tree on features", "s", 1, "-"),
    "zenith median": ("cut at median zenith angle", "^", 2, ""),
    "all stacked": ("all stacked", "X", 3, ""),
}
# Losses below are rounding errors, or at least nobody's concern.
_LOWEST = 1e-4


def plot_frontier(table: QTable, ax: Axes | None = None, quantity: str = "loss") -> Axes:
    """Plot a loss against the number of groups.

    Parameters
    ----------
    table : `~astropy.table.QTable`
        See `obscluster.workflow.frontier.frontier`.
    ax : `~matplotlib.axes.Axes`, optional
        Where to draw; the current axes by default.
    quantity : str
        "loss", or the name of a parameter: the growth of its error.

    Returns
    -------
    ax : `~matplotlib.axes.Axes`
        The axes.

    Raises
    ------
    RequestError
        If the table has no such quantity.
    """
    if ax is None:
        ax = plt.gca()
    column = "loss" if quantity == "loss" else f"{quantity} inflation"
    if column not in table.colnames:
        raise RequestError(f"no column {column} among {', '.join(table.colnames)}")
    lowest = 1.0
    for way, (label, marker, color, line) in _WAYS.items():
        rows = table[np.asarray(table["grouping"]) == way]
        if not len(rows):
            continue
        values = np.asarray(u.Quantity(rows[column]).value, dtype=float)
        seen = values > _LOWEST
        lowest = min([lowest, *values[seen].tolist()])
        ax.plot(
            np.asarray(rows["n_groups"])[seen],
            values[seen],
            marker=marker,
            linestyle=line or "none",
            color=OKABE_ITO[color],
            markersize=9 if not line else 5,
            label=label,
            zorder=3 if not line else 2,
        )
    ax.set_yscale("log")
    ax.set_ylim(bottom=0.7 * lowest)
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g} %"))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_xlabel("number of groups")
    ax.set_ylabel(
        "information lost" if quantity == "loss" else f"growth of the error of {quantity}"
    )
    ax.grid(alpha=0.3, which="both")
    ax.legend(fontsize="small")
    return ax


def write_frontier_plot(table: QTable, path: Path) -> None:
    """Draw loss and error growth side by side, into a PNG file.

    Parameters
    ----------
    table : `~astropy.table.QTable`
        See `obscluster.workflow.frontier.frontier`.
    path : `~pathlib.Path`
        The file.
    """
    names = list(table.meta["parameters"])
    source = table.meta["source"]
    figure = Figure(figsize=(4.6 * (1 + len(names)), 4.4), layout="constrained")
    axes = figure.subplots(1, 1 + len(names), squeeze=False)[0]
    for ax, quantity in zip(axes, ["loss", *names], strict=True):
        plot_frontier(table, ax, quantity)
        if quantity != "loss":
            ax.get_legend().remove()
    hours = u.Quantity(table.meta["livetime"]).to_value(u.h)
    time = axes[0].secondary_yaxis(
        "right", functions=(lambda loss: loss * hours * 60, lambda time: time / hours / 60)
    )
    time.set_ylabel("observing time lost [min]")
    time.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    figure.suptitle(
        f"{table.meta['n_obs']} observations, {hours:.1f} h; source of {source['amplitude']}, "
        f"index {source['index']:g}",
        fontsize="medium",
    )
    save_figure(figure, path)
