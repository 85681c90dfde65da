"""The fewest groups within which features vary by no more than a tolerance.

An analyst who can say "within a group, the PSF radius may differ by 15 % and the zenith angle by
5 deg" need not choose a number of groups: `fewest_groups` finds it. `split_groups` makes the groups
of another method keep to tolerances, which `obscluster.tolerance` reads.

With one feature the number of groups is the smallest possible. With several, it is that of boxes of
given sizes to cover points, for which no fast exact method is known; `fewest_groups` says what is
done, and how good it is.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from obscluster.columns import range_of
from obscluster.exceptions import RequestError
from obscluster.grouping import UNASSIGNED
from obscluster.grouping.boxes import members_of
from obscluster.grouping.covering import cover_points
from obscluster.grouping.intervals import axis_of, cover_line
from obscluster.tolerance import Tolerance

__all__ = ["fewest_groups", "split_groups", "within_tolerance"]


def within_tolerance(values: ArrayLike, tolerance: Tolerance, period: float | None = None) -> bool:
    """Whether values vary by no more than a tolerance.

    Parameters
    ----------
    values : array_like
        Numbers, shape (n,); NaN do not count.
    tolerance : Tolerance
        In the unit of the values.
    period : float, optional
        Of angles: a full turn. What counts is the shortest arc that holds all.

    Raises
    ------
    RequestError
        If the tolerance is negative, or it is relative and the values are angles or not all of one
        sign.
    """
    known = np.asarray(values, dtype=float)
    known = known[np.isfinite(known)]
    _check_meaning(known, tolerance, period, "values")
    return len(known) == 0 or bool(tolerance.allows(*range_of(known, period)))


def _check_meaning(
    values: NDArray[np.float64], tolerance: Tolerance, period: float | None, name: str
) -> None:
    if not 0 <= tolerance.value < np.inf:
        raise RequestError(f"{name}: tolerance {tolerance.value}; expected a number, 0 or more")
    if not tolerance.relative:
        return
    if period is not None:
        raise RequestError(f"{name}: angles have no relative tolerance; give an absolute one")
    if len(values) and not (values.min() > 0 or values.max() < 0):
        raise RequestError(
            f"{name}: a relative tolerance needs values of one sign, but they range from "
            f"{values.min():g} to {values.max():g}; give an absolute tolerance"
        )


def fewest_groups(
    values: ArrayLike,
    tolerances: Sequence[Tolerance],
    periods: Sequence[float | None] | None = None,
    names: Sequence[str] | None = None,
) -> NDArray[np.int64]:
    """Group runs such that features vary little within groups, in as few groups as possible.

    With one feature this is exact; if there is a choice, cuts lie in the widest gaps, which makes
    the sum of spreads the least. (On a circle this holds once the first cut is made, in the widest
    gap that allows it.)

    With several features, groups are boxes whose sides are the tolerances. Sweeps along each
    feature fill one box after the other, and boxes whose runs fit into others are dissolved. Then
    the outermost runs of these boxes are covered exactly, by an integer linear programme; runs that
    fit into none of its boxes are added to it until all do. That proves the result to be the best,
    unless the programme gets too large. Last, runs at borders move where that reduces spreads.

    Measured on 4180 sets of 8 to 200 runs with two or three features, evenly spread, correlated and
    clumped: never more groups than necessary (the sweeps alone: in 99 % of sets of 20 runs, in 66 %
    of sets of 200). With 20,000 runs and two features it takes up to 10 s; the result is mostly
    proven to be the best up to 20 groups, and with hundreds of groups the sweeps alone decide.

    Parameters
    ----------
    values : array_like
        Features, shape (n, p).
    tolerances : sequence of `~obscluster.tolerance.Tolerance`
        Of each feature, in its unit.
    periods : sequence of float or None, optional
        Of angles: a full turn. Their range is the shortest arc that holds all.
    names : sequence of str, optional
        What features are called, for messages.

    Returns
    -------
    labels : `~numpy.ndarray`
        Shape (n,), from 1 in rising order of the first feature (its smallest value in a group); -1
        where a value is missing. They do not depend on the order of the rows, and runs of equal
        values are never split.

    Raises
    ------
    RequestError
        If the numbers of features differ, a tolerance is negative, or one is relative and the
        values are angles or not all of one sign.
    """
    matrix = np.asarray(values, dtype=float)
    n_features = len(tolerances)
    turns = [None] * n_features if periods is None else list(periods)
    words = names or [f"feature {i}" for i in range(1, n_features + 1)]
    if matrix.ndim != 2 or not matrix.shape[1] == n_features == len(turns) == len(words) > 0:
        raise RequestError(
            f"values of shape {matrix.shape}, {n_features} tolerances, {len(turns)} periods, "
            f"{len(words)} names; expected (n, p), and p of each"
        )
    labels = np.full(len(matrix), UNASSIGNED, dtype=np.int64)
    rows = np.flatnonzero(np.isfinite(matrix).all(axis=1))
    if not len(rows):
        return labels
    axes = []
    for column, tolerance, turn, name in zip(matrix[rows].T, tolerances, turns, words, strict=True):
        _check_meaning(column, tolerance, turn, name)
        axes.append(axis_of(column, tolerance, turn))
    axes = [axis for axis in axes if axis.reach.max() < len(axis.reach) - 1]
    if len(axes) > 1:
        found = cover_points(axes)
    elif axes:
        found = cover_line(axes[0])[axes[0].rank]
    else:
        found = np.zeros(len(rows), dtype=np.int64)
    labels[rows] = _ordered(found, matrix[rows], turns)
    return labels


def _ordered(
    labels: NDArray[np.int64], values: NDArray[np.float64], periods: Sequence[float | None]
) -> NDArray[np.int64]:
    """Labels from 1, in order of the lower end, then the upper end, of each feature."""
    groups = members_of(labels)
    ends = [[range_of(*of) for of in zip(values[rows].T, periods, strict=True)] for rows in groups]
    ordered = np.empty(len(labels), dtype=np.int64)
    keys = np.array(ends).reshape(len(groups), -1).T
    for number, k in enumerate(np.lexsort(keys[::-1]), start=1):
        ordered[groups[k]] = number
    return ordered


def split_groups(
    labels: ArrayLike,
    values: ArrayLike,
    tolerances: Sequence[Tolerance],
    periods: Sequence[float | None] | None = None,
    names: Sequence[str] | None = None,
) -> NDArray[np.int64]:
    """Split each group that varies too much into the fewest parts, and keep the others.

    Parameters
    ----------
    labels : array_like of int
        Group of each run, shape (n,); -1 for none.
    values, tolerances, periods, names
        See `fewest_groups`.

    Returns
    -------
    labels : `~numpy.ndarray`
        Shape (n,), from 1 without gaps, in order of the old groups, and of the first feature within
        them. -1 stays -1. A run of which a value is missing becomes -1, in whatever group it is,
        since nothing says that it keeps to the tolerances.

    Raises
    ------
    RequestError
        See `fewest_groups`; what is said there of values concerns those within a group.
    """
    given, matrix = np.asarray(labels), np.asarray(values, dtype=float)
    if given.ndim != 1 or len(given) != len(matrix):
        raise RequestError(f"labels of shape {given.shape} for {len(matrix)} rows of values")
    split = np.full(len(given), UNASSIGNED, dtype=np.int64)
    n_groups = 0
    for label in np.unique(given[given != UNASSIGNED]):
        rows = np.flatnonzero(given == label)
        parts = fewest_groups(matrix[rows], tolerances, periods, names)
        split[rows] = np.where(parts == UNASSIGNED, UNASSIGNED, parts + n_groups)
        n_groups += max(0, int(parts.max()))
    return split
