"""The fits of benchmarks/pseudo_experiments.py, and a small version of what it measures."""

import importlib.util
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from iminuit import Minuit

from obscluster import DataStore
from obscluster.information.loss import information_loss
from obscluster.information.scores import get_scores
from obscluster.information.source import make_source
from obscluster.simulate import simulate

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "pseudo_experiments.py"


def load():
    spec = importlib.util.spec_from_file_location(SCRIPT.stem, SCRIPT)
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look their module up.
    sys.modules[SCRIPT.stem] = module
    spec.loader.exec_module(module)
    return module


pe = load()
CASE = replace(pe.SIMULATED[1], n_groups=(2, 1))


@pytest.fixture(scope="module")
def observations(tmp_path_factory):
    """Seven runs on PKS 2155-304, of different mirrors."""
    directory = tmp_path_factory.mktemp("pseudo") / "archive"
    options = pe.SIMULATED_ARCHIVE | {"n_obs": 40}
    data_store = DataStore.from_dir(simulate(directory, events=False, **options))
    table = data_store.obs_table
    rows = np.flatnonzero(np.asarray(table["OBJECT"]) == "PKS 2155-304")
    return data_store.get_observations(np.asarray(table["OBS_ID"])[rows])


@pytest.fixture(scope="module")
def counts(observations):
    return pe.expect(observations, make_source(CASE.flux, index=2.7), CASE.position)


def test_slices_give_the_counts_of_any_spectrum(observations, counts):
    scores, runs = counts
    np.testing.assert_allclose(runs.mu, scores.mu, rtol=1e-12)
    slope = -(runs.slices * runs.log_energies).sum(axis=-1)
    np.testing.assert_allclose(slope, scores.d[..., 1], rtol=1e-9, atol=1e-12)
    amplitude = make_source(CASE.flux).spectrum.amplitude * 3 * u.Unit("cm-2 s-1 TeV-1")
    other = get_scores(observations, make_source(amplitude, index=2.2), CASE.position)
    folded = (runs.slices * 3 * np.exp(0.5 * runs.log_energies)).sum(axis=-1) + runs.background
    np.testing.assert_allclose(folded, other.mu, rtol=1e-12)
    labels = np.arange(len(scores)) % 2
    np.testing.assert_allclose(runs.stack(labels).mu[1], scores.mu[labels == 1].sum(axis=0))


def log_likelihood(model, n, x, y):
    """Minus the logarithm, written out anew."""
    weights = np.exp(x - y * model.log_energies)
    mu = (model.slices * weights).sum(axis=-1) + model.background
    seen = mu > 0
    change = n[seen] * np.log(mu[seen] / model.mu[seen])
    return float((mu - model.mu)[seen].sum() - change.sum())


@pytest.mark.parametrize("factor", [100, 1e4])
def test_fits_are_those_of_iminuit(counts, factor):
    runs = counts[1].scaled(factor)
    drawn = np.random.default_rng(0).poisson(runs.mu, (3, *runs.mu.shape))
    for labels in (np.arange(len(drawn[0])), np.ones(len(drawn[0]), dtype=int)):
        model = runs.stack(labels)
        members = np.equal.outer(np.unique(labels), labels).astype(float)
        summed = np.einsum("gi,eik->egk", members, drawn)
        theta, done = pe.Fit(model).run(summed)
        assert done.all()
        for observed, found in zip(summed, theta, strict=True):
            minuit = Minuit(partial(log_likelihood, model, observed), x=0.1, y=0.1)
            minuit.errordef = Minuit.LIKELIHOOD
            minuit.strategy, minuit.tol = 2, 1e-4
            minuit.migrad()
            assert minuit.valid
            np.testing.assert_allclose(found, minuit.values, atol=1e-3 * min(minuit.errors))


def test_experiments_without_signal_have_no_maximum(counts):
    runs = counts[1]
    nothing = np.zeros((1, *runs.mu.shape))
    theta, done = pe.Fit(runs).run(nothing)
    assert not done[0]
    assert theta[0, 0] < -5


def test_growth_and_its_error():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 2000))
    y = x + 0.5 * rng.normal(size=x.shape)
    truth = np.sqrt(1.25) - 1
    for measure in (pe.growth, pe.growth_by_differences, pe.growth_of_widths):
        found, errors = np.array([measure(*pair) for pair in zip(x, y, strict=True)]).T
        assert found.mean() == pytest.approx(truth, abs=4 * found.std() / np.sqrt(300) + 1e-3)
        # Widths of parts have few experiments, so their error is a rough one.
        assert errors.mean() == pytest.approx(found.std(), rel=0.2)


def test_measured_growth_is_the_predicted_one(counts, tmp_path):
    scores, runs = counts
    result = pe.compare(CASE, scores, runs, n_experiments=4000)
    assert information_loss(scores, np.ones(len(scores), dtype=int)) > 0.1
    for row in result.rows:
        assert abs(row.sigmas) < 4
        off = row.difference - row.predicted
        assert abs(off) < max(4 * row.difference_error, 0.1 * row.predicted)
    assert "4,000 experiments" in str(result)
    again = pe.compare(CASE, scores, runs, n_experiments=600)
    assert str(again) == str(pe.compare(CASE, scores, runs, n_experiments=600))
    few = pe.compare(CASE, scores, runs, n_experiments=200, factor=100)
    assert few.without < 0.5
    pe.plot([result], tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 10_000
