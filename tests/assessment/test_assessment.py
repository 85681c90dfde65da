"""What a grouping is worth: closed forms, slow oracles, scikit-learn, and injected truths."""

import itertools
import subprocess
import sys

import astropy.units as u
import numpy as np
import pytest
from astropy.table import MaskedColumn, QTable, Table
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy.cluster import hierarchy
from scipy.spatial.distance import cdist
from sklearn import metrics

from obscluster import Grouping, group_hierarchical, standard_scaler
from obscluster.assessment import (
    Suggestion,
    compare,
    labels_of_tree,
    outliers,
    quality,
    spreads,
    stability,
    suggest_n_groups,
    worst_spreads,
)
from obscluster.assessment import n_groups as silhouette
from obscluster.assessment.comparison import match_labels
from obscluster.assessment.n_groups import even_silhouettes, mean_silhouettes
from obscluster.assessment.within_groups import members_of
from obscluster.exceptions import ObsClusterWarning, RequestError

LINKAGES = ["single", "complete", "average", "weighted", "centroid", "median", "ward"]


def table_of(X, obs_ids=None):
    """Feature table with columns f0, f1, ... without unit."""
    X = np.asarray(X, dtype=float)
    table = QTable({"obs_id": np.arange(100, 100 + len(X)) if obs_ids is None else obs_ids})
    for i, column in enumerate(X.T):
        table[f"f{i}"] = column
    return table


def blobs(*centres, n=20, scatter=0.1, seed=0):
    """Runs around centres, one group after the other, and their labels."""
    centres = np.asarray(centres, dtype=float)
    rng = np.random.default_rng(seed)
    X = np.repeat(centres, n, axis=0)
    labels = np.repeat(np.arange(1, len(centres) + 1), n)
    return X + scatter * rng.normal(size=X.shape), labels


def ward(n_groups):
    return lambda table: group_hierarchical(table, None, {"t": n_groups})


def quality_of(X, n_max=10, **kwargs):
    table = table_of(X)
    scaled = standard_scaler(table)
    tree = group_hierarchical(scaled, None, {"t": 1})
    return quality(table, scaled, labels_of_tree(tree, n_max), **kwargs)


def assert_same(first, second):
    assert first.colnames == second.colnames
    for name in first.colnames:
        assert_array_equal(first[name], second[name])


@pytest.fixture
def features():
    table = QTable({"obs_id": [5, 3, 9, 4, 8, 7]})
    table["psf-r68"] = [0.10, 0.12, 0.20, 0.11, 0.22, 0.50] * u.deg
    table["azimuth"] = [350.0, 10.0, 90.0, 20.0, 110.0, 0.0] * u.deg
    table["edisp-bias"] = [-0.1, 0.1, 0.2, np.nan, 0.3, 0.0]
    table["notes"] = [""] * 6
    return table


LABELS = [1, 1, 2, 1, 2, -1]


