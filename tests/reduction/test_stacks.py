"""Stacks predict what their runs predict."""

from __future__ import annotations

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import Table
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import norm

pytest.importorskip("gammapy")

from gammapy.data import GTI
from gammapy.datasets import MapDataset, SpectrumDatasetOnOff
from gammapy.irf import EDispKernelMap, PSFMap
from gammapy.maps import Map, RegionNDMap

from obscluster.reduction import make_reduce_config
from obscluster.reduction.geometry import (
    empty_map_dataset,
    empty_spectrum_dataset,
    energy_axis,
    on_region,
)
from obscluster.reduction.makers import expected_off, make_plan
from obscluster.reduction.stack import GroupStack, fitted_deviation, predictions, reference_models

TARGET = SkyCoord(83.63, 22.01, unit="deg")
AXES = {"energy": {"min": "0.5 TeV", "max": "20 TeV", "bins_per_decade": 4}}
N_ENERGIES, N_TRUE = 7, 18
SECONDS = 1000.0


def plan_for(kind, stack="exact"):
    content = AXES | {"kind": kind, "stack": stack, "keep_runs": True}
    content["map"] = {"width": "1 deg", "binsz": "0.1 deg"}
    return make_plan(make_reduce_config(content), TARGET)


def kernels(generator):
    """Dispersion, shape (n_energies, n_true): each run with a bias and a resolution of its own."""
    config = plan_for("1d").config
    energy, true = energy_axis(config.energy), energy_axis(config.true_axis, "energy_true")
    bias, width = generator.uniform(-0.2, 0.2), generator.uniform(0.05, 0.5)
    ratio = np.log(energy.edges[:, None] / true.center).value
    return np.diff(norm.cdf(ratio, bias, width), axis=0)


def run_of(generator, number, containment=True):
    """A run with responses, thresholds and counts of its own, as Gammapy's makers leave it."""
    plan = plan_for("1d")
    empty = empty_spectrum_dataset(plan.config, on_region(plan.config, TARGET, None), "empty")
    exposure = empty.exposure.copy()
    exposure.data = 10 ** generator.uniform(5, 9, exposure.data.shape)
    exposure.meta["livetime"] = SECONDS * u.s
    edisp = EDispKernelMap(empty.edisp.edisp_map.copy(), empty.edisp.exposure_map.copy())
    edisp.edisp_map.data[...] = kernels(generator).T[:, :, None, None]
    edisp.exposure_map.quantity = exposure.quantity[:, None].copy()
    if containment:
        exposure.data *= generator.uniform(0.1, 1.0, exposure.data.shape)
    geom = empty.counts.geom
    used = generator.uniform(size=N_ENERGIES) < generator.uniform(0.3, 1)
    used[generator.integers(N_ENERGIES)] = True
    maps = {
        name: RegionNDMap.from_geom(geom, data=values.reshape(geom.data_shape))
        for name, values in {
            "counts": generator.poisson(20, N_ENERGIES).astype(float),
            "counts_off": generator.poisson(30, N_ENERGIES).astype(float),
            "acceptance": np.ones(N_ENERGIES),
            "acceptance_off": np.full(N_ENERGIES, float(generator.integers(2, 9))),
            "mask_safe": used,
        }.items()
    }
    return SpectrumDatasetOnOff(
        **maps,
        exposure=exposure,
        edisp=edisp,
        name=f"run_{number}",
        gti=one_interval(number),
        meta_table=Table({"OBS_ID": [[number]]}),
    )


def one_interval(number):
    start = (number * 2 * SECONDS) * u.s
    return GTI.create(start, start + SECONDS * u.s, "2020-01-01")


def expected(runs, index):
    """The same, from the definition: the sum over runs of flux times exposure times dispersion."""
    total = np.zeros(N_ENERGIES)
    for run in runs:
        edges = run.exposure.geom.axes["energy_true"].edges
        low, high = edges[:-1].to_value("TeV"), edges[1:].to_value("TeV")
        flux = 1e-12 * (low ** (1 - index) - high ** (1 - index)) / (index - 1)
        true = flux * run.exposure.quantity.to_value("cm2 s").ravel()
        npred = run.edisp.edisp_map.data[..., 0, 0].T @ true
        total += np.where(run.mask_safe.data.ravel(), npred, 0)
    return total


def stacked(runs, kind="1d", stack="exact"):
    group = GroupStack("group_1", plan_for(kind, stack))
    for run in runs:
        assert group.add(run, {"ZEN_PNT": 20.0 + len(group.obs_ids), "MUONEFF": np.nan}) == ""
    return group


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**32 - 1), n_runs=st.integers(1, 5), containment=st.booleans())
def test_a_spectrum_predicts_the_sum_of_its_runs(seed, n_runs, containment):
    generator = np.random.default_rng(seed)
    runs = [run_of(generator, number, containment) for number in range(n_runs)]
    group = stacked(runs)
    models = reference_models(group.plan)
    for name, npred in zip(models, predictions(group.dataset, list(models.values())), strict=True):
        if name.startswith("index"):
            truth = expected(runs, float(name.removeprefix("index ")))
            assert_allclose(npred.data.ravel(), truth, rtol=1e-6)
    for deviation in group.summary()["deviation"].values():
        assert abs(deviation["largest"]) < 1e-6
        assert deviation["sigma"] < 1e-5


