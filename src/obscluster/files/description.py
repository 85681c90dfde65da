"""Descriptions of what to do, checked by pydantic, with messages that say what is allowed.

A message names the file and line (or the option), the key, what was given, what is allowed, and
what may have been meant.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from obscluster.exceptions import RequestError
from obscluster.files.yaml import Document

__all__ = ["Strict", "validated"]

Model = TypeVar("Model", bound=BaseModel)

# What pydantic calls a problem, by its beginning, to what was expected.
_EXPECTED = {
    "int_": "a whole number",
    "float_": "a number",
    "bool_": "true or false",
    "string_": "a text",
    "tuple_": "a list",
    "list_": "a list",
    "dict_": "keys and values",
    "model_": "keys and values",
}
# Branches of a union that pydantic puts into the place of a problem.
_BRANCHES = re.compile(r"^(str|float|int|bool|tuple\[.*|function-.*|constrained-.*|.*Config)$")


class Strict(BaseModel):
    """Part of a description in which unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def validated(
    model: type[Model],
    content: Any,
    document: Document | None = None,
    at: tuple[str | int, ...] = (),
) -> Model:
    """Checked description.

    Parameters
    ----------
    model : type
        What is described.
    content : mapping
        Keys and values.
    document : `~obscluster.files.yaml.Document`, optional
        Where they come from, for the messages.
    at : tuple
        Where in the document they stand.

    Raises
    ------
    RequestError
        If a key is unknown or a value is not usable; the message names it, and what is allowed.
    """
    try:
        return model.model_validate(content)
    except ValidationError as error:
        # By place: a value that may be of several kinds has a problem with each of them.
        found: dict[tuple[Any, ...], list[str]] = {}
        for problem in error.errors(include_url=False):
            # Too short only because of what is wrong inside.
            if problem["type"] == "too_short" and problem["input"]:
                continue
            path, text = _problem(model, content, problem)
            found.setdefault(path, []).append(text)
        lines = []
        for path, texts in found.items():
            inside = any(path == other[: len(path)] != other for other in found)
            if inside and _are_kinds(texts):
                # It is of the right kind, and what is wrong stands further inside.
                continue
            where = ".".join(str(part) for part in (*at, *path))
            text = _joined(texts)
            origin = "" if document is None else document.origin((*at, *path))
            lines.append(": ".join(part for part in (origin, where, text) if part))
        raise RequestError(*lines) from None


def _joined(texts: list[str]) -> str:
    """One sentence of those on the same value; kinds that it may have are told together."""
    # The check of what a value means says more than that of its kind.
    telling = [text for text in texts if not _are_kinds([text])]
    if telling:
        return "; ".join(dict.fromkeys(telling))
    kinds = [text.partition("expected ") for text in texts]
    return kinds[0][0] + "expected " + " or ".join(dict.fromkeys(kind for _, _, kind in kinds))


def _are_kinds(texts: list[str]) -> bool:
    """Whether sentences only say of what kind a value should be."""
    return all(text.partition("expected ")[2] in _EXPECTED.values() for text in texts)


def _problem(
    model: type[BaseModel], content: Any, problem: Any
) -> tuple[tuple[str | int, ...], str]:
    """Path to a problem in what was given, and in words what is wrong with it."""
    loc, kind, given = problem["loc"], problem["type"], problem["input"]
    path = _path_in(content, loc)
    if kind == "union_tag_not_found":
        tags = [_tag_of(m) for m in _models_at(model, loc)]
        return (*path, _tag_key(model, loc)), f"missing; one of {', '.join(tags)}"
    if kind == "union_tag_invalid":
        key = _tag_key(model, loc)
        tag = given.get(key) if isinstance(given, Mapping) else given
        return (*path, key), _no_choice(str(tag), problem["ctx"]["expected_tags"])
    if kind == "missing":
        return (*path, loc[-1]), "missing; it must be given"
    if kind == "extra_forbidden":
        allowed = sorted({name for m in _models_at(model, loc[:-1]) for name in m.model_fields})
        return path, f"unknown key{_hint(str(loc[-1]), allowed)}allowed here: {', '.join(allowed)}"
    if kind == "literal_error":
        return path, _no_choice(given, problem["ctx"]["expected"])
    expected = next((text for start, text in _EXPECTED.items() if kind.startswith(start)), None)
    if expected is not None:
        if kind.startswith("model_"):
            names = sorted({name for m in _models_at(model, loc) for name in m.model_fields})
            return path, f"given {given!r}, expected keys and values, of {', '.join(names)}"
        return path, f"given {given!r}, expected {expected}"
    if kind == "value_error":
        return path, problem["msg"].removeprefix("Value error, ")
    text = problem["msg"].replace("Input should be", "expected")
    text = re.sub("^expected (greater|less)", r"expected a value \1", text)
    return path, f"given {given!r}, {text}"


def _no_choice(given: Any, expected: str) -> str:
    choices = re.findall(r"'([^']*)'", expected) or [expected]
    return f"{given!r} is not known{_hint(str(given), choices)}expected {expected}"


def _hint(name: str, known: list[str]) -> str:
    close = get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]!r}? " if close else "; "


def _path_in(content: Any, loc: tuple[Any, ...]) -> tuple[str | int, ...]:
    """Where in what was given a problem stands.

    In ``loc`` there are also names of the branches of unions, and places in what validators have
    made of a short form: its keys stand further outside in what was given.
    """
    path: list[str | int] = []
    holders = [content]
    for i, part in enumerate(loc):
        inside = holders[-1]
        last = i == len(loc) - 1
        if _has(inside, part):
            path.append(part)
            holders.append(inside[part])
        elif last and not _BRANCHES.match(str(part)):
            outer = [n for n, holder in enumerate(holders) if _has(holder, part)]
            if outer:
                return (*path[: outer[-1]], part)
    return tuple(path)


def _has(holder: Any, part: Any) -> bool:
    if isinstance(holder, Mapping):
        return part in holder
    return isinstance(holder, list | tuple) and isinstance(part, int) and part < len(holder)


def _tag_of(model: type[BaseModel]) -> str:
    """What tells a model from its alternatives."""
    names = [name for name in ("method", "type") if name in model.model_fields]
    return str(model.model_fields[names[0]].default) if names else ""


def _tag_key(model: type[BaseModel], loc: tuple[Any, ...]) -> str:
    return "type" if all("type" in m.model_fields for m in _models_at(model, loc)) else "method"


def _models_at(model: type[BaseModel], loc: tuple[Any, ...]) -> list[type[BaseModel]]:
    """What can stand in a place; a union is told by the tag that pydantic puts into the place."""
    models = [model]
    for part in loc:
        tagged = [m for m in models if part and _tag_of(m) == part]
        if tagged:
            models = tagged
            continue
        fields = [m.model_fields[part] for m in models if part in m.model_fields]
        models = [m for f in fields for m in _models_in(f.annotation)] or models
    return models


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models_in(part)]
