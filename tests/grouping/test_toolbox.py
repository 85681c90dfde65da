"""Every method and every constraint: what all must do, whatever the runs."""

import warnings

import astropy.units as u
import numpy as np
import pytest
from astropy.table import QTable
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from pydantic import TypeAdapter
from scipy.cluster import hierarchy

from obscluster import Grouping
from obscluster.config import ConstraintsConfig, GroupingConfig, ScalingConfig
from obscluster.exceptions import ObsClusterWarning, RequestError
from obscluster.files.records import LIST_FILE
from obscluster.values.columns import numbers, range_of
from obscluster.values.tolerance import parse_tolerance
from obscluster.workflow.group import group_runs

# What is asked: grouping, scaling, constraints.
WAYS = {
    "ward": ({"method": "hierarchical", "n_groups": 3}, {}, {}),
    "average": ({"method": "hierarchical", "n_groups": 3, "linkage": "average"}, {}, {}),
    "distance": ({"method": "hierarchical", "criterion": "distance", "threshold": 3.0}, {}, {}),
    "kmeans": ({"method": "kmeans", "n_groups": 3}, {}, {}),
    "mixture": ({"method": "mixture", "n_groups": 2}, {}, {}),
    "mixture-diag": ({"method": "mixture", "n_groups": 3, "covariance_type": "diag"}, {}, {}),
    "mixture-tied": ({"method": "mixture", "n_groups": 2, "covariance_type": "tied"}, {}, {}),
    "mixture-round": ({"method": "mixture", "n_groups": 2, "covariance_type": "spherical"}, {}, {}),
    "hdbscan": ({"method": "hdbscan", "cluster_runs": 4}, {}, {}),
    "cut": ({"method": "cuts", "by": "psf-r68"}, {}, {}),
    "edges": ({"method": "cuts", "by": "psf-r68", "edges": [0, 0.1, 0.3]}, {}, {}),
    "quantiles": ({"method": "cuts", "by": "psf-r68", "quantiles": 3}, {}, {}),
    "width": ({"method": "cuts", "by": "psf-r68", "width": 3}, {}, {}),
    "livetime": ({"method": "cuts", "by": "psf-r68", "livetime": 3}, {}, {}),
    "adaptive": ({"method": "cuts", "by": "psf-r68", "adaptive": True}, {}, {"min_runs": 5}),
    "categories": ({"method": "cuts", "by": "TELLIST", "categories": True}, {}, {}),
    "product": (
        {"method": "cuts", "by": ["psf-r68", {"column": "TELLIST", "categories": True}]}, {}, {},
    ),
    "robust": ({"method": "hierarchical", "n_groups": 3}, {"method": "robust"}, {}),
    "log-weight": (
        {"method": "hierarchical", "n_groups": 3},
        {"log": ["psf-r68"], "weights": {"edisp-res": 3}},
        {},
    ),
    "tolerance": (
        {"method": "kmeans", "n_groups": 3},
        {"method": "tolerance", "tolerances": {"psf-r68": "10%", "edisp-res": 0.02}},
        {},
    ),
    "within": ({"method": "kmeans", "n_groups": 2}, {}, {"within": ["TELLIST"]}),
    "within-ward": ({"method": "hierarchical", "n_groups": 2}, {}, {"within": ["TELLIST"]}),
    "within-cut": ({"method": "cuts", "by": "psf-r68"}, {}, {"within": ["TELLIST", "EPOCH"]}),
    "min-runs": ({"method": "hierarchical", "n_groups": 6}, {}, {"min_runs": 4}),
    "min-livetime": ({"method": "kmeans", "n_groups": 6}, {}, {"min_livetime": "2 h"}),
    "given-up": (
        {"method": "hierarchical", "n_groups": 6}, {}, {"min_runs": 4, "short": "unassign"},
    ),
    "per-pointing": (
        {"method": "kmeans", "n_groups": 4}, {}, {"min_runs": 2, "per_pointing": True},
    ),
    "spread": ({"method": "spread"}, {}, {"max_spread": {"psf-r68": "20%"}}),
    "spread-2": ({"method": "spread"}, {}, {"max_spread": {"psf-r68": "30%", "edisp-res": 0.1}}),
    "spread-ward": ({"method": "hierarchical"}, {}, {"max_spread": {"psf-r68": "20%"}}),
    "spread-kmeans": ({"method": "kmeans"}, {}, {"max_spread": {"psf-r68": 0.05}}),
    "spread-cut": (
        {"method": "cuts", "by": "edisp-res"}, {}, {"max_spread": {"psf-r68": "3 arcmin"}},
    ),
    "contiguous": ({"method": "hierarchical", "n_groups": 3}, {}, {"contiguous": True}),
    "segments": ({"method": "kmeans", "n_groups": 3}, {}, {"contiguous": True}),
    "stretches": ({"method": "cuts", "by": "edisp-res"}, {}, {"contiguous": True}),
    "everything": (
        {"method": "hierarchical"},
        {"method": "robust"},
        {"within": ["TELLIST"], "max_spread": {"psf-r68": "40%"}, "min_runs": 2},
    ),
}  # fmt: skip
every_way = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
NAMES = ["psf-r68", "edisp-res"]
ADAPTER = TypeAdapter(GroupingConfig)


