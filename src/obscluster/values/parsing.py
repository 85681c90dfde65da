"""One grammar for values with units, on the command line, in YAML and in Python.

Each function raises `ValueError` with what was expected; who calls it adds the name of the value.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from astropy import units as u
from astropy.coordinates import Angle

__all__ = ["background_of", "degrees_of", "energy_of", "flux_of"]

_FLUX = u.Unit("cm-2 s-1 TeV-1")
_WORDS = ("auto", "irf", "events")


def degrees_of(value: Any) -> float:
    """Angle in degrees.

    Parameters
    ----------
    value : str or `~astropy.units.Quantity`
        With unit, as ``0:30:00``, or the text of a number, which is in degrees. A bare number does
        not say what it counts, and a length or a time is no angle, though `Angle` would read
        ``2 m``.

    Examples
    --------
    >>> degrees_of("30 arcmin"), degrees_of("0.5"), degrees_of("0:30:00")
    (0.5, 0.5, 0.5)
    """
    if not isinstance(value, str | u.Quantity):
        raise ValueError("not an angle; write it like '0.5 deg'")
    try:
        try:
            quantity = u.Quantity(value)
        except (TypeError, ValueError):
            return float(Angle(value, u.deg).deg)
        plain = isinstance(value, str) and quantity.unit == u.one
        return float(quantity.value if plain else quantity.to_value(u.deg))
    except (TypeError, ValueError, u.UnitsError):
        raise ValueError("not an angle; write it like '0.5 deg'") from None


def energy_of(value: Any) -> float:
    """Energy in TeV, above zero.

    Parameters
    ----------
    value : str or `~astropy.units.Quantity`
        With unit.
    """
    try:
        energy = float(u.Quantity(value).to_value(u.TeV))
    except (TypeError, ValueError, u.UnitsError):
        energy = np.nan
    if not 0 < energy < np.inf:
        raise ValueError("expected an energy above 0, like '1 TeV'")
    return energy


def flux_of(value: Any, crab: float = 1.0) -> float:
    """Differential flux in cm-2 s-1 TeV-1, above zero.

    Parameters
    ----------
    value : str, float or `~astropy.units.Quantity`
        With unit; or a number, or a percentage (``%``, ``pct``, ``percent``), of the Crab nebula,
        whose name may follow.
    crab : float
        Flux of the Crab nebula at the same energy.

    Examples
    --------
    >>> flux_of("0.6 % Crab", crab=3.45e-11), flux_of("0.6 pct", crab=3.45e-11)
    (2.07e-13, 2.07e-13)
    """
    written: Any = str(value).strip() if isinstance(value, str) else value
    if isinstance(written, str) and written.lower().endswith("crab"):
        written = written[: -len("crab")].strip()
    if isinstance(written, str) and written.endswith("%"):
        written = f"{written[:-1]}e-2".replace(" ", "")
    try:
        flux = u.Quantity(written)
        if isinstance(value, bool) or flux.shape:
            raise TypeError
        if flux.unit == u.one or flux.unit == u.percent:
            # Fifteen digits: 0.6 % of a round number is a round number.
            number = float(f"{crab * float(flux.to_value(u.one)):.15g}")
        else:
            number = float(flux.to_value(_FLUX))
    except (TypeError, ValueError, u.UnitsError):
        number = np.nan
    if not 0 < number < np.inf:
        raise ValueError("expected a flux above 0, such as '2e-13 cm-2 s-1 TeV-1' or '0.6 % Crab'")
    return number


def background_of(text: str) -> str | u.Quantity:
    """Where the background is from.

    Parameters
    ----------
    text : str
        ``auto``, ``irf`` or ``events``; or rates per time and solid angle, separated by commas,
        with their unit behind the last one.

    Returns
    -------
    background : str or `~astropy.units.Quantity`
        The word, or the rates, shape (n_rates,), finite and from 0.
    """
    if text in _WORDS:
        return text
    *first, last = text.split(",")
    try:
        rate = u.Quantity(last)
        rates = np.array([*map(float, first), float(rate.value)]) * rate.unit
        values = rates.to_value("s-1 sr-1")
    except (TypeError, ValueError, u.UnitsError):
        values = np.array([np.nan])
    if not (np.isfinite(values) & (values >= 0)).all():
        raise ValueError("expected auto, irf, events, or a rate such as '100 s-1 sr-1'")
    return rates
