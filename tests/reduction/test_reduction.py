"""Groups reduced and fitted with Gammapy."""

from __future__ import annotations

import argparse
import logging
import shutil
import subprocess
import sys
import warnings

import numpy as np
import pytest
import yaml
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import QTable, Table
from numpy.testing import assert_allclose, assert_array_equal

from obscluster.cli import main, reductions
from obscluster.config import make_config
from obscluster.exceptions import ArchiveError, RequestError, SkippedRunWarning
from obscluster.files.records import LIST_FILE
from obscluster.grouping.base import Grouping
from obscluster.reduction import make_reduce_config, read_reduce_config
from obscluster.simulate import simulate
from obscluster.simulate.model import TARGETS
from obscluster.workflow.group import group_observations, write_results

pytest.importorskip("gammapy")

from gammapy.data import Observation
from gammapy.datasets import Datasets, SpectrumDatasetOnOff
from gammapy.irf import RadMax2D
from gammapy.maps import MapAxis

from obscluster.reduction import (
    compare_groupings,
    fit_datasets,
    fit_reduction,
    reduce_groups,
    to_gammapy,
    write_comparison,
    write_fit,
)
from obscluster.reduction.comparison import describe_comparison
from obscluster.reduction.makers import make_plan, reduce_observation
from obscluster.reduction.messages import captured
from obscluster.reduction.result import read_reduction, write_datasets
from obscluster.reduction.stack import GroupStack

# Coarse, so that it is fast.
COARSE = {
    "energy": {"min": "0.5 TeV", "max": "50 TeV", "bins_per_decade": 5},
    "fit": {"flux_points_per_decade": 2},
}
PKS = {
    "energy": {"min": "0.2 TeV", "max": "20 TeV"},
    "region": {"radius": "0.11 deg"},
    "keep_runs": True,
}


def name_of(table):
    names, counts = np.unique(np.asarray(table["OBJECT"]).astype(str), return_counts=True)
    return names[np.argmax(counts)]


@pytest.fixture(scope="module")
def crab_archive(tmp_path_factory):
    """Simulated archive with seven runs on the Crab; do not change it."""
    directory = tmp_path_factory.mktemp("simulated") / "archive"
    return simulate(directory, n_obs=40, seed=1, size="small", zenith_range=(44.0, 48.0))


@pytest.fixture(scope="module")
def groups(crab_archive, tmp_path_factory):
    """The seven runs in two groups."""
    config = make_config(
        {"archive": str(crab_archive), "target": "Crab Nebula"}
        | {"grouping": {"method": "cuts", "by": "ZEN_PNT"}}
    )
    output = tmp_path_factory.mktemp("groups") / "groups"
    write_results(group_observations(config), output, plots=False)
    return output


@pytest.fixture(scope="module")
def config():
    return make_reduce_config(COARSE | {"keep_runs": True})


@pytest.fixture(scope="module")
def reduction(groups, config, tmp_path_factory):
    return reduce_groups(groups, config, tmp_path_factory.mktemp("reduced") / "out")


@pytest.fixture(scope="module")
def fit(reduction):
    return fit_reduction(reduction)[1]


def group_hess(archive, target, output):
    config = make_config(
        {"archive": str(archive), "target": target, "grouping": {"method": "hierarchical"}}
        | {"grouping": {"method": "hierarchical", "n_groups": 2}}
    )
    write_results(group_observations(config), output, plots=False)
    return output


def value_of(fit, name):
    table = fit.parameters
    row = table[(table["model"] == "source") & (table["name"] == name)][0]
    return row["value"], row["error"]


