"""Archives and observations: Gammapy's values, nothing read before it is asked for."""

from __future__ import annotations

import gzip
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import AltAz, EarthLocation, SkyCoord
from astropy.io import fits
from astropy.table import Table, vstack
from astropy.time import Time
from numpy.testing import assert_allclose, assert_array_equal

from obscluster import get_features
from obscluster.archive.observation import Observation, Observations
from obscluster.archive.store import DataStore
from obscluster.exceptions import (
    ArchiveError,
    DataError,
    MissingDataError,
    ObsClusterWarning,
    RequestError,
    SkippedRunWarning,
)

ARCHIVES = {
    "hess_dr1": (".", [20136, 20326, 33798, 47829]),
    "cta_1dc": ("index/gps", [110380, 111630]),
    "fact_crab": (".", [20131103093, 20131105240]),
    "small_archive": (".", [26601, 217701]),
}
EVERY_HDU = ["events", "gti", "aeff", "edisp", "psf", "bkg"]
SITE = EarthLocation.from_geodetic(16.5002222222222, -23.2717777777778, 1835)


@pytest.fixture(params=ARCHIVES)
def stores(request: pytest.FixtureRequest) -> tuple[DataStore, Any, list[int]]:
    """An archive opened by obscluster and by Gammapy, and a few of its runs."""
    data = pytest.importorskip("gammapy.data")
    path, obs_ids = ARCHIVES[request.param]
    directory = request.getfixturevalue(request.param) / path
    return DataStore.from_dir(directory), data.DataStore.from_dir(directory), obs_ids


Edit = Callable[..., Observation]


@pytest.fixture
def edited(small_archive: Path, tmp_path: Path) -> Edit:
    """First run of an archive, keywords of its EVENTS header replaced (None: taken away)."""

    def edit(index: bool = True, **keywords: Any) -> Observation:
        directory = tmp_path / "edited"
        shutil.copytree(small_archive, directory)
        path = next(iter(sorted((directory / "data").iterdir())))
        with fits.open(path) as hdulist:
            header = hdulist["EVENTS"].header
            for key, value in keywords.items():
                header.remove(key, ignore_missing=True)
                if value is not None:
                    header[key] = value
            hdulist.writeto(path, overwrite=True)
        if index:
            table = Table.read(directory / "obs-index.fits.gz")
            table.remove_columns([name for name in keywords if name in table.colnames])
            table.meta = {k: v for k, v in table.meta.items() if k not in keywords}
            table.write(directory / "obs-index.fits.gz", overwrite=True)
        return DataStore.from_dir(directory).get_observations()[0]

    return edit


@pytest.fixture
def observations(small_archive: Path) -> Observations:
    return DataStore.from_dir(small_archive).get_observations()


def separation(one: SkyCoord, other: SkyCoord) -> float:
    return one.separation(other).to_value("arcsec")


# --- the same as Gammapy -------------------------------------------------------------------------


def test_archive_is_gammapys(stores):
    ours, theirs, _ = stores
    assert ours.obs_ids.tolist() == sorted(theirs.obs_ids)
    assert ours.obs_table.colnames == theirs.obs_table.colnames
    for name in ours.obs_table.colnames:
        assert (ours.obs_table[name] == theirs.obs_table[name]).all()
        assert ours.obs_table[name].unit == theirs.obs_table[name].unit
    assert len(ours.hdu_table) == len(theirs.hdu_table)
    starts = ours.obs_table.time_start - theirs.obs_table.time_start
    assert_allclose(starts.to_value("s"), 0, atol=1e-6)
    # Gammapy computes in the single precision of the column.
    assert (separation(ours.obs_table.pointing_radec, theirs.obs_table.pointing_radec) < 0.05).all()


