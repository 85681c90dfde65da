"""Boxes of several features that are no wider than tolerances: filled by sweeps, and improved.

What `obscluster.grouping.spread` uses; it has what a user calls.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from obscluster.grouping import UNASSIGNED
from obscluster.grouping.intervals import EVENNESS

__all__ = ["Space", "dissolve", "let_join", "members_of", "polish", "sweep"]

# Gaps of a group and a feature, the widest first, at which it may be divided.
_MAX_GAPS = 20
_GOLDEN_RATIO = 0.5 * (1 + 5**0.5)


@dataclass(frozen=True, eq=False)
class Space:
    """Distinct points of several features, as ranks.

    A box is a first rank and a width in ranks per feature.
    """

    points: NDArray[np.int64]  # (n, p)
    reach: NDArray[np.int64]  # (p, most distinct values), see Axis
    place: NDArray[np.float64]  # (p, most distinct values)
    size: NDArray[np.int64]  # (p,)
    turn: NDArray[np.float64]  # (p,)

    def part(self, rows: NDArray[np.int64]) -> Space:
        return replace(self, points=self.points[rows])

    def spread(self, low: NDArray[np.int64], width: NDArray[np.int64]) -> NDArray[np.float64]:
        """Sum of the sides of boxes (..., p), in units of the tolerances."""
        every = np.arange(len(self.size))
        # Ranges that are too wide can end beyond the last value; they are never used.
        high = np.minimum((low + width) % self.size, self.place.shape[1] - 1)
        sides = self.place[every, high] - self.place[every, low]
        return np.sum(sides + np.where(sides < 0, self.turn, 0.0), axis=-1)

    def boxes(
        self, groups: Sequence[NDArray[np.int64]]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The smallest boxes around groups of points that fit together, (n_groups, p) each."""
        starts = np.cumsum([0, *(len(rows) for rows in groups[:-1])])
        ranks = self.points[np.concatenate(groups)]
        low = np.minimum.reduceat(ranks, starts, axis=0)
        width = np.maximum.reduceat(ranks, starts, axis=0) - low
        for i in np.flatnonzero(np.isfinite(self.turn)):
            for k, rows in enumerate(groups):
                low[k, i], width[k, i] = self._arc(i, np.unique(self.points[rows, i]))
        return low, width

    def _arc(self, i: np.int64, ranks: NDArray[np.int64]) -> tuple[np.int64, np.int64]:
        """The shortest arc within tolerance that begins at one of sorted ranks and holds all."""
        widths = (np.roll(ranks, 1) - ranks) % self.size[i]
        sides = np.roll(self.place[i, ranks], 1) - self.place[i, ranks]
        sides[sides < 0] += self.turn[i]
        best = np.argmin(np.where(widths <= self.reach[i, ranks], sides, np.inf))
        return ranks[best], widths[best]

    def join(
        self,
        low: NDArray[np.int64],
        width: NDArray[np.int64],
        other_low: NDArray[np.int64],
        other_width: NDArray[np.int64] | int,
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        """Boxes (..., p) around boxes and others, and by how much they grow: inf if too wide."""
        every = np.arange(len(self.size))
        up = np.maximum(width, (other_low - low) % self.size + other_width)
        down = np.maximum(other_width, (low - other_low) % self.size + width)
        up_fits, down_fits = up <= self.reach[every, low], down <= self.reach[every, other_low]
        new_low, new_width = np.where(up_fits, low, other_low), np.where(up_fits, up, down)
        growth = self.spread(new_low, new_width) - self.spread(low, width)
        return new_low, new_width, np.where((up_fits | down_fits).all(axis=-1), growth, np.inf)

    def place_for(
        self,
        point: NDArray[np.int64],
        low: NDArray[np.int64],
        width: NDArray[np.int64],
        closed: NDArray[np.bool_],
    ) -> tuple[int, NDArray[np.int64], NDArray[np.int64]] | None:
        """The box that grows least to hold a point, and what it becomes.

        None if it fits into none but the closed ones.
        """
        # One feature first: with thousands of boxes, few are left for the others.
        size, reach = self.size[0], self.reach[0]
        fits = np.maximum(width[:, 0], (point[0] - low[:, 0]) % size) <= reach[low[:, 0]]
        fits |= (low[:, 0] - point[0]) % size + width[:, 0] <= reach[point[0]]
        near = np.flatnonzero(fits & ~closed)
        if not len(near):
            return None
        new_low, new_width, growth = self.join(low[near], width[near], point, 0)
        best = np.argmin(growth)
        if growth[best] == np.inf:
            return None
        return int(near[best]), new_low[best], new_width[best]

    def neighbours(
        self, k: int, low: NDArray[np.int64], width: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Boxes that may have room for a part of box k; the others have none."""
        every = np.arange(len(self.size))
        high = (low[k] + width[k]) % self.size
        near = (low[k] - low) % self.size <= self.reach[every, low]
        near |= (low - low[k]) % self.size <= width[k]
        near |= (low + width - high) % self.size <= self.reach[every, high]
        near[k] = False
        return np.flatnonzero(near.all(axis=1))

    def total(self, labels: NDArray[np.int64]) -> tuple[int, float]:
        """Number of groups and sum of their spreads: the less, the better."""
        groups = members_of(labels)
        return len(groups), float(self.spread(*self.boxes(groups)).sum())


def members_of(labels: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Rows of each group, in order of the labels."""
    _, counts = np.unique(labels, return_counts=True)
    return np.split(np.argsort(labels, kind="stable"), np.cumsum(counts)[:-1])


def sweep(space: Space, order: NDArray[np.int64], backwards: bool) -> NDArray[np.int64]:
    """Groups one after the other, each around the outermost free point along the first feature.

    Feature by feature, the range around that point that holds most free points becomes the group's.
    """
    labels = np.full(len(space.points), UNASSIGNED)
    seeds = np.lexsort(space.points.T[order[::-1]])
    for seed in seeds[::-1] if backwards else seeds:
        if labels[seed] != UNASSIGNED:
            continue
        rows = np.flatnonzero(labels == UNASSIGNED)
        for i in order:
            rows = rows[_fullest(space, i, space.points[rows, i], space.points[seed, i])]
        labels[rows] = labels.max() + 1
    return labels


def _fullest(space: Space, i: int, ranks: NDArray[np.int64], seed: np.int64) -> NDArray[np.bool_]:
    """Which ranks are in the range that holds the seed and most of them."""
    size, reach = space.size[i], space.reach[i]
    behind = (seed - ranks) % size
    begins = behind <= reach[ranks]
    ahead = np.sort(np.where(begins, -behind, (ranks - seed) % size))
    starts = np.unique(-behind[begins])
    lows = (seed + starts) % size
    counts = np.searchsorted(ahead, starts + reach[lows], "right") - np.searchsorted(ahead, starts)
    low = lows[np.argmax(counts)]
    return (ranks - low) % size <= reach[low]


def dissolve(space: Space, labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Share out the points of a group among the others, the smallest first, while that works."""
    labels = np.unique(labels, return_inverse=True)[1]
    groups = members_of(labels)
    low, width = space.boxes(groups)
    closed = np.zeros(len(groups), dtype=bool)
    shared = True
    while shared:
        shared = False
        sizes = np.bincount(labels, minlength=len(groups))
        for k in np.flatnonzero(~closed)[np.argsort(sizes[~closed], kind="stable")]:
            rows = np.flatnonzero(labels == k)
            closed[k] = True
            joined = let_join(space, rows, low, width, closed, all_or_none=True)
            closed[k] = joined is not None
            if joined is not None:
                labels[rows], low, width = joined
                shared = True
    return labels


def let_join(
    space: Space,
    rows: NDArray[np.int64],
    low: NDArray[np.int64],
    width: NDArray[np.int64],
    closed: NDArray[np.bool_],
    all_or_none: bool = False,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]] | None:
    """Let points join the box that grows least, and all that are then in it as well.

    Boxes of each point, -1 for those that fit nowhere, and what the boxes become; None if all must
    find a place and one does not.
    """
    labels = np.full(len(rows), UNASSIGNED)
    low, width = low.copy(), width.copy()
    # Points far from each other first: boxes get wide, and failures show, in few steps.
    left = np.argsort(np.arange(len(rows)) * _GOLDEN_RATIO % 1)
    while len(left):
        found = space.place_for(space.points[rows[left[0]]], low, width, closed)
        if found is None:
            if all_or_none:
                return None
            left = left[1:]
            continue
        k, low[k], width[k] = found
        inside = ((space.points[rows[left]] - low[k]) % space.size <= width[k]).all(axis=1)
        labels[left[inside]] = k
        left = left[~inside]
    return labels, low, width


def polish(space: Space, labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Move what lies beyond a gap in a group to another group, while that makes spreads smaller."""
    labels = np.unique(labels, return_inverse=True)[1]
    low, width = space.boxes(members_of(labels))
    changed = True
    while changed:
        changed = False
        for k in range(len(low)):
            while move := _best_move(space, np.flatnonzero(labels == k), k, low, width):
                rows, target = move
                labels[rows] = target
                both = [k, target]
                low[both], width[both] = space.boxes([np.flatnonzero(labels == g) for g in both])
                changed = True
    return labels


def _best_move(
    space: Space,
    rows: NDArray[np.int64],
    k: int,
    low: NDArray[np.int64],
    width: NDArray[np.int64],
) -> tuple[NDArray[np.int64], int] | None:
    """Which points of a group to move where, to make the sum of spreads smallest; None if none."""
    near = space.neighbours(k, low, width)
    if not len(near):
        return None
    before = space.spread(low[k], width[k])
    offsets = (space.points[rows] - low[k]) % space.size
    # Not for rounding errors, which could go on for ever.
    best, move = EVENNESS, None
    for i in range(len(space.size)):
        order = np.argsort(offsets[:, i], kind="stable")
        places = space.place[i, space.points[rows[order], i]]
        gaps = np.diff(places)
        gaps[gaps < 0] += space.turn[i]
        cuts = 1 + np.argsort(-gaps, kind="stable")[: min(_MAX_GAPS, np.count_nonzero(gaps))]
        if not len(cuts):
            continue
        head, tail = _boxes_beside(offsets[order], cuts)
        for part, rest, first in ((head, tail, True), (tail, head, False)):
            part_low = (low[k] + part[0]) % space.size
            growth = space.join(low[near], width[near], part_low[:, None], part[1][:, None])[2]
            after = space.spread((low[k] + rest[0]) % space.size, rest[1])
            gain = before - after[:, None] - growth
            cut, target = np.unravel_index(np.argmax(gain), gain.shape)
            if gain[cut, target] > best:
                best = gain[cut, target]
                moved = order[: cuts[cut]] if first else order[cuts[cut] :]
                move = rows[moved], int(near[target])
    return move


def _boxes_beside(
    offsets: NDArray[np.int64], cuts: NDArray[np.int64]
) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Boxes, relative to that of the group, of the points before and from each cut on."""
    boxes = []
    for points, at in ((offsets, cuts - 1), (offsets[::-1], len(offsets) - 1 - cuts)):
        low = np.minimum.accumulate(points)[at]
        boxes.append((low, np.maximum.accumulate(points)[at] - low))
    return boxes
