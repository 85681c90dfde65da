"""Agglomeration and refinement by information loss: slow oracles, the optimum, and real runs."""

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.cluster import hierarchy

from obscluster import DataStore
from obscluster.exceptions import ObsClusterWarning, RequestError
from obscluster.features.scaling import feature_matrix, standard_scaler
from obscluster.features.table import get_features
from obscluster.information.agglomeration import agglomerate, agglomerate_many, as_linkage, cut
from obscluster.information.cluster import cluster_by_information, information_partitions
from obscluster.information.loss import Sums, information_loss, kept, sums_of, sums_without
from obscluster.information.refinement import Limits, best_partitions, loss_of, refine
from obscluster.information.scores import Scores, get_scores
from obscluster.information.source import make_source


def unrelated_scores(seed, n_obs, n_bins=6):
    """Counts and derivatives that have nothing in common from run to run."""
    rng = np.random.default_rng(seed)
    mu = rng.uniform(0.5, 5.0, (n_obs, n_bins))
    d = rng.normal(size=(n_obs, n_bins, 2)) * rng.uniform(0.2, 2.0, (n_obs, 1, 1))
    mu[:, 0] = np.where(rng.random(n_obs) < 0.3, 0.0, mu[:, 0])
    d[mu == 0] = 0.0
    return Scores(np.arange(n_obs) + 1, mu, d, 0.5 * mu, livetimes=np.full(n_obs, 100.0))


def alike_scores(seed, n_obs, n_bins=12):
    """Runs along a zenith angle: a threshold that moves, and a little scatter."""
    rng = np.random.default_rng(seed)
    zenith, energy = rng.uniform(0, 1, n_obs)[:, np.newaxis], np.linspace(0, 1, n_bins)
    s = np.exp(-8 * (energy - 0.5 * zenith) ** 2 + 0.1 * rng.normal(size=(n_obs, n_bins)))
    s *= rng.uniform(0.5, 2.0, (n_obs, 1))
    b = rng.uniform(1, 3, (n_obs, 1)) * np.exp(-2 * energy)
    s[(energy < 0.3 * zenith - 0.1)], b[(energy < 0.3 * zenith - 0.1)] = 0.0, 0.0
    d = np.stack([s, s * (energy - 0.5)], axis=-1)
    return Scores(np.arange(n_obs) + 1, s + b, d, b, livetimes=np.full(n_obs, 100.0))


KINDS = {"unrelated": unrelated_scores, "alike": alike_scores}


def least_losses(scores):
    """Smallest loss of any partition into 1, 2, ... groups, by looking at all of them."""
    runs = Sums.of_scores(scores)
    n = len(runs)
    members = [[i for i in range(n) if m >> i & 1] for m in range(1 << n)]
    part = np.array(
        [0.0, *(1 - loss_of(runs[rows], np.zeros(len(rows), int)) for rows in members[1:])]
    )
    best, losses = part.copy(), []
    for _ in range(n):
        losses.append(1 - best[-1])
        following = np.full(1 << n, -np.inf)
        for whole in range(1, 1 << n):
            rest = whole & (whole - 1)
            subset = rest
            # The group of the first run, and the best that can be made of the others.
            while subset:
                value = part[whole ^ subset] + best[subset]
                following[whole] = max(following[whole], value)
                subset = (subset - 1) & rest
        best = following
    return np.array(losses)


@pytest.mark.parametrize("kind", KINDS)
def test_greedy_and_refined_groups_are_nearly_always_the_best(kind):
    n_all = n_best = 0
    misses = []
    for seed in range(30):
        scores = KINDS[kind](seed, n_obs=4 + seed % 5)
        least = least_losses(scores)
        for number, grouping in information_partitions(scores).items():
            loss = grouping.parameters["loss"]
            assert loss >= least[number - 1] - 1e-12
            if 1 < number < len(scores):
                n_all += 1
                n_best += loss <= least[number - 1] + 1e-12
                misses.append(loss / least[number - 1] - 1)
    assert n_best / n_all >= 0.99
    assert max(misses) < 0.05


def naive_tree(scores):
    """Merge the cheapest pair of groups, all losses from the definition."""
    labels = np.arange(len(scores))
    heights = []
    while len(np.unique(labels)) > 1:
        names = np.unique(labels)
        pairs = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
        losses = [information_loss(scores, np.where(labels == b, a, labels)) for a, b in pairs]
        a, b = pairs[int(np.argmin(losses))]
        labels = np.where(labels == b, a, labels)
        heights.append(min(losses))
    return np.array(heights)


