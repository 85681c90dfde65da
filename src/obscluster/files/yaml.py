"""YAML files of plain values, read within limits, and where in the file each value stands.

The values are those of JSON, and dates: a mapping is a `dict` whose keys are texts or whole
numbers, a sequence is a `list`. Merge keys (``<<``) are resolved. Nothing here makes Python
objects of tags.

Values are built from the parser's events, so that what is too long, too deep, or would be too
large once its aliases are followed, is refused where that is seen first, and not when all of it is
in memory.
"""

from __future__ import annotations

import math
import re
import stat
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import yaml
from yaml.constructor import SafeConstructor

from obscluster.exceptions import ArchiveError, RequestError

__all__ = [
    "DESCRIPTION",
    "RECORD",
    "Document",
    "Limits",
    "Place",
    "check_size",
    "megabytes",
    "parse",
    "plain",
    "problem_of",
    "read_document",
    "read_text",
    "read_yaml",
    "require_file",
    "write_yaml",
    "yaml_text",
]

# What the shell hands over: `<(...)` and standard input. Reading these ends, as they are written by
# a process that the user has started for it; a FIFO in a directory may never have a writer.
_HANDED_OVER = ("/dev/fd/", "/dev/stdin", "/proc/self/fd/")
_KINDS = {
    stat.S_ISDIR: "a directory",
    stat.S_ISFIFO: "a FIFO",
    stat.S_ISSOCK: "a socket",
    stat.S_ISCHR: "a device",
    stat.S_ISBLK: "a device",
}


def require_file(path: Path, name: str = "") -> int:
    """Check that a path leads to a file, or to what the shell hands over in place of one.

    Parameters
    ----------
    path : `~pathlib.Path`
        The file.
    name : str
        What to call it in messages; the path unless told.

    Returns
    -------
    size : int
        Its size in bytes, 0 for what is no regular file.

    Raises
    ------
    ArchiveError
        If it is not there, or is something else.
    """
    name = name or str(path)
    if "\0" in str(path):
        raise ArchiveError(f"{name!r}: holds a NUL character, which no path has")
    try:
        status = path.stat()
    except OSError as error:
        raise ArchiveError(f"{name}: cannot be read ({error.strerror})") from None
    if stat.S_ISREG(status.st_mode):
        return status.st_size
    kind = next((text for test, text in _KINDS.items() if test(status.st_mode)), "no file")
    if kind == "a directory" or not str(path.absolute()).startswith(_HANDED_OVER):
        raise ArchiveError(f"{name}: cannot be read (is {kind}; name a file)")
    return 0


def read_text(path: Path, most: int, name: str = "", what: str = "such a file") -> str:
    """Content of a text file in UTF-8, without a byte order mark.

    Parameters
    ----------
    path : `~pathlib.Path`
        The file; a FIFO or a device only if the shell hands it over.
    most : int
        Largest number of bytes.
    name : str
        What to call the file in messages; the path unless told.
    what : str
        What kind of file it is, for the message on its size.

    Raises
    ------
    ArchiveError
        If it cannot be read, is larger, or is no text; the message says where.
    """
    name = name or str(path)
    size = require_file(path, name)
    try:
        with path.open("rb") as file:
            content = b"" if size > most else file.read(most + 1)
    except OSError as error:
        raise ArchiveError(f"{name}: cannot be read ({error.strerror})") from None
    if max(size, len(content)) > most:
        given = megabytes(size) if size else f"more than {megabytes(most)}"
        raise ArchiveError(
            f"{name}: has {given}, {what} may have {megabytes(most)}; is it the right file?"
        )
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise ArchiveError(f"{name}: not a text file in UTF-8 but in UTF-16; save it as UTF-8")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ArchiveError(
            f"{name}, line {line}: not a text file in UTF-8 (byte 0x{content[error.start]:02x}); "
            "save it as UTF-8"
        ) from None


def megabytes(size: int) -> str:
    """A number of bytes in words; whole ones below a thousand, else with four digits."""
    return f"{size} bytes" if size < 1000 else f"{size / 1e6:.4g} MB"


