"""Archives without index: what their headers say is what an index would say."""

import shutil

import numpy as np
import pytest
from astropy.time import Time
from numpy.testing import assert_allclose, assert_array_equal

from obscluster import get_irfs_features
from obscluster.archive.store import DataStore
from obscluster.exceptions import ObsClusterWarning
from unindexed import edit, run_files

# What the simulator knows beyond the headers.
ONLY_IN_INDEX = {"OFFSET_OBJ", "QUALITY", "SAFE_ENERGY_LO", "SAFE_ENERGY_HI", "EPOCH"}
PLACE = ["OBS_ID", "HDU_TYPE", "HDU_CLASS", "FILE_DIR", "FILE_NAME", "HDU_NAME"]


@pytest.fixture
def truth(unpacked_archive):
    return DataStore.from_dir(unpacked_archive)


def places(table, upper=True):
    rows = (tuple(str(value).strip() for value in row) for row in table[PLACE])
    return sorted(tuple(v.upper() for v in row) if upper else row for row in rows)


def assert_same_values(table, expected, names, **tolerance):
    for name in names:
        if expected[name].dtype.kind in "fiu":
            assert_allclose(table[name], expected[name], err_msg=name, **tolerance)
        else:
            assert_array_equal(table[name], expected[name], err_msg=name)


class TestSameAsTheIndex:
    def test_simulated(self, unindexed, truth):
        store = DataStore.from_files(unindexed)
        names = set(truth.obs_table.colnames) - ONLY_IN_INDEX
        assert names <= set(store.obs_table.colnames)
        assert_same_values(store.obs_table, truth.obs_table, names, rtol=1e-14)
        for name in names - {"NSBLEVEL"}:
            assert store.obs_table[name].unit == truth.obs_table[name].unit, name
            assert store.obs_table[name].description, name
        assert places(store.hdu_table, upper=False) == places(truth.hdu_table, upper=False)
        assert_array_equal(sorted(store.hdu_table["SIZE"]), sorted(truth.hdu_table["SIZE"]))
        assert store.obs_table.time_ref.isclose(truth.obs_table.time_ref)
        for key in ("GEOLON", "GEOLAT", "ALTITUDE"):
            assert store.obs_table.meta[key] == truth.obs_table.meta[key]

    def test_same_features(self, unindexed, truth):
        tables = [
            get_irfs_features(store.get_observations(), energy_true="1 TeV")
            for store in (DataStore.from_files(unindexed), truth)
        ]
        numeric = [name for name in tables[0].colnames if tables[0][name].dtype.kind in "fi"]
        assert len(numeric) > 1
        for name in numeric:
            assert_array_equal(tables[0][name], tables[1][name], err_msg=name)

    def test_hess(self, hess_dr1):
        """105 runs: the index that the headers give is the one that was shipped."""
        index = DataStore.from_dir(hess_dr1)
        store = DataStore.from_files(hess_dr1)
        table, expected = store.obs_table, index.obs_table
        # Decided for the release, not in the headers.
        decided = {"OFFSET_OBJ", "SAFE_ENERGY_LO", "SAFE_ENERGY_HI"}
        decided |= {name for name in expected.colnames if name.startswith("TARGET_")}
        assert set(expected.colnames) - set(table.colnames) == decided
        # The index has single precision.
        names = set(expected.colnames) - decided - {"QUALITY"}
        assert_same_values(table, expected, names, rtol=1e-6, atol=2e-5)
        for name in names:
            assert table[name].unit == expected[name].unit, name
        assert places(store.hdu_table) == places(index.hdu_table)

    def test_fact_has_one_response_file_for_all(self, fact_crab, tmp_path):
        index = DataStore.from_dir(fact_crab)
        files = [*sorted(fact_crab.glob("*_dl3.fits"))[:5], fact_crab / "fact_irf.fits"]
        for file in files:
            shutil.copy(file, tmp_path)
        store = DataStore.from_files(tmp_path)
        expected = index.obs_table.select_obs_id(store.obs_ids)
        assert len(expected) == 5
        names = ["OBS_ID", "RA_PNT", "DEC_PNT", "TSTART", "LIVETIME", "DATE-OBS"]
        assert_same_values(store.obs_table, expected, names)
        # Not in the headers, so computed; the shipped values differ by up to 0.03 deg.
        assert_allclose(store.obs_table["ZEN_PNT"], expected["ZEN_PNT"], atol=0.05)
        assert store.obs_table["N_TELS"].mask.all()
        irfs = store.get_observations()[0].read_irfs("aeff", "edisp")
        assert irfs["aeff"].is_pointlike
        assert irfs["edisp"].path == tmp_path / "fact_irf.fits"

    def test_cta_by_caldb(self, cta_1dc, monkeypatch):
        monkeypatch.setenv("CALDB", str(cta_1dc / "caldb"))
        index = DataStore.from_dir(cta_1dc / "index" / "gps")
        paths = cta_1dc / "data" / "baseline" / "gps" / "*.fits"
        with pytest.warns(ObsClusterWarning, match=r"1 of 4 runs .*gps_baseline_111630"):
            store = DataStore.from_files(paths)  # the header of one run does not name its response
        assert store.base_dir == paths.parent
        names = ["RA_PNT", "GLON_PNT", "ZEN_PNT", "TSTART", "DATE-OBS", "OBJECT", "EVENT_COUNT"]
        assert_same_values(store.obs_table, index.obs_table, ["OBS_ID", *names], rtol=1e-9)
        for obs, other in zip(store.get_observations()[:3], index.get_observations(), strict=False):
            assert obs.available_irfs == other.available_irfs
            for kind in obs.available_irfs:
                ours, theirs = obs.locations[kind], other.locations[kind]
                assert ours.path.samefile(theirs.path)
                assert (ours.hdu_class, ours.hdu_name) == (theirs.hdu_class, theirs.hdu_name)
        # Of the whole directory, the calibration file is the only one with responses.
        monkeypatch.delenv("CALDB")
        whole = DataStore.from_files(cta_1dc)
        assert (np.asarray(whole.hdu_table["HDU_CLASS"]) == "psf_3gauss").sum() == 4


