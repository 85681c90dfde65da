"""How a group looks: its colour, marker and name, the same in every picture; axes and legends.

Integer labels keep their looks whatever else is drawn with them, so that group 2 of one figure can
be compared with group 2 of the next. Colours are those of Okabe and Ito, distinguishable with
colour-deficient vision; the marker repeats what the colour says, for prints in grey.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import matplotlib as mpl
import numpy as np
from astropy import units as u
from astropy.table import Table
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis, XAxis
from matplotlib.collections import PathCollection
from matplotlib.colors import to_hex
from matplotlib.legend import Legend
from matplotlib.lines import Line2D
from numpy.typing import ArrayLike, NDArray

from obscluster.exceptions import RequestError, unknown_name
from obscluster.grouping import UNASSIGNED
from obscluster.values.columns import is_numeric, numbers

__all__ = [
    "CUT_STYLE",
    "Label",
    "Values",
    "as_labels",
    "axis_text",
    "count_text",
    "cut_values",
    "draw_legend",
    "group_style",
    "group_text",
    "marker_handle",
    "note_handle",
    "read_column",
    "run_rank",
    "unit_text",
]


class Values(NamedTuple):
    """What one axis shows: numbers in ``unit`` (NaN where masked), and how to call them."""

    values: NDArray[np.float64]
    name: str
    unit: u.UnitBase | None = None
    description: str | None = None


def read_column(table: Table, name: str) -> Values:
    """Numbers of a column; `RequestError` if there is none of that name, or not one per run."""
    if name not in table.colnames:
        raise RequestError(unknown_name("column", name, table.colnames))
    column = table[name]
    if not is_numeric(column):
        raise RequestError(
            f"column {name!r} cannot be plotted: one number per run is needed; "
            f"numeric columns: {', '.join(c for c in table.colnames if is_numeric(table[c]))}"
        )
    return Values(numbers(column), name, column.unit, column.info.description)


def run_rank(table: Table) -> Values:
    """Position of each run, from 1, in order of obs_id; an axis of obs_ids is mostly gaps."""
    for name in table.colnames:
        if name.lower() == "obs_id":
            order = np.argsort(np.asarray(table[name]), kind="stable")
            rank = np.empty(len(table))
            rank[order] = np.arange(1, len(table) + 1)
            return Values(rank, f"run, in order of {name}")
    return Values(np.arange(1.0, len(table) + 1), "run, in order of the table")


def cut_values(cut: Any, x: Values) -> NDArray[np.float64]:
    """Cuts as numbers in the unit of ``x``; none where ``cut`` is None."""
    if cut is None:
        return np.empty(0)
    # Plain numbers beside Quantities in one sequence are allowed, so each is converted by itself.
    single = not isinstance(cut, list | tuple) and np.ndim(cut) == 0
    unit = u.dimensionless_unscaled if x.unit is None else x.unit
    try:
        values = [
            float(one.to_value(unit)) if isinstance(one, u.Quantity) else float(one)
            for one in ([cut] if single else cut)
        ]
    except (u.UnitConversionError, TypeError, ValueError) as error:
        raise RequestError(
            f"cut {cut!r} cannot be compared with {x.name!r} in {unit.to_string() or 'no unit'}: "
            "give numbers in that unit, or Quantities"
        ) from error
    if not np.all(np.isfinite(values)):
        raise RequestError(f"cut {cut!r} is not finite; give finite numbers, or Quantities")
    return np.array(values)


def unit_text(unit: u.UnitBase | None) -> str:
    """Unit as a label shows it; empty for a number without unit."""
    if unit is None:
        return ""
    # Powers are typeset; a single unit keeps its name, "deg" being clearer than a small circle.
    plain = unit.scale == 1 and [*unit.powers] in ([], [1])
    return str(unit.to_string() if plain else unit.to_string("latex_inline"))


def axis_text(axis: Axis, shown: Values) -> str:
    """Label of an axis, such as ``psf-radius [deg]``.

    The description takes the place of the name if it fits along the axis.
    """
    unit = unit_text(shown.unit)
    brackets = f" [{unit}]" if unit else ""
    text = (shown.description or "").strip().rstrip(".")
    box = axis.axes.bbox
    pixels = box.width if isinstance(axis, XAxis) else box.height
    # On average, letters are a little more than half as wide as they are high.
    letter = 0.55 * axis.label.get_fontproperties().get_size_in_points() / 72.0  # inch
    needed = letter * axis.axes.figure.dpi * len(text + brackets)
    if not text or "\n" in text or needed > pixels:
        text = shown.name
    return text.replace("$", r"\$") + brackets


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


Label = int | str

UNASSIGNED_STYLE = ("#8c8c8c", "x")

# Okabe and Ito's palette. Its black stands in for its yellow, which is lost on a white page.
OKABE_ITO = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p", "<", "*", ">")

CUT_STYLE: dict[str, Any] = {"color": "0.25", "linestyle": "--", "linewidth": 1.2, "zorder": 0.9}


def as_labels(labels: ArrayLike) -> NDArray[np.object_]:
    """Group labels as plain `int` and `str`.

    Parameters
    ----------
    labels : array-like of int or str, shape (n_obs,)
        Group of each run; -1 (or "-1", as NumPy writes it beside strings) is unassigned.

    Returns
    -------
    labels : `~numpy.ndarray` of object, shape (n_obs,)
        The same labels, as Python objects.

    Raises
    ------
    RequestError
        Labels that are not one-dimensional, or neither integers nor strings.
    """
    array = np.asarray(labels)
    if array.ndim != 1:
        raise RequestError(f"labels must be one value per run, not an array of shape {array.shape}")
    plain = np.empty(array.size, dtype=object)
    plain[:] = [_as_label(value) for value in array.tolist()]
    return plain


def _as_label(value: object) -> Label:
    if isinstance(value, bytes):
        value = value.decode()
    if isinstance(value, str):
        return UNASSIGNED if value == str(UNASSIGNED) else str(value)
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        return int(value)
    raise RequestError(f"labels must be integers or strings, not {value!r}")


def _ordered_labels(labels: Iterable[Label]) -> list[Label]:
    """Distinct labels in the order of the legend: integers, strings, unassigned.

    Numbers within strings count as numbers: ``group_10`` comes after ``group_9``.
    """

    def key(label: Label) -> tuple[bool, bool, int, list[tuple[bool, int, str]]]:
        if isinstance(label, int):
            return label == UNASSIGNED, False, label, []
        parts = [part for part in re.split(r"(\d+)", label) if part]
        natural = [(p.isdecimal(), int(p) if p.isdecimal() else 0, p) for p in parts]
        return False, True, 0, natural

    return sorted(set(labels), key=key)


def group_style(labels: ArrayLike) -> dict[Label, tuple[str, str]]:
    """Colour and marker of each group.

    An integer label, and a string ``group_<integer>``, has the same looks whatever else is drawn:
    Okabe and Ito's colours for 1 to 7, beyond these a perceptual colour map sampled in steps of the
    golden section, with markers that cycle. Other strings take the same looks in the order of
    their names; these are the same in all pictures of the same set of labels.

    Parameters
    ----------
    labels : array-like of int or str, shape (n_obs,)
        Group of each run; -1 is unassigned.

    Returns
    -------
    style : dict
        ``{label: (colour, marker)}`` in the order of the legend; colours as ``#rrggbb``.

    Raises
    ------
    RequestError
        Labels that are not one-dimensional, or neither integers nor strings.

    Examples
    --------
    >>> group_style([2, 1, 1, -1])
    {1: ('#0072b2', 'o'), 2: ('#d55e00', 's'), -1: ('#8c8c8c', 'x')}
    """
    style: dict[Label, tuple[str, str]] = {}
    named = 0
    for label in _ordered_labels(as_labels(labels)):
        if label == UNASSIGNED:
            style[label] = UNASSIGNED_STYLE
        elif isinstance(label, int):
            style[label] = _slot_style(label - 1)
        elif match := re.fullmatch(r"group_(\d+)", label):
            style[label] = _slot_style(int(match[1]) - 1)
        else:
            style[label] = _slot_style(named)
            named += 1
    return style


def _slot_style(slot: int) -> tuple[str, str]:
    marker = MARKERS[slot % len(MARKERS)]
    if 0 <= slot < len(OKABE_ITO):
        return OKABE_ITO[slot], marker
    # Steps of the golden section keep neighbours apart however many groups follow; the bright end
    # of the map is left out, since it is hard to see on white.
    fraction = 0.85 * ((0.5 * (math.sqrt(5.0) - 1.0) * slot) % 1.0)
    return to_hex(mpl.colormaps["viridis"](fraction)), marker


def count_text(n_obs: int) -> str:
    """Number of runs in words, such as ``1 run``."""
    return f"{n_obs} run" if n_obs == 1 else f"{n_obs} runs"


def group_text(label: Label, n_obs: int, names: Mapping[Label, str] | None = None) -> str:
    """Legend entry of a group, such as ``group 1 (7 runs)``.

    Parameters
    ----------
    label : int or str
        Label of the group.
    n_obs : int
        Number of its runs.
    names : dict, optional
        Display names by label, for those that should not have the usual one.
    """
    if label == UNASSIGNED:
        default = "unassigned"
    else:
        default = f"group {label}" if isinstance(label, int) else label
    return f"{(names or {}).get(label, default)} ({count_text(n_obs)})"