class TestSpreads:
    def test_range_mean_and_the_worst_run_of_each_group(self, features):
        table = spreads(features, LABELS)
        assert table["label", "feature"].as_array().tolist() == [
            *[(1, name) for name in ("psf-r68", "azimuth", "edisp-bias")],
            *[(2, name) for name in ("psf-r68", "azimuth", "edisp-bias")],
        ]
        first, second = table[0], table[3]
        assert (first["unit"], first["n_obs"], first["worst_run"]) == ("deg", 3, 3)
        assert_allclose(
            [first[name] for name in ("min", "max", "mean", "spread", "percent", "deviation")],
            [0.10, 0.12, 0.11, 0.02, 100 * 0.02 / 0.11, 0.01],
        )
        # Two runs are equally far from their mean, whatever rounding says.
        assert second["worst_run"] == 8
        assert_allclose(second["percent"], 100 * 0.02 / 0.21)

    def test_an_azimuth_passes_north(self, features):
        row = spreads(features, LABELS)[1]
        directions = np.exp(1j * np.radians([350.0, 10.0, 20.0])).mean()
        mean = np.degrees(np.angle(directions))
        assert_allclose([row["min"], row["max"], row["spread"]], [-10.0, 20.0, 30.0])
        assert_allclose(row["mean"], mean)
        assert row["worst_run"] == 5
        assert_allclose(row["deviation"], -10.0 - mean)
        assert np.isnan(row["percent"])

    def test_missing_values_do_not_count_and_zero_has_no_per_cent(self, features):
        row = spreads(features, LABELS)[2]
        assert row["n_obs"] == 2
        assert_allclose([row["mean"], row["spread"]], [0.0, 0.2])
        assert np.isnan(row["percent"])

    def test_a_period_may_be_given_in_the_meta(self):
        table = QTable({"obs_id": [1, 2], "phase": [0.9, 0.1]})
        assert_allclose(spreads(table, [1, 1])["spread"], 0.8)
        table["phase"].info.meta = {"period": 1.0}
        assert_allclose(spreads(table, [1, 1])["spread"], 0.2)

    def test_rounding_keeps_the_mean_in_the_range(self):
        lo, hi = 0.1, np.nextafter(0.1, 1)
        for n_runs in range(2, 40):
            values = np.array([lo] * n_runs + [hi])
            mean = spreads(table_of(values[:, None]), np.ones(n_runs + 1, dtype=int))["mean"][0]
            assert lo <= mean <= hi

    def test_opposite_angles_have_no_mean(self):
        table = QTable({"obs_id": [1, 2], "azimuth": [90.0, 270.0] * u.deg})
        row = spreads(table, [1, 1])[0]
        assert_allclose(row["spread"], 180.0)
        assert np.isnan([row["mean"], row["deviation"]]).all()
        assert row["worst_run"] == -1

    def test_a_group_without_any_value(self, features):
        features["psf-r68"][:] = np.nan * u.deg
        row = spreads(features, LABELS)[0]
        assert (row["n_obs"], row["worst_run"]) == (0, -1)
        assert np.isnan([row["min"], row["max"], row["mean"], row["spread"]]).all()
        worst = worst_spreads(features, LABELS)[0]
        assert (worst["label"], worst["worst_run"], worst["percent_label"]) == (-1, -1, -1)
        assert np.isnan(worst["spread"])

    def test_masked_values_are_missing(self):
        column = MaskedColumn([1.0, 99.0, 3.0], mask=[False, True, False])
        row = spreads(Table({"obs_id": [1, 2, 3], "x": column}), [1, 1, 1])[0]
        assert (row["n_obs"], row["max"]) == (2, 3.0)

    def test_no_group_no_rows(self, features):
        assert len(spreads(features, np.full(6, -1))) == 0
        assert spreads(features, np.full(6, -1)).colnames == spreads(features, LABELS).colnames

    def test_a_grouping_is_matched_by_identifier(self, features):
        order = [3, 1, 0, 5, 4, 2]
        grouping = Grouping(features["obs_id"][order], np.array(LABELS)[order])
        assert_same(spreads(features, grouping), spreads(features, LABELS))

    @given(st.permutations(range(6)))
    def test_the_order_of_the_rows_does_not_matter(self, order):
        table = table_of(np.random.default_rng(0).normal(size=(6, 3)))
        labels = np.array([1, 2, 2, 1, 2, 2])
        assert_same(spreads(table[order], labels[order]), spreads(table, labels))
        assert_same(worst_spreads(table[order], labels[order]), worst_spreads(table, labels))

    @given(
        st.lists(st.tuples(st.floats(-1e3, 1e3), st.integers(1, 3)), min_size=1, max_size=12),
    )
    def test_equals_loops_over_the_runs(self, runs):
        values, labels = [value for value, _ in runs], [label for _, label in runs]
        table = spreads(table_of(np.array(values)[:, None]), labels)
        assert table["label"].tolist() == sorted(set(labels))
        for row in table:
            inside = [value for value, label in runs if label == row["label"]]
            mean = sum(inside) / len(inside)
            assert (row["n_obs"], row["min"], row["max"]) == (len(inside), min(inside), max(inside))
            assert row["min"] <= row["mean"] <= row["max"]
            assert_allclose(row["mean"], mean, atol=1e-9)
            deviation = values[row["worst_run"] - 100] - mean
            assert_allclose(row["deviation"], deviation, atol=1e-9)
            assert_allclose(abs(deviation), max(abs(v - mean) for v in inside), atol=1e-9)

    @given(
        st.lists(st.floats(0, 100), min_size=1, max_size=8),
        st.floats(-1000, 1000),
    )
    def test_turning_the_sky_does_not_matter(self, azimuths, turn):
        def of(values):
            table = QTable({"obs_id": np.arange(len(values)), "azimuth": values * u.deg})
            return spreads(table, np.ones(len(values), dtype=int))[0]

        still, turned = of(np.array(azimuths)), of(np.array(azimuths) + turn)
        assert_allclose(turned["spread"], still["spread"], atol=1e-6)
        assert_allclose(abs(turned["deviation"]), abs(still["deviation"]), atol=1e-6)
        # Within half a turn, the mean lies between the ends.
        assert turned["min"] - 1e-6 <= turned["mean"] <= turned["max"] + 1e-6

    def test_the_worst_of_the_groups(self):
        # Widest in metres is group 2, in per cent group 1.
        X = np.array([[1.0, -1.0], [2.0, 0.5], [100.0, 7.0], [110.0, 8.0]])
        worst = worst_spreads(table_of(X), [1, 1, 2, 2])
        assert worst["feature"].tolist() == ["f0", "f1"]
        assert_allclose(worst["spread"], [10.0, 1.5])
        assert worst["label"].tolist() == [2, 1]
        assert worst["percent_label"].tolist() == [1, -1]
        assert_allclose(worst["percent"], [100 * 1.0 / 1.5, np.nan])
        assert worst["worst_run"].tolist() == [102, 100]
        assert_allclose(worst["deviation"], [-5.0, -0.75])

    @pytest.mark.parametrize("function", [spreads, worst_spreads, outliers])
    def test_the_input_is_not_modified(self, function, features):
        before, labels = features.copy(), np.array(LABELS)
        function(features, labels)
        assert_same(features, before)
        assert_array_equal(labels, LABELS)

    @pytest.mark.parametrize("function", [spreads, worst_spreads, outliers])
    @pytest.mark.parametrize(
        ("labels", "message"),
        [
            ([1, 2], r"labels of shape \(2,\) for a table of 6 runs"),
            ([0, 0, 1, 1, 2, -1], "label 0; labels count from 1"),
            ([1, 1, 1, 1, 1, -2], "label -2"),
            ([1.0, 1, 1, 1, 1, 1], "expected integers"),
            (["a"] * 6, "expected integers"),
        ],
    )
    def test_what_is_no_label_is_refused(self, function, labels, message, features):
        with pytest.raises(RequestError, match=message):
            function(features, labels)

    def test_a_grouping_of_other_runs_is_refused(self, features):
        with pytest.raises(RequestError, match="none of the 6 runs of the table is among the 2"):
            spreads(features, Grouping([101, 102], [1, 1]))

    def test_runs_must_be_identified(self, features):
        with pytest.raises(RequestError, match="no column obs_id among psf-r68"):
            spreads(features["psf-r68", "azimuth"], LABELS)
        features["obs_id"][1] = 9
        with pytest.raises(RequestError, match="run 9 has several rows"):
            spreads(features, LABELS)