def test_observation_is_gammapys(stores):
    ours, theirs, obs_ids = stores
    for obs_id in obs_ids:
        mine = ours.obs(obs_id)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            other = theirs.obs(obs_id, required_irf="all-optional")
            n_events = len(other.events.table)
        assert len(mine.events) == n_events
        assert sorted(mine.available_hdus) == sorted(other.available_hdus)
        assert mine.available_irfs == other.available_irfs
        for name in ("tstart", "tstop", "tmid"):
            difference = getattr(mine, name) - getattr(other, name)
            assert abs(difference.to_value("s")) < 1e-6
        for name in (
            "observation_time_duration",
            "observation_dead_time_fraction",
            "observation_live_time_duration",
        ):
            assert_allclose(getattr(mine, name), getattr(other, name), rtol=1e-9)
        assert mine.livetime == mine.observation_live_time_duration
        place = other.observatory_earth_location
        if "cta" in str(ours.base_dir):
            # Gammapy does not look at the unit: ALTITUDE = 2.15 / [km].
            height = 1000 * mine.header["ALTITUDE"] * u.m
            place = EarthLocation.from_geodetic(place.lon, place.lat, height)
        assert_allclose(mine.observatory_earth_location.x.value, place.x.value, rtol=1e-12)
        assert_allclose(mine.observatory_earth_location.z.value, place.z.value, rtol=1e-12)
        time = other.tmid
        pointing = SkyCoord(other.get_pointing_icrs(time).ra, other.get_pointing_icrs(time).dec)
        assert separation(mine.get_pointing_icrs(), pointing) < 1e-6
        for angle in ("alt", "az"):
            assert_allclose(
                getattr(mine.get_pointing_altaz(time), angle).deg,
                getattr(other.get_pointing_altaz(time), angle).deg,
                atol=1e-6,
            )


def test_every_keyword_of_the_events_and_column_of_the_index_is_in_meta(hess_dr1):
    obs = DataStore.from_dir(hess_dr1).obs(20136)
    header = fits.getheader(obs.locations["events"].existing_path, "EVENTS")
    assert obs.meta.optional["MUONEFF"] == header["MUONEFF"]
    assert obs.meta.optional["TELLIST"] == header["TELLIST"]
    assert isinstance(obs.meta.optional["EVENT_COUNT"], int)
    assert obs.meta.obs_id == 20136


# --- opening an archive --------------------------------------------------------------------------


@pytest.mark.parametrize("directory", ["~/archive", "$PLACE/archive", "${PLACE}/archive"])
def test_home_and_variables_are_expanded(directory, small_archive, tmp_path, monkeypatch):
    (tmp_path / "archive").symlink_to(small_archive)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PLACE", str(tmp_path))
    store = DataStore.from_dir(directory)
    assert store.base_dir == tmp_path / "archive"
    assert len(store.get_observations()[0].events)


def test_variable_that_is_not_set_and_missing_directory_are_named(monkeypatch, tmp_path):
    monkeypatch.delenv("PLACE", raising=False)
    with pytest.raises(RequestError, match=r"\$PLACE is not set"):
        DataStore.from_dir("$PLACE/archive")
    with pytest.raises(ArchiveError, match="nowhere"):
        DataStore.from_dir(tmp_path / "nowhere")


def test_index_files_may_be_plain_have_other_names_and_list_runs_twice(small_archive, tmp_path):
    table = Table.read(small_archive / "obs-index.fits.gz")
    vstack([table[::-1], table[:3]], metadata_conflicts="silent").write(tmp_path / "mine.fits")
    packed = (small_archive / "hdu-index.fits.gz").read_bytes()
    (tmp_path / "hdu-index.fits").write_bytes(gzip.decompress(packed))
    with pytest.warns(ObsClusterWarning, match="mine.fits: 3 rows are there twice"):
        store = DataStore.from_dir(tmp_path, obs_table_filename="mine.fits")
    assert store.obs_table["OBS_ID"].tolist() == table["OBS_ID"].tolist()
    assert store.obs_ids.tolist() == table["OBS_ID"].tolist()
    assert {path.name for path in store.index_files} == {"mine.fits", "hdu-index.fits"}


# --- observations of an archive ------------------------------------------------------------------


