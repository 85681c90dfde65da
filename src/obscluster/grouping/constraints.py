"""What groups must keep to, whatever the method.

==================  ============================================================================
constraint          function
==================  ============================================================================
never mix values    `group_within`: the method runs in each part by itself
hold enough         `hold_minimum`: groups that fall short are merged into the nearest one, or
                    given up
vary little         `obscluster.grouping.spread`
one stretch of time `obscluster.grouping.epochs`
==================  ============================================================================
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from obscluster.exceptions import RequestError
from obscluster.grouping.base import Grouping
from obscluster.grouping.cuts import categories_of
from obscluster.grouping.rules import UNASSIGNED, Cells, Nested, Rule
from obscluster.grouping.trees import join_trees

__all__ = ["Minimum", "group_within", "hold_minimum", "pointing_names", "pointing_positions"]

# Positions are told apart by wobble offsets of 0.4 deg and more; tracking scatters by far less.
_SAME = 0.1


def pointing_positions(
    ra: NDArray[np.float64], dec: NDArray[np.float64], radius: float = _SAME
) -> NDArray[np.int64]:
    """Number of the pointing position of each run.

    Positions that are closer than the radius are one, also through others in between.

    Parameters
    ----------
    ra, dec : `~numpy.ndarray`
        Pointing in degrees, shape (n_obs,); NaN where it is not known.
    radius : float
        In degrees.

    Returns
    -------
    positions : `~numpy.ndarray`
        From 0 in the order of declination; -1 where the pointing is not known. Shape (n_obs,).
    """
    positions = np.full(len(ra), -1, dtype=np.int64)
    known = np.isfinite(ra) & np.isfinite(dec)
    if not known.any():
        return positions
    # Many runs have the same pointing, but for digits that do not matter.
    places, which = np.unique(
        np.round(np.column_stack([dec[known], np.mod(ra[known], 360)]), 3),
        axis=0,
        return_inverse=True,
    )
    lat, lon = np.radians(places).T
    vectors = np.column_stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)])
    chord = 2 * np.sin(0.5 * np.radians(radius))
    pairs = cKDTree(vectors).query_pairs(chord, output_type="ndarray")
    n = len(places)
    graph = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(n, n))
    _, component = connected_components(graph, directed=False)
    # Numbered in the order of the places, whatever the search found first.
    first = np.unique(component, return_index=True)[1]
    rank = np.argsort(np.argsort(first))
    positions[known] = rank[component][which.reshape(-1)]
    return positions


def pointing_names(ra: NDArray[np.float64], dec: NDArray[np.float64]) -> NDArray[np.str_]:
    """Pointing position of each run in words, that of the first run there, shape (n_obs,).

    Parameters
    ----------
    ra, dec
        See `pointing_positions`.
    """
    positions = pointing_positions(ra, dec)
    names = {-1: "an unknown position"}
    for row, position in enumerate(positions.tolist()):
        names.setdefault(position, f"RA {np.mod(ra[row], 360):.2f}, Dec {dec[row]:.2f} deg")
    return np.array([names[position] for position in positions.tolist()], dtype=str)


Array = NDArray[np.float64]
Labels = NDArray[np.int64]


def group_within(
    runs: Table, columns: Sequence[str], group: Callable[[Table], Grouping]
) -> Grouping:
    """Group the runs of each epoch, telescope pattern, ... by themselves.

    Parameters
    ----------
    runs : `~astropy.table.Table`
        Runs with ``obs_id``, the columns, and what the method needs.
    columns : sequence of str
        Groups never mix values of these.
    group : callable
        ``group(runs) -> Grouping``, called for the runs of each combination of values.

    Returns
    -------
    grouping : `~obscluster.grouping.base.Grouping`
        Groups in the order of the values. The tree, if all parts have one, joins theirs above all
        other merges.
    """
    axes = tuple(categories_of(runs, column) for column in columns)
    cells, missing = Cells(axes, {}).cells(runs)
    complete = (cells != UNASSIGNED).all(axis=1)
    if not complete.any():
        raise RequestError(f"no run has a value in all of {', '.join(columns)}")
    found, part = np.unique(cells[complete], axis=0, return_inverse=True)
    obs_ids = np.asarray(runs["obs_id"], dtype=np.int64)
    labels = np.full(len(runs), UNASSIGNED, dtype=np.int64)
    reasons = {int(i): missing[row] for row, i in enumerate(obs_ids) if not complete[row]}
    names: dict[int, str] = {}
    remarks: list[str] = []
    inner: dict[int, Rule] = {}
    trees: list[tuple[Array, NDArray[np.int64]]] | None = []
    problems: list[str] = []
    parameters: dict[str, object] = {}
    n_groups = 0
    for number, cell in enumerate(found.tolist(), start=1):
        rows = np.flatnonzero(complete)[part.reshape(-1) == number - 1]
        where = ", ".join(axis.name_of(k) for axis, k in zip(axes, cell, strict=True))
        try:
            result = group(runs[rows])
        except RequestError as error:
            # One part that cannot be grouped does not stop the others.
            problems.append(f"{where}: {error}")
            reasons |= dict.fromkeys(obs_ids[rows].tolist(), f"{where}: {error}")
            continue
        parameters = dict(result.parameters)
        shift = {k: k + n_groups for k in range(1, result.n_groups + 1)}
        labels[rows] = [shift.get(k, UNASSIGNED) for k in result.labels.tolist()]
        for k, new in shift.items():
            inside = result.names.get(k, str(k)) if len(shift) > 1 or k in result.names else ""
            names[new] = "_".join(
                filter(None, [re.sub(r"[^A-Za-z0-9.+-]+", "-", where).strip("-"), inside])
            )
        remarks += [f"{where}: {remark}" for remark in result.remarks]
        reasons |= result.reasons
        if result.rule is not None:
            inner[number] = result.rule.relabelled(shift)
        if result.linkage is None:
            trees = None
        elif trees is not None:
            trees.append((np.asarray(result.linkage), rows[result.labels != UNASSIGNED]))
        n_groups += len(shift)
    if n_groups == 0:
        raise RequestError("; ".join(problems))
    outer = Cells(axes, {tuple(cell): k for k, cell in enumerate(found.tolist(), start=1)})
    return Grouping(
        obs_ids,
        labels,
        None if trees is None else join_trees(trees),
        {**parameters, "within": list(columns)},
        names,
        Nested(outer, inner),
        reasons,
        [*remarks, *problems],
    )


@dataclass(frozen=True, eq=False)
class Minimum:
    """What every group must hold.

    Parameters
    ----------
    name : str
        What is counted, with its unit: "h", "runs".
    amounts : `~numpy.ndarray`
        Of each run, shape (n_obs,).
    value : float
        The least sum.
    """

    name: str
    amounts: Array
    value: float

    def text(self, value: float) -> str:
        """An amount in words."""
        return f"{value:.4g} {self.name}"


def hold_minimum(
    grouping: Grouping,
    X: Array,
    minima: Sequence[Minimum],
    short: str = "merge",
    pointings: NDArray[np.str_] | None = None,
    may_merge: Callable[[NDArray[np.bool_]], bool] | None = None,
    times: Array | None = None,
) -> Grouping:
    """Merge groups that hold too little into the nearest one, or give them up.

    The group that falls short most goes first, into the group whose centre is nearest.

    Parameters
    ----------
    grouping : `~obscluster.grouping.base.Grouping`
        The groups.
    X : `~numpy.ndarray`
        Where the runs lie, shape (n_obs, n_dimensions).
    minima : sequence of `Minimum`
        All must be held.
    short : {"merge", "unassign"}
        What becomes of a group that falls short.
    pointings : `~numpy.ndarray` of str, optional
        Pointing position of each run in words: the minimum then holds for each position that a
        group has, shape (n_obs,).
    may_merge : callable, optional
        Whether the runs that are True may be one group.
    times : `~numpy.ndarray`, optional
        With these, only groups that follow each other merge, shape (n_obs,).

    Returns
    -------
    grouping : `~obscluster.grouping.base.Grouping`
        With remarks on what was done.

    Raises
    ------
    RequestError
        If no group can hold the minimum.
    """
    labels = grouping.labels
    place = np.full(len(labels), "") if pointings is None else pointings
    if short == "merge":
        _check_reachable(labels, minima, place, pointings is not None)
    target = {k: k for k in range(1, grouping.n_groups + 1)}
    remarks: list[str] = []
    while True:
        members = {
            k: np.isin(labels, [old for old, new in target.items() if new == k])
            for k in sorted({new for new in target.values() if new != UNASSIGNED})
        }
        lacking = {
            k: worst
            for k, inside in members.items()
            if (worst := _worst(inside, minima, place))[0] < 1 - 1e-12
        }
        if not lacking:
            break
        label = min(lacking, key=lambda k: (lacking[k][0], k))
        text = f"of {grouping.n_groups} groups found, number {label} ({lacking[label][1]})"
        other = None
        if short == "merge":
            other = _nearest_group(label, members, X, may_merge, times)
        for old, new in list(target.items()):
            if new == label:
                target[old] = UNASSIGNED if other is None else min(label, other)
            elif new == other and other is not None:
                target[old] = min(label, other)
        if other is None:
            why = "given up" if short == "unassign" else "given up: no other group may take it"
            remarks.append(f"{text} is {why}")
        else:
            remarks.append(f"{text} is merged with number {other}, the nearest")
    if all(new == UNASSIGNED for new in target.values()):
        asked = " and ".join(m.text(m.value) for m in minima)
        raise RequestError(
            f"no group holds {asked}: {'; '.join(remarks[:3])}; ask for less, or for fewer groups"
        )
    asked = " and ".join(m.text(m.value) for m in minima)
    each = " per pointing position" if pointings is not None else ""
    return grouping.relabelled(target, f"its group holds less than {asked}{each}", remarks)


def _worst(
    inside: NDArray[np.bool_], minima: Sequence[Minimum], place: NDArray[np.str_]
) -> tuple[float, str]:
    """Smallest part of a minimum that a group holds, and what it holds."""
    worst = (np.inf, "")
    for minimum in minima:
        for position in np.unique(place[inside]).tolist():
            held = float(np.nansum(minimum.amounts[inside & (place == position)]))
            part = held / minimum.value
            if part < worst[0]:
                text = f"{held:.4g} of {minimum.text(minimum.value)}"
                worst = (part, f"{text} at {position}" if position else text)
    return worst


def _check_reachable(
    labels: Labels, minima: Sequence[Minimum], place: NDArray[np.str_], per_pointing: bool
) -> None:
    """Raise if all runs together are not enough."""
    assigned = labels != UNASSIGNED
    for minimum in minima:
        for position in np.unique(place[assigned]).tolist():
            inside = assigned & (place == position)
            held = float(np.nansum(minimum.amounts[inside]))
            if held < minimum.value * (1 - 1e-12):
                each = " per pointing position" if per_pointing else ""
                n_runs = f"{inside.sum()} run{'s' if inside.sum() != 1 else ''}"
                where = f"the {n_runs} at {position}" if per_pointing else f"all {n_runs}"
                raise RequestError(
                    f"each group is to hold {minimum.text(minimum.value)}{each}, but {where} have "
                    f"{minimum.text(held)} together; ask for less"
                )


def _nearest_group(
    label: int,
    members: dict[int, NDArray[np.bool_]],
    X: Array,
    may_merge: Callable[[NDArray[np.bool_]], bool] | None,
    times: Array | None,
) -> int | None:
    """The group whose centre is nearest and that may be merged with; None if there is none."""
    others = [k for k in members if k != label]
    if times is not None:
        order = sorted(members, key=lambda k: float(np.nanmin(times[members[k]])))
        place = order.index(label)
        others = [order[i] for i in (place - 1, place + 1) if 0 <= i < len(order)]
    if may_merge is not None:
        others = [k for k in others if may_merge(members[k] | members[label])]
    center = X[members[label]].mean(axis=0)
    distance = {k: float(np.linalg.norm(X[members[k]].mean(axis=0) - center)) for k in others}
    return min(others, key=lambda k: (distance[k], k)) if others else None
