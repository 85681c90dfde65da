"""Picture of what stacking costs: the information loss against the number of groups."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.table import QTable
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from obscluster.exceptions import RequestError
from obscluster.report.plots import save_figure
from obscluster.report.style import OKABE_ITO

__all__ = ["plot_frontier", "write_frontier_plot"]

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
        See `obscluster.stacking.frontier`.
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
        import matplotlib.pyplot as plt

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
        See `obscluster.stacking.frontier`.
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