@pytest.mark.parametrize(
    "obs_id",
    [
        [54501, 26601],
        (54501, 26601),
        np.array([54501, 26601], "u4"),
        Table({"OBS_ID": [54501, 26601]})["OBS_ID"],
        ["54501", "26601"],
        {54501: 0, 26601: 1}.keys(),
        (i for i in (54501, 26601)),
    ],
    ids=["list", "tuple", "array", "column", "text", "keys", "generator"],
)
def test_observations_come_in_the_order_asked(obs_id, small_archive):
    chosen = DataStore.from_dir(small_archive).get_observations(obs_id)
    assert chosen.obs_ids.tolist() == [54501, 26601]
    assert chosen.ids == ["54501", "26601"]


@pytest.mark.parametrize("bad", [[26601, 7], [26601.5], ["run"], [None]])
def test_observation_that_is_not_there_is_named(bad, small_archive):
    with pytest.raises(RequestError, match=str(bad[-1])):
        DataStore.from_dir(small_archive).get_observations(bad)


def test_missing_observations_are_skipped_on_request(small_archive):
    store = DataStore.from_dir(small_archive)
    assert store.get_observations([7, 26601, 8], skip_missing=True).ids == ["26601"]
    with pytest.raises(RequestError, match=r"no run 7 and 1 more.*skip_missing"):
        store.get_observations([7, 26601, 8])
    with pytest.raises(RequestError, match="no run 7"):
        store.obs(7)


@pytest.mark.parametrize(
    ("required_irf", "taken_away", "n_left"),
    [
        ("full-enclosure", "bkg", 11),
        ("full-enclosure", "psf", 11),
        ("point-like", "bkg", 12),
        ("point-like", "edisp", 11),
        ("all-optional", "aeff", 12),
        (["psf", "bkg"], "psf", 11),
        (["psf", "bkg"], "aeff", 12),
        ([], "aeff", 12),
    ],
)
def test_observations_without_required_hdus_are_left_out(
    required_irf, taken_away, n_left, small_archive
):
    store = DataStore.from_dir(small_archive)
    gone = (store.hdu_table["OBS_ID"] == 54501) & (store.hdu_table["HDU_TYPE"] == taken_away)
    store.hdu_index.table.remove_rows(np.flatnonzero(gone))
    chosen = store.get_observations(required_irf=required_irf)
    assert len(chosen) == n_left
    assert ("54501" in chosen.ids) == (n_left == 12)


@pytest.mark.parametrize("required_irf", ["everything", ["aef"], "aeff2"])
def test_unknown_requirement_is_a_request_error(required_irf, small_archive):
    name = required_irf if isinstance(required_irf, str) else required_irf[0]
    with pytest.raises(RequestError, match=name):
        DataStore.from_dir(small_archive).get_observations(required_irf=required_irf)


def test_observations_are_indexed_by_place_identifier_mask_and_list(observations):
    ids = observations.ids
    assert len(observations) == 12
    assert [obs.obs_id for obs in observations] == observations.obs_ids.tolist()
    assert observations[-1] is observations[ids[-1]]
    assert observations[np.int64(3)] is observations[3]
    assert observations[2:5].ids == ids[2:5]
    assert observations[[5, 0]].ids == [ids[5], ids[0]]
    assert observations[observations.obs_ids > 150_000].ids == ids[-4:]
    assert observations[[]].ids == []
    with pytest.raises(KeyError, match="no observation 7"):
        observations["7"]
    with pytest.raises(IndexError):
        observations[12]


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        ([2, 1, -1] * 4, ["group_-1", "group_1", "group_2"]),
        (np.array(["b", "a"] * 6), ["group_a", "group_b"]),
        ([10, 9] * 6, ["group_9", "group_10"]),
        ([1] * 12, ["group_1"]),
    ],
)
def test_groups_are_named_ordered_and_complete(labels, names, observations):
    groups = observations.group_by_label(labels)
    assert list(groups) == names
    for label in set(np.asarray(labels).tolist()):
        group = groups[f"group_{label}"]
        assert isinstance(group, Observations)
        expected = [i for i, other in zip(observations.ids, labels, strict=True) if other == label]
        assert group.ids == expected


def test_labels_must_be_one_per_observation(observations):
    for labels in ([1, 2], np.ones((12, 1))):
        with pytest.raises(RequestError, match="12 observations"):
            observations.group_by_label(labels)


# --- nothing before it is asked for --------------------------------------------------------------


