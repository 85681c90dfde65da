"""Continuous features of the response, against closed forms at the binning of instruments."""

import astropy.units as u
import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.stats import norm

from evaluation import evaluate
from obscluster.archive.store import DataStore
from obscluster.features.area import background_rate
from obscluster.features.base import NotComputableError
from obscluster.features.psf import containment_radius
from obscluster.features.slices import quantile
from obscluster.gadf.axis import Axis
from obscluster.gadf.response import IRF
from obscluster.simulate import plan_runs, response, simulate

ENERGY = Axis.from_edges("energy_true", np.geomspace(0.01, 100, 97), "log")
OFFSET = Axis.from_nodes("offset", [0.0, 0.5, 1.0, 1.5, 2.0, 2.5])
# As H.E.S.S., VERITAS and CTA have them: bins in degrees.
RAD_BINS = {
    "like H.E.S.S.": np.sqrt(np.concatenate([np.arange(0, 100) / 2000, np.arange(5, 46) / 100])),
    "even, 0.01 deg": np.linspace(0, 0.7, 71),
    "even, 0.005 deg": np.linspace(0, 0.7, 141),
}


def psf_table(containment, edges):
    """PSF table of bins that hold what a containment function says."""
    rad = Axis.from_edges("rad", edges)
    areas = np.pi * np.diff(edges**2)
    density = np.diff(containment(edges)) / areas
    table = np.broadcast_to(density, (96, 6, len(density)))
    return IRF("psf_table", {"energy_true": ENERGY, "offset": OFFSET, "rad": rad},
               {"RPSF": table}, u.deg**-2)  # fmt: skip


def constant(value):
    return np.full((96, 6), value)


@pytest.mark.parametrize("edges", RAD_BINS.values(), ids=RAD_BINS)
@pytest.mark.parametrize("fraction", [0.5, 0.68, 0.95])
class TestContainment:
    @pytest.mark.parametrize("sigma", [0.04, 0.07, 0.12])
    def test_gaussian(self, sigma, fraction, edges):
        psf = psf_table(lambda r: -np.expm1(-0.5 * (r / sigma) ** 2), edges)
        truth = sigma * np.sqrt(-2 * np.log1p(-fraction))
        assert_allclose(containment_radius(psf, 1.0, 0.7, fraction), truth, rtol=1e-3)

    @pytest.mark.parametrize("gamma", [1.8, 2.5])
    def test_king(self, gamma, fraction, edges):
        sigma = 0.05
        base = 1 / (2 * gamma * sigma**2)
        psf = psf_table(lambda r: 1 - (1 + base * r**2) ** (1 - gamma), edges)
        truth = np.sqrt(((1 - fraction) ** (1 / (1 - gamma)) - 1) / base)
        if truth < edges[-1]:
            assert_allclose(containment_radius(psf, 1.0, 0.7, fraction), truth, rtol=1e-3)


@pytest.mark.parametrize("fraction", [0.39, 0.68, 0.95])
def test_parametric_profiles_are_solved_to_the_digit(fraction):
    axes = {"energy_true": ENERGY, "offset": OFFSET}
    zero = constant(0.0)
    gauss = {"SCALE": constant(1.0), "SIGMA_1": constant(0.06), "AMPL_2": zero, "SIGMA_2": zero}
    gauss |= {"AMPL_3": zero, "SIGMA_3": zero}
    psf = IRF("psf_3gauss", axes, gauss, u.sr**-1)
    truth = 0.06 * np.sqrt(-2 * np.log1p(-fraction))
    assert_allclose(containment_radius(psf, 1.0, 0.7, fraction), truth, rtol=1e-7)
    king = {"GAMMA": constant(2.0), "SIGMA": constant(0.05)}
    psf = IRF("psf_king", axes, king, u.sr**-1)
    truth = 0.05 * np.sqrt(4 * (1 / (1 - fraction) - 1))
    assert_allclose(containment_radius(psf, 1.0, 0.7, fraction), truth, rtol=1e-7)


def test_a_psf_that_never_reaches_the_fraction_has_no_radius():
    psf = psf_table(lambda r: -np.expm1(-0.5 * (r / 0.5) ** 2), np.linspace(0, 0.7, 71))
    with pytest.raises(NotComputableError, match=r"never holds 95 %.*62\.5 % at most"):
        evaluate("psf-r95", psf)


# As CTA, H.E.S.S. and MAGIC, LST have them, and half as many.
MIGRA_BINS = {
    "300 even": np.linspace(0.0, 3.0, 301),
    "160 even": np.linspace(0.2, 5.0, 161),
    "80 even": np.linspace(0.0, 3.0, 81),
    "30 logarithmic": np.geomspace(0.2, 5.0, 31),
}


@pytest.mark.parametrize("edges", MIGRA_BINS.values(), ids=MIGRA_BINS)
@pytest.mark.parametrize("sigma", [0.06, 0.1, 0.2, 0.3])
@pytest.mark.parametrize("bias", [-0.05, 0.0, 0.013, 0.1])
def test_log_normal_dispersion(edges, sigma, bias):
    """Median and half the central width."""
    n_bins = len(edges) - 1
    center = np.log1p(bias)
    cumulative = norm.cdf((np.log(np.clip(edges, 1e-12, None)) - center) / sigma)
    density = np.diff(cumulative) / np.diff(edges)
    migra = Axis.from_edges("migra", edges)
    matrix = np.broadcast_to(density[None, :, None], (96, n_bins, 6))
    axes = {"energy_true": ENERGY, "migra": migra, "offset": OFFSET}
    edisp = IRF("edisp_2d", axes, {"MATRIX": matrix}, u.one)
    width = np.exp(center) * np.sinh(norm.ppf(0.84) * sigma)
    assert_allclose(evaluate("edisp-bias50", edisp)[0] + 1, 1 + bias, rtol=1e-3)
    assert_allclose(evaluate("edisp-res68", edisp)[0], width, rtol=1e-3)


