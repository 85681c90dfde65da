"""Colours of the groups on light and on dark pages, as CSS variables.

Pictures are drawn in the colours of `obscluster.report.style`; within the page these become
variables, so that one picture serves both.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from matplotlib.colors import to_hex, to_rgb

from obscluster.grouping.base import UNASSIGNED
from obscluster.report.style import Label, group_style

__all__ = ["GRID", "INK", "PAPER", "QUIET", "THEME", "GroupLook", "looks", "not_quite_black"]
__all__ += ["variable"]

# What pictures are drawn with, in place of black, white and greys; the page replaces them.
INK, QUIET, GRID, PAPER = "#16191d", "#5d646e", "#e4e6ea", "#fefefe"
THEME = {INK: "--ink", QUIET: "--quiet", GRID: "--grid", PAPER: "--paper"}
"""Colours of pictures to CSS variables."""

Marker = str | tuple[int, int, int]

_DARK_PAGE = "#15181d"
_LEAST_CONTRAST = 5.0
_BLACK, _WHITE = "#0a0a0a", "#f0f0f0"

# Markers of the style to those of Matplotlib and of bokeh that look the same: the list of groups is
# drawn once for pictures of both.
_SAME: dict[str, tuple[Marker, str]] = {
    "o": ("o", "circle"),
    "s": ("s", "square"),
    "^": ("^", "triangle"),
    "D": ("D", "diamond"),
    "v": ("v", "inverted_triangle"),
    "P": ("P", "plus"),
    "X": ("*", "star"),
    "p": ("h", "hex"),
    "<": ((3, 1, 0), "triangle_pin"),
    "*": ((4, 1, 45), "square_pin"),
    ">": ((8, 2, 0), "asterisk"),
    "x": ("x", "x"),
}
_LINES = ("asterisk", "x")
_POINTED = ("star", "triangle_pin", "square_pin", "plus")


class GroupLook(NamedTuple):
    """Colours on light and on dark pages, markers of Matplotlib and of bokeh."""

    light: str
    dark: str
    marker: Marker
    bokeh_marker: str

    @property
    def scale(self) -> float:
        """How much larger a pointed marker must be to look as large as a round one."""
        return 1.4 if self.bokeh_marker in _POINTED else 1.0

    @property
    def is_outline(self) -> bool:
        """Whether the marker is made of lines, which have no colour inside."""
        return self.bokeh_marker in _LINES


def looks(labels: Iterable[int]) -> dict[int, GroupLook]:
    """Colours and markers of groups.

    Parameters
    ----------
    labels : iterable of int
        Groups, -1 among them for unassigned runs.

    Returns
    -------
    looks : dict
        Label to how it looks, in the order of the labels, unassigned last.
    """
    wanted: list[Label] = list(labels)
    return {
        int(label): GroupLook(not_quite_black(light), _on_dark(light), *_SAME[marker])
        for label, (light, marker) in group_style(wanted).items()
    }


def not_quite_black(colour: str) -> str:
    """The colour; a shade beside black, which SVG leaves out as its default."""
    return _BLACK if colour == "#000000" else colour


def variable(label: int) -> str:
    """CSS variable of the colour of a group."""
    return "--group-none" if label == UNASSIGNED else f"--group-{label}"


def _on_dark(colour: str) -> str:
    """The colour, mixed with white until it can be seen on a dark page."""
    if colour == "#000000":
        # A grey would look like runs of no group.
        return _WHITE
    rgb, page = to_rgb(colour), _luminance(_DARK_PAGE)
    for step in range(20):
        part = step / 20
        red, green, blue = ((1 - part) * value + part for value in rgb)
        mixed = to_hex((red, green, blue))
        if (_luminance(mixed) + 0.05) / (page + 0.05) >= _LEAST_CONTRAST:
            return mixed
    return "#ffffff"


def _luminance(colour: str) -> float:
    """Relative luminance, as in WCAG 2."""
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in to_rgb(colour)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
