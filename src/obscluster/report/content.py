"""What a report tells, collected: tables and arrays, numbers with their looks, and words.

Pictures are drawn in the colours of `obscluster.plots.style`; within the page these become
variables, so that one picture serves both.

Groups are told apart by how their runs were taken, and where that tells nothing, by their features:
by the quantity in which they are furthest from each other, as measured by the scatter between
groups over that within them, and only if their bulks do not overlap. Where several groups share a
range of it, the next quantity tells these apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from astropy import units as u
from astropy.table import QTable, Table
from matplotlib.colors import to_hex, to_rgb
from numpy.typing import NDArray

from obscluster.archive.quantities import QUANTITIES, column_of
from obscluster.assessment import Suggestion
from obscluster.features.curves import IrfCurves
from obscluster.features.scaling import period_of
from obscluster.grouping import UNASSIGNED
from obscluster.grouping.base import Grouping
from obscluster.grouping.method import TIME
from obscluster.plots.style import Label, group_style
from obscluster.values.columns import full_turn, is_numeric, numbers, range_of

__all__ = [
    "DATE",
    "GRID",
    "INK",
    "PAPER",
    "QUIET",
    "THEME",
    "GroupLook",
    "Quantity",
    "ReportContent",
    "Words",
    "conditions_of",
    "decade_text",
    "describe_groups",
    "features_of",
    "hours_text",
    "looks",
    "not_quite_black",
    "number_text",
    "range_text",
    "result_sentence",
    "separation",
    "unit_words",
]

__all__ += ["variable"]

# What pictures are drawn with, in place of black, white and greys; the page replaces them.
INK, QUIET, GRID, PAPER = "#16191d", "#5d646e", "#e4e6ea", "#fefefe"
THEME = {INK: "--ink", QUIET: "--quiet", GRID: "--grid", PAPER: "--paper"}
"""Colours of pictures to CSS variables."""

Marker = str | tuple[int, int, int]

_DARK_PAGE = "#15181d"
_LEAST_CONTRAST = 5.0
_BLACK, _WHITE = "#0a0a0a", "#f0f0f0"

# Markers of the style to those of Matplotlib and of bokeh that look the same: the list of groups is
# drawn once for pictures of both.
_SAME: dict[str, tuple[Marker, str]] = {
    "o": ("o", "circle"),
    "s": ("s", "square"),
    "^": ("^", "triangle"),
    "D": ("D", "diamond"),
    "v": ("v", "inverted_triangle"),
    "P": ("P", "plus"),
    "X": ("*", "star"),
    "p": ("h", "hex"),
    "<": ((3, 1, 0), "triangle_pin"),
    "*": ((4, 1, 45), "square_pin"),
    ">": ((8, 2, 0), "asterisk"),
    "x": ("x", "x"),
}
_LINES = ("asterisk", "x")
_POINTED = ("star", "triangle_pin", "square_pin", "plus")


class GroupLook(NamedTuple):
    """Colours on light and on dark pages, markers of Matplotlib and of bokeh."""

    light: str
    dark: str
    marker: Marker
    bokeh_marker: str

    @property
    def scale(self) -> float:
        """How much larger a pointed marker must be to look as large as a round one."""
        return 1.4 if self.bokeh_marker in _POINTED else 1.0

    @property
    def is_outline(self) -> bool:
        """Whether the marker is made of lines, which have no colour inside."""
        return self.bokeh_marker in _LINES


def looks(labels: Iterable[int]) -> dict[int, GroupLook]:
    """Colours and markers of groups.

    Parameters
    ----------
    labels : iterable of int
        Groups, -1 among them for unassigned runs.

    Returns
    -------
    looks : dict
        Label to how it looks, in the order of the labels, unassigned last.
    """
    wanted: list[Label] = list(labels)
    return {
        int(label): GroupLook(not_quite_black(light), _on_dark(light), *_SAME[marker])
        for label, (light, marker) in group_style(wanted).items()
    }


def not_quite_black(colour: str) -> str:
    """The colour; a shade beside black, which SVG leaves out as its default."""
    return _BLACK if colour == "#000000" else colour


def variable(label: int) -> str:
    """CSS variable of the colour of a group."""
    return "--group-none" if label == UNASSIGNED else f"--group-{label}"


def _on_dark(colour: str) -> str:
    """The colour, mixed with white until it can be seen on a dark page."""
    if colour == "#000000":
        # A grey would look like runs of no group.
        return _WHITE
    rgb, page = to_rgb(colour), _luminance(_DARK_PAGE)
    for step in range(20):
        part = step / 20
        red, green, blue = ((1 - part) * value + part for value in rgb)
        mixed = to_hex((red, green, blue))
        if (_luminance(mixed) + 0.05) / (page + 0.05) >= _LEAST_CONTRAST:
            return mixed
    return "#ffffff"


def _luminance(colour: str) -> float:
    """Relative luminance, as in WCAG 2."""
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in to_rgb(colour)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


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


Labels = NDArray[np.int64]

# The bulk of a group are the runs between these quantiles; single runs may lie outside.
_BULK = (0.1, 0.9)
# Bulks that overlap by no more than this part of the narrower one are apart.
_OVERLAP = 0.15
# A description with more parts is read by nobody.
_MAX_PARTS = 3
# Numbers stay with their units.
_SPACE = "\N{NO-BREAK SPACE}"
# More groups are counted in the sentence, not listed.
_MAX_LISTED = 4


class Words(NamedTuple):
    """How to call low, middle and high values of a quantity."""

    noun: str
    low: str
    high: str


_WORDS = {
    "ZEN_PNT": Words("zenith", "low zenith", "high zenith"),
    "zenith": Words("zenith", "low zenith", "high zenith"),
    "cos-zenith": Words("zenith", "high zenith", "low zenith"),
    "airmass": Words("airmass", "low airmass", "high airmass"),
    "MUONEFF": Words("muon efficiency", "low muon efficiency", "high muon efficiency"),
    "muoneff": Words("muon efficiency", "low muon efficiency", "high muon efficiency"),
    "NSBLEVEL": Words("night-sky background", "dark sky", "bright sky"),
    "nsb": Words("night-sky background", "dark sky", "bright sky"),
    "N_TELS": Words("telescopes", "few telescopes", "many telescopes"),
    "n-tels": Words("telescopes", "few telescopes", "many telescopes"),
    "offset": Words("offset", "small offset", "large offset"),
    "psf-radius": Words("PSF radius", "narrow PSF", "wide PSF"),
    "psf-r68": Words("PSF radius", "narrow PSF", "wide PSF"),
    "psf-r95": Words("PSF radius", "narrow PSF", "wide PSF"),
    "edisp-res": Words("energy resolution", "good energy resolution", "poor energy resolution"),
    "edisp-res68": Words("energy resolution", "good energy resolution", "poor energy resolution"),
    "aeff": Words("effective area", "small effective area", "large effective area"),
    "aeff-threshold": Words("energy threshold", "low energy threshold", "high energy threshold"),
    "bkg-rate": Words("background rate", "low background", "high background"),
    DATE: Words("date", "early", "late"),
}
# That the groups differ in these is no observing condition, or says nothing by itself.
_NOT_TOLD = ("LIVETIME", "EVENT_COUNT", "livetime", "event-rate")


def separation(values: NDArray[np.float64], labels: Labels) -> float:
    """Scatter between groups over scatter within them; NaN if there are no two groups.

    Parameters
    ----------
    values : `~numpy.ndarray`
        Of each run, shape (n_obs,); NaN do not count.
    labels : `~numpy.ndarray`
        Group of each, shape (n_obs,); those below 1 do not count.
    """
    known = np.isfinite(values) & (labels > 0)
    values, labels = values[known], labels[known]
    found, rows = np.unique(labels, return_inverse=True)
    if len(found) < 2:
        return np.nan
    number = np.bincount(rows)
    means = np.bincount(rows, values) / number
    within = float(np.sqrt(((values - means[rows]) ** 2).mean()))
    between = float(np.sqrt((number * (means - values.mean()) ** 2).sum() / len(values)))
    if within <= 1e-9 * between:
        return np.inf if between > 0 else np.nan
    return between / within


def describe_groups(quantities: Sequence[Quantity], labels: Labels) -> dict[int, str]:
    """What sets each group apart.

    Parameters
    ----------
    quantities : sequence of `Quantity`
        What is known of the runs; angles that start anew are not looked at.
    labels : `~numpy.ndarray`
        Group of each run, shape (n_obs,).

    Returns
    -------
    words : dict
        Label to text, such as ``high zenith``; without those that nothing sets apart.
    """
    usable = [q for q in quantities if q.varies and q.period is None and q.key not in _NOT_TOLD]
    parts: dict[int, list[str]] = {label: [] for label in np.unique(labels[labels > 0]).tolist()}
    _describe(usable, labels, list(parts), parts)
    return {label: ", ".join(words) for label, words in parts.items() if words}


def _describe(
    quantities: Sequence[Quantity],
    labels: Labels,
    groups: Sequence[int],
    parts: dict[int, list[str]],
) -> None:
    """Add words that tell some groups from each other, and what is alike in these by others."""
    if len(groups) < 2 or max(len(parts[group]) for group in groups) >= _MAX_PARTS:
        return
    inside = np.where(np.isin(labels, groups), labels, -1)
    conditions = [q for q in quantities if q.is_condition and q.key != DATE]
    # When runs were taken explains less than how.
    dates = [q for q in quantities if q.key == DATE]
    features = [q for q in quantities if not q.is_condition]
    found = (_best(part, inside, groups) for part in (conditions, dates, features))
    best = next((one for one in found if one is not None), None)
    if best is None:
        return
    quantity, bands = best
    for i, band in enumerate(bands):
        text = _band_text(quantity, inside, band, i, len(bands))
        for group in band:
            parts[group].append(text)
    rest = [q for q in quantities if q is not quantity]
    for band in bands:
        _describe(rest, labels, band, parts)


def _best(
    quantities: Sequence[Quantity], labels: Labels, groups: Sequence[int]
) -> tuple[Quantity, list[list[int]]] | None:
    """The quantity that separates best, with its bands; None if none separates."""
    best, highest = None, 0.0
    for quantity in quantities:
        score = separation(quantity.values, labels)
        # The first of equals, so that nothing depends on rounding.
        if not score > highest * (1 + 1e-9):
            continue
        bands = _bands(quantity, labels, groups)
        if len(bands) > 1:
            best, highest = (quantity, bands), score
    return best


def _bands(quantity: Quantity, labels: Labels, groups: Sequence[int]) -> list[list[int]]:
    """Groups in rising order, those together whose bulks overlap."""
    bulks = []
    for group in groups:
        values = quantity.values[labels == group]
        values = values[np.isfinite(values)]
        if not len(values):
            return []
        lo, middle, hi = np.quantile(values, [_BULK[0], 0.5, _BULK[1]])
        bulks.append((float(middle), float(lo), float(hi), group))
    bands: list[list[int]] = []
    top, width = -np.inf, 0.0
    for _, lo, hi, group in sorted(bulks):
        allowed = _OVERLAP * min(width, hi - lo)
        if bands and (lo < top - allowed or lo == top):
            bands[-1].append(group)
        else:
            bands.append([group])
        top, width = max(top, hi), hi - lo
    return bands


def _band_text(
    quantity: Quantity, labels: Labels, band: Sequence[int], place: int, n_bands: int
) -> str:
    name = quantity.key.partition("@")[0]
    words = _WORDS.get(name)
    at = f" at {quantity.key.partition('@')[2]}" if "@" in quantity.key else ""
    noun = words.noun if words else quantity.label
    members = np.isin(labels, band)
    if n_bands > 3 and name == DATE:
        lo, hi = quantity.range_of(members)
        return f"{_month(lo)} to {_month(hi)}"
    if n_bands > 3 or name in ("N_TELS", "n-tels"):
        unit = f"{_SPACE}{quantity.unit}".replace(" ", _SPACE) if quantity.unit else ""
        return f"{noun}{at} {quantity.range_words(members, 2)}{unit}"
    ends = (words.low, words.high) if words else (f"low {quantity.label}", f"high {quantity.label}")
    middle = f"middle {noun}"
    return {0: ends[0], n_bands - 1: ends[1]}.get(place, middle) + at


def result_sentence(
    labels: Labels,
    hours: NDArray[np.float64],
    words: Mapping[int, str],
    loss: float | None = None,
) -> str:
    """The result in one sentence.

    Parameters
    ----------
    labels : `~numpy.ndarray`
        Group of each run, shape (n_obs,).
    hours : `~numpy.ndarray`
        Live time of each run, shape (n_obs,); all zero if nobody knows.
    words : mapping
        Label to what sets it apart, see `describe_groups`.
    loss : float, optional
        Part of the information that is lost by stacking into the groups.
    """
    found = np.unique(labels[labels > 0]).tolist()
    total = f", {hours_text(hours.sum())}" if hours.any() else ""
    n_groups = "1 group" if len(found) == 1 else f"{len(found)} groups"
    text = f"{_count(len(labels), 'observation')}{total}, in {n_groups}"
    if not found:
        text = f"{_count(len(labels), 'observation')}{total}, none of them in a group"
    elif 1 < len(found) <= _MAX_LISTED:
        listed = []
        for label in found:
            members = labels == label
            time = f", {hours_text(hours[members].sum())}" if hours.any() else ""
            name = words.get(label, f"group {label}")
            listed.append(f"{name} ({_count(int(members.sum()), 'run')}{time})")
        text += f": {', '.join(listed[:-1])} and {listed[-1]}"
    elif len(found) > _MAX_LISTED:
        sizes = [int((labels == label).sum()) for label in found]
        text += f" of {min(sizes)} to {max(sizes)} runs"
    n_rest = int((labels < 1).sum())
    if n_rest and found:
        text += f"; {_count(n_rest, 'run')} {'is' if n_rest == 1 else 'are'} in no group"
    if loss is not None and found:
        text += f"; stacking into {'it' if len(found) == 1 else 'these'} loses "
        text += f"{_percent(loss)} of the information"
    return f"{text}."


def hours_text(hours: float) -> str:
    """Hours with one decimal; minutes where that would be nothing."""
    if hours >= 0.95 or hours == 0:
        return f"{hours:.1f}{_SPACE}h"
    return f"{60 * hours:.0f}{_SPACE}min"


def _month(year: float) -> str:
    """Decimal year as year and month."""
    return f"{int(year)}-{min(int(12 * (year % 1)) + 1, 12):02d}"


def _percent(loss: float) -> str:
    percent = 100 * max(loss, 0.0)
    if percent < 0.05:
        return f"less than 0.1{_SPACE}%"
    return f"{percent:.{1 if percent < 10 else 0}f}{_SPACE}%"


def _count(number: int, noun: str) -> str:
    text = f"{number:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")
    return f"{text}{_SPACE}{noun}{'' if number == 1 else 's'}"


_DAYS_PER_YEAR = 365.25
_EPOCH_MJD, _EPOCH_YEAR = 51544.5, 2000.0


@dataclass(frozen=True, eq=False)
class ReportContent:
    """A grouping and all that is known of it; arrays have one entry per run, shape (n_obs,).

    Parameters
    ----------
    grouping : `~obscluster.grouping.base.Grouping`
        The groups.
    record : mapping
        Content of groups.yaml.
    yaml : str
        The description that repeats it, as text.
    obs_table : `~astropy.table.Table`
        Rows of the obs-index, in the order of the grouping.
    feature_table : `~astropy.table.QTable`
        Features, in that order.
    hours : `~numpy.ndarray`
        Live times; all zero if the index has none.
    mjd : `~numpy.ndarray`
        When the runs began; NaN if the index does not say.
    pointing : tuple of `~numpy.ndarray` or None
        Right ascension and declination in degrees.
    targets : sequence of str
        What was looked at; empty if the index does not say.
    spreads, quality, outliers, suggestion
        See `obscluster.assessment`; tables are empty for groups that are categories.
    partitions : mapping
        Number of groups to labels, for those numbers that the method could have given.
    losses : `~astropy.table.QTable` or None
        Information lost by these groups, and by stacking everything.
    losses_by_number : mapping
        Number of groups to the information that those of ``partitions`` lose.
    curves : `~obscluster.features.curves.IrfCurves` or None
        Responses against energy.
    missing : mapping
        What is not shown, and why.
    fit_verdict : sequence of str
        What a joint fit of the groups says first, if there is one.
    attribution : str
        Whom to acknowledge for the data, if the record says whose they are.
    """

    grouping: Grouping
    record: Mapping[str, Any]
    yaml: str
    obs_table: Table
    feature_table: QTable
    hours: NDArray[np.float64]
    mjd: NDArray[np.float64]
    pointing: tuple[NDArray[np.float64], NDArray[np.float64]] | None
    targets: Sequence[str]
    spreads: Table
    quality: QTable
    outliers: Table
    suggestion: Suggestion | None = None
    partitions: Mapping[int, NDArray[np.int64]] = field(default_factory=dict)
    losses: QTable | None = None
    losses_by_number: Mapping[int, float] = field(default_factory=dict)
    curves: IrfCurves | None = None
    missing: Mapping[str, str] = field(default_factory=dict)
    fit_verdict: Sequence[str] = ()
    attribution: str = ""

    @property
    def labels(self) -> NDArray[np.int64]:
        """Group of each run."""
        return self.grouping.labels

    @property
    def found(self) -> list[int]:
        """Labels of the groups."""
        return list(range(1, self.grouping.n_groups + 1))

    @property
    def with_unassigned(self) -> list[int]:
        """Labels of the groups, and that of no group if there are such runs."""
        rest = bool((self.labels == UNASSIGNED).any())
        return [*self.found, *([UNASSIGNED] if rest else [])]

    @cached_property
    def looks(self) -> dict[int, GroupLook]:
        """Colours and markers of the groups, and of those that a user may make by hand."""
        most = max([self.grouping.n_groups, *self.partitions])
        return looks([*range(1, most + 11), UNASSIGNED])

    @cached_property
    def features(self) -> list[Quantity]:
        """What the runs were grouped by, and what else was computed."""
        clustered = [str(name) for name in self.record.get("clustered") or ()]
        others = [name for name in self.feature_table.colnames if name not in clustered]
        skip = ("obs_id", "label", "notes")
        return features_of(self.feature_table, [*clustered, *(n for n in others if n not in skip)])

    @cached_property
    def conditions(self) -> list[Quantity]:
        """How the runs were taken; what is a feature too is left to these."""
        return [
            q
            for q in conditions_of(self.obs_table)
            if not any(
                np.allclose(q.values, f.values, rtol=1e-5, equal_nan=True) for f in self.features
            )
        ]

    @cached_property
    def dates(self) -> Quantity:
        """When the runs began, in decimal years."""
        years = _EPOCH_YEAR + (self.mjd - _EPOCH_MJD) / _DAYS_PER_YEAR
        return Quantity(DATE, "date", years, "year")

    @cached_property
    def words(self) -> dict[int, str]:
        """What sets each group apart."""
        return describe_groups([*self.conditions, self.dates, *self.features], self.labels)

    @property
    def loss(self) -> float | None:
        """Part of the information that these groups lose; None if nobody asked."""
        if self.losses is None or not len(self.losses):
            return None
        value = float(self.losses["loss"][0])
        return value if np.isfinite(value) else None

    def name_of(self, label: int) -> str:
        """How the group is called in text."""
        if label == UNASSIGNED:
            return "no group"
        name = self.grouping.names.get(label)
        return f"group {label} ({name})" if name else f"group {label}"
