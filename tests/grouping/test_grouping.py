"""What every method must do, and what each one claims."""

from itertools import pairwise

import astropy.units as u
import numpy as np
import pytest
from astropy.table import QTable
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from scipy.cluster import hierarchy

from obscluster import (
    Grouping,
    group_by_cut,
    group_by_edges,
    group_by_quantiles,
    group_hierarchical,
    hierarchical_clustering,
)
from obscluster.exceptions import ArchiveError, ObsClusterWarning, RequestError
from obscluster.grouping.cuts import bin_labels

METHODS = {
    "cut": lambda table: group_by_cut(table, "psf-radius"),
    "edges": lambda table: group_by_edges(table, "psf-radius", [-9.0, 0.0, 9.0]),
    "quantiles": lambda table: group_by_quantiles(table, "psf-radius", 3),
    "ward": lambda table: group_hierarchical(table, None, {"t": 2}),
    "single": lambda table: group_hierarchical(table, {"method": "single"}, {"t": 2}),
}
every_method = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)


def feature_table(X, obs_ids=None):
    X = np.asarray(X, dtype=float)
    table = QTable({"obs_id": np.arange(100, 100 + len(X)) if obs_ids is None else obs_ids})
    table["psf-radius"] = X[:, 0] * u.deg
    table["edisp-res"] = X[:, 1]
    return table


@pytest.fixture
def table():
    return feature_table(np.random.default_rng(3).normal(size=(23, 2)))


@every_method
class TestEveryMethod:
    def test_labels_count_from_one_without_gaps(self, method, table):
        labels = method(table).labels
        assert_array_equal(np.unique(labels), np.arange(1, labels.max() + 1))
        assert labels.max() > 1

    def test_the_order_of_the_rows_does_not_matter(self, method, table):
        order = np.random.default_rng(0).permutation(len(table))
        first, second = method(table), method(table[order])
        assert_array_equal(second.obs_ids, first.obs_ids[order])
        assert_array_equal(second.labels, first.labels[order])

    def test_missing_values_belong_nowhere(self, method, table):
        table["psf-radius"][4] = np.nan * u.deg
        labels = method(table).labels
        assert labels[4] == -1
        assert (np.delete(labels, 4) > 0).all()

    def test_the_input_is_not_modified(self, method, table):
        before = table.copy()
        method(table)
        assert table.colnames == before.colnames
        assert all((table[name] == before[name]).all() for name in table.colnames)

    def test_identical_runs_are_never_split_by_a_value(self, method, table):
        table["psf-radius"][7], table["edisp-res"][7] = (
            table["psf-radius"][3],
            table["edisp-res"][3],
        )
        labels = method(table).labels
        assert labels[7] == labels[3]

    def test_files_give_back_what_was_written(self, method, table, tmp_path):
        table["psf-radius"][4] = np.nan * u.deg
        grouping = method(table)
        grouping.write(tmp_path, table)
        assert Grouping.read(tmp_path) == grouping
        assert Grouping.read(tmp_path / "groups.yaml") == grouping

    def test_the_parameters_say_how(self, method, table):
        assert method(table).parameters["method"] in ("cut", "edges", "quantiles", "hierarchical")


@every_method
@pytest.mark.parametrize("n_runs", [2, 5])
def test_identical_runs_are_one_group_and_that_is_said(method, n_runs):
    with pytest.warns(ObsClusterWarning, match="no run is in|nothing distinguishes"):
        grouping = method(feature_table(np.full((n_runs, 2), 0.1)))
    assert set(grouping.labels) == {1}


@pytest.mark.parametrize("name", ["cut", "quantiles"])
def test_one_run_is_one_group(name):
    with pytest.warns(ObsClusterWarning, match="no run is in"):
        assert METHODS[name](feature_table([[1.0, 2.0]])).labels.tolist() == [1]


class TestGrouping:
    def test_groups_hold_the_observations(self):
        grouping = Grouping([5, 3, 9, 4], [2, 1, -1, 2])
        assert {name: ids.tolist() for name, ids in grouping.groups.items()} == {
            "group_1": [3],
            "group_2": [5, 4],
            "unassigned": [9],
        }
        assert grouping.n_groups == 2
        assert grouping.label_of([4, 3, 77]).tolist() == [2, 1, -1]

    def test_named_labels_split_observations_by_name(self):
        grouping = Grouping([1, 2, 3], [1, 2, -1], names={1: "low_zenith"})
        assert grouping.named_labels.tolist() == ["low_zenith", "2", "-1"]

    @pytest.mark.parametrize(
        ("obs_ids", "labels", "message"),
        [
            ([1, 2], [1], "2 observations but 1 labels"),
            ([1, 1], [1, 2], "appears twice"),
            ([1, 2], [1, 3], "without gaps"),
            ([1, 2], [0, 1], "without gaps"),
        ],
    )
    def test_what_is_no_grouping_is_refused(self, obs_ids, labels, message):
        with pytest.raises(RequestError, match=message):
            Grouping(obs_ids, labels)

    def test_reading_something_else_says_what_is_missing(self, tmp_path):
        with pytest.raises(ArchiveError, match=r"groups\.yaml"):
            Grouping.read(tmp_path)
        (tmp_path / "groups.yaml").write_text("[1, 2]")
        with pytest.raises(ArchiveError, match="no keys and values"):
            Grouping.read(tmp_path)


