"""Limits as users write them: how much a quantity may vary, how much livetime a group must hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from astropy import units as u

from obscluster.exceptions import RequestError

__all__ = ["Tolerance", "minimum_hours", "parse_tolerance"]

_ROUNDING = 1e-12


@dataclass(frozen=True)
class Tolerance:
    """Largest width of a range.

    Parameters
    ----------
    value : float
        In the unit of the quantity, or a fraction.
    relative : bool
        Whether it is a fraction of the middle of the range.
    """

    value: float
    relative: bool = False

    def allows(self, lo: Any, hi: Any) -> Any:
        """Whether ranges are not wider, but for rounding errors; scalars or arrays."""
        width = hi - lo
        if self.relative:
            width = np.abs(width / (0.5 * (lo + hi)))
        return width <= self.value * (1 + _ROUNDING)


def parse_tolerance(text: str | float | u.Quantity, unit: u.UnitBase, name: str) -> Tolerance:
    """Tolerance from text such as ``15%``, ``0.02`` or ``1.2 arcmin``.

    Parameters
    ----------
    text : str, float or `~astropy.units.Quantity`
        What is given; a number without unit is in the unit of the quantity.
    unit : `~astropy.units.UnitBase`
        Unit of the quantity.
    name : str
        What the quantity is called, for the message.

    Raises
    ------
    RequestError
        If it is no positive amount in such a unit.
    """
    wanted = f"a percentage such as 15%, or an amount in {unit}" if unit != u.one else "0.1 or 15%"
    try:
        quantity = u.Quantity(text)
        if quantity.unit == u.percent:
            tolerance = Tolerance(float(quantity.to_value(u.one)), relative=True)
        elif quantity.unit == u.one:
            tolerance = Tolerance(float(quantity.value))
        else:
            tolerance = Tolerance(float(quantity.to_value(unit)))
    except (TypeError, ValueError, u.UnitsError):
        raise RequestError(f"tolerance {text!r} of {name}: expected {wanted}") from None
    if not (tolerance.value > 0 and np.isfinite(tolerance.value)):
        raise RequestError(f"tolerance {text!r} of {name}: expected {wanted}, more than zero")
    return tolerance


def minimum_hours(text: Any) -> float:
    """Minimum livetime in hours.

    Raises
    ------
    RequestError
        If it is no time above zero.
    """
    try:
        hours = float(u.Quantity(text).to_value(u.h))
    except (TypeError, ValueError, u.UnitsError):
        hours = np.nan
    if not 0 < hours < np.inf:
        raise RequestError(f"minimum livetime {text!r}; expected a time above zero, such as '5 h'")
    return hours