def test_as_gammapy_stacks_it_does_not_and_that_is_told():
    generator = np.random.default_rng(1)
    runs = [run_of(generator, number) for number in range(5)]
    group = stacked(runs, stack="gammapy")
    (npred,) = predictions(group.dataset, [reference_models(group.plan)["index 2"]])
    truth = expected(runs, 2)
    relative = npred.data.ravel()[truth > 0] / truth[truth > 0] - 1
    told = group.summary()["deviation"]["index 2"]
    assert abs(told["largest"]) == pytest.approx(np.abs(relative).max(), rel=1e-2)
    assert abs(told["largest"]) > 0.05


def test_a_fitted_spectrum_is_looked_at_in_the_same_way():
    runs = [run_of(np.random.default_rng(1), number) for number in range(5)]
    for stack in ("exact", "gammapy"):
        group = stacked(runs, stack=stack)
        model = reference_models(group.plan)["index 4"]
        told = group.summary()["deviation"]["index 4"]
        assert fitted_deviation(group.dataset, runs, model) == told


def test_runs_stay_as_they_are():
    runs = [run_of(np.random.default_rng(2), number) for number in range(2)]
    weights = [run.edisp.exposure_map.data.copy() for run in runs]
    group = stacked(runs)
    for run, before in zip(group.runs, weights, strict=True):
        assert_array_equal(run.edisp.exposure_map.data, before)
        assert run.models is None


def test_a_stack_says_what_it_is_made_of():
    runs = [run_of(np.random.default_rng(3), number) for number in range(3)]
    group = stacked(runs)
    content = group.summary()
    used = np.sum([run.mask_safe.data.ravel() for run in runs], axis=0)
    assert_allclose(content["livetimes"], used * SECONDS / 3600, atol=1e-4)
    assert content["zen_pnt"] == [20, 22]
    assert "muoneff" not in content
    table = group.dataset.meta_table
    assert np.asarray(table["OBS_ID"]).ravel().tolist() == [0, 1, 2]
    assert np.asarray(table["ZEN_PNT"]).ravel().tolist() == [20, 21, 22]
    assert_allclose(np.asarray(table["LIVETIME_ENERGY"]).ravel(), used * SECONDS)


def map_of(generator, number, psf=0.1):
    """A run on maps, whose responses are the same in all directions."""
    plan = plan_for("3d")
    dataset = empty_map_dataset(plan.config, TARGET, f"run_{number}")
    exposure = 10 ** generator.uniform(6, 7, (N_TRUE, 1, 1))
    dataset.exposure.data[...] = exposure
    dataset.exposure.meta["livetime"] = SECONDS * u.s
    dataset.edisp.edisp_map.data[...] = kernels(generator).T[:, :, None, None]
    dataset.edisp.exposure_map.data[...] = exposure[:, None]
    true = dataset.exposure.geom.axes["energy_true"]
    gauss = PSFMap.from_gauss(true, sigma=psf * u.deg, geom=dataset.psf.psf_map.geom.to_image())
    weights = Map.from_geom(dataset.psf.exposure_map.geom, unit="m2 s")
    weights.data[...] = exposure[:, None]
    dataset.psf = PSFMap(gauss.psf_map.interp_to_geom(dataset.psf.psf_map.geom), weights)
    dataset.background.data[...] = 1.0
    dataset.counts.data = generator.poisson(1, dataset.counts.data.shape).astype(float)
    threshold = generator.integers(0, 4)
    dataset.mask_safe.data[...] = (np.arange(N_ENERGIES) >= threshold)[:, None, None]
    dataset.gti = one_interval(number)
    dataset.meta_table = Table({"OBS_ID": [[number]]})
    assert isinstance(dataset, MapDataset)
    return dataset


@pytest.mark.parametrize("seed", range(4))
def test_maps_with_one_psf_predict_the_sum_of_their_runs(seed):
    """Thresholds, exposures and dispersions differ; single precision is what maps have."""
    generator = np.random.default_rng(seed)
    group = stacked([map_of(generator, number) for number in range(3)], "3d")
    for deviation in group.summary()["deviation"].values():
        assert abs(deviation["largest"]) < 1e-5
        assert deviation["sigma"] < 1e-3


def test_what_is_left_where_psfs_differ_is_told():
    """Gammapy has one PSF at each true energy, whatever the thresholds."""
    generator = np.random.default_rng(5)
    runs = [map_of(generator, number, psf) for number, psf in enumerate((0.05, 0.2))]
    assert runs[0].mask_safe.data.sum() != runs[1].mask_safe.data.sum()
    told = stacked(runs, "3d").summary()["deviation"]["index 2"]
    assert abs(told["largest"]) < 0.02
    assert told["sigma"] > 0.1
    as_gammapy = stacked(runs, "3d", "gammapy").summary()["deviation"]["index 2"]
    assert abs(as_gammapy["largest"]) > 0.1


class TestExpectedOff:
    def test_a_curve_with_one_peak_stays(self):
        counts = [1, 4, 9, 9, 3, 2, 0, 0]
        assert_allclose(expected_off(counts), counts)

    @given(st.lists(st.integers(0, 50), min_size=1, max_size=12))
    def test_it_rises_then_falls_and_has_the_same_sum(self, counts):
        found = expected_off(counts)
        top = int(np.argmax(found))
        assert (np.diff(found[: top + 1]) >= -1e-9).all()
        assert (np.diff(found[top:]) <= 1e-9).all()
        assert found.sum() == pytest.approx(sum(counts))

    def test_a_bin_is_not_judged_by_its_own_fluctuation(self):
        """An empty bin between full ones is used, a full one between empty ones is not."""
        assert (expected_off([40, 20, 5, 0, 9, 4])[3] > 4).all()
        assert expected_off([40, 20, 1, 0, 6, 0, 0])[4] < 5