class TestCuts:
    def test_a_value_on_the_cut_belongs_to_the_upper_group(self):
        table = feature_table([[1.0, 0], [2.0, 0], [3.0, 0]])
        grouping = group_by_cut(table, "psf-radius", "median")
        assert grouping.labels.tolist() == [1, 2, 2]
        assert grouping.parameters["edges"] == [2.0]

    def test_two_groups_are_called_low_and_high(self):
        table = QTable({"OBS_ID": [1, 2], "ZEN_PNT": [10, 50] * u.deg})
        grouping = group_by_cut(table, "ZEN_PNT", 30)
        assert grouping.named_labels.tolist() == ["low_zenith", "high_zenith"]

    @pytest.mark.parametrize("cut", [0.5, "0.5 deg", "30 arcmin", 30 * u.arcmin, ["0.5 deg"]])
    def test_cuts_have_units(self, cut):
        table = feature_table([[0.2, 0], [0.7, 0]])
        assert group_by_cut(table, "psf-radius", cut).parameters["edges"] == [0.5]

    def test_empty_bins_do_not_count(self):
        table = QTable({"OBS_ID": [1, 2, 3], "ZEN_PNT": [5, 45, 70] * u.deg})
        with pytest.warns(ObsClusterWarning, match="no run is in zenith_20_to_40_deg"):
            grouping = group_by_edges(table, "ZEN_PNT", [0, 20, 40, 60])
        assert grouping.labels.tolist() == [1, 2, -1]
        assert grouping.names == {1: "zenith_0_to_20_deg", 2: "zenith_40_to_60_deg"}

    def test_azimuth_wraps(self):
        table = QTable({"OBS_ID": [1, 2, 3], "AZ_PNT": [-90, 90, 269] * u.deg})
        grouping = group_by_edges(table, "AZ_PNT", ["0 deg", "180 deg", "360 deg"])
        assert grouping.labels.tolist() == [2, 1, 2]

    def test_edges_may_begin_anywhere_on_the_circle(self):
        table = QTable({"OBS_ID": [1, 2, 3], "AZ_PNT": [10, 200, 330] * u.deg})
        grouping = group_by_edges(table, "AZ_PNT", [-90, 90, 270])
        assert grouping.labels.tolist() == [1, 2, 1]

    @pytest.mark.parametrize(("quantiles", "sizes"), [(2, [5, 5]), (5, [2] * 5), ([0.1], [1, 9])])
    def test_quantiles_have_the_sizes_asked(self, quantiles, sizes):
        table = feature_table(np.random.default_rng(0).permutation(20).reshape(10, 2))
        labels = group_by_quantiles(table, "psf-radius", quantiles).labels
        assert np.bincount(labels)[1:].tolist() == sizes

    @given(
        st.lists(st.floats(-100, 100), min_size=1, max_size=20),
        st.lists(st.floats(-100, 100), min_size=2, max_size=5, unique=True).map(sorted),
    )
    def test_every_label_is_that_of_an_interval(self, values, edges):
        labels = bin_labels(values, edges)
        for value, label in zip(values, labels, strict=True):
            assert (label == -1) == (not edges[0] <= value < edges[-1])
        # Groups follow each other without overlap, in the order of their labels.
        values = np.array(values)
        members = [values[labels == k] for k in range(1, labels.max() + 1)]
        assert all(lower.max() < upper.min() for lower, upper in pairwise(members))

    @pytest.mark.parametrize(
        ("call", "message"),
        [
            (lambda t: group_by_cut(t, "ZENITH"), "unknown column 'ZENITH'"),
            (lambda t: group_by_cut(t, "psf-radius", "wide"), "'wide' is no value of psf-radius"),
            (lambda t: group_by_cut(t, "psf-radius", "3 TeV"), "in deg"),
            (lambda t: group_by_edges(t, "psf-radius", [1.0]), "two or more"),
            (lambda t: group_by_edges(t, "psf-radius", [2.0, 1.0]), "rising"),
            (lambda t: group_by_edges(t, "psf-radius", [50, 60]), "no run has psf-radius within"),
            (lambda t: group_by_quantiles(t, "psf-radius", 0), "1 or more"),
            (lambda t: group_by_quantiles(t, "psf-radius", [1.5]), "between 0 and 1"),
        ],
    )
    def test_what_cannot_be_cut_is_refused(self, call, message, table):
        with pytest.raises(RequestError, match=message):
            call(table)


