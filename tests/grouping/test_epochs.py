"""Groups contiguous in time: the best epochs, the tree over them, and stretches of groups."""

from itertools import combinations, groupby, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy.cluster import hierarchy
from scipy.spatial.distance import cdist
from sklearn.cluster import ward_tree

from obscluster.exceptions import RequestError
from obscluster.grouping import epochs
from obscluster.grouping.epochs import chain_linkage, contiguous_stretches, segment

# Time limits of single examples would only measure how busy the computer is.
METHODS = ("ward", "complete", "average", "single")
every_method = pytest.mark.parametrize("method", METHODS)
# Small whole numbers: ties in time, in features and in heights are frequent.
runs = st.lists(st.tuples(*[st.integers(0, 4)] * 3), min_size=2, max_size=9).map(np.array)


def sum_of_squares(X, labels):
    """Within groups."""
    parts = [X[labels == k] for k in np.unique(labels)]
    return sum(((part - part.mean(axis=0)) ** 2).sum() for part in parts)


def random_walk(n_runs, seed=0):
    """Features that drift, and times in no order."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(n_runs)
    return np.cumsum(rng.normal(size=(n_runs, 2)), axis=0)[order], order * 0.5 + 50_000


def check_contiguous(labels, times):
    in_time = labels[np.argsort(times, kind="stable")]
    assert len(list(groupby(in_time))) == len(set(in_time))


class TestSegment:
    @given(runs, st.data())
    def test_no_other_boundaries_have_a_smaller_sum_of_squares(self, table, data):
        X, times = table[:, :2] / 4, table[:, 2]
        n_groups = data.draw(st.integers(1, len(X)))
        labels = segment(X, times, n_groups)
        assert_array_equal(np.unique(labels), np.arange(1, n_groups + 1))
        assert all(a <= b for (_, a), (_, b) in pairwise(sorted(zip(times, labels, strict=True))))
        order = np.lexsort((X[:, 1], X[:, 0], times))
        possible = [
            sum_of_squares(X[order], np.searchsorted(cuts, np.arange(len(X)), "right"))
            for cuts in combinations(range(1, len(X)), n_groups - 1)
        ]
        assert_allclose(sum_of_squares(X, labels), min(possible), atol=1e-12)

    def test_steps_are_found_where_they_are(self):
        rng = np.random.default_rng(3)
        epoch = np.repeat([0, 1, 2, 3], [40, 7, 100, 53])
        X = np.array([[0.0, 1], [2, 1], [2, 3], [0, 1]])[epoch] + rng.normal(0, 0.2, (200, 2))
        order = rng.permutation(200)
        times = np.arange(200.0)
        assert_array_equal(segment(X[order], times[order], 4), epoch[order] + 1)

    def test_the_order_of_the_rows_does_not_matter(self):
        X, times = random_walk(60)
        times = times // 5
        order = np.random.default_rng(1).permutation(60)
        assert_array_equal(segment(X[order], times[order], 7), segment(X, times, 7)[order])

    def test_shift_and_scale_do_not_matter(self):
        X, times = random_walk(300)
        labels = segment(X, times, 8)
        assert_array_equal(segment(1e6 + 64 * X, 1e-3 * times, 8), labels)

    def test_runs_without_feature_or_time_belong_nowhere(self):
        labels = segment([[0.0], [np.nan], [0.0], [5.0], [5.0]], [1, 2, 3, np.nan, 5], 2)
        assert labels.tolist() == [1, -1, 1, -1, 2]

    def test_above_the_limit_it_is_close_to_the_best_and_better_than_ward(self, monkeypatch):
        X, times = random_walk(400)
        best = sum_of_squares(X, segment(X, times, 6))
        ward = hierarchy.fcluster(chain_linkage(X, times), 6, "maxclust")
        monkeypatch.setattr(epochs, "_EXACT_WORK", 6 * 60**2)
        labels = segment(X, times, 6)
        assert_array_equal(np.unique(labels), np.arange(1, 7))
        check_contiguous(labels, times)
        found = sum_of_squares(X, labels)
        assert best < found < 1.05 * best
        assert found < sum_of_squares(X, ward)

    @pytest.mark.parametrize("n_groups", [0, 4, 1.5, "2", None])
    def test_impossible_numbers_are_refused(self, n_groups):
        with pytest.raises(RequestError, match=r"epochs asked of 3 runs .* at least 1"):
            segment([[1.0], [2.0], [3.0], [np.nan]], [1, 2, 3, 4], n_groups)

    @pytest.mark.parametrize(("X", "times"), [([1.0, 2.0], [1, 2]), ([[1.0], [2.0]], [1])])
    def test_shapes_that_do_not_match_are_refused(self, X, times):
        with pytest.raises(RequestError, match=r"expected \(n, p\) and \(n,\)"):
            segment(X, times, 1)


def height_of(a, b, method):
    """SciPy's definitions, of two sets of points."""
    if method == "ward":
        factor = 2 * len(a) * len(b) / (len(a) + len(b))
        return np.sqrt(factor) * np.linalg.norm(a.mean(axis=0) - b.mean(axis=0))
    return {"complete": np.max, "average": np.mean, "single": np.min}[method](cdist(a, b))


