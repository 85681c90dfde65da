"""Selections: Gammapy's rows, closed forms at the borders, missing values never, errors by name."""

from __future__ import annotations

from typing import Any

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import Angle, SkyCoord
from astropy.table import MaskedColumn, Table
from astropy.time import Time
from hypothesis import given, settings
from hypothesis import strategies as st

from obscluster.archive.obs_table import ObservationTable
from obscluster.archive.selection import selection_mask
from obscluster.exceptions import RequestError

CRAB = {"type": "sky_circle", "frame": "icrs", "lon": "83.633 deg", "lat": "22.014 deg"}
PKS = {"type": "sky_circle", "frame": "galactic", "lon": "17.730 deg", "lat": "-52.246 deg"}


def make_table(**columns: Any) -> ObservationTable:
    """Three observations; columns replaced or added."""
    table = {
        "OBS_ID": [1, 2, 3],
        "RA_PNT": [359.0, 1.0, 180.0] * u.deg,
        "DEC_PNT": [-1.0, 0.0, 30.0] * u.deg,
        "AZ_PNT": [350.0, 0.0, 180.0] * u.deg,
        "ZEN_PNT": [10.0, 20.0, 30.0] * u.deg,
        "N_TELS": [3, 4, 4],
        "OBJECT": ["Crab", "Off", "Crab"],
        "TSTART": [0.0, 100.0, 200.0] * u.s,
        "TSTOP": [50.0, 150.0, 250.0] * u.s,
    }
    meta = {"MJDREFI": 53000, "MJDREFF": 0.0, "TIMESYS": "TT"}
    return ObservationTable(Table(table | columns, meta=meta))


def selected(table: Table, kind: str, **keywords: Any) -> list[int]:
    return table["OBS_ID"][selection_mask(table, {"type": kind, **keywords})].tolist()


def par_box(table: Table, variable: str, value_range: Any, **keywords: Any) -> list[int]:
    return selected(table, "par_box", variable=variable, value_range=value_range, **keywords)


# --- the same as Gammapy -------------------------------------------------------------------------


@pytest.mark.parametrize("inverted", [False, True])
@pytest.mark.parametrize(
    "selection",
    [
        {**CRAB, "radius": "2 deg"},
        {**CRAB, "radius": Angle(0.4, "deg"), "border": "0.2 deg"},
        {**PKS, "radius": 120 * u.arcmin},
        {"type": "sky_circle", "frame": "galactic", "lon": 350, "lat": 0, "radius": 2, "border": 3},
        {"type": "time_box", "time_range": Time(["2004-01-01", "2004-12-31"])},
        {"type": "time_box", "time_range": Time([53343.95, 53347.9], format="mjd")},
        {
            "type": "time_box",
            "time_range": Time([53090.126, 53343.927], format="mjd"),
            "partial_overlap": True,
        },
        {"type": "par_box", "variable": "ZEN_PNT", "value_range": Angle([20, 40], "deg")},
        {"type": "par_box", "variable": "ALT_PNT", "value_range": [0.8, 1.2] * u.rad},
        {"type": "par_box", "variable": "OBS_ID", "value_range": [20300, 23526]},
        {"type": "par_box", "variable": "OBS_ID", "value_range": [23526, 23526]},
        {"type": "par_box", "variable": "N_TELS", "value_range": [4, 4]},
    ],
    ids=lambda s: "-".join([s["type"], s.get("variable", s.get("frame", ""))]),
)
def test_selected_rows_are_gammapys(selection, inverted, hess_dr1):
    data = pytest.importorskip("gammapy.data")
    path = hess_dr1 / "obs-index.fits.gz"
    selection = {**selection, "inverted": inverted}
    ours = ObservationTable.read(path).select_observations(selection)
    theirs = data.ObservationTable.read(path).select_observations([selection])
    assert ours["OBS_ID"].tolist() == theirs["OBS_ID"].tolist()
    assert inverted or len(ours)


# --- borders, in closed form ---------------------------------------------------------------------


def test_range_holds_its_lower_and_not_its_upper_end():
    assert par_box(make_table(), "ZEN_PNT", [10, 30]) == [1, 2]
    assert par_box(make_table(), "ZEN_PNT", [10, 30], inverted=True) == [3]


def test_equal_limits_select_exactly_that_value():
    assert par_box(make_table(), "ZEN_PNT", ["20 deg", "20 deg"]) == [2]
    assert par_box(make_table(), "N_TELS", [4, 4]) == [2, 3]
    assert par_box(make_table(), "OBJECT", ["Crab", "Crab"]) == [1, 3]
    assert par_box(make_table(), "OBJECT", ["Crab", "Crab"], inverted=True) == [2]
    assert par_box(make_table(AZ_PNT=[-10.0, 350.0, 10.0]), "AZ_PNT", [350, 350]) == [1, 2]


