"""What is wrong in a description is told by key, line, what was given and what is allowed."""

import pytest
import yaml

from obscluster.cli import main
from obscluster.config import make_config, read_config
from obscluster.exceptions import ArchiveError, RequestError
from obscluster.workflow.run import read_plan

GOOD = """\
archive: nowhere
target: 83.63 22.01
radius: 2 deg
selection:
  - type: par_box
    variable: ZEN_PNT
    value_range: [0 deg, 40 deg]
  - {type: sky_circle, lon: 83.63 deg, lat: 22.01 deg, radius: 3 deg}
features:
  names: [psf-r68, aeff]
  energy: [1 TeV, 10 TeV]
  offset: 0.5 deg
scaling:
  method: tolerance
  tolerances: {psf-r68: 10%, aeff: 0.02 m2}
grouping:
  method: hierarchical
  linkage: ward
  n_groups: 3
constraints:
  min_livetime: 2 h
  within: [N_TELS]
source:
  amplitude: 1 % Crab
  model: cutoff-power-law
  cutoff: 5 TeV
counts:
  energy: [0.1 TeV, 100 TeV]
  background: 100 s-1 sr-1
assess:
  max_groups: 8
  n_resamples: 20
report: false
workers: 1
reduce:
  kind: 1d
  energy: {min: 0.1 TeV, max: 50 TeV}
  region:
    radius: 0.11 deg
  exclusion: {target: 0.3 deg}
"""

# What is replaced in the file, by what, then words of the message: place first.
WRONG = [
    ("radius: 2 deg\n", "radius: 2 parsec\n", ["line 3: radius", "2 parsec", "'2 deg'"]),
    ("radius: 2 deg\n", "radius: 2\n", ["line 3: radius", "2 has no unit", "'2 deg'"]),
    ("radius: 2 deg\n", "radius: -2 deg\n", ["line 3: radius", "positive angle"]),
    ("radius: 2 deg\n", "radius: 2 m\n", ["line 3: radius", "2 m", "'2 deg'"]),
    ("radius: 2 deg\n", "raduis: 2 deg\n", ["line 3: raduis: unknown key", "'radius'?", "workers"]),
    ("type: par_box", "type: par_bx", ["line 5: selection.0.type", "'par_bx'", "sky_circle"]),
    ("  - type: par_box\n    v", "  - v", ["line 5: selection.0.type: missing", "par_box"]),
    ("variable:", "column:", ["line 6: selection.0.column: unknown key", "value_range"]),
    ("[0 deg, 40 deg]", "[0 deg]", ["line 7: selection.0.value_range", "two values"]),
    ("radius: 3 deg}", "radius: 3 TeV}", ["line 8: selection.1.radius", "3 TeV", "'2 deg'"]),
    ("psf-r68, aeff]", "psf-r68, 7]", ["line 10: features.names.1", "7", "a text"]),
    ("[psf-r68, aeff]", "psf-r68", ["line 10: features.names", "a list"]),
    ("10 TeV]", "10 m]", ["line 11: features.energy.1", "10 m", "'1 TeV'"]),
    ("offset: 0.5 deg", "offset: 0.5 s", ["line 12: features.offset", "0.5 s", "an angle"]),
    ("method: tolerance", "method: tolerances", ["line 14: scaling.method", "'tolerance'?", "rob"]),
    ("psf-r68: 10%", "psf-r68: 2 TeV", ["line 15: scaling.tolerances.psf-r68", "2 TeV", "deg"]),
    ("psf-r68: 10%", "psf-r68: wide", ["line 15: scaling.tolerances.psf-r68", "wide", "10%"]),
    ("method: hierarchical", "method: kmean", ["line 17: grouping.method", "'kmeans'?", "hdbscan"]),
    ("linkage: ward", "linkage: wards", ["line 18: grouping.linkage", "'ward'?", "average"]),
    ("n_groups: 3", "n_groups: three", ["line 19: grouping.n_groups", "three", "whole number"]),
    ("n_groups: 3", "n_group: 3", ["line 19: grouping.n_group: unknown", "'n_groups'?", "metric"]),
    ("2 h\n", "2 m\n", ["line 21: constraints.min_livetime", "2 m", "'5 h'"]),
    ("1 % Crab", "1 % Carb", ["line 24: source.amplitude", "1 % Carb", "cm-2 s-1 TeV-1"]),
    ("cutoff: 5 TeV", "cutoff: 5 pc", ["line 26: source.cutoff", "5 pc", "an energy"]),
    ("  cutoff: 5 TeV\n", "", ["line 23: source", "needs cutoff"]),
    ("[0.1 TeV, 100 TeV]", "[9 TeV, 1 TeV]", ["line 28: counts.energy", "that rise"]),
    ("100 s-1 sr-1", "100 s-1", ["line 29: counts.background", "100 s-1", "auto, irf, events"]),
    ("n_resamples: 20", "n_resamples: -1", ["line 32: assess.n_resamples: given -1, expected"]),
    ("report: false", "report: {titel: A}", ["line 33: report.titel: unknown key", "'title'?"]),
    ("workers: 1", "workers: many", ["line 34: workers", "many", "whole number"]),
    ("kind: 1d", "kind: 2d", ["line 36: reduce.kind", "'2d'", "'1d' or '3d'"]),
    ("min: 0.1 TeV", "min: 0.1 m", ["line 37: reduce.energy.min", "0.1 m", "1 TeV"]),
    ("min: 0.1 TeV", "min: 99 TeV", ["line 37: reduce.energy", "99 TeV is not below max"]),
    ("radius: 0.11 deg", "radius: 0.11 h", ["line 39: reduce.region.radius", "0.11 deg"]),
    ("{target: 0.3 deg}", "{target: 0.3}", ["line 40: reduce.exclusion.target", "0.3"]),
    ("reduce:\n", "reduce: yes\nmore:\n", ["line 35: reduce", "True", "keys and values"]),
    ("archive: nowhere\n", "", ["archive: missing"]),
    ("workers: 1", "workers: 1\nradius: 1 deg", ["line 35: radius", "line 3", "once"]),
    ("[psf-r68, aeff]", "[psf-r68, aeff", ["line 11: not YAML"]),
    ("workers: 1", "workers 1", ["line 35: not YAML"]),
    (GOOD, "- a list\n", ["holds no keys"]),
]


