"""Axes of a response: from the columns of its table to `~obscluster.gadf.axis.Axis`."""

from __future__ import annotations

from collections.abc import Container
from functools import lru_cache
from typing import Any

import numpy as np
from astropy import units as u
from numpy.typing import NDArray

from obscluster.gadf.axis import Axis, axis_unit
from obscluster.gadf.cleaning import clean
from obscluster.gadf.columns import Column
from obscluster.gadf.hdu import HDU
from obscluster.gadf.irf_class import AXIS_PREFIXES, IRF_CLASSES, IRFClass
from obscluster.gadf.structure import Structure
from obscluster.gadf.units import conversion_factor

__all__ = ["factor_of", "numbers", "read_axes", "read_axis", "unfit"]

_LOG_AXES = ("energy_true", "energy")
# No bin edge, in TeV or degrees, is as large: it is damage.
_MAX_AXIS = 1e9
# Width of a bin, relative to the axis, that rounding would close.
_CLOSED = 1e-13


def read_axes(hdu: HDU, spec: IRFClass, values: Column) -> dict[str, Axis]:
    """Axes of a response, by name; ``values`` is the first column of its values."""
    known = _axes_before_values(hdu.structure, spec.name, hdu.bytes_before(values))
    if known is not None:
        return dict(known)
    return {name: read_axis(hdu, name) for name in spec.axes}


@lru_cache(maxsize=64)
def _axes_before_values(
    structure: Structure, hdu_class: str, leading: bytes
) -> dict[str, Axis] | None:
    """Axes from the bytes that precede the values in the row, as most files have it, else None.

    Runs of one production share header and axes, so that this is done once for all of them.
    """
    axes = {}
    for name in IRF_CLASSES[hdu_class].axes:
        prefix = _prefix(structure.by_upper_name, name)
        if prefix is None:
            return None
        columns = [structure.by_upper_name[f"{prefix}_{end}"] for end in ("LO", "HI")]
        if not all(
            column.dtype[1:2] in ("f", "i") and column.offset + column.width <= len(leading)
            for column in columns
        ):
            return None
        edges = tuple((c.dtype, leading[c.offset : c.offset + c.width]) for c in columns)
        try:
            factors = tuple(factor_of(column, axis_unit(name)) for column in columns)
            axes[name] = _make_axis(name, prefix, edges, factors)
        except ValueError:
            # The other way tells what is wrong.
            return None
    return axes


def _prefix(columns: Container[str], name: str) -> str | None:
    """What the names of an axis' columns begin with, None if there are none."""
    prefixes = AXIS_PREFIXES[name]
    return next((p for p in prefixes if f"{p}_LO" in columns and f"{p}_HI" in columns), None)


def read_axis(hdu: HDU, name: str) -> Axis:
    """Axis from its _LO and _HI columns."""
    prefix = _prefix(hdu, name)
    if prefix is None:
        columns = " or ".join(f"{p}_LO and {p}_HI" for p in AXIS_PREFIXES[name])
        raise hdu.error(f"no columns {columns}; it has {', '.join(hdu.colnames)}")
    names = (f"{prefix}_LO", f"{prefix}_HI")
    cells = [numbers(hdu, column) for column in names]
    edges = tuple((cell.dtype.str, cell.tobytes()) for cell in cells)
    try:
        factors = tuple(factor_of(hdu.structure.column(end), axis_unit(name)) for end in names)
        return _make_axis(name, prefix, edges, factors)
    except ValueError as error:
        raise hdu.error(str(error)) from None


@lru_cache(maxsize=256)
def _make_axis(
    name: str,
    prefix: str,
    edges: tuple[tuple[str, bytes], ...],
    factors: tuple[float, ...],
) -> Axis:
    """Axis from types and bytes of lower and upper edges, and their factors to the axis' unit.

    Runs of one production share their axes, and what is worked out for them.
    """
    lo, hi = (
        clean(np.frombuffer(data, dtype), keep_nan=True)[0].astype(float) * factor
        for (dtype, data), factor in zip(edges, factors, strict=True)
    )
    if lo.size != hi.size or lo.size == 0:
        raise ValueError(f"{prefix}_LO has {lo.size} values, {prefix}_HI has {hi.size}")
    # Equal edges mean that values belong to points rather than to bins.
    with np.errstate(invalid="ignore", over="ignore"):
        at_points = bool((np.abs(lo - hi) <= 1e-5 * np.abs(hi)).all())
    points = hi if at_points else np.append(lo, hi[-1])
    if not (np.abs(points) <= _MAX_AXIS).all():
        raise ValueError(f"{prefix}_LO and {prefix}_HI have values beyond {_MAX_AXIS:g}, or none")
    # An absurd scale makes bins of next to no width.
    if (np.diff(points) <= _CLOSED * np.abs(points).max()).any():
        raise ValueError(f"{prefix}_LO and {prefix}_HI do not rise from bin to bin")
    interp = "log" if name in _LOG_AXES else "lin"
    if interp == "log" and points[0] < 0:
        raise ValueError(f"{prefix}_LO has negative energies")
    axis = (Axis.from_nodes if at_points else Axis.from_edges)(name, points, interp)
    for array in (axis.edges, axis.center):
        array.flags.writeable = False
    return axis


def factor_of(column: Column, unit: u.UnitBase) -> float:
    """Factor from the unit of a column to the expected one; without a unit it is that one."""
    factor = conversion_factor(column.unit, unit) if column.unit else 1.0
    if factor is None:
        raise unfit(column, unit)
    return factor


def unfit(column: Column, expected: u.UnitBase) -> ValueError:
    """Error for a column whose unit does not convert to the expected one."""
    text = f"unit {column.unit!r} of column {column.name} does not convert to {expected}"
    return ValueError(text)


def numbers(hdu: HDU, column: str | Column, part: slice | None = None) -> NDArray[Any]:
    """The one cell of a column, or a part of it, if it holds numbers; see `HDU.cell`."""
    cell = hdu.cell(column, part)
    if cell.dtype.kind not in "fiu":
        name = column if isinstance(column, str) else column.name
        raise hdu.error(f"column {name} does not hold numbers")
    return cell