class TestConfig:
    @pytest.mark.parametrize(
        ("content", "text"),
        [
            ({"nonsense": 1}, "nonsense: unknown key; allowed here: .*safe_mask"),
            ({"energy": {"nbins": 1}}, "energy.nbins: unknown key; .* bins_per_decade, max, min"),
            ({"energy_true": {"low": 1}}, "energy_true.low: unknown key; allowed here: bins_per"),
            ({"energy": {"min": "1 deg"}}, "energy.min: '1 deg'; expected .* '1 TeV'"),
            ({"energy": {"min": "9 TeV", "max": "1 TeV"}}, "min 9 TeV is not below max 1 TeV"),
            ({"region": {"radius": "-1 deg"}}, "region.radius: '-1 deg'; expected a positive"),
            ({"kind": "2d"}, "kind: '2d' is not known; expected '1d' or '3d'"),
            ({"safe_mask": {"methods": ["magic"]}}, "safe_mask.methods.0: 'magic' .* 'aeff"),
            ({"background": {"method": "fov"}}, "fov is not for kind 1d; expected one of auto, re"),
            ({"region": {"shape": "icrs;circle(1,2,3)"}}, "containment_correction: false"),
            ({"workers": 0}, "workers: "),
        ],
    )
    def test_what_is_wrong_is_named(self, content, text):
        with pytest.raises(RequestError, match=text):
            make_reduce_config(content)

    def test_a_file_and_the_part_of_a_run(self, tmp_path):
        for content in (COARSE, {"archive": "somewhere", "reduce": COARSE}):
            (tmp_path / "reduce.yaml").write_text(yaml.safe_dump(content))
            assert read_reduce_config(tmp_path / "reduce.yaml") == make_reduce_config(COARSE)
        (tmp_path / "reduce.yaml").write_text("energy: {}\nkinds: 1d\n")
        with pytest.raises(RequestError, match=r"reduce.yaml, line 2: kinds: unknown key"):
            read_reduce_config(tmp_path / "reduce.yaml")

    def test_true_energies_go_beyond_and_are_finer(self):
        axis = make_reduce_config(COARSE).true_axis
        assert (axis.min, axis.max, axis.bins_per_decade) == ("0.25 TeV", "100 TeV", 10)


class TestMessages:
    def test_are_counted_and_seen_by_nobody(self, caplog):
        with captured() as found:
            for _ in range(2):
                logging.getLogger("gammapy.makers").warning("no region")
            warnings.warn("odd", RuntimeWarning, stacklevel=1)
        assert found == {"no region": 2, "RuntimeWarning: odd": 1}
        assert not caplog.records