def test_opening_observations_touches_no_run_file(small_archive, tmp_path):
    for name in ("obs-index.fits.gz", "hdu-index.fits.gz"):
        shutil.copy(small_archive / name, tmp_path)
    chosen = DataStore.from_dir(tmp_path).get_observations(required_irf="full-enclosure")
    obs = chosen.group_by_label([1] * 12)["group_1"][0]
    assert obs.available_hdus == EVERY_HDU
    assert obs.available_irfs == EVERY_HDU[2:]
    assert "26601" in repr(obs)
    for name in (*EVERY_HDU, "meta"):
        with pytest.raises(MissingDataError, match=r"run_026601\.fits\.gz") as caught:
            getattr(obs, name)
        assert "26601" in str(caught.value)


def test_parts_are_read_once(edited):
    obs = edited()
    parts = [getattr(obs, name) for name in (*EVERY_HDU, "meta")]
    shutil.rmtree(obs.locations["events"].path.parent)
    assert all(getattr(obs, n) is p for n, p in zip((*EVERY_HDU, "meta"), parts, strict=True))


def test_responses_that_the_index_does_not_list_are_none(small_archive, observations):
    assert observations[0].rad_max is None
    assert list(observations[0].read_irfs("psf", "rad_max", "aeff")) == ["psf", "aeff"]
    bare = Observation(7, {})
    assert bare.aeff is None
    assert bare.header == {}
    with pytest.raises(MissingDataError, match=r"run 7.*no events"):
        _ = bare.events


def test_responses_need_no_events_in_their_file(edited):
    obs = edited()
    path = obs.locations["events"].path
    with fits.open(path) as hdulist:
        del hdulist["EVENTS"]
        hdulist.writeto(path, overwrite=True)
    assert obs.read_irfs("aeff")["aeff"].hdu_class == "aeff_2d"
    with pytest.raises(MissingDataError, match="EVENTS"):
        _ = obs.meta


def test_file_is_found_by_either_name_and_its_header_serves_the_meta(small_archive, tmp_path):
    archive = tmp_path / "archive"
    shutil.copytree(small_archive, archive)
    for path in (archive / "data").iterdir():
        path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
        path.unlink()
    obs = DataStore.from_dir(archive).obs(26601)
    assert_array_equal(
        obs.aeff.data, DataStore.from_dir(small_archive).obs(26601).read_irfs("aeff")["aeff"].data
    )
    assert obs.meta.optional["MUONEFF"] == obs.header["MUONEFF"]


# --- pointing ------------------------------------------------------------------------------------


def test_drift_stands_still_in_altitude_and_azimuth(edited):
    obs = edited(OBS_MODE="DRIFT", ALT_PNT=60.0, AZ_PNT=100.0, RA_PNT=None, DEC_PNT=None)
    assert obs.is_drift
    for time in (obs.tmid, obs.tstart + 1 * u.day):
        altaz = obs.get_pointing_altaz(time)
        assert_allclose([altaz.alt.deg, altaz.az.deg], [60, 100])
        sky = SkyCoord(
            alt=60 * u.deg, az=100 * u.deg, frame=AltAz(obstime=time, location=SITE)
        ).icrs
        assert separation(obs.get_pointing_icrs(time), sky) < 1e-3
    middle = obs.get_pointing_icrs(obs.tmid)
    assert separation(obs.get_pointing_icrs(), middle) < 1e-6
    assert_allclose(obs.pointing_lon_lat(), [middle.ra.rad, middle.dec.rad])


@pytest.mark.parametrize("mode", ["POINTING", "pointing", "WOBBLE", None])
def test_other_modes_follow_the_sky(mode, edited):
    obs = edited(OBS_MODE=mode, RA_PNT=10.0, DEC_PNT="20.5")
    assert not obs.is_drift
    assert separation(obs.get_pointing_icrs(), SkyCoord("10d", "20.5d")) < 1e-6
    assert_allclose(obs.pointing_lon_lat(), np.radians([10, 20.5]))


