"""YAML files of plain values, and where in the file each value stands."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from obscluster.exceptions import ArchiveError, RequestError

__all__ = ["Document", "plain", "read_document", "read_yaml", "write_yaml", "yaml_text"]

Keys = tuple[str | int, ...]
"""Keys and places in lists, from the outside in."""


@dataclass(frozen=True, eq=False)
class Document:
    """Keys and values, and where they come from.

    Parameters
    ----------
    content : mapping
        Keys and values.
    name : str
        The file, empty for values that come from elsewhere.
    node : `yaml.Node`, optional
        The same in the file.
    options : mapping
        Path of values that were set in place of those of the file, to the option that did.
    """

    content: dict[str, Any]
    name: str = ""
    node: yaml.Node | None = None
    options: Mapping[Keys, str] = field(default_factory=dict)

    def origin(self, path: Keys) -> str:
        """Where a value comes from: file and line, or option; empty if that is not known."""
        for place, option in self.options.items():
            if path[: len(place)] == place:
                return option
        line = None if self.node is None else _line_of(self.node, path)
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
            try:
                parsed = yaml.safe_load(value)
            except yaml.YAMLError as error:
                raise RequestError(f"{option}: the value is not YAML ({_problem(error)})") from None
            content, path = _with_value(content, tuple(name.split(".")), parsed, option)
            options[path] = option
        return replace(self, content=content, options=options)


def read_document(path: Path) -> Document:
    """Read a mapping, and remember where its values stand.

    Raises
    ------
    ArchiveError
        If the file is missing, does not hold a mapping in YAML, or names a key twice; the message
        names the line.
    """
    try:
        text = path.read_text(encoding="utf-8")
        loader = yaml.SafeLoader(text)
        try:
            node = loader.get_single_node()
            content = None if node is None else loader.construct_document(node)
        finally:
            loader.dispose()
    except OSError as error:
        raise ArchiveError(f"{path}: cannot be read ({error.strerror})") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark is not None else ""
        raise ArchiveError(f"{path}{line}: not YAML ({_problem(error)})") from None
    except (UnicodeDecodeError, ValueError) as error:
        raise ArchiveError(f"{path}: not YAML ({error})") from None
    if node is None or not isinstance(content, dict):
        raise ArchiveError(f"{path}: holds no keys and values")
    _check_keys(path, node)
    return Document(content, str(path), node)


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
    """Read a mapping.

    Raises
    ------
    ArchiveError
        If the file is missing, or does not hold a mapping in YAML.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ArchiveError(f"{path}: cannot be read ({error.strerror})") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ArchiveError(f"{path}: not YAML ({error})") from None
    if not isinstance(content, dict):
        raise ArchiveError(f"{path}: holds no keys and values")
    return content


def _problem(error: yaml.YAMLError) -> str:
    """What the parser says, without excerpts."""
    parts = (getattr(error, "context", None), getattr(error, "problem", None))
    return ", ".join(part for part in parts if part) or str(error)


def _line_of(node: yaml.Node, path: Keys) -> int | None:
    """Line of a key, or of a list item; of what holds it, if it is not there itself."""
    line = None
    for part in path:
        found = None
        if isinstance(node, yaml.MappingNode):
            pairs = [pair for pair in node.value if pair[0].value == str(part)]
            found = pairs[-1] if pairs else None
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int):
            found = (node.value[part],) * 2 if part < len(node.value) else None
        if found is None:
            break
        line, node = found[0].start_mark.line + 1, found[1]
    return line


def _check_keys(path: Path, node: yaml.Node) -> None:
    """A key that is there twice is a mistake, of which YAML takes the last."""
    if isinstance(node, yaml.MappingNode):
        lines: dict[str, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if key.value in lines:
                raise ArchiveError(
                    f"{path}, line {line}: {key.value}: this key is there already, in line "
                    f"{lines[key.value]}; name it once"
                )
            lines[key.value] = line
            _check_keys(path, value)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _check_keys(path, item)


def _with_value(content: Any, keys: tuple[str, ...], value: Any, option: str) -> tuple[Any, Keys]:
    """Copy with a value put in place, and the path to it."""
    key, *rest = keys
    if isinstance(content, list):
        if not key.isdecimal() or int(key) > len(content):
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
