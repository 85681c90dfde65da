"""Texts of an archive on the terminal: whatever they hold, they are text, and forge no line."""

from __future__ import annotations

import gzip
import io
import os
import subprocess
import sys
import warnings
from contextlib import redirect_stderr, suppress
from pathlib import Path

import numpy as np
import pytest

from archives import Archive
from obscluster.cli import main
from obscluster.cli.terminal import guarded, progress_bar, say
from obscluster.exceptions import (
    ArchiveError,
    DataError,
    ObsClusterWarning,
    RequestError,
    SkippedRunWarning,
    join_lines,
    printable,
)

FORGED = "obscluster: error: forged"
CONTROLS = "".join(map(chr, [*range(0x20), 0x7F]))
OTHERS = (
    "".join(map(chr, range(0x80, 0xA0)))
    + "\u061c\u200b\u200e\u200f\u2028\u2029\u202a\u202b\u202c\u202d\u202e"
    + "\u2066\u2067\u2068\u2069\ufeff"
)
# No NUL, which ends a text of FITS, and file names; no / in the names of files.
TEXT = f"\x1b[31m\x1b]0;title\x07{CONTROLS[1:]}\n{FORGED}\r{FORGED}\x7f"
FILE_NAME = f"\x1b[31m{CONTROLS[1:]}\n{FORGED}\r.fits"
# One that is broken into lines just before what it forges.
LONG_NAME = f"{'x' * 70} {FORGED}.fits"
NAME = f"\x1b[31m{CONTROLS[1:]}{OTHERS}\n{FORGED}\r.fits"


def assert_harmless(text):
    """There is nothing but text and ends of lines, and no line that somebody else wrote."""
    bad = {c for c in text if c != "\n" and not c.isprintable()}
    assert not bad, sorted(map(ascii, bad))
    assert not [line for line in text.split("\n") if line.startswith(FORGED)]


def patch(path, old, new):
    """Write bytes into a file that `~astropy.io.fits` refuses to write."""
    pack = gzip.compress if path.suffix == ".gz" else bytes
    unpack = gzip.decompress if path.suffix == ".gz" else bytes
    content = unpack(path.read_bytes())
    assert old in content
    path.write_bytes(pack(content.replace(old, new[: len(old)].ljust(len(old)))))


def run(*words):
    """Run a command, which may warn, as those do who type it."""
    with warnings.catch_warnings(), suppress(SystemExit):
        warnings.simplefilter("default")
        main(words)


@pytest.fixture(scope="module")
def hostile(unpacked_archive, tmp_path_factory):
    """An archive whose columns, keywords and names of files hold every control character."""
    archive = Archive.copy_of(unpacked_archive, tmp_path_factory.mktemp("hostile") / f"a{NAME}")
    marker = "M" * 60
    archive.keywords("EVENTS", OBJECT=marker, TELESCOP=marker, INSTRUME=marker, OBS_MODE=marker)
    for path in archive.files:
        patch(path, marker.encode(), TEXT.encode("ascii")[-60:])
    # One file has another name, one a HDU of another name, and two are cut off.
    first, second, third, fourth = archive.files[:4]
    new_names = {first.name: FILE_NAME, fourth.name: LONG_NAME}
    first.rename(first.with_name(FILE_NAME))
    fourth.rename(fourth.with_name(LONG_NAME))
    for path in (third, fourth.with_name(LONG_NAME)):
        path.write_bytes(path.read_bytes()[:20000])
    patch(second, b"'AEFF    '", b"'AE\x1b[3\r  '")

    def rename_targets(table):
        table["OBJECT"] = [f"{TEXT}{i % 2}".encode() for i in range(len(table))]
        table["NNNNNNNN"] = np.arange(len(table))

    def rename_files(table):
        names = [name.strip() for name in table["FILE_NAME"]]
        table["FILE_NAME"] = [new_names.get(name, name).encode() for name in names]

    archive.index("obs", rename_targets)
    archive.index("hdu", rename_files)
    patch(archive.directory / "obs-index.fits.gz", b"NNNNNNNN", b"N\x1b[31m\r")
    return archive.directory


@pytest.fixture(scope="module")
def grouped(hostile, tmp_path_factory):
    results = tmp_path_factory.mktemp("grouped") / f"r{NAME}"
    command = ["group", str(hostile), "--output", str(results), "--no-plots"]
    run(*command, "--features", "psf-r68", "zenith", "--n-groups", "2")
    return results