# libyaml where PyYAML was built with it: ten times as fast.
_Parser: type[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_PREFIX = "tag:yaml.org,2002:"
_MERGE = f"{_PREFIX}merge"
_TIMESTAMP = f"{_PREFIX}timestamp"
# More digits than any number of a run, an edge or a seed has; Python refuses to read 5000.
_MOST_DIGITS = 100
_SHOWN = 40


@dataclass(frozen=True)
class Limits:
    """How much a file may hold.

    Parameters
    ----------
    what : str
        What the file is, for messages.
    n_bytes, n_nodes, n_levels : int
        Bytes of text; keys, values and containers, where an alias counts with all that it stands
        for; levels of containers within each other.
    """

    what: str
    n_bytes: int
    n_nodes: int
    n_levels: int


DESCRIPTION = Limits("a description", 1_000_000, 20_000, 50)
"""What somebody writes by hand, or has a program write."""

RECORD = Limits("a record of results", 32_000_000, 220_000, 50)
"""What we write: a reason for each of 100,000 runs in no group, and all the rest beside."""


@dataclass(eq=False)
class Place:
    """Line of a value (of its key, if it has one), and the places of what is in it."""

    line: int
    inside: dict[str | int, Place] = field(default_factory=dict)


def parse(
    text: str,
    name: str,
    limits: Limits,
    places: bool = True,
    lines: bool = True,
    tags: bool = False,
) -> tuple[Any, Place | None]:
    """Values of a text in YAML.

    Parameters
    ----------
    text : str
        The text.
    name : str
        What to call it in messages.
    limits : `Limits`
        How much it may hold.
    places : bool
        Keep the lines of the values.
    lines : bool
        Name the line in messages; a value of a command line has only one.
    tags : bool
        Leave tags that are not known alone, as if they were not there.

    Returns
    -------
    value
        Plain values; None for a text without any.
    place : `Place` or None
        Where they stand.

    Raises
    ------
    ArchiveError
        If it is not YAML, too large, holds a key twice or what is no plain value; the message names
        the line.
    """
    check_size(text, name, limits)
    try:
        parser = _Parser(text)
        try:
            return _Builder(parser, name, limits, places, lines, tags).document()
        finally:
            parser.dispose()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark is not None and lines else ""
        raise ArchiveError(f"{name}{line}: not YAML ({problem_of(error)})") from None


def check_size(text: str, name: str, limits: Limits) -> None:
    """Check what can be seen before parsing: the size, and characters that no file can hold.

    Raises
    ------
    ArchiveError
        If the text is too large, or is none.
    """
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise ArchiveError(f"{name}: holds characters that are not Unicode") from None
    if size > limits.n_bytes:
        raise ArchiveError(
            f"{name}: has {megabytes(size)}, {limits.what} may have {megabytes(limits.n_bytes)}; "
            "is it the right file?"
        )


def problem_of(error: yaml.YAMLError) -> str:
    """What the parser says, without excerpts."""
    parts = (getattr(error, "context", None), getattr(error, "problem", None))
    reason = getattr(error, "reason", None)
    return ", ".join(part for part in parts if part) or str(reason or error).partition("\n")[0]


@dataclass(eq=False)
class _Anchored:
    """What an alias stands for."""

    value: Any
    place: Place | None
    n_nodes: int
    n_levels: int


class _Builder:
    """Builds the values of one document.

    Parameters
    ----------
    parser : `yaml.SafeLoader` or the like
        Gives the events.
    name : str
        What to call the text.
    limits : `Limits`
        How much it may hold.
    places : bool
        Keep the lines.
    lines : bool
        Name them in messages.
    tags : bool
        Leave those that are not known alone.
    """

    def __init__(
        self, parser: Any, name: str, limits: Limits, places: bool, lines: bool, tags: bool
    ):
        self._next = parser.get_event
        self._name, self._limits = name, limits
        self._places, self._lines, self._tags = places, lines, tags
        # None until the value is complete.
        self._anchors: dict[str, _Anchored | None] = {}
        self._n_nodes = 0
        # Levels of the value that was built last, and of all that were since this was set to 0.
        self._n_levels = 0

    def document(self) -> tuple[Any, Place | None]:
        """The only document of the text."""
        # Of the stream, and of the document.
        self._next()
        if isinstance(self._next(), yaml.StreamEndEvent):
            return None, None
        value, place = self._value(self._next(), 0)
        self._next()
        event = self._next()
        if not isinstance(event, yaml.StreamEndEvent):
            self._refuse(event, "a second document begins here; keep one of them in the file")
        return value, place

    def _value(self, event: Any, level: int) -> tuple[Any, Place | None]:
        """The value that begins with an event; its levels go to ``_n_levels``."""
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event, level)
        first = self._n_nodes
        self._n_nodes += 1
        if self._n_nodes > self._limits.n_nodes:
            self._refuse_number(event)
        place = Place(event.start_mark.line + 1) if self._places else None
        anchor = event.anchor
        if anchor is not None:
            self._anchors[anchor] = None
        if isinstance(event, yaml.ScalarEvent):
            value: Any = self._scalar(event)
            self._n_levels = 0
        elif isinstance(event, yaml.SequenceStartEvent):
            value = self._sequence(event, level + 1, place)
        else:
            value = self._mapping(event, level + 1, place)
        if anchor is not None:
            n_nodes = self._n_nodes - first
            self._anchors[anchor] = _Anchored(value, place, n_nodes, self._n_levels)
        return value, place

    def _refuse_number(self, event: Any) -> NoReturn:
        self._refuse(
            event,
            f"{self._n_nodes} keys and values up to here, an alias with all that it stands for; "
            f"{self._limits.what} may have {self._limits.n_nodes}; is it the right file?",
        )

    def _check_level(self, event: Any, level: int) -> None:
        if level > self._limits.n_levels:
            self._refuse(
                event,
                f"{level} levels within each other; {self._limits.what} may have "
                f"{self._limits.n_levels}; is it the right file?",
            )

    def _alias(self, event: Any, level: int) -> tuple[Any, Place | None]:
        if event.anchor not in self._anchors:
            self._refuse(event, f"*{event.anchor}: there is no &{event.anchor} before it")
        anchored = self._anchors[event.anchor]
        if anchored is None:
            self._refuse(event, f"*{event.anchor} stands within &{event.anchor}, without an end")
        self._n_nodes += anchored.n_nodes
        if self._n_nodes > self._limits.n_nodes:
            self._refuse_number(event)
        self._check_level(event, level + anchored.n_levels)
        self._n_levels = anchored.n_levels
        if not self._places or anchored.place is None:
            return anchored.value, None
        return anchored.value, Place(event.start_mark.line + 1, anchored.place.inside)

    def _sequence(self, start: Any, level: int, place: Place | None) -> list[Any]:
        self._check_level(start, level)
        self._check_tag(start, "seq")
        values: list[Any] = []
        deepest = 0
        while not isinstance(event := self._next(), yaml.SequenceEndEvent):
            value, inner = self._value(event, level)
            deepest = max(deepest, self._n_levels)
            if place is not None and inner is not None:
                place.inside[len(values)] = inner
            values.append(value)
        self._n_levels = deepest + 1
        return values

    def _mapping(self, start: Any, level: int, place: Place | None) -> dict[str | int, Any]:
        self._check_level(start, level)
        self._check_tag(start, "map")
        values: dict[str | int, Any] = {}
        lines: dict[Any, int] = {}
        merged: dict[str | int, tuple[Any, Place | None]] = {}
        deepest = 0
        while not isinstance(event := self._next(), yaml.MappingEndEvent):
            is_merge = isinstance(event, yaml.ScalarEvent) and event.value == "<<"
            is_merge = is_merge and event.implicit[0]
            key = _MERGE if is_merge else self._key(event, level)
            line = event.start_mark.line + 1
            if key in lines:
                self._refuse_key(event, key, lines[key])
            lines[key] = line
            value_event = self._next()
            value, inner = self._value(value_event, level)
            if self._n_levels > deepest:
                deepest = self._n_levels
            if is_merge:
                merged = self._merged(value_event, value, inner)
                continue
            values[key] = value
            if place is not None and inner is not None:
                place.inside[key] = Place(line, inner.inside)
        self._n_levels = deepest + 1
        if not merged:
            return values
        if place is not None:
            inside = {key: inner for key, (_, inner) in merged.items() if inner is not None}
            place.inside = {**inside, **place.inside}
        return {**{key: value for key, (value, _) in merged.items()}, **values}

    def _merged(
        self, event: Any, value: Any, place: Place | None
    ) -> dict[str | int, tuple[Any, Place | None]]:
        """Keys that a merge brings, with their values and places; the first that has one counts."""
        several = isinstance(value, list)
        found: dict[str | int, tuple[Any, Place | None]] = {}
        for number, source in enumerate(value if several else [value]):
            if not isinstance(source, dict):
                self._refuse(event, "<<: expected keys and values, or a list of such, to merge")
            inner = place if place is None or not several else place.inside.get(number)
            for key, item in source.items():
                found.setdefault(key, (item, None if inner is None else inner.inside.get(key)))
        return found

    def _key(self, event: Any, level: int) -> str | int:
        if not isinstance(event, yaml.ScalarEvent | yaml.AliasEvent):
            self._refuse(event, "a list, or keys and values, in place of a key; expected a text")
        key, _ = self._value(event, level)
        # True and 1 are the same key to Python, and a date is none that could be meant.
        if type(key) not in (str, int):
            self._refuse(event, f"the key is read as {_short(key)}; put it in quotes")
        return key

    def _refuse_key(self, event: Any, key: Any, line: int) -> NoReturn:
        more = ", with a list of what is merged" if key is _MERGE else ""
        shown = "<<" if key is _MERGE else _short(key)
        text = f"{shown}: this key is there already, in line {line}; name it once{more}"
        self._refuse(event, text)

    def _scalar(self, event: Any) -> Any:
        text: str = event.value
        if "\0" in text:
            self._refuse(event, "a NUL character in a text; take it out")
        if not text.isascii() and any("\ud800" <= letter <= "\udfff" for letter in text):
            # libyaml refuses these itself.
            self._refuse(event, "not a character of Unicode in a text; take it out")
        tag = event.tag
        if tag is None or tag == "!":
            # The first is whether it stands there without quotes.
            if not event.implicit[0]:
                return text
            tag = _tag_of(text)
        else:
            tag = tag.removeprefix(_PREFIX)
        if tag == "str":
            return text
        construct = _SCALARS.get(tag)
        if construct is None and self._tags:
            return text
        if construct is None:
            self._refuse_tag(event)
        try:
            return construct(text)
        except (ValueError, OverflowError) as error:
            self._refuse(event, f"{_short(text)}: {error}")

    def _check_tag(self, event: Any, expected: str) -> None:
        if event.tag not in (None, "!", _PREFIX + expected) and not self._tags:
            self._refuse_tag(event)

    def _refuse_tag(self, event: Any) -> NoReturn:
        tag = event.tag
        shown = f"!!{tag.removeprefix(_PREFIX)}" if tag.startswith(_PREFIX) else tag
        self._refuse(event, f"the tag {_short(shown)} is not known here; take it out")

    def _refuse(self, event: Any, text: str) -> NoReturn:
        line = f", line {event.start_mark.line + 1}" if self._lines else ""
        raise ArchiveError(f"{self._name}{line}: {text}")


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}... ({len(text)} characters)"