@pytest.fixture
def description(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(GOOD)
    return path


def refused(capsys, *arguments):
    """Message of a command that is refused with nothing written and no traceback."""
    code = main(["run", *map(str, arguments)])
    captured = capsys.readouterr()
    assert (code, captured.out) == (2, "")
    assert captured.err.startswith("obscluster: error: ")
    assert "Traceback" not in captured.err
    return captured.err


def test_the_description_that_is_spoiled_below_is_good(description):
    assert read_plan(description).config.grouping.n_groups == 3


@pytest.mark.parametrize(("old", "new", "words"), WRONG)
def test_a_wrong_description_is_told_by_key_and_line(
    old, new, words, description, tmp_path, capsys
):
    assert GOOD.count(old) == 1
    description.write_text(GOOD.replace(old, new))
    message = refused(capsys, description, "-o", tmp_path / "out" / "results")
    first = words[0] if words[0].startswith("line") else None
    assert first is None or f"{description}, {first}" in message
    assert all(word in message for word in words), message
    assert [path.name for path in tmp_path.iterdir()] == ["run.yaml"]


def test_a_part_that_can_also_be_a_switch_is_told_once(description, tmp_path, capsys):
    description.write_text(GOOD.replace("report: false", "report: {titel: A}"))
    message = refused(capsys, description, "-o", tmp_path / "results")
    assert "true or false" not in message
    assert len(message.splitlines()) == 1


def test_all_mistakes_are_told_at_once_one_a_line(description, tmp_path, capsys):
    text = GOOD.replace("2 deg\n", "2 parsec\n").replace("linkage: ward", "linkage: wards")
    description.write_text(text)
    lines = refused(capsys, description, "-o", tmp_path / "results").splitlines()
    assert len(lines) == 2
    assert "line 3: radius" in lines[0]
    assert "line 18: grouping.linkage" in lines[1]


def test_a_short_form_is_told_by_the_key_that_was_written(description, tmp_path, capsys):
    """``edges`` beside ``by`` belongs to the quantity, but stands in ``grouping``."""
    description.write_text("archive: a\ngrouping:\n  method: cuts\n  by: ZEN_PNT\n  edges: 7\n")
    message = refused(capsys, description, "-o", tmp_path / "results")
    assert f"{description}, line 5: grouping.edges: given 7, expected a list" in message


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["grouping.n_group=3"], ["grouping.n_group: unknown key", "'n_groups'?", "linkage"]),
        (["radius=2 parsec"], ["radius: '2 parsec'", "'2 deg'"]),
        (["features.energy=[1 TeV, 2 s]"], ["features.energy.1: '2 s'"]),
        (["features.energy.1=2 s"], ["features.energy.1: '2 s'"]),
        (["grouping.linkage=wards"], ["'ward'?"]),
        (["reduce.kind=4d"], ["reduce.kind", "'1d' or '3d'"]),
        (["selection.0.value_range.7=1"], ["7 is no place in a list of 2"]),
        (["radius.inner=1 deg"], ["'2 deg' has no key inner"]),
        (["radius"], ["KEY=VALUE"]),
        (["features..energy=1"], ["KEY=VALUE"]),
        (["features.energy=[1"], ["not YAML"]),
    ],
)
def test_what_is_set_in_place_is_told_by_the_option(settings, words, description, tmp_path, capsys):
    options = [option for text in settings for option in ("--set", text)]
    message = refused(capsys, description, *options, "-o", tmp_path / "results")
    assert f"obscluster: error: --set {settings[-1]}: " in message
    assert all(word in message for word in words), message
    assert "line" not in message


