"""What is said of a fit, on datasets that are drawn from models whose truth is known."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
import yaml
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import QTable, Table
from astropy.time import Time
from numpy.testing import assert_allclose
from scipy.stats import chi2, kstest

from obscluster.cli import main
from obscluster.exceptions import RequestError
from obscluster.grouping.base import Grouping
from obscluster.reduction import make_reduce_config
from obscluster.simulate import simulate

pytest.importorskip("gammapy")

from gammapy.data import GTI
from gammapy.datasets import Datasets, MapDataset, SpectrumDatasetOnOff
from gammapy.estimators import FluxPointsEstimator
from gammapy.irf import EDispKernelMap
from gammapy.maps import MapAxis, RegionGeom, RegionNDMap, WcsGeom
from gammapy.modeling import Fit
from gammapy.modeling.models import (
    FoVBackgroundModel,
    LogParabolaSpectralModel,
    Models,
    PointSpatialModel,
    PowerLawSpectralModel,
    SkyModel,
)
from regions import CircleSkyRegion

from obscluster.reduction import (
    examine,
    fit_datasets,
    join_reductions,
    read_reduction,
    reduce_groups,
    write_fit,
)
from obscluster.reduction import goodness as goodness_module
from obscluster.reduction.comparison import compare_groupings, describe_comparison
from obscluster.reduction.examination import light_curve, nights
from obscluster.reduction.goodness import constancy, goodness_table
from obscluster.reduction.messages import captured

CENTER = SkyCoord(83.63, 22.01, unit="deg")
AXIS = MapAxis.from_energy_bounds("1 TeV", "10 TeV", 8)
TRUE = MapAxis.from_energy_bounds("1 TeV", "10 TeV", 8, name="energy_true")
GEOM = RegionGeom.create(CircleSkyRegion(CENTER, 0.1 * u.deg), axes=[AXIS])
ALPHA = 0.2


def power_law(index=2.5, amplitude=1e-11):
    return PowerLawSpectralModel(index=index, amplitude=f"{amplitude} cm-2 s-1 TeV-1")


def spectrum(name, spectral, rng, area=1e13, background=5.0, start=0.0):
    """Dataset with OFF counts; the area is in cm2 s, the background in counts per bin."""
    exposure = RegionNDMap.from_geom(GEOM.to_image().to_cube([TRUE]), unit="cm2 s")
    exposure.data += area
    exposure.meta = {"livetime": 1 * u.h}
    edisp = EDispKernelMap.from_diagonal_response(AXIS, TRUE, geom=GEOM.to_image())
    # Stacks weigh by it.
    seen = edisp.edisp_map.geom.squash("energy")
    edisp.exposure_map = RegionNDMap.from_geom(seen, data=area / 1e4, unit="m2 s")
    begin = 56000 + start
    dataset = SpectrumDatasetOnOff(
        name=name,
        counts=RegionNDMap.from_geom(GEOM),
        counts_off=RegionNDMap.from_geom(GEOM),
        acceptance=RegionNDMap.from_geom(GEOM, data=1.0),
        acceptance_off=RegionNDMap.from_geom(GEOM, data=1 / ALPHA),
        exposure=exposure,
        edisp=edisp,
        mask_safe=RegionNDMap.from_geom(GEOM, data=True),
        gti=GTI.create(0 * u.s, 3600 * u.s, reference_time=isot(begin)),
    )
    dataset.models = [SkyModel(spectral, name="truth")]
    signal = dataset.npred_signal().data
    dataset.counts.data = rng.poisson(signal + background).astype(float)
    dataset.counts_off.data = rng.poisson(np.full(signal.shape, background / ALPHA)).astype(float)
    dataset.models = None
    return dataset


def isot(mjd):
    return Time(mjd, format="mjd").isot


def examined(datasets, **content):
    with captured():
        fit = fit_datasets(Datasets(datasets), make_reduce_config({"fit": content}).fit)
        return examine(fit)


@pytest.fixture
def few_experiments(monkeypatch):
    monkeypatch.setattr(goodness_module, "_EXPERIMENTS", (300, 300))


@pytest.fixture(scope="module")
def many_fits():
    """Fits of two groups of one steady source with few counts."""
    before, goodness_module._EXPERIMENTS = goodness_module._EXPERIMENTS, (300, 300)
    rng = np.random.default_rng(5)
    try:
        return [
            examined(
                [
                    spectrum("a", power_law(), rng, area=5e12, background=2),
                    spectrum("b", power_law(), rng, area=8e12, background=3),
                ]
            )
            for _ in range(40)
        ]
    finally:
        goodness_module._EXPERIMENTS = before


class TestGoodness:
    def test_p_values_of_the_truth_are_uniform(self, many_fits):
        for row in range(3):
            values = [float(found.goodness["p_value"][row]) for found in many_fits]
            assert kstest(values, "uniform").pvalue > 0.003, values
        assert all(found.goodness["n_experiments"][-1] == 300 for found in many_fits)

    def test_a_bent_spectrum_is_no_power_law(self):
        bent = LogParabolaSpectralModel(
            amplitude="3e-10 cm-2 s-1 TeV-1", reference="3 TeV", alpha=2.5, beta=1.0
        )
        found = examined([spectrum("a", bent, np.random.default_rng(1))])
        assert found.goodness["p_value"][-1] < 1e-3
        assert found.verdict[0].startswith("the model does not describe the counts: statistic")
        good = examined([spectrum("a", bent, np.random.default_rng(1))], model="log-parabola")
        assert good.disagreements == []

    def test_with_many_counts_it_is_chi_square(self):
        rng = np.random.default_rng(2)
        pair = [
            spectrum(name, power_law(amplitude=3e-10), rng, area, background=100)
            for name, area in (("a", 1e13), ("b", 3e13))
        ]
        table = examined(pair).goodness
        assert table["method"].tolist() == ["chi2"] * 3
        assert_allclose(table["dof"].sum(), 2 * table["dof"][-1])
        assert_allclose(table["dof"][-1], 16 - 2)
        # Parameters are known mostly from the larger group, which pays more of them.
        assert table["dof"][1] < table["dof"][0]
        assert_allclose(table["p_value"], chi2.sf(table["statistic"], table["dof"]))
        assert_allclose(table["statistic"][-1], table["statistic"][:2].sum())

    def test_experiments_are_as_if_fitted(self):
        """Against Gammapy's own fits of pseudo-experiments."""
        fit = fit_datasets(Datasets([spectrum("a", power_law(), np.random.default_rng(3))]))
        slopes = goodness_module._slopes(fit.datasets, [None])
        part = goodness_module._counts(fit.datasets[0], slopes[0])
        info = (part.slopes * part.weights) @ part.slopes.T
        inverse = np.linalg.inv(info)
        size = 25
        stats = goodness_module._experiments(
            [part], [info], inverse, size, np.random.default_rng(0)
        )[:, 0]
        rng, refitted = np.random.default_rng(0), []
        on = rng.poisson(part.mu + part.alpha * part.background, (size, len(part.mu)))
        off = rng.poisson(part.background, (size, len(part.mu)))
        for i in range(size):
            copy = fit.datasets[0].copy(name="a")
            copy.counts.data = on[i].reshape(copy.counts.data.shape).astype(float)
            copy.counts_off.data = off[i].reshape(copy.counts.data.shape).astype(float)
            copy.models = fit.models.copy()
            with captured():
                Fit().optimize(Datasets([copy]))
            refitted.append(copy.stat_sum())
        assert_allclose(np.mean(stats), np.mean(refitted), rtol=0.05)
        assert_allclose(stats, refitted, atol=1.5)

    @pytest.mark.usefixtures("few_experiments")
    def test_maps_whose_pixels_are_nearly_empty(self):
        """A thirtieth of a count in a pixel: rings see a slope of the background all the same."""
        geom = WcsGeom.create(skydir=CENTER, width=3, binsz=0.05, axes=[AXIS])
        dataset = MapDataset.create(geom, energy_axis_true=TRUE, name="a")
        dataset.mask_safe.data[...] = True
        dataset.background.data[...] = 0.03
        source = SkyModel(power_law(), PointSpatialModel(lon_0=CENTER.ra, lat_0=CENTER.dec))
        source.parameters.freeze_all()
        dataset.models = [source, FoVBackgroundModel(dataset_name="a")]
        rng, values = np.random.default_rng(13), []
        expected = dataset.npred().data
        for _ in range(60):
            dataset.counts.data = rng.poisson(expected).astype(float)
            values.append(goodness_table(Datasets([dataset]))["p_value"][0])
        assert kstest(values, "uniform").pvalue > 0.003
        near = geom.separation(CENTER).deg < 0.7
        wrong = (
            np.where(
                near,
                2.0,
                (expected.sum() - 2 * expected[:, near].sum()) / expected[:, ~near].sum(),
            )
            * expected
        )
        dataset.counts.data = rng.poisson(wrong).astype(float)
        assert goodness_table(Datasets([dataset]))["p_value"][0] < 0.01

    def test_the_same_seed_gives_the_same(self):
        fit = fit_datasets(Datasets([spectrum("a", power_law(), np.random.default_rng(3))]))
        before = fit.parameters
        one, other, third = (goodness_table(fit.datasets, seed) for seed in (0, 0, 1))
        assert (one["p_value"] == other["p_value"]).all()
        assert one["p_value"][0] != third["p_value"][0]
        assert (fit.parameters == before).all()


