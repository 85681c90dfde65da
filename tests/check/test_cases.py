"""Archives that each show one fault which was found with data of other instruments.

The programs that write them lie beside the real data; the right value stands in each docstring.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from astropy.table import QTable
from numpy.testing import assert_allclose

from conftest import real_data
from obscluster import DataStore, get_features
from obscluster.check import check_archive, describe_findings
from obscluster.cli import main
from obscluster.exceptions import ArchiveError, RequestError

ENVIRONMENT = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
# Values of the first run before any edit.
ZENITH, LIVETIME, MJD = 35.61485, 1138.647, 53071.94835


def written(program: str, name: str, directory: Path) -> Path:
    script = real_data(f"../cases/{program}")
    directory.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, str(script), name, str(directory)]
    subprocess.run(command, check=True, capture_output=True, env=ENVIRONMENT)
    return directory


@pytest.fixture
def case(tmp_path):
    return lambda name: written("dl3_cases.py", name, tmp_path / name)


@pytest.fixture(scope="module")
def gti(tmp_path_factory):
    return written("real_runs.py", "gti", tmp_path_factory.mktemp("gti"))


def group(archive: Path, *options: str) -> QTable:
    """Feature table that the command line writes."""
    output = archive.parent / f"{archive.name}-results"
    command = ["group", str(archive), "--offset", "0.5 deg", "--no-plots", "-o", str(output)]
    assert main([*command, "--overwrite", *options]) == 0
    return QTable.read(output / "features.ecsv")


def value(archive: Path, name: str) -> float:
    """Quantity of the first run in Python: by its observation, and by the table."""
    store = DataStore.from_dir(archive)
    known = store.get_observations()[0].quantity(name)
    table = store.obs_table.quantity(name)
    if name != "livetime":
        assert_allclose(table.value[0], known.value, rtol=1e-12)
    return float(known.value.value)


class TestIndex:
    @pytest.mark.parametrize("name", ["units", "text", "mandatory_only", "time_unit", "obsgeo_xyz"])
    def test_quantities_are_those_before_the_edit(self, name, case, capsys):
        archive = case(name)
        assert_allclose(value(archive, "zenith"), ZENITH, rtol=1e-6)
        assert_allclose(value(archive, "ZEN_PNT"), ZENITH, rtol=1e-6)
        assert_allclose(value(archive, "livetime"), LIVETIME, rtol=1e-6)
        assert_allclose(value(archive, "mjd"), MJD, atol=1e-5)
        features = group(archive, "--features", "zenith", "ZEN_PNT", "mjd", "livetime")
        first = [features[name][0].value for name in ("zenith", "ZEN_PNT", "livetime")]
        assert_allclose(first, [ZENITH, ZENITH, LIVETIME], rtol=1e-6)
        assert "4 observations, 1.6 h, in 2 groups" in capsys.readouterr().out
        assert main(["info", str(archive)]) == 0
        text = capsys.readouterr().out
        assert "1.6 h" in text
        assert "11.96 to 46.75 deg" in text
        assert "2004-03-07 to 2008-12-11" in text

    def test_constraints_cuts_and_targets_ask_the_headers(self, case, capsys):
        archive = case("mandatory_only")
        group(archive, "--by", "zenith", "--adaptive", "--min-livetime", "0.5 h")
        assert "unknown" not in capsys.readouterr().out
        group(archive, "--by", "ZEN_PNT", "--cut", "median")
        group(archive, "--by", "N_TELS", "--categories")
        features = group(archive, "--where", "ZEN_PNT", "30", "40 deg", "--features", "zenith")
        assert 26601 in features["obs_id"]
        assert ((features["zenith"].value >= 30) & (features["zenith"].value < 40)).all()
        features = group(archive, "--target", "Crab Nebula", "--n-groups", "1")
        assert len(features) == 1

    def test_a_unit_that_cannot_be_understood_is_named(self, case, capsys):
        archive = case("odd_unit")
        with pytest.raises(ArchiveError, match=r"obs-index\.fits\.gz.*LIVETIME.*'counts'"):
            DataStore.from_dir(archive)
        for command in (["info"], ["group", "-o", str(archive.parent / "o")]):
            assert main([command[0], str(archive), *command[1:]]) == 2
            assert "column LIVETIME has the unit 'counts'" in capsys.readouterr().err
        assert main(["check", str(archive)]) == 1
        assert "LIVETIME" in capsys.readouterr().out

    def test_event_types_need_a_selection(self, case, capsys):
        archive = case("event_types")
        for command in (["group", "-o", str(archive.parent / "o")], ["init", "-o", "run.yaml"]):
            assert main([command[0], str(archive), *command[1:]]) == 2
            assert "EVENT_TYPE: TYPE_A (4), TYPE_B (4)" in capsys.readouterr().err
        with pytest.raises(RequestError, match="EVENT_TYPE"):
            DataStore.from_dir(archive).get_observations()
        assert main(["info", str(archive)]) == 0
        assert "8 rows" in capsys.readouterr().out
        features = group(archive, "--where", "EVENT_TYPE", "=", "TYPE_B")
        assert len(features) == 4

    def test_drifts_are_selected_by_their_headers(self, case):
        archive = case("drift")
        store = DataStore.from_dir(archive)
        first = store.obs_table.quantity("RA_PNT"), store.obs_table.quantity("DEC_PNT")
        assert set(first[0].source) == {"computed"}
        target = f"{first[0].value[0].value} {first[1].value[0].value}"
        features = group(archive, "--target", target, "--features", "zenith", "edisp-res")
        assert 26601 in features["obs_id"]


class TestTime:
    def test_good_time_counts(self, case, capsys):
        archive = case("gti_gap")
        features = group(archive, "--features", "livetime", "event-rate@1TeV")
        assert_allclose(features["livetime"][0].to_value("s"), 569.3, atol=0.05)
        assert_allclose(features["event-rate@1TeV"][0].to_value("1/s"), 0.1036, atol=5e-5)
        text = "1 run: livetime of the good time intervals differs from that of the index"
        assert text in capsys.readouterr().out
        assert main(["info", str(archive), "--all"]) == 0
        assert text in capsys.readouterr().out

    def test_events_of_a_real_run_are_those_of_the_good_time(self, gti):
        obs = DataStore.from_dir(gti).obs(33787)
        assert_allclose(obs.gti.time_sum.value, 844.5, atol=1e-6)
        good = obs.events.within(obs.gti)
        target = obs.meta.optional["RA_OBJ"], obs.meta.optional["DEC_OBJ"]
        for events, n in ((obs.events, 262), (good, 137)):
            away = events.radec.separation(events.radec[0].__class__(*target, unit="deg"))
            assert (away.deg < 0.11).sum() == n

    def test_datasets_hold_the_events_of_the_good_time(self, gti, tmp_path):
        pytest.importorskip("gammapy")
        from gammapy.datasets import SpectrumDatasetOnOff

        group(gti, "--target", "PKS 2155-304", "--n-groups", "1")
        (tmp_path / "reduce.yaml").write_text(
            "kind: 1d\nkeep_runs: true\nregion: {radius: 0.11 deg}\n"
            "energy: {min: 0.01 TeV, max: 100 TeV}\n"
        )
        results = gti.parent / f"{gti.name}-results"
        command = ["reduce", str(results), "--config", str(tmp_path / "reduce.yaml")]
        assert main([*command, "-o", str(tmp_path / "datasets")]) == 0
        run = SpectrumDatasetOnOff.read(tmp_path / "datasets" / "pha_obsrun_33787.fits")
        assert run.counts.data.sum() == 137


class TestResponses:
    def features(self, archive, name, offset="0.5 deg"):
        obs = DataStore.from_dir(archive).get_observations()
        table = get_features(obs, [name], fixed_offset=offset)
        return float(table[name][0].value), str(table["notes"][0])

    def test_empty_gaussian(self, case):
        found, note = self.features(case("psf_3gauss_empty"), "psf-r68@1TeV")
        assert np.isnan(found)
        assert "empty" in note

    def test_empty_table(self, case):
        found, note = self.features(case("psf_table_empty"), "psf-r68@1.2TeV")
        assert_allclose(found, 0.100, atol=1e-3)
        assert "value of the nearest bin" in note

    def test_unit_of_a_psf(self, case):
        archive = case("psf_per_deg2")
        found, note = self.features(archive, "psf-r68@1TeV")
        assert_allclose(found, 0.1004, atol=1e-3)
        assert not note
        text = describe_findings(check_archive(DataStore.from_dir(archive)))
        assert "psf" not in text.lower().replace("psf_table", "")

    def test_empty_background(self, case):
        obs = DataStore.from_dir(case("bkg_empty_bin")).get_observations()[0]
        found = obs.bkg.evaluate(energy="99.99 TeV", fov_lon="0 deg", fov_lat="0 deg")
        assert 5e-11 < found.to_value("s-1 MeV-1 sr-1") < 5e-10
