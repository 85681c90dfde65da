"""Information loss: closed forms, exact zeros, and what holds for any counts."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from obscluster.exceptions import RequestError
from obscluster.information.loss import (
    error_inflation,
    fisher_matrix,
    information_loss,
    loss_summary,
)
from obscluster.information.scores import Scores


def random_scores(seed, n_obs=6, n_bins=5, n_params=2, with_empty=True):
    """Counts and derivatives that have nothing in common from run to run."""
    rng = np.random.default_rng(seed)
    mu = rng.uniform(0.1, 5.0, (n_obs, n_bins))
    d = rng.normal(size=(n_obs, n_bins, n_params)) * rng.uniform(0.1, 3.0, (n_obs, 1, 1))
    if with_empty:
        empty = rng.random((n_obs, n_bins)) < 0.2
        mu[empty], d[empty] = 0.0, 0.0
    b = mu * rng.uniform(0.0, 0.9, mu.shape)
    return Scores(np.arange(n_obs) + 10, mu, d, b, livetimes=np.arange(n_obs) + 1.0)


def naive_information(scores, labels, fit_background=False):
    """The definition, with loops; a normalisation is profiled by inverting the full matrix."""
    total = 0.0
    for label in np.unique(labels):
        rows = labels == label
        mu, d, b = scores.mu[rows].sum(0), scores.d[rows].sum(0), scores.b[rows].sum(0)
        full = np.zeros((d.shape[1] + 1,) * 2)
        for k in range(len(mu)):
            if mu[k] > 0:
                gradient = np.append(d[k], b[k])
                full += np.outer(gradient, gradient) / mu[k]
        if fit_background:
            total = total + np.linalg.inv(np.linalg.inv(full)[:-1, :-1])
        else:
            total = total + full[:-1, :-1]
    return total


@pytest.mark.parametrize("fit_background", [False, True])
@pytest.mark.parametrize("labels", [[1] * 6, [1, 1, 2, 2, 3, 3], [3, 1, 3, 7, 1, 1]])
def test_fisher_matrix_is_the_definition(labels, fit_background):
    scores = random_scores(3)
    np.testing.assert_allclose(
        fisher_matrix(scores, labels, fit_background),
        naive_information(scores, np.array(labels), fit_background),
        rtol=1e-9,
    )


@pytest.mark.parametrize("ratio", [1.2, 1.5, 2.0, 3.0])
def test_closed_form_of_two_gaussian_psfs(ratio):
    # Background-limited, known position, equal exposures, amplitude alone.
    edges = np.linspace(0.0, 15.0, 2001)
    content = [np.diff(-np.exp(-0.5 * (edges / sigma) ** 2)) for sigma in (1.0, ratio)]
    background = 1e6 * np.diff(edges**2)
    s = np.array(content)
    scores = Scores([1, 2], s + background, s[:, :, np.newaxis])
    expected = 0.5 - 2 * ratio**2 / (1 + ratio**2) ** 2
    assert information_loss(scores, [1, 1]) == pytest.approx(expected, rel=1e-3)
    inflation = error_inflation(scores, [1, 1])["p0"]
    assert inflation == pytest.approx((1 - expected) ** -0.5 - 1, rel=1e-3)


def test_identical_responses_lose_nothing():
    one = random_scores(1, n_obs=1)
    exposure = np.array([0.1, 1.0, 1.0, 7.0, 1e-6, 1e6])[:, np.newaxis]
    scores = Scores(
        range(6), exposure * one.mu, exposure[:, :, np.newaxis] * one.d, exposure * one.b
    )
    for labels in ([1] * 6, [1, 2, 1, 2, 3, 3]):
        for fit_background in (False, True):
            assert information_loss(scores, labels, fit_background) <= 1e-12
            assert max(error_inflation(scores, labels, fit_background).values()) <= 1e-10


def test_runs_apart_lose_nothing_and_a_bin_without_the_threshold_is_that_of_the_others():
    scores = random_scores(2)
    assert information_loss(scores, np.arange(6)) == 0.0
    # A run that is not safe in a bin does not dilute the others there.
    mu, d = np.array([[1.0, 4.0], [0.0, 4.0]]), np.array([[[1.0], [2.0]], [[0.0], [2.0]]])
    assert information_loss(Scores([1, 2], mu, d), [1, 1]) <= 1e-12


partitions = st.lists(st.integers(1, 4), min_size=6, max_size=6)


@settings(max_examples=150)
@given(seed=st.integers(0, 10**6), labels=partitions, pair=st.tuples(*[st.integers(1, 4)] * 2))
def test_loss_is_not_negative_and_never_falls_when_groups_are_merged(seed, labels, pair):
    scores, labels = random_scores(seed, n_bins=8), np.array(labels)
    before = information_loss(scores, labels)
    after = information_loss(scores, np.where(labels == pair[0], pair[1], labels))
    assert 0 <= before <= after + 1e-12 <= 1 + 1e-12
    for name, inflation in error_inflation(scores, labels).items():
        assert inflation >= 0, name


@settings(max_examples=100)
@given(seed=st.integers(0, 10**6), labels=partitions)
def test_with_fitted_backgrounds_loss_is_not_negative(seed, labels):
    scores = random_scores(seed, n_bins=8, with_empty=False)
    # Unclipped: no grouping knows more than one normalisation for runs kept apart.
    reference = _common_normalisation(scores)
    groups = naive_information(scores, np.array(labels), True)
    assert np.linalg.eigvalsh(reference - groups)[0] > -1e-8 * np.trace(reference)
    expected = 1 - np.trace(np.linalg.solve(reference, groups)) / 2
    assert information_loss(scores, labels, True) == pytest.approx(expected, abs=1e-9)


def _common_normalisation(scores):
    full = np.zeros((3, 3))
    for mu, d, b in zip(scores.mu, scores.d, scores.b, strict=True):
        for k in np.flatnonzero(mu):
            gradient = np.append(d[k], b[k])
            full += np.outer(gradient, gradient) / mu[k]
    return np.linalg.inv(np.linalg.inv(full)[:-1, :-1])


@settings(max_examples=50)
@given(seed=st.integers(0, 10**6), labels=partitions, order=st.permutations(range(6)))
def test_loss_does_not_depend_on_the_order_of_runs_nor_on_names_of_groups(seed, labels, order):
    scores, labels = random_scores(seed, n_bins=8), np.array(labels)
    shuffled = scores.select(order)
    assert information_loss(shuffled, 10 - labels[order]) == pytest.approx(
        information_loss(scores, labels), abs=1e-13
    )


@settings(max_examples=50)
@given(seed=st.integers(0, 10**6), labels=partitions)
def test_loss_does_not_depend_on_the_units_of_parameters(seed, labels):
    scores = random_scores(seed, n_bins=8)
    mixed = scores.d @ np.array([[1e-12, 0.0], [3e-13, 1e3]])
    other = Scores(scores.obs_ids, scores.mu, mixed, scores.b)
    assert information_loss(other, labels) == pytest.approx(
        information_loss(scores, labels), abs=1e-8
    )


def test_inflation_is_the_spread_of_fits():
    # Least squares on normal counts has exactly the errors that the Fisher matrix says.
    rng = np.random.default_rng(0)
    scores = random_scores(5, n_obs=2, n_bins=6, with_empty=False)
    summed = scores.d.sum(0), scores.mu.sum(0)
    noise = norm.rvs(size=(4000, 6), random_state=rng) * np.sqrt(summed[1])
    design = summed[0] / np.sqrt(summed[1])[:, np.newaxis]
    fits = np.linalg.lstsq(design, (noise / np.sqrt(summed[1])).T, rcond=None)[0]
    predicted = np.sqrt(np.diag(np.linalg.inv(fisher_matrix(scores, [1, 1]))))
    np.testing.assert_allclose(fits.std(axis=1), predicted, rtol=0.05)


def test_unassigned_runs():
    scores = random_scores(4)
    labels = np.array([1, 1, 2, 2, -1, -1])
    kept = scores.select(labels > 0)
    assert information_loss(scores, labels) == pytest.approx(information_loss(kept, labels[:4]))
    lost = information_loss(scores, labels, unassigned="lost")
    assert lost > information_loss(scores, labels, unassigned="apart")
    assert information_loss(scores, labels, unassigned="apart") == pytest.approx(
        information_loss(scores, [1, 1, 2, 2, 3, 4])
    )
    summary = loss_summary(scores, labels)
    assert (summary.n_groups, summary.n_excluded) == (2, 2)
    assert (summary.livetime, summary.livetime_excluded) == (10.0, 11.0)
    assert summary.loss == information_loss(scores, labels)
    assert summary.lost_time == pytest.approx(10.0 * summary.loss)
    assert summary.inflation == error_inflation(scores, labels)
    expected = np.sqrt(np.diag(np.linalg.inv(fisher_matrix(scores, labels))))
    np.testing.assert_allclose(list(summary.errors.values()), expected)
    with pytest.raises(RequestError, match="way with unassigned runs 'kept'"):
        information_loss(scores, labels, unassigned="kept")
    with pytest.raises(RequestError, match="no run belongs to a group"):
        information_loss(scores, [-1] * 6)


def test_runs_that_could_not_be_computed_are_left_out():
    scores = random_scores(4)
    mu = scores.mu.copy()
    mu[2] = np.nan
    broken = Scores(scores.obs_ids, mu, scores.d, scores.b, notes=["", "", "why", "", "", ""])
    rest = np.arange(6) != 2
    assert broken.usable.tolist() == rest.tolist()
    assert information_loss(broken, [1] * 6) == pytest.approx(
        information_loss(scores.select(rest), [1] * 5)
    )
    np.testing.assert_allclose(fisher_matrix(broken), fisher_matrix(scores.select(rest)))
    assert broken.select([2]).notes == ("why",)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mu": np.ones((2, 3))}, "derivatives of shape"),
        ({"mu": np.ones(4)}, "counts of shape"),
        ({"obs_ids": [1, 1]}, "an observation appears twice"),
        ({"mu": -np.ones((2, 4))}, "expected numbers from 0"),
        ({"b": np.full((2, 4), np.inf)}, "expected numbers from 0"),
        ({"d": np.full((2, 4, 1), np.nan)}, "derivatives of the counts"),
        ({"mu": np.zeros((2, 4))}, "no count is expected"),
        ({"names": ("a", "b")}, "2 names of parameters"),
    ],
)
def test_counts_that_cannot_be_are_refused(change, message):
    values = {"obs_ids": [1, 2], "mu": np.ones((2, 4)), "d": np.ones((2, 4, 1))}
    with pytest.raises(RequestError, match=message):
        Scores(**values | change)


def test_what_cannot_be_measured_is_said():
    d = np.ones((2, 4, 2))
    with pytest.raises(RequestError, match="do not tell p0, p1 apart"):
        information_loss(Scores([1, 2], np.ones((2, 4)), d), [1, 1])
    d[:, :, 1] = 0.0
    with pytest.raises(RequestError, match="do not depend on p1"):
        information_loss(Scores([1, 2], np.ones((2, 4)), d), [1, 1])
    scores = random_scores(0)
    with pytest.raises(RequestError, match="6 runs but labels of shape"):
        information_loss(scores, [1, 2])
    with pytest.raises(RequestError, match="expected integers"):
        information_loss(scores, [0.5] * 6)


def test_counts_too_small_to_be_inverted_are_none():
    mu = np.array([[1.0, 1e-310], [2.0, 1e-200]])
    scores = Scores([1, 2], mu, mu[:, :, np.newaxis])
    assert scores.mu[:, 1].tolist() == [0.0, 0.0]
    assert information_loss(scores, [1, 1]) <= 1e-12