class TestAgreement:
    def test_by_chance_it_follows_chi_square(self, many_fits):
        values = [found.agreement["p_value"] for found in many_fits]
        assert {found.agreement["dof"] for found in many_fits} == {2}
        assert kstest(values, "uniform").pvalue > 0.003, values

    def test_disagreement_comes_first(self):
        rng = np.random.default_rng(4)
        pair = [spectrum("a", power_law(3.2, 1e-10), rng), spectrum("b", power_law(2.2), rng)]
        found = examined(pair)
        assert found.agreement["p_value"] < 1e-6
        lines = str(found).splitlines()
        assert lines[0].startswith("the groups do not agree: p = ")
        assert "likelihood ratio" in lines[0]
        assert any(line.startswith("  a alone: index: 3.") for line in lines[1:5])
        gains = [found.agreement[name]["gain"] for name in ("flux", "shape")]
        assert_allclose(sum(gains), found.agreement["gain"], rtol=1e-3)
        # Each group alone is what a fit of it says.
        alone = fit_datasets(Datasets(pair[:1]))
        row = found.alone[(found.alone["dataset"] == "a") & (found.alone["name"] == "index")][0]
        assert_allclose(row["value"], alone.models[0].parameters["index"].value, rtol=1e-3)

    def test_only_the_flux_differs(self):
        rng = np.random.default_rng(6)
        found = examined(
            [spectrum("a", power_law(2.5, 4e-11), rng), spectrum("b", power_law(2.5, 1e-11), rng)]
        )
        assert found.agreement["flux"]["p_value"] < 1e-6
        assert found.agreement["shape"]["p_value"] > 0.01
        assert "the spectral shapes then agree" in str(found)


