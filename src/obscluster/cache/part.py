"""A part of a cache: rows of runs, and what they are as a Parquet file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
from astropy import units as u
from astropy.table import Table
from astropy.table.meta import get_yaml_from_table
from numpy.typing import NDArray

__all__ = ["FORMAT", "CachedColumn", "Keys", "Part", "first_of_each", "match", "merged"]

FORMAT = 1
"""Of the layout of the parts."""
Keys = NDArray[np.uint64]
"""State of each run as two numbers, shape (n_runs, 2)."""
_KEY_NAMES = ("key_1", "key_2")
T = TypeVar("T", bound=np.generic)


@dataclass(frozen=True)
class CachedColumn:
    """A feature as it is kept.

    Parameters
    ----------
    name : str
        Name of the column.
    definition : str
        What the values depend on beside the run; a column with another one is not this.
    unit : `~astropy.units.UnitBase`
        Unit of the values.
    description : str
        One line.
    """

    name: str
    definition: str
    unit: u.UnitBase = field(default=u.one, compare=False)
    description: str = field(default="", compare=False)

    @property
    def meta(self) -> dict[str, str]:
        """What is written of it."""
        unit = self.unit.to_string()
        return {"definition": self.definition, "unit": unit, "description": self.description}

    @classmethod
    def of_meta(cls, name: str, meta: Mapping[str, str]) -> CachedColumn:
        """Column from what was written of it."""
        return cls(name, meta["definition"], u.Unit(meta["unit"]), meta["description"])


@dataclass(frozen=True)
class Part:
    """Rows of runs.

    Parameters
    ----------
    obs_ids, keys : `~numpy.ndarray`
        Identifier and state of each run.
    columns : dict
        Name to column.
    values, known : dict
        Name to the values, and whether they are there; shape (n_runs,).
    notes : sequence of str
        Of each run, a JSON object of lists of remarks by column; empty without any.
    """

    obs_ids: NDArray[np.int64]
    keys: Keys
    columns: Mapping[str, CachedColumn]
    values: Mapping[str, NDArray[np.float64]]
    known: Mapping[str, NDArray[np.bool_]]
    notes: Sequence[str]

    def remarks(self, name: str, rows: Iterable[int]) -> Iterator[list[str]]:
        """Remarks of some rows on a column."""
        for row in rows:
            note = self.notes[row]
            # Most runs have none.
            yield self._parsed(row).get(name, []) if note else []

    def _parsed(self, row: int) -> dict[str, list[str]]:
        if row not in self._notes:
            self._notes[row] = json.loads(self.notes[row])
        return self._notes[row]

    @cached_property
    def _notes(self) -> dict[int, dict[str, list[str]]]:
        return {}

    def serialised(self) -> bytes:
        """The bytes of a Parquet file, with units for those who open it by astropy."""
        import pyarrow as pa  # type: ignore[import-untyped]
        from pyarrow import parquet

        arrays: dict[str, Any] = {"obs_id": pa.array(self.obs_ids)}
        for name in self.columns:
            arrays[name] = pa.array(self.values[name], mask=~self.known[name], from_pandas=False)
        arrays["notes"] = pa.array(list(self.notes), type=pa.string())
        arrays |= {name: pa.array(self.keys[:, i]) for i, name in enumerate(_KEY_NAMES)}
        longest = max(map(len, self.notes), default=0)
        metadata = {
            "obscluster": json.dumps({"columns": {n: c.meta for n, c in self.columns.items()}}),
            "table_meta_yaml": "\n".join(get_yaml_from_table(self._described(list(arrays)))),
            "table::len::notes": str(max(longest, 1)),
        }
        sink = pa.BufferOutputStream()
        parquet.write_table(pa.table(arrays, metadata=metadata), sink)
        return bytes(sink.getvalue())

    def _described(self, names: Sequence[str]) -> Table:
        """Empty table with the units and descriptions of the columns."""
        table = Table({name: np.empty(0) for name in names})
        for name, column in self.columns.items():
            table[name].unit, table[name].description = column.unit, column.description
        return table

    @classmethod
    def parse(cls, content: bytes, wanted: Sequence[CachedColumn] | None = None) -> Part:
        """Part from the bytes of a Parquet file.

        Parameters
        ----------
        content : bytes
            What `serialised` gave.
        wanted : sequence of `CachedColumn`, optional
            Only these columns, where they are there.

        Raises
        ------
        ValueError, KeyError, TypeError, NotImplementedError, OSError
            If it is something else.
        """
        import pyarrow as pa
        from pyarrow import parquet

        file = parquet.ParquetFile(pa.BufferReader(content))
        described = json.loads((file.schema_arrow.metadata or {})[b"obscluster"])["columns"]
        columns = {name: CachedColumn.of_meta(name, meta) for name, meta in described.items()}
        if wanted is not None:
            columns = {c.name: c for c in wanted if columns.get(c.name) == c}
        # Without threads of its own, which are in the way of workers that fork later.
        table = file.read(["obs_id", *columns, "notes", *_KEY_NAMES], use_threads=False)
        data = {name: table[name].combine_chunks() for name in table.column_names}
        known = {
            name: _numbers(data[name].is_valid().cast(pa.uint8()), np.uint8).astype(bool)
            for name in columns
        }
        return cls(
            _numbers(data["obs_id"], np.int64),
            np.stack([_numbers(data[name], np.uint64) for name in _KEY_NAMES], axis=1),
            columns,
            {
                name: np.where(known[name], _numbers(data[name], np.float64), np.nan)
                for name in known
            },
            known,
            data["notes"].to_pylist(),
        )


def _numbers(array: Any, dtype: type[T]) -> NDArray[T]:
    """Numbers of an arrow array; something where there is null."""
    # Its own way to numpy loads pandas, which takes longer than all the rest.
    if str(array.type).replace("double", "float64") != np.dtype(dtype).name:
        raise TypeError(f"{array.type} where {dtype.__name__} was expected")
    item = np.dtype(dtype).itemsize
    found = np.frombuffer(array.buffers()[1], dtype=dtype, offset=array.offset * item)
    return found[: len(array)]


def match(keys: Keys, among: Keys) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Place of each key among others, and whether it is there at all."""
    if len(among) == 0:
        return np.zeros(len(keys), dtype=np.int64), np.zeros(len(keys), dtype=bool)
    order = np.argsort(among[:, 0])
    place = np.searchsorted(among[:, 0], keys[:, 0], sorter=order)
    rows = order[np.minimum(place, len(among) - 1)]
    return rows, (among[rows] == keys).all(axis=1)


