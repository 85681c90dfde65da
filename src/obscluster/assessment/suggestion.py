"""A number of groups, with its reason."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from obscluster.exceptions import RequestError
from obscluster.notebook import html_text, html_view

__all__ = ["Suggestion", "suggest_n_groups"]

# Kaufman and Rousseeuw (1990, Finding Groups in Data) call structure below this silhouette weak.
_WEAK = 0.5


@dataclass(frozen=True)
class Suggestion:
    """A number of groups.

    Parameters
    ----------
    n_groups : int
        The number.
    reason : str
        Why, in one sentence with the numbers that decided.
    """

    n_groups: int
    reason: str

    def __str__(self) -> str:
        return f"{_groups(self.n_groups)}: {self.reason}"

    def _repr_html_(self) -> str:
        """For a notebook."""
        return html_view(html_text(_groups(self.n_groups), strong=True), html_text(self.reason))


def suggest_n_groups(
    quality: Table, tolerance: float = 0.05, min_silhouette: float = 0.25
) -> Suggestion:
    """Suggest a number of groups.

    A number qualifies if its silhouette is at least ``min_silhouette``, and if it does more than
    set single runs apart, which are outliers rather than groups. Of these, it is the smallest
    whose silhouette is within ``tolerance`` of the highest: each further group makes the joint fit
    slower. If none qualifies, one group is suggested.

    The reason says whether evenly spread runs would have such a silhouette too. Then, and if there
    is no structure at all, only the spreads can tell how many groups are needed.

    Parameters
    ----------
    quality : `~astropy.table.Table`
        See `~obscluster.assessment.indices.quality`.
    tolerance : float
        Silhouettes that differ by no more are equally good. That of 100 runs is uncertain by about
        0.025.
    min_silhouette : float
        Below, there is no structure. Kaufman and Rousseeuw (1990) call 0.25 to 0.5 weak, to 0.7
        reasonable, and above strong.

    Returns
    -------
    suggestion : `Suggestion`
        The number and the reason.

    Raises
    ------
    RequestError
        If the table is empty or another one.
    """
    needed = ("n_groups", "n_obs", "n_single", "silhouette", "silhouette_even")
    if missing := [name for name in needed if name not in quality.colnames]:
        raise RequestError(f"no column {', '.join(missing)}; give the table that quality() returns")
    if len(quality) == 0:
        raise RequestError("no number of groups was tried; give quality() some labels")
    n_groups, n_obs, n_single, silhouette, even = (np.asarray(quality[name]) for name in needed)
    if not np.isfinite(silhouette).any():
        return Suggestion(1, _why_undefined(n_groups, n_obs))
    silhouette = np.where(np.isfinite(silhouette), silhouette, -np.inf)
    top = int(np.argmax(silhouette))
    splits = (silhouette >= min_silhouette) & (n_groups - n_single >= 2)
    tried = f"of {_range(n_groups[np.isfinite(silhouette)])}"
    if not splits.any():
        of_top = f"{silhouette[top]:.2f} for {_groups(n_groups[top])}"
        reason = f"the highest silhouette {tried}, {of_top}, "
        if silhouette[top] < min_silhouette:
            reason = f"no clear structure, since {reason}is below {min_silhouette:g}"
        else:
            reason += "comes from setting single runs apart; see whether they are outliers"
        return Suggestion(1, reason + _spread_of_all(quality))
    best = int(np.argmax(np.where(splits, silhouette, -np.inf)))
    good = splits & (silhouette >= silhouette[best] - tolerance)
    chosen = int(np.flatnonzero(good)[np.argmin(n_groups[good])])
    reason = f"the silhouette is {silhouette[chosen]:.2f}"
    if chosen != best:
        reason += f", within {tolerance:g} of {silhouette[best]:.2f} for {_groups(n_groups[best])}"
    else:
        reason += f", the highest {tried}" + (" that qualify" if best != top else "")
    reason += _remarks(silhouette[chosen], even[chosen])
    if n_groups[chosen] == n_groups.max() and n_groups[chosen] > 2:
        reason += "; more groups were not tried"
    if n_single[chosen]:
        alone = "group is" if n_single[chosen] == 1 else "groups are"
        reason += f"; {n_single[chosen]} {alone} a single run, perhaps an outlier"
    return Suggestion(int(n_groups[chosen]), reason)


def _remarks(silhouette: float, even: float) -> str:
    """How much the silhouette means; where nothing is known of evenly spread runs, they pass."""
    reached = f"; evenly spread runs reach up to {even:.2f}" if np.isfinite(even) else ""
    if silhouette <= even:
        return f"{reached}, so that there is no natural boundary and the spreads should decide"
    weak = "; the structure is weak, so look at the spreads too" if silhouette < _WEAK else ""
    return reached + weak


def _why_undefined(n_groups: NDArray[np.int64], n_obs: NDArray[np.int64]) -> str:
    if n_obs.max() < 3:
        return f"silhouettes need at least 3 runs, and there are {n_obs.max()}"
    if (n_groups < 2).all():
        return "no other number was tried, perhaps since the runs are identical"
    return "no silhouette is defined, as with identical runs or as many groups as runs"


def _spread_of_all(quality: Table) -> str:
    """What stacking all runs means for the feature that differs most."""
    one = np.flatnonzero(np.asarray(quality["n_groups"]) == 1)
    names = [name for name in quality.colnames if name.endswith(" percent")]
    percent = {name: float(quality[name][one[0]]) for name in names} if len(one) else {}
    known = {name: value for name, value in percent.items() if np.isfinite(value)}
    if not known:
        return ""
    name = max(known, key=lambda name: known[name])
    feature = name.removesuffix(" percent")
    return f"; {feature} differs by {known[name]:.0f}% then, choose more groups if that is too much"


def _range(numbers: NDArray[np.int64]) -> str:
    if len(numbers) == 1:
        return _groups(int(numbers[0]))
    return f"{numbers.min()} to {numbers.max()} groups"


def _groups(number: int) -> str:
    return "1 group" if number == 1 else f"{number} groups"
