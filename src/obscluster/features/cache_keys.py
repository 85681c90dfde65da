"""What cached features depend on, the state of run and code; and features through a cache.

A value is valid as long as nothing of that has changed. That is more than most features look at, so
at times one is computed again without need, but never is one taken that is out of date.

Of the features of this package that is a sum over the sources of everything between the bytes of a
file and the value, and the versions of the libraries that do the arithmetic. A version number that
somebody has to raise would be forgotten one day, and stale values are worse than computing once
more after an upgrade.

Of one's own features it is the file that they come from, what of it is in memory, and the modules
of one's own that it imports. A feature whose code cannot be told for sure, such as one that is
written in a notebook or that remembers variables around it, is computed every time. So is one whose
function is not a plain one. What nobody can see is a file that a feature reads by itself, or a
library of somebody else that it calls: delete the cache when these change.

A value is taken from the cache if nothing has changed on which it depends: the files of the run and
its row in the obs-index, the code, and where it is evaluated. What could not be read is not kept,
so it is tried again every time.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
import sysconfig
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, repeat
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

import astropy
import numpy as np
import scipy
from astropy.table import Table
from numpy.typing import NDArray

import obscluster
from obscluster.archive.observation import Observation
from obscluster.features.base import Feature, Row
from obscluster.features.cache import CachedColumn, FeatureCache, Found, Identity, Keys
from obscluster.features.catalog import Request, is_column
from obscluster.files.records import checksum
from obscluster.gadf.remote import identity as remote_identity
from obscluster.gadf.remote import is_remote

__all__ = [
    "digest",
    "file_states",
    "package_fingerprint",
    "request_fingerprint",
    "rows_through_cache",
    "run_keys",
]

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
    observations : sequence of `~obscluster.archive.observation.Observation`
        The runs.
    identity : {"stat", "checksum"}
        How files are known again, see `obscluster.features.cache.FeatureCache`. Files at URLs, by
        what their server says of them.

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


_SOURCES = ("features/*.py", "gadf/*.py", "archive/*.py", "observation.py", "columns.py")
_LIBRARIES = (astropy, np, scipy)


def digest(*parts: Any, size: int = 16) -> str:
    """Sum over the text of some values, as hexadecimal digits."""
    return hashlib.blake2b(repr(parts).encode(), digest_size=size).hexdigest()


def package_fingerprint() -> str:
    """What all features of this package depend on."""
    root = Path(obscluster.__file__).parent
    sources = [path for pattern in _SOURCES for path in sorted(root.glob(pattern))]
    contents = [(path.name, path.read_bytes()) for path in sources]
    versions = [(library.__name__, library.__version__) for library in _LIBRARIES]
    return digest(obscluster.__version__, versions, contents)


def request_fingerprint(request: Request) -> str | None:
    """What a column of a feature table is, beside where it is evaluated.

    Parameters
    ----------
    request : `~obscluster.features.catalog.Request`
        Feature and energy.

    Returns
    -------
    fingerprint : str or None
        None if it cannot be told.
    """
    feature = request.feature
    source = _source(feature)
    if source is None:
        return None
    energy = None if request.energy is None else request.energy.hex()
    unit = feature.unit.to_string()
    return digest(feature.name, unit, feature.needs, feature.per_energy, energy, source)


def _source(feature: Feature) -> str | None:
    """What a feature computes."""
    if is_column(feature):
        return "column of the obs-index"
    function = feature.function
    if not isinstance(function, FunctionType) or function.__closure__ is not None:
        return None
    module = sys.modules.get(function.__module__)
    if module is None or module.__name__ == "__main__":
        return None
    name = f"{module.__name__}.{function.__qualname__}"
    if module.__name__.startswith("obscluster."):
        return name
    contents = [path.read_bytes() for path in sorted(_own_files(module))]
    code = [_code(value) for value in _functions(module)]
    return digest(name, _code(function), code, contents) if contents else None


def _own_files(module: ModuleType) -> set[Path]:
    """File of a module, and of those that it imports, without what is installed."""
    installed = [Path(path) for path in set(sysconfig.get_paths().values())]
    installed.append(Path(obscluster.__file__).parent)
    found: dict[str, Path] = {}
    waiting = [module]
    while waiting:
        here = waiting.pop()
        path = Path(getattr(here, "__file__", None) or "")
        if here.__name__ in found or not path.is_file():
            continue
        if any(path.is_relative_to(place) for place in installed):
            continue
        found[here.__name__] = path
        for value in list(vars(here).values()):
            name = getattr(value, "__module__", None)
            of = value if isinstance(value, ModuleType) else sys.modules.get(str(name))
            waiting += [of] if of is not None else []
    return set(found.values())


def _functions(module: ModuleType) -> Iterator[FunctionType]:
    """Functions of a module as they are in memory, which may be older than its file."""
    for value in vars(module).values():
        function = value.function if isinstance(value, Feature) else value
        if isinstance(function, FunctionType) and function.__module__ == module.__name__:
            yield function


def _code(function: FunctionType) -> tuple[Any, ...]:
    return (function.__qualname__, repr(function.__defaults__), _code_of(function.__code__))


def _code_of(code: CodeType) -> tuple[Any, ...]:
    constants = [
        # The order of a set is another one in every process.
        _code_of(value)
        if isinstance(value, CodeType)
        else sorted(map(repr, value))
        if isinstance(value, frozenset)
        else repr(value)
        for value in code.co_consts
    ]
    return code.co_code.hex(), code.co_names, constants


_Compute = Callable[[tuple[Request, ...], Sequence[Observation]], Iterable[Row]]
_Progress = Callable[[Iterable[Any]], Iterable[Any]]


def rows_through_cache(
    cache: FeatureCache,
    observations: Sequence[Observation],
    requests: tuple[Request, ...],
    place: Any,
    compute: _Compute,
    progress: _Progress | None = None,
) -> list[Row]:
    """Rows of the feature table, from the cache where it has them.

    Parameters
    ----------
    cache : `~obscluster.features.cache.FeatureCache`
        Where values are looked up and kept; ``n_found`` and ``n_computed`` are set.
    observations : sequence of `~obscluster.archive.observation.Observation`
        The runs.
    requests : tuple of `~obscluster.features.catalog.Request`
        The columns.
    place : object
        Where all features are evaluated; its ``repr`` counts.
    compute : callable
        ``compute(requests, observations)`` yields rows.
    progress : callable, optional
        Wraps the iterable of runs; those in the cache come first.

    Returns
    -------
    rows : list of `Row`
        As ``compute(requests, observations)`` would give them.
    """
    context = digest(package_fingerprint(), place, size=8)
    columns = _columns(requests)
    keys = run_keys(observations, cache.identity)
    kept = {i: column for i, column in enumerate(columns) if column is not None}
    found = cache.lookup(context, keys, list(kept.values()))
    known = np.zeros((len(observations), len(requests)), dtype=bool)
    known[:, list(kept)] = found.known
    rows = _rows(found, kept, len(requests))
    incomplete = ~known.all(axis=1)
    cache.n_computed = int(incomplete.sum())
    cache.n_found = len(observations) - cache.n_computed
    computed: dict[int, tuple[Sequence[int], Row]] = {}

    def work() -> Iterator[None]:
        # Most often one pattern, for new runs, or for a new feature.
        patterns = np.unique(~known[incomplete], axis=0) if incomplete.any() else ()
        for pattern in patterns:
            places = np.flatnonzero((~known == pattern).all(axis=1)).tolist()
            asked = np.flatnonzero(pattern).tolist()
            some = [observations[i] for i in places]
            results = compute(tuple(requests[i] for i in asked), some)
            for i, row in zip(places, results, strict=True):
                computed[i] = asked, row
                yield

    steps = chain(repeat(None, cache.n_found), work())
    try:
        for _ in steps if progress is None else progress(steps):
            pass
    finally:
        # Also of work that was interrupted.
        _keep(cache, context, keys, observations, columns, computed)
    for i, (asked, row) in computed.items():
        rows[i] = _completed(rows[i], asked, row)
    return rows


def _columns(requests: Sequence[Request]) -> list[CachedColumn | None]:
    """How the columns are kept; None for one that is not."""
    columns: list[CachedColumn | None] = []
    for request in requests:
        feature = request.feature
        fingerprint = request_fingerprint(request)
        # Not the name that the user gave, so that "1 TeV" and "1000 GeV" are the same.
        name = feature.name + ("" if request.energy is None else f"@{request.energy!r}TeV")
        column = CachedColumn(name, str(fingerprint), feature.unit, feature.description)
        columns.append(None if fingerprint is None else column)
    return columns


def _rows(found: Found, kept: Mapping[int, CachedColumn], n_columns: int) -> list[Row]:
    """Rows of what was found; NaN where nothing was."""
    values = np.full((len(found.values), n_columns), np.nan)
    values[:, list(kept)] = found.values
    final, nothing = (True,) * n_columns, ((),) * n_columns
    rows = [Row(of_run, nothing, final) for of_run in values]
    for i, texts in found.remarks.items():
        remarks: list[Sequence[str]] = [()] * n_columns
        for place, column in kept.items():
            remarks[place] = texts.get(column.name, ())
        rows[i] = Row(values[i], remarks, final)
    return rows


def _completed(row: Row, asked: Sequence[int], computed: Row) -> Row:
    """What was found of a run and what was computed; without both, it is skipped."""
    if computed.skipped:
        return Row.skip(len(row.values), computed.skipped, computed.unread)
    values, remarks = row.values.copy(), list(row.remarks)
    for i, value, texts in zip(asked, computed.values, computed.remarks, strict=True):
        values[i], remarks[i] = value, texts
    return Row(values, remarks, unread=computed.unread)


def _keep(
    cache: FeatureCache,
    context: str,
    keys: Keys,
    observations: Sequence[Observation],
    columns: Sequence[CachedColumn | None],
    computed: dict[int, tuple[Sequence[int], Row]],
) -> None:
    # Of one column that was asked for twice, such as at 1 TeV and at 1000 GeV, the first.
    kept = {
        i: column
        for i, column in enumerate(columns)
        if column is not None and columns.index(column) == i
    }
    places = [i for i, (_, row) in computed.items() if not row.skipped]
    if not places or not kept:
        return
    some = [observations[i] for i in places]
    # A file may have changed between our looking at it and its being read.
    unchanged = (run_keys(some, cache.identity) == keys[places]).all(axis=1)
    position = {i: j for j, i in enumerate(kept)}
    values = np.full((len(places), len(kept)), np.nan)
    known = np.zeros(values.shape, dtype=bool)
    remarks: list[dict[str, Sequence[str]]] = [{} for _ in places]
    for n, place in enumerate(places):
        asked, row = computed[place]
        for i, value, texts, final in zip(asked, row.values, row.remarks, row.final, strict=True):
            if i in kept and final and unchanged[n]:
                values[n, position[i]], known[n, position[i]] = value, True
                if texts:
                    remarks[n][kept[i].name] = list(texts)
    obs_ids = np.array([obs.obs_id for obs in some], dtype=np.int64)
    there = np.array(known.any(axis=0))
    cache.add(
        context,
        keys[places],
        obs_ids,
        [column for column, has in zip(kept.values(), there.tolist(), strict=True) if has],
        values[:, there],
        known[:, there],
        remarks,
    )