def group(runs, way):
    grouping, scaling, constraints = way
    return group_runs(
        runs,
        NAMES,
        ADAPTER.validate_python(grouping),
        ScalingConfig(**scaling),
        ConstraintsConfig(**constraints),
    )


def group_or_refusal(runs, way):
    """The groups, or why there can be none: too few runs for what is asked."""
    try:
        return group(runs, way)
    except RequestError as error:
        text = str(error)
    assert "ask for" in text
    return text


def make_runs(n_obs=40, seed=5):
    """Three kinds of run, in two telescope patterns, over two years, at four positions."""
    rng = np.random.default_rng(seed)
    kind = rng.integers(0, 3, n_obs)
    runs = QTable({"obs_id": np.arange(1000, 1000 + n_obs)})
    runs["psf-r68"] = (0.06 + 0.03 * kind + rng.normal(0, 0.004, n_obs)) * u.deg
    runs["edisp-res"] = 0.15 + 0.04 * (kind == 1) + rng.normal(0, 0.006, n_obs)
    runs["TELLIST"] = np.where(rng.random(n_obs) < 0.4, "1,2,3", "1,2,3,4")
    runs["EPOCH"] = 1 + (np.arange(n_obs) > n_obs // 2)
    runs["LIVETIME"] = rng.uniform(1200, 1700, n_obs) * u.s
    runs["mjd"] = np.sort(rng.uniform(53000, 53700, n_obs)) * u.d
    wobble = rng.integers(0, 4, n_obs)
    runs["RA_PNT"] = (83.6 + 0.5 * np.cos(wobble * np.pi / 2)) * u.deg
    runs["DEC_PNT"] = (22.0 + 0.5 * np.sin(wobble * np.pi / 2)) * u.deg
    return runs


@pytest.fixture
def runs():
    return make_runs()


@pytest.fixture(autouse=True)
def warnings_that_methods_may_give():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ObsClusterWarning)
        yield