class TestPointing:
    def test_computed_where_missing(self, unindexed, truth):
        for path in run_files(unindexed):
            edit(path, ALT_PNT=None, AZ_PNT=None, GLON_PNT=None, GLAT_PNT=None)
        table = DataStore.from_files(unindexed).obs_table
        for name in ("ZEN_PNT", "ALT_PNT", "AZ_PNT", "GLON_PNT", "GLAT_PNT"):
            assert_allclose(table[name], truth.obs_table[name], atol=0.01, err_msg=name)

    def test_site_by_the_name_of_the_telescope(self, unindexed, truth):
        for path in run_files(unindexed)[:-1]:
            edit(path, ALT_PNT=None, GEOLON=None, TELESCOP="HESS")
        edit(run_files(unindexed)[-1], ALT_PNT=None, GEOLON=None)
        table = DataStore.from_files(unindexed).obs_table
        assert_allclose(table["ZEN_PNT"][:-1], truth.obs_table["ZEN_PNT"][:-1], atol=0.01)
        assert np.isnan(table["ZEN_PNT"][-1])
        assert "GEOLON" not in table.meta

    def test_drift(self, unindexed, truth):
        edit(run_files(unindexed)[0], OBS_MODE="DRIFT", RA_PNT=None, DEC_PNT=None)
        edit(run_files(unindexed)[1], OBS_MODE="DRIFT")
        table = DataStore.from_files(unindexed).obs_table
        for name in ("RA_PNT", "DEC_PNT", "GLON_PNT", "GLAT_PNT", "ALT_PNT"):
            assert_allclose(table[name], truth.obs_table[name], atol=0.01, err_msg=name)


def test_numbers_that_are_missing_or_unusable(unindexed, truth):
    files = run_files(unindexed)
    edit(files[0], LIVETIME=None, N_TELS=None, MUONEFF="unknown", DEC_PNT=123.0, RA_OBJ="12.5")
    edit(files[1], ONTIME=None, DEADC=None, N_TELS=3.5, TSTART="soon", OBJECT=None)
    table = DataStore.from_files(unindexed).obs_table
    assert_allclose(table["LIVETIME"], truth.obs_table["LIVETIME"], rtol=1e-9)
    assert table["N_TELS"].mask.tolist() == [True, True, False, False, False]
    for name, row in (("MUONEFF", 0), ("DEC_PNT", 0), ("ONTIME", 1), ("TSTART", 1)):
        assert np.isnan(table[name]).tolist() == [i == row for i in range(5)], name
    assert table["RA_OBJ"][0] == 12.5
    assert table["OBJECT"][1] == ""


def test_another_reference_and_place(unindexed, truth):
    """Times come out as the same instants; places go from the header into columns."""
    start = Time(truth.obs_table.time_start[2], scale="utc")
    reference = Time(55000, format="mjd", scale="utc")
    seconds = (start - reference).to_value("s")
    stop = seconds + float(truth.obs_table["ONTIME"][2])
    edit(
        run_files(unindexed)[2], MJDREFI=None, MJDREFF=None, MJDREF=55000.0, TIMESYS="utc",
        TSTART=seconds / 86400, TSTOP=stop / 86400, TIMEUNIT="d", GEOLON=-17.9,
    )  # fmt: skip
    table = DataStore.from_files(unindexed).obs_table
    assert_allclose(table["TSTART"], truth.obs_table["TSTART"], rtol=0, atol=1e-3)
    assert_allclose(table["TSTOP"], truth.obs_table["TSTOP"], rtol=0, atol=1e-3)
    assert "GEOLON" not in table.meta
    assert table["GEOLON"].tolist()[2] == -17.9
    assert DataStore.from_files(unindexed).get_observations()[0].meta.location is not None