COMMANDS = {
    "info": ["info", "{archive}"],
    "info of all": ["info", "{archive}", "--all", "--debug"],
    "check": ["check", "{archive}"],
    "check all": ["check", "{archive}", "--all", "--output", "{plain}/findings\x1b[31m.ecsv"],
    "index": ["index", "{archive}/data"],
    "features": ["features"],
    "group": ["group", "{archive}", "--output", "{new}", "--no-plots", "--features", "aeff"],
    "group, debug": ["group", "{archive}", "-o", "{new}", "--no-plots", "--debug"],
    "categories": ["group", "{archive}", "-o", "{new}", "--no-plots", "--by", "OBJECT=categories"],
    "no target": ["group", "{archive}", "-o", "{new}", "--target", "no such target"],
    "where": ["group", "{archive}", "-o", "{new}", "--no-plots", "--where", "OBJECT", "=", TEXT],
    "init": ["init", "{archive}", "--output", "{new}.yaml", "--all"],
    "assess": ["assess", "{results}", "--output", "{new}"],
    "report": ["report", "{results}", "--output", "{new}.html"],
    "compare": ["compare", "{results}", "{results}"],
    "assign": ["assign", "{results}", "{archive}", "--output", "{new}"],
    "frontier": ["frontier", "{archive}", "--flux", "1 % Crab", "--target", "128.84 -45.18"],
    "reduce": ["reduce", "{results}", "--output", "{new}", "--target", "128.84 -45.18"],
    "no archive": ["info", f"{{archive}}/none{TEXT}"],
    "no argument": ["info", "{archive}", f"--none{TEXT}"],
    "no results": ["assess", f"{{archive}}/none{TEXT}", "--debug"],
}


@pytest.mark.parametrize("command", COMMANDS.values(), ids=list(COMMANDS))
def test_every_command(hostile, grouped, tmp_path, capsys, command):
    places = {"archive": hostile, "results": grouped, "new": tmp_path / f"n{NAME}"}
    places["plain"] = tmp_path
    words = [word.format(**places) for word in command]
    capsys.readouterr()
    run(*words)
    seen = capsys.readouterr()
    assert seen.out or seen.err
    assert_harmless(seen.out)
    assert_harmless(seen.err)


def test_the_archive_is_what_it_should_be(hostile, capsys):
    """The texts do reach the terminal: escaped, and not cut off."""
    run("info", str(hostile))
    out = capsys.readouterr().out
    assert "\\x1b[31m" in out
    assert "\\n" + FORGED in out


def test_as_a_process(hostile):
    """In a process of its own, where astropy is loaded after the command begins."""
    command = [sys.executable, "-m", "obscluster", "check", str(hostile)]
    done = subprocess.run(command, capture_output=True, env=os.environ | {"PYTHONUTF8": "1"})
    assert done.returncode == 1
    assert_harmless(done.stdout.decode())
    assert_harmless(done.stderr.decode())


@pytest.mark.parametrize("character", [*CONTROLS, *OTHERS, "\udcff"], ids=ascii)
def test_characters(character):
    text = printable(f"a{character}b")
    assert text == repr(f"a{character}b")[1:-1]
    assert text.isprintable()
    assert printable(text) == text


def test_text_stays_as_it_is():
    text = "NGC 253, 2.5 m², H.E.S.S.\N{NO-BREAK SPACE}\N{THIN SPACE}“日本” C:\\data"
    assert printable(text) == text
    assert join_lines(["a\nb", 1, ""]) == "a\\nb\n1\n"


@pytest.mark.parametrize("kind", [RequestError, ArchiveError, DataError, ObsClusterWarning])
def test_errors_and_warnings(kind):
    assert str(kind(f"no {TEXT}")).isprintable()
    assert str(kind("plain")) == "plain"


def test_errors_name_places_and_have_lines():
    error = DataError("bad", Path(NAME), f"EVENTS{TEXT}")
    assert str(error).isprintable()
    assert str(RequestError(f"one{TEXT}", "two")).split("\n")[1:] == ["two"]
    assert str(SkippedRunWarning("a\nb")) == "a\\nb"


def test_streams_are_watched(capsys):
    with guarded():
        print("one\ttwo\x1b[31m\nthree", end="")
        sys.stderr.writelines(["a\r", "b\n"])
        assert not sys.stdout.isatty()
        say("x\ny", error=True)
    seen = capsys.readouterr()
    assert seen.out == "one\\ttwo\\x1b[31m\nthree"
    assert seen.err == "a\\rb\nx\\ny\n"
    print("\x1b")
    assert capsys.readouterr().out == "\x1b\n"


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_progress_bars_move_the_cursor_of_a_terminal():
    terminal = Terminal()
    with redirect_stderr(terminal), guarded():
        bar = progress_bar(range(3), 3, f"runs of {TEXT}")
        bar.refresh()
        assert list(bar) == [0, 1, 2]
    written = terminal.getvalue()
    assert "\r" in written
    assert "\x1b[31m" not in written
    assert "\\x1b[31m" in written