@pytest.mark.parametrize("variable", ["AZ_PNT", "RA_PNT"])
@given(
    values=st.lists(st.integers(-400, 800), min_size=3, max_size=3),
    lo=st.integers(-360, 720),
    width=st.integers(1, 400),
)
def test_angles_wrap_around(variable, values, lo, width):
    table = make_table(**{variable: np.array(values, float) * u.deg})
    inside = [any(lo <= x + 360 * turn < lo + width for turn in range(-5, 6)) for x in values]
    expected = [i + 1 for i in range(3) if inside[i]]
    assert par_box(table, variable, [lo, lo + width]) == expected
    if lo < 360 <= lo + width < 360 + lo:
        # The same range, written across north.
        assert par_box(table, variable, [lo, lo + width - 360]) == expected


def test_zenith_does_not_wrap():
    with pytest.raises(RequestError, match="ZEN_PNT 30 to 10: the lower limit is above the upper"):
        par_box(make_table(), "ZEN_PNT", [30, 10])


def test_angles_in_radians_wrap_too():
    table = make_table(AZ_PNT=np.radians([350.0, 0.0, 180.0]) * u.rad)
    assert par_box(table, "AZ_PNT", ["-15 deg", "15 deg"]) == [1, 2]
    assert par_box(table, "AZ_PNT", ["345 deg", "15 deg"]) == [1, 2]


@pytest.mark.parametrize(
    ("lon", "lat", "border", "expected"),
    [
        ([358, 2], [-5, 5], 0, [1, 2]),
        ([-2, 2], [-5, 5], 0, [1, 2]),
        ([0, 360], [-90, 90], 0, [1, 2, 3]),
        ([359, 1], [-5, 5], 0, [1]),
        ([359, 1], [-5, 5], "0.1 deg", [1, 2]),
        ([100, 200], [0, 30], 0, []),
        ([100, 200], [0, 30], 1e-6, [3]),
        ([1, 1], [0, 0], 0, [2]),
    ],
)
def test_sky_box_reaches_across_zero(lon, lat, border, expected):
    assert selected(make_table(), "sky_box", lon=lon, lat=lat, border=border) == expected


def test_sky_box_at_the_poles():
    table = make_table(DEC_PNT=[-90.0, 89.9, 90.0] * u.deg)
    whole = {"lon": [0, 360]}
    assert selected(table, "sky_box", **whole, lat=[-90, -89]) == [1]
    assert selected(table, "sky_box", **whole, lat=[89, 90]) == [2]
    assert selected(table, "sky_box", **whole, lat=[89, 90], border=1) == [2, 3]


def test_sky_box_in_galactic_coordinates():
    center = SkyCoord(0 * u.deg, 0 * u.deg, frame="galactic").icrs
    table = make_table(RA_PNT=[center.ra.deg, 0, 0] * u.deg, DEC_PNT=[center.dec.deg, 0, 0] * u.deg)
    box = {"lon": [359, 1], "lat": [-1, 1]}
    assert selected(table, "sky_box", **box, frame="galactic") == [1]


@settings(max_examples=40)
@given(lon=st.tuples(st.integers(0, 360), st.integers(0, 360)), border=st.integers(1, 100))
def test_wider_border_never_loses_rows(lon, border):
    table = make_table()
    for kind, box in [
        ("sky_box", {"lon": lon, "lat": [-90, 91]}),
        ("sky_circle", {"lon": lon[0], "lat": 0, "radius": 20}),
    ]:
        assert set(selected(table, kind, **box)) <= set(selected(table, kind, **box, border=border))


def test_sky_circle_does_not_hold_its_rim():
    table = make_table(RA_PNT=[0.0, 0.0, 0.0] * u.deg, DEC_PNT=[0.0, 1.0, 1.1] * u.deg)
    assert selected(table, "sky_circle", lon=0, lat=0, radius=1) == [1]
    assert selected(table, "sky_circle", lon=0, lat=0, radius=1, border="6.1 arcmin") == [1, 2, 3]


def test_galactic_pointings_serve_where_equatorial_ones_are_missing():
    table = make_table()
    pointing = table.pointing_galactic
    table.remove_columns(["RA_PNT", "DEC_PNT"])
    table["GLON_PNT"], table["GLAT_PNT"] = pointing.l, pointing.b
    assert selected(table, "sky_circle", lon=0, lat=0, radius=1.2) == [2]


