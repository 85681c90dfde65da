"""Constraints: what is merged with what, what cannot be met, and what is said of it."""

from itertools import pairwise

import astropy.units as u
import numpy as np
import pytest
from astropy.table import QTable
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy.cluster import hierarchy

from obscluster import Grouping
from obscluster.config import make_config
from obscluster.exceptions import RequestError
from obscluster.grouping.constraints import (
    Minimum,
    group_within,
    hold_minimum,
    pointing_names,
    pointing_positions,
)
from obscluster.grouping.cuts import (
    adaptive_edges,
    group_by_cut,
    livetime_edges,
    quantile_edges,
    width_edges,
)
from obscluster.grouping.trees import join_trees, prune_tree


def grouping(labels):
    return Grouping(np.arange(len(labels)), labels)


def runs_minimum(labels, value):
    return [Minimum("runs", np.ones(len(labels)), value)]


class TestMinimum:
    LABELS = (1, 1, 1, 2, 3, 3, 3)
    X = np.array([[0.0], [0.1], [0.2], [0.9], [1.0], [1.1], [1.2]])

    def test_a_short_group_joins_the_nearest(self):
        held = hold_minimum(grouping(self.LABELS), self.X, runs_minimum(self.LABELS, 2))
        assert held.labels.tolist() == [1, 1, 1, 2, 2, 2, 2]
        assert held.remarks == (
            "of 3 groups found, number 2 (1 of 2 runs) is merged with number 3, the nearest",
        )

    def test_or_is_given_up(self):
        held = hold_minimum(
            grouping(self.LABELS), self.X, runs_minimum(self.LABELS, 2), short="unassign"
        )
        assert held.labels.tolist() == [1, 1, 1, -1, 2, 2, 2]
        assert held.reasons == {3: "its group holds less than 2 runs"}

    def test_merging_goes_on_until_all_hold_enough(self):
        held = hold_minimum(grouping(self.LABELS), self.X, runs_minimum(self.LABELS, 4))
        assert held.n_groups == 1
        assert len(held.remarks) == 2

    def test_two_minima_both_hold(self):
        hours = [Minimum("h", np.array([9, 9, 9, 9, 0.1, 0.1, 0.1]), 5.0)]
        minima = [*runs_minimum(self.LABELS, 1), *hours]
        held = hold_minimum(grouping(self.LABELS), self.X, minima)
        assert held.labels.tolist() == [1, 1, 1, 2, 2, 2, 2]

    def test_what_cannot_be_held_is_an_error_with_figures(self):
        with pytest.raises(RequestError, match=r"hold 8 runs, but all 7 runs have 7 runs together"):
            hold_minimum(grouping(self.LABELS), self.X, runs_minimum(self.LABELS, 8))
        with pytest.raises(RequestError, match=r"no group holds 4 runs: of 3 groups found"):
            hold_minimum(
                grouping(self.LABELS), self.X, runs_minimum(self.LABELS, 4), short="unassign"
            )

    def test_per_pointing_each_position_of_a_group_counts(self):
        pointings = np.array(["a", "a", "b", "b", "a", "a", "a"])
        minima = runs_minimum(self.LABELS, 2)
        held = hold_minimum(grouping(self.LABELS), self.X, minima, pointings=pointings)
        # The first has one run at b, and so has the second: only together they have two.
        assert held.labels.tolist() == [1, 1, 1, 1, 2, 2, 2]
        assert "(1 of 2 runs at b)" in held.remarks[0]
        with pytest.raises(
            RequestError, match=r"per pointing position, but the 2 runs at b have 2"
        ):
            hold_minimum(
                grouping(self.LABELS), self.X, runs_minimum(self.LABELS, 3), pointings=pointings
            )

    def test_groups_that_must_not_merge_are_given_up(self):
        held = hold_minimum(
            grouping(self.LABELS),
            self.X,
            runs_minimum(self.LABELS, 2),
            may_merge=lambda inside: float(np.ptp(self.X[inside])) < 0.25,
        )
        assert held.labels.tolist() == [1, 1, 1, -1, 2, 2, 2]
        assert "no other group may take it" in held.remarks[0]

    def test_in_time_only_neighbours_merge(self):
        # The nearest in features is the third, but the second alone is next in time.
        X = np.array([[0.0], [0.0], [5.0], [5.0], [0.1]])
        labels, times = (1, 1, 2, 2, 3), np.arange(5.0)
        held = hold_minimum(grouping(labels), X, runs_minimum(labels, 2), times=times)
        assert held.labels.tolist() == [1, 1, 2, 2, 2]