class TestNormalisation:
    def pair(self):
        rng = np.random.default_rng(7)
        return [
            spectrum("a", power_law(2.5, 1e-10), rng),
            spectrum("b", power_law(2.5, 2e-10), rng),
        ]

    def test_per_group(self):
        found = examined(self.pair(), normalisation="per-group")
        models = found.fit.models
        assert models.names == ["source-a", "source-b"]
        values = [m.spectral_model.amplitude for m in models]
        assert_allclose(values[1].value / values[0].value, 2, rtol=0.2)
        assert models[0].spectral_model.index is models[1].spectral_model.index
        assert found.fit.n_free == 3
        # What is left to disagree on is the index.
        assert found.agreement["dof"] == 1
        assert found.disagreements == []
        assert "(source-b)" in str(found)

    def test_all_parameters_per_group_are_the_groups_alone(self):
        found = examined(self.pair(), parameters="per-group")
        alone = [fit_datasets(Datasets([dataset])) for dataset in self.pair()]
        assert_allclose(found.fit.stat, sum(fit.stat for fit in alone), atol=0.01)
        for model, fit in zip(found.fit.models, alone, strict=True):
            expected = fit.models[0].parameters["index"]
            assert_allclose(model.parameters["index"].value, expected.value, rtol=1e-3)

    def test_per_instrument(self):
        three = [*self.pair(), spectrum("c", power_law(2.5, 2e-10), np.random.default_rng(8))]
        config = make_reduce_config({"fit": {"normalisation": "per-instrument"}}).fit
        instruments = {"a": "HESS", "b": "FACT", "c": "FACT"}
        fit = fit_datasets(Datasets(three), config, None, instruments)
        assert fit.models.names == ["source-HESS", "source-FACT"]
        assert fit.n_free == 3

    def test_written_models_stay_linked(self, tmp_path):
        fit = examined(self.pair(), normalisation="per-group").fit
        fit.models.write(tmp_path / "models.yaml")
        again = Models.read(tmp_path / "models.yaml")
        assert again[0].spectral_model.index is again[1].spectral_model.index


