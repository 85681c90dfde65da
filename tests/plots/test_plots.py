"""Pictures say what the table and the labels say."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
from astropy import units as u
from astropy.table import MaskedColumn, QTable, Table
from astropy.time import Time
from matplotlib.colors import same_color
from numpy.testing import assert_allclose, assert_array_equal

from obscluster.exceptions import RequestError
from obscluster.plots import dendrogram, scatter, style
from obscluster.plots.scatter import plot_conditions, plot_features, save_figure
from obscluster.plots.style import group_style

LABELS = np.array([1, 1, 2, 2, 2, -1])


pytestmark = pytest.mark.usefixtures("agg")


@pytest.fixture
def conditions():
    return QTable(
        {
            "obs_id": [11, 12, 13, 14, 15, 16],
            "ZEN_PNT": [10.0, 15.0, 30.0, 35.0, 50.0, 55.0] * u.deg,
            "MUONEFF": [1.0, 0.99, 0.98, 0.97, 0.96, 0.95],
            "SITE": ["a", "a", "b", "b", "b", "c"],
        }
    )


@pytest.fixture
def features():
    return QTable(
        {
            "obs_id": [16, 15, 14, 13, 12, 11],
            "notes": [""] * 6,
            "edisp-res": [0.3, 0.31, 0.2, 0.21, np.nan, 0.4] * u.one,
            "psf-radius": [0.1, 0.11, 0.2, 0.21, 0.22, 0.3] * u.deg,
            "aeff": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0] * u.m**2,
        }
    )


@pytest.fixture
def pair(features):
    """Columns that all runs have."""
    return features["obs_id", "psf-radius", "aeff"]


def legend_texts(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def points(ax):
    """Drawn points of each group, by its legend text."""
    return {
        group.get_label(): np.asarray(group.get_offsets())
        for group in ax.collections
        if len(group.get_offsets())
    }


def cut_positions(ax):
    return [
        line.get_xydata()[0, 0]
        for line in ax.lines
        if line.get_linestyle() == "--" and len(line.get_xydata()) == 2
    ]


class TestGroupStyle:
    def test_a_label_looks_the_same_in_any_company(self):
        everyone = group_style(range(1, 31))
        assert all(group_style([label])[label] == everyone[label] for label in everyone)

    def test_groups_differ(self):
        styles = group_style(range(1, 31))
        assert len(set(styles.values())) == 30
        first = [styles[label] for label in range(1, 8)]
        assert len({color for color, _ in first}) == len({marker for _, marker in first}) == 7

    def test_order_is_natural_and_unassigned_last(self):
        assert list(group_style([10, -1, 2])) == [2, 10, -1]
        assert list(group_style(["zen_10", "zen_9", "-1"])) == ["zen_9", "zen_10", -1]

    def test_group_names_look_like_their_numbers(self):
        assert group_style(["group_9"])["group_9"] == group_style([9])[9]

    def test_numpy_labels_become_plain(self):
        for labels in (np.array([1, 2], dtype=np.int32), np.array([1, 2], dtype=object)):
            assert {type(label) for label in group_style(labels)} == {int}
        assert list(group_style(np.array([b"low"]))) == ["low"]

    @pytest.mark.parametrize("labels", [[1.5, 2.0], [True, False], [[1, 2]], [None]])
    def test_other_labels_are_refused(self, labels):
        with pytest.raises(RequestError, match="labels must be"):
            group_style(labels)


class TestConditions:
    def test_points_are_the_rows_of_each_group(self, conditions, ax):
        assert plot_conditions(conditions, LABELS, ax=ax) is ax
        drawn = points(ax)
        assert list(drawn) == ["unassigned (1 run)", "group 2 (3 runs)", "group 1 (2 runs)"]
        assert_array_equal(drawn["group 1 (2 runs)"], [[10.0, 1.0], [15.0, 0.99]])
        assert_array_equal(drawn["unassigned (1 run)"], [[55.0, 0.95]])

    def test_legend_and_axes(self, conditions, ax):
        plot_conditions(conditions, LABELS, cut=24.1, names={2: "far"}, ax=ax)
        assert legend_texts(ax) == [
            "group 1 (2 runs)",
            "far (3 runs)",
            "cut 24.1 deg",
            "unassigned (1 run)",
        ]
        assert (ax.get_xlabel(), ax.get_ylabel()) == ("ZEN_PNT [deg]", "MUONEFF")

    def test_colours_and_markers_are_those_of_the_style(self, conditions, ax):
        plot_conditions(conditions, LABELS, ax=ax)
        styles = group_style(LABELS)
        colors = {group.get_label()[:7]: group.get_facecolor()[0][:3] for group in ax.collections}
        assert same_color(colors["group 1"], styles[1][0])
        assert same_color(colors["group 2"], styles[2][0])
        handles = ax.get_legend().legend_handles
        assert [handle.get_marker() for handle in handles] == [styles[k][1] for k in (1, 2, -1)]

    @pytest.mark.parametrize(
        ("cut", "expected", "text"),
        [
            (24.1, [24.1], "cut 24.1 deg"),
            (0.5 * u.rad, [np.degrees(0.5)], "cut 28.65 deg"),
            ([20, 40], [20.0, 40.0], "cuts 20, 40 deg"),
            ([20.0, 2400.0] * u.arcmin, [1 / 3, 40.0], "cuts 0.3333, 40 deg"),
            ([20.0, 40.0 * u.deg], [20.0, 40.0], "cuts 20, 40 deg"),
            (np.array([20.0]), [20.0], "cut 20 deg"),
        ],
    )
    def test_cuts(self, conditions, ax, cut, expected, text):
        plot_conditions(conditions, LABELS, cut=cut, ax=ax)
        assert_allclose(cut_positions(ax), expected)
        assert legend_texts(ax).count(text) == 1

    @pytest.mark.parametrize("cut", [3.0 * u.s, np.nan, "low", [1.0, None]])
    def test_impossible_cuts(self, conditions, ax, cut):
        with pytest.raises(RequestError, match="cut"):
            plot_conditions(conditions, LABELS, cut=cut, ax=ax)

    def test_a_refused_request_draws_nothing(self, conditions):
        with pytest.raises(RequestError):
            plot_conditions(conditions, [1, 2], cut=20.0)
        assert plt.get_fignums() == []

    def test_plain_and_masked_tables(self, conditions, ax):
        table = Table(conditions, masked=True)
        table["ZEN_PNT"] = MaskedColumn(np.arange(6), mask=[1, 0, 0, 0, 0, 0], unit="deg")
        plot_conditions(table, LABELS, ax=ax)
        assert_array_equal(points(ax)["group 1 (1 run)"], [[1.0, 0.99]])
        assert legend_texts(ax)[-1] == "1 run without these conditions"

        masked = QTable(table)  # a masked Quantity
        other = plot_conditions(masked, LABELS, ax=plt.figure().subplots())
        assert_array_equal(points(other)["group 1 (1 run)"], [[1.0, 0.99]])

    def test_string_labels(self, conditions, ax):
        labels = np.where(conditions["ZEN_PNT"] < 20 * u.deg, "low_zenith", "high_zenith")
        plot_conditions(conditions, labels, ax=ax)
        assert legend_texts(ax) == ["high_zenith (4 runs)", "low_zenith (2 runs)"]

    def test_current_axes_are_the_default(self, conditions):
        current = plt.gca()
        assert plot_conditions(conditions, LABELS) is current

    def test_keywords_reach_scatter(self, conditions, ax):
        plot_conditions(conditions, LABELS, ax=ax, s=77.0, ec="red", linewidths=2.0)
        assert {float(group.get_sizes()[0]) for group in ax.collections} == {77.0}
        assert {float(group.get_linewidths()[0]) for group in ax.collections} == {2.0}
        assert same_color(ax.collections[-1].get_edgecolor()[0][:3], "red")
        with pytest.raises(RequestError, match="marker: set by the groups"):
            plot_conditions(conditions, LABELS, ax=ax, marker="o")

    def test_points_shrink_with_their_number(self, ax):
        many = Table({"ZEN_PNT": np.arange(5000.0), "MUONEFF": np.arange(5000.0)})
        plot_conditions(many, np.ones(5000, dtype=int), ax=ax)
        few = plot_conditions(many[:20], np.ones(20, dtype=int), ax=plt.figure().subplots())
        assert ax.collections[0].get_sizes()[0] < 0.3 * few.collections[0].get_sizes()[0]
        assert ax.collections[0].get_alpha() < few.collections[0].get_alpha()

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"x": "ZEN"}, "unknown column 'ZEN'; did you mean 'ZEN_PNT'"),
            ({"y": "SITE"}, "'SITE' cannot be plotted.*numeric columns: obs_id, ZEN_PNT"),
            ({"labels": [1, 2]}, "6 rows, but there are 2 labels"),
        ],
    )
    def test_wrong_requests(self, conditions, ax, change, message):
        with pytest.raises(RequestError, match=message):
            plot_conditions(conditions, **({"labels": LABELS, "ax": ax} | change))

    def test_times_and_arrays_are_no_numbers(self, conditions, ax):
        conditions["t"] = Time(np.arange(6.0) + 60000, format="mjd")
        conditions["pair"] = np.zeros((6, 2))
        for name in ("t", "pair"):
            with pytest.raises(RequestError, match="one number per run"):
                plot_conditions(conditions, LABELS, x=name, ax=ax)


class TestFeatures:
    def test_first_two_features_and_runs_without(self, features, ax):
        assert plot_features(features, LABELS, ax=ax) is ax
        assert (ax.get_xlabel(), ax.get_ylabel()) == ("edisp-res", "psf-radius [deg]")
        assert legend_texts(ax) == [
            "group 1 (2 runs)",
            "group 2 (2 runs)",
            "unassigned (1 run)",
            "1 run without these features",
        ]
        assert_array_equal(points(ax)["group 2 (2 runs)"], [[0.2, 0.2], [0.21, 0.21]])
        assert sum(map(len, points(ax).values())) == 5

    def test_named_columns(self, features, ax):
        plot_features(features, LABELS, x="psf-radius", ax=ax)
        assert (ax.get_xlabel(), ax.get_ylabel()) == ("psf-radius [deg]", "edisp-res")
        other = plot_features(features, LABELS, y="edisp-res", ax=plt.figure().subplots())
        assert (other.get_xlabel(), other.get_ylabel()) == ("psf-radius [deg]", "edisp-res")

    @pytest.mark.parametrize("axis", ["x", "y", None])
    def test_one_feature_against_the_order_of_runs(self, features, ax, axis):
        one = features["obs_id", "psf-radius"]
        plot_features(one, LABELS, ax=ax, **({axis: "psf-radius"} if axis else {}))
        assert (ax.get_xlabel(), ax.get_ylabel()) == ("run, in order of obs_id", "psf-radius [deg]")
        assert_array_equal(points(ax)["group 1 (2 runs)"], [[6.0, 0.1], [5.0, 0.11]])

    def test_one_feature_without_obs_id(self, features, ax):
        plot_features(features["psf-radius",], LABELS, ax=ax)
        assert_array_equal(points(ax)["group 1 (2 runs)"], [[1.0, 0.1], [2.0, 0.11]])

    def test_units_of_several_parts_are_typeset(self, features, ax):
        features["rate"] = np.arange(6.0) / u.s / u.sr
        plot_features(features, LABELS, x="aeff", y="rate", ax=ax)
        assert ax.get_xlabel() == r"aeff [$\mathrm{m^{2}}$]"
        assert ax.get_ylabel() == r"rate [$\mathrm{s^{-1}\,sr^{-1}}$]"

    def test_descriptions_that_fit(self, pair, ax):
        pair["psf-radius"].info.description = "68 % containment radius."
        pair["aeff"].info.description = "effective area " * 9
        plot_features(pair, LABELS, ax=ax)
        assert ax.get_xlabel() == "68 % containment radius [deg]"
        assert ax.get_ylabel().startswith("aeff [")

    def test_a_shared_description_does_not_tell_axes_apart(self, pair, ax):
        for name in ("psf-radius", "aeff"):
            pair[name].info.description = "IRF"
        plot_features(pair, LABELS, ax=ax)
        assert ax.get_xlabel() == "psf-radius [deg]"

    def test_nothing_to_plot(self, features, ax):
        with pytest.raises(RequestError, match=r"no numeric feature.*obs_id, notes"):
            plot_features(features["obs_id", "notes"], LABELS, ax=ax)

    def test_no_run_has_the_features(self, features, ax):
        features["edisp-res"] = np.nan
        plot_features(features, LABELS, ax=ax)
        assert legend_texts(ax) == ["6 runs without these features"]

    def test_no_runs_at_all(self, features, ax):
        plot_features(features[:0], [], ax=ax)
        assert ax.get_legend() is None

    def test_inputs_stay_as_they_are(self, features, ax):
        before, labels = features.copy(), LABELS.copy()
        plot_features(features, labels, ax=ax)
        assert_array_equal(labels, LABELS)
        for name in before.colnames:
            assert_array_equal(features[name], before[name])

    def test_nothing_global_changes(self, features, ax):
        before = dict(plt.rcParams)
        plot_features(features, LABELS, ax=ax)
        assert dict(plt.rcParams) == before
        assert plt.get_fignums() == [ax.figure.number]


class TestLegend:
    @pytest.mark.parametrize("n_groups", [2, 8, 9])
    def test_no_point_is_hidden(self, ax, n_groups):
        rng = np.random.default_rng(3)
        table = Table({"a": rng.normal(size=400), "b": rng.normal(size=400)})
        plot_features(table, rng.integers(1, n_groups + 1, 400), ax=ax)
        ax.figure.draw_without_rendering()
        box = ax.get_legend().get_window_extent()
        drawn = np.concatenate(list(points(ax).values()))
        assert box.count_contains(ax.transData.transform(drawn)) == 0
        if n_groups > style.MAX_GROUPS_INSIDE:
            assert box.x0 > ax.bbox.x1

    def test_very_many_groups_are_counted(self, ax):
        table = Table({"a": np.arange(50.0), "b": np.arange(50.0)})
        plot_features(table, np.arange(1, 51), ax=ax)
        assert legend_texts(ax)[-2:] == ["group 19 (1 run)", "and 31 more groups"]


class TestSaveFigure:
    def test_the_same_picture_has_the_same_bytes(self, pair, tmp_path):
        for name in ("a.png", "b.png"):
            axes = plt.subplots(layout="constrained")[1]
            plot_features(pair, LABELS, ax=axes)
            save_figure(axes, tmp_path / name)
            first = (tmp_path / name).read_bytes()
            save_figure(axes.figure, str(tmp_path / name))
            assert (tmp_path / name).read_bytes() == first
        assert (tmp_path / "b.png").read_bytes() == (tmp_path / "a.png").read_bytes()
        assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "b.png"]
        assert len(plt.get_fignums()) == 2

    def test_axes_in_a_subfigure(self, pair, tmp_path):
        for name in ("a.png", "b.png"):
            figure = plt.figure()
            axes = plot_features(pair, LABELS, ax=figure.subfigures(1, 2)[0].subplots())
            save_figure(axes if name == "a.png" else figure, tmp_path / name)
        assert (tmp_path / "b.png").read_bytes() == (tmp_path / "a.png").read_bytes()

    def test_a_failure_leaves_the_old_file(self, ax, tmp_path, monkeypatch):
        path = tmp_path / "a.png"
        path.write_bytes(b"old")

        def full(self, data):
            self.touch()
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(Path, "write_bytes", full)
        with pytest.raises(RequestError, match=r"a\.png: cannot be written \(No space"):
            save_figure(ax, path)
        assert [one.name for one in tmp_path.iterdir()] == ["a.png"]
        assert path.read_bytes() == b"old"

    def test_no_directory(self, ax, tmp_path):
        (tmp_path / "file").touch()
        with pytest.raises(RequestError, match="is a file"):
            save_figure(ax, tmp_path / "file" / "a.png")

    def test_axes_without_figure(self, ax, tmp_path):
        ax.remove()
        with pytest.raises(RequestError, match="no figure"):
            save_figure(ax, tmp_path / "a.png")


@pytest.mark.parametrize("module", [style, dendrogram, scatter])
def test_everything_promised_is_there(module):
    assert all(hasattr(module, name) for name in module.__all__)


@pytest.mark.parametrize(
    ("cuts", "text"),
    [([53100.25, 53200.5], "cuts 53100.2, 53200.5 d"), (list(range(53001, 53041)), "40 cuts")],
    ids=["two", "forty"],
)
def test_many_cuts_are_counted_and_days_have_all_their_digits(cuts, text):
    """A legend that lists forty days is wider than the plot."""
    table = QTable({"MJD": np.linspace(53000.0, 54000.0, 30) * u.d, "Y": np.arange(30.0)})
    figure, ax = plt.subplots()
    plot_conditions(table, np.ones(30, dtype=int), "MJD", "Y", cut=cuts, ax=ax)
    assert text in [entry.get_text() for entry in ax.get_legend().get_texts()]
    plt.close(figure)
