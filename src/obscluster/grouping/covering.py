"""The fewest boxes that cover points: sweeps first, then an integer linear programme.

What `obscluster.grouping.spread` uses; it has what a user calls.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from obscluster.grouping import UNASSIGNED
from obscluster.grouping.boxes import Space, dissolve, let_join, members_of, polish, sweep
from obscluster.grouping.intervals import Axis

__all__ = ["cover_points"]

# Of an exact search: boxes times points, and nodes of the search tree.
_MAX_CELLS = 1_000_000
_MAX_NODES = 30
# Points added to it at a time, and how often.
_MORE_POINTS = 40
_MAX_ROUNDS = 10


def cover_points(axes: Sequence[Axis]) -> NDArray[np.int64]:
    """Group of each row: few groups of several features; see `fewest_groups`."""
    ranks = np.column_stack([axis.rank for axis in axes])
    points, inverse = np.unique(ranks, axis=0, return_inverse=True)
    n_values = max(len(axis.reach) for axis in axes)
    space = Space(
        points=points,
        reach=np.array([np.resize(axis.reach, n_values) for axis in axes]),
        place=np.array([np.resize(axis.place, n_values) for axis in axes]),
        size=np.array([axis.size for axis in axes]),
        turn=np.array([axis.turn for axis in axes]),
    )
    features = np.arange(len(axes))
    found = [
        dissolve(space, sweep(space, np.roll(features, -i), backwards))
        for i in features
        for backwards in (False, True)
    ]
    best = _refine(space, min(found, key=space.total))
    return polish(space, best)[inverse]


def _refine(space: Space, best: NDArray[np.int64]) -> NDArray[np.int64]:
    """Fewer groups: solve for some points, let the others join, add those that cannot, repeat.

    The fewest groups of some of the points are a lower bound for all. So the result is proven to be
    the best one as soon as all points fit in, or that bound is reached.
    """
    some = _outermost(space, best)
    for _ in range(_MAX_ROUNDS):
        n_groups = len(members_of(best))
        # It takes two at least: features of which all values fit together are not among these.
        solved = _exact(space.part(some)) if n_groups > 2 else None
        if solved is None or len(members_of(solved)) >= n_groups:
            break
        labels = _grow(space, some, polish(space.part(some), solved))
        left = np.flatnonzero(labels == UNASSIGNED)
        if len(left):
            rest = sweep(space.part(left), np.arange(len(space.size)), backwards=False)
            labels[left] = labels.max() + 1 + rest
            labels = dissolve(space, labels)
        best = min(best, labels, key=space.total)
        if not len(left):
            break
        chosen = np.linspace(0, len(left) - 1, min(_MORE_POINTS, len(left))).astype(int)
        some = np.union1d(some, left[chosen])
    return best


def _outermost(space: Space, labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Points that make the boxes of groups as wide as they are."""
    groups = members_of(labels)
    found = []
    for rows, low, width in zip(groups, *space.boxes(groups), strict=True):
        from_low = (space.points[rows] - low) % space.size
        found += [rows[from_low.argmin(axis=0)], rows[(from_low == width).argmax(axis=0)]]
    return np.unique(found)


def _grow(space: Space, some: NDArray[np.int64], solved: NDArray[np.int64]) -> NDArray[np.int64]:
    """Let all points join the groups of some; -1 for those that fit nowhere."""
    labels = np.full(len(space.points), UNASSIGNED)
    groups = members_of(solved)
    for k, rows in enumerate(groups):
        labels[some[rows]] = k
    others = np.flatnonzero(labels == UNASSIGNED)
    low, width = space.boxes([some[rows] for rows in groups])
    joined = let_join(space, others, low, width, np.zeros(len(groups), dtype=bool))
    if joined is not None:
        labels[others] = joined[0]
    return labels


def _exact(space: Space) -> NDArray[np.int64] | None:
    """The fewest groups as an integer linear programme; None if that is too much work."""
    # Loaded when there is need: it takes longer than many a grouping.
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import csr_array

    boxes = _possible_boxes(space)
    if boxes is None:
        return None
    solution = milp(
        np.ones(len(boxes)),
        constraints=LinearConstraint(csr_array(boxes.T.astype(float)), 1, np.inf),
        integrality=np.ones(len(boxes), dtype=np.int64),
        bounds=Bounds(0, 1),
        # A limit in seconds would make results depend on the computer.
        options={"node_limit": _MAX_NODES},
    )
    if solution.status != 0:
        return None
    chosen = boxes[solution.x > 0.5]
    # A point in several boxes goes to the fullest.
    chosen = chosen[np.argsort(-chosen.sum(axis=1), kind="stable")]
    return chosen.argmax(axis=0)


def _possible_boxes(space: Space) -> NDArray[np.bool_] | None:
    """Which points (n_boxes, n) can be a group; subsets left out as far as they are seen."""
    n_points = len(space.points)
    found = [np.arange(n_points)]
    for i, size in enumerate(space.size):
        narrower: dict[bytes, NDArray[np.int64]] = {}
        for rows in found:
            ranks = space.points[rows, i]
            seen = np.zeros(len(rows), dtype=bool)
            for start in np.unique(ranks):
                inside = (ranks - start) % size <= space.reach[i, start]
                if (inside & ~seen).any():
                    narrower[rows[inside].tobytes()] = rows[inside]
                seen = inside
            if len(narrower) * n_points > _MAX_CELLS:
                return None
        found = list(narrower.values())
    boxes = np.zeros((len(found), n_points), dtype=bool)
    for box, rows in zip(boxes, found, strict=True):
        box[rows] = True
    return boxes