def test_header_counts_before_index_and_index_fills_in(edited):
    obs = edited(index=False, RA_PNT=10.0, DEC_PNT=None, NEW=3)
    row = obs.index_row
    assert obs.meta.optional["RA_PNT"] == 10
    assert obs.get_pointing_icrs().dec.deg == pytest.approx(row["DEC_PNT"])
    assert obs.meta.optional["NEW"] == 3
    assert obs.meta.optional["ZEN_PNT"] == row["ZEN_PNT"]


def test_without_dead_time_correction_it_is_livetime_over_time(edited):
    obs = edited(DEADC=None)
    share = obs.header["LIVETIME"] / obs.header["ONTIME"]
    assert_allclose(obs.observation_dead_time_fraction, 1 - share, rtol=1e-12)
    assert_allclose(obs.livetime, share * obs.observation_time_duration, rtol=1e-12)


def test_dead_time_that_nobody_knows_is_not_zero(edited):
    obs = edited(DEADC=None, LIVETIME=None)
    assert np.isnan(obs.observation_dead_time_fraction)
    assert obs.livetime == obs.observation_time_duration
    assert "dead time unknown" in obs.quantity("livetime").note


def test_without_location_only_altitude_and_azimuth_are_missing(edited):
    obs = edited(GEOLAT=None)
    assert obs.observatory_earth_location is None
    assert np.isfinite(obs.get_pointing_icrs().ra.deg)
    with pytest.raises(DataError, match=r"run_026601.*GEOLAT.*neither in") as caught:
        obs.get_pointing_altaz(Time(53000, format="mjd"))
    assert "run 26601" in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *[("DEC_PNT", value) for value in (None, "up", float("nan"), 95.0, "")],
        *[("GEOLAT", value) for value in ("south", -95.0)],
    ],
)
def test_unusable_keyword_is_named_with_the_file(key, value, edited):
    value = "nan" if isinstance(value, float) and np.isnan(value) else value
    obs = edited(**{key: value})
    with pytest.raises(DataError, match=key) as caught:
        _ = obs.meta, obs.get_pointing_icrs()
    assert "run_026601.fits.gz" in str(caught.value)


def test_an_archive_is_found_below_the_directory_named(small_archive, tmp_path):
    shutil.copytree(small_archive, tmp_path / "release" / "archive")
    assert DataStore.from_dir(tmp_path).base_dir == tmp_path / "release" / "archive"
    shutil.copytree(small_archive, tmp_path / "other")
    with pytest.raises(ArchiveError, match="several archives; name one of other, release/archive"):
        DataStore.from_dir(tmp_path)


def test_cta_1dc_opens_from_its_top(cta_1dc):
    assert len(DataStore.from_dir(cta_1dc).obs_table) == 4


def test_info_is_printed_or_returned(small_archive, capsys):
    store = DataStore.from_dir(small_archive)
    text = store.info(show=False)
    assert text is not None
    assert "72 of 12 observations" in text
    assert "psf_table" in text
    assert store.info() is None
    assert capsys.readouterr().out == f"{text}\n"


def test_a_passing_look_leaves_nothing_and_keeps_the_class(small_archive):
    class Mine(Observation):
        @property
        def header(self):
            return {"MYKEY": 42}

    (obs,) = DataStore.from_dir(small_archive).get_observations()[:1]
    _ = obs.is_drift
    before = set(obs.__dict__)
    look = obs.passing()
    assert look.get_pointing_icrs().separation(obs.get_pointing_icrs()).deg == 0
    _ = look.pointing_table, look.meta, look.gti
    assert set(obs.__dict__) == before
    mine = Mine(obs.obs_id, obs.locations)
    assert type(mine.passing()) is Mine
    assert mine.passing().header["MYKEY"] == 42


def test_a_name_that_no_file_can_have_concerns_one_run(small_archive):
    store = DataStore.from_dir(small_archive)
    store.hdu_index.table["FILE_NAME"] = [
        f"a\0{name}" if obs_id == store.obs_ids[0] else name
        for obs_id, name in store.hdu_index.table.iterrows("OBS_ID", "FILE_NAME")
    ]
    with pytest.warns(SkippedRunWarning, match=r"1 of 12 runs: .*no such file"):
        get_features(store.get_observations(), ["edisp-res"], "1 TeV")
