"""The files of a cache: found, read, added and merged; see `obscluster.cache`."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import uuid
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from obscluster.cache.part import FORMAT, CachedColumn, Keys, Part, first_of_each, match, merged
from obscluster.exceptions import ObsClusterWarning, RequestError
from obscluster.files.locks import locked

__all__ = ["FeatureCache", "Found", "Identity"]

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