class TestLabelsOfTree:
    @pytest.mark.parametrize("method", LINKAGES)
    @pytest.mark.parametrize("n_runs", [2, 3, 4, 7, 40])
    def test_are_scipys_for_every_number(self, method, n_runs):
        # Centroid and median linkage have inversions.
        for seed in range(10):
            X = np.random.default_rng(seed).normal(size=(n_runs, 3))
            tree = hierarchy.linkage(X, method)
            labels = labels_of_tree(tree, None)
            reachable = {
                hierarchy.fcluster(tree, n, "maxclust").max() for n in range(1, n_runs + 1)
            }
            assert set(labels) == reachable
            for n_groups, found in labels.items():
                assert_array_equal(found, hierarchy.fcluster(tree, n_groups, "maxclust"))

    def test_equal_heights_are_cut_together(self):
        X = np.array([[0.0], [1.0], [2.0], [10.0], [11.0], [12.0]])
        assert sorted(labels_of_tree(hierarchy.linkage(X, "single"), None)) == [1, 2, 6]

    def test_identical_runs_are_never_split(self):
        X = np.repeat([[0.0], [5.0]], 4, axis=0)
        labels = labels_of_tree(hierarchy.linkage(X, "ward"), 3)
        assert sorted(labels) == [1, 2]
        assert len(set(labels[2][:4])) == len(set(labels[2][4:])) == 1

    def test_a_grouping_gives_labels_of_its_runs(self):
        X = blobs([0, 0], [5, 5], [9, 0], n=5)[0]
        X[3, 1] = np.nan
        grouping = group_hierarchical(table_of(X), None, {"t": 3})
        labels = labels_of_tree(grouping, 4)
        assert sorted(labels) == [1, 2, 3, 4]
        assert_array_equal(labels[3], grouping.labels)
        assert labels[2][3] == -1
        assert (np.delete(labels[2], 3) > 0).all()

    def test_one_run(self):
        assert labels_of_tree(np.empty((0, 4)))[1].tolist() == [1]
        with pytest.warns(ObsClusterWarning):
            grouping = group_hierarchical(table_of([[1.0]] * 2), None, {"t": 1})
        assert list(labels_of_tree(grouping)) == [1]

    @pytest.mark.parametrize(
        ("tree", "message"),
        [
            (Grouping([1, 2], [1, 2], parameters={"method": "cut"}), "by cut has no tree"),
            (Grouping([1, 2], [1, -1], [[0, 1, 1.0, 2]]), "1 assigned runs, .* 2 leaves"),
            (np.zeros((3, 3)), r"shape \(3, 3\) that is no tree"),
            (np.zeros(4), "no tree"),
        ],
    )
    def test_what_is_no_tree_is_refused(self, tree, message):
        with pytest.raises(RequestError, match=message):
            labels_of_tree(tree)

    def test_no_groups_are_refused(self):
        with pytest.raises(RequestError, match="n_max = 0"):
            labels_of_tree(np.array([[0, 1, 1.0, 2]]), 0)


class TestSilhouette:
    @pytest.mark.parametrize("chunk", [1, 150, 4_000_000])
    def test_equals_scikit_learn(self, chunk, monkeypatch):
        monkeypatch.setattr("obscluster.assessment.n_groups._CHUNK", chunk)
        rng = np.random.default_rng(4)
        X = rng.normal(size=(40, 3))
        X[5] = X[6]
        labelings = [1 + rng.integers(k, size=40) for k in (2, 3, 9, 30)]
        means, remark = mean_silhouettes(X, labelings)
        assert remark == "mean over all 40 runs"
        expected = [metrics.silhouette_score(X, labels) for labels in labelings]
        assert_allclose(means, expected, rtol=1e-6)

    def test_closed_form(self):
        # Two pairs at distance 9: a = 1, b = 9.5 for the outer runs and 8.5 for the inner ones.
        X = np.array([[0.0], [1.0], [9.0], [10.0]])
        expected = np.mean([1 - 1 / 9.5, 1 - 1 / 8.5])
        assert_allclose(mean_silhouettes(X, [np.array([1, 1, 2, 2])])[0], [expected])

    def test_unassigned_runs_are_as_if_they_were_not_there(self):
        X, labels = blobs([0, 0], [1, 1], n=10, scatter=0.5)
        less = labels.copy()
        less[[2, 15]] = -1
        (mean,), _ = mean_silhouettes(X, [less])
        assert_allclose(mean, mean_silhouettes(X[less > 0], [less[less > 0]])[0][0])

    def test_not_defined_for_one_group_or_as_many_as_runs(self):
        X = np.arange(4.0)[:, None]
        means, _ = mean_silhouettes(X, [np.ones(4, int), np.arange(1, 5), np.full(4, -1)])
        assert np.isnan(means).all()

    def test_a_sample_is_compared_with_all_runs(self):
        X, labels = blobs([0, 0], [1, 1], [2, 0], n=200, scatter=0.4)
        # A group so small that a sample of runs may miss it altogether.
        X, labels = np.vstack([X, [[9, 9], [9, 9.1]]]), np.append(labels, [4, 4])
        each = metrics.silhouette_samples(X, labels)
        (mean,), remark = mean_silhouettes(X, [labels], n_sample=300, random_state=7)
        assert "300 of 602 runs, drawn with random_state 7" in remark
        assert mean != each.mean()
        assert abs(mean - each.mean()) < 3 * each.std() / np.sqrt(300)
        assert mean_silhouettes(X, [labels], 300, 7)[0][0] == mean
        rows = np.random.default_rng(7).choice(602, 300, replace=False)
        assert_allclose(mean, each[rows].mean())


class TestEvenSilhouettes:
    def test_evenly_spread_runs_exceed_it_in_one_of_20_cases(self):
        rng = np.random.default_rng(0)
        numbers = list(range(2, 8))
        above, found = 0, []
        for seed in range(40):
            X = rng.uniform(size=(60, 2)) * [3.0, 1.0]
            tree = labels_of_tree(hierarchy.linkage(X, "ward"), 7)
            means = mean_silhouettes(X, [tree[n] for n in numbers])[0]
            even = even_silhouettes(X, numbers, random_state=seed)
            above += (means > even).any()
            found.append(means)
        assert above <= 6  # 2 are expected; more than 6 have a probability of 0.3 %
        # Nor is it out of reach.
        assert (even < np.mean(found, axis=0) + 4 * np.std(found, axis=0)).all()

    def test_clumps_exceed_it(self):
        X = blobs([0, 0], [1, 1], [2, 0])[0]
        assert quality_of(X)["silhouette_even"][2] < 0.6 < quality_of(X)["silhouette"][2]

    def test_one_feature_gives_more_than_many(self):
        X = np.random.default_rng(0).normal(size=(50, 6))
        assert even_silhouettes(X[:, :1], [3])[0] > 0.55
        assert even_silhouettes(X, [3])[0] < 0.3
        # Features that go together count as one.
        assert even_silhouettes(np.repeat(X[:, :1], 6, axis=1), [3])[0] > 0.55

    def test_not_defined(self):
        X = np.random.default_rng(0).normal(size=(4, 2))
        found = even_silhouettes(X, [1, 2, 4, 5])
        assert np.isfinite(found).tolist() == [False, True, False, False]
        assert np.isnan(even_silhouettes(X, [2], n_trials=0)).all()


