"""From the text of a YAML file to plain values, within limits that hold while it is parsed.

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
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NoReturn

import yaml
from yaml.constructor import SafeConstructor

from obscluster.exceptions import ArchiveError
from obscluster.files.reading import megabytes

__all__ = ["DESCRIPTION", "RECORD", "Limits", "Place", "check_size", "parse", "problem_of"]

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