@pytest.mark.parametrize("kind", KINDS)
def test_the_tree_is_that_of_the_definition(kind):
    scores = KINDS[kind](11, 12)
    tree = cluster_by_information(scores, n_groups=3).linkage
    np.testing.assert_allclose(tree[:, 2], naive_tree(scores), atol=1e-10)
    assert hierarchy.is_valid_linkage(tree)
    assert hierarchy.is_monotonic(tree)
    merges = agglomerate(Sums.of_scores(scores))
    for number in (1, 3, 7, 12):
        labels = cut(merges, number)
        assert len(np.unique(labels)) == number
        height = 0.0 if number == 12 else tree[11 - number, 2]
        assert information_loss(scores, labels) == pytest.approx(height, abs=1e-12)


@settings(max_examples=30)
@given(seed=st.integers(0, 10**6), n_groups=st.integers(1, 9), fit_background=st.booleans())
def test_refinement_never_makes_it_worse(seed, n_groups, fit_background):
    runs = Sums.of_scores(unrelated_scores(seed, 9), fit_background)
    start = np.random.default_rng(seed).permutation(np.arange(9) % n_groups)
    before, limits = loss_of(runs, start), Limits.none(9)
    after = loss_of(runs, refine(runs, start, limits, swaps=False))
    assert after <= before + 1e-12
    assert loss_of(runs, refine(runs, start, limits)) <= before + 1e-12


@pytest.mark.parametrize("fit_background", [False, True])
def test_sums_say_what_the_loss_says(fit_background):
    scores = unrelated_scores(3, 10)
    runs = Sums.of_scores(scores, fit_background)
    labels = np.arange(10) % 3
    loss = information_loss(scores, labels, fit_background)
    assert loss_of(runs, labels) == pytest.approx(loss, abs=1e-12)
    groups = sums_of(runs, labels, 3)
    without = sums_without(groups[[0]], runs[[3]])
    expected = kept(sums_of(runs[[0, 6, 9]], np.zeros(3, int), 1))
    np.testing.assert_allclose(kept(without), expected, atol=1e-12)


@pytest.mark.parametrize("fit_background", [False, True])
def test_groups_do_not_depend_on_the_order_of_runs(fit_background):
    scores = alike_scores(5, 30)
    order = np.random.default_rng(0).permutation(30)
    shuffled = scores.select(order)
    for options in ({"n_groups": 4}, {"max_loss": 0.4}):
        here = cluster_by_information(scores, **options, fit_background=fit_background)
        there = cluster_by_information(shuffled, **options, fit_background=fit_background)
        np.testing.assert_array_equal(there.labels, here.labels[order])
        np.testing.assert_array_equal(there.linkage[:, 2], here.linkage[:, 2])
        # The leaves of the tree count in the order of the table.
        leaf = there.linkage[0, :2].astype(int)
        assert set(shuffled.obs_ids[leaf]) == set(scores.obs_ids[here.linkage[0, :2].astype(int)])
        assert here.labels[0] == 1


@pytest.mark.parametrize("n_obs", [25, 45])
def test_more_groups_never_lose_more(n_obs):
    groupings = information_partitions(alike_scores(1, n_obs))
    assert list(groupings) == list(range(1, n_obs + 1))
    losses = [grouping.parameters["loss"] for grouping in groupings.values()]
    assert (np.diff(losses) <= 1e-12).all()
    assert losses[-1] == 0.0


def test_the_fewest_groups_within_a_budget():
    scores = alike_scores(1, 25)
    groupings = information_partitions(scores)
    losses = [grouping.parameters["loss"] for grouping in groupings.values()]
    for budget in (0.001, 0.01, 0.05, 0.2, 1.0):
        grouping = cluster_by_information(scores, max_loss=budget)
        assert grouping.parameters["loss"] <= budget
        assert grouping.n_groups == 1 + int(np.argmax(np.array(losses) <= budget))
        expected = information_loss(scores, grouping.labels)
        assert grouping.parameters["loss"] == pytest.approx(expected)
    assert cluster_by_information(scores, max_loss=0.0).n_groups == 25
    identical = Scores(range(5), np.ones((5, 3)), np.array([[[1, 0], [1, 1], [1, 2.0]]] * 5))
    assert cluster_by_information(identical, max_loss=0.0).n_groups == 1


def test_within():
    scores = alike_scores(2, 24)
    epoch = np.array(["a", "b", "c"])[np.arange(24) % 3]
    for options in ({"n_groups": 5}, {"max_loss": 0.02}, {"n_groups": 3}):
        grouping = cluster_by_information(scores, within=epoch, **options)
        for obs_ids in grouping.groups.values():
            assert len(set(epoch[np.isin(scores.obs_ids, obs_ids)])) == 1
        # The tree goes on to a single group, for plots.
        assert hierarchy.is_valid_linkage(grouping.linkage)
        assert len(grouping.linkage) == 23
    assert list(information_partitions(scores, 6, within=epoch)) == [3, 4, 5, 6]
    with pytest.raises(RequestError, match="24 runs in 3 parts that never mix; ask for 3 to 24"):
        cluster_by_information(scores, n_groups=2, within=epoch)