class TestQuality:
    def test_indices_are_scikit_learns(self):
        X = np.random.default_rng(2).normal(size=(30, 3))
        table, scaled = table_of(X), standard_scaler(table_of(X))
        labels = labels_of_tree(group_hierarchical(scaled), None)
        result = quality(table, scaled, labels)
        Z = np.column_stack([scaled[name].value for name in ("f0", "f1", "f2")])
        assert result["n_groups"].tolist() == list(range(1, 31))
        for row in result[1:-1]:
            found = labels[row["n_groups"]]
            assert_allclose(row["silhouette"], metrics.silhouette_score(Z, found), rtol=1e-6)
            expected = metrics.calinski_harabasz_score(Z, found)
            assert_allclose(row["calinski_harabasz"], expected)
            assert_allclose(row["davies_bouldin"], metrics.davies_bouldin_score(Z, found))
            assert row["smallest"] == np.bincount(found)[1:].min()
            assert row["n_single"] == (np.bincount(found)[1:] == 1).sum()
        for name in ("silhouette", "calinski_harabasz", "davies_bouldin"):
            assert np.isnan([result[name][0], result[name][-1]]).all()

    def test_spreads_are_those_of_each_number(self, features):
        scaled = standard_scaler(features["obs_id", "psf-r68", "azimuth"])
        labels = labels_of_tree(group_hierarchical(scaled), None)
        result = quality(features, scaled, labels)
        assert result["psf-r68 spread"].unit == u.deg
        assert result.meta["features"] == ["psf-r68", "azimuth", "edisp-bias"]
        for row in result:
            for worst in worst_spreads(features, labels[row["n_groups"]]):
                name = worst["feature"]
                assert u.Quantity(row[f"{name} spread"]).value == worst["spread"]
                assert row[f"{name} worst run"] == worst["worst_run"]
                assert_array_equal(row[f"{name} percent"], worst["percent"])
        # Smaller groups within larger ones cannot be wider.
        assert (np.diff(result["psf-r68 spread"].value) <= 0).all()

    def test_runs_without_group_or_features_do_not_count(self):
        X, labels = blobs([0, 0], [3, 3], n=8)
        X[2, 0] = np.nan
        labels[9] = -1
        X[9] = 1e3
        table = table_of(X)
        kept = np.delete(np.arange(16), [2, 9])
        found = quality(table, table, {2: labels}, n_trials=0)
        assert_same(found, quality(table[kept], table[kept], {2: labels[kept]}, n_trials=0))
        assert found["n_obs"].tolist() == [14]

    def test_identical_runs_have_no_indices(self):
        table = table_of(np.full((6, 2), 0.1))
        result = quality(table, table, {1: np.ones(6, int), 2: np.repeat([1, 2], 3)})
        for name in ("calinski_harabasz", "davies_bouldin"):
            assert np.isnan(result[name]).all()
        assert_array_equal(result["f0 spread"], 0.0)

    def test_groups_without_scatter_have_no_variance_ratio(self):
        # scikit-learn says 1 for the ratio of anything and nothing.
        table = table_of(np.repeat([[0.1, 0.7], [0.3, 0.1]], 3, axis=0))
        result = quality(table, table, {2: np.repeat([1, 2], 3)})
        assert np.isnan(result["calinski_harabasz"][0])
        assert_allclose([result["davies_bouldin"][0], result["silhouette"][0]], [0.0, 1.0])

    def test_the_order_of_the_rows_does_not_matter(self):
        X, labels = blobs([0, 0], [1, 1], n=15, scatter=0.4)
        table, order = table_of(X), np.random.default_rng(0).permutation(30)
        first = quality(table, table, {2: labels}, n_sample=20)
        second = quality(table[order], table, {2: labels[order]}, n_sample=20)
        assert_same(first, second)
        assert first.meta == second.meta

    def test_groupings_of_any_method(self):
        X, labels = blobs([0, 0], [1, 1], n=5)
        table = table_of(X)
        groupings = {2: Grouping(table["obs_id"], labels), 3: labels, 1: np.ones(10, int)}
        result = quality(table, table, groupings)
        # Three were asked, but two were found, and these are there already.
        assert result["n_groups"].tolist() == [1, 2]
        assert len(quality(table, table, {1: np.full(10, -1)})) == 0

    def test_a_sample_is_said(self):
        X = np.random.default_rng(0).normal(size=(60, 2))
        assert quality_of(X, 3).meta["silhouette"] == "mean over all 60 runs"
        assert "20 of 60 runs" in quality_of(X, 3, n_sample=20).meta["silhouette"]

    def test_survives_a_file(self, tmp_path):
        result = quality_of(blobs([0, 0], [1, 1], n=5)[0])
        result.write(tmp_path / "quality.ecsv")
        again = QTable.read(tmp_path / "quality.ecsv")
        assert_same(again, result)
        assert suggest_n_groups(again) == suggest_n_groups(result)

    def test_no_complete_run_no_rows(self):
        table = table_of(np.full((3, 2), np.nan))
        assert len(quality(table, table, {1: np.ones(3, int), 2: [1, 2, 2]})) == 0
        assert len(outliers(table, np.ones(3, int), 0)) == 0

    def test_tables_of_other_runs_are_refused(self):
        table = table_of(np.eye(4))
        with pytest.raises(RequestError, match="4 runs and scaled features of 3"):
            quality(table, table[:3], {1: np.ones(4, int)})