class TestWithin:
    RUNS = QTable(
        {
            "obs_id": [1, 2, 3, 4, 5, 6],
            "ZEN_PNT": [10, 50, 12, 52, 20, 55] * u.deg,
            "TELLIST": ["1,2", "1,2", "3", "3", "1,2", ""],
        }
    )

    def test_each_value_is_grouped_by_itself(self):
        result = group_within(self.RUNS, ["TELLIST"], lambda t: group_by_cut(t, "ZEN_PNT", 30))
        assert result.labels.tolist() == [1, 2, 3, 4, 1, -1]
        assert result.names[3] == "TELLIST-3_low_zenith"
        assert result.reasons == {6: "no TELLIST"}

    def test_a_part_that_cannot_be_grouped_stops_no_other(self):
        def group(table):
            if len(table) < 3:
                raise RequestError("too few")
            return group_by_cut(table, "ZEN_PNT", 30)

        result = group_within(self.RUNS, ["TELLIST"], group)
        assert result.labels.tolist() == [1, 2, -1, -1, 1, -1]
        assert result.reasons[3] == "TELLIST 3: too few"
        with pytest.raises(RequestError, match="too few"):
            group_within(self.RUNS[2:4], ["TELLIST"], group)

    def test_an_unknown_column_is_named(self):
        with pytest.raises(RequestError, match="unknown column 'EPOCH'"):
            group_within(self.RUNS, ["EPOCH"], lambda t: t)


class TestTrees:
    @given(st.integers(2, 12), st.data())
    def test_a_pruned_tree_merges_what_is_left_at_the_same_heights(self, n, data):
        X = np.array(data.draw(st.lists(st.floats(0, 100), min_size=n, max_size=n)))[:, None]
        keep = np.array(data.draw(st.lists(st.booleans(), min_size=n, max_size=n)))
        if keep.sum() < 2:
            return
        # Of single linkage: the tree of a part has the cophenetic distances of the whole.
        tree = hierarchy.linkage(X, "complete")
        pruned = prune_tree(tree, keep)
        assert hierarchy.is_valid_linkage(pruned)
        i, j = np.triu_indices(n, 1)
        both = keep[i] & keep[j]
        assert_allclose(hierarchy.cophenet(pruned), hierarchy.cophenet(tree)[both])

    def test_joined_trees_keep_their_merges_below_the_joints(self):
        rng = np.random.default_rng(1)
        parts = [np.array([0, 3, 4, 8]), np.array([1, 2, 9]), np.array([5])]
        trees = [hierarchy.linkage(rng.normal(size=(len(p), 2))) if len(p) > 1
                 else np.empty((0, 4)) for p in parts]  # fmt: skip
        joined = join_trees(list(zip(trees, parts, strict=True)))
        assert hierarchy.is_valid_linkage(joined)
        rows = np.sort(np.concatenate(parts))
        distance = np.zeros((10, 10))
        i, j = np.triu_indices(len(rows), 1)
        distance[rows[i], rows[j]] = hierarchy.cophenet(joined)
        top = max(tree[:, 2].max() for tree in trees if len(tree))
        for tree, part in zip(trees, parts, strict=True):
            if len(part) > 1:
                i, j = np.triu_indices(len(part), 1)
                assert_allclose(distance[part[i], part[j]], hierarchy.cophenet(tree))
        assert distance[0, 1] > top
        assert distance[0, 5] > top


