"""Checks of the index tables, of headers against them, and of both against the sky.

https://gamma-astro-data-formats.readthedocs.io/en/v0.3/data_storage/obs_index/index.html
https://gamma-astro-data-formats.readthedocs.io/en/v0.3/data_storage/hdu_index/index.html

https://gamma-astro-data-formats.readthedocs.io/en/v0.3/data_storage/obs_index/index.html
https://gamma-astro-data-formats.readthedocs.io/en/v0.3/general/coordinates.html
"""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from astropy import units as u
from astropy.coordinates import AltAz, EarthLocation, SkyCoord
from astropy.table import Table
from astropy.time import Time
from numpy.typing import NDArray

from obscluster.archive.store import DataStore
from obscluster.check.findings import ARCHIVE, Finding, Row, error, info, some, warning
from obscluster.check.headers import check_livetime, number, obs_mode, seconds
from obscluster.exceptions import ObsClusterWarning
from obscluster.gadf.fits import HDU
from obscluster.gadf.index import HDU_INDEX, OBS_INDEX, read_index
from obscluster.gadf.irf import IRF_CLASSES
from obscluster.gadf.keywords import NUMBERS, location_from_keywords, location_of_telescope
from obscluster.gadf.keywords import column_numbers as numbers_of_column
from obscluster.gadf.time import has_time_ref, quiet_times, time_ref_from_header
from obscluster.gadf.units import convertible_unit

__all__ = [
    "HeaderFacts",
    "check_against_headers",
    "check_index_livetimes",
    "check_indices",
    "column_numbers",
    "facts_of",
    "index_files",
]

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
    for name, known in NUMBERS.items():
        if name not in table.colnames or not len(table) or known.unit is None:
            continue
        unit = known.unit
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
    data_store : `~obscluster.archive.store.DataStore`
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


Place = tuple[float, float, float]
"""Longitude and latitude in degrees, height in metres."""
Mid = tuple[str, float]
"""Time scale, and MJD."""
UNKNOWN = (np.nan, np.nan, np.nan)

POINTING_TOLERANCE = 0.01  # deg
ZENITH_TOLERANCE = 1.0  # deg
# Days (MJD) for which the rotation of the Earth is known well enough: 1968 to 2077.
DAYS = (40000.0, 80000.0)
# Values of OBS_MODE for which one direction on the sky does not tell (OGIP, GADF 0.3).
_MOVING = ("DRIFT", "SLEW", "SCAN", "RASTER")


class HeaderFacts(NamedTuple):
    """What an EVENTS header says that the index, or the Earth, can contradict; NaN if unknown."""

    obs_id: int
    file: str
    fixed: bool
    ra: float
    dec: float
    n_events: float
    mid: Mid
    place: Place
    site: Place
    """Place of the telescope by its name."""


def facts_of(hdu: HDU, obs_id: int, file: str) -> HeaderFacts:
    """Facts from the header of an EVENTS table."""
    header = hdu.header
    return HeaderFacts(
        obs_id=obs_id,
        file=file,
        fixed=obs_mode(header) not in _MOVING,
        ra=number(header, "RA_PNT"),
        dec=number(header, "DEC_PNT"),
        n_events=number(header, "NAXIS2"),
        mid=_mid(header, 0.5 * (seconds(header, "TSTART") + seconds(header, "TSTOP"))),
        place=_place(header),
        site=_geodetic(location_of_telescope(str(header.get("TELESCOP") or ""))),
    )