class TestSuggestion:
    @pytest.mark.parametrize("n_groups", [2, 3, 4, 6])
    def test_finds_the_groups_that_were_made(self, n_groups):
        centres = 3.0 * np.random.default_rng(1).permutation(np.eye(6))[:n_groups, :5]
        suggestion = suggest_n_groups(quality_of(blobs(*centres)[0]))
        assert suggestion.n_groups == n_groups
        assert "the highest of 2 to 10 groups; evenly spread runs reach" in suggestion.reason
        assert str(suggestion).startswith(f"{n_groups} groups: the silhouette is 0.")

    def test_no_structure_is_one_group(self):
        X = 10 + np.random.default_rng(0).normal(size=(200, 5))
        suggestion = suggest_n_groups(quality_of(X))
        assert suggestion.n_groups == 1
        assert "no clear structure" in suggestion.reason
        assert "below 0.25" in suggestion.reason
        widest = max(range(5), key=lambda i: np.ptp(X[:, i]) / (X[:, i].max() + X[:, i].min()))
        assert f"f{widest} differs by" in suggestion.reason

    def test_a_gradient_is_called_one(self):
        suggestion = suggest_n_groups(quality_of(np.linspace(1, 2, 60)[:, None]))
        assert suggestion.n_groups == 2
        assert "no natural boundary and the spreads should decide" in suggestion.reason

    def test_an_outlier_is_no_group(self):
        X = np.vstack([10 + np.random.default_rng(0).normal(size=(100, 5)), np.full((1, 5), 40.0)])
        suggestion = suggest_n_groups(quality_of(X))
        assert suggestion.n_groups == 1
        assert "for 2 groups, comes from setting single runs apart" in suggestion.reason

    def test_an_outlier_beside_groups_is_named(self):
        X = np.vstack([blobs([0, 0, 0], [1, 1, 0])[0], [[9.0, 9.0, 9.0]]])
        suggestion = suggest_n_groups(quality_of(X))
        assert suggestion.n_groups == 3
        assert suggestion.reason.endswith("1 group is a single run, perhaps an outlier")

    @staticmethod
    def table(silhouettes, even=np.nan, single=0):
        n = len(silhouettes)
        return Table(
            {
                "n_groups": np.arange(1, n + 1),
                "n_obs": np.full(n, 50),
                "n_single": np.full(n, single),
                "silhouette": silhouettes,
                "silhouette_even": np.full(n, even),
            }
        )

    def test_the_smallest_of_equally_good_numbers(self):
        table = self.table([np.nan, 0.40, 0.66, 0.69, 0.70, 0.6])
        suggestion = suggest_n_groups(table)
        assert suggestion == Suggestion(
            3, "the silhouette is 0.66, within 0.05 of 0.70 for 5 groups"
        )
        assert suggest_n_groups(table, tolerance=0.02).n_groups == 4
        assert suggest_n_groups(table, tolerance=0.0).n_groups == 5
        assert suggest_n_groups(table, min_silhouette=0.8).n_groups == 1

    def test_the_reason_says_what_is_doubtful(self):
        reason = suggest_n_groups(self.table([np.nan, 0.3, 0.4])).reason
        assert "the structure is weak" in reason
        assert reason.endswith("more groups were not tried")
        assert "no natural boundary" in suggest_n_groups(self.table([0.0, 0.6, 0.4], 0.6)).reason
        assert "no natural" not in suggest_n_groups(self.table([0.0, 0.6, 0.4], 0.59)).reason

    @pytest.mark.parametrize(
        ("X", "message"),
        [
            ([[1.0, 2.0]], "need at least 3 runs, and there are 1"),
            ([[1.0, 2.0], [3.0, 1.0]], "need at least 3 runs, and there are 2"),
            (np.full((5, 2), 0.1), "runs are identical"),
        ],
    )
    @pytest.mark.filterwarnings("ignore:nothing distinguishes")
    def test_where_nothing_can_be_said_it_is_one_group(self, X, message):
        suggestion = suggest_n_groups(quality_of(X))
        assert suggestion.n_groups == 1
        assert message in suggestion.reason

    def test_other_tables_are_refused(self):
        with pytest.raises(RequestError, match=r"no column n_groups, n_obs.* give the table"):
            suggest_n_groups(Table({"silhouette": [0.5]}))
        with pytest.raises(RequestError, match="no number of groups was tried"):
            suggest_n_groups(self.table([]))


