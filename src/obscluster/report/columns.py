"""Columns of a table as numbers along an axis, and what to write there."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from astropy import units as u
from astropy.table import Table
from matplotlib.axis import Axis, XAxis
from numpy.typing import NDArray

from obscluster.columns import is_numeric, numbers
from obscluster.exceptions import RequestError, unknown_name

__all__ = [
    "Values",
    "axis_text",
    "cut_values",
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
