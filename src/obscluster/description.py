"""Descriptions of what to do, checked by pydantic, with messages that say what is allowed."""

from __future__ import annotations

from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from obscluster.exceptions import RequestError

__all__ = ["Strict", "validated"]

Model = TypeVar("Model", bound=BaseModel)


class Strict(BaseModel):
    """Part of a description in which unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def validated(model: type[Model], content: Any) -> Model:
    """Checked description.

    Parameters
    ----------
    model : type
        What is described.
    content : mapping
        Keys and values.

    Raises
    ------
    RequestError
        If a key is unknown or a value is not usable; the message names it, and what is allowed.
    """
    try:
        return model.model_validate(content)
    except ValidationError as error:
        problems = [
            _problem(model, problem)
            for problem in error.errors(include_url=False)
            # Too short only because of what is wrong inside.
            if problem["type"] != "too_short" or not problem["input"]
        ]
        raise RequestError("; ".join(problems)) from None


def _problem(model: type[BaseModel], problem: Any) -> str:
    """A problem in words: where, what, and what was given or is allowed."""
    loc = problem["loc"]
    where = ".".join(str(part) for part in loc)
    if problem["type"] == "union_tag_not_found":
        methods = ", ".join(m.model_fields["method"].default for m in _models_at(model, loc))
        return f"{where}.method: missing; one of {methods}"
    if problem["type"] == "extra_forbidden":
        allowed = sorted({name for m in _models_at(model, loc[:-1]) for name in m.model_fields})
        return f"{where}: unknown key; allowed here: {', '.join(allowed)}"
    text = problem["msg"].removeprefix("Value error, ")
    given = f" (given {problem['input']!r})" if problem["type"] != "value_error" else ""
    return f"{where}: {text}{given}" if where else text


def _models_at(model: type[BaseModel], loc: tuple[Any, ...]) -> list[type[BaseModel]]:
    """What can stand in a place; a union is told by the tag that pydantic puts into the place."""
    models = [model]
    for part in loc:
        tagged = [m for m in models if m.model_fields.get("method", Field()).default == part]
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
