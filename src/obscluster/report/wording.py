"""A grouping in words: what sets each group apart, and the result in one sentence.

Groups are told apart by how their runs were taken, and where that tells nothing, by their features:
by the quantity in which they are furthest from each other, as measured by the scatter between
groups over that within them, and only if their bulks do not overlap. Where several groups share a
range of it, the next quantity tells these apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from obscluster.report.quantities import DATE, Quantity

__all__ = ["Words", "describe_groups", "hours_text", "result_sentence", "separation"]

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
