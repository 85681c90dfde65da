"""The fewest groups within tolerances: never too wide, never more than necessary."""

from functools import cache
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from obscluster.exceptions import RequestError
from obscluster.grouping import spread
from obscluster.grouping.spread import fewest_groups, split_groups, within_tolerance
from obscluster.values.columns import range_of, relative_spread
from obscluster.values.tolerance import Tolerance

# Time limits of single examples would only measure how busy the computer is.
# Eighths are exact in binary, so that ties and ranges just as wide as the tolerance are frequent.
eighths = st.integers(0, 40).map(lambda n: n / 8)
positive = st.integers(1, 40).map(lambda n: n / 8)
tolerances = st.integers(0, 24).map(lambda n: Tolerance(n / 8))
fractions = st.integers(0, 20).map(lambda n: Tolerance(n / 8, relative=True))
TURN = 5.125


def columns(values, n_features):
    """Rows of features."""
    return st.lists(st.tuples(*[values] * n_features), min_size=1, max_size=8).map(np.array)


def width(values, tolerance, period=None):
    """Spread in the measure that adds up along the axis."""
    lo, hi = range_of(values, period)
    return abs(np.log(hi / lo)) if tolerance.relative else hi - lo


def fewest_of_all(X, tolerances, periods):
    """Least number of groups, and the least sum of widths for it, over all partitions."""
    n = len(X)

    @cache
    def cost(mask):
        rows = [i for i in range(n) if mask >> i & 1]
        parts = list(zip(X[rows].T, tolerances, periods, strict=True))
        if not all(within_tolerance(*part) for part in parts):
            return None
        return 1, sum(width(*part) for part in parts)

    @cache
    def best(mask):
        if not mask:
            return 0, 0.0
        first = mask & -mask
        found, rest = [], mask ^ first
        part = rest
        while True:
            if cost(part | first) is not None:
                others = best(rest ^ part)
                found.append(tuple(np.add(cost(part | first), others)))
            if not part:
                return min(found)
            part = (part - 1) & rest

    return best(2**n - 1)


def check_claims(X, labels, tolerances, periods):
    """What holds for every grouping by tolerance."""
    assert_array_equal(np.unique(labels), np.arange(1, labels.max() + 1))
    firsts = []
    for k in range(1, labels.max() + 1):
        for values, tolerance, period in zip(X[labels == k].T, tolerances, periods, strict=True):
            assert within_tolerance(values, tolerance, period)
        firsts.append(range_of(X[labels == k, 0], periods[0])[0])
    assert firsts == sorted(firsts)
    for row, label in zip(X, labels, strict=True):
        assert set(labels[(row == X).all(axis=1)]) == {label}


