"""Checks of the index tables: what they must have, and what they say of one another.

https://gamma-astro-data-formats.readthedocs.io/en/v0.3/data_storage/obs_index/index.html
https://gamma-astro-data-formats.readthedocs.io/en/v0.3/data_storage/hdu_index/index.html
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator

import numpy as np
from astropy import units as u
from astropy.table import Table
from numpy.typing import NDArray

from obscluster.check.findings import ARCHIVE, Finding, Row, error, info, some, warning
from obscluster.check.headers import obs_mode
from obscluster.check.tables import check_livetime
from obscluster.gadf.index import HDU_INDEX, OBS_INDEX, read_index
from obscluster.gadf.irf import IRF_CLASSES
from obscluster.gadf.time import has_time_ref
from obscluster.store import DataStore

__all__ = ["check_indices", "column_numbers"]

Array = NDArray[np.float64]

_OBS_COLUMNS = ("TSTART", "TSTOP")
_HDU_COLUMNS = ("FILE_DIR", "HDU_NAME")
_UNITS = {
    **dict.fromkeys(("RA_PNT", "DEC_PNT", "ALT_PNT", "AZ_PNT", "ZEN_PNT"), u.deg),
    **dict.fromkeys(("TSTART", "TSTOP", "ONTIME", "LIVETIME"), u.s),
    **dict.fromkeys(("DEADC", "EVENT_COUNT"), u.one),
}
_EXPECTED_TYPES = ("events", "gti", "aeff", "edisp")


def check_indices(data_store: DataStore) -> Iterator[Row]:
    """Checks that need no file but the index tables."""
    obs_file, hdu_file = _index_files(data_store)
    for finding in _check_obs_table(data_store):
        yield Row(ARCHIVE, "", *finding, obs_file)
    hdu_table = data_store.hdu_table
    missing = [name for name in _HDU_COLUMNS if name not in hdu_table.colnames]
    if missing:
        yield Row(ARCHIVE, "", *_no_columns("hdu-index", missing), hdu_file)
    table = data_store.obs_table
    obs_ids = table["OBS_ID"].tolist()
    for obs_id in np.setdiff1d(obs_ids, data_store.obs_ids).tolist():
        yield Row(obs_id, "", *error("in the obs-index, but the hdu-index lists no HDU"), obs_file)
    for obs_id in np.setdiff1d(data_store.obs_ids, obs_ids).tolist():
        yield Row(obs_id, "", *warning("in the hdu-index, but not in the obs-index"), hdu_file)
    yield from _check_hdu_rows(hdu_table, hdu_file)
    columns = [column_numbers(table, name) for name in ("ONTIME", "LIVETIME", "DEADC")]
    for obs_id, *values in zip(obs_ids, *(column.tolist() for column in columns), strict=True):
        for finding in check_livetime(*values):
            yield Row(obs_id, "", *finding, obs_file)


def _check_obs_table(data_store: DataStore) -> Iterator[Finding]:
    table = data_store.obs_table
    has_mode = "OBS_MODE" in table.colnames and len(table)
    drift = has_mode and all(obs_mode({"OBS_MODE": mode}) == "DRIFT" for mode in table["OBS_MODE"])
    pointing = ("ALT_PNT", "AZ_PNT") if drift else ("RA_PNT", "DEC_PNT")
    missing = [name for name in (*pointing, *_OBS_COLUMNS) if name not in table.colnames]
    if missing:
        yield _no_columns("obs-index", missing)
    if len(table) == 0:
        yield warning("the obs-index has no rows")
    if "TSTART" in table.colnames and not has_time_ref(table.meta):
        yield warning("no keyword MJDREFI: times in the obs-index have no reference")
    for name, unit in _UNITS.items():
        if name in table.colnames and np.isnan(column_numbers(table, name)).all() and len(table):
            expected = f"numbers in {unit}" if str(unit) else "numbers"
            yield warning(
                f"column {name} of the obs-index has no usable value; expected {expected}"
            )
    if data_store.index_files:
        # The data store keeps one row of each run.
        counts = Counter(read_index(data_store.index_files[0])["OBS_ID"].tolist())
        double = [obs_id for obs_id, n in counts.items() if n > 1]
        if double:
            yield error(
                f"the obs-index has several rows for {len(double)} runs ({some(double)}); "
                "expected one each, the first is used"
            )


def _check_hdu_rows(table: Table, file: str) -> Iterator[Row]:
    """HDU rows that are there twice, and types that a run lacks."""
    found: dict[int, list[tuple[str, str]]] = {}
    names = ("OBS_ID", "HDU_TYPE", "HDU_CLASS")
    for obs_id, *texts in zip(*(table[name].tolist() for name in names), strict=True):
        hdu_type, hdu_class = (str(text or "").strip().lower() for text in texts)
        if hdu_class in IRF_CLASSES:
            # Types have been cut to the width of their column.
            hdu_type = IRF_CLASSES[hdu_class].hdu_type
        found.setdefault(obs_id, []).append((hdu_type, hdu_class))
    for obs_id, kinds in found.items():
        types = [hdu_type for hdu_type, _ in kinds]
        for name in _EXPECTED_TYPES:
            if name not in types:
                yield Row(obs_id, name, *warning(f"the hdu-index lists no {name}"), file)
        if len(set(types)) == len(types):
            continue
        for kind, n in Counter(kinds).items():
            if n > 1:
                text = f"the hdu-index has {n} rows for {kind[1]}; the first is used"
                yield Row(obs_id, kind[0], *warning(text), file)
        for name in sorted(set(types)):
            classes = dict.fromkeys(c for t, c in kinds if t == name)
            if len(classes) > 1:
                text = f"the hdu-index lists {', '.join(classes)}; the first is used and checked"
                yield Row(obs_id, name, *info(text), file)


def column_numbers(table: Table, name: str) -> Array:
    """Column as floats in its usual unit, NaN where missing or not usable."""
    if name not in table.colnames:
        return np.full(len(table), np.nan)
    column, unit = table[name], _UNITS[name]
    try:
        values = np.ma.filled(np.ma.asarray(column).astype(float), np.nan)
        return np.asarray(u.Quantity(values, column.unit or unit).to_value(unit))
    except (TypeError, ValueError, u.UnitsError):
        return np.full(len(table), np.nan)


def _no_columns(what: str, names: Iterable[str]) -> Finding:
    return warning(f"the {what} has no column {', '.join(names)}, mandatory in GADF")


def _index_files(data_store: DataStore) -> tuple[str, str]:
    if data_store.index_files:
        obs, hdu = (os.path.relpath(p, data_store.base_dir) for p in data_store.index_files)
        return obs, hdu
    return OBS_INDEX, HDU_INDEX
