"""The pictures of a report as SVG: runs by group, tree, sky, time and responses."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from html import escape
from itertools import combinations, pairwise
from typing import Any

import matplotlib as mpl
import numpy as np
from astropy import units as u
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from numpy.typing import NDArray

from obscluster.features.curves import IrfCurves
from obscluster.grouping import UNASSIGNED
from obscluster.grouping.rules import Bins, Cells
from obscluster.plots.dendrogram import MAX_LABELLED_LEAVES, plot_dendrogram
from obscluster.report.content import (
    GRID,
    INK,
    PAPER,
    QUIET,
    THEME,
    GroupLook,
    Quantity,
    ReportContent,
    decade_text,
    not_quite_black,
    separation,
    unit_words,
    variable,
)

__all__ = [
    "MOST_FEATURES",
    "Picture",
    "SkyMap",
    "condition_pictures",
    "curve_pictures",
    "dendrogram_picture",
    "draw_picture",
    "feature_pictures",
    "sky_map",
    "sky_picture",
    "time_picture",
]

# Pixels of CSS per inch, so that a size in points is what it says.
_DPI = 72
_STYLE: Any = {
    "axes.axisbelow": True,
    "axes.edgecolor": QUIET,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.labelsize": 13,
    "axes.linewidth": 0.8,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.unicode_minus": True,
    "figure.dpi": _DPI,
    "figure.facecolor": "none",
    "font.size": 12,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "legend.facecolor": PAPER,
    "legend.edgecolor": GRID,
    "legend.framealpha": 0.9,
    "legend.labelcolor": INK,
    "patch.edgecolor": INK,
    # What is rasterised of many points, in pixels per inch.
    "savefig.dpi": 2 * _DPI,
    "savefig.facecolor": "none",
    "svg.fonttype": "none",
    "text.color": INK,
    # Names are written as they are, also those with a dollar sign.
    "text.parse_math": False,
    "xtick.color": QUIET,
    "xtick.labelcolor": INK,
    "xtick.labelsize": 12,
    "ytick.color": QUIET,
    "ytick.labelcolor": INK,
    "ytick.labelsize": 12,
}


@dataclass(frozen=True)
class Picture:
    """A picture and what it shows.

    Parameters
    ----------
    svg : str
        To be put into a page as it is.
    title : str
        A few words.
    """

    svg: str
    title: str


def draw_picture(
    name: str,
    title: str,
    draw: Callable[[Axes], object],
    looks: Mapping[int, GroupLook],
    size: tuple[float, float] = (400, 310),
    margins: tuple[float, float] = (72, 50),
) -> Picture:
    """Draw into new axes.

    Parameters
    ----------
    name : str
        Of the picture, different from those of others on the page.
    title : str
        What it shows: what a reader hears who does not see it.
    draw : callable
        ``draw(ax)``.
    looks : mapping
        Colours of the groups.
    size : tuple of float
        Width and height in pixels.
    margins : tuple of float
        Pixels on the left and below, for the labels. They are the same for all pictures of a row,
        so that their axes line up.
    """
    with _new_figure(name, size) as figure:
        left, bottom = margins[0] / size[0], margins[1] / size[1]
        edges = {"right": 1 - 12 / size[0], "top": 1 - 10 / size[1]}
        ax = figure.subplots(gridspec_kw={"left": left, "bottom": bottom, **edges})
        draw(ax)
        content = io.StringIO()
        figure.savefig(content, format="svg", metadata={"Date": None, "Creator": None})
    return Picture(_inline(content.getvalue(), title, looks), title)


@contextmanager
def _new_figure(name: str, size: tuple[float, float]) -> Iterator[Figure]:
    """Figure in the style of the page; the same name gives the same identifiers each time."""
    with mpl.rc_context(_STYLE | {"svg.hashsalt": name}):
        figure = Figure(figsize=(size[0] / _DPI, size[1] / _DPI))
        FigureCanvasSVG(figure)
        yield figure


def _inline(svg: str, title: str, looks: Mapping[int, GroupLook]) -> str:
    """SVG for a page: no prologue, no size, no names but those referred to, variable colours."""
    svg = svg[svg.index("<svg") :].strip()
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<!--.*?-->", "", svg, flags=re.DOTALL)
    # Groups are numbered in each picture anew, and nothing refers to these names.
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)
    head, _, body = svg.partition(">")
    box = re.search(r'viewBox="[^"]*"', head)
    width = re.search(r'width="([\d.]+)pt"', head)
    style = f' style="--width: {float(width[1]):.0f}px"' if width else ""
    head = f'<svg role="img" aria-label="{escape(title)}" {box[0] if box else ""}{style}'
    colours = {look.light: variable(label) for label, look in reversed(list(looks.items()))} | THEME
    for colour, name in colours.items():
        body = body.replace(f": {colour}", f": var({name})")
    # The typeface is that of the page.
    body = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", body)
    body = re.sub(r"\n\s*", "\n", body)
    return f"{head}>{body}"


Array = NDArray[np.float64]

# Wider fields are drawn on the whole sky; nearer to the poles, meridians are not parallel.
_WIDEST = 40.0
_NORTHERNMOST = 75.0
# Least width of a map in degrees, so that one pointing does not fill it.
_NARROWEST = 1.0
# Runs with the same pointing lie on a spiral around it, this part of the map apart.
_APART = 0.016
# Radius of the spiral in such steps, at most.
_WIDEST_SPIRAL = 4.0
_GOLDEN_ANGLE = 2.399963229728653


@dataclass(frozen=True, eq=False)
class SkyMap:
    """Places on a flat map.

    Parameters
    ----------
    x, y : `~numpy.ndarray`
        Of each run, shape (n_obs,); NaN where there is no pointing.
    x_range, y_range : tuple of float
        Ends of the map; right ascension rises to the left.
    aspect : float
        Length of a unit of y over that of x, on paper.
    whole_sky : bool
        Whether it is a map of the whole sky, in Mollweide's projection; else x and y are right
        ascension and declination in degrees.
    lines : sequence of (x, y)
        Meridians and parallels of a map of the whole sky.
    """

    x: Array
    y: Array
    x_range: tuple[float, float]
    y_range: tuple[float, float]
    aspect: float
    whole_sky: bool = False
    lines: Sequence[tuple[Array, Array]] = ()


def sky_map(ra: Array, dec: Array) -> SkyMap:
    """Map of pointings.

    Parameters
    ----------
    ra, dec : `~numpy.ndarray`
        In degrees, shape (n_obs,).
    """
    known = np.isfinite(ra) & np.isfinite(dec)
    if not known.any():
        return SkyMap(ra, dec, (1.0, 0.0), (0.0, 1.0), 1.0)
    vector = np.exp(1j * np.radians(ra[known])).mean()
    middle = float(np.degrees(np.angle(vector))) % 360 if abs(vector) > 1e-9 else 180.0
    turned = middle + (ra - middle + 180) % 360 - 180
    cos_dec = float(np.cos(np.radians(np.median(dec[known]))))
    width = float(np.ptp(turned[known])) * cos_dec
    height = float(np.ptp(dec[known]))
    if max(width, height) > _WIDEST or np.abs(dec[known]).max() > _NORTHERNMOST:
        return _whole_sky(ra, dec)
    half = 0.56 * max(width, height, _NARROWEST)
    x0 = 0.5 * float(turned[known].min() + turned[known].max())
    y0 = 0.5 * float(dec[known].min() + dec[known].max())
    dx, dy = _spiral(turned, dec, 2 * half)
    return SkyMap(
        turned + dx / cos_dec,
        dec + dy,
        (x0 + half / cos_dec, x0 - half / cos_dec),
        (y0 - half, y0 + half),
        1 / cos_dec,
    )


def _whole_sky(ra: Array, dec: Array) -> SkyMap:
    x, y = _mollweide(ra, dec)
    dx, dy = _spiral(x, y, 2.0)
    latitudes, longitudes = np.linspace(-90, 90, 61), np.linspace(-180, 180, 121)
    lines = [_mollweide(lon + 0 * latitudes, latitudes, wrap=False) for lon in range(-180, 181, 60)]
    lines += [
        _mollweide(longitudes, lat + 0 * longitudes, wrap=False) for lat in range(-60, 61, 30)
    ]
    return SkyMap(x + dx, y + dy, (-2.06, 2.06), (-1.04, 1.04), 1.0, True, lines)


def _mollweide(lon: Array, lat: Array, wrap: bool = True) -> tuple[Array, Array]:
    """Mollweide's projection with 0 h in the middle, from 2 to -2 and -1 to 1; east is left."""
    lon = (lon + 180) % 360 - 180 if wrap else lon
    phi = np.radians(lat)
    theta = phi.copy()
    for _ in range(30):
        # Newton's method converges slowly at the poles, where the slope vanishes.
        slope = np.maximum(2 + 2 * np.cos(2 * theta), 1e-9)
        theta = theta - (2 * theta + np.sin(2 * theta) - np.pi * np.sin(phi)) / slope
    theta = np.clip(theta, -np.pi / 2, np.pi / 2)
    return -lon / 90 * np.cos(theta), np.sin(theta)