def test_a_mistake_of_the_file_is_not_blamed_on_an_option(description, tmp_path, capsys):
    description.write_text(GOOD.replace("linkage: ward", "linkage: wards"))
    message = refused(
        capsys, description, "--set", "grouping.n_groups=4", "-o", tmp_path / "results"
    )
    assert f"{description}, line 18: grouping.linkage" in message
    assert "--set" not in message


class TestSettings:
    def test_keys_lists_and_whole_parts(self, description):
        config = read_config(
            description,
            [
                "grouping.n_groups=5",
                'features.energy=["3 TeV"]',
                "selection.0.value_range.1=50 deg",
                "selection.2={type: par_box, variable: N_TELS, value_range: [4, 4]}",
                "report.title=Mine",
                "scaling.tolerances.aeff=30%",
            ],
        )
        assert config.grouping.n_groups == 5
        assert config.features.energy == ("3 TeV",)
        assert config.selection[0].value_range == ("0 deg", "50 deg")
        assert config.selection[2].keywords == {
            "type": "par_box",
            "variable": "N_TELS",
            "value_range": (4, 4),
        }
        assert config.report.title == "Mine"
        assert config.scaling.tolerances == {"psf-r68": "10%", "aeff": "30%"}

    def test_the_last_of_two_counts(self, description):
        settings = ["grouping.n_groups=5", "grouping.n_groups=6"]
        assert read_config(description, settings).grouping.n_groups == 6

    def test_a_value_may_hold_an_equals_sign(self, description):
        assert read_config(description, ["report={title: a=b}"]).report.title == "a=b"

    def test_the_file_is_left_as_it_is(self, description):
        read_config(description, ["grouping.n_groups=5"])
        assert description.read_text() == GOOD


def test_values_stay_the_texts_that_were_given(description):
    dump = read_config(description).model_dump()
    again = make_config(yaml.safe_load(yaml.safe_dump(_lists(dump))))
    assert again == read_config(description)
    assert dump["radius"] == "2 deg"


def _lists(value):
    if isinstance(value, dict):
        return {key: _lists(item) for key, item in value.items()}
    return [_lists(item) for item in value] if isinstance(value, list | tuple) else value


def test_times_that_yaml_reads_by_itself_are_times(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(
        "archive: a\nselection:\n"
        "  - {type: time_box, time_range: [2004-01-01, 2004-03-01T12:00:00+02:00]}\n"
    )
    times = read_config(path).selection[0].time_range
    assert times == ("2004-01-01", "2004-03-01T10:00:00")


def test_without_a_file_the_key_is_named_alone():
    with pytest.raises(RequestError, match=r"^radius: '2 parsec'; expected"):
        make_config({"archive": "a", "radius": "2 parsec"})


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ArchiveError, match="No such file"):
        read_config(tmp_path / "none.yaml")


@pytest.mark.parametrize("text", ["2 deg", "120 arcmin", "2", "2:30:00"])
def test_angles_may_be_written_in_several_ways(text):
    assert make_config({"archive": "a", "radius": text}).radius == text
