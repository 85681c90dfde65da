"""Event lists and good time intervals: Gammapy's values, and errors that name what is wrong."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import astropy.units as u
import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from astropy.time import Time
from numpy.testing import assert_allclose, assert_array_equal

from obscluster.exceptions import FormatError
from obscluster.gadf.events import GTI, EventList, read_events, read_gti
from obscluster.gadf.fits import FitsFile
from obscluster.gadf.time import has_time_ref, time_ref_from_header

RUNS = [
    ("hess_dr1", "data/hess_dl3_dr1_obs_id_020325.fits.gz"),
    ("cta_1dc", "data/baseline/gps/gps_baseline_110380.fits"),
    ("fact_crab", "20131103_103_dl3.fits"),
    ("small_archive", "data/run_026601.fits.gz"),
]
REFERENCE = {"MJDREFI": 53000, "MJDREFF": 0.25, "TIMESYS": "TT"}
EVENTS = {"TIME": [1.0, 2.0] * u.s, "ENERGY": [3.0, 4.0] * u.TeV, "RA": [5.0, 6.0] * u.deg}
BARE = {"START": [10.0], "STOP": [50.0]}
INTERVALS = {"START": [10.0, 100.0] * u.s, "STOP": [50.0, 120.0] * u.s}


@pytest.fixture(params=RUNS, ids=lambda run: run[0])
def run(request: pytest.FixtureRequest) -> Path:
    return request.getfixturevalue(request.param[0]) / request.param[1]


def read(path: Path, name: str, *args: Any) -> Any:
    with FitsFile(path) as file:
        return {"EVENTS": read_events, "GTI": read_gti}[name](file.hdu(name), *args)


def table_hdu(name: str, columns: dict, **keywords: object) -> fits.BinTableHDU:
    hdu = fits.BinTableHDU(Table(columns), name=name)
    hdu.header.update(keywords)
    return hdu


def assert_same_times(ours: Time, theirs: Time) -> None:
    assert ours.scale == theirs.scale
    assert_allclose((ours - theirs).to_value("s"), 0, atol=1e-9)


# --- the same as Gammapy -------------------------------------------------------------------------


def test_events_are_gammapys(run):
    data = pytest.importorskip("gammapy.data")
    ours = read(run, "EVENTS")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = data.EventList.read(run)
    assert len(ours) == len(theirs.table)
    assert_array_equal(ours.energy.to_value("TeV"), theirs.energy.to_value("TeV"))
    assert_same_times(ours.time, theirs.time)
    # Gammapy wraps negative right ascensions in the single precision of the file.
    assert_allclose(ours.radec.ra.deg, theirs.radec.ra.deg, rtol=1e-6)
    assert_allclose(ours.radec.dec.deg, theirs.radec.dec.deg, rtol=1e-6)
    assert ours.table.meta["OBS_ID"] == theirs.table.meta["OBS_ID"]


def test_good_time_intervals_are_gammapys(run):
    data = pytest.importorskip("gammapy.data")
    ours, theirs = read(run, "GTI"), data.GTI.read(run)
    assert_same_times(ours.time_ref, theirs.time_ref)
    assert_same_times(ours.time_start, getattr(theirs.time_start, ours.time_ref.scale))
    assert_same_times(ours.time_stop, getattr(theirs.time_stop, ours.time_ref.scale))
    assert_allclose(ours.time_sum.to_value("s"), theirs.time_sum.to_value("s"), rtol=1e-9)


# --- closed form ---------------------------------------------------------------------------------


def test_wanted_columns_only(run):
    events = read(run, "EVENTS", ["ENERGY", "TIME"])
    assert events.table.colnames == ["ENERGY", "TIME"]
    assert_array_equal(events.energy, read(run, "EVENTS").energy)


def test_times_count_from_the_reference(write_fits):
    events = read(write_fits(table_hdu("EVENTS", EVENTS, **REFERENCE)), "EVENTS")
    assert isinstance(events, EventList)
    expected = Time(53000, 0.25, format="mjd", scale="tt") + [1, 2] * u.s
    assert_same_times(events.time, expected)
    gti = read(write_fits(table_hdu("GTI", INTERVALS, **REFERENCE)), "GTI")
    assert isinstance(gti, GTI)
    assert len(gti) == 2
    assert_same_times(gti.time_stop, events.time_ref + [50, 120] * u.s)
    assert gti.time_sum == 60 * u.s


def test_times_have_nanosecond_precision(write_fits):
    times = {"TIME": [7e8, 7e8 + 1e-6] * u.s}
    events = read(write_fits(table_hdu("EVENTS", times, **REFERENCE)), "EVENTS")
    assert_allclose(np.diff(events.time).item().to_value("us"), 1, atol=0.2)


@pytest.mark.parametrize(
    ("start", "stop"),
    [([1.0], [3.0]), ([1 / 60] * u.min, [3 / 60] * u.min), ([1e3] * u.ms, [3e6] * u.us)],
    ids=["no-unit", "min", "ms"],
)
def test_interval_in_any_unit_of_time_lasts_as_long(start, stop, write_fits):
    columns = {"START": start, "STOP": stop}
    gti = read(write_fits(table_hdu("GTI", columns, **REFERENCE)), "GTI")
    assert_allclose(gti.time_sum.to_value("s"), 2)
    assert_allclose((gti.time_start - gti.time_ref).to_value("s"), 1)


def test_event_columns_without_unit_are_seconds_tev_and_degrees(write_fits):
    bare = {name: getattr(values, "value", values) for name, values in EVENTS.items()}
    path = write_fits(table_hdu("EVENTS", {**bare, "DEC": [7.0, 8.0]}, **REFERENCE))
    events = read(path, "EVENTS")
    assert_array_equal(events.energy, [3, 4] * u.TeV)
    assert_allclose((events.time - events.time_ref).to_value("s"), [1, 2])
    assert_allclose(events.radec.dec.deg, [7, 8])


def test_run_without_events_is_an_empty_list(write_fits):
    empty = {name: values[:0] for name, values in EVENTS.items()}
    events = read(write_fits(table_hdu("EVENTS", empty, **REFERENCE)), "EVENTS")
    assert len(events) == len(events.energy) == len(events.time) == 0


def test_text_with_a_unit_stays_text(write_fits):
    path = write_fits(table_hdu("EVENTS", {**EVENTS, "NOTE": ["a", "b"]}, TUNIT4="s", **REFERENCE))
    assert read(path, "EVENTS").table["NOTE"].tolist() == ["a", "b"]


def test_unit_that_nobody_knows_does_not_stop_the_events(write_fits):
    columns = {**EVENTS, "X": [1.0, 2.0], "Y": [1.0, 2.0]}
    path = write_fits(table_hdu("EVENTS", columns, TUNIT4="pixie", TUNIT5="(2,2)", **REFERENCE))
    assert_array_equal(read(path, "EVENTS").energy, [3, 4] * u.TeV)


@pytest.mark.parametrize(
    ("header", "mjd", "scale"),
    [
        ({"MJDREFI": 53000, "MJDREFF": 0.25, "TIMESYS": "UTC"}, 53000.25, "utc"),
        ({"MJDREFI": 53000, "MJDREFF": 0.25, "TIMESYS": " tt "}, 53000.25, "tt"),
        ({"MJDREFI": 53000, "MJDREFF": 0.25}, 53000.25, "tt"),
        ({"MJDREFI": 53000, "MJDREFF": None, "TIMESYS": None}, 53000, "tt"),
        ({"MJDREFI": "53000", "MJDREFF": "0.25"}, 53000.25, "tt"),
        ({"MJDREF": 53000.25, "TIMESYS": "TAI"}, 53000.25, "tai"),
    ],
)
def test_reference_time_as_headers_write_it(header, mjd, scale):
    assert has_time_ref(header)
    reference = time_ref_from_header(header)
    assert reference.scale == scale
    assert reference.mjd == mjd


# --- damage --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("match", "columns", "keywords"),
    [
        ("STOP", {"START": [1.0]}, REFERENCE),
        ("no good time interval", {"START": [] * u.s, "STOP": [] * u.s}, REFERENCE),
        ("reference time", INTERVALS, {}),
        ("reference time", INTERVALS, {"MJDREFI": "yesterday"}),
        ("reference time", INTERVALS, {"MJDREFI": None}),
        ("reference time", INTERVALS, {**REFERENCE, "TIMESYS": "SUNDIAL"}),
        ("START", {**INTERVALS, "START": [1.0, 2.0] * u.deg}, REFERENCE),
        ("STOP", {**INTERVALS, "STOP": ["a", "b"]}, REFERENCE),
        ("STOP", BARE, {**REFERENCE, "TUNIT2": "pixie"}),
        ("STOP", BARE, {**REFERENCE, "TUNIT2": "s, s"}),
    ],
    ids=[
        *["no-column", "no-rows", "no-reference", "text-reference", "undefined-reference"],
        *["unknown-scale", "wrong-unit", "text", "unknown-unit", "two-units"],
    ],
)
def test_good_time_intervals_that_cannot_be_used_raise_format_error(
    match, columns, keywords, write_fits
):
    path = write_fits(table_hdu("GTI", columns, **keywords))
    with pytest.raises(FormatError, match=match) as caught:
        read(path, "GTI")
    assert f"{path}, HDU GTI" in str(caught.value)


@pytest.mark.parametrize(
    ("match", "columns", "keywords", "use"),
    [
        ("no column ENERGY.*TIME", {"TIME": [1.0]}, REFERENCE, ["ENERGY"]),
        ("reference", EVENTS, {}, "time"),
        ("reference", EVENTS, {"MJDREFI": None}, "time"),
        ("TIME", {**EVENTS, "TIME": [1.0, 2.0] * u.deg}, REFERENCE, "time"),
    ],
    ids=["no-column", "no-reference", "undefined-reference", "wrong-unit"],
)
def test_events_that_cannot_be_used_raise_format_error(match, columns, keywords, use, write_fits):
    path = write_fits(table_hdu("EVENTS", columns, **keywords))
    with pytest.raises(FormatError, match=match) as caught:  # noqa: PT012 on reading or on use
        if isinstance(use, list):
            read(path, "EVENTS", use)
        getattr(read(path, "EVENTS"), use)
    assert f"{path}, HDU EVENTS" in str(caught.value)


def test_column_of_lists_comes_as_arrays(write_fits):
    lists = fits.Column("LISTS", "PJ()", array=np.array([[1], [1, 2]], dtype=object))
    path = write_fits(fits.BinTableHDU.from_columns([lists], name="EVENTS"))
    assert [cell.tolist() for cell in read(path, "EVENTS").table["LISTS"]] == [[1], [1, 2]]


def test_missing_column_is_named(write_fits):
    events = read(write_fits(table_hdu("EVENTS", {"X": [1.0]})), "EVENTS")
    for name in ("time", "energy", "radec"):
        with pytest.raises(FormatError, match=r"file\.fits, HDU EVENTS: has no column .*X"):
            getattr(events, name)


@pytest.mark.parametrize(("name", "value"), [("TIME", 1e12), ("RA", 1e4), ("DEC", -91.0)])
def test_absurd_times_and_directions_are_named(name, value, write_fits):
    columns = {"TIME": [1.0, 2.0], "RA": [5.0, 6.0], "DEC": [1.0, np.nan]}
    columns[name] = [1.0, value]
    events = read(write_fits(table_hdu("EVENTS", columns, **REFERENCE)), "EVENTS")
    with pytest.raises(FormatError, match=name):
        _ = events.time, events.radec


@pytest.mark.parametrize("column", ["START", "STOP"])
@pytest.mark.parametrize("value", [np.nan, np.inf, 1e12])
def test_interval_that_is_no_time_is_named(column, value, write_fits):
    path = write_fits(table_hdu("GTI", {**BARE, column: [value]}, **REFERENCE))
    with pytest.raises(FormatError, match=f"GTI: column {column}"):
        read(path, "GTI")


def test_arrays_of_one_are_numbers_and_of_more_are_not(write_fits):
    events = {"TIME": [[1.0], [2.0]], "ENERGY": [[1.0], [2.0]]}
    assert read(write_fits(table_hdu("EVENTS", events, **REFERENCE)), "EVENTS").energy.shape == (2,)
    with pytest.raises(FormatError, match="TIME holds arrays"):
        read(write_fits(table_hdu("EVENTS", {"TIME": [[1.0, 2.0]]}, **REFERENCE)), "EVENTS")