class TestOneFeature:
    @given(columns(eighths, 1), tolerances)
    def test_no_partition_has_fewer_groups_or_narrower_ones(self, X, tolerance):
        labels = fewest_groups(X, [tolerance])
        check_claims(X, labels, [tolerance], [None])
        total = sum(np.ptp(X[labels == k]) for k in range(1, labels.max() + 1))
        assert (labels.max(), total) == fewest_of_all(X, [tolerance], [None])

    @given(columns(positive, 1), fractions, st.sampled_from([1, -1]))
    def test_neither_for_relative_tolerances(self, X, tolerance, sign):
        X = sign * X
        labels = fewest_groups(X, [tolerance])
        check_claims(X, labels, [tolerance], [None])
        n_groups, least = fewest_of_all(X, [tolerance], [None])
        total = sum(width(X[labels == k, 0], tolerance) for k in range(1, labels.max() + 1))
        assert labels.max() == n_groups
        assert total == pytest.approx(least, abs=1e-4)

    @given(columns(eighths, 1), tolerances)
    def test_nor_on_a_circle(self, X, tolerance):
        labels = fewest_groups(X, [tolerance], [TURN])
        check_claims(X, labels, [tolerance], [TURN])
        assert labels.max() == fewest_of_all(X, [tolerance], [TURN])[0]

    @pytest.mark.parametrize("n_runs", [300, 20_000])
    def test_evenly_spread_runs_fill_the_tolerance(self, n_runs):
        labels = fewest_groups(np.linspace(0, 1, n_runs)[:, None], [Tolerance(0.13)])
        assert labels.max() == 8
        assert np.bincount(labels)[1:].std() < 0.01 * n_runs

    @pytest.mark.parametrize("start", [0.0, 77.0])
    def test_a_circle_may_be_cut_anywhere(self, start):
        # From 0 on it would take five groups: three pairs are apart by 170, 100 and 90 deg.
        X = np.array([[350.0], [10.0], [100.0], [120.0], [200.0], [220.0]]) + start
        labels = fewest_groups(X, [Tolerance(20.0)], [360.0])
        assert labels.max() == 3
        assert labels[0] == labels[1]
        assert labels[2] == labels[3]
        assert labels[4] == labels[5]

    def test_a_circle_is_cut_in_the_widest_gap_that_allows_the_fewest_groups(self):
        # A cut at 0 would allow two groups as well, such as 0 | 49 50 99.
        X = np.array([[0.0], [49.0], [50.0], [99.0]])
        assert fewest_groups(X, [Tolerance(50.0)], [100.0]).tolist() == [1, 2, 2, 1]

    def test_a_group_across_north_comes_first(self):
        X = np.array([[90.0], [5.0], [355.0], [180.0]])
        assert fewest_groups(X, [Tolerance(20)], [360]).tolist() == [2, 1, 1, 3]

    def test_cuts_are_in_the_widest_gaps(self):
        # From below it would be 0 1 2 | 5 6, from above 0 1 | 2 5 6.
        X = np.array([[0.0], [1.0], [4.0], [5.0], [6.0]])
        assert fewest_groups(X, [Tolerance(4.0)]).tolist() == [1, 1, 2, 2, 2]

    def test_groups_are_even_where_gaps_are(self):
        X = np.arange(10.0)[:, None]
        assert fewest_groups(X, [Tolerance(7.0)]).tolist() == [1] * 5 + [2] * 5


