"""Reductions that are interrupted, repeated, or asked for what cannot be."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import QTable, Table
from matplotlib.lines import Line2D
from numpy.testing import assert_array_equal

from obscluster.cli import main
from obscluster.exceptions import RequestError
from obscluster.files.records import LIST_FILE
from obscluster.grouping.base import Grouping
from obscluster.plots.spectra import plot_spectrum
from obscluster.reduction import make_reduce_config
from obscluster.simulate import simulate

pytest.importorskip("gammapy")

from gammapy.datasets import Datasets
from gammapy.maps import Map

from obscluster.reduction import fit_datasets, reduce_groups
from obscluster.reduction.makers import make_plan

COARSE = {
    "target": "Crab Nebula",
    "energy": {"min": "0.5 TeV", "max": "50 TeV", "bins_per_decade": 5},
    "fit": {"flux_points_per_decade": 0},
}
# Fine, so that there is time to interrupt it.
MAPS = {
    "target": "Crab Nebula",
    "kind": "3d",
    "energy": {"min": "1 TeV", "max": "20 TeV", "bins_per_decade": 5},
    "map": {"width": "4 deg", "binsz": "0.02 deg"},
}


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """Simulated archive with seven runs on the Crab; do not change it."""
    directory = tmp_path_factory.mktemp("simulated") / "archive"
    return simulate(directory, n_obs=40, seed=1, size="small", zenith_range=(44.0, 48.0))


@pytest.fixture(scope="module")
def grouping(archive):
    """The seven runs in two groups."""
    table = Table.read(archive / "obs-index.fits.gz")
    ids = np.sort(np.asarray(table["OBS_ID"][table["OBJECT"] == "Crab Nebula"]))
    return Grouping(ids, [1, 1, 1, 2, 2, 2, 2])


def reduced(grouping, archive, output, content=COARSE, **kwargs):
    return reduce_groups(grouping, make_reduce_config(content), output, archive, **kwargs)


def content_of(path):
    """Names and data of all HDUs of a file; headers hold times of writing.

    Places of regions in pixels are rounded: those of a run that came from another process are
    computed anew.
    """
    with fits.open(path) as hdus:
        tables = {h.name: h.data for h in hdus if h.data is not None}
    return {
        name: [
            [np.round(row[c], 6) if c != "SHAPE" else row[c] for c in data.names] for row in data
        ]
        if name.endswith("REGION")
        else data.tobytes()
        for name, data in tables.items()
    }


class TestInterrupts:
    @pytest.fixture
    def command(self, grouping, archive, tmp_path):
        """A reduction with two workers, as one would type it."""
        grouping.write(tmp_path)
        (tmp_path / "reduce.yaml").write_text(yaml.safe_dump(MAPS | {"workers": 2}))
        arguments = ["--config", tmp_path / "reduce.yaml", "--archive", archive]
        return ["reduce", tmp_path, *arguments, "-o", tmp_path / "out"]

    @pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="no list of processes")
    @pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGKILL])
    def test_goes_on_and_leaves_no_process(self, command, signum, tmp_path, capsys):
        pattern = ".out.*.obscluster/parts/group_1/group.yaml"
        argv = [sys.executable, "-m", "obscluster", *map(str, command)]
        process = subprocess.Popen(
            argv,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            # A shell makes what runs in its background deaf to it.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        end = time.monotonic() + 120
        while (
            not list(tmp_path.glob(pattern)) and process.poll() is None and time.monotonic() < end
        ):
            time.sleep(0.01)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        assert len(children) >= 2
        if signum == signal.SIGINT:
            # As a terminal does it: to all of them.
            os.killpg(process.pid, signum)
        else:
            process.kill()
        _, error = process.communicate(timeout=60)
        if signum == signal.SIGINT:
            assert process.returncode == 130
            assert "goes on from them" in error
            assert "Traceback" not in error
        while any(is_running(child) for child in children) and time.monotonic() < end:
            time.sleep(0.05)
        assert not any(is_running(child) for child in children)
        assert not (tmp_path / "out").exists()
        (complete,) = tmp_path.glob(pattern)
        before = complete.stat().st_mtime_ns
        assert main([str(argument) for argument in command]) == 0
        assert "group_2: 4 runs" in capsys.readouterr().out
        assert not list(tmp_path.glob(".out*"))
        written = (tmp_path / "out" / "group_1.fits").stat().st_mtime_ns
        assert written < before

    def test_another_description_takes_no_old_part(self, grouping, archive, tmp_path, monkeypatch):
        from obscluster.reduction import groups as module

        original = module._write
        monkeypatch.setattr(module, "_write", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            reduced(grouping, archive, tmp_path / "out")
        assert len(list(tmp_path.glob(".out.*.obscluster/parts/*"))) == 2
        monkeypatch.setattr(module, "_write", original)
        wider = COARSE | {"region": {"radius": "0.2 deg"}}
        resumed = reduced(grouping, archive, tmp_path / "out", wider)
        alone = reduced(grouping, archive, tmp_path / "alone", wider)
        for one, other in zip(resumed.read(), alone.read(), strict=True):
            assert_array_equal(one.counts.data, other.counts.data)
        assert {path.name for path in tmp_path.iterdir()} == {"out", "alone"}

    def test_parts_deleted_in_the_middle(self, grouping, archive, tmp_path):
        def progress(rows, total, what):
            if what == "group_2":
                shutil.rmtree(*tmp_path.glob(".out.*.obscluster/parts"))
            return rows

        with pytest.raises(RequestError, match=r"group_1/group.yaml: cannot be read"):
            reduced(grouping, archive, tmp_path / "out", progress=progress)
        assert reduced(grouping, archive, tmp_path / "out").groups["group_1"]["obs_ids"]

    def test_an_output_deleted_in_the_middle(self, grouping, archive, tmp_path):
        reduced(grouping, archive, tmp_path / "out")
        wider = COARSE | {"region": {"radius": "0.2 deg"}}

        def progress(rows, total, what):
            shutil.rmtree(tmp_path / "out", ignore_errors=True)
            return rows

        result = reduced(
            grouping, archive, tmp_path / "out", wider, progress=progress, overwrite=True
        )
        there = {p.name for p in (tmp_path / "out").iterdir()}
        assert {*result.record["files"], LIST_FILE} == there


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


class TestWorkers:
    @pytest.mark.parametrize("kind", ["1d", "3d"])
    def test_make_the_same_files(self, kind, grouping, archive, tmp_path):
        coarse = MAPS | {"map": {"width": "2 deg", "binsz": "0.1 deg"}}
        content = (COARSE if kind == "1d" else coarse) | {"keep_runs": True}
        for workers in (1, 2):
            reduced(grouping, archive, tmp_path / str(workers), content | {"workers": workers})
        files = sorted(path.name for path in (tmp_path / "1").glob("*.fits*"))
        assert files
        assert files == sorted(path.name for path in (tmp_path / "2").glob("*.fits*"))
        for name in files:
            assert content_of(tmp_path / "1" / name) == content_of(tmp_path / "2" / name), name
        both = Datasets.read(tmp_path / "2" / "datasets.yaml", tmp_path / "2" / "models.yaml")
        assert both.names == ["group_1", "group_2"]


class TestAgain:
    def test_a_mended_file_is_read_again(self, grouping, archive, tmp_path):
        copy = shutil.copytree(archive, tmp_path / "archive")
        path = copy / "data" / f"run_{grouping.obs_ids[0]:06d}.fits.gz"
        whole = path.read_bytes()
        path.write_bytes(whole[:2000])
        result = reduced(grouping, copy, tmp_path / "out")
        assert list(result.skipped) == [int(grouping.obs_ids[0])]
        path.write_bytes(whole)
        result = reduced(grouping, copy, tmp_path / "out", overwrite=True)
        assert result.skipped == {}
        assert len(result.groups["group_1"]["obs_ids"]) == 3

    @pytest.mark.usefixtures("agg")
    def test_a_fit_of_earlier_datasets_goes(self, grouping, archive, tmp_path, capsys):
        grouping.write(tmp_path)
        output = tmp_path / "out"

        def reduce(content):
            (tmp_path / "reduce.yaml").write_text(yaml.safe_dump(content))
            arguments = ["--config", tmp_path / "reduce.yaml", "--archive", archive, "--keep-runs"]
            argv = ["reduce", tmp_path, *arguments, "-o", output, "--overwrite"]
            assert main([str(argument) for argument in argv]) == 0
            return capsys.readouterr().out

        reduce(COARSE)
        assert main(["fit", str(output), "--compare"]) == 0
        (output / "fit" / "notes.txt").write_text("mine")
        # What to fit does not change the datasets.
        assert "removed" not in reduce(COARSE | {"fit": {"model": "log-parabola"}})
        assert (output / "fit" / "fit.yaml").exists()
        text = reduce(COARSE | {"region": {"radius": "0.2 deg"}})
        assert "was of earlier datasets and is removed" in text
        assert [path.name for path in (output / "fit").iterdir()] == ["notes.txt"]
        (output / "fit" / "notes.txt").unlink()
        assert main(["fit", str(output), "--no-plots"]) == 0
        reduce(COARSE)
        assert not (output / "fit").exists()

    @pytest.mark.usefixtures("agg")
    def test_a_fit_takes_the_place_of_another(self, grouping, archive, tmp_path):
        """Files that only the earlier one had are not left beside it."""
        reduced(grouping, archive, tmp_path / "out", COARSE | {"keep_runs": True})
        fit = ["fit", str(tmp_path / "out"), "-o", str(tmp_path / "fit"), "--overwrite"]
        assert main([*fit, "--compare"]) == 0
        assert {"comparison.ecsv", "spectrum.png"} < {p.name for p in (tmp_path / "fit").iterdir()}
        assert main([*fit, "--no-plots"]) == 0
        record = yaml.safe_load((tmp_path / "fit" / "fit.yaml").read_text())
        there = {p.name for p in (tmp_path / "fit").iterdir()}
        assert there == {*record["files"], LIST_FILE}
        assert not (tmp_path / "fit" / "comparison.ecsv").exists()
        assert not (tmp_path / "fit" / "spectrum.png").exists()


class TestFits:
    def test_more_parameters_than_bins(self, grouping, archive, tmp_path):
        result = reduced(grouping, archive, tmp_path / "out")
        fit = {"min": "20 TeV", "max": "50 TeV", "model": "log-parabola"}
        config = make_reduce_config({"fit": fit}).fit
        with pytest.raises(RequestError, match="2 bins cannot tell 3 free parameters"):
            fit_datasets(result.read(), config)

    @pytest.mark.usefixtures("agg")
    def test_one_that_does_not_converge(self, grouping, archive, tmp_path, monkeypatch, capsys):
        """It is written, and said in output, record and exit code."""
        from gammapy.modeling import iminuit

        original = iminuit.Minuit

        class Hasty(original):
            def migrad(self, **_):
                return super().migrad(ncall=3, iterate=1)

        reduced(grouping, archive, tmp_path / "out")
        monkeypatch.setattr(iminuit, "Minuit", Hasty)
        assert main(["fit", str(tmp_path / "out")]) == 1
        assert "not converged: Optimization failed" in capsys.readouterr().out
        record = yaml.safe_load((tmp_path / "out" / "fit" / "fit.yaml").read_text())
        assert record["success"] is False

    @pytest.mark.usefixtures("agg")
    def test_nothing_but_background(self, grouping, archive, tmp_path):
        """Away from the source there is no flux to be found, but limits."""
        content = COARSE | {"target": "84.6 22.0", "fit": {"flux_points_per_decade": 2}}
        result = reduced(grouping, archive, tmp_path / "out", content)
        code = main(["fit", str(result.directory)])
        assert code in (0, 1)
        table = Table.read(result.directory / "fit" / "parameters.ecsv")
        row = table[table["name"] == "amplitude"][0]
        assert row["value"] < 2e-12


class TestMasks:
    POSITION = SkyCoord(83.6333, 22.0145, unit="deg")

    def plan(self, path):
        config = make_reduce_config(COARSE | {"exclusion": {"file": str(path)}})
        return make_plan(config, self.POSITION)

    def test_of_another_place(self, tmp_path):
        elsewhere = Map.create(skydir=SkyCoord(200, -20, unit="deg"), width=4, binsz=0.05)
        elsewhere.write(tmp_path / "mask.fits")
        with pytest.raises(RequestError, match=r"is around RA 200.000, .* does not hold the targ"):
            self.plan(tmp_path / "mask.fits")

    def test_without_coordinates(self, tmp_path):
        fits.PrimaryHDU(np.ones((50, 50))).writeto(tmp_path / "mask.fits")
        with pytest.raises(RequestError, match=r"mask.fits: .*expected a FITS image of the sky"):
            self.plan(tmp_path / "mask.fits")

    def test_in_another_frame(self, tmp_path):
        """Galactic, as masks of surveys are."""
        mask = Map.create(skydir=self.POSITION, width=4, binsz=0.05, frame="galactic")
        mask.data[:] = mask.geom.separation(self.POSITION) > 0.5 * u.deg
        mask.write(tmp_path / "mask.fits")
        found = self.plan(tmp_path / "mask.fits").exclusion
        assert not found.get_by_coord(self.POSITION).any()
        assert found.get_by_coord(self.POSITION.directional_offset_by(0 * u.deg, 1 * u.deg)).all()


class TestToGammapy:
    def test_is_a_method_of_groupings(self, grouping, archive):
        found = grouping.to_gammapy(archive, required_irf=["aeff", "bkg"])
        assert list(found) == ["group_1", "group_2"]
        assert [int(o.obs_id) for o in found["group_1"]] == grouping.groups["group_1"].tolist()

    def test_says_what_to_install(self):
        code = (
            "import sys; sys.modules['gammapy'] = None\n"
            "from obscluster import Grouping\n"
            "try:\n    Grouping([1], [1]).to_gammapy('archive')\n"
            "except ValueError as error:\n    print(type(error).__name__, error)\n"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.stdout.startswith("RequestError"), done.stderr
        assert 'pip install "obscluster[reduce]"' in done.stdout


class TestPlot:
    def test_the_legend_shows_what_is_drawn(self, ax):
        energy = np.array([1, 3, 10]) * u.TeV
        flux = energy.value**-2.5 * 1e-12 * u.Unit("cm-2 s-1 TeV-1")
        spectrum = {"energy": energy, "dnde": flux, "dnde_lo": 0.9 * flux, "dnde_hi": 1.1 * flux}
        points = {"e_ref": energy, "e_min": 0.8 * energy, "e_max": 1.2 * energy, "dnde": flux}
        points |= {"dnde_err": 0.2 * flux, "dnde_ul": 2 * flux, "sqrt_ts": [5, 4, 1]}
        plot_spectrum(QTable(spectrum), QTable(points), ax)
        legend = ax.get_legend()
        texts = [text.get_text() for text in legend.get_texts()]
        assert texts == ["joint fit, 68 % band", "flux points", "95 % upper limits"]
        arrows = [line for line in ax.lines if len(line.get_marker().__class__.__name__) > 3]
        (limit,) = [line for line in arrows if line.get_markersize() == 22]
        assert limit.get_xdata().tolist() == [10]
        shown = legend.legend_handles[-1]
        assert isinstance(shown, Line2D)
        assert shown.get_marker() is not None
        labels = [text.get_text() for text in ax.get_xticklabels()]
        assert {"1", "2", "5", "10"} <= set(labels)
        without = points | {"sqrt_ts": [5, 4, 3]}
        ax.clear()
        plot_spectrum(QTable(spectrum), QTable(without), ax)
        assert len(ax.get_legend().get_texts()) == 2
