"""YAML files of plain values, and where in the file each value stands."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from obscluster.exceptions import ArchiveError, RequestError
from obscluster.files.parsing import DESCRIPTION, RECORD, Place, parse
from obscluster.files.reading import read_text

__all__ = ["Document", "plain", "read_document", "read_yaml", "write_yaml", "yaml_text"]

Keys = tuple[str | int, ...]
"""Keys and places in lists, from the outside in."""

# The first key of what we write; comments and an empty line may stand before it.
_RECORD_BEGINS = re.compile(r"(?:[ \t]*(?:(?:#|---)[^\n]*|\r)?\n)*obscluster[ \t]*:")
_BEGINNING = 10_000
_ASIDE = "x-"
# Of a place in a list; Python refuses to read 5000.
_MOST_DIGITS = 9


@dataclass(frozen=True, eq=False)
class Document:
    """Keys and values, and where they come from.

    Parameters
    ----------
    content : mapping
        Keys and values.
    name : str
        The file, empty for values that come from elsewhere.
    place : `~obscluster.files.parsing.Place`, optional
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
        if not key.isdecimal() or len(key) > _MOST_DIGITS or int(key) > len(content):
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
