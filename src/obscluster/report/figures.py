"""The figures of a report in their order, with captions, and why some are missing."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from obscluster.features.curves import CURVES
from obscluster.plots.style import MARKERS, OKABE_ITO
from obscluster.report.content import GRID, INK, PAPER, QUIET, ReportContent, not_quite_black
from obscluster.report.pictures import (
    MOST_FEATURES,
    Picture,
    condition_pictures,
    curve_pictures,
    dendrogram_picture,
    draw_picture,
    feature_pictures,
    sky_map,
    sky_picture,
    time_picture,
)

__all__ = ["number_pictures", "parts_of"]

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


def parts_of(content: ReportContent) -> list[dict[str, Any]]:
    """Parts of the section of plots.

    Parameters
    ----------
    content : `~obscluster.report.content.ReportContent`
        What is told.

    Returns
    -------
    parts : list of dict
        Each with ``id``, ``title``, ``pictures``, ``caption``, ``absent`` and ``wide``; parts from
        one that ``begins`` to one that ``ends`` stand beside each other.
    """
    pictures = condition_pictures(content)
    picture = dendrogram_picture(content)
    many = len(content.labels) > 1
    method = content.grouping.parameters.get("method", "this method")
    return [
        _part(
            "conditions",
            "Observing conditions",
            pictures,
            "Each point is a run. Dashed lines are cuts, where groups were made by cuts.",
            [] if pictures else ["The obs-index has no conditions in which the runs differ."],
        ),
        _features(content),
        # A map is narrow and a time line wide: they share a row.
        _sky(content) | {"begins": "even" if _is_whole_sky(content) else "thirds"},
        _time(content) | {"ends": True},
        _part(
            "tree",
            "Tree",
            [picture] if picture else [],
            "Runs merge from the bottom up; the dashed line is the cut.",
            []
            if picture
            else [f"Groups by {method} have no tree." if many else "One run makes no tree."],
            wide=True,
        ),
        _numbers(content),
        _responses(content),
    ]


def _is_whole_sky(content: ReportContent) -> bool:
    return content.pointing is not None and sky_map(*content.pointing).whole_sky


def _part(
    name: str,
    title: str,
    pictures: list[Picture],
    caption: str,
    absent: list[str],
    wide: bool = False,
) -> dict[str, Any]:
    return {
        "id": f"plot-of-{name}",
        "title": title,
        "pictures": pictures,
        "caption": caption if pictures else "",
        "absent": absent,
        "wide": wide,
        "begins": "",
        "ends": False,
    }


def _features(content: ReportContent) -> dict[str, Any]:
    pictures = feature_pictures(content)
    varying = [q for q in content.features if q.varies]
    caption = "Each point is a run."
    if 0 < len(varying) < 3 and len(pictures) > 1:
        caption += " As there are few features, they are shown against the zenith angle too."
    if len(varying) > MOST_FEATURES:
        caption += (
            f" Of {len(varying)} features, pairs are drawn of the {MOST_FEATURES} that tell the "
            "groups apart best; the explorer has all."
        )
    return _part(
        "features",
        "Feature against feature",
        pictures,
        caption,
        [] if pictures else ["There are no features in which the runs differ."],
    )


def _numbers(content: ReportContent) -> dict[str, Any]:
    pictures = number_pictures(content)
    absent = []
    if len(content.quality) <= 1:
        absent.append("No quality by number of groups: no other numbers were tried.")
    if not content.losses_by_number:
        reason = content.missing.get("losses") or content.missing.get("archive")
        reason = reason or "no other numbers of groups are known"
        absent.append(f"No lost information by number of groups: {reason}.")
    return _part(
        "numbers",
        "Number of groups",
        pictures,
        "The dashed line is the number of these groups. Silhouettes in the grey area are reached "
        "by evenly spread runs too. Numbers are those of the method without constraints.",
        absent,
    )


def _responses(content: ReportContent) -> dict[str, Any]:
    pictures = curve_pictures(content)
    curves = content.curves
    caption = "Thin lines are runs, thick lines with markers the means of the groups."
    absent = []
    if curves is None:
        reason = content.missing.get("curves") or content.missing.get("archive") or "not asked for"
        absent.append(f"No responses against energy: {reason}.")
    else:
        if len(curves.rows) < curves.n_obs:
            caption += (
                f" A sample of {len(curves.rows)} of {curves.n_obs} runs, spread over the groups."
            )
        if curves.unreadable:
            caption += f" The files of {curves.unreadable} runs could not be read."
        if len(pictures) < len(CURVES):
            absent.append("Of responses that are not shown, the archive has none.")
    return _part("responses", "Instrument responses", pictures, caption, absent)


def _sky(content: ReportContent) -> dict[str, Any]:
    picture = sky_picture(content)
    return _part(
        "sky",
        "Sky",
        [picture] if picture else [],
        "Pointings of the runs (ICRS). Runs with the same pointing are drawn side by side.",
        [] if picture else ["The obs-index has no pointings."],
    )


def _time(content: ReportContent) -> dict[str, Any]:
    picture = time_picture(content)
    return _part(
        "time",
        "Time",
        [picture] if picture else [],
        "When each run began. Runs close in time are drawn above each other.",
        [] if picture else ["The obs-index has no times."],
        wide=True,
    )
