"""Pictures within a page: SVG that takes its colours and its typeface from there."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from obscluster.report.colours import GRID, INK, PAPER, QUIET, THEME, GroupLook, variable

__all__ = ["Picture", "draw_picture"]

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
