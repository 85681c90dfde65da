"""The state of a run: its files, and what the obs-index says of it.

A value is valid as long as nothing of that has changed. That is more than most features look at, so
at times one is computed again without need, but never is one taken that is out of date.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import uuid
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from obscluster.cache import Identity, Keys
from obscluster.files.checksums import checksum
from obscluster.gadf.remote import identity as remote_identity
from obscluster.gadf.remote import is_remote
from obscluster.observation import Observation

__all__ = ["file_states", "run_keys"]

# Keywords of the obs-index that change whenever it is written, and say nothing of a run.
_VOLATILE = ("CHECKSUM", "DATASUM", "DATE", "COMMENT", "HISTORY", "CREATOR", "NAXIS2")
_KEY_BYTES = 16
# Looking at a file takes microseconds here, and a round trip elsewhere.
_N_REQUESTS = 16

Bytes = NDArray[np.uint8]


def run_keys(observations: Sequence[Observation], identity: Identity = "stat") -> Keys:
    """State of each run, as a sum of 128 bits.

    Parameters
    ----------
    observations : sequence of `~obscluster.observation.Observation`
        The runs.
    identity : {"stat", "checksum"}
        How files are known again, see `obscluster.cache.FeatureCache`. Files at URLs, by what
        their server says of them.

    Returns
    -------
    keys : `~numpy.ndarray`
        Shape (n_runs, 2).
    """
    paths = dict.fromkeys(at.path for obs in observations for at in obs.locations.values())
    states = file_states(paths, identity)
    rows = _index_rows(observations)
    sums = [
        hashlib.blake2b(_files(obs, states) + row, digest_size=_KEY_BYTES).digest()
        for obs, row in zip(observations, rows, strict=True)
    ]
    return np.frombuffer(b"".join(sums), dtype=np.uint64).reshape(len(sums), 2)


def _files(observation: Observation, states: Mapping[Path, str]) -> bytes:
    """The parts of a run and the state of their files, whose paths count from the archive."""
    base = f"{observation.base_dir}/"
    parts = [str(observation.obs_id)]
    path = None
    for name, at in observation.locations.items():
        if at.path is not path:
            path = at.path
            parts += [str(path).removeprefix(base), states[path]]
        parts += [name, at.hdu_type, at.hdu_class, at.hdu_name]
    return "\0".join(parts).encode("utf-8", "surrogateescape")


def file_states(paths: Iterable[Path], identity: Identity = "stat") -> dict[Path, str]:
    """What changes when a file does, of many files at once.

    Parameters
    ----------
    paths : iterable of `~pathlib.Path`
        Files, also at URLs.
    identity : {"stat", "checksum"}
        See `run_keys`.

    Returns
    -------
    states : dict
        Path to a text. Of a file whose server does not tell, one that there never was before.
    """
    paths = list(paths)
    if identity == "stat" and not any(map(is_remote, paths)):
        return {path: _stat(str(path)) for path in paths}
    read = _checksum if identity == "checksum" else _state
    with ThreadPoolExecutor(_N_REQUESTS) as pool:
        return dict(zip(paths, pool.map(read, paths), strict=True))


def _stat(name: str) -> str:
    """Size and time of a file, or of the one that stands in for it."""
    for there in (name, _other(name)):
        with contextlib.suppress(OSError, ValueError):
            found = os.stat(there)  # noqa: PTH116 a Path takes four times as long
            return f"{there == name} {found.st_size} {found.st_mtime_ns}"
    return "not there"


def _other(name: str) -> str:
    """With or without ``.gz``, as in `~obscluster.gadf.hdu_index.HDULocation.existing_path`."""
    return name.removesuffix(".gz") if name.endswith(".gz") else f"{name}.gz"


def _state(path: Path) -> str:
    if not is_remote(path):
        return _stat(str(path))
    for there in (path, path.with_name(_other(path.name))):
        try:
            return f"{there == path} {' '.join(remote_identity(there))}"
        except (FileNotFoundError, PermissionError):
            continue
        except OSError:
            # The same text for two states of a file would pass off one for the other.
            return f"unknown {uuid.uuid4().hex}"
    return "not there"


def _checksum(path: Path) -> str:
    for there in (path, path.with_name(_other(path.name))):
        with contextlib.suppress(OSError, ValueError):
            return checksum(there)
    return "not there"


def _index_rows(observations: Sequence[Observation]) -> list[bytes]:
    """Sum over the row of each run in the obs-index, and over the header of that."""
    tables: dict[int, tuple[Table, list[int]]] = {}
    for i, obs in enumerate(observations):
        if obs.obs_table is not None:
            tables.setdefault(id(obs.obs_table), (obs.obs_table, []))[1].append(i)
    rows = [b""] * len(observations)
    for table, where in tables.values():
        places = np.array([observations[i].index_place for i in where])
        for i, row in zip(where, _table_rows(table, places), strict=True):
            rows[i] = row
    for i, obs in enumerate(observations):
        if obs.obs_table is None:
            header = _header(obs.index_header)
            rows[i] = repr((sorted(obs.index_row.items()), header)).encode()
    return rows


def _table_rows(table: Table, places: NDArray[np.int64]) -> Iterable[bytes]:
    """Bytes of some rows, whatever the width of the columns that they come from."""
    names = [name for name in table.colnames if name != "OBS_ID"]
    described = [(name, str(table[name].unit), table[name].shape[1:]) for name in names]
    common = _sum(repr((described, _header(table.meta))))
    parts = [_column_bytes(table[name][places]) for name in names]
    width = sum(part.shape[1] for part in parts)
    content = np.concatenate(parts, axis=1).tobytes() if parts else b""
    return (common + content[i * width : (i + 1) * width] for i in range(len(places)))


def _header(meta: Mapping[str, Any]) -> list[tuple[str, str]]:
    return sorted((key, repr(meta[key])) for key in meta if key not in _VOLATILE)


def _column_bytes(column: Any) -> Bytes:
    """Values of a column as bytes, shape (n_rows, n_bytes)."""
    masked = np.ma.asarray(column)
    mask = np.ma.getmaskarray(masked).reshape(len(masked), -1).view(np.uint8)
    values = masked.data
    numbers: NDArray[Any]
    if values.dtype.kind == "f":
        # Of the same number there are the same bytes, whatever the precision.
        numbers = values.astype(np.float64)
    elif values.dtype.kind in "iub":
        numbers = values.astype(np.uint64 if values.dtype.kind == "u" else np.int64)
    else:
        # A text is as wide as the longest one of the archive.
        texts, where = np.unique(values.astype(str), return_inverse=True)
        sums = np.frombuffer(b"".join(map(_sum, texts.tolist())), dtype=np.uint8)
        numbers = sums.reshape(-1, _KEY_BYTES)[where.reshape(len(values), -1)]
    raw = np.ascontiguousarray(numbers).reshape(len(values), -1).view(np.uint8)
    return np.concatenate([raw.reshape(len(values), -1), mask], axis=1)


def _sum(text: str) -> bytes:
    data = text.encode("utf-8", "surrogateescape")
    return hashlib.blake2b(data, digest_size=_KEY_BYTES).digest()