class TestStability:
    def test_clear_groups_stay(self):
        X, labels = blobs([0, 0], [3, 3], [6, 0])
        result = stability(table_of(X), ward(3), n_resamples=10)
        assert result.table["kind"].tolist() == ["resampling"] + ["noise"] * 3
        assert result.table["level"].tolist() == [0.8, 0.05, 0.1, 0.2]
        assert result.table["n"].tolist() == [10] * 4
        for name in ("median", "q05", "q95"):
            assert_array_equal(result.table[name], 1.0)
        assert_array_equal(result.runs["stays"], 1.0)
        assert result.runs["n"].sum() == 10 * 48
        assert len(result.between()) == 0
        assert "every run stays" in str(result)
        assert adjusted(result.grouping.labels, labels) == 1.0

    def test_names_the_run_between_groups(self):
        X = np.vstack([blobs([0, 0], [3, 0], scatter=0.3)[0], [[1.5, 0.0]]])
        result = stability(table_of(X), ward(2), n_resamples=40)
        assert result.between(0.9)["obs_id"].tolist() == [140]
        assert 0.1 < result.runs["stays"][-1] < 0.9
        assert "140 (" in str(result)

    def test_more_noise_leaves_less(self):
        X, _ = blobs([0, 0], [1, 1], [2, 0])
        result = stability(table_of(X), ward(3), 10, noise=[0.0, 0.3, 3.0])
        median = result.table["median"].tolist()
        assert median[1] == 1.0
        assert 1.0 > median[2] > median[3]
        assert abs(median[3]) < 0.2

    def test_groups_at_random_have_an_index_of_about_zero(self):
        rng = np.random.default_rng(0)

        def at_random(table):
            return Grouping(table["obs_id"], 1 + rng.permutation(len(table)) % 3)

        result = stability(table_of(np.eye(90)[:, :2]), at_random, 40)
        assert (np.abs(result.table["median"]) < 0.05).all()
        assert (result.table["q05"] <= result.table["median"]).all()
        assert (result.table["median"] <= result.table["q95"]).all()
        # A matching of three labels keeps a little more than a third.
        assert 0.3 < np.mean(result.runs["stays"]) < 0.5

    def test_renumbered_groups_are_the_same_groups(self):
        flips = itertools.cycle([[1, 2], [2, 1]])

        def method(table):
            return Grouping(table["obs_id"], np.array(next(flips))[(table["f0"] > 0.5).astype(int)])

        result = stability(table_of(blobs([0, 0], [1, 0])[0]), method, 6, noise=[0.0])
        assert_array_equal(result.table["median"], 1.0)
        assert_array_equal(result.runs["stays"], 1.0)

    def test_the_order_of_the_rows_does_not_matter(self):
        table = table_of(blobs([0, 0], [1, 1], scatter=0.4)[0])
        order = np.random.default_rng(0).permutation(len(table))
        first, second = (stability(t, ward(2), 8) for t in (table, table[order]))
        assert_same(first.table, second.table)
        assert_same(first.runs, second.runs)

    def test_the_seed_decides_and_noise_does_not_change_the_resamples(self):
        table = table_of(blobs([0, 0], [1, 1], scatter=0.4)[0])
        first = stability(table, ward(2), 8)
        assert_same(stability(table, ward(2), 8).table, first.table)
        less = stability(table, ward(2), 8, noise=())
        assert_same(less.table, first.table[:1])
        assert_same(less.runs, first.runs)
        other = stability(table, ward(2), 8, random_state=1)
        assert other.runs["n"].tolist() != first.runs["n"].tolist()

    def test_a_resample_is_a_part_of_the_runs_as_they_are(self):
        table, seen = table_of(blobs([0, 0], [3, 3], n=5)[0]), []

        def method(part):
            seen.append(part)
            return ward(2)(part)

        before = table.copy()
        stability(table, method, 3, fraction=0.7, noise=[0.1])
        assert_same(table, before)
        assert [len(part) for part in seen] == [10] + [7] * 3 + [10] * 3
        for part in seen[1:4]:
            rows = np.searchsorted(table["obs_id"], part["obs_id"])
            assert_same(part, table[rows])
        shifts = np.concatenate([part["f0"] - table["f0"] for part in seen[4:]])
        assert 0.05 < shifts.std() < 0.15

    def test_runs_without_group_do_not_count_but_losing_it_does(self):
        table = table_of(blobs([0, 0], [3, 3], n=10)[0])
        calls = itertools.count()

        def method(part):
            labels = 1 + (part["f0"] > 1.5).astype(int)
            labels[part["obs_id"] == 100] = -1
            if next(calls):
                labels[part["obs_id"] == 101] = -1
            return Grouping(part["obs_id"], labels)

        result = stability(table, method, 20, noise=())
        assert 100 not in result.runs["obs_id"]
        assert result.between()["obs_id"].tolist() == [101]
        assert result.runs["stays"][0] == 0.0
        assert result.table["q05"][0] < 1.0

    def test_warnings_of_the_method_are_heard_once(self):
        table = table_of(np.repeat([[0.0], [1.0]], 5, axis=0))
        with pytest.warns(ObsClusterWarning, match="falls into 2") as caught:
            stability(table, ward(3), 3)
        assert len(caught) == 1

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"n_resamples": 0}, "n_resamples = 0"),
            ({"fraction": 0.0}, "fraction = 0.0"),
            ({"fraction": 1.2}, "fraction = 1.2"),
            ({"noise": [0.1, -1.0]}, "noise of -1.0"),
            ({"method": ward(6)}, "5 of 6 runs cannot be grouped like all: 6 groups asked"),
        ],
    )
    def test_what_cannot_be_done_is_refused(self, options, message):
        table = table_of(np.arange(12.0).reshape(6, 2) ** 2)
        with pytest.raises(RequestError, match=message):
            stability(table, **({"method": ward(2)} | options))