def slow_chain(X, method):
    """Leaves of each merge and its height, looking at everything at every step."""
    parts = [[i] for i in range(len(X))]
    merges = []
    while len(parts) > 1:
        heights = [height_of(X[a], X[b], method) for a, b in pairwise(parts)]
        i = int(np.argmin(heights))
        parts[i : i + 2] = [parts[i] + parts[i + 1]]
        merges.append((parts[i], heights[i]))
    return merges


def leaves_below(Z):
    """Rows of each merge of a tree."""
    n = len(Z) + 1
    nodes = {i: {i} for i in range(n)}
    for i, (left, right, *_) in enumerate(Z):
        nodes[n + i] = nodes[left] | nodes[right]
    return [nodes[n + i] for i in range(n - 1)]


@every_method
class TestChainLinkage:
    @pytest.mark.parametrize("seed", range(5))
    def test_each_step_merges_the_closest_neighbours(self, method, seed):
        X, times = random_walk(25, seed)
        order = np.argsort(times)
        Z = chain_linkage(X, times, method)
        merges = slow_chain(X[order], method)
        assert leaves_below(Z) == [set(order[rows].tolist()) for rows, _ in merges]
        heights = np.maximum.accumulate([height for _, height in merges])
        assert_allclose(Z[:, 2], heights, rtol=1e-12)
        assert_array_equal(Z[:, 3], [len(rows) for rows, _ in merges])

    @given(runs)
    def test_any_number_of_epochs_can_be_cut(self, method, table):
        X, times = table[:, :2], table[:, 2]
        Z = chain_linkage(X, times, method)
        assert hierarchy.is_valid_linkage(Z)
        assert (np.diff(Z[:, 2]) > 0).all()
        order = np.lexsort((X[:, 1], X[:, 0], times))
        for n_groups in range(1, len(X) + 1):
            labels = hierarchy.fcluster(Z, n_groups, "maxclust")
            assert len(set(labels)) == n_groups
            check_contiguous(labels[order], np.arange(len(X)))

    def test_identical_runs_are_no_exception(self, method):
        Z = chain_linkage(np.ones((50, 2)), np.arange(50), method)
        assert [hierarchy.fcluster(Z, n, "maxclust").max() for n in range(1, 51)] == [*range(1, 51)]
        assert_allclose(Z[:, 2], 0, atol=1e-12)

    def test_sorted_values_have_scipys_tree(self, method):
        # Of numbers in rising order, those closest to each other are neighbours.
        x = np.sort(np.random.default_rng(4).uniform(size=40))[:, None]
        Z, free = chain_linkage(x, x[:, 0], method), hierarchy.linkage(x, method)
        assert_allclose(Z[:, 2:], free[:, 2:], atol=1e-12)
        assert leaves_below(Z) == leaves_below(free)

    def test_a_dendrogram_draws_leaves_in_order_of_time(self, method):
        X, times = random_walk(30)
        drawn = hierarchy.dendrogram(chain_linkage(X, times, method), no_plot=True)["leaves"]
        assert_array_equal(drawn, np.argsort(times))

    def test_the_order_of_the_rows_does_not_matter(self, method):
        X, times = random_walk(40)
        times, order = times // 3, np.random.default_rng(1).permutation(40)
        Z, shuffled = chain_linkage(X, times, method), chain_linkage(X[order], times[order], method)
        assert_array_equal(shuffled[:, 2:], Z[:, 2:])
        assert [{int(order[i]) for i in rows} for rows in leaves_below(shuffled)] == leaves_below(Z)

    def test_large_epochs_are_compared_piece_by_piece(self, method, monkeypatch):
        X, times = random_walk(60)
        whole = chain_linkage(X, times, method)
        monkeypatch.setattr(epochs, "_CHUNK", 7)
        assert_allclose(chain_linkage(X, times, method), whole, rtol=1e-12)

    def test_one_run_is_a_tree_without_merges(self, method):
        assert chain_linkage([[1.0]], [3.0], method).shape == (0, 4)