class TestPointings:
    def test_wobble_positions_are_told_apart_and_scatter_is_not(self):
        ra = np.array([83.63, 83.64, 84.13, 443.63, np.nan, -276.37])
        dec = np.array([22.51, 22.515, 22.01, 22.51, 22.0, 22.508])
        assert pointing_positions(ra, dec).tolist() == [1, 1, 0, 1, -1, 1]
        names = pointing_names(ra, dec)
        assert names[0] == names[3] == "RA 83.63, Dec 22.51 deg"
        assert names[4] == "an unknown position"

    def test_near_the_pole_and_across_zero(self):
        ra = np.array([0.01, 359.99, 180.0, 0.0])
        dec = np.array([0.0, 0.0, 89.98, 89.98])
        positions = pointing_positions(ra, dec)
        assert positions[0] == positions[1]
        assert positions[2] == positions[3]


class TestEdges:
    @given(st.lists(st.floats(-50, 50), min_size=1, max_size=30), st.integers(1, 6))
    def test_equal_width_covers_all_values(self, values, n_bins):
        values = np.array(values)
        edges = width_edges(values, n_bins, "x")
        assert ((values >= edges[0]) & (values < edges[-1])).all()
        assert_allclose(np.diff(edges), np.diff(edges)[0], atol=1e-9)

    @given(st.data(), st.integers(1, 5))
    def test_equal_livetime_differs_by_one_run_at_most(self, data, n_bins):
        n = data.draw(st.integers(10, 40))
        values = np.array(data.draw(st.permutations(range(n))), dtype=float)
        hours = np.array(data.draw(st.lists(st.floats(0.1, 1.0), min_size=n, max_size=n)))
        edges = livetime_edges(values, hours, n_bins, "x")
        sums = [hours[(values >= lo) & (values < hi)].sum() for lo, hi in pairwise(edges)]
        assert_allclose(sums, hours.sum() / n_bins, atol=1.0 + 1e-9)

    @given(st.data())
    def test_adaptive_bins_hold_enough_and_could_not_end_earlier(self, data):
        n = data.draw(st.integers(1, 40))
        values = np.array(data.draw(st.lists(st.integers(0, 15), min_size=n, max_size=n)), float)
        minimum = data.draw(st.integers(1, 6))
        if n < minimum:
            with pytest.raises(RequestError, match="ask for less"):
                adaptive_edges(values, np.ones((n, 1)), [minimum], "x")
            return
        edges = adaptive_edges(values, np.ones((n, 1)), [minimum], "x")
        sums = np.array([((values >= lo) & (values < hi)).sum()
                         for lo, hi in pairwise(edges)])  # fmt: skip
        assert (sums >= minimum).all()
        # All but the last end with the value that made them hold enough.
        for lo, hi in list(pairwise(edges))[:-1]:
            members = values[(values >= lo) & (values < hi)]
            assert (members < members.max()).sum() < minimum

    def test_quantiles_of_equal_values_are_one(self):
        assert_array_equal(quantile_edges(np.ones(5), 3, "x"), [-np.inf, 1.0, np.inf])


SPREAD = {"max_spread": {"x": 1}}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"grouping": {"method": "kmeans", "linkage": "ward"}}, "grouping.linkage: unknown"),
        ({"grouping": {"method": "kmeans", "n_groups": 2.5}}, "whole number from 1, or 'auto'"),
        ({"grouping": {"n_groups": 3}}, "grouping.method: missing; one of hierarchical, cuts"),
        ({"grouping": {"method": "spread"}}, "spread needs constraints.max_spread"),
        ({"constraints": {"per_pointing": True}}, "needs min_livetime or min_runs"),
        ({"grouping": {"method": "cuts", "by": "x", "adaptive": True}}, "adaptive bins need"),
        ({"grouping": {"method": "cuts", "by": "x", "cut": [1], "width": 3}}, "give one of cut"),
        ({"grouping": {"method": "cuts", "by": [{"column": "x", "edgs": [1]}]}}, "edgs: unknown"),
        ({"grouping": {"method": "cuts", "by": "x"}, "scaling": {"method": "robust"}}, "leave sc"),
        (
            {"grouping": {"method": "kmeans", "n_groups": 2}, "constraints": SPREAD},
            "leave n_groups out",
        ),
        ({"grouping": {"method": "hierarchical", "criterion": "distance"}}, "with a thresh"),
    ],
)  # fmt: skip
def test_descriptions_that_do_not_fit_together_are_refused(content, message):
    with pytest.raises(RequestError, match=message):
        make_config({"archive": "x"} | content)
