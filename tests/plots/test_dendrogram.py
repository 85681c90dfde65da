"""The drawn tree says what the linkage and the labels say."""

from __future__ import annotations

from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np
import pytest
from astropy.table import Table
from matplotlib.colors import to_hex
from numpy.testing import assert_allclose, assert_array_equal
from scipy.cluster import hierarchy

from obscluster.exceptions import RequestError
from obscluster.plots.dendrogram import plot_dendrogram
from obscluster.plots.scatter import plot_features, save_figure
from obscluster.plots.style import group_style

LABELS = np.array([1, 1, 2, 2, 2, -1])
X = np.array([[0.0, 0.0], [0.5, 0.0], [5.0, 5.0], [5.5, 5.0], [5.0, 6.0], [9.0, 0.0]])


pytestmark = pytest.mark.usefixtures("agg")


def legend_texts(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def branches(ax):
    """Pieces of the tree (n, 2, 2), begin and end, by the colour they are drawn in."""
    pieces = {}
    for line in ax.lines:
        xy = line.get_xydata()
        if len(xy) % 3 == 0 and len(xy) and np.all(np.isnan(xy[2::3, 0])):
            parts = np.stack([xy[0::3], xy[1::3]], axis=1)
            pieces.setdefault(to_hex(line.get_color()), []).extend(parts)
    return {color: np.array(parts) for color, parts in pieces.items()}


def cut_heights(ax):
    return [
        line.get_xydata()[0, 1]
        for line in ax.lines
        if line.get_linestyle() == "--" and len(line.get_xydata()) == 2
    ]


@pytest.fixture
def tree():
    return hierarchy.linkage(X, "ward")


def test_branches_are_those_of_scipy(ax):
    Z = hierarchy.linkage(np.random.default_rng(0).normal(size=(40, 3)), "average")
    plot_dendrogram(Z, hierarchy.fcluster(Z, 4, "maxclust"), ax=ax)
    truth = hierarchy.dendrogram(Z, no_plot=True)
    expected = set()
    for xs, ys in zip(truth["icoord"], truth["dcoord"], strict=True):
        corners = np.round(np.stack([(np.array(xs) - 5) / 10, ys], axis=1), 6).tolist()
        expected |= {frozenset(map(tuple, corners[k : k + 2])) for k in range(3)}
    drawn = {
        frozenset(map(tuple, np.round(piece, 6).tolist()))
        for parts in branches(ax).values()
        for piece in parts
    }
    assert drawn == expected


def test_leaves_hang_in_the_colour_of_their_group(tree, ax):
    labels = [1, 1, 2, 2, 2, 3]
    assert plot_dendrogram(tree, labels, ax=ax) is ax
    order = hierarchy.leaves_list(tree)
    styles = group_style(labels)
    feet = {
        int(piece[0, 0]): color
        for color, parts in branches(ax).items()
        for piece in parts
        if piece[0, 1] == 0.0
    }
    assert feet == {k: styles[labels[leaf]][0] for k, leaf in enumerate(order)}
    assert legend_texts(ax)[:3] == ["group 1 (2 runs)", "group 2 (3 runs)", "group 3 (1 run)"]


@pytest.mark.parametrize("n_groups", [2, 3, 4, 6])
def test_the_cut_makes_the_groups(tree, ax, n_groups):
    labels = hierarchy.fcluster(tree, n_groups, "maxclust")
    plot_dendrogram(tree, labels, ax=ax)
    (height,) = cut_heights(ax)
    assert_array_equal(hierarchy.fcluster(tree, height, "distance"), labels)
    merges = np.concatenate([[0.0], tree[:, 2]])
    assert_allclose(height, merges[6 - n_groups : 8 - n_groups].mean())


@pytest.mark.parametrize(
    "labels", [[1] * 6, [1, 2, 1, 2, 1, 2], [1, 1, 2, 2, 3, 3], [1, 2, 3, 3, 3, 3]]
)
def test_no_line_where_no_cut_makes_the_groups(tree, ax, labels):
    plot_dendrogram(tree, labels, ax=ax)
    assert cut_heights(ax) == []


def test_a_given_height(tree, ax):
    plot_dendrogram(tree, [1] * 6, height=3.25, height_label="Ward distance", ax=ax)
    assert cut_heights(ax) == [3.25]
    assert legend_texts(ax)[-1] == "cut 3.25"
    assert ax.get_ylabel() == "Ward distance"
    with pytest.raises(RequestError, match="finite"):
        plot_dendrogram(tree, [1] * 6, height=np.nan, ax=ax)


def test_leaves_are_named(tree, ax):
    ids = np.arange(101, 107)
    plot_dendrogram(tree, [1, 1, 2, 2, 2, 3], obs_ids=ids, ax=ax)
    names = [text.get_text() for text in ax.get_xticklabels()]
    assert names == [str(one) for one in ids[hierarchy.leaves_list(tree)]]
    assert ax.get_xlabel() == "obs_id"


def test_names_of_leaves_do_not_overlap():
    Z = hierarchy.linkage(np.random.default_rng(0).normal(size=(60, 2)), "ward")
    for n_groups, size in ((3, (6.4, 4.8)), (12, (6.4, 4.8)), (3, (3.0, 3.0))):
        axes = plt.subplots(figsize=size, layout="constrained")[1]
        labels = hierarchy.fcluster(Z, n_groups, "maxclust")
        plot_dendrogram(Z, labels, obs_ids=np.arange(60) + 123400, ax=axes)
        axes.figure.draw_without_rendering()
        boxes = [text.get_window_extent() for text in axes.get_xticklabels()]
        edges = sorted((box.x0, box.x1) for box in boxes)
        assert all(a[1] <= b[0] for a, b in pairwise(edges))


def test_unassigned_runs_without_a_leaf(ax):
    tree = hierarchy.linkage(X[:5], "ward")
    plot_dendrogram(tree, LABELS, obs_ids=np.arange(6), ax=ax)
    assert [text.get_text() for text in ax.get_xticklabels()] == ["0", "1", "4", "2", "3"]
    assert legend_texts(ax)[:2] == ["group 1 (2 runs)", "group 2 (3 runs)"]
    assert len(cut_heights(ax)) == 1


def test_unassigned_runs_with_a_leaf(tree, ax):
    plot_dendrogram(tree, LABELS, ax=ax)
    assert legend_texts(ax)[-1] == "unassigned (1 run)"
    (height,) = cut_heights(ax)
    assert_array_equal(
        hierarchy.fcluster(tree, height, "distance"),
        hierarchy.fcluster(tree, 3, "maxclust"),
    )


def test_one_run(ax):
    plot_dendrogram(np.empty((0, 4)), [1], obs_ids=[33787], ax=ax)
    assert [text.get_text() for text in ax.get_xticklabels()] == ["33787"]
    assert legend_texts(ax) == ["group 1 (1 run)"]


def test_identical_runs(ax):
    plot_dendrogram(hierarchy.linkage(np.zeros((4, 2)), "ward"), [1] * 4, ax=ax)
    assert ax.get_ylim() == (0.0, 1.0)


def test_a_long_chain_is_no_recursion(ax, tmp_path):
    n_leaves = 3000
    Z = hierarchy.linkage(np.cumsum(np.arange(n_leaves))[:, np.newaxis], "single")
    labels = hierarchy.fcluster(Z, 2, "maxclust")
    plot_dendrogram(Z, labels, obs_ids=np.arange(n_leaves), ax=ax)
    save_figure(ax, tmp_path / "chain.png")
    assert ax.get_xlabel() == "3000 runs"
    assert sum(map(len, branches(ax).values())) == 3 * (n_leaves - 1)


def test_inputs_stay_as_they_are(tree, ax):
    before = tree.copy()
    plot_dendrogram(tree, [1, 1, 2, 2, 2, 3], obs_ids=np.arange(6), ax=ax)
    assert_array_equal(tree, before)


def test_keywords_reach_the_branches(tree, ax):
    plot_dendrogram(tree, [1] * 6, ax=ax, lw=3.0)
    assert {line.get_linewidth() for line in ax.lines if line.get_marker() == "None"} == {3.0}
    with pytest.raises(RequestError, match="color: set by the groups"):
        plot_dendrogram(tree, [1] * 6, ax=ax, color="red")


def test_wrong_requests(tree, ax):
    with pytest.raises(RequestError, match="6 leaves, but there are 4 labels, 3 of them"):
        plot_dendrogram(tree, [1, 1, 2, -1], ax=ax)
    with pytest.raises(RequestError, match="2 obs_ids, but 6 labels"):
        plot_dendrogram(tree, LABELS, obs_ids=[1, 2], ax=ax)
    for wrong in (tree[:, :3], tree[::-1], "tree", np.full((5, 4), np.nan), X[0]):
        with pytest.raises(RequestError, match="not a linkage matrix"):
            plot_dendrogram(wrong, LABELS, ax=ax)


def test_published_runs_all_appear(pks_reference, tmp_path):
    labels = pks_reference["label"]
    table = Table({"psf-radius": pks_reference["psf_radius_deg"]})
    scaled = np.stack([pks_reference[f"scaled_{k}"] for k in ("edisp_res", "psf_radius")], axis=1)
    figure, (left, right) = plt.subplots(1, 2, layout="constrained", figsize=(10, 4))
    plot_features(table, labels, ax=left)
    plot_dendrogram(hierarchy.linkage(scaled, "ward"), labels, ax=right)
    assert legend_texts(left) == ["group 1 (5 runs)", "group 2 (16 runs)"]
    assert len(cut_heights(right)) == 1  # the published groups are a cut of Ward's tree
    save_figure(figure, tmp_path / "runs.png")