class TestHierarchical:
    @pytest.mark.parametrize(
        "method", ["single", "complete", "average", "weighted", "centroid", "median", "ward"]
    )
    @pytest.mark.parametrize(
        "cut",
        [
            {"criterion": "maxclust", "t": 4},
            {"criterion": "distance", "t": 1.1},
            {"criterion": "inconsistent", "t": 0.9, "depth": 3},
        ],
        ids=lambda cut: cut["criterion"],
    )
    def test_tree_and_labels_are_scipys(self, method, cut, table):
        grouping = group_hierarchical(table, {"method": method}, cut)
        X = np.column_stack([table["psf-radius"].value, table["edisp-res"]])
        tree = hierarchy.linkage(X, method)
        assert_array_equal(grouping.linkage, tree)
        assert_array_equal(grouping.labels, hierarchy.fcluster(tree, **cut))

    def test_monocrit_criterion(self, table):
        X = np.column_stack([table["psf-radius"].value, table["edisp-res"]])
        heights = hierarchy.linkage(X, "ward")[:, 2]
        cut = {"criterion": "maxclust_monocrit", "t": 3, "monocrit": heights}
        assert group_hierarchical(table, None, cut).n_groups == 3

    @pytest.mark.parametrize("metric", ["cityblock", "chebyshev", "cosine", "minkowski"])
    def test_the_metric_asked_for_is_used(self, metric, table):
        tree = group_hierarchical(table, {"method": "average", "metric": metric}).linkage
        X = np.column_stack([table["psf-radius"].value, table["edisp-res"]])
        assert_array_equal(tree, hierarchy.linkage(X, "average", metric))
        if metric != "minkowski":
            assert not np.array_equal(tree, hierarchy.linkage(X, "average", "euclidean"))

    def test_leaves_count_in_the_order_of_the_rows(self, table):
        order = np.random.default_rng(0).permutation(len(table))
        tree = group_hierarchical(table[order]).linkage
        leaves = [hierarchy.leaves_list(t) for t in (group_hierarchical(table).linkage, tree)]
        # The first merge is of the two closest runs, whatever their places.
        closest = group_hierarchical(table).linkage[0, :2].astype(int)
        assert set(order[tree[0, :2].astype(int)]) == set(closest)
        assert sorted(leaves[0]) == sorted(leaves[1]) == list(range(len(table)))

    def test_the_table_form_adds_labels_and_keeps_the_rest(self, table):
        labelled = hierarchical_clustering(table, fcluster_kwargs={"t": 2})
        assert labelled.colnames == ["obs_id", "psf-radius", "edisp-res", "labels"]
        assert_array_equal(labelled["labels"], group_hierarchical(table, None, {"t": 2}).labels)

    def test_equals_gammapys_clustering(self, table):
        cluster = pytest.importorskip("gammapy.utils.cluster")
        theirs = cluster.hierarchical_clustering(table, fcluster_kwargs={"t": 4})
        ours = hierarchical_clustering(table, fcluster_kwargs={"t": 4})
        assert_array_equal(ours["labels"], theirs["labels"])

    def test_one_run_has_a_tree_without_merges(self):
        grouping = group_hierarchical(feature_table([[1.0, 2.0]]), None, {"t": 1})
        assert grouping.labels.tolist() == [1]
        assert grouping.linkage.shape == (0, 4)

    @pytest.mark.parametrize(
        ("linkage", "cut", "message"),
        [
            (None, {"t": 24}, "24 groups asked of 23 runs"),
            (None, {"t": 0}, "at least 1"),
            ({"method": "wards"}, None, "wards"),
            ({"metric": "cityblock"}, None, "(?i)euclidean"),
            ({"method": "average", "metric": "cm"}, None, "cm"),
            (None, {"criterion": "size"}, "criterion"),
        ],
    )
    def test_what_scipy_does_not_know_is_refused(self, linkage, cut, message, table):
        with pytest.raises(RequestError, match=message):
            hierarchical_clustering(table, linkage, cut)

    def test_runs_without_any_complete_row_are_refused(self):
        with pytest.raises(RequestError, match="nothing to cluster"):
            group_hierarchical(feature_table([[np.nan, 1.0]]))
