"""YAML that is read: within limits, in time, and with a message for what is not plain."""

import datetime as dt
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import yaml

from obscluster.exceptions import ArchiveError, RequestError
from obscluster.files import yaml as parsing
from obscluster.files.yaml import (
    DESCRIPTION,
    RECORD,
    read_document,
    read_text,
    read_yaml,
    write_yaml,
)

SECONDS = 2
PARSERS = [parsing._Parser, yaml.SafeLoader]


def doubling(n, merge=False):
    """Each anchor holds the one before it twice."""
    lines = ["x0: &x0 {a: 1}"]
    for i in range(1, n):
        twice = f"[*x{i - 1}, *x{i - 1}]"
        lines.append(f"x{i}: &x{i} " + (f"{{<<: {twice}}}" if merge else twice))
    return "\n".join(lines)


def keys(n):
    return "".join(f"key{i}: 1\n" for i in range(n))


TOO_MUCH = {
    "aliases that double": (doubling(40), "an alias with all that it stands for"),
    "merges that double": (doubling(40, merge=True), "an alias with all that it stands for"),
    "an alias within itself": ("a: &a [1, *a]\n", "line 1: *a stands within &a"),
    "a merge of itself": ("a: &a\n  b: 1\n  <<: *a\n", "line 3: *a stands within &a"),
    "lists": ("[" * 900_000, "nesting depth"),
    "5 MB of lists": ("[" * 5_000_000, "has 5 MB"),
    "lists, short": ("a: " + "[" * 50 + "]" * 50, "line 1: 51 levels within each other"),
    "blocks": ("- " * 400_000, "levels"),
    "maps": ("{a: " * 200_000, "levels"),
    "keys of keys": ("? " * 400_000, "a list, or keys and values, in place of a key"),
    "aliases that nest": (
        "x0: &x0 [1]\n" + "".join(f"x{i}: &x{i} [*x{i - 1}]\n" for i in range(1, 80)),
        "line 50: 51 levels",
    ),
    "10 MB of text": ("a: " + "b" * 10_000_000, "10 MB"),
    "10 MB of comments": ("# a comment\n" * 833_334, "10 MB"),
    "10 MB of spaces": (" " * 10_000_000, "10 MB"),
    "10 MB of quotes": ('"' * 10_000_000, "10 MB"),
    "300,000 keys": (keys(300_000), "may have"),
    "300,000 keys of one map": ("{" + ", ".join(f"k{i}" for i in range(300_000)) + "}", "may have"),
    "20,000 keys": (keys(20_000), "20001 keys and values up to here"),
    "sexagesimal": ("a: 1" + ":1" * 450_000, ""),
    "anchors": ("".join(f"- &a{i} 1\n" for i in range(60_000)), "20001 keys and values"),
}


@pytest.mark.parametrize("case", TOO_MUCH)
@pytest.mark.parametrize("first", ["", "obscluster: grouping of observations\n"])
def test_what_is_too_much_ends_in_time_with_a_message(case, first, tmp_path):
    text, words = TOO_MUCH[case]
    path = tmp_path / "run.yaml"
    path.write_text(first + text)
    start = time.process_time()
    try:
        read_document(path)
    except ArchiveError as error:
        message = str(error)
        assert message.startswith(str(path))
        assert len(message) < 400
        if not first:
            assert words in message
    else:
        # A record may have more, a text may be long.
        assert first or not words
    seconds = time.process_time() - start
    print(f"{case}, {'record' if first else 'description'}: {seconds:.2f} s")
    assert seconds < SECONDS