class TestOutliers:
    @pytest.mark.parametrize("n_groups", [1, 2, 5, 20])
    def test_false_alarms_are_rare(self, n_groups):
        flagged = 0
        for seed in range(10):
            table = table_of(np.random.default_rng(seed).normal(size=(500, 4)))
            flagged += len(outliers(table, ward(n_groups)(table)))
        assert flagged < 0.002 * 10 * 500

    @pytest.mark.parametrize("n_runs", [10, 20, 50])
    def test_false_alarms_are_rare_among_few_runs(self, n_runs):
        flagged = trials = 0
        for seed in range(1000 // n_runs):
            table = table_of(np.random.default_rng(seed).normal(size=(n_runs, 4)))
            for n_groups in (1, 2, 4):
                flagged += len(outliers(table, ward(n_groups)(table)))
                trials += n_runs
        assert flagged < 0.01 * trials

    @pytest.mark.parametrize("labels", ["together", "of its own", "unassigned", "ward"])
    @pytest.mark.parametrize("sign", [-1, 1])
    def test_eight_sigma_are_found_and_the_feature_is_named(self, labels, sign):
        found = 0
        for seed in range(20):
            X = np.random.default_rng(seed).normal(size=(500, 4))
            X[123, 2] = 8.0 * sign
            table = table_of(X)
            given = np.ones(500, dtype=int)
            given[123] = {"of its own": 2, "unassigned": -1}.get(labels, 1)
            result = outliers(table, ward(4)(table) if labels == "ward" else given)
            if 223 not in result["obs_id"]:
                continue
            row = result[result["obs_id"].tolist().index(223)]
            found += row["feature"] == "f2" and 6.0 < sign * row["deviation"] < 16.0
            assert abs(row["deviation"]) == row["distance"]
            if labels == "of its own":
                assert (row["label"], row["nearest"]) == (2, 1)
        assert found >= (18 if labels == "ward" else 20)

    def test_distances_of_a_large_group_are_sigmas(self):
        X = np.random.default_rng(0).normal(3.0, 0.5, size=(4000, 1))
        result = outliers(table_of(X), np.ones(4000, dtype=int), threshold=0)
        result.sort("obs_id")
        assert_allclose(result["deviation"], (X[:, 0] - 3.0) / 0.5, atol=0.1, rtol=0.05)

    def test_a_run_cannot_hide_in_its_own_scatter(self):
        # Three runs of a group, one of which leaves; 30 others tell what scatter is usual.
        rng = np.random.default_rng(0)
        X = rng.normal(size=(33, 2))
        X[:3] += 50.0
        labels = np.repeat([2, 1], [3, 30])
        distances = []
        for away in (20.0, 40.0, 80.0):
            X[0, 1] = 50.0 + away
            row = outliers(table_of(X), labels)[0]
            assert (row["obs_id"], row["feature"], row["nearest"]) == (100, "f1", 2)
            distances.append(row["distance"])
        assert_allclose(np.diff(distances, n=1)[1] / np.diff(distances, n=1)[0], 2.0)
        # The others of the group are not blamed.
        assert outliers(table_of(X), labels)["obs_id"].tolist() == [100]

    def test_what_is_left_out_is_the_run_itself(self):
        # Slow and obvious: take the run away, and compare it as one without group.
        X, labels = blobs([0, 0], [4, 1], n=7, scatter=1.0)
        X = np.vstack([X, np.random.default_rng(5).normal(size=(300, 2)) + 20])
        labels = np.append(labels, np.full(300, 3))
        found = outliers(table_of(X), labels, threshold=0)
        found.sort("obs_id")
        for i in range(14):
            alone = labels.copy()
            alone[i] = -1
            slow = outliers(table_of(X), alone, threshold=0)
            slow.sort("obs_id")
            assert slow["feature"][i] == found["feature"][i]
            # The scatter of all groups is not quite the same.
            assert_allclose(slow["deviation"][i], found["deviation"][i], rtol=0.05)

    def test_a_pair_far_from_all_others_is_a_group(self):
        X = np.vstack([np.random.default_rng(0).normal(size=(50, 2)), [[30, 30], [31, 30]]])
        assert len(outliers(table_of(X), np.repeat([1, 2], [50, 2]))) == 0
        assert len(outliers(table_of(X), np.repeat([1, -1], [50, 2]))) == 2

    def test_the_nearer_of_two_runs_counts(self):
        X = np.append(np.random.default_rng(0).normal(size=50), [300, 600, 601])[:, None]
        labels = np.repeat([1, 2, 1], [50, 2, 1])
        # Half-way between the two is nothing.
        assert outliers(table_of(X), labels)["obs_id"].tolist() == [150, 151]

    def test_one_run_does_not_tell_where_its_group_is(self):
        X = np.append(np.random.default_rng(0).normal(size=4000), [50.0, 57.0])[:, None]
        row = outliers(table_of(X), np.repeat([1, 2, -1], [4000, 1, 1]), 4)[-1]
        assert (row["obs_id"], row["nearest"]) == (4101, 2)
        assert_allclose(row["deviation"], 7 / np.sqrt(2), rtol=0.05)

    def test_false_alarms_are_rare_in_many_small_groups(self):
        flagged = 0
        labels = np.repeat(np.arange(1, 21), 5)
        for seed in range(20):
            X = np.random.default_rng(seed).normal(size=(100, 4)) + 100.0 * labels[:, None]
            flagged += len(outliers(table_of(X), labels))
        assert flagged < 0.01 * 20 * 100

    def test_a_tight_group_counts_as_tight(self):
        X = np.vstack([blobs([0.0], n=100, scatter=0.01)[0], blobs([20.0], n=100, scatter=1.0)[0]])
        X[0, 0] = 0.08
        assert 100 in outliers(table_of(X), np.repeat([1, 2], 100))["obs_id"]

    @pytest.mark.parametrize("noise", [0.0, 1e-13])
    def test_groups_of_identical_runs_borrow_the_scatter_of_others(self, noise):
        rng = np.random.default_rng(0)
        X = np.vstack([50.0 + noise * rng.normal(size=(30, 1)), rng.normal(size=(60, 1))])
        labels = np.repeat([1, 2], [30, 60])
        X[0, 0] = 50.1
        assert len(outliers(table_of(X), labels)) == 0
        X[0, 0] = 25.0
        assert outliers(table_of(X), labels)["obs_id"].tolist() == [100]

    @pytest.mark.parametrize("noise", [0.0, 1e-14])
    def test_features_that_hardly_vary(self, noise):
        X = np.full((200, 2), 0.1) + noise * np.random.default_rng(0).normal(size=(200, 2))
        labels = np.ones(200, dtype=int)
        # Of a few values, the rare one is nothing special; the only one is.
        X[:20, 0] = 1.0
        assert len(outliers(table_of(X), labels)) == 0
        X[7, 1] = 1.0
        assert outliers(table_of(X), labels)["obs_id"].tolist() == [107]

    def test_features_that_do_not_vary(self):
        assert len(outliers(table_of(np.full((9, 2), 0.1)), np.ones(9, dtype=int))) == 0

    def test_small_groups_borrow_the_scatter_within_others(self):
        # Groups are much farther from each other than runs within them.
        X, labels = blobs(*(100.0 * np.arange(10)[:, None] * [1, 1]), n=5, scatter=1.0)
        X[12, 1] += 20.0
        row = outliers(table_of(X), labels)[0]
        assert (row["obs_id"], row["nearest"], row["feature"]) == (112, 3, "f1")

    @pytest.mark.parametrize("n_runs", [1, 2, 3, 4])
    def test_so_few_runs_do_not_tell(self, n_runs):
        for seed in range(30):
            X = np.random.default_rng(seed).normal(size=(n_runs, 4))
            assert len(outliers(table_of(X), np.ones(n_runs, dtype=int))) == 0

    @settings(max_examples=30)
    @given(
        st.integers(0, 1000),
        st.lists(st.floats(0.01, 100), min_size=3, max_size=3),
        st.lists(st.floats(-100, 100), min_size=3, max_size=3),
    )
    def test_units_and_repeated_features_do_not_matter(self, seed, factors, offsets):
        X, labels = blobs([0, 0, 0], [3, 0, 1], n=12, scatter=1.0, seed=seed)
        first = outliers(table_of(X), labels, threshold=0)
        scaled = np.array(factors) * X + offsets
        second = outliers(table_of(np.hstack([scaled, scaled])), labels, threshold=0)
        assert_allclose(second["distance"], first["distance"], rtol=1e-6)

    def test_the_order_of_the_rows_does_not_matter(self):
        X, labels = blobs([0, 0], [3, 3], scatter=1.0)
        order = np.random.default_rng(0).permutation(40)
        first = outliers(table_of(X), labels, 0)
        assert_same(first, outliers(table_of(X)[order], labels[order], 0))
        assert len(first) == 40
        assert (np.diff(first["distance"]) <= 0).all()

    def test_incomplete_runs_and_lonely_ones_are_not_judged(self):
        X = np.random.default_rng(0).normal(size=(40, 2))
        X[3] = [99.0, np.nan]
        result = outliers(table_of(X), np.ones(40, dtype=int), 0)
        assert 103 not in result["obs_id"]
        assert result.meta == {"threshold": 0, "n_obs": 39}
        assert len(outliers(table_of(X[:1]), [1])) == 0
        assert len(outliers(table_of(X), np.full(40, -1))) == 0

    def test_a_negative_threshold_is_refused(self):
        with pytest.raises(RequestError, match="threshold = -1"):
            outliers(table_of(np.eye(3)), [1, 1, 1], -1)


def adjusted(first, second):
    return metrics.adjusted_rand_score(first, second)


class TestCompare:
    def test_contingency_table(self):
        first = Grouping([1, 2, 3, 4, 5, 6], [1, 1, 2, 2, -1, 2], names={1: "low_zenith"})
        second = Grouping([7, 6, 5, 4, 3, 2, 1], [1, 1, 2, -1, 1, 2, 2])
        result = compare(first, second)
        assert_array_equal(result.counts, [[0, 2, 0], [2, 0, 1], [0, 1, 0]])
        assert (result.n_common, result.n_assigned, result.n_matched) == (6, 4, 4)
        assert result.adjusted_rand == 1.0
        assert (result.only_first.tolist(), result.only_second.tolist()) == ([], [7])
        assert result.table.colnames[1:] == ["group_1", "group_2", "unassigned"]
        assert result.table["first \\ second"].tolist() == [
            "group_1 (low_zenith)",
            "group_2",
            "unassigned",
        ]
        text = str(result)
        assert "6 runs in both groupings, 4 of them assigned in both" in text
        assert "adjusted Rand index 1.000" in text
        assert text.endswith("1 only in the second: 7")

    @given(
        st.lists(
            st.tuples(st.sampled_from([-1, 1, 2, 3]), st.sampled_from([-1, 1, 2])), max_size=20
        )
    )
    def test_equals_scikit_learn_and_counting(self, pairs):
        pairs = [(1, 1), (2, 2), (3, 1), *pairs]
        first, second = np.array(pairs).T
        result = compare(
            Grouping(np.arange(len(pairs)), first), Grouping(np.arange(len(pairs)), second)
        )
        both = (first > 0) & (second > 0)
        assert_allclose(result.adjusted_rand, adjusted(first[both], second[both]))
        for i, j in itertools.product([1, 2, 3, -1], [1, 2, -1]):
            expected = sum(pair == (i, j) for pair in pairs)
            assert result.counts[i if i < 0 else i - 1, j if j < 0 else j - 1] == expected

    def test_other_numbers_for_the_same_groups(self):
        first = Grouping(np.arange(9), [1, 1, 1, 2, 2, 2, 3, 3, 3])
        second = Grouping(np.arange(9)[::-1], [1, 1, 1, 3, 3, 3, 2, 2, 2])
        assert compare(first, second).adjusted_rand == 1.0
        assert compare(first, second).n_matched == 9

    @pytest.mark.parametrize("obs_ids", [[7, 8], [1, 9], []])
    def test_too_few_common_runs(self, obs_ids):
        result = compare(Grouping([1, 2], [1, 2]), Grouping(obs_ids, np.ones(len(obs_ids), int)))
        assert np.isnan(result.adjusted_rand)
        assert "too few for an adjusted Rand index" in str(result)

    @given(st.lists(st.tuples(st.integers(1, 4), st.integers(1, 3)), min_size=1, max_size=12))
    def test_matching_keeps_as_many_runs_as_any_renaming_could(self, pairs):
        first, second = np.array(pairs).T
        best = max(
            sum(names[b - 1] == a for a, b in pairs)
            for names in itertools.permutations([1, 2, 3, 4], 3)
        )
        matched = match_labels(first, second)
        assert (matched == first).sum() == best
        # Groups stay groups: no label for two of them.
        named = {(a, b) for a, b in zip(matched, second, strict=True) if a > 0}
        assert len({a for a, _ in named}) == len(named)

    def test_runs_of_no_group_match_nothing(self):
        matched = match_labels(np.array([-1, -1, 1, 2]), np.array([1, 1, -1, 2]))
        assert matched.tolist() == [0, 0, -1, 2]
        assert match_labels(np.array([1, 1, 1]), np.array([-1, -1, 5])).tolist() == [-1, -1, 1]


def test_members_are_the_rows_of_each_label():
    members = members_of(np.array([2, -1, 1, 2]))
    assert {label: rows.tolist() for label, rows in members.items()} == {1: [2], 2: [0, 3]}
    assert members_of(np.array([], dtype=np.int64)) == {}


def test_the_published_grouping(pks_reference):
    table = QTable({"obs_id": pks_reference["obs_id"]})
    table["edisp-res"] = pks_reference["edisp_res"]
    table["psf-radius"] = pks_reference["psf_radius_deg"] * u.deg
    scaled = standard_scaler(table)
    grouping = group_hierarchical(scaled, None, {"t": 2})
    result = quality(table, scaled, labels_of_tree(grouping))
    published = np.array(pks_reference["label"])
    X = np.column_stack([scaled["edisp-res"].value, scaled["psf-radius"].value])
    assert_allclose(result["silhouette"][1], metrics.silhouette_score(X, published), rtol=1e-6)
    suggestion = suggest_n_groups(result)
    assert suggestion.n_groups == 2
    assert "no natural boundary" in suggestion.reason
    assert result["psf-radius worst run"][1] == 33787
    assert len(outliers(scaled, grouping)) == 0


def test_importing_loads_neither_matplotlib_nor_scikit_learn():
    code = "import sys, obscluster.assessment; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "obscluster.assessment.n_groups" in loaded
    assert not loaded & {"matplotlib", "sklearn"}


def test_distances_in_memory_are_few(monkeypatch):
    shapes = []

    def watched(*arrays):
        shapes.append([len(array) for array in arrays])
        return cdist(*arrays)

    monkeypatch.setattr(silhouette, "cdist", watched)
    mean_silhouettes(np.random.default_rng(0).normal(size=(9000, 2)), [np.arange(9000) % 3 + 1])
    assert max(a * b for a, b in shapes) <= 4_000_000
    assert sum(b for _, b in shapes) == 5000
