"""Intervals of one feature that are no wider than a tolerance, as few as possible.

What `obscluster.grouping.spread` uses; it has what a user calls.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from obscluster.tolerance import Tolerance

__all__ = ["Axis", "axis_of", "cover_line"]

# How little even spreads count against small ones; also what counts as an improvement.
EVENNESS = 1e-6


@dataclass(frozen=True)
class Axis:
    """One feature as ranks: what lies between which values within tolerance is then exact.

    Ranks count modulo ``size``. On a line that is large enough for no range to wrap.
    """

    rank: NDArray[np.int64]  # of each point
    reach: NDArray[np.int64]  # how many ranks further the tolerance goes, of each distinct value
    place: NDArray[np.float64]  # of each distinct value, in units of the tolerance
    size: int
    turn: float  # a full turn in units of the tolerance


def axis_of(values: NDArray[np.float64], tolerance: Tolerance, period: float | None) -> Axis:
    distinct, rank = np.unique(
        values if period is None else np.mod(values, period), return_inverse=True
    )
    n = len(distinct)
    start = np.arange(n)
    low, high = start, start + n - 1 if period is not None else np.full(n, n - 1)
    while (low < high).any():
        middle = (low + high + 1) // 2
        begin = distinct - np.where(middle < n, 0.0, period or 0.0)
        fits = tolerance.allows(begin, distinct[middle % n])
        low, high = np.where(fits, middle, low), np.where(fits, high, middle - 1)
    place, scale = distinct, tolerance.value
    if tolerance.relative:
        # Ranges of equal relative spread are equally long on a logarithmic scale.
        place = np.sign(distinct) * np.log(np.abs(distinct))
        scale = 2 * float(np.arctanh(tolerance.value / 2)) if tolerance.value < 2 else 0.0
    return Axis(
        rank=rank,
        reach=low - start,
        place=place / (scale or 1.0),
        size=2 * n if period is None else n,
        turn=np.inf if period is None else period / (scale or 1.0),
    )


def cover_line(axis: Axis) -> NDArray[np.int64]:
    """Group of each distinct value of one feature: fewest groups, then least sum of spreads.

    The sum of spreads is the least where the cuts lie in the widest gaps. Where sums are equal,
    spreads are as even as possible.
    """
    n = len(axis.reach)
    begin = _best_start(axis) if axis.size == n else 0
    order = (begin + np.arange(n)) % n
    last = np.minimum(np.arange(n) + axis.reach[order], n - 1)
    place = axis.place[order] + np.where(order < begin, axis.turn, 0.0) if begin else axis.place
    labels = np.empty(n, dtype=np.int64)
    sizes = _best_cuts(place, last)
    labels[order] = np.repeat(np.arange(len(sizes)), sizes)
    return labels


def _best_start(axis: Axis) -> int:
    """Where to cut a circle: in the widest of those gaps that allow the fewest groups."""
    n = len(axis.reach)
    start = np.arange(n)
    end = start + axis.reach + 1
    while (end - start < n).all():
        end += axis.reach[end % n] + 1
    gaps = np.mod(axis.place - np.roll(axis.place, 1), axis.turn)
    return int(np.argmax(np.where(end - start >= n, gaps, -1.0)))


def _best_cuts(place: NDArray[np.float64], last: NDArray[np.int64]) -> NDArray[np.int64]:
    """Sizes of the groups of sorted values; the group that begins at i ends at last[i] at most."""
    n = len(place)
    # The k-th group ends at highest[k] at most, and at lowest[k] at least if those after it are to
    # suffice. These ranges do not overlap, so every value is looked at once.
    highest, lowest = [int(last[0])], [n - 1]
    while highest[-1] < n - 1:
        highest.append(int(last[highest[-1] + 1]))
    first = np.searchsorted(last, np.arange(n))
    while len(lowest) < len(highest):
        lowest.insert(0, int(first[lowest[0]]) - 1)
    cost, origin = np.zeros(n + 1), np.full(n, -1)
    before = np.array([-1])
    for lo, hi in zip(lowest, highest, strict=True):
        for end in range(lo, hi + 1):
            ends = before[max(0, int(first[end]) - 1 - int(before[0])) :]
            spread = place[end] - place[ends + 1]
            # Even spreads matter only where sums are equal. The empty range ends at -1 and costs 0.
            total = cost[ends] + spread * (1 + EVENNESS * spread)
            best = int(np.argmin(total))
            cost[end], origin[end] = total[best], ends[best]
        before = np.arange(lo, hi + 1)
    chosen = [n - 1]
    while chosen[-1] >= 0:
        chosen.append(int(origin[chosen[-1]]))
    return np.diff(chosen[::-1])
