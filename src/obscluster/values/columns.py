"""Table columns as plain numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
from astropy import units as u
from astropy.table import Table
from numpy.typing import NDArray

from obscluster.exceptions import RequestError, unknown_name

__all__ = [
    "CYCLIC_COLUMNS",
    "full_turn",
    "is_numeric",
    "numbers",
    "range_of",
    "relative_spread",
    "require_numbers",
]

CYCLIC_COLUMNS = ("AZ_PNT", "RA_PNT", "GLON_PNT", "RA_OBJ", "azimuth")
"""Columns with angles that start again after a full turn."""


def is_numeric(column: Any) -> bool:
    """Whether a column holds one number per row."""
    dtype = getattr(column, "dtype", None)
    return dtype is not None and column.ndim == 1 and dtype.kind in "fiub"


def numbers(column: Any, unit: u.UnitBase | None = None) -> NDArray[np.float64]:
    """Values of a column, NaN where masked.

    Parameters
    ----------
    column : `~astropy.table.Column` or `~astropy.units.Quantity`
        Numbers, masked or not.
    unit : `~astropy.units.UnitBase`, optional
        Unit of the result; a column without unit is taken to be in it. The column's own unless
        told.
    """
    written = column.unit
    plain = column.value if isinstance(column, u.Quantity) else column
    values = np.ma.filled(np.ma.asarray(plain).astype(float), np.nan)
    return values if unit is None or written is None else u.Quantity(values, written).to_value(unit)


def require_numbers(table: Table, name: str) -> Any:
    """Column of numbers of a table.

    Raises
    ------
    RequestError
        If there is no such column, or it holds something else.
    """
    if name not in table.colnames:
        raise RequestError(unknown_name("column", str(name), table.colnames))
    if not is_numeric(table[name]):
        raise RequestError(f"column {name} holds no numbers; it can only be taken by categories")
    return table[name]


def full_turn(name: str, column: Any) -> float | None:
    """After which value a column of angles starts again, in its unit; None if it is not cyclic."""
    if name not in CYCLIC_COLUMNS:
        return None
    unit = column.unit or u.deg
    return float((360 * u.deg).to_value(unit)) if unit.is_equivalent(u.deg) else None


def range_of(values: NDArray[np.float64], period: float | None = None) -> tuple[float, float]:
    """Smallest and largest value; of angles, the ends of the shortest arc that holds all.

    Parameters
    ----------
    values : `~numpy.ndarray`
        Numbers, shape (n,); NaN do not count.
    period : float, optional
        Of angles: a full turn. The lower end is then within -period/2 and period, and the upper
        end above it: 350 and 20 deg are the range from -10 to 20 deg.

    Returns
    -------
    lo, hi : float
        NaN if there is no value.
    """
    known = values[np.isfinite(values)]
    if not len(known):
        return np.nan, np.nan
    if period is None:
        return float(known.min()), float(known.max())
    angles = np.unique(np.mod(known, period))
    # The largest gap between neighbours is what the arc leaves out.
    gaps = np.diff(np.append(angles, angles[0] + period))
    last = int(np.argmax(gaps))
    lo, hi = float(angles[(last + 1) % len(angles)]), float(angles[last])
    if lo > hi:
        lo -= period
    return lo, hi


def relative_spread(lo: float, hi: float) -> float:
    """Width of a range over its middle; NaN if it holds zero, where that means nothing."""
    if not lo * hi > 0:
        return 0.0 if lo == hi == 0 else np.nan
    return abs((hi - lo) / (0.5 * (lo + hi)))