def test_least_weight():
    scores = alike_scores(3, 20)
    light = cluster_by_information(scores, n_groups=4, min_weight=300.0)
    assert min(np.bincount(light.labels)[1:]) >= 3
    within = np.array([0] * 18 + [1] * 2)
    some = cluster_by_information(scores, n_groups=2, min_weight=300.0, within=within)
    assert (some.labels[18:] == -1).all()
    assert (some.labels[:18] > 0).all()
    budget = cluster_by_information(scores, max_loss=0.05, min_weight=300.0)
    assert budget.parameters["loss"] <= 0.05
    assert min(np.bincount(budget.labels)[1:]) >= 3
    with pytest.raises(
        RequestError, match="7 groups of at least 300 each asked of 20 runs; ask for 1 to 6"
    ):
        cluster_by_information(scores, n_groups=7, min_weight=300.0)
    with pytest.raises(RequestError, match="the least that the conditions allow is"):
        cluster_by_information(scores, max_loss=1e-6, min_weight=300.0)
    with pytest.raises(RequestError, match="all together are lighter"):
        cluster_by_information(scores, n_groups=2, min_weight=1e9)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "either n_groups or max_loss"),
        ({"n_groups": 2, "max_loss": 0.1}, "either n_groups or max_loss"),
        ({"n_groups": 9}, "9 groups asked of 6 runs; ask for 1 to 6"),
        ({"n_groups": 2.5}, "expected a whole number"),
        ({"max_loss": -0.1}, "max_loss -0.1; expected 0 to 1"),
        ({"n_groups": 2, "min_weight": -1}, "min_weight -1"),
        ({"n_groups": 2, "within": [1, 2]}, "within has shape"),
        ({"n_groups": 2, "weights": [1, 2]}, "weights have shape"),
        ({"n_groups": 2, "weights": [-1] * 6}, "weights: expected numbers from 0"),
    ],
)
def test_bad_requests(options, message):
    with pytest.raises(RequestError, match=message):
        cluster_by_information(unrelated_scores(0, 6), **options)
    with pytest.raises(RequestError, match="max_groups 0"):
        information_partitions(unrelated_scores(0, 6), 0)


def test_runs_that_could_not_be_computed_belong_nowhere():
    scores = alike_scores(4, 10)
    mu = scores.mu.copy()
    mu[4] = np.nan
    broken = Scores(scores.obs_ids, mu, scores.d, scores.b)
    grouping = cluster_by_information(broken, n_groups=3)
    assert grouping.labels[4] == -1
    rest = np.arange(10) != 4
    expected = cluster_by_information(scores.select(rest), n_groups=3)
    np.testing.assert_array_equal(grouping.labels[rest], expected.labels)
    assert len(grouping.linkage) == 8


def test_one_run_and_few_runs():
    scores = unrelated_scores(0, 1)
    assert cluster_by_information(scores, n_groups=1).labels.tolist() == [1]
    assert cluster_by_information(scores, max_loss=0.5).linkage.shape == (0, 4)
    assert cluster_by_information(unrelated_scores(0, 2), n_groups=2).labels.tolist() == [1, 2]


def test_the_result_can_be_written_and_read(tmp_path):
    grouping = cluster_by_information(alike_scores(0, 8), max_loss=0.05)
    grouping.write(tmp_path)
    assert type(grouping).read(tmp_path) == grouping
    assert set(grouping.parameters["error_inflation"]) == {"p0", "p1"}


def test_fitted_backgrounds():
    scores = alike_scores(6, 12)
    losses = {
        number: grouping.parameters["loss"]
        for number, grouping in information_partitions(scores, fit_background=True).items()
    }
    # Runs apart, a normalisation each, know less than a single one would; merging may gain.
    assert losses[12] > 0.001
    labels = np.arange(12)
    assert losses[12] == pytest.approx(information_loss(scores, labels, True))
    grouping = cluster_by_information(scores, max_loss=losses[4], fit_background=True)
    assert grouping.n_groups <= 4
    assert hierarchy.is_valid_linkage(grouping.linkage)
    with pytest.raises(RequestError, match="no grouping found loses at most"):
        cluster_by_information(scores, max_loss=1e-9, fit_background=True)


