"""Nothing of one run stops the others, and no picture costs a result."""

from __future__ import annotations

import shutil
import sys

import numpy as np
import pytest
import yaml
from astropy import units as u
from astropy.table import QTable
from numpy.testing import assert_allclose

import obscluster.plots.overview as overview
from obscluster import DataStore, get_features
from obscluster.cli import main
from obscluster.features.base import feature


def failing(error):
    def function(run):
        if run.observation.obs_id == run.observation.obs_table["OBS_ID"][0]:
            if isinstance(error, BaseException):
                raise error
            return error
        return float(run.observation.obs_id)

    return feature("own", unit="deg", description="Of the user")(function)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ValueError("odd"), "own: raises ValueError: odd"),
        (KeyError("x"), "own: raises KeyError: 'x'"),
        (ZeroDivisionError(), "own: raises ZeroDivisionError"),
        (SystemExit(3), "own: raises SystemExit: 3"),
        (RecursionError("deep; deeper\nline"), "own: raises RecursionError: deep, deeper line"),
        ("text", "own: raises ValueError: could not convert"),
        (None, "own: raises TypeError"),
        (3 * u.s, "own: raises UnitConversionError"),
        (np.inf, "own: is inf, which is no value"),
        (np.arange(3.0), "own: raises TypeError"),
    ],
    ids=str,
)
def test_a_feature_that_fails_is_nan_with_its_reason(error, reason, small_archive):
    observations = DataStore.from_dir(small_archive).get_observations()
    table = get_features(observations, ["zenith", failing(error)])
    assert np.isnan(table["own"][0])
    assert reason in table["notes"][0]
    assert (table["own"][1:].value == table["obs_id"][1:]).all()
    assert np.isfinite(table["zenith"]).all()
    assert not any(table["notes"][1:])


def test_a_value_with_a_unit_is_converted(small_archive):
    observations = DataStore.from_dir(small_archive).get_observations()[:1]
    table = get_features(observations, failing(np.pi * u.rad))
    assert_allclose(table["own"][0].value, 180.0)


OWN = """
from obscluster.features import feature

@feature("brightness", unit="s-1", description="Events by live time")
def brightness(run):
    return run.value("EVENT_COUNT") / run.value("LIVETIME")

@feature("broken", description="Fails for all")
def broken(run):
    return {}["lost"]
"""


@pytest.fixture
def group(small_archive, tmp_path):
    (tmp_path / "own.py").write_text(OWN)

    def run(*options):
        command = ["group", str(small_archive), "--offset", "0.5 deg", "-o", str(tmp_path / "o")]
        own = ["--feature-file", str(tmp_path / "own.py"), "--overwrite"]
        return main([*command, *own, *options])

    yield run
    sys.modules.pop("obscluster_features_own", None)


def test_the_example_of_the_readme(group, tmp_path):
    assert group("--features", "brightness", "--no-plots") == 0
    assert (QTable.read(tmp_path / "o" / "features.ecsv")["brightness"].value > 0).all()


@pytest.mark.parametrize("options", [["--features", "broken", "zenith"], ["--by", "broken"]])
def test_what_fails_for_all_runs_alike_stops_with_its_reason(options, group, capsys, tmp_path):
    assert group(*options) == 2
    error = capsys.readouterr().err
    assert "broken: raises KeyError: 'lost' (12 runs)" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "o").exists()


def test_tracebacks_are_shown_when_asked_for(group, capsys, caplog):
    with caplog.at_level("DEBUG", logger="obscluster"):
        assert group("--features", "broken", "--debug") == 2
    assert "Traceback" not in capsys.readouterr().out
    assert any(record.exc_info for record in caplog.records)


@pytest.mark.parametrize("options", [["--features", "mjd"], ["--by", "mjd", "--cut", "median"]])
def test_times_are_drawn(options, group, tmp_path):
    assert group(*options) == 0
    assert (tmp_path / "o" / "features.png").exists()


