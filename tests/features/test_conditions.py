"""Observing conditions as features, features by name, and one's own."""

import shutil

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import QTable, Table
from numpy.testing import assert_allclose, assert_array_equal

from obscluster import DataStore, standard_scaler
from obscluster.exceptions import RequestError
from obscluster.features.base import feature
from obscluster.features.catalog import FEATURES, load_features, parse_requests
from obscluster.features.scaling import unroll_cyclic
from obscluster.features.table import get_features


@pytest.fixture(scope="module")
def data_store(small_archive):
    return DataStore.from_dir(small_archive)


def without(archive, target, *columns, keywords=()):
    """Copy of an archive whose index lacks columns and whose headers lack keywords."""
    shutil.copytree(archive, target)
    index = Table.read(target / "obs-index.fits.gz")
    index.remove_columns(columns)
    index.write(target / "obs-index.fits.gz", overwrite=True)
    for path in (target / "data").iterdir() if keywords else ():
        with fits.open(path) as hdus:
            for key in keywords:
                hdus["EVENTS"].header.remove(key, ignore_missing=True)
            hdus.writeto(path, overwrite=True)
    return DataStore.from_dir(target).get_observations()


class TestConditions:
    def test_come_from_the_index(self, data_store):
        table = data_store.obs_table
        features = get_features(
            data_store.get_observations(),
            ["zenith", "azimuth", "livetime", "muoneff", "n-tels", "nsb", "deadtime-fraction"],
        )
        columns = ("ZEN_PNT", "AZ_PNT", "LIVETIME", "MUONEFF", "N_TELS", "NSBLEVEL")
        for name, column in zip(features.colnames[1:], columns, strict=False):
            assert_allclose(features[name].value, table[column])
        assert features["livetime"].unit == u.s
        assert_allclose(features["deadtime-fraction"], 1 - table["DEADC"], rtol=1e-6)
        airmass = get_features(data_store.get_observations(), "airmass")["airmass"]
        assert_allclose(airmass, 1 / np.cos(table["ZEN_PNT"].quantity.to_value("rad")))

    def test_no_file_is_opened_for_them(self, small_archive, tmp_path):
        archive = shutil.copytree(small_archive, tmp_path / "archive")
        shutil.rmtree(archive / "data")
        observations = DataStore.from_dir(archive).get_observations()
        names = ["zenith", "azimuth", "livetime", "mjd", "muoneff", "ZEN_PNT", "EVENT_COUNT"]
        features = get_features(observations, names)
        assert all(np.isfinite(features[name]).all() for name in names)

    def test_mid_time(self, data_store):
        observations = data_store.get_observations()
        truth = [obs.tmid.tt.mjd for obs in observations]
        assert_allclose(get_features(observations, "mjd")["mjd"].value, truth, rtol=0, atol=1e-8)

    def test_are_computed_from_pointing_time_and_place(self, data_store, small_archive, tmp_path):
        missing = ("ZEN_PNT", "ALT_PNT", "AZ_PNT")
        observations = without(
            small_archive, tmp_path / "a", *missing, keywords=("ALT_PNT", "AZ_PNT", "ZEN_PNT")
        )
        features = get_features(observations, ["zenith", "azimuth"])
        truth = data_store.obs_table
        assert_allclose(features["zenith"].value, truth["ZEN_PNT"], atol=0.01)
        turned = (features["azimuth"].value - truth["AZ_PNT"] + 180) % 360 - 180
        assert_allclose(turned * np.sin(np.radians(truth["ZEN_PNT"])), 0, atol=0.01)

    def test_come_from_the_header_where_the_index_has_none(
        self, data_store, small_archive, tmp_path
    ):
        observations = without(small_archive, tmp_path / "a", "MUONEFF", "LIVETIME", "N_TELS")
        features = get_features(observations, ["muoneff", "livetime", "n-tels"])
        for name, column in (
            ("muoneff", "MUONEFF"),
            ("livetime", "LIVETIME"),
            ("n-tels", "N_TELS"),
        ):
            assert_allclose(features[name].value, data_store.obs_table[column], rtol=1e-6)

    def test_what_is_nowhere_is_missing_with_its_reason(self, small_archive, tmp_path):
        observations = without(small_archive, tmp_path / "a", "MUONEFF", keywords=("MUONEFF",))
        features = get_features(observations, ["muoneff", "zenith"])
        assert np.isnan(features["muoneff"]).all()
        assert np.isfinite(features["zenith"]).all()
        assert set(features["notes"]) == {"muoneff: neither obs-index nor header has MUONEFF"}

    def test_offset_is_that_of_the_target(self, data_store):
        observations = data_store.get_observations()
        target = SkyCoord(83.63, 22.01, unit="deg")
        features = get_features(observations, "offset", position=target)
        truth = target.separation(data_store.obs_table.pointing_radec)
        assert_allclose(features["offset"].to_value("deg"), truth.deg, rtol=1e-4)
        plain = get_features(observations, "offset")["offset"].value
        assert_allclose(plain, data_store.obs_table["OFFSET_OBJ"])

    @pytest.mark.parametrize("energy", [0.2, 1.0, 5.0])
    def test_event_rate(self, energy, data_store):
        observations = data_store.get_observations()[:3]
        rates = get_features(observations, "event-rate", energy * u.TeV)["event-rate"]
        for rate, obs in zip(rates, observations, strict=True):
            n_events = (obs.events.energy >= energy * u.TeV).sum()
            assert_allclose(rate.value * obs.livetime.value, n_events, rtol=1e-4)


