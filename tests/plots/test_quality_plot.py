"""The picture of the numbers of groups says what the table says."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from astropy import units as u
from astropy.table import QTable
from numpy.testing import assert_allclose, assert_array_equal

from obscluster import group_hierarchical, standard_scaler
from obscluster.assessment import Suggestion, labels_of_tree, quality
from obscluster.exceptions import RequestError
from obscluster.plots.quality import plot_quality
from obscluster.plots.scatter import save_figure

pytestmark = pytest.mark.usefixtures("agg")

INDICES = ("silhouette", "calinski_harabasz", "davies_bouldin")


def quality_table(n_runs=30, n_max=8, n_features=2, factor=1.0):
    """Quality of runs in two clumps; the k-th feature has a spread of 1/factor^k."""
    rng = np.random.default_rng(0)
    table = QTable({"obs_id": np.arange(n_runs)})
    for i in range(n_features):
        values = rng.uniform(-1, 1, n_runs) + 5 * (np.arange(n_runs) % 2)
        table[f"f{i}"] = (100 + values / factor**i) * u.deg
    scaled = standard_scaler(table)
    return quality(table, scaled, labels_of_tree(group_hierarchical(scaled, None, {"t": 1}), n_max))


def line(ax, index=0):
    return np.asarray(ax.lines[index].get_xydata())


def legend_texts(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_every_index_and_every_feature_is_drawn():
    table = quality_table()
    figure = plot_quality(table)
    assert len(figure.axes) == 4
    for ax, name in zip(figure.axes, INDICES, strict=False):
        assert_allclose(line(ax), np.column_stack([table["n_groups"], table[name]]))
    for i in range(2):
        expected = np.column_stack([table["n_groups"], table[f"f{i} percent"]])
        assert_allclose(line(figure.axes[3], i), expected)
    assert legend_texts(figure.axes[3]) == ["f0", "f1"]
    assert "silhouette" in figure.axes[0].get_ylabel()
    assert "higher is better" in figure.axes[1].get_ylabel()
    assert "lower is better" in figure.axes[2].get_ylabel()
    assert figure.axes[3].get_ylabel().endswith("[%]")
    assert [ax.get_xlabel() for ax in figure.axes[2:]] == ["number of groups"] * 2


def test_evenly_spread_runs_are_shaded():
    table = quality_table()
    ax = plot_quality(table).axes[0]
    (shade,) = ax.collections
    top = shade.get_paths()[0].vertices
    for n_groups, value in zip(table["n_groups"][1:], table["silhouette_even"][1:], strict=True):
        assert np.isclose(top, [n_groups, value]).all(axis=1).any()
    assert legend_texts(ax) == ["evenly spread runs"]
    table["silhouette_even"] = np.nan
    assert plot_quality(table).axes[0].get_legend() is None


@pytest.mark.parametrize("suggestion", [Suggestion(2, "why"), 2])
def test_the_suggestion_is_marked_in_every_panel(suggestion):
    figure = plot_quality(quality_table(), suggestion)
    for ax in figure.axes:
        assert_array_equal(ax.lines[-1].get_xdata(), [2, 2])
    assert legend_texts(figure.axes[3])[-1] == "suggested: 2 groups"


def test_features_without_per_cent_are_named():
    table = quality_table()
    table["f0 percent"] = np.nan
    ax = plot_quality(table, 2).axes[3]
    assert legend_texts(ax) == ["f1", "no per cent of f0", "suggested: 2 groups"]
    table["f1 percent"] = np.nan
    assert legend_texts(plot_quality(table).axes[3]) == ["no per cent of f0, f1"]


def test_small_spreads_beside_large_ones_can_be_told_apart():
    assert plot_quality(quality_table(n_max=2)).axes[3].get_yscale() == "linear"
    ax = plot_quality(quality_table(factor=20.0)).axes[3]
    assert ax.get_yscale() == "log"
    # Zero would be lost on a logarithmic axis: as many groups as runs.
    whole = quality_table(10, None, factor=20.0)
    assert whole["f0 percent"][-1] == 0
    assert plot_quality(whole).axes[3].get_yscale() == "linear"


@pytest.mark.parametrize("n_max", [1, 2, 8, 30])
@pytest.mark.parametrize("n_features", [1, 4, 12])
def test_numbers_of_groups_and_features(n_max, n_features, tmp_path):
    figure = plot_quality(quality_table(40, n_max, n_features), min(n_max, 2))
    save_figure(figure, tmp_path / "quality.png")
    assert len(figure.axes[3].lines) == n_features + 1
    for ax in figure.axes:
        lo, hi = ax.get_xlim()
        ticks = ax.get_xticks()
        assert len(ticks[(ticks >= lo) & (ticks <= hi)]) >= 1
        assert_array_equal(ticks, np.round(ticks))
        for drawn in ax.lines[:-1]:
            x, y = drawn.get_xydata()[np.isfinite(drawn.get_ydata())].T
            bottom, top = ax.get_ylim()
            assert ((lo < x) & (x < hi) & (bottom <= y) & (y <= top)).all()


@pytest.mark.parametrize("n_features", [2, 12])
def test_nothing_overlaps(n_features):
    figure = plot_quality(quality_table(40, 30, n_features), 2)
    figure.draw_without_rendering()
    boxes = [ax.get_tightbbox() for ax in figure.axes]
    for i, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[i + 1 :])
    panel = figure.axes[3]
    legend = panel.get_legend().get_window_extent()
    for drawn in panel.lines:
        path = drawn.get_path().transformed(drawn.get_transform())
        assert not path.intersects_bbox(legend, filled=False)


def test_one_group_has_no_index():
    figure = plot_quality(quality_table(n_max=1))
    for ax in figure.axes[:3]:
        assert [text.get_text() for text in ax.texts] == ["not defined"]


def test_axes_of_the_caller():
    own, axes = plt.subplots(2, 2)
    assert plot_quality(quality_table(), axes=axes.ravel()) is own
    assert all(ax.lines for ax in axes.ravel())
    assert plt.get_fignums() == [own.number]


def test_nothing_else_changes():
    table = quality_table()
    before, rc = table.copy(), dict(plt.rcParams)
    plot_quality(table, 2)
    assert dict(plt.rcParams) == rc
    for name in before.colnames:
        assert_array_equal(table[name], before[name])


def test_wrong_requests():
    table = quality_table()
    with pytest.raises(RequestError, match="no column silhouette, calinski"):
        plot_quality(table["n_groups", "f0 percent"])
    with pytest.raises(RequestError, match="no number of groups"):
        plot_quality(table[:0])
    with pytest.raises(RequestError, match="2 axes; four are needed"):
        plot_quality(table, axes=plt.subplots(1, 2)[1])