class TestNoSource:
    def test_the_limit_without_counts_is_known(self):
        """Without any count, twice the predicted signal is the statistic: the limit is 1.35."""
        dataset = spectrum("a", power_law(amplitude=1e-30), np.random.default_rng(0), background=0)
        assert dataset.counts.data.sum() == dataset.counts_off.data.sum() == 0
        found = examined([dataset])
        model = power_law(amplitude=found.detection["upper_limit"])
        dataset.models = [SkyModel(model)]
        assert_allclose(dataset.npred_signal().data.sum(), chi2.isf(0.1, 1) / 2, rtol=1e-3)

    def test_says_significance_and_limit(self):
        found = examined([spectrum("a", power_law(amplitude=1e-30), np.random.default_rng(9))])
        assert found.fit.success
        assert abs(found.detection["significance"]) < 3
        assert found.verdict[-1].startswith("no significant source: ")
        assert "amplitude < " in str(found)
        assert "+-" not in str(found)

    @pytest.mark.usefixtures("few_experiments")
    def test_limits_hold_as_often_as_they_say(self):
        rng, truth, held = np.random.default_rng(10), 3e-13, []
        for _ in range(40):
            found = examined([spectrum("a", power_law(amplitude=truth), rng)])
            if "upper_limit" in found.detection:
                held.append(found.detection["upper_limit"] > truth)
        assert len(held) > 35
        # 95 %: 33 of 40 is four sigma below.
        assert np.mean(held) > 33 / 40

    def test_a_strong_source_has_no_limit(self, many_fits):
        assert all(f.detection["significance"] > 3 for f in many_fits)
        assert not any("upper_limit" in f.detection for f in many_fits)


class TestConstancy:
    @pytest.mark.usefixtures("few_experiments")
    def test_steady_is_steady_and_p_values_are_uniform(self):
        rng, values = np.random.default_rng(11), []
        signal = np.linspace(0.5, 2, 12)
        for _ in range(200):
            on, off = rng.poisson(4 * signal + 2), rng.poisson(np.full(12, 10))
            test = constancy(on.astype(float), signal, off.astype(float), np.full(12, 0.2))
            values.append(test["p_value"])
        assert kstest(values, "uniform").pvalue > 0.003
        assert test["method"] == "pseudo-experiments"

    def test_a_flare_is_none(self):
        signal = np.ones(12)
        on = np.full(12, 30.0)
        on[3] = 80
        test = constancy(on, signal, np.full(12, 100.0), np.full(12, 0.1))
        assert test["p_value"] < 1e-5
        assert test["dof"] == 11

    def test_known_background(self):
        signal = np.full(5, 50.0)
        on = np.array([150.0, 150, 150, 150, 150])
        test = constancy(on, signal, background=np.full(5, 100.0))
        assert test["statistic"] < 1e-6
        assert_allclose(test["p_value"], 1)

    def test_nights_part_where_the_sun_is(self):
        """At a site where the night spans noon of UTC."""
        begin = np.array([10.45, 10.55, 11.40, 11.58, 20.5])
        found = nights(np.stack([begin, begin + 0.02], axis=1))
        assert (np.diff(found) == [0, 1, 0, 9]).all()


