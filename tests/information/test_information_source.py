"""The source model, the bins, and the PSF in rings: closed forms and numerical derivatives."""

import numpy as np
import pytest
from astropy import units as u

from obscluster.exceptions import RequestError
from obscluster.gadf.axis import Axis
from obscluster.gadf.response import IRF
from obscluster.information.counts import disc_fractions, dispersion_kernel, make_binning
from obscluster.information.loss import information_loss
from obscluster.information.scores import Scores
from obscluster.information.source import (
    CRAB,
    ExpCutoffPowerLaw,
    LogParabola,
    PowerLaw,
    Source,
    make_source,
)

ENERGY = np.geomspace(0.1, 50, 30)


@pytest.mark.parametrize(
    ("spectrum", "name"),
    [
        (PowerLaw, "index"),
        (ExpCutoffPowerLaw, "index"),
        (ExpCutoffPowerLaw, "lambda_"),
        (LogParabola, "index"),
        (LogParabola, "curvature"),
        (LogParabola, "amplitude"),
    ],
)
def test_gradients_are_those_of_the_flux(spectrum, name):
    values = {"amplitude": 2e-12, "index": 2.3, "reference": 1.7}
    values |= {"lambda_": 0.2} if spectrum is ExpCutoffPowerLaw else {}
    values |= {"curvature": 0.15} if spectrum is LogParabola else {}
    step = 1e-5 * values[name]
    up, down = (spectrum(**values | {name: values[name] + s}) for s in (step, -step))
    numeric = (np.log(up.flux(ENERGY)) - np.log(down.flux(ENERGY))) / (2 * step)
    if name == "amplitude":
        numeric *= values[name]
    np.testing.assert_allclose(
        spectrum(**values).log_gradient(name, ENERGY), numeric, rtol=1e-6, atol=1e-9
    )


def test_amplitude_is_a_flux_or_a_part_of_the_crab():
    assert make_source("2e-13 cm-2 s-1 TeV-1").spectrum.amplitude == 2e-13
    assert make_source(2e-9 * u.Unit("m-2 s-1 TeV-1")).spectrum.amplitude == pytest.approx(2e-13)
    for text in ("0.6 % Crab", "0.6%crab", "0.006 Crab", 0.006, 0.6 * u.percent):
        assert make_source(text).spectrum.amplitude == 2.07e-13
    at_2_tev = make_source("10 % Crab", reference="2 TeV").spectrum
    assert at_2_tev.flux(2.0) == pytest.approx(0.1 * CRAB.flux(2.0))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"amplitude": "lots"}, "amplitude lots: expected a flux"),
        ({"amplitude": -1}, "amplitude -1: expected a flux above 0"),
        ({"amplitude": "1 TeV"}, "amplitude 1 TeV"),
        ({"model": "powerlaw"}, "did you mean 'power-law'"),
        ({"model": "cutoff-power-law"}, "a cutoff-power-law needs cutoff"),
        ({"cutoff": "10 TeV"}, "a power-law has no cutoff"),
        ({"model": "cutoff-power-law", "cutoff": "10 deg"}, "cutoff 10 deg: expected an energy"),
        ({"model": "log-parabola"}, "needs curvature"),
        ({"parameters": ("amplitude", "lambda_")}, "unknown parameter 'lambda_'"),
        ({"parameters": ()}, "name each parameter of interest once"),
        ({"parameters": ("index", "index")}, "name each parameter of interest once"),
        ({"parameters": "size"}, "give a size above 0"),
        ({"size": "wide"}, "size wide: not an angle"),
        ({"size": "-1 deg"}, "expected 0 to 10 deg"),
        ({"index": "steep"}, "index 'steep': expected a number"),
    ],
)
def test_what_is_no_source_is_refused(options, message):
    with pytest.raises(RequestError, match=message):
        make_source(**options)