def check_against_headers(data_store: DataStore, facts: Iterable[HeaderFacts]) -> Iterator[Row]:
    """Index and headers: pointing, number of events, place, and zenith angle.

    Parameters
    ----------
    data_store : `~obscluster.archive.store.DataStore`
        The archive.
    facts : iterable of `HeaderFacts`
        What the headers say.
    """
    facts = sorted(facts)
    table = data_store.obs_table
    if not facts:
        return
    row_of = {obs_id: row for row, obs_id in enumerate(table["OBS_ID"].tolist())}
    rows = np.array([row_of.get(fact.obs_id, -1) for fact in facts])
    listed = rows >= 0

    def index(name: str) -> Array:
        """Column of the index in the order of the facts."""
        values = np.full(len(facts), np.nan)
        values[listed] = column_numbers(table, name)[rows[listed]]
        return values

    def header(name: str) -> Array:
        return np.array([getattr(fact, name) for fact in facts], dtype=float)

    def report(bad: Any, make: Any) -> Iterator[Row]:
        for i in np.flatnonzero(bad):
            yield Row(facts[i].obs_id, "events", *warning(make(i)), facts[i].file)

    ra, dec, ra_index, dec_index = header("ra"), header("dec"), index("RA_PNT"), index("DEC_PNT")
    # Angle between directions, all in deg.
    # The chord is precise for small angles, where the cosine is not.
    one, other = (
        np.array([np.cos(d) * np.cos(r), np.cos(d) * np.sin(r), np.sin(d)])
        for r, d in (
            (np.radians(ra), np.radians(dec)),
            (np.radians(ra_index), np.radians(dec_index)),
        )
    )
    chord = np.linalg.norm(one - other, axis=0)
    apart = np.asarray(np.degrees(2 * np.arcsin(np.clip(chord / 2, 0, 1))))
    fixed = header("fixed").astype(bool)
    yield from report(
        (apart > POINTING_TOLERANCE) & fixed,
        lambda i: (
            f"RA_PNT, DEC_PNT = {ra[i]:.4f}, {dec[i]:.4f} deg in the header, "
            f"{ra_index[i]:.4f}, {dec_index[i]:.4f} deg in the index: {apart[i]:.3f} deg apart"
        ),
    )
    n_events, n_index = header("n_events"), index("EVENT_COUNT")
    yield from report(
        np.isfinite(n_index) & (n_events != n_index),
        lambda i: f"{n_events[i]:.0f} events, but EVENT_COUNT = {n_index[i]:.0f} in the index",
    )
    # The first of header, index and telescope that says where.
    index_place = _place(table.meta)
    places = np.array([_first(fact.place, index_place, fact.site) for fact in facts]).T
    yield from report(
        [np.isnan(_first(fact.place, index_place)).any() for fact in facts],
        lambda i: (
            "no place of the observatory: GEOLON, GEOLAT and ALTITUDE (or OBSGEO-X, -Y, -Z) are "
            "missing or no place, in header and index"
            + ("" if np.isnan(places[:, i]).any() else "; that of TELESCOP is taken")
        ),
    )
    index_mid = 0.5 * (index("TSTART") + index("TSTOP"))
    mids = [
        _mid(table.meta, seconds) if np.isnan(fact.mid[1]) else fact.mid
        for fact, seconds in zip(facts, index_mid.tolist(), strict=True)
    ]
    zenith = _zenith(_or(ra, ra_index), _or(dec, dec_index), places, mids)
    written = _or(index("ZEN_PNT"), 90 - index("ALT_PNT"))
    yield from report(
        (np.abs(zenith - written) > ZENITH_TOLERANCE) & fixed,
        lambda i: (
            f"ZEN_PNT = {written[i]:.2f} deg in the index, but {zenith[i]:.2f} deg from pointing, "
            "mid-time and place"
        ),
    )


def _or(values: Array, others: Array) -> Array:
    """Values, and others where there are none."""
    return np.where(np.isfinite(values), values, others)


def _first(*places: Place) -> Place:
    """The first place that is known; never the longitude of one and the latitude of another."""
    return next((place for place in places if np.isfinite(place).all()), UNKNOWN)


def _place(values: Mapping[str, Any]) -> Place:
    """Place by the keywords of a header."""
    try:
        return _geodetic(location_from_keywords(values))
    except ValueError:
        return UNKNOWN


def _geodetic(location: EarthLocation | None) -> Place:
    if location is None:
        return UNKNOWN
    return location.lon.deg, location.lat.deg, location.height.to_value(u.m)


def _mid(header: Mapping[str, Any], seconds: float) -> Mid:
    """Time from the reference in a header."""
    try:
        ref = time_ref_from_header(header)
    except (KeyError, ValueError):
        return "tt", np.nan
    return ref.scale, float(ref.mjd) + seconds / 86400


def _zenith(ra: Array, dec: Array, places: Array, mids: list[Mid]) -> Array:
    """Zenith angles in deg, NaN where something is unknown; all runs at once."""
    zenith = np.full(len(ra), np.nan)
    scales, days = np.array([scale for scale, _ in mids]), np.array([day for _, day in mids])
    good = np.isfinite(ra + dec) & np.isfinite(places).all(axis=0) & (np.abs(dec) <= 90)
    good &= (days > DAYS[0]) & (days < DAYS[1]) & (scales != "local")
    for scale in np.unique(scales[good]):
        chosen = good & (scales == scale)
        lon, lat, height = places[:, chosen]
        location = EarthLocation.from_geodetic(lon * u.deg, lat * u.deg, height * u.m)
        with quiet_times():
            time = Time(days[chosen], format="mjd", scale=str(scale))
            coord = SkyCoord(ra[chosen], dec[chosen], unit="deg", frame="icrs")
            zenith[chosen] = coord.transform_to(AltAz(obstime=time, location=location)).zen.deg
    return zenith