@pytest.fixture(scope="module")
def runs():
    """Runs of two nights, the second four times as bright, in two groups."""
    rng = np.random.default_rng(12)
    made = []
    for i, (start, flux) in enumerate(((0.0, 1e-11), (0.1, 1e-11), (1.0, 4e-11), (1.1, 4e-11))):
        made.append(spectrum(f"run_{i}", power_law(2.5, flux), rng, start=start, area=3e13))
    return made


class TestLightCurve:
    @pytest.mark.parametrize(("by", "n_points"), [("run", 4), ("night", 2)])
    def test_a_bright_night(self, runs, by, n_points):
        groups = {"run_0": "a", "run_2": "a", "run_1": "b", "run_3": "b"}
        stacked = [
            Datasets([run for run in runs if groups[run.name] == name]).stack_reduce(name=name)
            for name in ("a", "b")
        ]
        with captured():
            fit = fit_datasets(Datasets(stacked))
            table, tests = light_curve(Datasets(runs), fit, groups, CENTER, 0.1 * u.deg, by)
        assert len(table) == n_points
        assert (np.diff(table["time_min"]) > 0).all()
        flux, error = (np.asarray(table[n]) for n in ("flux", "flux_err"))
        true = np.array([1, 1, 4, 4]) if by == "run" else np.array([1, 4])
        expected = true * power_law().integral(1 * u.TeV, 10 * u.TeV).to_value("cm-2 s-1")
        assert (np.abs(flux - expected) < 4 * error).all()
        assert {name: test["n_points"] for name, test in tests.items()} == {"run": 4, "night": 2}
        assert all(test["p_value"] < 1e-6 for test in tests.values())


# Coarse, so that it is fast.
COARSE = {
    "target": "Crab Nebula",
    "energy": {"min": "0.5 TeV", "max": "50 TeV", "bins_per_decade": 5},
    "fit": {"flux_points_per_decade": 1},
}


@pytest.fixture(scope="module")
def reductions(tmp_path_factory):
    """Two archives, each reduced by its own description."""
    directory = tmp_path_factory.mktemp("reductions")
    for name, seed, axis in (
        ("one", 1, COARSE["energy"]),
        ("two", 2, {"min": "0.6 TeV", "max": "40 TeV", "bins_per_decade": 4}),
    ):
        archive = simulate(directory / f"archive-{name}", n_obs=40, seed=seed, size="small")
        table = Table.read(archive / "obs-index.fits.gz")
        ids = np.sort(np.asarray(table["OBS_ID"][table["OBJECT"] == "Crab Nebula"]))[:4]
        content = COARSE | {"energy": axis, "fit": {"min": "0.8 TeV"} if name == "two" else {}}
        config = make_reduce_config(content)
        reduce_groups(Grouping(ids, [1, 2, 1, 2][: len(ids)]), config, directory / name, archive)
    return directory