def test_models_and_parameters():
    cutoff = make_source(
        1.0, model="cutoff-power-law", cutoff="20 TeV", parameters=("index", "lambda_")
    )
    assert cutoff.spectrum.lambda_ == pytest.approx(0.05)
    assert cutoff.parameters == ("index", "lambda_")
    parabola = make_source(1.0, model="log-parabola", curvature=0.2, size="6 arcmin")
    assert parabola.spectrum.curvature == 0.2
    assert parabola.size == pytest.approx(0.1)
    with pytest.raises(RequestError, match="unknown parameter"):
        PowerLaw(1.0).log_gradient("curvature", ENERGY)


def test_bins():
    binning = make_binning(["0.1 TeV", "10 TeV"], [0, 0.1, 0.3] * u.deg, bins_per_decade=5)
    assert (binning.n_energies, binning.n_rings, binning.n_bins) == (10, 2, 20)
    np.testing.assert_allclose(binning.energies[[0, 5, 10]], [0.1, 1, 10])
    # A small disc of radius r has the solid angle pi r^2.
    np.testing.assert_allclose(
        binning.ring_solid_angles.sum(), np.pi * np.radians(0.3) ** 2, rtol=1e-4
    )
    assert binning.energy_only.n_bins == 10
    default = make_binning()
    assert 100 <= default.n_bins <= 200
    assert make_binning([0.1, 1, 10, 100] * u.TeV).n_energies == 3
    for bad in (["1 TeV"], ["2 TeV", "1 TeV"], ["1 deg", "2 deg"], 5, ["0 TeV", "1 TeV"]):
        with pytest.raises(RequestError, match="energy_edges"):
            make_binning(bad)
    for bad in (["0 deg"], ["0 TeV", "1 TeV"], ["-1 deg", "1 deg"]):
        with pytest.raises(RequestError, match="ring_edges"):
            make_binning(ring_edges=bad)
    with pytest.raises(RequestError, match="bins_per_decade"):
        make_binning(["1 TeV", "2 TeV"], bins_per_decade=0)


def energy_axis(n=5):
    return Axis.from_edges("energy_true", np.geomspace(0.1, 100, n + 1), "log")


def offset_axis():
    return Axis.from_nodes("offset", [0.0, 1.0, 2.0])


def gauss_psf(sigma, n=5):
    """A psf_3gauss that is a single Gaussian."""
    shape = (n, 3)
    arrays = {
        "SCALE": np.full(shape, 1 / (2 * sigma**2)),
        "SIGMA_1": np.full(shape, sigma),
        "AMPL_2": np.zeros(shape),
        "SIGMA_2": np.zeros(shape),
        "AMPL_3": np.zeros(shape),
        "SIGMA_3": np.zeros(shape),
    }
    axes = {"energy_true": energy_axis(n), "offset": offset_axis()}
    return IRF("psf_3gauss", axes, arrays, u.sr**-1)


def gauss_table(sigma, n=5, scale=1.0):
    """The same as a table whose integral is ``scale``."""
    rad = Axis.from_edges("rad", np.linspace(0, 1.0, 401))
    inside = -np.expm1(-0.5 * (rad.edges / sigma) ** 2)
    density = scale * np.diff(inside) / (np.pi * np.diff(np.radians(rad.edges) ** 2))
    data = np.broadcast_to(density, (n, 3, 400))
    axes = {"energy_true": energy_axis(n), "offset": offset_axis(), "rad": rad}
    return IRF("psf_table", axes, {"RPSF": data}, u.sr**-1)


RADII = np.array([0.0, 0.03, 0.1, 0.2, 0.5])


@pytest.mark.parametrize("make", [gauss_psf, gauss_table])
@pytest.mark.parametrize("size", [0.0, 0.002, 0.05, 0.2])
def test_a_gaussian_psf_and_a_gaussian_source_are_a_wider_gaussian(make, size):
    inside, derivative = disc_fractions(make(0.08), np.array([0.5, 5.0]), 0.7, RADII, size)
    variance = 0.08**2 + size**2
    expected = -np.expm1(-0.5 * RADII**2 / variance)
    np.testing.assert_allclose(inside, np.tile(expected, (2, 1)), atol=2e-3)
    slope = -(RADII**2) / variance**2 * size * np.exp(-0.5 * RADII**2 / variance)
    np.testing.assert_allclose(
        derivative, np.tile(slope, (2, 1)), atol=0.02 * (1 + abs(slope).max())
    )