class TestSeveralFeatures:
    @given(columns(eighths, 2), st.tuples(tolerances, tolerances))
    def test_no_partition_has_fewer_groups(self, X, both):
        labels = fewest_groups(X, both)
        check_claims(X, labels, both, [None, None])
        assert labels.max() == fewest_of_all(X, both, [None, None])[0]

    @given(columns(positive, 3), st.tuples(tolerances, fractions, tolerances))
    def test_neither_of_three_of_all_kinds(self, X, tolerances):
        periods = [TURN, None, None]
        labels = fewest_groups(X, tolerances, periods)
        check_claims(X, labels, tolerances, periods)
        assert labels.max() == fewest_of_all(X, tolerances, periods)[0]

    @pytest.mark.parametrize("limits", [{"_MAX_CELLS": 0}, {"_MAX_ROUNDS": 1, "_MORE_POINTS": 1}])
    @pytest.mark.parametrize("period", [None, 360.0])
    def test_groups_keep_to_tolerances_when_the_exact_way_is_too_long(
        self, limits, period, monkeypatch
    ):
        X = np.random.default_rng(2).uniform(1, 360, size=(150, 3))
        tolerances = [Tolerance(90.0), Tolerance(0.6, relative=True), Tolerance(150.0)]
        few = fewest_groups(X, tolerances, [period, None, None]).max()
        for name, limit in limits.items():
            monkeypatch.setattr(spread, name, limit)
        labels = fewest_groups(X, tolerances, [period, None, None])
        check_claims(X, labels, tolerances, [period, None, None])
        assert few <= labels.max() < 1.5 * few

    @pytest.mark.parametrize("n_runs", [40, 400, 4000])
    def test_boxes_that_hold_all_are_found_again(self, n_runs):
        rng = np.random.default_rng(n_runs)
        corners = rng.uniform(0, 4, size=(9, 2))
        X = corners[np.arange(n_runs) % 9] + rng.uniform(0, 1, size=(n_runs, 2))
        assert fewest_groups(X, [Tolerance(1.0)] * 2).max() <= 9

    def test_clumps_further_apart_than_the_tolerance_are_the_groups(self):
        rng = np.random.default_rng(5)
        clump = np.repeat(np.arange(25), 60)
        X = np.column_stack([clump // 5, clump % 5]) + rng.uniform(0, 0.4, size=(1500, 2))
        labels = fewest_groups(X, [Tolerance(0.5)] * 2)
        assert labels.max() == len(set(zip(labels, clump, strict=True))) == 25

    def test_a_feature_within_tolerance_changes_nothing(self):
        X = np.random.default_rng(1).uniform(size=(50, 2))
        one = fewest_groups(X[:, :1], [Tolerance(0.1)])
        assert_array_equal(fewest_groups(X, [Tolerance(0.1), Tolerance(1.0)]), one)

    @pytest.mark.parametrize("seed", range(4))
    def test_no_two_groups_fit_into_one_even_if_the_exact_way_is_too_long(self, seed, monkeypatch):
        monkeypatch.setattr(spread, "_MAX_CELLS", 0)
        X = np.random.default_rng(seed).normal(size=(200, 2))
        tolerances = [Tolerance(0.8)] * 2
        labels = fewest_groups(X, tolerances)
        for k, other in combinations(range(1, labels.max() + 1), 2):
            both = X[np.isin(labels, [k, other])]
            assert not all(map(within_tolerance, both.T, tolerances))

    @pytest.mark.parametrize("seed", range(10))
    def test_no_run_that_moves_to_another_group_makes_spreads_smaller(self, seed):
        rng = np.random.default_rng(seed)
        X = np.column_stack([rng.uniform(0, 360, 60), rng.uniform(1, 3, 60), rng.normal(size=60)])
        tolerances = [Tolerance(120.0), Tolerance(0.5, relative=True), Tolerance(2.0)]
        periods = [360.0, None, None]
        # Spreads count in units of the tolerance, relative ones on a logarithmic scale.
        units = [120.0, np.log(1.25 / 0.75), 2.0]

        def total(rows):
            parts = list(zip(X[rows].T, tolerances, periods, strict=True))
            if not all(within_tolerance(*part) for part in parts):
                return np.inf
            return sum(width(*part) / unit for part, unit in zip(parts, units, strict=True))

        labels = fewest_groups(X, tolerances, periods)
        groups = {k: np.flatnonzero(labels == k) for k in range(1, labels.max() + 1)}
        for row, k in enumerate(labels):
            if len(groups[k]) == 1:
                continue
            saved = total(groups[k]) - total(groups[k][groups[k] != row])
            for other in groups.keys() - {k}:
                growth = total(np.append(groups[other], row)) - total(groups[other])
                assert growth > saved - 1e-5

    def test_borders_of_groups_are_where_runs_are_rare(self):
        # A box that begins at the lowest run would take two of the upper clump.
        x = np.array([0.0, 0.1, 0.2, 0.8, 0.9, 1.2, 1.3])
        X = np.column_stack([x, 2 * x])
        labels = fewest_groups(X, [Tolerance(1.0), Tolerance(2.0)])
        assert labels.tolist() == [1, 1, 1, 2, 2, 2, 2]


@pytest.mark.parametrize("n_features", [1, 2])
class TestEveryNumberOfFeatures:
    def test_the_order_of_the_rows_does_not_matter(self, n_features):
        rng = np.random.default_rng(3)
        X = rng.integers(0, 60, size=(120, n_features)) / 16
        order = rng.permutation(len(X))
        tolerances = [Tolerance(0.7)] * n_features
        labels = fewest_groups(X, tolerances)
        assert labels.max() > 3
        assert_array_equal(fewest_groups(X[order], tolerances), labels[order])

    def test_runs_without_a_value_belong_nowhere(self, n_features):
        X = np.arange(5.0)[:, None].repeat(n_features, axis=1)
        X[2, -1] = np.nan
        labels = fewest_groups(X, [Tolerance(1.0)] * n_features)
        assert labels.tolist() == [1, 1, -1, 2, 2]

    @pytest.mark.parametrize("n_runs", [0, 2])
    def test_no_run_with_a_value_is_no_group(self, n_features, n_runs):
        X = np.full((n_runs, n_features), np.nan)
        assert fewest_groups(X, [Tolerance(1.0)] * n_features).tolist() == [-1] * n_runs

    def test_the_input_is_not_modified(self, n_features):
        X = np.random.default_rng(0).uniform(-400, 400, size=(30, n_features))
        before = X.copy()
        split_groups(np.ones(30), X, [Tolerance(30.0)] * n_features, [360.0] * n_features)
        assert_array_equal(X, before)

    def test_no_tolerance_tells_all_values_apart(self, n_features):
        X = np.array([3.0, 1.0, 3.0, 2.0])[:, None].repeat(n_features, axis=1)
        assert fewest_groups(X, [Tolerance(0.0)] * n_features).tolist() == [3, 1, 3, 2]


class TestSplitGroups:
    @given(columns(eighths, 2), st.tuples(tolerances, tolerances), st.data())
    def test_every_group_is_split_into_the_fewest_parts(self, X, both, data):
        given = np.array(data.draw(st.lists(st.integers(-1, 3), min_size=len(X), max_size=len(X))))
        given[given == 0] = -1
        labels = split_groups(given, X, both)
        assert_array_equal(labels == -1, given == -1)
        n_before = 0
        for group in np.unique(given[given > 0]):
            inside = given == group
            assert_array_equal(labels[inside], n_before + fewest_groups(X[inside], both))
            n_before = labels[inside].max()

    def test_groups_within_tolerance_are_kept(self):
        X = np.array([[5.0], [1.0], [9.0], [2.0], [5.5]])
        labels = split_groups([2, 1, 2, 1, 2], X, [Tolerance(2.0)])
        assert labels.tolist() == [2, 1, 3, 1, 2]

    def test_a_run_without_value_is_in_no_group(self):
        labels = split_groups([1, 1, 2, 3], [[1.0], [np.nan], [np.nan], [1.0]], [Tolerance(2.0)])
        assert labels.tolist() == [1, -1, -1, 2]

    def test_each_group_may_have_its_own_sign(self):
        X = np.array([[-1.0], [-1.1], [1.0], [3.0]])
        labels = split_groups([1, 1, 2, 2], X, [Tolerance(0.2, relative=True)])
        assert labels.tolist() == [1, 1, 2, 3]


class TestWithinTolerance:
    @given(st.lists(positive, min_size=1, max_size=5).map(np.array), tolerances, fractions)
    def test_it_is_what_the_definitions_say(self, values, absolute, relative):
        lo, hi = values.min(), values.max()
        assert within_tolerance(values, absolute) == (hi - lo <= absolute.value)
        spread_of_values = relative_spread(lo, hi)
        if abs(spread_of_values - relative.value) > 1e-9:
            assert within_tolerance(values, relative) == (spread_of_values < relative.value)

    def test_angles_have_the_range_of_the_shortest_arc(self):
        assert within_tolerance([350.0, 10.0, np.nan], Tolerance(20.0), 360.0)
        assert not within_tolerance([350.0, 10.0], Tolerance(20.0))
        assert not within_tolerance([350.0, 10.0], Tolerance(19.9), 360.0)

    def test_no_value_is_within_any_tolerance(self):
        assert within_tolerance([np.nan], Tolerance(0.0))


@pytest.mark.parametrize(
    ("values", "tolerance", "period", "message"),
    [
        ([[1.0], [-1.0]], Tolerance(0.1, relative=True), None, "psf: .* from -1 to 1; .* absolute"),
        ([[0.0], [1.0]], Tolerance(0.1, relative=True), None, "psf: .* one sign"),
        ([[10.0]], Tolerance(0.1, relative=True), 360.0, "psf: angles .* absolute"),
        ([[10.0]], Tolerance(-1.0), None, "psf: tolerance -1.0; expected"),
        ([[10.0]], Tolerance(np.nan), None, "psf: tolerance nan; expected"),
        ([[1.0, 2.0]], Tolerance(1.0), None, r"values of shape \(1, 2\), 1 tolerances"),
        ([1.0, 2.0], Tolerance(1.0), None, r"values of shape \(2,\)"),
    ],
)
def test_what_means_nothing_is_refused(values, tolerance, period, message):
    with pytest.raises(RequestError, match=message):
        fewest_groups(values, [tolerance], [period], ["psf"])


def test_labels_of_other_runs_are_refused():
    with pytest.raises(RequestError, match=r"labels of shape \(2,\) for 1 rows"):
        split_groups([1, 1], [[1.0]], [Tolerance(1.0)])
