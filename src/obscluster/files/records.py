"""Records and checksums: what a file must hold, and whether it is what was written.

Records are written by us, and edited, cut short and sent around by people. A reader names what it
needs as a `Check`, made of the functions here, and calls `check_record`; what it then finds under
these keys is of the kind that was named. Keys that no check names are left alone.

A directory of results has a list of its files with their checksums, ``obscluster.sha256``, in the
format of ``sha256sum``: ``sha256sum -c obscluster.sha256`` checks it, too. Comments in it tell
which command wrote which files. A single file has its checksum in itself.
"""

from __future__ import annotations

import hashlib
import platform
import re
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import version
from math import isfinite
from pathlib import Path
from typing import Any

from obscluster.exceptions import ArchiveError
from obscluster.version import __version__

__all__ = [
    "LARGEST",
    "LIST_FILE",
    "UNSEALED",
    "Check",
    "RecordError",
    "any_value",
    "changed_files",
    "changed_text",
    "check_files",
    "check_record",
    "checksum",
    "checksum_of",
    "is_sealed",
    "list_of",
    "list_text",
    "listed",
    "mapping",
    "mapping_of",
    "number",
    "one_of",
    "optional",
    "path_in",
    "require",
    "sealed",
    "text",
    "versions",
    "whole",
]

At = tuple[str | int, ...]
Check = Callable[[Any, At], None]
"""Takes a value and where it stands; raises `RecordError` if it is not what it should be."""

LARGEST = 2**63 - 1
"""Largest whole number in a table."""

_SHOWN = 60


class RecordError(ArchiveError):
    """A record does not hold what it should; the message names the key, the file is told later."""


def check_record(record: Any, check: Check, path: Path) -> None:
    """Check the content of a record.

    Parameters
    ----------
    record : object
        What the file holds.
    check : `Check`
        What it must hold.
    path : `~pathlib.Path`
        The file, for the message.

    Raises
    ------
    ArchiveError
        If it is something else; the message names file, key, value and what was expected.
    """
    try:
        check(record, ())
    except RecordError as error:
        raise ArchiveError(f"{path}: {error}") from None


def require(condition: Any, text: str) -> None:
    """Raise a `RecordError` unless something holds, for what parts of a record say together."""
    if not condition:
        raise RecordError(text)


def path_in(directory: Path, name: Any, record: Path) -> Path:
    """Path of a file that a record names, which never leads out of the directory.

    Parameters
    ----------
    directory : `~pathlib.Path`
        Directory of the results.
    name : object
        What the record says: a path relative to the directory.
    record : `~pathlib.Path`
        The record, for the message.

    Raises
    ------
    ArchiveError
        If it is no text, is absolute, or leads out of the directory, also by a symbolic link.
    """
    where = f"{record}: {_short(name)}"
    if not isinstance(name, str) or not name or "\0" in name:
        raise ArchiveError(f"{where}: expected the name of a file in {directory}")
    given = Path(name)
    try:
        inside = (directory / given).resolve().is_relative_to(directory.resolve())
        # Tells of names that are too long; what is not there is for the reader to tell.
        (directory / given).exists()
    except (OSError, RuntimeError) as error:
        # The latter is of a link to itself.
        reason = getattr(error, "strerror", None) or error
        raise ArchiveError(f"{where}: cannot be followed ({reason})") from None
    if given.is_absolute() or ".." in given.parts or not inside:
        raise ArchiveError(f"{where}: leads out of {directory}; files of results are inside")
    return directory / given


def any_value(value: Any, at: At) -> None:
    """Whatever it is."""
    del value, at


def text(value: Any, at: At) -> None:
    """A text."""
    if not isinstance(value, str):
        raise _unfit(value, at, "a text")


def whole(low: int = -LARGEST, high: int = LARGEST) -> Check:
    """A whole number within bounds."""
    bounds = f" from {low}" if low > -LARGEST else ""
    bounds += f" to {high}" if high < LARGEST else ""

    def check(value: Any, at: At) -> None:
        if type(value) is not int or not low <= value <= high:
            raise _unfit(value, at, f"a whole number{bounds}")

    return check


def number(low: float = -float("inf"), finite: bool = True) -> Check:
    """A number, not below a bound; without ``finite``, also one that is infinite or NaN."""

    def check(value: Any, at: At) -> None:
        kind = isinstance(value, int | float) and not isinstance(value, bool)
        if not kind or (finite and not isfinite(value)) or value < low:
            above = f" from {low:g}" if isfinite(low) else ""
            raise _unfit(value, at, f"a number{above}")

    return check


def one_of(*values: Any) -> Check:
    """One of some values."""

    def check(value: Any, at: At) -> None:
        if not any(type(value) is type(other) and value == other for other in values):
            raise _unfit(value, at, f"one of {', '.join(map(str, values))}")

    return check


def optional(check: Check) -> Check:
    """Null, or what another check takes."""

    def check_given(value: Any, at: At) -> None:
        if value is not None:
            check(value, at)

    return check_given


def list_of(check: Check, at_least: int = 0) -> Check:
    """A list whose items another check takes."""

    def check_items(value: Any, at: At) -> None:
        if not isinstance(value, list) or len(value) < at_least:
            raise _unfit(value, at, f"a list of {at_least} or more" if at_least else "a list")
        for place, item in enumerate(value):
            check(item, (*at, place))

    return check_items