def first_of_each(keys: Keys) -> NDArray[np.int64]:
    """Rows of keys, of equal ones the first, in their order."""
    # Other runs that share the first number are as rare as hash collisions of 64 bits; the latter
    # of two such runs is not kept.
    rows: NDArray[np.int64] = np.unique(keys[:, 0], return_index=True)[1]
    return np.sort(rows)


def merged(parts: Sequence[Part]) -> Part:
    """One part of several, oldest first, rows in the order of the identifiers.

    Of columns of the same name, and of the same value, the latest counts.
    """
    keys = np.concatenate([part.keys for part in parts])
    obs_ids = np.concatenate([part.obs_ids for part in parts])
    first = first_of_each(keys)
    first = first[np.argsort(obs_ids[first], kind="stable")]
    keys = keys[first]
    columns = {name: column for part in parts for name, column in part.columns.items()}
    values = {name: np.full(len(keys), np.nan) for name in columns}
    known = {name: np.zeros(len(keys), dtype=bool) for name in columns}
    remarks: list[dict[str, list[str]]] = [{} for _ in keys]
    for part in parts:
        rows, has = match(keys, part.keys)
        for name, column in columns.items():
            if part.columns.get(name) != column:
                continue
            new = has.copy()
            new[new] = part.known[name][rows[new]]
            values[name][new] = part.values[name][rows[new]]
            known[name] |= new
            of_new = part.remarks(name, rows[new].tolist())
            for row, texts in zip(np.flatnonzero(new).tolist(), of_new, strict=True):
                remarks[row].pop(name, None)
                if texts:
                    remarks[row][name] = texts
    notes = [json.dumps(found) if found else "" for found in remarks]
    return Part(obs_ids[first], keys, columns, values, known, notes)