def test_pre_merged_runs_lose_little_more():
    scores = alike_scores(7, 2300)
    runs = Sums.of_scores(scores)
    strata = np.arange(2300) % 2
    direct, nothing = agglomerate_many(runs, max_direct=2300)
    assert nothing == 0.0
    for within in (None, strata):
        merges, extra = agglomerate_many(runs, within, max_direct=300)
        assert len(merges.pairs) == 2299
        assert hierarchy.is_valid_linkage(as_linkage(merges))
        # What is stated is what the groups lose that were made before.
        before = cut(merges, 300)
        assert loss_of(runs, before) == pytest.approx(extra, rel=0.05)
        for number in (2, 10):
            labels = cut(merges, number)
            assert len(np.unique(labels)) == number
            if within is None:
                assert loss_of(runs, labels) <= 1.1 * loss_of(runs, cut(direct, number)) + extra
            else:
                for label in range(number):
                    assert len(set(strata[labels == label])) == 1


def test_a_pre_merge_that_loses_much_is_warned_of(monkeypatch):
    scores = unrelated_scores(0, 60)
    name = "obscluster.information.cluster.agglomerate_many"
    monkeypatch.setattr(name, lambda runs, strata: agglomerate_many(runs, strata, 20))
    with pytest.warns(ObsClusterWarning, match="60 runs were merged in part"):
        grouping = cluster_by_information(scores, n_groups=5)
    assert grouping.parameters["pre_merge_loss"] > 1e-4


def test_partitions_keep_to_the_numbers_asked():
    runs = Sums.of_scores(alike_scores(8, 15))
    found = best_partitions(runs, agglomerate(runs), Limits.none(15), 3, 6)
    assert {n: len(np.unique(labels)) for n, labels in found.items()} == {3: 3, 4: 4, 5: 5, 6: 6}


@pytest.fixture(scope="module")
def pks_runs(hess_dr1):
    position = SkyCoord(329.71693826, -30.2255890, unit="deg")
    data_store = DataStore.from_dir(hess_dr1)
    table = data_store.obs_table
    pointing = SkyCoord(table["RA_PNT"], table["DEC_PNT"], unit="deg")
    near = pointing.separation(position).deg < 2
    return data_store.get_observations(np.asarray(table["OBS_ID"])[near]), position


@pytest.fixture(scope="module")
def other_groupings(pks_runs):
    """Labels for a number of groups, by what analysts do otherwise."""
    observations, position = pks_runs

    def ward(*names):
        features = standard_scaler(get_features(observations, names, "1 TeV", position))
        tree = hierarchy.linkage(feature_matrix(features)[0], "ward")
        return lambda n_groups: hierarchy.fcluster(tree, n_groups, "maxclust")

    zenith = np.asarray(get_features(observations, "zenith")["zenith"].value)
    rank = np.argsort(np.argsort(zenith))
    return {
        "published features": ward("edisp-res", "psf-radius"),
        "five features": ward("psf-r68", "edisp-res68", "edisp-bias50", "aeff", "aeff-threshold"),
        "zenith": lambda n_groups: rank * n_groups // len(rank) + 1,
    }


@pytest.mark.parametrize(
    ("flux", "expected"),
    [
        # Losses in per cent of 1, 2, 3 and 5 groups.
        ("0.6 % Crab", (8.74, 3.26, 1.40, 0.60)),
        ("6 % Crab", (1.688, 0.771, 0.341, 0.183)),
        ("100 % Crab", (0.125, 0.0706, 0.0450, 0.0247)),
    ],
)
def test_no_other_grouping_of_pks_2155_304_loses_less(pks_runs, other_groupings, flux, expected):
    observations, position = pks_runs
    assert len(observations) == 21
    scores = get_scores(observations, make_source(flux), position)
    groupings = information_partitions(scores)
    losses = {number: grouping.parameters["loss"] for number, grouping in groupings.items()}
    found = [100 * losses[number] for number in (1, 2, 3, 5)]
    np.testing.assert_allclose(found, expected, rtol=0.02)
    for name, labels_of in other_groupings.items():
        for number in range(1, 22):
            labels = labels_of(number)
            # A tree may fall into fewer groups than asked, which cannot lose less.
            other = information_loss(scores, labels)
            assert losses[number] <= other + 1e-12, (name, number)


def test_any_eight_of_these_runs_are_grouped_as_well_as_they_can_be(pks_runs):
    observations, position = pks_runs
    scores = get_scores(observations, make_source("0.6 % Crab"), position)
    for seed in range(6):
        eight = np.random.default_rng(seed).choice(21, 8, replace=False)
        few = scores.select(np.sort(eight))
        losses = [g.parameters["loss"] for g in information_partitions(few).values()]
        np.testing.assert_allclose(losses, least_losses(few), atol=1e-12)