@every_way
class TestEveryMethod:
    def test_labels_count_from_one_without_gaps(self, way, runs):
        labels = group(runs, way).labels
        found = np.unique(labels[labels != -1])
        assert_array_equal(found, np.arange(1, len(found) + 1))
        assert len(found) > 1

    def test_the_order_of_the_rows_does_not_matter(self, way, runs):
        order = np.random.default_rng(0).permutation(len(runs))
        first, second = group(runs, way), group(runs[order], way)
        assert_array_equal(second.obs_ids, first.obs_ids[order])
        assert_array_equal(second.labels, first.labels[order])
        assert second.names == first.names
        assert second.remarks == first.remarks

    def test_the_same_again(self, way, runs):
        assert group(runs, way) == group(runs, way)

    def test_the_input_is_not_modified(self, way, runs):
        before = runs.copy()
        group(runs, way)
        assert runs.colnames == before.colnames
        assert all((runs[name] == before[name]).all() for name in runs.colnames)
        assert runs.meta == before.meta

    def test_missing_values_belong_nowhere_and_say_why(self, way, runs):
        if "TELLIST" in str(way[0]) and "psf" not in str(way[0]):
            pytest.skip("looks at no feature")
        runs["psf-r68"][7] = np.nan * u.deg
        runs["edisp-res"][7] = np.nan
        grouping = group(runs, way)
        assert grouping.labels[7] == -1
        assert "no " in grouping.reasons[1007]
        assert set(grouping.reasons) == set(grouping.obs_ids[grouping.labels == -1])

    def test_the_rule_gives_the_runs_their_labels(self, way, runs):
        grouping = group(runs, way)
        labels, reasons = grouping.rule.assign(runs)
        assert_array_equal(labels, grouping.labels)
        assert all(bool(reason) == (k == -1) for reason, k in zip(reasons, labels, strict=True))

    def test_the_rule_asks_for_nothing_but_the_run_itself(self, way, runs):
        grouping = group(runs, way)
        labels = [grouping.rule.assign(runs[[row]])[0][0] for row in range(len(runs))]
        assert_array_equal(labels, grouping.labels)

    def test_files_give_back_what_was_written(self, way, runs, tmp_path):
        runs["psf-r68"][7] = np.nan * u.deg
        grouping = group(runs, way)
        files = grouping.write(tmp_path, runs)
        assert {*files, LIST_FILE} == {p.name for p in tmp_path.iterdir()}
        again = Grouping.read(tmp_path)
        assert again == grouping
        assert_array_equal(again.rule.assign(runs)[0], grouping.rule.assign(runs)[0])

    def test_a_tree_has_the_assigned_runs_as_leaves(self, way, runs):
        grouping = group(runs, way)
        if grouping.linkage is None:
            return
        assert len(grouping.linkage) == (grouping.labels != -1).sum() - 1
        assert hierarchy.is_valid_linkage(grouping.linkage)

    def test_identical_runs_are_one_group_or_as_many_as_their_columns(self, way, runs):
        runs["psf-r68"], runs["edisp-res"] = 0.1 * u.deg, 0.2
        labels = group(runs, way).labels
        patterns = np.char.add(runs["TELLIST"], runs["EPOCH"].astype(str))
        for pattern in np.unique(patterns):
            mine = np.unique(labels[patterns == pattern])
            # Epochs are cut in time, so that even identical runs can be told apart.
            assert len(mine) == 1 or way[2].get("contiguous")

    def test_one_feature_that_does_not_vary_is_no_obstacle(self, way, runs):
        runs["edisp-res"] = 0.2
        assert group(runs, way).n_groups >= 1

    def test_one_run(self, way, runs):
        grouping = group_or_refusal(runs[:1], way)
        assert isinstance(grouping, str) or grouping.labels.tolist() == [1]

    def test_a_run_like_no_other_fits_none_or_an_open_interval(self, way, runs):
        grouping = group(runs, way)
        strange = runs[:1].copy()
        strange["obs_id"] = 1
        strange["psf-r68"], strange["edisp-res"] = 3.0 * u.deg, 4.0
        labels, reasons = grouping.rule.assign(strange)
        open_ended = way[0]["method"] == "cuts" or way[2].get("contiguous")
        if not open_ended or "edges" in way[0] or "width" in way[0]:
            assert labels[0] == -1
            assert reasons[0]


@every_way
@given(seed=st.integers(0, 10_000), n_obs=st.integers(12, 30))
@settings(max_examples=5)
def test_constraints_hold_whatever_the_runs(way, seed, n_obs):
    runs = make_runs(n_obs, seed)
    asked = ConstraintsConfig(**way[2])
    grouping = group_or_refusal(runs, way)
    if isinstance(grouping, str):
        return
    for label in range(1, grouping.n_groups + 1):
        inside = grouping.labels == label
        for column in asked.within:
            assert len(np.unique(runs[column][inside])) == 1
        for name, text in asked.max_spread.items():
            tolerance = parse_tolerance(text, runs[name].unit or u.one, name)
            assert tolerance.allows(*range_of(numbers(runs[name])[inside]))
        if asked.min_runs and not asked.per_pointing:
            assert inside.sum() >= asked.min_runs
        if asked.min_livetime:
            assert runs["LIVETIME"][inside].sum() >= u.Quantity(asked.min_livetime)
        if asked.per_pointing:
            places = np.round(runs["RA_PNT"][inside].value + runs["DEC_PNT"][inside].value, 3)
            assert np.unique(places, return_counts=True)[1].min() >= asked.min_runs
        if asked.contiguous:
            others = runs["mjd"][(~inside) & (grouping.labels != -1)]
            first, last = runs["mjd"][inside].min(), runs["mjd"][inside].max()
            assert not ((others > first) & (others < last)).any()