@pytest.mark.parametrize("ratio", [1.2, 1.5, 2.0, 3.0])
@pytest.mark.parametrize("make", [gauss_psf, gauss_table])
def test_closed_form_of_two_psfs_in_rings(make, ratio):
    # Background-limited and all in narrow rings: DESIGN.md, 1 - J_stacked / J.
    edges = np.linspace(0.0, 0.5, 101)
    inside = [
        disc_fractions(make(sigma), np.array([1.0]), 0.5, edges)[0][0]
        for sigma in (0.03, 0.03 * ratio)
    ]
    s = np.diff(inside, axis=1)
    scores = Scores([1, 2], s + 1e6 * np.diff(edges**2), s[:, :, np.newaxis])
    expected = 0.5 - 2 * ratio**2 / (1 + ratio**2) ** 2
    assert information_loss(scores, [1, 1]) == pytest.approx(expected, rel=0.01)


def test_the_size_derivative_is_that_of_the_fraction():
    energies = np.array([1.0])
    inside = [
        disc_fractions(gauss_table(0.08), energies, 0.0, RADII, size)
        for size in (0.098, 0.1, 0.102)
    ]
    numeric = (inside[2][0] - inside[0][0]) / 4e-3
    np.testing.assert_allclose(inside[1][1], numeric, rtol=3e-3, atol=1e-3)


def test_a_psf_table_is_normalised_and_an_empty_one_holds_nothing():
    energies = np.array([1.0])
    full, _ = disc_fractions(gauss_table(0.08), energies, 0.5, RADII)
    part, _ = disc_fractions(gauss_table(0.08, scale=0.4), energies, 0.5, RADII)
    np.testing.assert_allclose(part, full)
    empty, _ = disc_fractions(gauss_table(0.08, scale=0.0), energies, 0.5, RADII)
    assert (empty == 0).all()


def dispersion(factor=1.0):
    """An edisp_2d of a box in migration from 0.8 to 1.2, times a factor that should not matter."""
    migra = Axis.from_edges("migra", np.linspace(0.2, 2.2, 201))
    box = ((migra.center > 0.8) & (migra.center < 1.2)).astype(float) * factor
    axes = {"energy_true": energy_axis(), "migra": migra, "offset": offset_axis()}
    data = np.broadcast_to(box[:, np.newaxis], (5, 200, 3)).copy()
    return IRF("edisp_2d", axes, {"MATRIX": data}, u.one)


def test_the_dispersion_kernel_holds_each_event_once():
    energies, edges = np.array([1.0, 2.0]), np.array([0.5, 0.9, 1.0, 1.1, 4.0])
    kernel = dispersion_kernel(dispersion(3.0), energies, edges, 0.3)
    np.testing.assert_allclose(kernel.sum(axis=1), 1.0)
    np.testing.assert_allclose(kernel[0], [0.25, 0.25, 0.25, 0.25], atol=1e-12)
    empty = dispersion()
    empty.arrays["MATRIX"][0] = 0.0
    # Next to an empty energy bin the other one counts alone; in the middle of it there is nothing.
    between = np.sqrt(empty.axes["energy_true"].center[0] * empty.axes["energy_true"].center[1])
    kernel = dispersion_kernel(empty, np.array([0.1, between]), np.array([0.01, 1.0]), 0.3)
    np.testing.assert_allclose(kernel[:, 0], [0.0, 1.0])


def test_a_source_is_checked_wherever_it_comes_from():
    with pytest.raises(RequestError, match="unknown parameter 'size_'"):
        Source(PowerLaw(1e-12), 0.1, ("size_",))