def test_parsing_ends_where_the_limit_is_passed(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(keys(30_000) + "a: [1\n")
    with pytest.raises(ArchiveError, match=r"line 10000: 20001 keys"):
        read_document(path)


NO_VALUES = {
    "a: !!python/object/apply:os.system [ls]\n": "line 1: the tag !!python/object/apply:os.system",
    "a: !secret b\n": "line 1: the tag !secret is not known",
    "a: !!set {b, c}\n": "the tag !!set",
    "a: !!binary aGVsbG8=\n": "the tag !!binary",
    "a: !!omap [{b: 1}]\n": "the tag !!omap",
    "a: !!int ''\n": "line 1",
    "a: !!int b\n": "line 1",
    "a: !!float ''\n": "line 1",
    "a: !!bool maybe\n": "expected true or false",
    "a: !!timestamp b\n": "expected a date",
    "a: !!map [1]\n": "the tag !!map",
    "a: 1\nb: 2024-13-45\n": "line 2: 2024-13-45: no such date",
    "a: 2024-01-01T25:00:00Z\n": "no such date",
    "a: 2024-01-01 10:00:00 +99:00\n": "no such date",
    f"a: {'9' * 5000}\n": "at most 100 digits",
    "a: 0x" + "f" * 5000 + "\n": "at most 100 digits",
    "a: 007\n": "line 1: 007: a number that begins with 0 has the base 8 in YAML; write 7",
    "a: 1.0e+400\n": "below 1.8e308",
    "? [1, 2]\n: 3\n": "line 1: a list, or keys and values, in place of a key",
    "{a: 1}: 2\n": "in place of a key",
    "true: 1\n": "the key is read as True; put it in quotes",
    "null: 1\n": "the key is read as None",
    "1.5: 1\n": "the key is read as 1.5",
    "2024-01-01: 1\n": "put it in quotes",
    "a: 1\na: 2\n": "line 2: a: this key is there already, in line 1; name it once",
    "a: {b: 1,\n b: 2}\n": "line 2: b: this key is there already, in line 1",
    "a: &a {b: 1}\nc:\n  <<: *a\n  <<: *a\n": "line 4: <<: this key is there already, in line 3",
    "a: {<<: 1}\n": "line 1: <<: expected keys and values",
    "a: {<<: [1]}\n": "line 1: <<: expected keys and values",
    "a: *b\n": "line 1: *b: there is no &b before it",
    "a: 1\n---\nb: 2\n": "line 2: a second document begins here",
    "a:\n\t- 1\n": "line 2: not YAML",
    'a: "\\0"\n': "line 1: a NUL character",
    "a: b\0c\n": "not YAML",
    "a: \x07\n": "not YAML",
    'a: "\\ud800"\n': "not",
    "- 1\n": "holds no keys and values",
    "": "holds no keys and values",
    "# nothing\n": "holds no keys and values",
    "text": "holds no keys and values",
    "%YAML 3.0\n---\na: 1\n": "not YAML",
    "%TAG ! tag:yaml.org,2002:python/\n---\na: !object b\n": "the tag",
}


@pytest.mark.parametrize("parser", PARSERS)
@pytest.mark.parametrize("text", NO_VALUES, ids=range(len(NO_VALUES)))
@pytest.mark.parametrize("read", [read_document, read_yaml])
def test_what_is_no_plain_value_is_told_by_its_line(parser, text, read, tmp_path, monkeypatch):
    monkeypatch.setattr(parsing, "_Parser", parser)
    path = tmp_path / "run.yaml"
    path.write_text(text, encoding="utf-8", newline="")
    with pytest.raises(ArchiveError, match=re.escape(NO_VALUES[text])) as caught:
        read(path)
    assert str(caught.value).startswith(str(path))
    assert len(str(caught.value)) < 400


BYTES = {
    "a: 1\n".encode("utf-16"): "in UTF-16; save it as UTF-8",
    b"a: 1\nb: \xff\n": "line 2: not a text file in UTF-8 (byte 0xff)",
    bytes(range(256)) * 10: "not",
    b"\x1f\x8b\x08\x00": "line 1: not a text file in UTF-8",
    b"SIMPLE  =                    T\0\0": "not YAML",
}


@pytest.mark.parametrize("content", BYTES, ids=range(len(BYTES)))
def test_what_is_no_text_is_told(content, tmp_path):
    path = tmp_path / "run.yaml"
    path.write_bytes(content)
    with pytest.raises(ArchiveError, match=re.escape(BYTES[content])):
        read_document(path)


VALUES = {
    "a: 12:30:00": "12:30:00",
    "a: -1:30.5": "-1:30.5",
    "a: 2024-01-31": dt.date(2024, 1, 31),
    "a: yes": True,
    "a: off": False,
    "a: ~": None,
    "a:": None,
    "a: =": "=",
    "a: '<<'": "<<",
    "a: 1_000": 1000,
    "a: -0x1f": -31,
    "a: +0": 0,
    "a: 1e3": "1e3",
    "a: 1.5e+3": 1500.0,
    "a: .inf": float("inf"),
    "a: !!str 1": "1",
    "a: !!float 1": 1.0,
    "a: &b 1": 1,
    "\ufeffa: 1": 1,
    "---\na: 1\n...\n": 1,
    "a: 1\r\nb: 2\r\n": 1,
    "a: |\n  text\n": "text\n",
    "a: {1: b, '1': c}": {1: "b", "1": "c"},
    "b: &b k\na: {*b : 1}": {"k": 1},
    "b: &b 1\nc: &b 2\na: *b": 2,
}


@pytest.mark.parametrize("parser", PARSERS)
@pytest.mark.parametrize("text", VALUES)
def test_plain_values_are_read(parser, text, tmp_path, monkeypatch):
    monkeypatch.setattr(parsing, "_Parser", parser)
    path = tmp_path / "run.yaml"
    path.write_bytes(text.encode())
    assert read_document(path).content["a"] == read_yaml(path)["a"] == VALUES[text]


MERGED = """\
x-base: &base
  names: [psf-r68]
  energy: [1 TeV]
x-more: &more
  energy: [2 TeV]
  offset: 1 deg
one:
  <<: *base
  energy: [3 TeV]
two:
  names: [aeff]
  <<: [*more, *base]
three: &three
  <<: *base
four: {<<: *three, missing: true}
"""


@pytest.fixture
def merged(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(MERGED)
    return read_document(path)


def test_merge_keys_are_those_of_yaml(merged):
    assert merged.content == {
        "one": {"names": ["psf-r68"], "energy": ["3 TeV"]},
        "two": {"names": ["aeff"], "energy": ["2 TeV"], "offset": "1 deg"},
        "three": {"names": ["psf-r68"], "energy": ["1 TeV"]},
        "four": {"names": ["psf-r68"], "energy": ["1 TeV"], "missing": True},
    }


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("one", "names"), 2),
        (("one", "names", 0), 2),
        (("one", "energy"), 9),
        (("two", "names"), 11),
        (("two", "energy", 0), 5),
        (("two", "offset"), 6),
        (("four", "energy"), 3),
        (("four", "missing"), 15),
        (("four", "nothing"), 15),
        (("nothing",), None),
    ],
)
def test_merged_values_are_told_by_the_line_where_they_stand(merged, path, line):
    assert merged.origin(path) == (merged.name if line is None else f"{merged.name}, line {line}")