class TestArea:
    def irf(self, area):
        axes = {"energy_true": ENERGY, "offset": OFFSET}
        return IRF("aeff_2d", axes, {"EFFAREA": np.repeat(area[:, None], 6, axis=1)}, u.m**2)

    def test_area_is_interpolated_and_converted(self):
        irf = self.irf(1e5 * ENERGY.center**0.5)
        assert_allclose(evaluate("aeff", irf, 3.0)[0], 1e5 * 3.0**0.5, rtol=1e-3)
        in_cm2 = IRF(irf.hdu_class, irf.axes, irf.arrays, u.cm**2)
        assert_allclose(evaluate("aeff", in_cm2, 3.0)[0], 1e1 * 3.0**0.5, rtol=1e-3)

    def test_threshold_of_a_logistic_area(self):
        x = np.log(ENERGY.center / 0.3) / 0.2
        irf = self.irf(1e5 / (1 + np.exp(-x)))
        truth = 0.3 * np.exp(0.2 * np.log(0.1 / 0.9))
        assert_allclose(evaluate("aeff-threshold", irf)[0], truth, rtol=5e-3)

    def test_an_area_without_threshold_has_none(self):
        with pytest.raises(NotComputableError, match="lowest energy"):
            evaluate("aeff-threshold", self.irf(np.ones(96)))
        with pytest.raises(NotComputableError, match="is zero"):
            evaluate("aeff-threshold", self.irf(np.zeros(96)))


class TestBackground:
    energy = Axis.from_edges("energy", np.geomspace(0.1, 100, 31), "log")

    @pytest.mark.parametrize("index", [1.0, 2.7, 3.5])
    @pytest.mark.parametrize("threshold", [0.1, 0.5, 7.0])
    def test_power_law(self, index, threshold):
        rate = 3.0 * self.energy.center**-index
        axes = {"energy": self.energy, "offset": OFFSET}
        bkg = IRF("bkg_2d", axes, {"BKG": np.repeat(rate[:, None], 6, axis=1)},
                  u.Unit("s-1 TeV-1 sr-1"))  # fmt: skip
        if index == 1.0:
            truth = 3.0 * np.log(100 / threshold)
        else:
            truth = 3.0 * (threshold ** (1 - index) - 100 ** (1 - index)) / (index - 1)
        assert_allclose(background_rate(bkg, threshold, 0.7), truth, rtol=1e-6)

    def test_a_gradient_averages_out_on_the_ring(self):
        fov = Axis.from_edges("fov_lon", np.linspace(-3, 3, 31))
        lat = Axis.from_edges("fov_lat", np.linspace(-3, 3, 31))
        tilt = 1 + 0.2 * fov.center[None, :, None] - 0.1 * lat.center[None, None, :]
        values = self.energy.center[:, None, None] ** -2.7 * tilt
        axes = {"energy": self.energy, "fov_lon": fov, "fov_lat": lat}
        bkg = IRF("bkg_3d", axes, {"BKG": values}, u.Unit("s-1 MeV-1 sr-1"))
        truth = 1e6 * (1 - 100**-1.7) / 1.7
        assert_allclose(background_rate(bkg, 1.0, 1.3), truth, rtol=1e-6)
        with pytest.raises(NotComputableError, match=r"outside the field.*bkg_3d: 3\.50 deg"):
            background_rate(bkg, 1.0, 3.5)


class TestQuantile:
    def test_is_nan_where_never_reached(self):
        assert np.isnan(quantile(np.arange(3.0), np.array([0, 0.2, 0.4]), 0.5))

    def test_on_a_plateau_it_is_where_it_begins(self):
        x, cumulative = np.arange(5.0), np.array([0, 0.5, 0.5, 0.5, 1.0])
        assert quantile(x, cumulative, 0.5) == 1.0

    def test_of_a_straight_line_is_exact(self):
        x = np.linspace(0, 1, 11)
        assert_allclose([quantile(x, x, v) for v in (0.05, 0.333, 0.5)], [0.05, 0.333, 0.5])


class TestTruthOfSimulatedArchives:
    """What was injected comes back from the files."""

    @pytest.mark.parametrize("psf", ["psf_table", "psf_3gauss"])
    def test_containment_radii_and_dispersion(self, psf, tmp_path):
        from obscluster.features.table import get_features

        archive = simulate(tmp_path / "a", n_obs=6, psf=psf, events=False, compress=False)
        names = ["psf-r68@1TeV", "psf-r95@1TeV", "edisp-bias50@1TeV", "edisp-res68@1TeV"]
        observations = DataStore.from_dir(archive).get_observations()
        table = get_features(observations, names, fixed_offset="0.5 deg")
        runs, _ = plan_runs(n_obs=6)
        for row, run in zip(table, runs, strict=True):
            truth = response(
                float(run["ZEN_PNT"].value), float(run["MUONEFF"]), int(run["EPOCH"]),
                int(run["N_TELS"]),
            )  # fmt: skip
            assert_allclose(row["psf-r68@1TeV"].value, truth.psf_r68(1.0, 0.5), rtol=5e-3)
            assert_allclose(row["psf-r95@1TeV"].value, truth.psf_r95(1.0, 0.5), rtol=5e-3)
            median = 1 + truth.edisp_bias(1.0)
            sigma = truth.edisp_sigma(1.0, 0.5)
            assert_allclose(row["edisp-bias50@1TeV"].value + 1, median, rtol=2e-3)
            width = median * np.sinh(norm.ppf(0.84) * sigma)
            assert_allclose(row["edisp-res68@1TeV"].value, width, rtol=1e-2)
