"""Values of a description that are more than a number or a word.

Each is checked when the description is read, before any work. A quantity stays the text that was
given, so that what is written down is what was asked.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

import numpy as np
from astropy import units as u
from pydantic import AfterValidator, BeforeValidator

from obscluster.exceptions import RequestError
from obscluster.values.parsing import background_of, degrees_of, flux_of
from obscluster.values.tolerance import minimum_hours

__all__ = [
    "AngleEdges",
    "AngleText",
    "BackgroundText",
    "Direction",
    "EnergyEdges",
    "EnergyText",
    "Flux",
    "Fraction",
    "Number",
    "OffsetText",
    "TimeText",
    "ToleranceText",
]


def _whole_or_auto(value: Any) -> Any:
    if value is None or value == "auto":
        return value
    try:
        number = int(value)
    except (TypeError, ValueError):
        number = 0
    if number < 1 or number != float(value):
        raise ValueError(f"{value!r}; expected a whole number from 1, or 'auto'")
    return number


def _fraction(value: Any) -> Any:
    """Number from 0 to 1, also as a percentage."""
    text = str(value).strip()
    try:
        number = float(text[:-1]) / 100 if text.endswith("%") else float(text)
    except ValueError:
        number = -1.0
    if value is not None and not 0 <= number <= 1:
        raise ValueError(f"{value!r}; expected a fraction such as 1% or 0.01")
    return value if value is None else number


def _quantity(unit: str, wanted: str, lowest: float, zero: bool) -> Callable[[Any], Any]:
    """Check of a value with unit; ``zero`` says whether the lowest value is allowed itself."""

    def check(value: Any) -> Any:
        if value is None:
            return value
        try:
            number = _number(value, unit)
        except (TypeError, ValueError, u.UnitsError):
            number = np.nan
        if not (lowest < number < np.inf or (zero and number == lowest)):
            raise ValueError(f"{_given(value)}; expected {wanted}")
        return value

    return check


def _given(value: Any) -> str:
    """A value as it was given, and whether a unit is missing."""
    try:
        plain = not isinstance(value, bool) and u.Quantity(value).unit == u.one
    except (TypeError, ValueError):
        plain = False
    return f"{value!r} has no unit" if plain else repr(value)


def _number(value: Any, unit: str) -> float:
    if not isinstance(value, str):
        # A bare number does not say what it counts.
        raise TypeError
    return degrees_of(value) if unit == "deg" else float(u.Quantity(value).to_value(unit))


def _edges(unit: str, wanted: str) -> Callable[[Any], Any]:
    """Check of values with unit that rise."""

    def check(values: Any) -> Any:
        if values is None or isinstance(values, str):
            return values
        try:
            numbers = np.array([_number(value, unit) for value in values])
            good = len(numbers) > 1 and bool((np.diff(numbers) > 0).all())
            good &= bool((numbers > 0).all()) if unit == "TeV" else bool((numbers >= 0).all())
        except (TypeError, ValueError, u.UnitsError):
            good = False
        if not good:
            raise ValueError(f"{values!r}; expected {wanted}")
        return values

    return check


def _livetime(value: Any) -> Any:
    try:
        if value is not None:
            minimum_hours(value)
    except RequestError:
        raise ValueError(f"{value!r}; expected a time above zero, such as '5 h'") from None
    return value


def _flux(value: Any) -> Any:
    """Flux with unit, or in units of the Crab."""
    try:
        flux_of(value)
    except ValueError as problem:
        raise ValueError(f"{value!r}; {problem}") from None
    return value


def _tolerance(value: Any) -> Any:
    """Amount above zero: per cent, a number, or with a unit, which is that of a feature."""
    try:
        number = float(u.Quantity(value).value)
    except (TypeError, ValueError):
        number = np.nan
    if isinstance(value, bool) or not 0 < number < np.inf:
        raise ValueError(f"{value!r}; expected an amount above 0, such as 10%, 0.02 or '0.01 deg'")
    return value


def _direction(value: Any) -> Any:
    try:
        angle = degrees_of(value) if isinstance(value, str) else float(value)
    except (TypeError, ValueError, u.UnitsError):
        angle = np.nan
    if isinstance(value, bool) or not np.isfinite(angle):
        raise ValueError(f"{value!r}; expected an angle, such as '83.63 deg'")
    return value


def _background(value: str) -> str:
    try:
        background_of(value)
    except ValueError as problem:
        raise ValueError(f"{value!r}; {problem}") from None
    return value


Number = Annotated[int | Literal["auto"] | None, BeforeValidator(_whole_or_auto)]
"""A number of groups; "auto" takes what `obscluster.assessment` suggests."""

Fraction = Annotated[float, BeforeValidator(_fraction)]
"""A number from 0 to 1, also as a percentage."""

AngleText = Annotated[
    str, BeforeValidator(_quantity("deg", "a positive angle, such as '2 deg'", 0, zero=False))
]
"""An angle above zero."""

OffsetText = Annotated[
    str, BeforeValidator(_quantity("deg", "an angle from 0, such as '0.5 deg'", 0, zero=True))
]
"""An angle from zero."""

Direction = Annotated[str | float, BeforeValidator(_direction)]
"""A coordinate on the sky, in degrees unless it has a unit."""

EnergyText = Annotated[
    str, BeforeValidator(_quantity("TeV", "an energy above 0, such as '1 TeV'", 0, zero=False))
]
"""An energy above zero."""

EnergyEdges = Annotated[
    tuple[str, ...],
    BeforeValidator(
        _edges("TeV", "at least two energies that rise, such as ['0.1 TeV', '100 TeV']")
    ),
]
"""Energies that rise: the ends of a range, or all edges."""

AngleEdges = Annotated[
    tuple[str, ...],
    BeforeValidator(
        _edges("deg", "at least two angles that rise, such as ['0 deg', '0.1 deg', '0.2 deg']")
    ),
]
"""Radii that rise."""

TimeText = Annotated[str, BeforeValidator(_livetime)]
"""A duration above zero."""

Flux = Annotated[str | float, BeforeValidator(_flux)]
"""A differential flux, with unit or in units of the Crab nebula."""

ToleranceText = Annotated[str | float, BeforeValidator(_tolerance)]
"""How much something may differ: an amount or a percentage."""

BackgroundText = Annotated[str, AfterValidator(_background)]
"""Where the background is from: a word, or rates."""