def test_a_setting_replaces_a_merged_value_and_no_other(merged):
    changed = merged.with_settings(["one.names.0=aeff", "four.energy=[5 TeV]"])
    assert changed.content["one"]["names"] == ["aeff"]
    assert changed.content["four"]["names"] == ["psf-r68"]
    assert changed.content["three"]["energy"] == ["1 TeV"]
    assert changed.origin(("one", "names", 0)) == "--set one.names.0=aeff"
    assert changed.origin(("four", "names")).endswith("line 2")


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("a=" + "[" * 60, "51 levels"),
        (f"a={'9' * 5000}", "100 digits"),
        ("a=!!python/name:os.system", "the tag"),
        ("a=" + doubling(20).replace("\n", ", ").join("{}"), "an alias with all"),
        (".".join("a" * 60) + "=1", "60 keys within each other"),
        ("one.names." + "9" * 5000 + "=1", "is no place in a list"),
        ("a=b: c: d", "not YAML"),
        ("a=\udcff", "not Unicode"),
        ("a=2024-02-31", "no such date"),
    ],
)
def test_settings_have_limits(merged, setting, words):
    with pytest.raises(RequestError, match=re.escape(words)) as caught:
        merged.with_settings([setting])
    assert str(caught.value).startswith("--set ")


def test_a_long_record_is_a_description_by_what_was_asked(tmp_path):
    path = tmp_path / "groups.yaml"
    reasons = {i: f"not complete: no psf-r68 (no HDU of run {i})" for i in range(30_000)}
    record = {"obscluster": "grouping", "config": {"archive": "."}, "unassigned": reasons}
    write_yaml(path, record)
    path.write_text(f"# mine\n\n{path.read_text()}")
    assert read_document(path).content == read_yaml(path) == record
    record["config"]["names"] = list(range(20_000))
    write_yaml(path, record)
    with pytest.raises(ArchiveError, match="config: 20005 keys and values"):
        read_document(path)
    write_yaml(path, {"config": {}, "unassigned": reasons})
    with pytest.raises(ArchiveError, match="a description may have"):
        read_document(path)


def test_reasons_of_100_000_runs_are_within_the_limits():
    assert RECORD.n_nodes - DESCRIPTION.n_nodes >= 2 * 100_000
    assert RECORD.n_bytes - DESCRIPTION.n_bytes > 100_000 * 250


@pytest.mark.parametrize("name", ["/dev/zero", "/dev/null", "directory", "fifo", "none", "a\0b"])
def test_what_is_no_file_is_refused_at_once(name, tmp_path):
    (tmp_path / "directory").mkdir()
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(ArchiveError, match=r"cannot be read|NUL"):
        read_document(tmp_path / name)


def test_what_the_shell_hands_over_is_read_to_the_limit(tmp_path):
    read_end, write_end = os.pipe()

    def write():
        with os.fdopen(write_end, "w") as file:
            file.write("a: 1\n")

    thread = threading.Thread(target=write)
    thread.start()
    assert read_document(tmp_path / f"/dev/fd/{read_end}").content == {"a": 1}
    thread.join()
    os.close(read_end)
    code = (
        "import pathlib; from obscluster.files.yaml import read_document as r;"
        "print(r(pathlib.Path('/dev/stdin')).content)"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, input="a: 2\n", capture_output=True, text=True, check=True)
    assert done.stdout == "{'a': 2}\n"
    with Path("/dev/zero").open("rb") as zeros:
        done = subprocess.run(command, stdin=zeros, capture_output=True, text=True, check=False)
    assert "has more than 32 MB" in done.stderr


def test_a_file_is_not_read_further_than_it_may_be_long(tmp_path):
    path = tmp_path / "huge.yaml"
    with path.open("wb") as file:
        file.truncate(10**12)
    with pytest.raises(ArchiveError, match="has 1e\\+06 MB, a table may have 1 MB"):
        read_text(path, 1_000_000, what="a table")
