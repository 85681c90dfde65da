"""The pictures of a report: runs by group, tree, sky and time."""

from __future__ import annotations

from itertools import combinations, pairwise
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from obscluster.grouping.base import UNASSIGNED
from obscluster.grouping.rules import Bins, Cells
from obscluster.report.colours import GRID, INK, PAPER, QUIET, not_quite_black
from obscluster.report.content import ReportContent
from obscluster.report.dendrogram import MAX_LABELLED_LEAVES, plot_dendrogram
from obscluster.report.quantities import Quantity, decade_text
from obscluster.report.sky import sky_map
from obscluster.report.svg import Picture, draw_picture
from obscluster.report.wording import separation

__all__ = [
    "MOST_FEATURES",
    "condition_pictures",
    "dendrogram_picture",
    "feature_pictures",
    "sky_picture",
    "time_picture",
]

Array = NDArray[np.float64]

MOST_FEATURES = 6
"""Of more features, pairs are drawn of those that tell the groups apart best."""
_MOST_CONDITIONS = 3
# More points are drawn as an image, which the size of the page depends on.
_MOST_MARKS = 1500
_WIDE = (1040.0, 360.0)
_MEDIUM = 760.0
# Conditions are drawn against the date if it spans so many years.
_YEARS = 0.5
# Runs that are nearer than this part of the time line are drawn above each other.
_NEAR, _STEP, _STEPS = 0.012, 0.075, 5


def condition_pictures(content: ReportContent) -> list[Picture]:
    """Observing conditions against each other."""
    dull = ("EVENT_COUNT", "LIVETIME")
    conditions = [q for q in content.conditions if q.varies and q.key not in dull]
    # Zenith angles may be among the features.
    zenith = [q for q in (*conditions, *content.features) if q.key in ("ZEN_PNT", "zenith")]
    if not zenith + conditions:
        return []
    x = (zenith + conditions)[0]
    others = [q for q in conditions if q is not x][:_MOST_CONDITIONS]
    pairs = [(x, y) for y in others]
    lo, hi = content.dates.range_of(np.ones(len(content.labels), dtype=bool))
    # Of a few nights, the time line tells more.
    if len(pairs) < _MOST_CONDITIONS and hi - lo > _YEARS:
        pairs.append((content.dates, others[-1] if others else x))
    return [_pair(content, f"condition-{i}", *pair) for i, pair in enumerate(pairs)]


def feature_pictures(content: ReportContent) -> list[Picture]:
    """Feature against feature for all pairs; a single one against the date."""
    features = [q for q in content.features if q.varies]
    if len(features) > MOST_FEATURES:
        scores = [np.nan_to_num(separation(q.values, content.labels)) for q in features]
        best = sorted(np.argsort(-np.array(scores), kind="stable")[:MOST_FEATURES].tolist())
        features = [features[i] for i in best]
    pairs = list(combinations(features, 2))
    if len(features) == 1:
        rank = (np.argsort(np.argsort(content.grouping.obs_ids)) + 1).astype(np.float64)
        pairs = [(Quantity("run", "run, in order of OBS_ID", rank), features[0])]
    if len(features) < 3:
        # Room for what they depend on most.
        zenith = [q for q in content.conditions if q.key == "ZEN_PNT" and q.varies]
        pairs += [(x, y) for x in zenith for y in features]
    return [_pair(content, f"feature-{i}", x, y) for i, (x, y) in enumerate(pairs)]


