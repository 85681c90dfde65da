"""Groups that are intervals and categories of one or several quantities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from astropy import units as u
from astropy.table import Table

from obscluster.columns import full_turn, numbers
from obscluster.files.records import list_of, mapping, number, require, text, whole
from obscluster.grouping.rules.base import (
    LABEL,
    NONE,
    Answer,
    Labels,
    column_of,
    texts_of,
    unit_text,
)

__all__ = ["Bins", "Categories", "Cells"]


@dataclass(frozen=True)
class Bins:
    """Intervals of a quantity; each holds its lower edge.

    Parameters
    ----------
    name : str
        Column.
    edges : tuple of float
        Rising, in the unit; the outer ones may be infinite.
    unit : str
        Unit of the edges.
    """

    name: str
    edges: tuple[float, ...]
    unit: str = ""

    def cells(self, runs: Table) -> tuple[Labels, list[str]]:
        """Number of the interval of each run, from 0, and why there is none."""
        column = column_of(runs, self.name)
        values = numbers(column, u.Unit(self.unit))
        turn = full_turn(self.name, column)
        if turn is not None:
            start = self.edges[0] if np.isfinite(self.edges[0]) else 0.0
            values = np.where(np.isfinite(values), start + np.mod(values - start, turn), np.nan)
        cells = np.digitize(values, self.edges) - 1
        outside = (cells < 0) | (cells >= len(self.edges) - 1)
        missing = ~np.isfinite(values)
        cells = np.where(outside | missing, NONE, cells).astype(np.int64)
        lo, hi = self.edges[0], self.edges[-1]
        reasons = []
        for value, is_missing, is_outside in zip(values, missing, outside, strict=True):
            reason = ""
            if is_missing:
                reason = f"no {self.name}"
            elif is_outside:
                shown = f"{self.name} = {value:.4g} {self.unit}".rstrip()
                reason = f"{shown} is outside the edges {lo:.4g} to {hi:.4g}"
            reasons.append(reason)
        return cells, reasons

    def name_of(self, cell: int) -> str:
        """The interval in words."""
        lo, hi, unit = self.edges[cell], self.edges[cell + 1], f" {self.unit}" if self.unit else ""
        if not np.isfinite(lo):
            return f"{self.name} below {hi:g}{unit}" if np.isfinite(hi) else f"any {self.name}"
        if not np.isfinite(hi):
            return f"{self.name} from {lo:g}{unit}"
        return f"{self.name} {lo:g} to {hi:g}{unit}"


@dataclass(frozen=True)
class Categories:
    """Values of a column that are told apart.

    Parameters
    ----------
    name : str
        Column.
    values : tuple of str
        Its values, as text.
    """

    name: str
    values: tuple[str, ...]

    def cells(self, runs: Table) -> tuple[Labels, list[str]]:
        """Number of the value of each run, from 0, and why there is none."""
        number_of = {value: number for number, value in enumerate(self.values)}
        texts = texts_of(runs, self.name)
        cells = np.array([number_of.get(value, NONE) for value in texts], dtype=np.int64)
        reasons = [
            ""
            if value in number_of
            else (f"{self.name} = {value} was not there before" if value else f"no {self.name}")
            for value in texts
        ]
        return cells, reasons

    def name_of(self, cell: int) -> str:
        """The value in words."""
        return f"{self.name} {self.values[cell]}"


@dataclass(frozen=True)
class Cells:
    """Groups that are cells of one or several quantities.

    Parameters
    ----------
    axes : tuple of `Bins` or `Categories`
        The quantities.
    labels : mapping
        Cell, a number per axis, to label.
    """

    axes: tuple[Bins | Categories, ...]
    labels: Mapping[tuple[int, ...], int]
    kind: ClassVar[str] = "cells"

    def cells(self, runs: Table) -> tuple[Labels, list[str]]:
        """Cell of each run, shape (n_obs, n_axes), -1 where there is none, and why."""
        found = [axis.cells(runs) for axis in self.axes]
        reasons = [
            "; ".join(reason for reason in reasons if reason)
            for reasons in zip(*(reasons for _, reasons in found), strict=True)
        ]
        return np.column_stack([cells for cells, _ in found]), reasons

    def assign(self, runs: Table) -> Answer:
        """See `Rule`."""
        cells, reasons = self.cells(runs)
        labels = np.full(len(runs), NONE, dtype=np.int64)
        for row, cell in enumerate(map(tuple, cells.tolist())):
            if NONE in cell:
                continue
            labels[row] = self.labels.get(cell, NONE)
            if cell not in self.labels:
                reasons[row] = f"no run was in {self.name_of(cell)} before"
            elif labels[row] == NONE:
                reasons[row] = f"{self.name_of(cell)} is no group"
        return labels, reasons

    def name_of(self, cell: Sequence[int]) -> str:
        """A cell in words."""
        names = [axis.name_of(number) for axis, number in zip(self.axes, cell, strict=True)]
        return ", ".join(names)

    def relabelled(self, labels: Mapping[int, int]) -> Cells:
        """See `Rule`."""
        return replace(
            self, labels={cell: labels.get(old, NONE) for cell, old in self.labels.items()}
        )

    def record(self) -> dict[str, Any]:
        """See `Rule`."""
        axes = [
            {"column": axis.name, "edges": list(axis.edges), "unit": axis.unit}
            if isinstance(axis, Bins)
            else {"column": axis.name, "values": list(axis.values)}
            for axis in self.axes
        ]
        cells = [{"cell": list(cell), "label": label} for cell, label in self.labels.items()]
        return {"kind": self.kind, "axes": axes, "cells": cells}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Cells:
        """See `Rule`."""
        _RECORD(record, ())
        axes = tuple(
            Bins(axis["column"], tuple(map(float, axis["edges"])), axis["unit"])
            if "edges" in axis
            else Categories(axis["column"], tuple(map(str, axis["values"])))
            for axis in record["axes"]
        )
        n_cells = [
            len(axis.edges) - 1 if isinstance(axis, Bins) else len(axis.values) for axis in axes
        ]
        for axis in axes:
            rising = isinstance(axis, Categories) or bool((np.diff(axis.edges) > 0).all())
            require(rising, f"edges of {axis.name}: expected numbers that rise")
        for item in record["cells"]:
            cell = item["cell"]
            inside = len(cell) == len(axes) and all(map(int.__lt__, cell, n_cells))
            require(
                inside, f"cell {cell[:5]}: not one of {' times '.join(map(str, n_cells))} cells"
            )
        return cls(axes, {tuple(item["cell"]): int(item["label"]) for item in record["cells"]})


def _is_axis(value: Any, at: tuple[str | int, ...]) -> None:
    if isinstance(value, Mapping) and "edges" in value:
        _BINS(value, at)
    else:
        _CATEGORIES(value, at)


_EDGES = list_of(number(finite=False), at_least=2)
_BINS = mapping({"column": text, "edges": _EDGES, "unit": unit_text})
_CATEGORIES = mapping({"column": text, "values": list_of(text)})
_CELL = mapping({"cell": list_of(whole(0)), "label": LABEL})
_RECORD = mapping({"axes": list_of(_is_axis, at_least=1), "cells": list_of(_CELL)})