def test_time_box_holds_whole_or_overlapping_observations():
    table = make_table()
    box = {"time_range": table.time_ref + [49, 201] * u.s}
    assert selected(table, "time_box", **box) == [2]
    assert selected(table, "time_box", **box, partial_overlap=True) == [1, 2, 3]


# --- the ways of writing a value -----------------------------------------------------------------


@pytest.mark.parametrize(
    "value_range", [[10, 30], ["10 deg", "30 deg"], [10, 30] * u.deg, (600 * u.arcmin, "0.52 rad")]
)
def test_numbers_text_and_quantities_are_equivalent(value_range):
    assert par_box(make_table(), "ZEN_PNT", value_range) == [1, 2]


@pytest.mark.parametrize("degree", [1, 1.0, "1 deg", "1", 1 * u.deg, "60 arcmin", Angle("1d")])
def test_angles_of_a_circle_in_every_notation(degree):
    circle = {"lon": degree, "lat": degree, "radius": degree}
    assert selected(make_table(), "sky_circle", **circle, border=1e-3) == [2]


@pytest.mark.parametrize(
    "time_range",
    [
        ["2003-12-27T00:01:00", "2003-12-27T00:05:00"],
        ["2003-12-27 00:01:00", Time("2003-12-27T00:05:00")],
        Time(["2003-12-27T00:01:00", "2003-12-27T00:05:00"]),
    ],
)
def test_times_are_text_or_time(time_range):
    # 53000 is 2003-12-27; TT is 64.184 s ahead of UTC, so these are 124 s and 364 s.
    assert selected(make_table(), "time_box", time_range=time_range) == [3]


# --- missing values ------------------------------------------------------------------------------


