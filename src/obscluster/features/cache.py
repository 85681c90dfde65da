"""Features that were computed before, kept in Parquet files.

A cache is a directory of part files. Each has one row per run, with its ``obs_id``, one column per
feature, ``notes``, and the key that says of which state of which files the values are; astropy and
pandas open it. What is not there is null, what has no value is NaN.

- Who computes adds a part, written beside and renamed, so that nobody sees half of one and two who
  add at once lose nothing.
- A part is named by the sum over its bytes. One that is damaged is noticed, warned of and removed;
  what it held is computed anew.
- Many small parts are merged into one: it is there before those that it replaces are removed, and a
  reader that misses one of them looks again. A part is only ever removed by who has put its content
  into another, so merging at once loses nothing either.

What the values are valid for is the business of `obscluster.features.cache_keys`. Of files that
have changed the old rows stay; delete the directory whenever you like.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import uuid
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

import numpy as np
from astropy import units as u
from astropy.table import Table
from astropy.table.meta import get_yaml_from_table
from numpy.typing import NDArray

from obscluster.exceptions import ObsClusterWarning, RequestError
from obscluster.files.exchange import locked

__all__ = [
    "FORMAT",
    "CachedColumn",
    "FeatureCache",
    "Found",
    "Identity",
    "Keys",
    "Part",
    "first_of_each",
    "match",
    "merged",
]

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


Identity = Literal["stat", "checksum"]
"""How a file is known again: by its size and the time it was modified, or by all its bytes."""
Remarks = Mapping[str, Sequence[str]]

# Parts of another layout are left alone.
_PART = re.compile(rf"features-v{FORMAT}-([0-9a-f]{{16}})-([0-9a-f]{{32}})\.parquet\Z")
_MAX_PARTS = 16
# For how long to wait for others that add something, in seconds.
_PATIENCE = 60
_TRIES = 20


@dataclass
class Found:
    """What a cache holds of some runs and columns.

    Parameters
    ----------
    values : `~numpy.ndarray`
        Shape (n_runs, n_columns).
    known : `~numpy.ndarray`
        Whether the cache has the value, which may be NaN; of the same shape.
    remarks : dict
        Row to what was remarked of it, by column; rows without are left out.
    """

    values: NDArray[np.float64]
    known: NDArray[np.bool_]
    remarks: dict[int, dict[str, list[str]]] = field(default_factory=dict)


class FeatureCache:
    """Features of runs, kept between one call and the next.

    Parameters
    ----------
    directory : path
        Where it is; made when something is added. Several caches, processes and machines may use
        the same one at once.
    identity : {"stat", "checksum"}
        How files are known again: by size and time of modification, or by reading all their bytes,
        for archives whose times mean nothing.

    Attributes
    ----------
    n_found, n_computed : int
        Of the latest `~obscluster.features.table.get_features`: how many runs were complete in the
        cache, and of how many something was computed.

    Raises
    ------
    RequestError
        If pyarrow is missing, or there is a file of that name.
    """

    def __init__(self, directory: str | os.PathLike[str], identity: Identity = "stat"):
        self.directory = Path(os.path.expandvars(directory)).expanduser()
        self.identity = identity
        self.n_found = self.n_computed = 0
        if identity not in get_args(Identity):
            raise RequestError(f"identity {identity!r}; expected stat or checksum")
        if self.directory.exists() and not self.directory.is_dir():
            raise RequestError(f"cache {self.directory}: is a file; name a directory")
        if find_spec("pyarrow") is None:
            raise RequestError('a cache needs pyarrow; get it by: pip install "obscluster[scale]"')

    def __repr__(self) -> str:
        return f"<FeatureCache {self.directory}: {len(self.parts())} parts>"

    def parts(self, context: str | None = None) -> list[Path]:
        """The files, oldest first; those of one context, or all."""
        for _ in range(_TRIES):
            if not self.directory.is_dir():
                break
            with contextlib.suppress(FileNotFoundError):
                # One that is gone was merged meanwhile, into one that is not in the list.
                return self._listed(context)
        return []

    def _listed(self, context: str | None) -> list[Path]:
        found: list[tuple[int, Path]] = []
        for path in self.directory.iterdir():
            match = _PART.match(path.name)
            if match and context in (None, match[1]):
                found.append((path.stat().st_mtime_ns, path))
        return [path for _, path in sorted(found)]

    def lookup(self, context: str, keys: Keys, columns: Sequence[CachedColumn]) -> Found:
        """Values of some runs.

        Parameters
        ----------
        context : str
            What all values of a part have in common, 16 hexadecimal digits.
        keys : `~numpy.ndarray`
            State of each run, shape (n_runs, 2).
        columns : sequence of `CachedColumn`
            Which features.
        """
        shape = (len(keys), len(columns))
        found = Found(np.full(shape, np.nan), np.zeros(shape, dtype=bool))
        for part in self._read_parts(context, columns):
            rows, has = match(keys, part.keys)
            for i, column in enumerate(columns):
                if column.name not in part.columns:
                    continue
                new = has & ~found.known[:, i]
                new[new] = part.known[column.name][rows[new]]
                found.values[new, i] = part.values[column.name][rows[new]]
                found.known[:, i] |= new
                of_new = part.remarks(column.name, rows[new].tolist())
                for row, texts in zip(np.flatnonzero(new).tolist(), of_new, strict=True):
                    if texts:
                        found.remarks.setdefault(row, {})[column.name] = texts
        return found

    def add(
        self,
        context: str,
        keys: Keys,
        obs_ids: NDArray[np.int64],
        columns: Sequence[CachedColumn],
        values: NDArray[np.float64],
        known: NDArray[np.bool_],
        remarks: Sequence[Remarks],
    ) -> None:
        """Keep values. What cannot be written is warned of, and nothing else happens.

        Parameters
        ----------
        context, keys, columns
            See `lookup`.
        obs_ids : `~numpy.ndarray`
            Identifier of each run.
        values, known : `~numpy.ndarray`
            See `Found`.
        remarks : sequence of mapping
            Of each run, what was remarked by column.
        """
        rows = first_of_each(keys)
        rows = rows[known[rows].any(axis=1)]
        if len(rows) == 0:
            return
        part = Part(
            obs_ids[rows],
            keys[rows],
            {column.name: column for column in columns},
            {column.name: values[rows, i] for i, column in enumerate(columns)},
            {column.name: known[rows, i] for i, column in enumerate(columns)},
            [json.dumps(dict(remarks[i])) if remarks[i] else "" for i in rows.tolist()],
        )
        try:
            self._write(context, part)
            if len(self.parts(context)) > _MAX_PARTS:
                self.merge(context)
        except (OSError, RequestError) as error:
            reason = getattr(error, "strerror", None) or error
            text = f"cache {self.directory}: cannot be written ({reason})"
            warnings.warn(f"{text}; nothing was kept", ObsClusterWarning, stacklevel=2)

    def merge(self, context: str) -> None:
        """Make one part of all parts of a context; of the same value, the latest counts."""
        paths = self.parts(context)
        try:
            parts = [part for path in paths if (part := self._read(path, None)) is not None]
        except FileNotFoundError:
            # Somebody else is merging.
            return
        if not parts:
            return
        written = self._write(context, merged(parts))
        for path in paths:
            if path != written:
                path.unlink(missing_ok=True)

    def _read_parts(self, context: str, columns: Sequence[CachedColumn]) -> list[Part]:
        for _ in range(_TRIES):
            try:
                parts = [self._read(path, columns) for path in self.parts(context)]
            except FileNotFoundError:
                # Merged meanwhile: its content is in a part that is not in our list.
                continue
            return [part for part in parts if part is not None]
        return []

    def _read(self, path: Path, columns: Sequence[CachedColumn] | None) -> Part | None:
        """Content of a part, of some columns or all; None, and a warning, if it is damaged."""
        try:
            content = path.read_bytes()
            if _digest(content) != path.stem.rpartition("-")[2]:
                raise ValueError("its bytes have changed")
            return Part.parse(content, columns)
        except FileNotFoundError:
            raise
        except (OSError, ValueError, KeyError, TypeError, NotImplementedError) as error:
            text = f"cache: {path} is damaged ({error}); what it held is computed again"
            warnings.warn(text, ObsClusterWarning, stacklevel=2)
            with contextlib.suppress(OSError):
                path.unlink()
            return None

    def _write(self, context: str, part: Part) -> Path:
        content = part.serialised()
        name = f"features-v{FORMAT}-{context}-{_digest(content)}.parquet"
        self.directory.mkdir(parents=True, exist_ok=True)
        place = self.directory.resolve()
        with locked(place, wait=_PATIENCE) as is_owner:
            if is_owner:
                # Of writers that died.
                for left in self.directory.glob(".features-*.new"):
                    left.unlink(missing_ok=True)
            new = self.directory / f".features-{uuid.uuid4().hex}.new"
            try:
                new.write_bytes(content)
                new.replace(self.directory / name)
            finally:
                new.unlink(missing_ok=True)
        return self.directory / name


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()