def _pair(content: ReportContent, name: str, x: Quantity, y: Quantity) -> Picture:
    def draw(ax: Axes) -> None:
        for quantity, axis in ((x, ax.xaxis), (y, ax.yaxis)):
            factor, power = _power(quantity.values)
            unit = f"{power} {quantity.unit}".strip()
            axis.set_label_text(f"{quantity.label} [{unit}]" if unit else quantity.label)
            if factor != 1:
                axis.set_major_formatter(FuncFormatter(lambda v, _, f=factor: f"{v / f:g}"))
        _points(ax, content, x.values, y.values)
        for quantity, line in ((x, ax.axvline), (y, ax.axhline)):
            for edge in _edges(content, quantity):
                line(edge, color=INK, linewidth=1.0, linestyle=(0, (4, 3)), zorder=1.5)
        ax.xaxis.set_major_locator(MaxNLocator(5))
        ax.yaxis.set_major_locator(MaxNLocator(5))

    return draw_picture(name, f"{y.label} against {x.label}, by group", draw, content.looks)


def _points(ax: Axes, content: ReportContent, x: Array, y: Array, size: float = 0.0) -> None:
    """Points of each group, small groups on top, unassigned runs below."""
    labels = content.labels
    decades = np.log10(max(len(labels), 1))
    size = size or float(np.interp(decades, [1.3, 3.7], [7.5, 2.8]))
    # Around small points, outlines would be all that is seen.
    edge = 0.6 if len(labels) <= 400 else 0.0
    counts = {label: int((labels == label).sum()) for label in content.with_unassigned}
    for label in sorted(counts, key=lambda k: (k != UNASSIGNED, -counts[k])):
        look, members = content.looks[label], labels == label
        outline: dict[str, Any] = {"markeredgecolor": PAPER, "markeredgewidth": edge}
        if look.is_outline:
            outline = {"markeredgewidth": 1.2}
        ax.plot(
            x[members],
            y[members],
            color=look.light,
            marker=look.marker,
            linestyle="none",
            markersize=size * look.scale,
            rasterized=len(labels) > _MOST_MARKS,
            **outline,
        )


def _power(values: Array) -> tuple[float, str]:
    """Power of ten to divide very large or small values by, as a number and as text."""
    largest = float(np.nanmax(np.abs(values), initial=0.0))
    if largest == 0 or 1e-3 <= largest < 1e5:
        return 1.0, ""
    exponent = int(np.floor(np.log10(largest)))
    return 10.0**exponent, decade_text(10.0**exponent)


def _edges(content: ReportContent, quantity: Quantity) -> list[float]:
    """Where a quantity was cut."""
    rule = content.grouping.rule
    axes = rule.axes if isinstance(rule, Cells) else ()
    return [
        edge
        for axis in axes
        if isinstance(axis, Bins) and axis.name == quantity.key
        for edge in axis.edges
        if np.isfinite(edge)
    ]


def dendrogram_picture(content: ReportContent) -> Picture | None:
    """The tree and its cut; None without a tree."""
    grouping = content.grouping
    if grouping.linkage is None or not len(grouping.linkage):
        return None
    tree = grouping.linkage
    assigned = grouping.labels != UNASSIGNED
    method = str((grouping.parameters.get("linkage") or {}).get("method", "")).capitalize()
    height = f"{method} distance of scaled features".strip()
    if grouping.parameters.get("method") == "information":
        height = "information lost"

    def draw(ax: Axes) -> None:
        plot_dendrogram(
            tree,
            grouping.labels[assigned],
            obs_ids=np.asarray(grouping.obs_ids)[assigned],
            height_label=height,
            ax=ax,
            rasterized=len(tree) > _MOST_MARKS,
        )
        legend = ax.get_legend()
        if legend is not None:
            legend.remove()
        ax.grid(False, axis="x")
        ax.spines["bottom"].set_visible(False)
        markers = {look.light: look.marker for look in content.looks.values()}
        for line in ax.lines:
            line.set_color(not_quite_black(str(line.get_color())))
            if line.get_marker() not in ("None", "", None):
                line.set_marker(markers.get(str(line.get_color()), "o"))  # type: ignore[arg-type]
            # What the function draws in greys of its own takes those of the page.
            if line.get_color() == "0.45":
                line.set_color(QUIET)
            elif line.get_color() == "0.25":
                line.set_color(INK)

    # Identifiers at the leaves need room, as long as they are written.
    margins = (62.0, 84.0 if len(tree) < MAX_LABELLED_LEAVES else 40.0)
    title = f"Tree of {len(tree) + 1} runs, with the cut into {grouping.n_groups} groups"
    return draw_picture("dendrogram", title, draw, content.looks, _WIDE, margins)


