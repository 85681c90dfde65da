"""Groups made by hand: labels from a file, and what is wrong with it."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.table import QTable

from obscluster.archive.store import DataStore
from obscluster.cli import main
from obscluster.config import make_config
from obscluster.exceptions import RequestError
from obscluster.features.scaling import scale_features
from obscluster.grouping.base import Grouping
from obscluster.grouping.labels import group_by_labels, parse_labels
from obscluster.workflow.assess import assess_grouping


def scaled(n_obs=5):
    table = QTable({"obs_id": np.arange(1, n_obs + 1), "psf-r68": np.linspace(1.0, 2.0, n_obs)})
    return scale_features(table)


def write(path, *rows, header="OBS_ID,label"):
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def test_labels_are_read_with_comments_blanks_and_other_columns():
    text = '# a, b\n\n label , "name" , obs_id \n2,"x, y",10\n  # between\n-1,,11\n'
    labels = parse_labels(text.splitlines(), "labels.csv")
    assert {obs_id: tuple(one) for obs_id, one in labels.items()} == {10: (2, 4), 11: (-1, 6)}


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["OBS_ID,label", "1,1", "x,1"], "line 3: OBS_ID 'x'; expected a whole number"),
        (["OBS_ID,label", "1,1.5"], "line 2: label '1.5'; expected a whole number"),
        (["OBS_ID,label", "1,0"], "line 2: label 0; expected 1, 2, ..., or -1"),
        (["OBS_ID,label", "1,-2"], "line 2: label -2; expected"),
        (["OBS_ID,label", "1,1", "#", "1,2"], "line 4: run 1 is there already, in line 2"),
        (["OBS_ID,label", "1"], "line 2: 1 values; expected a header with OBS_ID and label"),
        (["# hello", "OBS_ID,group"], "line 2: no column label; expected a header"),
        (["33787,1"], "line 1: no column OBS_ID and label; expected a header"),
        (["OBS_ID,label"], "holds no runs"),
        ([], "holds no runs"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(lines, message):
    with pytest.raises(RequestError, match=r"^file\.csv") as error:
        parse_labels(lines, "file.csv")
    assert message in str(error.value)


def test_labels_keep_their_order_and_leave_no_gaps():
    labels = parse_labels(["OBS_ID,label", "1,9", "2,2", "3,-1", "5,2", "77,1"], "file.csv")
    grouping = group_by_labels(scaled(), labels, "file.csv")
    assert grouping.labels.tolist() == [2, 1, -1, -1, 1]
    assert grouping.reasons == {3: "in no group in file.csv", 4: "not in file.csv"}
    assert grouping.remarks == ("1 run of file.csv is not selected",)
    assert grouping.linkage is None


def test_runs_without_features_keep_their_labels():
    table = QTable({"obs_id": [1, 2, 3], "psf-r68": [1.0, np.nan, 2.0]})
    labels = parse_labels(["OBS_ID,label", "1,1", "2,1", "3,2"], "file.csv")
    assert group_by_labels(scale_features(table), labels).labels.tolist() == [1, 1, 2]
    table["psf-r68"] = np.nan
    grouping = group_by_labels(scale_features(table), labels)
    assert grouping.labels.tolist() == [1, 1, 2]
    assert grouping.rule is None


def test_new_runs_find_the_group_of_the_most_similar_one():
    labels = parse_labels(["OBS_ID,label", *(f"{i},{1 + i // 3}" for i in range(1, 6))], "file.csv")
    grouping = group_by_labels(scaled(), labels)
    new = QTable({"obs_id": [90, 91], "psf-r68": [1.1, 1.9]})
    assert grouping.rule.assign(new)[0].tolist() == [1, 2]


def test_groups_in_no_group_at_all_are_a_mistake():
    labels = parse_labels(["OBS_ID,label", "1,-1", "2,-1"], "file.csv")
    with pytest.raises(RequestError, match="none of the 5 selected runs"):
        group_by_labels(scaled(), labels, "file.csv")


def test_command_line(small_archive, tmp_path, capsys):
    ids = np.asarray(DataStore.from_dir(small_archive).obs_table["OBS_ID"]).tolist()
    rows = [f"{obs_id},{1 + i % 2}" for i, obs_id in enumerate(ids[:-1])]
    path = write(tmp_path / "mine.csv", *rows)
    command = ["group", str(small_archive), "--labels", str(path), "--no-plots"]
    assert main([*command, "--output", str(tmp_path / "out")]) == 0
    assert f"run {ids[-1]} is in no group: not in mine.csv" in capsys.readouterr().err
    grouping = Grouping.read(tmp_path / "out")
    assert grouping.label_of(ids).tolist() == [*(1 + i % 2 for i in range(len(ids) - 1)), -1]
    # What was written repeats itself, and says what the file was.
    again = ["run", str(tmp_path / "out" / "groups.yaml"), "--output", str(tmp_path / "again")]
    assert main([*again, "--set", "report=false", "--set", "assess=false", "--no-plots"]) == 0
    assert Grouping.read(tmp_path / "again") == grouping
    assert "label_files:" in (tmp_path / "out" / "groups.yaml").read_text()
    assessment = assess_grouping(tmp_path / "out")
    assert len(assessment.quality) == 1
    assert assessment.stability is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--labels", "nowhere.csv"], "labels nowhere.csv: cannot be read (No such file"),
        (
            ["--labels", "{unknown}"],
            "unknown.csv, line 3: the archive has no run 7; expected those",
        ),
        (["--labels", "{binary}"], "not a text file"),
        (["--method", "labels"], "--method labels needs --labels FILE"),
        (
            ["--labels", "{unknown}", "--n-groups", "2"],
            "--n-groups is no option of --method labels",
        ),
        (["--labels", "{unknown}", "--min-runs", "2"], "leave constraints out"),
        (["--labels", "{unknown}", "--by", "ZEN_PNT"], "belongs to clustering"),
    ],
)
def test_mistakes_have_one_message(small_archive, tmp_path, arguments, message, capsys):
    first = int(DataStore.from_dir(small_archive).obs_table["OBS_ID"][0])
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00")
    files = {
        "unknown": write(tmp_path / "unknown.csv", f"{first},1", "7,1"),
        "binary": tmp_path / "binary.csv",
    }
    arguments = [text.format(**files) for text in arguments]
    command = ["group", str(small_archive), "--output", str(tmp_path / "out"), *arguments]
    assert main(command) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_the_description_needs_a_file():
    with pytest.raises(RequestError, match="file"):
        make_config({"archive": "a", "grouping": {"method": "labels"}})
