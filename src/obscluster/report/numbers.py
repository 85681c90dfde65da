"""Pictures of the number of groups: their quality, their spread, and the information they lose."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from obscluster.report.colours import GRID, INK, PAPER, QUIET, not_quite_black
from obscluster.report.content import ReportContent
from obscluster.report.style import MARKERS, OKABE_ITO
from obscluster.report.svg import Picture, draw_picture

__all__ = ["number_pictures"]

_PERCENT = " percent"
# Losses below are rounding errors.
_LEAST_LOSS = 1e-5
_MOST_LINES = 7


def number_pictures(content: ReportContent) -> list[Picture]:
    """Silhouette, largest spread and lost information against the number of groups."""
    pictures = []
    quality = content.quality
    if len(quality) > 1:
        pictures.append(
            draw_picture(
                "silhouette",
                "Silhouette against the number of groups",
                lambda ax: _silhouette(ax, content),
                content.looks,
            )
        )
        if any(name.endswith(_PERCENT) for name in quality.colnames):
            pictures.append(
                draw_picture(
                    "spread",
                    "Largest spread within a group against the number of groups",
                    lambda ax: _spread(ax, content),
                    content.looks,
                )
            )
    if len(content.losses_by_number) > 1:
        pictures.append(
            draw_picture(
                "loss",
                "Lost information against the number of groups",
                lambda ax: _loss(ax, content),
                content.looks,
            )
        )
    return pictures


def _finish(ax: Axes, content: ReportContent) -> None:
    ax.set_xlabel("number of groups")
    ax.set_xlim(0.5, max([*content.partitions, content.grouping.n_groups]) + 0.5)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.axvline(
        content.grouping.n_groups, color=INK, linewidth=1.0, linestyle=(0, (4, 3)), zorder=1.5
    )


def _silhouette(ax: Axes, content: ReportContent) -> None:
    quality = content.quality
    number = np.asarray(quality["n_groups"])
    values = np.asarray(quality["silhouette"], dtype=float)
    known = np.isfinite(values)
    if "silhouette_even" in quality.colnames:
        even = np.asarray(quality["silhouette_even"], dtype=float)
        ax.fill_between(number, even, -1.0, color=GRID, linewidth=0, label="evenly spread runs")
    ax.plot(number[known], values[known], color=OKABE_ITO[0], marker="o", label="these runs")
    ax.set_ylim(min(0.0, float(np.nanmin(values, initial=0.0))), 1.0)
    ax.set_ylabel("silhouette (higher is better)")
    ax.legend(fontsize=10, loc="upper right", handlelength=1.4)
    _finish(ax, content)


def _spread(ax: Axes, content: ReportContent) -> None:
    quality = content.quality
    number = np.asarray(quality["n_groups"])
    names = [name for name in quality.colnames if name.endswith(_PERCENT)]
    shown = [n for n in names if np.isfinite(np.asarray(quality[n], dtype=float)).any()]
    lowest, highest = np.inf, 0.0
    for i, name in enumerate(shown[:_MOST_LINES]):
        values = np.asarray(quality[name], dtype=float)
        ax.plot(
            *(number, values),
            color=not_quite_black(OKABE_ITO[i % len(OKABE_ITO)]),
            marker=MARKERS[i % len(MARKERS)],
            markeredgecolor=PAPER,
            label=name.removesuffix(_PERCENT),
        )
        positive = values[values > 0]
        lowest = min(lowest, float(positive.min(initial=np.inf)))
        highest = max(highest, float(positive.max(initial=0.0)))
    ax.set_ylabel("largest spread within a group [%]")
    if 0 < 10 * lowest < highest:
        ax.set_yscale("log")
        ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        ax.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
        ax.yaxis.set_minor_formatter(NullFormatter())
        # Room for the legend.
        ax.set_ylim(top=highest * (highest / lowest) ** (0.09 * min(len(shown), _MOST_LINES)))
    else:
        ax.set_ylim(0.0, highest * (1.05 + 0.09 * len(shown)))
    ax.legend(fontsize=10, loc="upper right", handlelength=1.4)
    _finish(ax, content)


def _loss(ax: Axes, content: ReportContent) -> None:
    items = sorted(content.losses_by_number.items())
    number = np.array([n for n, _ in items])
    values = 100 * np.maximum(np.array([loss for _, loss in items]), 0.0)
    seen = values > 100 * _LEAST_LOSS
    ax.plot(number[seen], values[seen], color=OKABE_ITO[1], marker="s")
    ax.set_ylabel("information lost [%]")
    if seen.any() and values[seen].max() > 10 * values[seen].min():
        ax.set_yscale("log")
        ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        ax.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
        ax.yaxis.set_minor_formatter(NullFormatter())
    else:
        ax.set_ylim(bottom=0.0)
    ax.tick_params(which="minor", color=QUIET, length=2)
    _finish(ax, content)