def sky_picture(content: ReportContent) -> Picture | None:
    """Pointings; None if nobody knows them."""
    if content.pointing is None:
        return None
    sky = sky_map(*content.pointing)

    def draw(ax: Axes) -> None:
        ax.set_xlim(*sky.x_range)
        ax.set_ylim(*sky.y_range)
        ax.set_aspect(sky.aspect)
        if sky.whole_sky:
            ax.axis("off")
            for x, y in sky.lines:
                ax.plot(x, y, color=GRID, linewidth=0.8)
            for lon in (60, 120, 180, 240, 300):
                turned = (lon + 180) % 360 - 180
                ax.text(
                    -turned / 90, 0.0, f"{lon // 15} h", color=QUIET, fontsize=10.5, ha="center"
                )
        else:
            ax.set_xlabel("right ascension [deg]")
            ax.set_ylabel("declination [deg]")
            ax.xaxis.set_major_locator(MaxNLocator(4))
            ax.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v % 360:g}"))
        _points(ax, content, sky.x, sky.y)

    size = (600.0, 330.0) if sky.whole_sky else (400.0, 360.0)
    return draw_picture(
        "sky", "Pointings of the runs on the sky, by group", draw, content.looks, size
    )


def time_picture(content: ReportContent) -> Picture | None:
    """When each run was taken, a line for each group; None if nobody knows."""
    known = np.isfinite(content.mjd)
    if not known.any():
        return None
    lanes = content.with_unassigned
    height = np.full(len(content.labels), np.nan)
    near = _NEAR * float(np.ptp(content.mjd[known]))
    for place, label in enumerate(lanes):
        members = np.flatnonzero((content.labels == label) & known)
        height[members] = _beside(content.mjd[members], near) - place
    # Matplotlib counts days since 1970.
    when = content.mjd - 40587.0

    def draw(ax: Axes) -> None:
        locator = AutoDateLocator(minticks=3, maxticks=9)  # type: ignore[no-untyped-call]
        ax.xaxis.set_major_locator(locator)
        formatter = ConciseDateFormatter(locator)  # type: ignore[no-untyped-call]
        ax.xaxis.set_major_formatter(formatter)
        _points(ax, content, when, height, size=float(np.interp(len(known), [50, 1000], [8, 5])))
        span = float(np.nanmax(when) - np.nanmin(when)) or 1.0
        ax.set_xlim(np.nanmin(when) - 0.02 * span, np.nanmax(when) + 0.02 * span)
        texts = ["no group" if k == UNASSIGNED else f"group {k}" for k in lanes]
        ax.set_yticks([-i for i in range(len(lanes))], texts)
        ax.set_ylim(-len(lanes) + 0.4, 0.6)
        ax.set_xlabel("date of the run (UTC)")
        ax.spines["left"].set_visible(False)
        ax.tick_params(axis="y", length=0)

    narrow = content.pointing is not None and sky_map(*content.pointing).whole_sky
    size = (600.0 if narrow else _MEDIUM, float(np.clip(90 + 34 * len(lanes), 330, 700)))
    title = "Time line of the runs, by group"
    return draw_picture("time", title, draw, content.looks, size)


def _beside(times: Array, near: float) -> Array:
    """Small shifts of runs that are close in time, so that they do not hide each other."""
    shifts = np.zeros(len(times))
    order = np.argsort(times, kind="stable")
    number = 0
    for before, row in pairwise(order):
        number = number + 1 if times[row] - times[before] <= near else 0
        # Up and down in turn, in steps.
        shifts[row] = _STEP * ((number + 1) // 2 % _STEPS) * (1 if number % 2 else -1)
    return shifts