class TestNames:
    def test_features_of_all_kinds_mix(self, data_store):
        names = ["ZEN_PNT", "MUONEFF", "psf-r68@1TeV", "psf-r68@10TeV", "aeff@1TeV", "rad-max@1TeV"]
        features = get_features(data_store.get_observations(), names)
        assert features.colnames == ["obs_id", *names, "notes"]
        assert features["ZEN_PNT"].unit == u.deg
        assert np.isnan(features["rad-max@1TeV"]).all()
        assert set(features["notes"]) == {"rad-max: the index lists no rad_max for this run"}

    def test_every_feature_has_a_unit_and_a_description(self):
        for name, entry in FEATURES.items():
            assert entry.name == name
            assert isinstance(entry.unit, u.UnitBase)
            assert 5 < len(entry.description) < 80

    @pytest.mark.parametrize(
        ("names", "energy", "message"),
        [
            ("psf-r86@1TeV", None, "did you mean 'psf-r68'"),
            ("psf-r68", None, "psf-r68 needs an energy: give one, or write psf-r68@1TeV"),
            ("psf-r68@1", None, "has no unit"),
            ("psf-r68@", None, "not an energy"),
            ("zenith@1TeV", None, "zenith does not depend on an energy"),
            ("OBJECT", None, "holds no numbers"),
            ("MUONEF", None, "did you mean 'MUONEFF'"),
            (["aeff@1TeV", "aeff@1TeV"], None, "name each one once"),
            (["aeff", "aeff@1TeV"], ["1 TeV", "2 TeV"], "name each one once"),
            ([7], None, "expected a name"),
        ],
    )
    def test_what_cannot_be_a_feature_is_refused(self, names, energy, message, data_store):
        with pytest.raises(RequestError, match=message):
            get_features(data_store.get_observations(), names, energy)

    def test_the_observation_number_is_no_feature(self, data_store):
        with pytest.raises(RequestError, match="unknown feature"):
            parse_requests("OBS_ID", None, data_store.obs_table)


@feature("brightness", unit="s-1", description="Events by live time")
def brightness(run):
    return run.value("EVENT_COUNT") / run.value("LIVETIME")


OWN = """
from obscluster.features import feature
from obscluster.features.psf import containment_radius

@feature("psf-tail", description="95 % over 68 % radius", needs=["psf"], per_energy=True)
def psf_tail(run, energy):
    psf = run.irf("psf")
    offset = run.offset_for(psf)
    r68, r95 = (containment_radius(psf, energy, offset, f) for f in (0.68, 0.95))
    return r95 / r68
"""


class TestOwn:
    def test_a_function_is_a_feature(self, data_store):
        features = get_features(data_store.get_observations(), [brightness, "zenith"])
        table = data_store.obs_table
        assert features["brightness"].unit == u.s**-1
        assert_allclose(features["brightness"].value, table["EVENT_COUNT"] / table["LIVETIME"])

    def test_a_file_of_functions(self, data_store, tmp_path):
        (tmp_path / "mine.py").write_text(OWN)
        own = load_features([tmp_path / "mine.py"])
        names = ["psf-tail@1TeV", "psf-r68@1TeV", "psf-r95@1TeV"]
        features = get_features(data_store.get_observations(), names, own=own)
        ratio = features["psf-r95@1TeV"] / features["psf-r68@1TeV"]
        assert_allclose(features["psf-tail@1TeV"], ratio, rtol=1e-12)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            (None, "no such file"),
            ("x = 1", "defines no feature"),
            ("import nonsense_module", "cannot be run.*nonsense_module"),
            (OWN.replace("psf-tail", "psf-r68"), "'psf-r68' is taken"),
            (OWN.replace("psf-tail", "psf tail"), "expected one word"),
        ],
    )
    def test_a_file_that_is_no_use_is_named(self, text, message, tmp_path):
        path = tmp_path / "mine.py"
        if text is not None:
            path.write_text(text)
        with pytest.raises(RequestError, match=message) as error:
            load_features([path])
        assert "mine.py" in str(error.value)


class TestCyclic:
    def test_both_sides_of_north_are_close(self):
        table = QTable({"obs_id": [1, 2, 3], "AZ_PNT": [359.0, 1.0, 180.0] * u.deg})
        unrolled = unroll_cyclic(table)
        assert unrolled.colnames == ["obs_id", "AZ_PNT-sin", "AZ_PNT-cos"]
        assert_allclose(unrolled["AZ_PNT-cos"].value, np.cos(np.radians([359, 1, 180])))
        scaled = standard_scaler(table)
        x = np.column_stack([scaled["AZ_PNT-sin"].value, scaled["AZ_PNT-cos"].value])
        assert np.linalg.norm(x[0] - x[1]) < np.linalg.norm(x[0] - x[2])
        assert table.colnames == ["obs_id", "AZ_PNT"]

    def test_a_feature_says_itself_after_what_it_repeats(self, data_store):
        features = get_features(data_store.get_observations(), ["azimuth", "zenith"])
        assert_array_equal(
            standard_scaler(features).colnames,
            ["obs_id", "azimuth-sin", "azimuth-cos", "zenith", "notes"],
        )