class TestJoint:
    def test_two_descriptions_one_fit(self, reductions, tmp_path, capsys):
        command = ["fit", *(str(reductions / n) for n in ("one", "two")), "--no-plots"]
        assert main([*command, "-o", str(tmp_path / "joint")]) == 0
        assert "4 datasets" in capsys.readouterr().out
        record = yaml.safe_load((tmp_path / "joint" / "fit.yaml").read_text())
        assert record["datasets"] == [f"{a}-group_{b}" for a in ("one", "two") for b in (1, 2)]
        assert "axes are not aligned" in record["left_out"]["flux points of all together"]
        assert set(record["variability"]) == {"run", "night"}
        # Every group predicts what its runs do, also with what was fitted.
        assert list(record["deviations"]) == record["datasets"]
        assert all(abs(one["largest"]) < 1e-6 for one in record["deviations"].values())
        joint = join_reductions([read_reduction(reductions / n) for n in ("one", "two")])
        # Each in the energies of its own description.
        edges = joint.datasets["two-group_1"].mask_fit.data.ravel()
        lows = joint.datasets["two-group_1"].counts.geom.axes["energy"].edges[:-1]
        assert_allclose(lows[edges].min().to_value("TeV"), 0.95, atol=0.1)
        assert joint.datasets["one-group_1"].mask_fit is None
        # The joint fit is more precise than each, and between them.
        both = joint.fit()
        each = [join_reductions(read_reduction(reductions / n)).fit() for n in ("one", "two")]
        values, errors = zip(
            *[
                (f.models[0].parameters["index"].value, f.models[0].parameters["index"].error)
                for f in (*each, both)
            ],
            strict=True,
        )
        assert min(values[:2]) <= values[2] <= max(values[:2])
        assert errors[2] < min(errors[:2])

    def test_what_is_needed_is_told(self, reductions, tmp_path, capsys):
        one, two = (str(reductions / name) for name in ("one", "two"))
        for arguments, text in (
            ([one, two], "--output DIR"),
            ([one, two, "--compare", "-o", str(tmp_path / "x")], "--compare is for one"),
            ([one, one, "-o", str(tmp_path / "x")], "is named twice"),
            ([one, "--flux-points", "no.ecsv", "-o", str(tmp_path / "x")], "flux points no.ecsv"),
        ):
            assert main(["fit", *arguments]) == 2
            assert text in capsys.readouterr().err

    def test_runs_that_count_twice_come_first(self, reductions, tmp_path):
        first = read_reduction(reductions / "one")
        ids = first.obs_ids
        config = make_reduce_config(COARSE | {"region": {"radius": "0.15 deg"}})
        again = reduce_groups(Grouping(ids, [1] * len(ids)), config, tmp_path / "b", first.archive)
        joint = join_reductions([first, again])
        found = joint.examine(joint.fit())
        assert found.verdict[0].startswith(f"{len(ids)} runs are in several of the reductions")

    def test_targets_must_be_one(self, reductions, tmp_path):
        first = read_reduction(reductions / "one")
        config = make_reduce_config(COARSE | {"target": "83.63 22.31"})
        ids = first.obs_ids
        other = reduce_groups(Grouping(ids, [1] * len(ids)), config, tmp_path / "b", first.archive)
        with pytest.raises(RequestError, match=r"its target is 0\.29"):
            join_reductions([first, other])


class TestFluxPoints:
    @pytest.mark.parametrize("suffix", ["ecsv", "fits"])
    def test_of_others_enter_the_fit(self, reductions, tmp_path, suffix):
        reduction = read_reduction(reductions / "one")
        alone = join_reductions(reduction).fit()
        model = alone.models[0].spectral_model
        energy = np.geomspace(1, 20, 8) * u.TeV
        dnde = model(energy)
        table = QTable({"e_ref": energy, "dnde": dnde, "dnde_err": 0.02 * dnde})
        table.meta["SED_TYPE"] = "dnde"
        path = tmp_path / f"points.{suffix}"
        table.write(path)
        joint = join_reductions(reduction, flux_points=[path])
        fit = joint.fit()
        assert fit.success
        assert fit.datasets.names[-1] == "points"
        index = fit.models[0].parameters["index"]
        assert index.error < alone.models[0].parameters["index"].error
        found = joint.examine(fit)
        row = found.goodness[found.goodness["dataset"] == "points"][0]
        # Points without scatter fit as well as can be.
        assert row["method"] == "chi2"
        assert row["p_value"] > 0.9
        # They are no part of the points that are found, which are of events alone.
        files = write_fit(fit, joint, tmp_path / "fit", plots=False, examination=found)
        assert "flux_points.ecsv" in files
        assert "points" not in set(QTable.read(tmp_path / "fit" / "residuals.ecsv")["dataset"])


