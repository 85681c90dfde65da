"""Legends that hide no data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.legend import Legend
from matplotlib.lines import Line2D

__all__ = ["draw_legend", "marker_handle", "note_handle"]

Corner = Literal["upper right", "upper left", "lower right", "lower left"]
CORNERS: tuple[Corner, ...] = ("upper right", "upper left", "lower right", "lower left")
CLEARANCE = 5.0  # points, at least the radius of a marker
MAX_GROUPS_INSIDE = 8
MAX_GROUPS_LISTED = 20


def draw_legend(
    ax: Axes, groups: Sequence[Artist], others: Sequence[Artist], avoid: Sequence[Artist]
) -> float:
    """Draw a legend that hides no data: in a free corner, or else right of the axes.

    Parameters
    ----------
    ax : `~matplotlib.axes.Axes`
        Where the legend belongs.
    groups : sequence of `~matplotlib.artist.Artist`
        Handles of the groups; beyond 20 of them, the number of those not listed is given instead.
    others : sequence of `~matplotlib.artist.Artist`
        Handles of everything else: unassigned runs, cuts, notes.
    avoid : sequence of `~matplotlib.artist.Artist`
        The lines and scattered points that must stay visible.

    Returns
    -------
    width : float
        Width in pixels that the axes lose to the legend once the figure is laid out.
    """
    handles = [*groups]
    if len(groups) > MAX_GROUPS_LISTED:
        more = len(groups) - MAX_GROUPS_LISTED + 1
        handles[-more:] = [note_handle(f"and {more} more groups")]
    handles.extend(others)
    if not handles:
        return 0.0
    if len(groups) <= MAX_GROUPS_INSIDE:
        legend = ax.legend(handles=handles, loc="upper right", fontsize="small")
        if any(_is_free(ax, legend, corner, avoid) for corner in CORNERS):
            return 0.0
    legend = ax.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(1.02, 1.0),
        borderaxespad=0.0,
        fontsize="small",
    )
    laid_out = ax.figure.get_layout_engine() is not None
    return float(legend.get_window_extent().width) if laid_out else 0.0


def _is_free(ax: Axes, legend: Legend, corner: Corner, avoid: Sequence[Artist]) -> bool:
    """Move the legend to a corner and tell whether it hides nothing there.

    Not ``loc="best"``: it settles for the least evil, and looks at the centres of points only.
    """
    legend.set_loc(corner)
    ax.get_xlim()  # makes pending autoscaling happen, on which the positions depend
    box = legend.get_window_extent().padded(CLEARANCE / 72.0 * ax.figure.dpi)
    for artist in avoid:
        if isinstance(artist, Line2D):
            path = artist.get_path().transformed(artist.get_transform())
            if path.intersects_bbox(box, filled=False):
                return False
        elif isinstance(artist, PathCollection):
            offsets = np.ma.filled(artist.get_offsets(), np.nan)
            if box.count_contains(ax.transData.transform(offsets)):
                return False
    return True


def marker_handle(text: str, color: str, marker: str, line: bool = False) -> Line2D:
    """Legend handle of fixed size, opaque also where the points are small and faint."""
    return Line2D([], [], color=color, marker=marker, ls="-" if line else "none", ms=6, label=text)


def note_handle(text: str) -> Line2D:
    """Legend handle of a remark: no symbol, the text only."""
    return Line2D([], [], linestyle="none", label=text)