@pytest.mark.filterwarnings("default")
def test_a_picture_that_fails_is_left_out(group, tmp_path, monkeypatch, capsys):
    def broken(*args, **kwargs):
        raise ZeroDivisionError("no ink")

    monkeypatch.setattr(overview, "plot_features", broken)
    assert group("--features", "zenith") == 0
    assert "features.png is left out" in capsys.readouterr().err
    names = {path.name for path in (tmp_path / "o").iterdir()}
    assert "features.png" not in names
    assert {"groups.yaml", "groups.ecsv", "conditions.png", "dendrogram.png"} <= names
    record = yaml.safe_load((tmp_path / "o" / "groups.yaml").read_text())
    assert "features.png" not in record["files"]


def test_a_full_disk_is_a_message(group, monkeypatch, capsys):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device", "somewhere")

    monkeypatch.setattr("obscluster.workflow.group.write_run_lists", full)
    assert group("--features", "zenith", "--no-plots") == 2
    error = capsys.readouterr().err
    assert "somewhere: No space left on device" in error
    assert "Traceback" not in error


@pytest.mark.filterwarnings("default")
def test_point_like_archives_have_default_features(fact_crab, tmp_path, capsys):
    assert main(["group", str(fact_crab), "--no-plots", "-o", str(tmp_path / "o")]) == 0
    said = capsys.readouterr()
    assert "features edisp-res and aeff are taken, which all runs have" in said.err
    assert "edisp-res" in said.out


@pytest.mark.filterwarnings("default")
def test_reasons_are_told_once_with_their_number(small_archive, tmp_path, capsys):
    archive = shutil.copytree(small_archive, tmp_path / "a")
    for path in sorted((archive / "data").iterdir())[:3]:
        path.unlink()
    assert main(["group", str(archive), "--offset", "0 deg", "-o", str(tmp_path / "o")]) == 0
    said = capsys.readouterr()
    assert "3 runs are in no group: " in said.err
    assert "skipped: no such file (runs 26601, " in said.err
    assert "\n3 runs: skipped: no such file\n" in said.out


def test_a_reason_with_a_next_step_is_one_reason(small_archive, tmp_path, capsys):
    archive = shutil.copytree(small_archive, tmp_path / "a")
    path = sorted((archive / "data").iterdir())[0]
    path.write_bytes(path.read_bytes()[:20000])
    assert main(["group", str(archive), "--offset", "0 deg", "-o", str(tmp_path / "o")]) == 0
    said = capsys.readouterr()
    lines = [line for line in said.out.splitlines() if line.startswith("1 run: ")]
    assert len(lines) == 1
    assert lines[0].startswith("1 run: skipped: truncated")
    assert "fetch the file again" in said.err


def test_where_has_a_grammar(small_archive, tmp_path, capsys):
    command = ["group", str(small_archive), "--features", "zenith", "--no-plots", "--overwrite"]
    command += ["-o", str(tmp_path / "o"), "--where"]
    assert main([*command, "ZEN_PNT", "40", "20"]) == 2
    assert "the lower limit is above the upper one" in capsys.readouterr().err
    assert main([*command, "ZEN_PNT"]) == 2
    assert "expected NAME LOW HIGH, or NAME = VALUE" in capsys.readouterr().err
    store = DataStore.from_dir(small_archive)
    obs_ids = store.obs_table["OBS_ID"].tolist()
    some = [str(obs_id) for obs_id in obs_ids[:4]]
    assert main([*command, "OBS_ID", "=", *some]) == 0
    assert QTable.read(tmp_path / "o" / "features.ecsv")["obs_id"].tolist() == obs_ids[:4]
    assert main([*command, "not", "OBS_ID", "=", *some]) == 0
    assert QTable.read(tmp_path / "o" / "features.ecsv")["obs_id"].tolist() == obs_ids[4:]