def _spiral(x: Array, y: Array, size: float) -> tuple[Array, Array]:
    """Small shifts that set runs apart that lie at the same place."""
    dx, dy = np.zeros(len(x)), np.zeros(len(x))
    step = _APART * size
    known = np.flatnonzero(np.isfinite(x) & np.isfinite(y))
    places = np.round(np.column_stack([x[known], y[known]]) / step)
    _, place, counts = np.unique(places, axis=0, return_inverse=True, return_counts=True)
    seen = np.zeros(len(counts), dtype=np.int64)
    for row, one in zip(known.tolist(), place.reshape(-1).tolist(), strict=True):
        number = int(seen[one])
        seen[one] += 1
        # Many runs at one place fill it more densely instead of spreading over the map.
        widest = min(np.sqrt(counts[one]), _WIDEST_SPIRAL)
        radius = step * widest * np.sqrt(number / counts[one])
        dx[row] = radius * np.cos(number * _GOLDEN_ANGLE)
        dy[row] = radius * np.sin(number * _GOLDEN_ANGLE)
    return dx, dy


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
        # Small shifts of runs that are close in time, so that they do not hide each other.
        times = content.mjd[members]
        shifts = np.zeros(len(times))
        order = np.argsort(times, kind="stable")
        number = 0
        for before, row in pairwise(order):
            number = number + 1 if times[row] - times[before] <= near else 0
            # Up and down in turn, in steps.
            shifts[row] = _STEP * ((number + 1) // 2 % _STEPS) * (1 if number % 2 else -1)
        height[members] = shifts - place
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


_TITLES = {
    "aeff": "Effective area",
    "psf-r68": "PSF, 68 % containment radius",
    "edisp-res68": "Energy resolution, half the central 68 % width",
}
_AXES = {
    "aeff": "effective area",
    "psf-r68": "PSF radius, 68 %",
    "edisp-res68": "energy resolution, 68 %",
}


def curve_pictures(content: ReportContent) -> list[Picture]:
    """Responses of the runs against energy, and the mean of each group."""
    curves = content.curves
    if curves is None:
        return []
    return [
        draw_picture(
            f"curve-{name}",
            f"{title}, against energy",
            partial(_draw, content=content, curves=curves, name=name),
            content.looks,
        )
        for name, title in _TITLES.items()
        if np.isfinite(curves.values[name]).any()
    ]


def _draw(ax: Axes, content: ReportContent, curves: IrfCurves, name: str) -> None:
    values, labels = curves.values[name], content.labels[curves.rows]
    thin = float(np.interp(len(labels), [20, 300], [0.9, 0.4]))
    for label in content.with_unassigned:
        members = values[labels == label]
        # A line for all of them, interrupted: one element instead of hundreds.
        x: NDArray[np.float64] = np.tile(np.append(curves.energy, np.nan), len(members))
        y = np.column_stack([members, np.full(len(members), np.nan)]).ravel()
        ax.plot(x, y, color=content.looks[label].light, linewidth=thin, alpha=0.45)
    for label, mean in curves.means(name, content.labels).items():
        look, every = content.looks[label], max(len(mean) // 5, 1)
        ax.plot(curves.energy, mean, color=PAPER, linewidth=4.5)
        ax.plot(
            *(curves.energy, mean),
            color=look.light,
            linewidth=2.4,
            marker=look.marker,
            markersize=6,
            # Not all at the same energies, where they would hide each other.
            markevery=(label % every, every),
        )
    unit = unit_words(u.Unit(curves.units[name]))
    ax.set_xlabel("true energy [TeV]")
    ax.set_ylabel(f"{_AXES[name]} [{unit}]" if unit else _AXES[name])
    ax.set_xscale("log")
    _plain_log(ax.xaxis)
    if name == "aeff":
        ax.set_yscale("log")
        _plain_log(ax.yaxis)
    else:
        ax.set_ylim(bottom=0.0)
        ax.yaxis.set_major_locator(MaxNLocator(5))


def _plain_log(axis: Any) -> None:
    axis.set_major_locator(LogLocator(numticks=6))
    axis.set_minor_formatter(NullFormatter())
    axis.set_major_formatter(FuncFormatter(lambda value, _: decade_text(value)))
