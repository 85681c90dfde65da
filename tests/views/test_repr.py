"""What results show of themselves in a notebook: all that counts, escaped, and not too long."""

from html.parser import HTMLParser

import numpy as np
import pytest
from astropy import units as u
from astropy.table import Table

from obscluster import DataStore, Grouping, get_features
from obscluster.assessment import Suggestion
from obscluster.config import make_config
from obscluster.exceptions import SkippedRunWarning
from obscluster.features.base import feature
from obscluster.values.markup import html_folded, html_list, html_table, html_text, html_view
from obscluster.workflow.assess import assess_grouping
from obscluster.workflow.group import group_observations, write_results

EVIL = '<script>alert("1")</script>&\''
ALLOWED = {"div", "p", "table", "caption", "thead", "tbody", "tr", "th", "td", "ul", "li"}
ALLOWED |= {"details", "summary"}


class Reader(HTMLParser):
    """Text and tables of a page; complains of tags that do not match or are not ours."""

    def __init__(self, html):
        super().__init__()
        self.open, self.text, self.tables, self.in_cell = [], [], [], False
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        assert tag in ALLOWED, tag
        assert {name for name, _ in attrs} <= {"style", "scope"}
        self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)
        if self.open and self.open[-1] in ("td", "th"):
            self.tables[-1][-1][-1] += data

    def __contains__(self, text):
        return text in " ".join(self.text)


def read(thing):
    return Reader(thing._repr_html_())


@pytest.fixture(scope="module")
def result(small_archive):
    config = make_config(
        {
            "archive": str(small_archive),
            "target": "Crab Nebula",
            "radius": "180 deg",
            "grouping": {"method": "hierarchical", "n_groups": 3},
            "source": {"amplitude": "1 % Crab"},
        }
    )
    return group_observations(config)


class TestPieces:
    @pytest.mark.parametrize(
        "html",
        [
            html_text(EVIL),
            html_list([EVIL]),
            html_table([[EVIL], ["cell"]]),
            html_table([["head"], [EVIL]]),
            html_table([["head"], ["cell"]], EVIL),
            html_folded(EVIL, html_text("a")),
        ],
    )
    def test_every_text_is_escaped(self, html):
        assert EVIL in Reader(html_view(html))

    def test_what_is_empty_leaves_nothing(self):
        assert html_view(html_text(""), html_list([]), html_table([["head"]])) == "<div></div>"
        assert html_folded("none", "") == ""

    def test_what_is_long_is_counted(self):
        assert "... and 60 more" in Reader(html_table([["n"]] + [["1"]] * 100))
        assert "... and 90 more" in Reader(html_list(["1"] * 100))
        assert "more" not in Reader(html_table([["n"]] + [["1"]] * 40))


class TestGrouping:
    def test_one_sentence_the_groups_and_the_remarks(self):
        grouping = Grouping(
            [11, 12, 13, 14],
            [1, 2, 1, -1],
            names={1: "low_zenith", 2: EVIL},
            reasons={14: EVIL},
            remarks=[EVIL, "another"],
        )
        page = read(grouping)
        assert "4 observations in 2 groups; 1 in no group" in page
        assert page.tables[0] == [
            ["group", "name", "runs", "OBS_ID"],
            ["group_1", "low_zenith", "2", "11, 13"],
            ["group_2", EVIL, "1", "12"],
        ]
        assert f"14: {EVIL}" in page
        assert "another" in page
        assert "<script>" not in grouping._repr_html_()

    def test_names_are_left_out_where_there_are_none(self):
        assert read(Grouping([1, 2], [1, 1])).tables[0][0] == ["group", "runs", "OBS_ID"]
        assert "2 observations in 1 group" in read(Grouping([1, 2], [1, 1]))

    def test_many_runs_and_groups_stay_short(self):
        n = 50_000
        many = Grouping(np.arange(n), np.arange(n) % 500 + 1, remarks=["r"] * 1000)
        assert len(many._repr_html_()) < 30_000
        assert "... and 460 more" in read(many)
        one = Grouping(np.arange(n), np.full(n, -1), reasons=dict.fromkeys(range(n), "x" * 50))
        assert len(one._repr_html_()) < 30_000


class TestResult:
    def test_groups_have_hours_and_ranges_with_units(self, result):
        page = read(result)
        assert "12 observations, " in page
        head, *rows = page.tables[0]
        assert head == ["group", "runs", "livetime", "edisp-res", "psf-radius [deg]"]
        assert [row[0] for row in rows] == ["group_1", "group_2", "group_3"]
        assert sum(int(row[1]) for row in rows) == 12
        inside = result.grouping.labels == 1
        radius = result.features["psf-radius"][inside].to_value(u.deg)
        assert rows[0][4] == f"{radius.min():.4g} to {radius.max():.4g}"
        assert page.tables[1][1] == ["all observations", "12", "0"]


class TestAssessment:
    def test_all_tables_of_the_command(self, result, tmp_path):
        write_results(result, tmp_path / "results", plots=False)
        # Only one of the runs sees the source.
        with pytest.warns(SkippedRunWarning, match="outside the field of view"):
            assessment = assess_grouping(tmp_path / "results", max_groups=4, n_resamples=5)
        page = read(assessment)
        assert "12 observations in 3 groups" in page
        heads = [table[0][0] for table in page.tables]
        assert heads == ["feature", "", "groups"]
        assert [row[0] for row in page.tables[1][1:]] == ["these groups", "all stacked"]
        assert [row[0] for row in page.tables[2][1:]] == ["1", "2", "3", "4"]
        assert "suggested: " in page
        assert "far from every group" in page
        assert "adjusted Rand index" in page

    def test_of_categories(self, small_archive, tmp_path):
        grouping = {"method": "cuts", "by": [{"column": "OBJECT", "categories": True}]}
        config = make_config({"archive": str(small_archive), "grouping": grouping})
        write_results(group_observations(config), tmp_path / "results", plots=False)
        assert "categories: no features" in read(assess_grouping(tmp_path / "results"))

    def test_a_suggestion_has_its_reason(self):
        page = read(Suggestion(2, EVIL))
        assert "2 groups" in page
        assert EVIL in page


class TestFeatureTable:
    """Astropy's own view is good enough: claims that would tell if it no longer were."""

    @pytest.fixture(scope="class")
    @staticmethod
    def table(small_archive):
        @feature("evil", unit=u.deg)
        def evil(run):
            """Says something nasty."""
            run.remark(EVIL)
            return 1.0

        return get_features(DataStore.from_dir(small_archive).get_observations(), [evil])

    def test_notes_are_escaped_and_units_are_there(self, table):
        html = table._repr_html_()
        assert table["notes"][0] == EVIL
        assert "<script>" not in html
        assert "&lt;script&gt;" in html
        assert "deg" in html

    def test_five_thousand_rows_stay_short(self, table):
        many = table[np.zeros(5000, dtype=int)]
        assert isinstance(many, Table)
        html = many._repr_html_()
        assert html.count("<tr>") < 120
        assert "length=5000" in html
