"""The report as a file: what it says, that nothing breaks it, and that it is always the same."""

from __future__ import annotations

import json
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.table import QTable

from obscluster.archive.store import DataStore
from obscluster.cli import main
from obscluster.config import make_config
from obscluster.exceptions import ArchiveError, RequestError
from obscluster.features.curves import irf_curves, sample_of_groups
from obscluster.workflow.assess import assess_grouping
from obscluster.workflow.group import group_observations, write_results
from tiled import tile

pytest.importorskip("bokeh", reason="the extra report is not installed: no bokeh")
pytest.importorskip("jinja2", reason="the extra report is not installed: no jinja2")

from obscluster.report.content import (
    Quantity,
    conditions_of,
    describe_groups,
    looks,
    number_text,
    range_text,
    result_sentence,
    separation,
    unit_words,
)
from obscluster.report.html import json_for_page
from obscluster.report.pictures import sky_map
from obscluster.workflow.report import write_report

# Names that break pages which do not escape them.
HOSTILE = '</script><img src=x onerror="window.hacked=1"><!-- $$x$$ & \u2028'


def make_results(archive, directory, plots=False, **content):
    """Results of a grouping with a few features, and their directory."""
    content = {"features": {"names": ["psf-r68", "edisp-res68", "aeff"]}} | content
    config = make_config({"archive": str(archive), **content})
    write_results(group_observations(config), directory, plots=plots)
    return directory


def rename_targets(archive, name):
    """Write another name into the obs-index of an archive, and rename the archive too."""
    path = archive / "obs-index.fits.gz"
    with fits.open(path) as hdulist:
        table = QTable.read(hdulist["OBS_INDEX"])
    table["OBJECT"] = [name.encode("ascii", "ignore").decode()] * len(table)
    header = fits.getheader(path, "OBS_INDEX")
    hdu = fits.table_to_hdu(table)
    for card in ("MJDREFI", "MJDREFF", "TIMESYS", "TIMEUNIT", "TIMEREF"):
        if card in header:
            hdu.header[card] = header[card]
    hdu.header["EXTNAME"] = "OBS_INDEX"
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(path, overwrite=True)