class TestWhatWasOnceWrong:
    def test_fewest_epochs_within_a_tolerance_are_the_fewest(self, runs):
        limits = {"max_spread": {"psf-r68": "60%"}, "contiguous": True}
        grouping = group(runs, ({"method": "spread"}, {}, limits))
        values, label = runs["psf-r68"].value, 1
        begin = 0
        tolerance = parse_tolerance("60%", u.deg, "psf-r68")
        for end in range(len(runs)):
            if not tolerance.allows(values[begin : end + 1].min(), values[begin : end + 1].max()):
                begin, label = end, label + 1
        assert grouping.n_groups == label

    @pytest.mark.parametrize("method", ["hierarchical", "kmeans", "spread"])
    def test_a_run_without_the_value_that_is_limited_is_set_aside(self, method, runs):
        runs["MUONEFF"] = np.linspace(0.8, 1.2, len(runs))
        whole = group(runs, ({"method": method}, {}, {"max_spread": {"MUONEFF": 0.1}}))
        runs["MUONEFF"][5] = np.nan
        grouping = group(runs, ({"method": method}, {}, {"max_spread": {"MUONEFF": 0.1}}))
        assert grouping.labels[5] == -1
        assert grouping.reasons[1005] == "no MUONEFF"
        assert abs(grouping.n_groups - whole.n_groups) <= 3

    def test_bins_grow_within_each_value_by_itself(self):
        runs = make_runs(50)
        runs["TELLIST"] = np.where(np.arange(50) % 5 == 0, "1,2,3", "1,2,3,4")
        cuts = {"method": "cuts", "by": "psf-r68", "adaptive": True}
        within = group(runs, (cuts, {}, {"within": ["TELLIST"], "min_runs": 5}))
        four = runs["TELLIST"] == "1,2,3,4"
        alone = group(runs[four], (cuts, {}, {"min_runs": 5}))
        assert len(np.unique(within.labels[four])) == alone.n_groups == 8

    def test_new_runs_on_both_sides_keep_the_tolerance(self, runs):
        runs = runs[:3]
        runs["psf-r68"] = [1.0, 1.01, 1.02] * u.deg
        grouping = group(runs, ({"method": "spread"}, {}, {"max_spread": {"psf-r68": "15%"}}))
        new = make_runs(41)
        new["psf-r68"] = np.linspace(0.8, 1.2, 41) * u.deg
        labels, _ = grouping.rule.assign(new)
        inside = new["psf-r68"].value[labels == 1]
        tolerance = parse_tolerance("15%", u.deg, "psf-r68")
        assert len(inside) > 3
        assert tolerance.allows(min(*inside, 1.0), max(*inside, 1.02))

    def test_identical_runs_are_one_epoch(self, runs):
        runs["psf-r68"], runs["edisp-res"] = 0.1 * u.deg, 0.2
        for method in ("hierarchical", "kmeans"):
            grouping = group(runs, ({"method": method, "n_groups": 3}, {}, {"contiguous": True}))
            assert grouping.n_groups == 1
            assert "nothing distinguishes" in grouping.remarks[0]

    def test_an_epoch_that_was_given_up_takes_no_runs(self, runs):
        limits = {"contiguous": True, "min_runs": 9, "short": "unassign"}
        grouping = group(runs, ({"method": "hierarchical", "n_groups": 5}, {}, limits))
        assert (grouping.labels == -1).any()
        labels, reasons = grouping.rule.assign(runs)
        assert_array_equal(labels, grouping.labels)
        assert all("is no group" in r for r, k in zip(reasons, labels, strict=True) if k == -1)

    def test_a_mixture_of_one_run(self, runs):
        grouping = group(runs[:1], ({"method": "mixture", "n_groups": 1}, {}, {}))
        assert grouping.labels.tolist() == [1]
        assert grouping.rule.assign(runs[:1])[0].tolist() == [1]

    @pytest.mark.parametrize("livetime", ["0 h", "nan h", "-3 h", "5 deg"])
    def test_a_minimum_that_is_none(self, livetime, runs):
        # Refused when it is described, before it comes to groups.
        with pytest.raises(ValueError, match="expected a time above zero"):
            group(runs, ({"method": "kmeans", "n_groups": 2}, {}, {"min_livetime": livetime}))

    def test_a_quantity_is_cut_once(self, runs):
        with pytest.raises(RequestError, match="name each quantity once"):
            group(runs, ({"method": "cuts", "by": ["psf-r68", "psf-r68"]}, {}, {}))

    @pytest.mark.parametrize("options", [{"epsilon": 100.0}, {"neighbours": 200}])
    def test_what_hdbscan_refuses_is_one_sentence(self, options, runs):
        with pytest.raises(RequestError, match="HDBSCAN of 40 runs with"):
            group(runs, ({"method": "hdbscan", **options}, {}, {}))
