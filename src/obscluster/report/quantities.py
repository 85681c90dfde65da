"""What is known of each run, as numbers that can be drawn, listed and compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from astropy import units as u
from astropy.table import Table
from numpy.typing import NDArray

from obscluster.archive.quantities import QUANTITIES, column_of
from obscluster.columns import full_turn, is_numeric, numbers, range_of
from obscluster.grouping.methods import TIME
from obscluster.scaling import period_of

__all__ = [
    "DATE",
    "Quantity",
    "conditions_of",
    "decade_text",
    "features_of",
    "number_text",
    "range_text",
    "unit_words",
]

Array = NDArray[np.float64]

DATE = "date"
"""Key of the time at which runs began, in decimal years."""

# Columns of the obs-index that say how a run was taken, and how to call them.
_CONDITIONS = {
    "ZEN_PNT": "zenith angle",
    "AZ_PNT": "azimuth",
    "MUONEFF": "muon efficiency",
    "NSBLEVEL": "night-sky background",
    "N_TELS": "number of telescopes",
    "LIVETIME": "livetime",
    "EVENT_COUNT": "number of events",
}

# Features that say how a run was taken.
_CONDITION_FEATURES = (
    *("zenith", "cos-zenith", "airmass", "azimuth", "muoneff", "n-tels", "nsb", "offset"),
)
# A longer arc, in parts of a full turn, is told as all directions.
_ALL_AROUND = 0.75

_DASH, _MINUS, _TIMES = "\N{EN DASH}", "\N{MINUS SIGN}", " \N{MULTIPLICATION SIGN} "
_SUPERSCRIPTS = (
    *("\N{SUPERSCRIPT ZERO}", "\N{SUPERSCRIPT ONE}", "\N{SUPERSCRIPT TWO}"),
    *("\N{SUPERSCRIPT THREE}", "\N{SUPERSCRIPT FOUR}", "\N{SUPERSCRIPT FIVE}"),
    *("\N{SUPERSCRIPT SIX}", "\N{SUPERSCRIPT SEVEN}", "\N{SUPERSCRIPT EIGHT}"),
    "\N{SUPERSCRIPT NINE}",
)
_RAISED = {ord(str(i)): text for i, text in enumerate(_SUPERSCRIPTS)}
_RAISED[ord("-")] = "\N{SUPERSCRIPT MINUS}"


@dataclass(frozen=True, eq=False)
class Quantity:
    """One number for each run.

    Parameters
    ----------
    key : str
        Name of the column.
    label : str
        In words, without unit.
    values : `~numpy.ndarray`
        Shape (n_obs,); NaN where there is none.
    unit : str
        As text; empty without.
    is_feature : bool
        Whether the runs were characterised by it, rather than how they were taken.
    period : float, optional
        Of angles: a full turn.
    """

    key: str
    label: str
    values: Array
    unit: str = ""
    is_feature: bool = False
    period: float | None = None

    @property
    def title(self) -> str:
        """Label with the unit, as an axis has it."""
        return f"{self.label} [{self.unit}]" if self.unit else self.label

    @property
    def is_condition(self) -> bool:
        """Whether it says how a run was taken, be it as a feature."""
        return not self.is_feature or self.key in _CONDITION_FEATURES

    @property
    def varies(self) -> bool:
        """Whether the runs differ in it."""
        known = self.values[np.isfinite(self.values)]
        return bool(len(known) > 1 and known.min() < known.max())

    def range_of(self, members: NDArray[np.bool_]) -> tuple[float, float]:
        """Smallest and largest value of some runs; NaN if there is none."""
        return range_of(self.values[members], self.period)

    def range_words(self, members: NDArray[np.bool_], digits: int = 3) -> str:
        """Range of some runs as text, without unit."""
        lo, hi = self.range_of(members)
        if self.period is None or not np.isfinite(lo):
            return range_text(lo, hi, digits)
        if hi - lo >= _ALL_AROUND * self.period:
            return "all around"
        first, last = (number_text(value % self.period, digits) for value in (lo, hi))
        if first == last:
            return first
        through = " through 0" if lo % self.period > hi % self.period else ""
        return f"{first}{_DASH}{last}{through}"


def conditions_of(obs_table: Table) -> list[Quantity]:
    """How the runs were taken, as far as the obs-index says, or their files.

    Parameters
    ----------
    obs_table : `~astropy.table.Table`
        Rows of the obs-index.

    Returns
    -------
    conditions : list of `Quantity`
        Those that some run has, in the order of importance.
    """
    found = []
    for name, label in _CONDITIONS.items():
        if name in QUANTITIES:
            column = column_of(obs_table, name).value
        elif name in obs_table.colnames and is_numeric(obs_table[name]):
            column = obs_table[name]
        else:
            continue
        values, unit = np.array(numbers(column)), unit_words(column.unit)
        if name == "LIVETIME":
            values, unit = values / 60, "min"
        turn = full_turn(name, column)
        if turn is not None:
            # Some count azimuths from -180 deg, or below.
            values = np.mod(values, turn)
        if np.isfinite(values).any():
            found.append(Quantity(name, label, values, unit, False, turn))
    return found


def features_of(features: Table, names: Sequence[str]) -> list[Quantity]:
    """What the runs were characterised by.

    Parameters
    ----------
    features : `~astropy.table.Table`
        Feature table.
    names : sequence of str
        Its columns, in the order wanted.

    Returns
    -------
    features : list of `Quantity`
        Those that some run has; times are left out, which the report shows otherwise.
    """
    found = []
    for name in names:
        if name == TIME or name not in features.colnames or not is_numeric(features[name]):
            continue
        column = features[name]
        values = np.array(numbers(column))
        if np.isfinite(values).any():
            unit, period = unit_words(column.unit), period_of(name, column)
            found.append(Quantity(name, name, values, unit, True, period))
    return found


def unit_words(unit: u.UnitBase | None) -> str:
    """Unit as a reader expects it: ``m²``, ``s⁻¹ sr⁻¹``, ``deg``."""
    if unit is None or unit == u.one:
        return ""
    if unit == u.deg:
        return "deg"
    try:
        return str(unit.to_string("unicode"))
    except ValueError:
        return str(unit)


def number_text(value: float, digits: int = 3) -> str:
    """Number of a few digits, ``0.0943`` or ``22.4``, with a power of ten where that is shorter."""
    if not np.isfinite(value):
        return _DASH
    if value == 0:
        return "0"
    # Rounded first: 9.996 has as many decimals as 10.
    mantissa, _, power = f"{value:.{digits - 1}e}".partition("e")
    exponent = int(power)
    if exponent >= 5 or exponent < -3:
        return f"{mantissa}{_TIMES}10{str(exponent).translate(_RAISED)}".replace("-", _MINUS)
    return f"{value:.{max(0, digits - 1 - exponent)}f}".replace("-", _MINUS)


def decade_text(value: float) -> str:
    """Power of ten: ``0.1``, ``1``, ``100``, and with an exponent beyond."""
    exponent = round(float(np.log10(value)))
    if -3 < exponent < 3:
        return f"{value:g}"
    return f"10{str(exponent).translate(_RAISED)}"


def range_text(lo: float, hi: float, digits: int = 3) -> str:
    """Range in a few digits, with a dash between, and a power of ten for both."""
    if not (np.isfinite(lo) and np.isfinite(hi)):
        return _DASH
    first, last = number_text(lo, digits), number_text(hi, digits)
    if first == last:
        return first
    largest = first if abs(lo) > abs(hi) else last
    power = largest.partition(_TIMES)[2]
    if power:
        exponent = int(np.floor(np.log10(max(abs(lo), abs(hi)))))
        a, b = (f"{value / 10.0**exponent:.{digits - 1}f}" for value in (lo, hi))
        return f"({a}{_DASH}{b}){_TIMES}{power}".replace("-", _MINUS)
    # A dash before a minus is hard to read.
    return f"{first} to {last}" if _MINUS in first + last else f"{first}{_DASH}{last}"
