"""Bad arguments: which one, what it is, and what it may be."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from obscluster.exceptions import RequestError, unknown_name

__all__ = ["check_choice", "check_integer", "check_number", "check_zenith_range"]


def check_choice(name: str, value: str, choices: Iterable[str]) -> None:
    """Raise `RequestError` unless the value is one of the choices."""
    known = list(choices)
    if value not in known:
        raise RequestError(unknown_name(name, str(value), known))


# To Python True is the integer 1; as an argument it is a slip.


def check_integer(name: str, value: object, low: int, high: int | None = None) -> None:
    """Raise `RequestError` unless the value is an integer from low to high, both allowed."""
    inside = False
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        inside = bool(low <= value and (high is None or value <= high))
    if not inside:
        allowed = f"of at least {low}" if high is None else f"from {low} to {high}"
        raise RequestError(f"{name} is {value!r}; it must be an integer {allowed}")


def check_number(name: str, value: object, low: float, high: float) -> None:
    """Raise `RequestError` unless the value is a number from low to high, both allowed."""
    inside = False
    if isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool):
        inside = bool(low <= value <= high)
    if not inside:
        raise RequestError(f"{name} is {value!r}; it must be a number from {low} to {high}")


def check_zenith_range(zenith_range: tuple[float, float]) -> None:
    """Raise `RequestError` unless these are two angles with some sky between them."""
    try:
        low, high = (float(angle) for angle in zenith_range)
        allowed = low >= 0 and low + 2 <= high <= 70
    except (TypeError, ValueError):
        allowed = False
    if not allowed:
        raise RequestError(
            f"zenith_range is {zenith_range!r}; it must be two angles in deg, from 0 to 70 and at "
            "least 2 apart, such as (5, 50)"
        )
