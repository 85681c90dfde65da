"""Any method, under any constraints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from astropy import units as u
from astropy.table import Table
from numpy.typing import NDArray

from obscluster.exceptions import RequestError
from obscluster.features.scaling import feature_matrix, period_of, scale_features
from obscluster.grouping.base import Grouping
from obscluster.grouping.constraints import Minimum, group_within, hold_minimum, pointing_names
from obscluster.grouping.epochs import contiguous_stretches
from obscluster.grouping.method import (
    TIME,
    ConstraintsConfig,
    Method,
    MethodConfig,
    Request,
    matching_columns,
    times_of,
    tolerances_of,
)
from obscluster.grouping.rules import UNASSIGNED, Bins, Cells, NearestRun, Nested, Rule, column_of
from obscluster.grouping.spread import split_groups, within_tolerance
from obscluster.values.columns import numbers
from obscluster.values.tolerance import Tolerance, minimum_hours

__all__ = ["group_constrained"]

Array = NDArray[np.float64]
Labels = NDArray[np.int64]

_DEFAULT_N = 2


def group_constrained(request: Request, config: MethodConfig) -> Grouping:
    """Group runs by a method, under the constraints of the request.

    Parameters
    ----------
    request : `~obscluster.grouping.method.Request`
        The runs, and what is asked.
    config : `~obscluster.grouping.method.MethodConfig`
        The method.

    Returns
    -------
    grouping : `~obscluster.grouping.base.Grouping`
        The groups; ``remarks`` say what constraints did.

    Raises
    ------
    RequestError
        If a name or value is not usable, or the constraints cannot be met.
    """
    runs, asked = request.runs, request.constraints
    method = config.prepare(request)
    number = getattr(config, "n_groups", None)
    number = _DEFAULT_N if method.numbered and number is None else number

    def group(part: Table) -> Grouping:
        # Groups of runs that may mix.
        tolerances = tolerances_of(part, asked)
        times = times_of(part) if asked.contiguous else None
        if method.numbered and tolerances:
            grouping = _fewest(part, method, tolerances, asked)
        elif method.numbered:
            n_complete = int(np.isfinite(method.positions(part)).all(axis=1).sum())
            limit = max(min(number or 1, n_complete), 1) if asked.within else number
            grouping = method.group(part, limit)
        else:
            grouping = method.group(part, None)
            if tolerances:
                grouping = _split(part, grouping, tolerances, asked)
        if times is not None and not method.in_time:
            stretches = contiguous_stretches(grouping.labels, times)
            text = f"{grouping.n_groups} groups are {stretches.max()} stretches of time"
            grouping = replace(
                grouping,
                labels=stretches,
                names={},
                linkage=None,
                remarks=[*grouping.remarks, text],
            )
        in_an_epoch = grouping.labels != UNASSIGNED
        if asked.min_livetime is not None or asked.min_runs is not None:
            grouping = _hold(part, grouping, method, asked, tolerances, times)
        return grouping if times is None else _by_time(grouping, times, in_an_epoch)

    if method.constrained:
        return method.group(runs, number)
    lacking = _lacking(runs, asked)
    complete = runs[[int(i) not in lacking for i in runs["obs_id"]]] if lacking else runs
    if not len(complete):
        raise RequestError(f"no run has all of {', '.join(asked.max_spread)}")
    result = group_within(complete, asked.within, group) if asked.within else group(complete)
    if lacking:
        # Those that were left out are in no group.
        obs_ids = np.asarray(runs["obs_id"], dtype=np.int64)
        labels, reasons = result.label_of(obs_ids), {**result.reasons, **lacking}
        result = replace(result, obs_ids=obs_ids, labels=labels, reasons=reasons)
    given = asked.model_dump(exclude_defaults=True)
    return replace(
        result, parameters={**result.parameters, **({"constraints": given} if given else {})}
    )


def _lacking(runs: Table, asked: ConstraintsConfig) -> dict[int, str]:
    """Runs without a value whose spread is limited: they are in no group, and why."""
    lacking: dict[int, str] = {}
    for name in matching_columns(asked.max_spread, runs.colnames):
        for row in np.flatnonzero(~np.isfinite(numbers(runs[name]))):
            lacking[int(runs["obs_id"][row])] = f"no {name}"
    return lacking


def _fewest(
    runs: Table, method: Method, tolerances: Mapping[str, Tolerance], asked: ConstraintsConfig
) -> Grouping:
    """The fewest groups of a method that keep to the tolerances."""
    complete = np.isfinite(method.positions(runs)).all(axis=1)
    n_runs = max(int(complete.sum()), 1)

    def keeps(grouping: Grouping) -> bool:
        members = (grouping.labels == k for k in range(1, grouping.n_groups + 1))
        return all(_within_tolerances(runs, inside, tolerances) for inside in members)

    if method.nested:
        # More groups are parts of fewer, so that the right number can be bracketed.
        low, high = 1, n_runs
        while low < high:
            middle = (low + high) // 2
            if keeps(method.group(runs, middle)):
                high = middle
            else:
                low = middle + 1
        return method.group(runs, low)
    for n_groups in range(1, n_runs + 1):
        grouping = method.group(runs, n_groups)
        if keeps(grouping):
            return grouping
    return _split(runs, grouping, tolerances, asked)


def _split(
    runs: Table, grouping: Grouping, tolerances: Mapping[str, Tolerance], asked: ConstraintsConfig
) -> Grouping:
    """Divide the groups that vary too much into the fewest parts."""
    values = np.column_stack([numbers(runs[name]) for name in tolerances])
    periods = [period_of(name, runs[name]) for name in tolerances]
    labels = split_groups(
        grouping.labels, values, list(tolerances.values()), periods, list(tolerances)
    )
    if np.array_equal(labels, grouping.labels):
        return grouping
    old = {new: int(grouping.labels[labels == new][0]) for new in range(1, labels.max() + 1)}
    parts: dict[int, int] = {}
    names = {}
    for new, label in old.items():
        parts[label] = parts.get(label, 0) + 1
        whole = list(old.values()).count(label) == 1
        if label in grouping.names:
            suffix = "" if whole else f"_{parts[label]}"
            names[new] = f"{grouping.names[label]}{suffix}"
    return replace(
        grouping,
        labels=labels,
        linkage=None,
        names=names,
        rule=_rule_of_parts(runs, grouping, labels, asked),
        remarks=[
            *grouping.remarks,
            f"{grouping.n_groups} groups are split into {labels.max()} to keep to the tolerances",
        ],
    )


def _rule_of_parts(
    runs: Table, whole: Grouping, labels: Labels, asked: ConstraintsConfig
) -> Rule | None:
    """First the rule of the whole groups, then the most similar run, in units of tolerances."""
    if whole.rule is None:
        return None
    tolerances = matching_columns(asked.max_spread, runs.colnames)
    scaled = scale_features(runs[["obs_id", *tolerances]], "tolerance", tolerances)
    X, names = feature_matrix(scaled)
    inner: dict[int, Rule] = {}
    for label in range(1, whole.n_groups + 1):
        inside = whole.labels == label
        inner[label] = NearestRun.fit(
            scaled.meta["scaling"], names, X[inside], labels[inside], width=1.0
        )
    return Nested(whole.rule, inner)


def _hold(
    runs: Table,
    grouping: Grouping,
    method: Method,
    asked: ConstraintsConfig,
    tolerances: Mapping[str, Tolerance],
    times: Array | None,
) -> Grouping:
    minima = []
    if asked.min_livetime is not None:
        hours = minimum_hours(asked.min_livetime)
        name = "livetime" if "livetime" in runs.colnames else "LIVETIME"
        minima.append(Minimum("h", numbers(column_of(runs, name), u.h), hours))
    if asked.min_runs is not None:
        minima.append(Minimum("runs", np.ones(len(runs)), float(asked.min_runs)))
    pointings = None
    if asked.per_pointing:
        ra, dec = (numbers(column_of(runs, name), u.deg) for name in ("RA_PNT", "DEC_PNT"))
        pointings = pointing_names(ra, dec)
    return hold_minimum(
        grouping,
        method.positions(runs),
        minima,
        asked.short,
        pointings,
        (lambda inside: _within_tolerances(runs, inside, tolerances)) if tolerances else None,
        times,
    )


def _within_tolerances(
    runs: Table, inside: NDArray[np.bool_], tolerances: Mapping[str, Tolerance]
) -> bool:
    return all(
        within_tolerance(numbers(runs[name])[inside], tolerance, period_of(name, runs[name]))
        for name, tolerance in tolerances.items()
    )


def _by_time(grouping: Grouping, times: Array, in_an_epoch: NDArray[np.bool_]) -> Grouping:
    """Grouping whose groups are epochs: a new run belongs to the one in which it was taken.

    Epochs that were given up belong to no group.
    """
    order = np.flatnonzero(in_an_epoch)[np.argsort(times[in_an_epoch], kind="stable")]
    labels = grouping.labels[order]
    changes = np.flatnonzero(np.diff(labels))
    cuts = 0.5 * (times[order][changes] + times[order][changes + 1])
    edges = (-np.inf, *cuts.tolist(), np.inf)
    sequence = labels[np.concatenate([[0], changes + 1])]
    rule = Cells((Bins(TIME, edges, "d"),), {(i,): int(k) for i, k in enumerate(sequence)})
    return replace(grouping, rule=rule)
