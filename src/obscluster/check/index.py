"""Checks of the index tables: what they must have, and what they say of one another.

https://gamma-astro-data-formats.readthedocs.io/en/v0.3/data_storage/obs_index/index.html
https://gamma-astro-data-formats.readthedocs.io/en/v0.3/data_storage/hdu_index/index.html
"""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from obscluster.check.findings import ARCHIVE, Finding, Row, error, info, some, warning
from obscluster.check.headers import obs_mode
from obscluster.check.tables import check_livetime
from obscluster.exceptions import ObsClusterWarning
from obscluster.gadf.index import HDU_INDEX, OBS_INDEX, read_index
from obscluster.gadf.irf import IRF_CLASSES
from obscluster.gadf.keywords import NUMBERS
from obscluster.gadf.keywords import column_numbers as numbers_of_column
from obscluster.gadf.time import has_time_ref, time_ref_from_header
from obscluster.gadf.units import convertible_unit
from obscluster.store import DataStore

__all__ = ["check_index_livetimes", "check_indices", "column_numbers", "index_files"]

Array = NDArray[np.float64]

# Of LIVETIME, relative.
LIVETIME_TOLERANCE = 0.01

_OBS_COLUMNS = ("TSTART", "TSTOP")
_HDU_COLUMNS = ("HDU_TYPE", "HDU_CLASS", "FILE_DIR", "HDU_NAME")
_CLASS_KEYS = ("HDUCLASS", "HDUDOC", "HDUVERS", "HDUCLAS1", "HDUCLAS2")
_TIME_KEYS = ("MJDREFI", "MJDREFF", "TIMEUNIT", "TIMESYS", "TIMEREF")
_CLASSES = {OBS_INDEX: "OBS", HDU_INDEX: "HDU"}
# Optional columns (the first that is there), and what stands in for them.
_INSTEAD = (
    (("LIVETIME",), "GTI x DEADC is taken"),
    (("ZEN_PNT", "ALT_PNT"), "computed from pointing, mid-time and place"),
)
_TAKEN = {
    **dict.fromkeys(("ZEN_PNT", "ALT_PNT", "AZ_PNT"), "computed from pointing, mid-time and place"),
    **dict.fromkeys(("LIVETIME", "ONTIME"), "good time intervals are taken"),
}
# Columns in which a value is expected for some run at least.
_WANTED = (
    *("RA_PNT", "DEC_PNT", "ALT_PNT", "AZ_PNT", "ZEN_PNT", "TSTART", "TSTOP", "ONTIME"),
    *("LIVETIME", "DEADC", "EVENT_COUNT"),
)
# What tells rows of one run apart.
_ROW_KEYS = ("EVENT_TYPE", "EVENTTYPE", "INTERVAL", "EVENT_CLASS", "HDU_NAME", "TSTART", "TSTOP")
_EXPECTED_TYPES = ("events", "gti", "aeff", "edisp")


def check_indices(data_store: DataStore) -> Iterator[Row]:
    """Checks that need no file but the index tables."""
    obs_file, hdu_file = index_files(data_store)
    for kind, file in ((OBS_INDEX, obs_file), (HDU_INDEX, hdu_file)):
        for finding in _check_table(data_store, kind):
            yield Row(ARCHIVE, "", *finding, file)
    table, hdu_table = data_store.obs_table, data_store.hdu_table
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


def _check_table(data_store: DataStore, kind: str) -> Iterator[Finding]:
    """Columns, units and keywords of an index as it is in its file."""
    table, remarks = _raw_table(data_store, kind)
    for remark in remarks:
        yield warning(remark)
    is_obs = kind == OBS_INDEX
    wanted = (*_pointing_columns(table), *_OBS_COLUMNS) if is_obs else _HDU_COLUMNS
    missing = [name for name in wanted if name not in table.colnames]
    if missing:
        instead = "; those of the headers are taken" if is_obs else ""
        text = f"the {kind} has no column {', '.join(missing)}, mandatory in GADF{instead}"
        yield warning(text)
    if len(table) == 0:
        yield warning(f"the {kind} has no rows")
    if _file_of(data_store, kind)[0] is not None:
        yield from _check_keywords(table, kind)
    if is_obs:
        yield from _check_columns(table)
        yield from _check_repeated(table)


def _raw_table(data_store: DataStore, kind: str) -> tuple[Table, list[str]]:
    """An index with all its rows, and what was said when it was read."""
    path, hdu = _file_of(data_store, kind)
    if path is None:
        return (data_store.obs_table if kind == OBS_INDEX else data_store.hdu_table), []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        table = read_index(path, kind, hdu, strict=False)
    said = [str(w.message) for w in caught if issubclass(w.category, ObsClusterWarning)]
    # The file has a place of its own in a finding.
    return table, [text.removeprefix(f"{path}: ") for text in said]


def _file_of(data_store: DataStore, kind: str) -> tuple[Path | None, int | str | None]:
    """File and HDU of an index; None if the archive has no such file."""
    number = 0 if kind == OBS_INDEX else -1
    if len(data_store.index_files) == 2 or (data_store.index_files and kind == HDU_INDEX):
        return data_store.index_files[number], data_store.index_hdus[number]
    return None, None


def _pointing_columns(table: Table) -> tuple[str, str]:
    has_mode = "OBS_MODE" in table.colnames and len(table)
    drift = has_mode and all(obs_mode({"OBS_MODE": mode}) == "DRIFT" for mode in table["OBS_MODE"])
    return ("ALT_PNT", "AZ_PNT") if drift else ("RA_PNT", "DEC_PNT")