def test_ward_is_that_of_scikit_learn():
    X, times = random_walk(200)
    X = X[np.argsort(times)]
    neighbours = np.eye(200, k=1) + np.eye(200, k=-1)
    _, _, _, _, heights = ward_tree(X, connectivity=neighbours, return_distance=True)
    Z = chain_linkage(X, np.arange(200))
    assert_allclose(Z[:, 2], np.maximum.accumulate(heights), rtol=1e-9)


def test_a_lower_merge_after_a_higher_one_is_raised_to_it():
    # 6 joins the first 0 at a height of 6, and both the second 0 at sqrt(4 / 3) * 3 = 3.5.
    heights = chain_linkage([[0.0], [6.0], [0.0]], [1, 2, 3])[:, 2]
    assert heights[0] == 6.0
    assert heights[1] == pytest.approx(6.0, rel=1e-14)


@pytest.mark.parametrize(
    ("X", "times", "method", "message"),
    [
        ([[1.0], [2.0]], [1, 2], "wards", "did you mean 'ward'"),
        ([[1.0], [2.0]], [1, 2], "centroid", "unknown linkage method 'centroid'"),
        ([[1.0], [np.nan]], [1, 2], "ward", "1 of 2 runs have no time or lack a feature"),
        ([[1.0], [2.0]], [np.nan, np.inf], "ward", "2 of 2 runs"),
        (np.empty((0, 2)), [], "ward", "0 of 0 runs"),
        ([[1.0], [2.0]], [1], "ward", r"expected \(n, p\) and \(n,\)"),
    ],
)
def test_what_has_no_chain_is_refused(X, times, method, message):
    with pytest.raises(RequestError, match=message):
        chain_linkage(X, times, method)


class TestContiguousStretches:
    @given(st.lists(st.sampled_from([-1, 1, 2, 3]), max_size=20), st.randoms())
    def test_stretches_are_the_runs_of_equal_labels_in_time(self, labels, random):
        labels = np.array(labels, dtype=int)
        expected = np.full(len(labels), -1)
        inside = np.flatnonzero(labels != -1)
        stretches = groupby(inside, key=lambda row: labels[row])
        for number, (_, stretch) in enumerate(stretches, start=1):
            expected[list(stretch)] = number
        order = list(range(len(labels)))
        random.shuffle(order)
        times = np.linspace(100, 200, len(labels))
        assert_array_equal(contiguous_stretches(labels[order], times[order]), expected[order])

    def test_unassigned_runs_interrupt_nothing(self):
        assert contiguous_stretches([2, -1, 2, 1, 2], [5, 6, 7, 8, 9]).tolist() == [1, -1, 1, 2, 3]

    def test_at_equal_times_the_lower_label_comes_first(self):
        assert contiguous_stretches([2, 1, 2, 1], [5, 5, 5, 5]).tolist() == [2, 1, 2, 1]

    def test_unassigned_runs_need_no_time(self):
        assert contiguous_stretches([1, -1], [5.0, np.nan]).tolist() == [1, -1]

    @pytest.mark.parametrize(
        ("labels", "times", "message"),
        [
            ([1, 2], [1.0], r"labels of shape \(2,\), but times of shape \(1,\)"),
            ([1, 2], [1.0, np.nan], "1 runs of a group have no time"),
        ],
    )
    def test_labels_without_times_are_refused(self, labels, times, message):
        with pytest.raises(RequestError, match=message):
            contiguous_stretches(labels, times)


def test_the_input_is_not_modified():
    X, times = random_walk(20)
    labels = np.arange(20) % 3 + 1
    before = X.copy(), times.copy(), labels.copy()
    segment(X, times, 3)
    for method in METHODS:
        chain_linkage(X, times, method)
    contiguous_stretches(labels, times)
    for now, then in zip((X, times, labels), before, strict=True):
        assert_array_equal(now, then)
