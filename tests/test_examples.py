"""The scripts in examples/ run as they stand, and tell the story that they promise."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from obscluster import Grouping
from obscluster.cli import main
from obscluster.simulate import simulate

EXAMPLES = Path(__file__).parent.parent / "examples"


def run(name, *arguments, where, **environment):
    """What a script prints."""
    done = subprocess.run(
        [sys.executable, "-W", "error", EXAMPLES / name, *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=where,
        env=os.environ | {"MPLBACKEND": "agg"} | environment,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def plots(directory):
    """Names of the plots, all of which show something."""
    found = sorted(directory.rglob("*.png"))
    assert all(path.stat().st_size > 10_000 for path in found)
    return [path.name for path in found]


def test_observation_clustering(hess_dr1, tmp_path):
    out = run("observation_clustering.py", hess_dr1, tmp_path, where=tmp_path)
    assert "zenith angle from 7.23 deg to 50.42 deg" in out
    assert "muon efficiency from 0.97 to 1.03" in out
    assert "'group_1': <Observations: 5" in out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["features.png", "zenith.png"]


def test_quick_look(tmp_path):
    """Without arguments, as somebody would try it first."""
    out = run("quick_look.py", where=tmp_path, TMPDIR=str(tmp_path))
    assert "observations: 60 in the obs-index" in out
    assert re.search(r"suggested: \d groups?: ", out)
    assert "psf-r68 [deg]" in out
    assert plots(tmp_path / "quick_look") == ["groups.png", "quality.png"]
    assert Grouping.read(tmp_path / "quick_look").n_groups >= 1


def test_background_groups(tmp_path):
    archive = simulate(tmp_path / "a", n_obs=60, size="small", events=False)
    out = run("background_groups.py", archive, tmp_path / "out", where=tmp_path)
    groups = [
        int(row.split()[1]) for row in re.findall(r"^ +\d+\.\d\d +\d+ .*$", out, re.MULTILINE)
    ]
    # The more livetime is asked, the fewer groups there are.
    assert len(groups) == 4
    assert groups == sorted(groups, reverse=True)
    assert groups[0] > groups[-1]
    assert plots(tmp_path / "out") == ["background_groups.png"]
    record = yaml.safe_load((tmp_path / "out" / "groups" / "groups.yaml").read_text())
    least = float(record["config"]["constraints"]["min_livetime"].split()[0])
    assert all(float(g["livetime"].split()[0]) >= least for g in record["groups"].values())


def test_information_budget(tmp_path):
    archive = simulate(tmp_path / "a", n_obs=40, seed=4, size="small", events=False)
    out = run("information_budget.py", archive, tmp_path / "out", where=tmp_path)
    found = re.findall(r"(faint|bright) source: stacking into (\d+) groups? loses ([\d.]+)%", out)
    assert [name for name, *_ in found] == ["faint", "bright"]
    assert all(float(loss) <= 1 for *_, loss in found)
    # The faint source needs at least as many groups as the bright one.
    assert int(found[0][1]) >= int(found[1][1])
    assert plots(tmp_path / "out") == ["frontier.png"]


def test_groups_to_fit(tmp_path):
    pytest.importorskip("gammapy")
    out = run("groups_to_fit.py", where=tmp_path, TMPDIR=str(tmp_path))
    index = re.search(r"index: ([\d.]+) \+- ([\d.]+)", out)
    # Vela X was simulated with 2.1.
    assert abs(float(index[1]) - 2.1) < 4 * float(index[2])
    assert all(way in out for way in ("per run", "per group", "all stacked"))
    assert "fit.png" in plots(tmp_path / "groups_to_fit")


def test_the_description_of_pks_2155(hess_dr1, tmp_path, monkeypatch, capsys):
    """The whole chain, but for the fit, which test_reduction.py has."""
    monkeypatch.setenv("GAMMAPY_DATA", str(hess_dr1.parent))
    quick = ["--set", "reduce=null", "--set", "assess.n_resamples=3", "--set", "report=false"]
    output = tmp_path / "pks2155"
    description = str(EXAMPLES / "pks2155.yaml")
    assert main(["run", description, "-o", str(output), "--no-plots", *quick]) == 0
    out = capsys.readouterr().out
    assert "21 observations, 9.2 h, in 2 groups" in out
    assert (output / "assessment" / "losses.ecsv").exists()


def test_gammapy_stacks(hess_dr1, tmp_path):
    """What docs/stacks.md says of Gammapy; if it fails, Gammapy was mended."""
    pytest.importorskip("gammapy")
    done = subprocess.run(
        [sys.executable, EXAMPLES / "gammapy_stacks.py", hess_dr1],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    spectra, maps = (
        [float(value) for value in re.findall(r"-?\d+\.\d*", line)]
        for line in done.stdout.splitlines()
    )
    assert max(map(abs, spectra)) > 2
    assert max(map(abs, maps)) > 5