def _check_keywords(table: Table, kind: str) -> Iterator[Finding]:
    """Mandatory keywords, and whether the classes are those of an index."""
    header = table.meta
    wanted = (*(_TIME_KEYS if kind == OBS_INDEX else ()), *_CLASS_KEYS)
    has_ref = has_time_ref(header)
    missing = [
        key
        for key in wanted
        if header.get(key) is None and not (key.startswith("MJDREF") and has_ref)
    ]
    if missing:
        lost = "; times have no reference" if "MJDREFI" in missing else ""
        yield warning(f"no keyword {', '.join(missing)} in the {kind}, mandatory in GADF{lost}")
    for key, value in (("HDUCLAS1", "INDEX"), ("HDUCLAS2", _CLASSES[kind])):
        written = str(header.get(key) or value).strip()
        if written.upper() != value:
            yield warning(f"{key} = {written!r} in the {kind}; expected {value!r}")
    if kind == OBS_INDEX and has_ref:
        try:
            time_ref_from_header(header)
        except ValueError as problem:
            yield error(f"the reference time of the {kind} cannot be read ({problem})")


def _check_columns(table: Table) -> Iterator[Finding]:
    """Units and values of columns with numbers, and what stands in for missing columns."""
    bare: dict[str, list[str]] = {}
    for name, number in NUMBERS.items():
        if name not in table.colnames or not len(table) or number.unit is None:
            continue
        unit = number.unit
        column, expected = table[name], str(unit)
        written = column.meta.get("TUNIT", str(column.unit or ""))
        if written and convertible_unit(written, unit) is None:
            what = f"to {expected}" if expected else "to a plain number"
            yield error(
                f"unit {written!r} of column {name} of the obs-index does not convert {what}"
            )
            continue
        empty = np.isnan(column_numbers(table, name)).all()
        if empty and (name in _WANTED or _is_text(column)):
            found = f", found text such as {str(column[0])!r}" * _is_text(column)
            instead = f"; {_TAKEN[name]}" if name in _TAKEN else ""
            yield warning(
                f"column {name} of the obs-index has no usable value; expected "
                f"{f'numbers in {expected}' if expected else 'numbers'}{found}{instead}"
            )
            continue
        if _is_text(column):
            yield warning(f"column {name} of the obs-index holds text; it is read as numbers")
        if expected and not written:
            bare.setdefault(expected, []).append(name)
    for expected, names in bare.items():
        yield warning(f"no unit of column {', '.join(names)} of the obs-index; {expected} assumed")
    for columns, instead in _INSTEAD:
        if not set(columns) & set(table.colnames):
            yield info(f"the obs-index has no column {' or '.join(columns)}; {instead}")


def _is_text(column: Any) -> bool:
    return column.dtype.kind in "US"


def _check_repeated(table: Table) -> Iterator[Finding]:
    """Runs with several rows, and in what these differ."""
    rows: dict[int, list[int]] = {}
    for row, obs_id in enumerate(table["OBS_ID"].tolist()):
        rows.setdefault(obs_id, []).append(row)
    double = {obs_id: places for obs_id, places in rows.items() if len(places) > 1}
    if not double:
        return
    names = [name for name in _ROW_KEYS if name in table.colnames]
    names += [name for name in table.colnames if name not in names]
    differing: dict[str, dict[str, None]] = {}
    for name in names:
        column = table[name].tolist()
        for places in double.values():
            values = dict.fromkeys(str(column[place]) for place in places)
            if len(values) > 1:
                differing.setdefault(name, values)
    how = "; ".join(f"{name} ({some(values, 4)})" for name, values in list(differing.items())[:3])
    more = f" and {len(differing) - 3} more columns" if len(differing) > 3 else ""
    yield error(
        f"the obs-index has several rows for {len(double)} runs ({some(double)}); a "
        f"selection of one each is needed; they "
        f"{f'differ in {how}{more}' if differing else 'are the same in every column'}"
    )


def check_index_livetimes(data_store: DataStore, livetimes: Mapping[int, float]) -> Iterator[Row]:
    """LIVETIME of the index against that of the good time intervals.

    Parameters
    ----------
    data_store : `~obscluster.store.DataStore`
        The archive.
    livetimes : mapping
        OBS_ID to seconds, GTI x DEADC.
    """
    obs_file, _ = index_files(data_store)
    table = data_store.obs_table
    written = column_numbers(table, "LIVETIME").tolist()
    for obs_id, listed in zip(table["OBS_ID"].tolist(), written, strict=True):
        counted = livetimes.get(obs_id, np.nan)
        if abs(listed - counted) > LIVETIME_TOLERANCE * abs(counted):
            text = (
                f"LIVETIME = {listed:.1f} s in the index, but GTI x DEADC = {counted:.1f} s, "
                "which is taken where run files are read"
            )
            yield Row(obs_id, "", *warning(text), obs_file)


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
    try:
        return numbers_of_column(table, name)
    except ValueError:
        return np.full(len(table), np.nan)


def index_files(data_store: DataStore) -> tuple[str, str]:
    """Names of obs-index and hdu-index, relative to the archive."""
    paths = {kind: _file_of(data_store, kind)[0] for kind in (OBS_INDEX, HDU_INDEX)}
    obs, hdu = (
        kind if path is None else os.path.relpath(path, data_store.base_dir)
        for kind, path in paths.items()
    )
    return obs, hdu