def mapping_of(check: Check, key: Check = any_value) -> Check:
    """Keys and values that other checks take."""

    def check_items(value: Any, at: At) -> None:
        if not isinstance(value, Mapping):
            raise _unfit(value, at, "keys and values")
        for name, item in value.items():
            here = (*at, name)
            key(name, here)
            check(item, here)

    return check_items


def mapping(required: Mapping[str, Check], given: Mapping[str, Check] | None = None) -> Check:
    """Keys that must be there, and those that are checked if they are."""

    def check(value: Any, at: At) -> None:
        if not isinstance(value, Mapping):
            raise _unfit(value, at, "keys and values")
        for name, inner in required.items():
            if name not in value:
                where = f"{'.'.join(map(str, at))}: " if at else ""
                raise RecordError(f"{where}has no key {name}")
            inner(value[name], (*at, name))
        for name, inner in (given or {}).items():
            if name in value:
                inner(value[name], (*at, name))

    return check


def _unfit(value: Any, at: At, expected: str) -> RecordError:
    where = f"{_short('.'.join(map(str, at)))}: " if at else ""
    return RecordError(f"{where}given {_short(repr(value))}, expected {expected}")


def _short(value: Any) -> str:
    shown = str(value)
    return shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}..."


def versions() -> dict[str, str]:
    """Versions of what computed a result."""
    names = ("numpy", "scipy", "astropy", "scikit-learn", "fastcluster")
    return {"obscluster": __version__, "python": platform.python_version()} | {
        name: version(name) for name in names
    }


LIST_FILE = "obscluster.sha256"
_LINE = re.compile(r"([0-9a-f]{64}) [ *](.+)")
_KIND = re.compile(r"# ([a-z]+)")
_MARK = "obscluster-sha256:"
UNSEALED = _MARK + 64 * "0"
"""What stands in a file in place of its own checksum, until it is `sealed`."""
_SEAL = re.compile(re.escape(_MARK).encode() + b"([0-9a-f]{64})")


def checksum(path: Path) -> str:
    """SHA-256 of a file, as ``sha256:<hex>``."""
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def checksum_of(content: bytes) -> str:
    """The same, of the bytes of a file that were read already."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def listed(directory: Path) -> dict[str, dict[str, str]]:
    """What a directory's list says: kind of result to its files, each with its checksum.

    Empty where there is no list of ours.
    """
    try:
        lines = (directory / LIST_FILE).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return {}
    if not lines or not lines[0].startswith("# files of obscluster"):
        return {}
    found: dict[str, dict[str, str]] = {}
    kind = ""
    for line in lines[1:]:
        if match := _KIND.fullmatch(line):
            kind = match[1]
            found.setdefault(kind, {})
        elif match := _LINE.fullmatch(line):
            found.setdefault(kind, {})[match[2]] = f"sha256:{match[1]}"
    return found


def list_text(kinds: Mapping[str, Mapping[str, str]]) -> str:
    """The text of a list; see `listed`."""
    lines = [f"# files of obscluster {__version__}, to be checked by: sha256sum -c {LIST_FILE}"]
    for kind, files in sorted(kinds.items()):
        lines += [f"# {kind}"]
        lines += [
            f"{value.removeprefix('sha256:')}  {name}" for name, value in sorted(files.items())
        ]
    return "\n".join(lines) + "\n"


def changed_files(directory: Path, checksums: Mapping[str, str]) -> list[str]:
    """Files that are there and are not what was written.

    Raises
    ------
    ArchiveError
        If a name leads out of the directory.
    """
    paths = {name: path_in(directory, name, directory / LIST_FILE) for name in checksums}
    return [
        name for name, path in paths.items() if path.is_file() and checksum(path) != checksums[name]
    ]


def check_files(directory: Path, kinds: Iterable[str]) -> None:
    """Check that the results of some commands in a directory are those that were written.

    Parameters
    ----------
    directory : `~pathlib.Path`
        Where the results are. Without a list, nothing is checked.
    kinds : iterable of str
        Which of them: names of commands.

    Raises
    ------
    ArchiveError
        If files have changed; the message names them.
    """
    found = listed(directory)
    changed = [name for kind in kinds for name in changed_files(directory, found.get(kind, {}))]
    if changed:
        raise ArchiveError(changed_text(directory, changed))


def changed_text(directory: Path, changed: Iterable[str]) -> str:
    """What is said of a set of results that is not the one that was written."""
    return (
        f"{directory}: {', '.join(changed)} changed since it was written, so that the results do "
        "not belong together; write them again (--overwrite), or read them all the same by "
        "--trust (trust=True)"
    )


def sealed(content: bytes) -> bytes:
    """Content of a file with its checksum in place of `UNSEALED`."""
    digest = hashlib.sha256(content).hexdigest()
    return content.replace(UNSEALED.encode(), f"{_MARK}{digest}".encode(), 1)


def is_sealed(content: bytes) -> bool:
    """Whether a file is as it was `sealed`."""
    match = _SEAL.search(content)
    if match is None:
        return False
    before = content[: match.start()] + UNSEALED.encode() + content[match.end() :]
    return hashlib.sha256(before).hexdigest().encode() == match[1]