class Page(HTMLParser):
    """Texts and elements of a page, as a browser sees them."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.attributes, self.texts = [], [], []
        self._inside = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append(tag)
        self.attributes.append((tag, dict(attrs)))
        self._inside.append(tag)

    def handle_endtag(self, tag):
        while self._inside and self._inside.pop() != tag:
            pass

    def handle_data(self, data):
        if not {"script", "style"} & set(self._inside):
            self.texts.append(data)

    @property
    def text(self):
        return re.sub(r"\s+", " ", " ".join(self.texts))


def explorer_of(page):
    found = re.search(r'<script type="application/json" id="explorer-data">(.*?)</script>', page)
    return json.loads(found[1])


@pytest.fixture(scope="module")
def results(small_archive, tmp_path_factory):
    return make_results(
        small_archive,
        tmp_path_factory.mktemp("report") / "results",
        grouping={"method": "hierarchical", "n_groups": 3},
    )


@pytest.fixture(scope="module")
def page(results, tmp_path_factory):
    return write_report(results, tmp_path_factory.mktemp("page") / "page.html").read_text("utf-8")


def test_it_says_what_came_out_and_what_was_asked(page, results):
    seen = Page(page)
    heading = re.search(r"<h1>(.*?)</h1>", page, re.DOTALL)[1].replace("\N{NO-BREAK SPACE}", " ")
    assert heading.startswith("12 observations, ")
    assert " in 3 groups: " in heading
    for text in ("psf-r68, edisp-res68, aeff (at 1 TeV)", "hierarchical", "all observations"):
        assert text in seen.text
    for text in ("deg", "m²", "obscluster run run.yaml", "sha256:", "fastcluster"):
        assert text in seen.text
    titles = (
        *("Observing conditions", "Feature against feature", "Sky", "Time", "Tree"),
        *("Number of groups", "Instrument responses", "Explorer", "How to repeat it"),
    )
    for title in titles:
        assert title in seen.text
    assert "MSH" not in page
    assert "H.E.S.S." not in page  # nobody said that these were theirs


def test_every_picture_has_a_text_instead(page):
    pictures = [attributes for tag, attributes in Page(page).attributes if tag == "svg"]
    drawn = [one for one in pictures if one.get("role") == "img"]
    assert len(drawn) >= 10
    assert all(one["aria-label"] for one in drawn)
    assert all(one.get("aria-hidden") == "true" for one in pictures if one not in drawn)
    assert page.count("<figcaption") == len(drawn)


def test_names_within_the_page_are_told_apart(page):
    identifiers = [one["id"] for _, one in Page(page).attributes if "id" in one]
    assert len(identifiers) == len(set(identifiers))
    body = re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)
    referred = re.findall(r'(?:xlink:href="#|url\(#)([^")]+)', body)
    assert referred
    assert set(referred) <= set(identifiers)


def test_it_needs_no_other_file(page):
    seen = Page(page)
    for tag, attributes in seen.attributes:
        for name in ("src", "href", "xlink:href"):
            link = attributes.get(name, "#")
            assert link.startswith(("#", "data:")), (tag, link)
    styles = re.search(r"<style>(.*?)</style>", page, re.DOTALL)[1]
    assert "url(" not in styles
    assert "@import" not in styles


def test_two_reports_are_the_same_to_the_byte(page, results, tmp_path):
    again = write_report(str(results), str(tmp_path / "again.html"))
    assert again.read_text("utf-8") == page
    assert [path.name for path in tmp_path.iterdir()] == ["again.html"]


def test_an_assessment_that_was_made_gives_the_same_page(page, results, tmp_path):
    assessment = assess_grouping(results, n_resamples=0)
    path = write_report(results, tmp_path / "page.html", assessment=assessment)
    assert path.read_text("utf-8") == page


def test_the_yaml_repeats_the_groups(page, results, tmp_path, capsys):
    text = re.search(r"<pre[^>]*>(archive: .*?)</pre>", page, re.DOTALL)[1]
    path = tmp_path / "run.yaml"
    path.write_text(text + "\nassess: false\nreport: false\n")
    assert main(["run", str(path), "--output", str(tmp_path / "again"), "--no-plots"]) == 0
    for name in ("groups.ecsv", "group_1.txt", "linkage.ecsv"):
        assert (tmp_path / "again" / name).read_bytes() == (results / name).read_bytes()


def test_the_explorer_has_the_labels_of_every_number(page, results):
    data = explorer_of(page)
    labels = data["partitions"]["3"]
    assert data["n_groups"] == 3
    assert labels == data["labels"]
    assert sorted(map(int, data["partitions"])) == list(range(1, 11))
    for number, values in data["partitions"].items():
        assert sorted(set(values)) == list(range(1, int(number) + 1))
    keys = {column["name"] for column in data["columns"]}
    assert {"ZEN_PNT", "psf-r68", "edisp-res68", "aeff"} <= keys
    assert set(data["roots"]) == {"conditions", "features", "sky", "time", "tree"}


def test_names_with_html_do_no_harm(small_archive, tmp_path):
    archive = tmp_path / "a<b>&'archive'"
    shutil.copytree(small_archive, archive)
    rename_targets(archive, HOSTILE)
    results = make_results(archive, tmp_path / "<i>results", report={"title": HOSTILE})
    page = write_report(results).read_text("utf-8")
    seen = Page(page)
    assert "img" not in seen.elements
    assert "i" not in seen.elements
    assert "b" not in seen.elements
    assert "a<b>&'archive'" in seen.text
    assert seen.elements.count("script") == 4
    targets = explorer_of(page)["document"]
    assert "onerror" in json.dumps(targets)  # it is there, as text
    assert re.search(r"<title>(.*?)</title>", page)[1].startswith("&lt;/script&gt;")
    # What follows is the checksum of the file.
    assert re.fullmatch(
        r"<!-- obscluster-sha256:[0-9a-f]{64} -->", page.rpartition("</html>")[2].strip()
    )


def test_json_cannot_leave_its_element():
    data = {"a": HOSTILE, "b": [float("nan"), float("inf"), 1.5], "c": "\u2029"}
    text = str(json_for_page(data))
    assert not set("<>&\u2028\u2029") & set(text)
    assert json.loads(text) == {"a": HOSTILE, "b": [None, None, 1.5], "c": "\u2029"}


@pytest.mark.parametrize(
    "content",
    [
        {"grouping": {"method": "cuts", "by": "ZEN_PNT", "edges": ["0 deg", "30 deg", "60 deg"]}},
        {"grouping": {"method": "kmeans", "n_groups": 2}},
        {"grouping": {"method": "hdbscan", "cluster_runs": 3}},
        {"grouping": {"method": "cuts", "by": "OBJECT", "categories": True}},
        {"features": {"names": ["psf-r68"]}, "grouping": {"method": "hierarchical", "n_groups": 1}},
        {"grouping": {"method": "spread"}, "constraints": {"max_spread": {"psf-r68": "10%"}}},
        {
            "grouping": {"method": "information", "n_groups": 2},
            "target": "PKS 2155-304",
            "source": {"amplitude": "1 % Crab"},
        },
    ],
    ids=["cuts", "kmeans", "hdbscan", "categories", "one group", "spread", "information"],
)
def test_every_method_has_a_report(small_archive, tmp_path, content):
    content = dict(content)
    if content["grouping"]["method"] == "cuts":
        content["features"] = {}
    results = make_results(small_archive, tmp_path / "results", **content)
    page = write_report(results).read_text("utf-8")
    data = explorer_of(page)
    has_tree = content["grouping"]["method"] in ("hierarchical", "information")
    assert ("tree" in data["roots"]) == has_tree
    assert ("have no tree, so there are no other numbers" in page) == (not data["partitions"])
    if content["grouping"]["method"] == "information":
        assert re.search(r"<h1>.*loses .* of the information", page, re.DOTALL)
        assert "Lost information against the number of groups" in page


def test_without_the_archive_it_says_what_is_missing(results, tmp_path):
    copy = shutil.copytree(results, tmp_path / "copy")
    record = (copy / "groups.yaml").read_text()
    archive = re.search(r"^archive: (.*)$", record, re.MULTILINE)[1]
    (copy / "groups.yaml").write_text(record.replace(archive, str(tmp_path / "gone")))
    with pytest.raises(ArchiveError, match=r"groups\.yaml changed"):
        write_report(copy)
    page = write_report(copy, trust=True).read_text("utf-8")
    assert "No responses against energy: the archive is not where it was" in page
    page = write_report(copy, archive=archive, trust=True).read_text("utf-8")
    assert "No responses against energy" not in page
    with pytest.raises(ArchiveError, match="nowhere"):
        write_report(copy, archive=str(tmp_path / "nowhere"), trust=True)


def test_runs_of_no_group_and_their_reasons(small_archive, tmp_path):
    archive = shutil.copytree(small_archive, tmp_path / "archive")
    first = sorted((archive / "data").iterdir())[0]
    first.unlink()
    results = make_results(archive, tmp_path / "results")
    page = write_report(results).read_text("utf-8")
    seen = Page(page)
    assert "1 run is in no group" in seen.text.replace("\N{NO-BREAK SPACE}", " ")
    assert first.name in seen.text
    assert "The files of 1 runs could not be read" in seen.text


def test_five_hundred_runs_take_less_than_five_megabytes(small_archive, tmp_path):
    archive = tile(small_archive, tmp_path / "archive", 500)
    results = make_results(
        archive,
        tmp_path / "results",
        features={"names": ["psf-r68", "edisp-res68", "aeff", "zenith", "muoneff", "bkg-rate"]},
        grouping={"method": "hierarchical", "n_groups": 6},
    )
    path = write_report(results)
    assert path.stat().st_size < 5e6
    assert "A sample of " in path.read_text("utf-8")


def test_command(results, tmp_path, capsys):
    path = tmp_path / "sub" / "page.html"
    assert main(["report", str(results), "--output", str(path)]) == 0
    assert f"report in {path}" in capsys.readouterr().out
    assert path.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere: no such file"),
        (["{results}", "--archive", "nowhere"], "nowhere"),
        (["{results}", "--output", "{results}"], "is a directory; name a file"),
    ],
)
def test_mistakes_have_one_message(results, arguments, message, capsys):
    arguments = [text.format(results=results) for text in arguments]
    assert main(["report", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_without_bokeh_it_names_the_extra(results, monkeypatch, capsys):
    import sys

    for name in [n for n in sys.modules if n.startswith(("bokeh", "obscluster.report"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "bokeh", None)
    assert main(["report", str(results)]) == 2
    assert 'pip install "obscluster[report]"' in capsys.readouterr().err


def test_no_page_is_left_behind_when_it_cannot_be_written(results, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(RequestError, match="cannot be written"):
        write_report(results, tmp_path / "file" / "page.html")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


# Words --------------------------------------------------------------------------------------------


def quantity(key, values, **options):
    return Quantity(key, options.pop("label", key), np.array(values, dtype=float), **options)


def test_groups_are_told_apart_by_what_separates_them():
    labels = np.repeat([1, 2], 10)
    rng = np.random.default_rng(0)
    zenith = quantity("ZEN_PNT", np.where(labels == 1, 45, 15) + rng.normal(size=20), unit="deg")
    noise = quantity("MUONEFF", rng.normal(size=20))
    psf = quantity("psf-r68", labels + 1e-3 * rng.normal(size=20), is_feature=True)
    assert describe_groups([noise, zenith, psf], labels) == {1: "high zenith", 2: "low zenith"}
    # The feature separates better, but says less; without conditions it has to do.
    assert describe_groups([noise, psf], labels) == {1: "narrow PSF", 2: "wide PSF"}
    assert describe_groups([noise], labels) == {}


def test_three_groups_have_a_middle_and_more_have_ranges():
    def groups_of(number):
        labels = np.repeat(np.arange(1, number + 1), 5)
        values = 10.0 * labels + np.tile(np.arange(5), number)
        return describe_groups([quantity("ZEN_PNT", values, unit="deg")], labels)

    assert groups_of(3) == {1: "low zenith", 2: "middle zenith", 3: "high zenith"}
    words = {k: text.replace("\N{NO-BREAK SPACE}", " ") for k, text in groups_of(4).items()}
    assert words[2] == "zenith 20\N{EN DASH}24 deg"


def test_what_is_alike_in_one_is_told_apart_by_another():
    labels = np.repeat([1, 2, 3], 5)
    zenith = quantity("ZEN_PNT", np.where(labels == 3, 50, 10) + np.tile(np.arange(5), 3))
    muons = quantity("MUONEFF", np.where(labels == 2, 1.0, 0.8) + 0.02 * np.tile(np.arange(5), 3))
    assert describe_groups([zenith, muons], labels) == {
        1: "low zenith, low muon efficiency",
        2: "low zenith, high muon efficiency",
        3: "high zenith",
    }


def test_separation():
    labels = np.array([1, 1, 2, 2, -1])
    assert separation(np.array([0.0, 2.0, 10.0, 12.0, 1e9]), labels) == pytest.approx(5.0)
    assert separation(np.array([1.0, 1.0, 2.0, 2.0, np.nan]), labels) == np.inf
    assert np.isnan(separation(np.ones(5), labels))


@pytest.mark.parametrize(
    ("labels", "loss", "sentence"),
    [
        (
            [1, 1, 2],
            0.013,
            (
                "2 groups: group 1 (2 runs, 1.0 h) and group 2 (1 run, 30 min); "
                "stacking into these loses 1.3 % of the information."
            ),
        ),
        ([1, 1, 1], 0.0, "1 group; stacking into it loses less than 0.1 % of the information."),
        ([1, 1, -1], None, "1 group; 1 run is in no group."),
    ],
)
def test_sentence(labels, loss, sentence):
    text = result_sentence(np.array(labels), np.full(3, 0.5), {}, loss)
    assert text.replace("\N{NO-BREAK SPACE}", " ") == f"3 observations, 1.5 h, in {sentence}"


def test_sentence_without_groups_or_times():
    text = result_sentence(np.full(3, -1), np.zeros(3), {})
    assert text.replace("\N{NO-BREAK SPACE}", " ") == "3 observations, none of them in a group."


def test_numbers_and_ranges():
    dash, times = "\N{EN DASH}", "\N{MULTIPLICATION SIGN}"
    assert number_text(0.09429) == "0.0943"
    assert number_text(9.999) == "10.0"
    assert number_text(206700) == f"2.07 {times} 10\N{SUPERSCRIPT FIVE}"
    assert number_text(np.nan) == dash
    assert range_text(0.0943, 0.142) == f"0.0943{dash}0.142"
    assert range_text(93449, 193000) == f"(0.93{dash}1.93) {times} 10\N{SUPERSCRIPT FIVE}"
    assert range_text(-5, 5) == "\N{MINUS SIGN}5.00 to 5.00"
    assert unit_words(u.m**2) == "m\N{SUPERSCRIPT TWO}"
    assert unit_words(u.deg) == "deg"


def test_ranges_of_angles_go_around():
    azimuth = quantity("AZ_PNT", [350.0, 10.0, 20.0], unit="deg", period=360.0)
    everything = np.ones(3, dtype=bool)
    assert azimuth.range_words(everything) == "350\N{EN DASH}20.0 through 0"
    azimuth = quantity("AZ_PNT", np.arange(0.0, 360.0, 30.0), unit="deg", period=360.0)
    assert azimuth.range_words(np.ones(12, dtype=bool)) == "all around"


# Maps, colours and curves -------------------------------------------------------------------------


def test_a_map_around_0h_is_not_torn():
    sky = sky_map(np.array([359.5, 0.5, 0.5]), np.array([-30.0, -30.0, -30.0]))
    assert not sky.whole_sky
    assert np.ptp(sky.x) < 1.5
    # The same pointing twice: beside each other.
    assert (sky.x[1], sky.y[1]) != (sky.x[2], sky.y[2])
    assert sky.x_range[0] > sky.x_range[1]  # east is left


def test_the_whole_sky_lies_within_its_outline():
    rng = np.random.default_rng(1)
    sky = sky_map(rng.uniform(0, 360, 200), np.degrees(np.arcsin(rng.uniform(-1, 1, 200))))
    assert sky.whole_sky
    assert (np.hypot(sky.x / 2, sky.y) < 1.01).all()
    poles = sky_map(np.array([0.0, 0.0]), np.array([90.0, -90.0]))
    np.testing.assert_allclose([poles.x, poles.y], [[0, 0], [1, -1]], atol=1e-6)


def test_colours_can_be_seen_on_dark_pages_and_markers_differ():
    found = looks([*range(1, 12), -1])
    assert len({(look.light, look.bokeh_marker) for look in found.values()}) == 12
    assert len({look.bokeh_marker for look in found.values()}) == 12
    # SVG does not write black, which then could not be turned into white.
    assert found[7].light == "#0a0a0a"
    assert int(found[7].dark[1:3], 16) > 128


def test_curves_are_the_features(small_archive):
    observations = DataStore.from_dir(small_archive).get_observations()
    labels = np.repeat([1, 2], [6, 6])
    curves = irf_curves(observations, labels)
    assert curves.units == {"aeff": "m2", "psf-r68": "deg", "edisp-res68": ""}
    assert curves.values["aeff"].shape == (12, len(curves.energy))
    mean = curves.means("aeff", labels)[1]
    members = curves.values["aeff"][:6]
    enough = np.isfinite(members).sum(axis=0) >= 3
    assert enough.sum() > 15
    np.testing.assert_array_equal(np.isfinite(mean), enough)
    np.testing.assert_allclose(mean[enough], np.nanmean(members[:, enough], axis=0))
    assert sorted(curves.means("psf-r68", np.where(labels == 2, -1, 1))) == [1]


def test_samples_have_runs_of_every_group():
    labels = np.repeat([1, 2, 3], [1000, 4, 1])
    rows = sample_of_groups(labels, 100)
    np.testing.assert_array_equal(rows, sample_of_groups(labels, 100))
    assert len(rows) <= 104
    assert set(labels[rows]) == {1, 2, 3}
    np.testing.assert_array_equal(sample_of_groups(labels[:50], 100), np.arange(50))


def test_conditions_have_units_and_minutes(small_archive):
    table = DataStore.from_dir(small_archive).obs_table
    found = {one.key: one for one in conditions_of(table)}
    assert found["ZEN_PNT"].title == "zenith angle [deg]"
    assert found["LIVETIME"].unit == "min"
    assert 1 < found["LIVETIME"].values.max() < 60
    assert type(found["ZEN_PNT"].values) is np.ndarray


def test_pks2155_says_what_everybody_knows(hess_dr1, tmp_path):
    results = make_results(
        hess_dr1,
        tmp_path / "results",
        target="PKS 2155-304",
        features={},
        source={"amplitude": "0.6 % Crab"},
    )
    page = write_report(results).read_text("utf-8").replace("\N{NO-BREAK SPACE}", " ")
    assert re.search(
        r"<h1>21 observations, 9\.\d h, in 2 groups: high zenith \(5 runs, 2\.2 h\) and low zenith "
        r"\(16 runs, 7\.\d h\); stacking into these loses \d\.\d % of the information\.</h1>",
        page,
    )
    assert "HESS DL3 DR1, H.E.S.S. collaboration" in page


def test_point_like_responses_without_psf(fact_crab, tmp_path):
    results = make_results(fact_crab, tmp_path / "results", features={"names": ["zenith", "aeff"]})
    page = write_report(results).read_text("utf-8")
    assert "Effective area, against energy" in page
    assert "Of responses that are not shown, the archive has none." in page