@pytest.mark.parametrize("inverted", [False, True])
@pytest.mark.parametrize(
    ("column", "keywords"),
    [
        ("ZEN_PNT", {"type": "par_box", "variable": "ZEN_PNT", "value_range": [0, 15]}),
        ("N_TELS", {"type": "par_box", "variable": "N_TELS", "value_range": [4, 4]}),
        ("OBJECT", {"type": "par_box", "variable": "OBJECT", "value_range": ["Off", "Off"]}),
        ("DEC_PNT", {"type": "sky_circle", "lon": 0, "lat": 0, "radius": 5}),
        ("RA_PNT", {"type": "sky_box", "lon": [350, 10], "lat": [-5, 5]}),
        ("TSTART", {"type": "time_box", "time_range": ["2003-12-01", "2004-01-01"]}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_missing_value_never_passes(column, keywords, inverted):
    whole = make_table()[column]
    masked = MaskedColumn(whole, mask=[False, True, False])
    fillings = [masked]
    if whole.dtype.kind == "f":
        fillings.append(np.where([False, True, False], np.nan, whole.value) * whole.unit)
    for values in fillings:
        mask = selection_mask(make_table(**{column: values}), {**keywords, "inverted": inverted})
        assert not mask[1]
        known = selection_mask(make_table(), {**keywords, "inverted": inverted})
        assert mask[[0, 2]].tolist() == known[[0, 2]].tolist()


known_value = st.floats(-100, 400)
value = known_value | st.just(np.nan)


@given(
    rows=st.lists(st.tuples(value, st.booleans()), min_size=1),
    ends=st.tuples(known_value, known_value),
)
def test_selected_and_inverted_are_the_rows_with_known_values(rows, ends):
    values, missing = np.array([v for v, _ in rows]), np.array([m for _, m in rows])
    column = MaskedColumn(values, mask=missing, unit="deg")
    table = Table({"AZ_PNT": column, "ANGLE": column})
    for variable in table.colnames:
        limits = sorted(ends) if variable == "ANGLE" else ends
        box = {"type": "par_box", "variable": variable, "value_range": limits}
        inside = selection_mask(table, box)
        outside = selection_mask(table, {**box, "inverted": True})
        assert not (inside & outside).any()
        assert ((inside | outside) == ~missing & np.isfinite(values)).all()


def test_declination_beyond_the_pole_does_not_stop_the_other_rows():
    table = make_table(DEC_PNT=[-1.0, 0.0, 95.0] * u.deg)
    assert selected(table, "sky_circle", lon=0, lat=0, radius=5) == [1, 2]


# --- cut flow and the table itself ---------------------------------------------------------------

STEPS = [
    {"type": "par_box", "variable": "N_TELS", "value_range": [4, 4]},
    {"type": "sky_circle", "lon": "0 deg", "lat": "0 deg", "radius": "5 deg", "inverted": True},
]


def test_cut_flow_adds_up():
    table = make_table()
    flow = table.cut_flow(STEPS)
    assert flow["passed"].tolist() == [3, 2, 1]
    assert flow["dropped"].tolist() == [0, 1, 1]
    assert "N_TELS 4" in flow["selection"][1]
    assert "not " in flow["selection"][2]
    assert "5 deg" in flow["selection"][2]
    assert table.select_observations(STEPS)["OBS_ID"].tolist() == [3]
    assert table.cut_flow(STEPS[0])["passed"].tolist() == [3, 2]
    assert table.cut_flow([])["passed"].tolist() == [3]


def test_selecting_leaves_the_table_and_the_selections_as_they_were():
    table, before = make_table(), make_table()
    steps = [dict(step) for step in STEPS]
    chosen = table.select_observations(steps)
    table.cut_flow(steps)
    chosen["N_TELS"][:] = 99
    assert steps == STEPS
    assert (table == before).all()
    assert table.meta == before.meta
    assert isinstance(chosen, ObservationTable)
    everything = table.select_observations()
    everything["N_TELS"][:] = 99
    assert (table == before).all()


def test_select_obs_id_keeps_the_order_asked_and_names_the_missing():
    table = make_table()
    assert table.select_obs_id([3, 1])["OBS_ID"].tolist() == [3, 1]
    assert table.select_obs_id(2)["OBS_ID"].tolist() == [2]
    assert table.select_obs_id(i for i in (2, 3))["OBS_ID"].tolist() == [2, 3]
    with pytest.raises(RequestError, match=r"no observation 7, 8"):
        table.select_obs_id([1, 7, 8])
    with pytest.raises(RequestError, match=r"no observation 1"):
        table[:0].select_obs_id([1])


# --- unusable requests ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("match", "selection"),
    [
        ("'sky_circel'.*'sky_circle'", {"type": "sky_circel"}),
        ("selection type 'None'", {}),
        ("'raduis'.*'radius'", {**CRAB, "raduis": 1}),
        ("needs radius", CRAB),
        ("'fk5'.*icrs", {**CRAB, "radius": 1, "frame": "fk5"}),
        ("radius 2 parsec", {**CRAB, "radius": "2 parsec"}),
        ("lat None", {**CRAB, "radius": 1, "lat": None}),
        ("lat.*100", {**CRAB, "radius": 1, "lat": "100 deg"}),
        ("lon.*1.*2", {**CRAB, "radius": 1, "lon": [1, 2]}),
        ("lon 5: expected two", {"type": "sky_box", "lon": 5, "lat": [0, 1]}),
        ("'ZEN'.*'ZEN_PNT'", {"type": "par_box", "variable": "ZEN", "value_range": [0, 1]}),
        (
            "ZEN_PNT.*1 s.*deg",
            {"type": "par_box", "variable": "ZEN_PNT", "value_range": ["1 s", 3]},
        ),
        ("ZEN_PNT.*high", {"type": "par_box", "variable": "ZEN_PNT", "value_range": ["high", 3]}),
        ("N_TELS.*3 m", {"type": "par_box", "variable": "N_TELS", "value_range": ["3 m", "4 m"]}),
        (r"\[1\].*two", {"type": "par_box", "variable": "ZEN_PNT", "value_range": [1]}),
        ("OBJECT.*text", {"type": "par_box", "variable": "OBJECT", "value_range": ["a", "b"]}),
        ("3", {"type": "par_box", "variable": 3, "value_range": [0, 1]}),
        ("today.*now", {"type": "time_box", "time_range": ["today", "now"]}),
        ("not two times", {"type": "time_box", "time_range": [53000, 53001]}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_unusable_selection_is_a_request_error_that_names_it(match, selection):
    for use in (make_table().select_observations, make_table().cut_flow):
        with pytest.raises(RequestError, match=match):
            use(selection)


@pytest.mark.parametrize(
    ("selection", "drop"),
    [
        ({**CRAB, "radius": 1}, "RA_PNT"),
        ({"type": "sky_box", "lon": [0, 1], "lat": [0, 1]}, "DEC_PNT"),
        ({"type": "time_box", "time_range": ["2004-01-01", "2005-01-01"]}, "TSTART"),
        ({"type": "time_box", "time_range": ["2004-01-01", "2005-01-01"]}, "MJDREFI"),
    ],
)
def test_table_without_what_a_selection_needs_is_a_request_error(selection, drop):
    table = make_table()
    if drop in table.meta:
        del table.meta[drop]
    else:
        table.remove_column(drop)
    with pytest.raises(RequestError, match=drop):
        table.select_observations(selection)


def test_a_time_reference_that_makes_no_sense_is_named():
    table = make_table()
    table.meta["TIMESYS"] = "sundial"
    box = {"type": "time_box", "time_range": ["2006-01-01", "2006-01-02"]}
    with pytest.raises(RequestError, match="sundial"):
        selection_mask(table, box)