class TestWithoutGammapy:
    def test_everything_else_works_and_reduce_says_what_to_install(self):
        code = (
            "import sys; sys.modules['gammapy'] = None\n"
            "from obscluster.reduction import make_reduce_config, require_gammapy\n"
            "from obscluster import Grouping\n"
            "make_reduce_config({})\n"
            "try:\n    from obscluster.reduction import reduce_groups\n"
            "except ValueError as error:\n    print(error)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert 'pip install "obscluster[reduce]"' in done.stdout


class TestToGammapy:
    def test_each_group_has_its_runs(self, groups, crab_archive):
        grouping = Grouping.read(groups)
        found = to_gammapy(grouping, crab_archive)
        assert list(found) == ["group_1", "group_2"]
        for name, observations in found.items():
            assert_array_equal([int(o.obs_id) for o in observations], grouping.groups[name])
        assert len(found["group_1"][0].events.table) > 0

    def test_a_run_that_is_not_there_is_left_out(self, crab_archive):
        known = int(Table.read(crab_archive / "obs-index.fits.gz")["OBS_ID"][0])
        with pytest.warns(SkippedRunWarning, match="1 runs left out: 99999: .*not in HDU index"):
            found = to_gammapy(Grouping([known, 99999], [1, 1]), crab_archive)
        assert len(found["group_1"]) == 1


class TestReduction1D:
    def test_there_is_a_dataset_per_group_and_per_run(self, reduction, groups):
        datasets = reduction.read()
        assert datasets.names == ["group_1", "group_2"]
        assert datasets.models.names == ["source"]
        grouping = Grouping.read(groups)
        runs = reduction.read_runs()
        assert {int(n.removeprefix("run_")) for n in runs.names} == set(grouping.obs_ids.tolist())
        assert reduction.skipped == {}

    def test_gammapy_opens_the_files_by_itself(self, reduction):
        directory = reduction.directory
        datasets = Datasets.read(directory / "datasets.yaml", directory / "models.yaml")
        assert datasets.names == ["group_1", "group_2"]

    def test_the_counts_are_those_of_the_runs(self, reduction):
        runs = reduction.read_runs()
        for name, group in reduction.groups.items():
            stacked = reduction.read()[name]
            parts = [runs[f"run_{i}"] for i in group["obs_ids"]]
            expected = sum(np.where(p.mask_safe.data, p.counts.data, 0) for p in parts)
            assert_array_equal(stacked.counts.data, expected)
            assert group["counts"] == expected[stacked.mask_safe.data].sum()

    def test_workers_change_nothing(self, reduction, groups, config, tmp_path):
        two = reduce_groups(groups, config.model_copy(update={"workers": 2}), tmp_path / "two")
        for one, other in zip(reduction.read(), two.read(), strict=True):
            assert_array_equal(one.counts.data, other.counts.data)
            assert_array_equal(one.exposure.data, other.exposure.data)

    def test_nothing_but_the_output_is_left(self, reduction):
        assert [path.name for path in reduction.directory.parent.iterdir()] == ["out"]
        there = {p.name for p in reduction.directory.iterdir()}
        assert {*reduction.record["files"], LIST_FILE} == there

    def test_the_target_can_be_told(self, groups, config, tmp_path):
        elsewhere = config.model_copy(update={"target": "nowhere"})
        with pytest.raises(RequestError, match="target 'nowhere'"):
            reduce_groups(groups, elsewhere, tmp_path / "out")

    def test_without_target_or_archive(self, groups, config, crab_archive, tmp_path):
        grouping = Grouping.read(groups)
        with pytest.raises(RequestError, match="pass the archive"):
            reduce_groups(grouping, config, tmp_path / "out")
        with pytest.raises(RequestError, match="the groups have no target"):
            reduce_groups(grouping, config, tmp_path / "out", crab_archive)

    def test_not_a_reduction(self, groups):
        with pytest.raises(ArchiveError, match=r"reduction\.yaml"):
            read_reduction(groups)


class TestDamagedRuns:
    @pytest.fixture
    def damaged(self, crab_archive, groups, tmp_path):
        """Archive whose first run of group 1 is cut short, and grouping."""
        archive = shutil.copytree(crab_archive, tmp_path / "archive")
        grouping = Grouping.read(groups)
        obs_id = int(grouping.groups["group_1"][0])
        table = Table.read(archive / "hdu-index.fits.gz")
        row = table[(table["OBS_ID"] == obs_id) & (table["HDU_TYPE"] == "events")][0]
        path = archive / str(row["FILE_DIR"]).strip() / str(row["FILE_NAME"]).strip()
        path.write_bytes(path.read_bytes()[:2000])
        return archive, obs_id

    def test_are_left_out_with_a_reason(self, damaged, groups, tmp_path):
        archive, obs_id = damaged
        result = reduce_groups(groups, make_reduce_config(COARSE), tmp_path / "out", archive)
        assert list(result.skipped) == [obs_id]
        assert result.skipped[obs_id]
        assert obs_id not in result.groups["group_1"]["obs_ids"]
        assert result.groups["group_1"]["obs_ids"]

    def test_if_all_are_nothing_is_written(self, damaged, tmp_path):
        archive, obs_id = damaged
        config = make_reduce_config(COARSE | {"target": "83.63 22.01"})
        with pytest.raises(RequestError, match="no run can be reduced: "):
            reduce_groups(Grouping([obs_id], [1]), config, tmp_path / "out", archive)
        assert not (tmp_path / "out").exists()


class TestResume:
    @pytest.fixture
    def calls(self, monkeypatch):
        """Names of the groups that are reduced, one after the other."""
        from obscluster.reduction import groups as module

        done = []
        original = module._reduce_group

        def counted(name, *args):
            done.append(name)
            return original(name, *args)

        monkeypatch.setattr(module, "_reduce_group", counted)
        return done

    def test_goes_on_from_complete_groups(self, groups, tmp_path, calls, monkeypatch):
        from obscluster.reduction import groups as module

        config = make_reduce_config(COARSE)
        counted = module._reduce_group

        def interrupted(name, *args):
            if name == "group_2":
                raise KeyboardInterrupt
            return counted(name, *args)

        monkeypatch.setattr(module, "_reduce_group", interrupted)
        with pytest.raises(KeyboardInterrupt):
            reduce_groups(groups, config, tmp_path / "out")
        assert not (tmp_path / "out").exists()
        monkeypatch.setattr(module, "_reduce_group", counted)
        result = reduce_groups(groups, config, tmp_path / "out")
        assert calls == ["group_1", "group_2"]
        assert list(result.groups) == ["group_1", "group_2"]
        assert [path.name for path in tmp_path.iterdir()] == ["out"]

    def test_what_is_as_asked_is_kept_and_else_is_not(self, reduction, groups, config, calls):
        output = reduction.directory
        with pytest.raises(RequestError, match="is not empty"):
            reduce_groups(groups, config, output)
        reduce_groups(groups, config, output, overwrite=True)
        assert calls == []
        assert reduction.read_runs()

    def test_another_configuration_starts_anew(self, reduction, groups, tmp_path, calls):
        shutil.copytree(reduction.directory, tmp_path / "out")
        wider = COARSE | {"region": {"radius": "0.15 deg"}, "keep_runs": False}
        wider = make_reduce_config(wider)
        result = reduce_groups(groups, wider, tmp_path / "out", overwrite=True)
        assert calls == ["group_1", "group_2"]
        assert {*result.record["files"], LIST_FILE} == {
            p.name for p in (tmp_path / "out").iterdir()
        }
        with pytest.raises(RequestError, match="keep_runs: true"):
            result.read_runs()


class TestFit:
    def test_the_simulated_truth_is_recovered(self, fit):
        assert fit.success
        truth = next(target for target in TARGETS if target.name == "Crab Nebula")
        for name, expected in (("index", truth.slope), ("amplitude", truth.flux)):
            value, error = value_of(fit, name)
            assert abs(value - expected) < 3 * error
            assert error < 0.1 * expected
        assert fit.covariance.shape == (3, 3)
        assert "2 datasets" in str(fit)

    def test_the_datasets_stay_as_they_are(self, reduction):
        datasets = reduction.read()
        before = datasets.models.to_dict()
        fit_datasets(datasets)
        assert datasets.models.to_dict() == before

    @pytest.mark.usefixtures("agg")
    def test_the_files(self, fit, reduction, tmp_path):
        files = write_fit(fit, reduction, tmp_path / "fit")
        assert {*files, LIST_FILE} == {path.name for path in (tmp_path / "fit").iterdir()}
        record = yaml.safe_load((tmp_path / "fit" / "fit.yaml").read_text())
        assert record["success"] is True
        assert record["covariance"]["parameters"] == ["source.index", "source.amplitude"]
        table = Table.read(tmp_path / "fit" / "parameters.ecsv")
        assert table["name"].tolist() == ["index", "amplitude", "reference"]
        points = QTable.read(tmp_path / "fit" / "flux_points.ecsv")
        assert points["dnde"].unit.is_equivalent("cm-2 s-1 TeV-1")
        spectrum = QTable.read(tmp_path / "fit" / "spectrum.ecsv")
        assert (spectrum["dnde_lo"] <= spectrum["dnde_hi"]).all()
        residuals = QTable.read(tmp_path / "fit" / "residuals.ecsv")
        assert set(residuals["dataset"]) == {"group_1", "group_2"}
        assert np.isfinite(residuals["significance"]).all()

    def test_nothing_to_fit(self, reduction):
        config = make_reduce_config({"fit": {"min": "45 TeV", "max": "46 TeV"}}).fit
        with pytest.raises(RequestError, match="no bin of any dataset"):
            fit_datasets(reduction.read(), config)
        with pytest.raises(RequestError, match="no dataset"):
            fit_datasets(Datasets([]))

    def test_comparison(self, reduction, tmp_path):
        losses = QTable(
            {"grouping": ["these groups", "all stacked"], "index inflation": [0.01, 0.05]}
        )
        truth = next(target for target in TARGETS if target.name == "Crab Nebula")
        losses.meta["prediction"] = {
            "model": "power-law",
            "kind": "1d",
            "energy": [0.5, 50.0],
            "flux_at_1_TeV": truth.flux,
            "index": truth.slope,
        }
        table = compare_groupings(reduction, losses=losses)
        assert table["grouping"].tolist() == ["per run", "per group", "all stacked"]
        assert table["n_datasets"].tolist() == [7, 2, 1]
        assert table["index inflation"][0] == 0
        assert table["index predicted"].tolist() == [0, 0.01, 0.05]
        assert (table["disk"] > 0 * u.Unit("MB")).all()
        assert (np.diff(table["disk"].value) < 0).all()
        assert "per group" in describe_comparison(table)
        write_comparison(table, tmp_path / "out")
        again = QTable.read(tmp_path / "out" / "comparison.ecsv")
        assert_allclose(again["index"], table["index"])


class TestHess:
    def test_pks_2155_in_two_groups(self, hess_dr1, tmp_path):
        groups = group_hess(hess_dr1, "329.71693826 -30.2255890", tmp_path / "groups")
        config = make_reduce_config(PKS | {"workers": 2})
        result = reduce_groups(groups, config, tmp_path / "out")
        assert [len(g["obs_ids"]) for g in result.groups.values()] == [5, 16]
        assert [g["livetime"] for g in result.groups.values()] == ["2.2266 h", "6.9633 h"]
        per_run = fit_datasets(result.read_runs())
        assert per_run.success
        index, error = value_of(per_run, "index")
        assert abs(index - 3.50) < 0.02
        assert_allclose(error, 0.016, atol=0.002)
        amplitude, error = value_of(per_run, "amplitude")
        assert abs(amplitude - 5.88e-11) < 0.09e-11
        assert_allclose(error, 0.09e-11, rtol=0.1)
        assert_allclose(value_of(fit_reduction(result)[1], "index")[0], index, rtol=0.01)

    def test_a_ring_agrees_with_reflected_regions(self, hess_dr1):
        position = SkyCoord(83.63333, 22.01444, unit="deg")
        background = []
        observations = to_gammapy(Grouping([23523], [1]), hess_dr1)["group_1"]
        for method in ("reflected", "ring"):
            config = make_reduce_config(COARSE | {"background": {"method": method}})
            dataset = reduce_observation(make_plan(config, position), observations[0])
            background.append(dataset.background.data[dataset.mask_safe.data].sum())
            off = dataset.counts_off.data.sum()
        assert abs(background[0] - background[1]) < 5 * background[1] / np.sqrt(off) + 2

    @pytest.mark.usefixtures("agg")
    def test_the_crab_in_3d(self, hess_dr1, tmp_path):
        groups = group_hess(hess_dr1, "Crab Nebula", tmp_path / "groups")
        config = make_reduce_config(
            {
                "kind": "3d",
                "energy": {"min": "1 TeV", "max": "10 TeV", "bins_per_decade": 3},
                "energy_true": {"min": "0.5 TeV", "max": "20 TeV", "bins_per_decade": 6},
                "map": {"width": "2 deg", "binsz": "0.05 deg"},
                "fit": {"flux_points_per_decade": 0},
            }
        )
        result = reduce_groups(groups, config, tmp_path / "out")
        _, fit = fit_reduction(result)
        assert fit.success
        assert abs(value_of(fit, "index")[0] - 2.7) < 0.3
        assert_allclose(value_of(fit, "lon_0")[0], 83.63, atol=0.02)
        assert_allclose(value_of(fit, "lat_0")[0], 22.01, atol=0.03)
        files = write_fit(fit, result, tmp_path / "fit")
        assert {"counts_group_1.png", "counts_group_2.png"} <= set(files)
        assert "flux_points.ecsv" not in files


class TestFact:
    def test_point_like_runs_with_their_cut(self, fact_crab, tmp_path):
        ids = np.asarray(Table.read(fact_crab / "obs-index.fits.gz")["OBS_ID"])[:6]
        grouping = Grouping(ids, [1, 1, 1, 2, 2, 2])
        config = make_reduce_config(
            COARSE | {"target": "83.633 22.0145", "background": {"off_regions": 5}}
        )
        result = reduce_groups(grouping, config, tmp_path / "out", fact_crab)
        assert result.skipped == {}
        radius = result.read()[0].counts.geom.region.radius
        assert_allclose(radius.to_value("deg"), 0.1732, atol=1e-3)

    def test_a_cut_that_depends_on_energy(self, fact_crab, tmp_path):
        """With the same cut at all energies, counts are those of a circle."""
        obs_id = int(Table.read(fact_crab / "obs-index.fits.gz")["OBS_ID"][0])
        fixed = to_gammapy(Grouping([obs_id], [1]), fact_crab)["group_1"][0]
        energy = MapAxis.from_energy_edges([0.1, 1, 100] * u.TeV)
        offset = MapAxis.from_edges([0, 2] * u.deg, name="offset")
        names = ("meta", "gti", "events", "aeff", "edisp", "pointing")
        parts = {name: getattr(fixed, name) for name in names}
        position = SkyCoord(83.633, 22.0145, unit="deg")
        plan = make_plan(make_reduce_config(COARSE), position)
        counts = []
        for radii in ([0.1732050807568877] * 2, [0.1732050807568877, 0.3]):
            table = RadMax2D(axes=[energy, offset], data=np.array(radii)[:, None], unit="deg")
            observation = Observation(
                obs_id=obs_id, rad_max=table, location=fixed.observatory_earth_location, **parts
            )
            dataset = reduce_observation(plan, observation)
            counts.append(dataset.counts.data.ravel())
            assert dataset.acceptance_off.data.max() == 1
        circle = reduce_observation(plan, fixed).counts.data.ravel()
        assert_array_equal(counts[0], circle)
        assert (counts[1] >= circle).all()
        assert counts[1].sum() > circle.sum() > 0
        stack = GroupStack("group_1", plan)
        stack.add(dataset, {})
        write_datasets(tmp_path, stack)
        again = SpectrumDatasetOnOff.read(tmp_path / "pha_obsgroup_1.fits")
        assert_array_equal(again.counts.data, dataset.to_masked().counts.data)

    def test_maps_need_a_background_response(self, fact_crab, tmp_path):
        ids = np.asarray(Table.read(fact_crab / "obs-index.fits.gz")["OBS_ID"])[:1]
        config = make_reduce_config({"kind": "3d", "target": "83.633 22.0145"})
        with pytest.raises(RequestError, match=r"no run can be reduced: .*'psf', 'bkg'"):
            reduce_groups(Grouping(ids, [1]), config, tmp_path / "out", fact_crab)


def command(*argv):
    """Run a command and return its exit code."""
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers()
    for add_command in (reductions.add_reduce, reductions.add_fit):
        add_command(commands)
    arguments = parser.parse_args([str(arg) for arg in argv])
    return arguments.run(arguments)


class TestCommands:
    def test_reduce_and_fit(self, groups, tmp_path, capsys):
        (tmp_path / "reduce.yaml").write_text(yaml.safe_dump(COARSE))
        output = tmp_path / "out"
        options = ["--config", tmp_path / "reduce.yaml", "-o", output]
        assert command("reduce", groups, *options, "--workers", 2) == 0
        text = capsys.readouterr().out
        assert "group_1: 3 runs, " in text
        # Those of seven runs are kept, as there are not more than 200.
        assert "reduction.yaml, and 9 files of data" in text
        assert command("fit", output, "--model", "log-parabola", "--no-plots") == 0
        text = capsys.readouterr().out
        assert "log-parabola, 2 datasets" in text
        assert "beta: " in text
        assert (output / "fit" / "fit.yaml").exists()
        with pytest.raises(RequestError, match="is not empty"):
            command("fit", output)
        (output / "runs.yaml").unlink()
        with pytest.raises(RequestError, match="keep_runs: true"):
            command("fit", output, "--compare", "--trust", "-o", tmp_path / "fit")

    def test_the_whole_chain_from_one_file(self, crab_archive, tmp_path, capsys):
        description = {
            "archive": str(crab_archive),
            "target": "Crab Nebula",
            "grouping": {"method": "cuts", "by": "ZEN_PNT"},
            "reduce": COARSE,
        }
        (tmp_path / "run.yaml").write_text(yaml.safe_dump(description))
        output = tmp_path / "out"
        arguments = ["run", str(tmp_path / "run.yaml"), "-o", str(output), "--no-plots"]
        assert main(arguments) == 0
        assert "power-law, 2 datasets" in capsys.readouterr().out
        assert len(Datasets.read(output / "datasets" / "datasets.yaml")) == 2
        assert Grouping.read(output).n_groups == 2
        assert (output / "fit" / "fit.yaml").exists()
        # Again: what is there is kept, and the result the same.
        before = (output / "fit" / "parameters.ecsv").read_text()
        assert main([*arguments, "--overwrite"]) == 0
        assert (output / "fit" / "parameters.ecsv").read_text() == before
        (tmp_path / "bad.yaml").write_text(yaml.safe_dump(description | {"reduce": {"regon": {}}}))
        assert main(["run", str(tmp_path / "bad.yaml"), "-o", str(tmp_path / "no")]) == 2
        assert "regon" in capsys.readouterr().err
        assert not (tmp_path / "no").exists()

    def test_losses_must_be_there(self, reduction, tmp_path):
        options = ["--compare", "--losses", tmp_path / "no.ecsv", "--no-plots"]
        with pytest.raises(RequestError, match=r"losses .*: cannot be read"):
            command("fit", reduction.directory, "-o", tmp_path / "fit", *options)


class TestExclusion:
    POSITION = SkyCoord(83.63333, 22.01444, unit="deg")

    def mask(self, **exclusion):
        return make_plan(make_reduce_config({"exclusion": exclusion}), self.POSITION).exclusion

    def test_regions_and_the_target(self):
        assert self.mask() is None
        mask = self.mask(regions=["icrs;circle(84.63, 22.01, 0.3)"], target="0.2 deg")
        for ra, expected in ((84.63, False), (83.63, False), (84.1, True)):
            found = mask.get_by_coord({"lon": ra * u.deg, "lat": 22.01 * u.deg, "skycoord": None})
            assert bool(found[0]) is expected

    def test_files(self, tmp_path):
        self.mask(target="0.2 deg").write(tmp_path / "mask.fits")
        mask = self.mask(file=str(tmp_path / "mask.fits"))
        assert mask.is_mask
        assert_array_equal(mask.data, self.mask(target="0.2 deg").data)
        (tmp_path / "mask.reg").write_text("icrs;circle(83.63333, 22.01444, 0.2)")
        again = self.mask(file=str(tmp_path / "mask.reg"))
        assert (again.data != mask.data).sum() < 10

    @pytest.mark.parametrize(
        ("exclusion", "text"),
        [
            ({"regions": ["nonsense"]}, "region 'nonsense': .*icrs;circle"),
            ({"regions": ["image;circle(1,2,3)"]}, "expected the format of DS9"),
            ({"file": "no.reg"}, "exclusion.file no.reg: cannot be read"),
            ({"file": "no.fits"}, "exclusion.file no.fits: .*expected a FITS image"),
        ],
    )
    def test_what_cannot_be_read_is_named(self, exclusion, text):
        with pytest.raises(RequestError, match=text):
            self.mask(**exclusion)

    def test_reflected_regions_keep_clear(self, hess_dr1):
        observations = to_gammapy(Grouping([23523], [1]), hess_dr1)["group_1"]
        off = []
        for regions in ([], ["icrs;circle(83.63, 21.0, 0.3)"]):
            config = make_reduce_config(COARSE | {"exclusion": {"regions": regions}})
            dataset = reduce_observation(make_plan(config, self.POSITION), observations[0])
            off.append(dataset.acceptance_off.data.max())
        assert off[1] < off[0]
