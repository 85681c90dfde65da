"""What records of results must hold, before anything takes them at their word.

Records are written by us, and edited, cut short and sent around by people. A reader names what it
needs as a `Check`, made of the functions here, and calls `check_record`; what it then finds under
these keys is of the kind that was named. Keys that no check names are left alone.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping
from importlib.metadata import version
from math import isfinite
from pathlib import Path
from typing import Any

from obscluster.exceptions import ArchiveError
from obscluster.version import __version__

__all__ = [
    "LARGEST",
    "Check",
    "RecordError",
    "any_value",
    "check_record",
    "list_of",
    "mapping",
    "mapping_of",
    "number",
    "one_of",
    "optional",
    "path_in",
    "require",
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
