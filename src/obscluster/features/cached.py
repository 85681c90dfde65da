"""Features of many runs, of which a cache knows some.

A value is taken from the cache if nothing has changed on which it depends: the files of the run and
its row in the obs-index (see `obscluster.features.run_keys`), the code (see
`obscluster.features.fingerprint`), and where it is evaluated. What could not be read is not kept,
so it is tried again every time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, repeat
from typing import Any

import numpy as np

from obscluster.cache import CachedColumn, FeatureCache, Found, Keys
from obscluster.features.catalog import Request
from obscluster.features.fingerprint import digest, package_fingerprint, request_fingerprint
from obscluster.features.row import Row
from obscluster.features.run_keys import run_keys
from obscluster.observation import Observation

__all__ = ["rows_through_cache"]

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
    cache : `~obscluster.cache.FeatureCache`
        Where values are looked up and kept; ``n_found`` and ``n_computed`` are set.
    observations : sequence of `~obscluster.observation.Observation`
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