# What text without quotes means, by its first character; as what writes our records takes it. Of
# these, a single = says nothing, and << only counts as a key.
_RESOLVERS: dict[str, list[tuple[str, re.Pattern[str]]]] = {
    first: [
        (tag.removeprefix(_PREFIX), pattern)
        for tag, pattern in resolvers
        if tag not in (_MERGE, f"{_PREFIX}value")
    ]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _tag_of(text: str) -> str:
    """What text without quotes is."""
    if not text:
        return "null"
    for tag, pattern in _RESOLVERS.get(text[0], ()):
        if pattern.match(text):
            # 12:30:00 would be a number to the base of 60, where whoever writes it means a time or
            # an angle.
            return "str" if tag in ("int", "float") and ":" in text else tag
    return "str"


def _whole(text: str) -> int:
    if len(text) > _MOST_DIGITS:
        raise ValueError(f"expected a number of at most {_MOST_DIGITS} digits")
    if text[:1] != "0" and text.isdecimal():
        return int(text)
    digits = text.replace("_", "").lower()
    unsigned = digits.lstrip("+-")
    if len(unsigned) > 1 and unsigned.isdecimal() and unsigned[0] == "0":
        plain = unsigned.lstrip("0") or "0"
        raise ValueError(
            f"a number that begins with 0 has the base 8 in YAML; write {plain}, or put a text in "
            "quotes"
        )
    base = {"0x": 16, "0b": 2}.get(unsigned[:2], 10)
    return int(digits, base)


def _number(text: str) -> float:
    digits = text.replace("_", "").lower().replace(".inf", "inf").replace(".nan", "nan")
    number = float(digits)
    if math.isinf(number) and "inf" not in digits:
        raise ValueError("expected a number below 1.8e308")
    return number


def _switch(text: str) -> bool:
    if text.lower() not in SafeConstructor.bool_values:
        raise ValueError("expected true or false")
    return SafeConstructor.bool_values[text.lower()]


def _nothing(text: str) -> None:
    del text


def _time(text: str) -> Any:
    # The pattern is that of what YAML takes for a time by itself.
    if not SafeConstructor.timestamp_regexp.match(text):
        raise ValueError("expected a date, such as 2024-01-31")
    try:
        return SafeConstructor().construct_yaml_timestamp(yaml.ScalarNode(_TIMESTAMP, text))
    except (ValueError, OverflowError) as error:
        raise ValueError(f"no such date or time ({error})") from None


_SCALARS: dict[str, Callable[[str], Any]] = {
    "bool": _switch,
    "float": _number,
    "int": _whole,
    "null": _nothing,
    "str": str,
    "timestamp": _time,
}

Keys = tuple[str | int, ...]
"""Keys and places in lists, from the outside in."""

# The first key of what we write; comments and an empty line may stand before it.
_RECORD_BEGINS = re.compile(r"(?:[ \t]*(?:(?:#|---)[^\n]*|\r)?\n)*obscluster[ \t]*:")
_BEGINNING = 10_000
_ASIDE = "x-"
# Of a place in a list; Python refuses to read 5000.
_MOST_PLACE_DIGITS = 9


@dataclass(frozen=True, eq=False)
class Document:
    """Keys and values, and where they come from.

    Parameters
    ----------
    content : mapping
        Keys and values.
    name : str
        The file, empty for values that come from elsewhere.
    place : `~obscluster.files.yaml.Place`, optional
        Where they stand in the file.
    options : mapping
        Path of values that were set in place of those of the file, to the option that did.
    """

    content: dict[str, Any]
    name: str = ""
    place: Place | None = None
    options: Mapping[Keys, str] = field(default_factory=dict)

    def origin(self, path: Keys) -> str:
        """Where a value comes from: file and line, or option; empty if that is not known."""
        for place, option in self.options.items():
            if path[: len(place)] == place:
                return option
        line = None if self.place is None else _line_of(self.place, path)
        if line is not None:
            return f"{self.name}, line {line}"
        # In parts that an option has added.
        added = [option for place, option in self.options.items() if place[: len(path)] == path]
        return added[0] if added and path else self.name

    def with_settings(self, settings: Iterable[str]) -> Document:
        """Content with values put in place, from texts such as ``grouping.n_groups=3``.

        Keys are separated by dots, list items are named by their place, from 0; the value is YAML.

        Raises
        ------
        RequestError
            If a text is not of that form, or a key leads into what has no keys.
        """
        content, options = self.content, dict(self.options)
        for text in settings:
            name, separator, value = text.partition("=")
            option = f"--set {text}"
            if not separator or not all(name.split(".")):
                raise RequestError(f"{option}: expected KEY=VALUE, such as grouping.n_groups=3")
            keys = tuple(name.split("."))
            if len(keys) > DESCRIPTION.n_levels:
                raise RequestError(
                    f"--set {name[:40]}...: {len(keys)} keys within each other; "
                    f"{DESCRIPTION.what} may have {DESCRIPTION.n_levels}"
                )
            parsed, _ = parse(value, option, DESCRIPTION, places=False, lines=False)
            content, path = _with_value(content, keys, parsed, option)
            options[path] = option
        return replace(self, content=content, options=options)


def read_document(path: Path) -> Document:
    """Read a description, and remember where its values stand.

    Keys at the top that begin with ``x-`` are left out: they are a place for what is used further
    below, by anchors and aliases.

    Raises
    ------
    ArchiveError
        If the file is missing, is larger or deeper than a description may be, does not hold a
        mapping in YAML, or names a key twice; the message names the line.
    """
    # The groups.yaml of results describes what made them, and may be as long as their runs need.
    text = read_text(path, RECORD.n_bytes, what=RECORD.what)
    is_record = bool(_RECORD_BEGINS.match(text[:_BEGINNING]))
    # Lines of a record, in which nobody has written, are not worth their time.
    limits = RECORD if is_record else DESCRIPTION
    content, place = parse(text, str(path), limits, places=not is_record)
    if not isinstance(content, dict):
        raise ArchiveError(f"{path}: holds no keys and values")
    if is_record and isinstance(content.get("config"), dict):
        _check_described(content["config"], f"{path}: config")
    content = {key: v for key, v in content.items() if not str(key).startswith(_ASIDE)}
    return Document(content, str(path), place)


def plain(value: Any) -> Any:
    """Value without numpy types, tuples or objects, as YAML knows it."""
    if isinstance(value, Mapping):
        return {key if isinstance(key, int) else str(key): plain(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, np.generic):
        return value.item()
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def yaml_text(content: Mapping[str, Any]) -> str:
    """A mapping as YAML, keys in their order."""
    return yaml.safe_dump(plain(content), sort_keys=False, allow_unicode=True, width=100)


def write_yaml(path: Path, content: Mapping[str, Any]) -> None:
    """Write a mapping, keys in their order."""
    path.write_text(yaml_text(content), encoding="utf-8")


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a record, which is what `write_yaml` has written.

    Raises
    ------
    ArchiveError
        If the file is missing, is larger or deeper than a record may be, or does not hold a mapping
        in YAML.
    """
    text = read_text(path, RECORD.n_bytes, what=RECORD.what)
    content, _ = parse(text, str(path), RECORD, places=False)
    if not isinstance(content, dict):
        raise ArchiveError(f"{path}: holds no keys and values")
    return content


def _check_described(config: dict[str, Any], name: str) -> None:
    """Check the size of what a record says was asked; its depth is checked already."""
    n_nodes, rest = 0, [config]
    while rest:
        value: Any = rest.pop()
        n_nodes += 1
        if isinstance(value, dict):
            n_nodes += len(value)
            rest += value.values()
        elif isinstance(value, list):
            rest += value
    if n_nodes > DESCRIPTION.n_nodes:
        raise ArchiveError(
            f"{name}: {n_nodes} keys and values; {DESCRIPTION.what} may have {DESCRIPTION.n_nodes}"
        )


def _line_of(place: Place, path: Keys) -> int | None:
    """Line of a key, or of a list item; of what holds it, if it is not there itself."""
    line = None
    for part in path:
        inner = place.inside.get(part)
        if inner is None:
            break
        line, place = inner.line, inner
    return line


def _with_value(content: Any, keys: tuple[str, ...], value: Any, option: str) -> tuple[Any, Keys]:
    """Copy with a value put in place, and the path to it."""
    key, *rest = keys
    if isinstance(content, list):
        if not key.isdecimal() or len(key) > _MOST_PLACE_DIGITS or int(key) > len(content):
            raise RequestError(
                f"{option}: {key} is no place in a list of {len(content)}; name 0 to {len(content)}"
            )
        place = int(key)
        inner = content[place] if place < len(content) else None
        new, path = _with_value(inner, tuple(rest), value, option) if rest else (value, ())
        return [*content[:place], new, *content[place + 1 :]], (place, *path)
    # A part that is switched on or off has its keys all the same.
    if not isinstance(content, dict | bool | None):
        raise RequestError(f"{option}: {content!r} has no key {key}; set the whole value instead")
    known = content if isinstance(content, dict) else {}
    new, path = _with_value(known.get(key), tuple(rest), value, option) if rest else (value, ())
    return {**known, key: new}, (key, *path)