class TestNeverCosts:
    @pytest.mark.usefixtures("agg")
    def test_what_is_optional_is_left_out_with_its_reason(self, reductions, tmp_path, monkeypatch):
        from obscluster.plots import spectra as pictures
        from obscluster.reduction import examination as module
        from obscluster.reduction import fit_files

        def fail(*args, **kwargs):
            raise ArithmeticError("no such luck")

        monkeypatch.setattr(FluxPointsEstimator, "run", fail)
        monkeypatch.setattr(fit_files, "residual_table", fail)
        monkeypatch.setattr(module, "constancy", fail)
        monkeypatch.setattr(pictures, "plot_spectrum", fail)
        monkeypatch.setattr("obscluster.reduction.examination.goodness_table", fail)
        joint = join_reductions(read_reduction(reductions / "one"))
        found = joint.examine(joint.fit())
        files = write_fit(found.fit, joint, tmp_path / "fit", examination=found)
        record = yaml.safe_load((tmp_path / "fit" / "fit.yaml").read_text())
        assert record["success"] is True
        named = {"flux points", "residuals", "light curve", "spectrum.png", "goodness of fit"}
        assert set(record["left_out"]) == named
        assert all("no such luck" in why for why in record["left_out"].values())
        assert {"parameters.ecsv", "models.yaml"} <= set(files)
        assert "spectrum.png" not in files
        assert "  left out: flux points: ArithmeticError" in str(found)

    def test_without_runs_the_command_is_told(self, reductions, tmp_path):
        first = read_reduction(reductions / "one")
        config = make_reduce_config(COARSE | {"keep_runs": False})
        ids = first.obs_ids
        result = reduce_groups(Grouping(ids, [1] * len(ids)), config, tmp_path / "b", first.archive)
        joint = join_reductions(result)
        why = joint.examine(joint.fit()).left_out["light curve"]
        assert f"its {len(ids)} runs" in why
        assert "obscluster reduce GROUPS --keep-runs" in why


class TestComparison:
    def prediction(self, **content):
        made = {"model": "power-law", "kind": "1d", "energy": [0.5, 50.0]}
        losses = QTable({"grouping": ["these groups"], "index inflation": [0.01]})
        losses.meta["prediction"] = made | content
        return losses

    def test_shifts_and_what_a_prediction_is_for(self, reductions):
        reduction = read_reduction(reductions / "one")
        table = compare_groupings(reduction, memory=False)
        index, error = (np.asarray(table[n]) for n in ("index", "index error"))
        assert_allclose(table["index shift"], (index - index[0]) / error[0])
        assert_allclose(table["index inflation"], error / error[0] - 1)
        same = {"flux_at_1_TeV": float(table["amplitude"][0].value), "index": float(index[0])}
        for change, text in (
            ({}, ""),
            ({"kind": "3d"}, "it is of a 3d analysis, and the fit is 1d"),
            ({"energy": [0.1, 50.0]}, "it is from 0.1 to 50 TeV, and the fit from 0.5 to 50 TeV"),
            ({"flux_at_1_TeV": same["flux_at_1_TeV"] / 100}, "it is for .* and the fit found"),
            ({"model": "log-parabola"}, "it is for a log-parabola"),
        ):
            losses = self.prediction(**(same | change))
            found = compare_groupings(reduction, memory=False, losses=losses)
            assert ("index predicted" in found.colnames) is (not text)
            if text:
                assert re.search(text, found.meta["prediction"])
                assert "predicted growth of errors is not shown" in describe_comparison(found)
        kinds = {"group_1": {"telescope": "HESS"}, "group_2": {"telescope": "FACT"}}
        other = replace(reduction, record={**reduction.record, "kinds": kinds})
        found = compare_groupings(other, memory=False)
        assert found["grouping"].tolist() == ["per run", "per group"]
        assert table["grouping"].tolist() == [*found["grouping"], "all stacked"]
        old = QTable({"grouping": ["these groups"], "index inflation": [0.01]})
        found = compare_groupings(reduction, memory=False, losses=old)
        assert "does not say for what" in found.meta["prediction"]
