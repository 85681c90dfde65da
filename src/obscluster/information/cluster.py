"""The method ``information``: groups that lose least information on a source."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from astropy import units as u
from astropy.table import Table
from numpy.typing import ArrayLike, NDArray
from pydantic import Field, model_validator

from obscluster.exceptions import ObsClusterWarning, RequestError
from obscluster.features.scaling import feature_matrix
from obscluster.grouping import UNASSIGNED
from obscluster.grouping.base import Grouping
from obscluster.grouping.cuts import categories_of
from obscluster.grouping.method import (
    Method,
    MethodConfig,
    Request,
    scaled_features,
)
from obscluster.grouping.rules import Cells, NearestRun, column_of
from obscluster.information.agglomeration import Merges, agglomerate_many, as_linkage, in_order
from obscluster.information.loss import Sums, error_inflation, information_loss, kept
from obscluster.information.refinement import Limits, best_partitions, loss_of
from obscluster.information.scores import Scores
from obscluster.values.columns import numbers
from obscluster.values.fields import Fraction
from obscluster.values.tolerance import minimum_hours

__all__ = ["InformationConfig", "cluster_by_information", "information_partitions"]

Ints = NDArray[np.int64]

# Up to so many runs, a partition may come from those with so many groups more or less.
_NEIGHBOURS = ((200, 2), (2000, 1), (np.inf, 0))
# Up to so many runs all smaller numbers of groups are tried, else those close to the tree's.
_MAX_ALL = 50
# A pre-merge that loses more than this is warned of.
_PRE_MERGE_BUDGET = 1e-4
_ROUNDING = 1e-12


class InformationConfig(MethodConfig):
    """Groups that lose least information on ``source``: a number, or the fewest within a loss."""

    method: Literal["information"] = "information"
    n_groups: Annotated[int | None, Field(ge=1)] = None
    max_loss: Fraction | None = None

    @model_validator(mode="after")
    def _one_of_two(self) -> InformationConfig:
        if (self.n_groups is None) == (self.max_loss is None):
            raise ValueError("give either n_groups or max_loss, such as 1%")
        return self

    completeness: ClassVar[Literal["all", "each", "none"]] = "none"
    resampled: ClassVar[bool] = False
    needs_scores: ClassVar[bool] = True

    @property
    def numbered(self) -> bool:
        """See `~obscluster.grouping.method.MethodConfig`."""
        return False

    def check_with(self, description: Any) -> None:
        """See `~obscluster.grouping.method.MethodConfig`."""
        constraints = description.constraints
        if description.target is None:
            raise ValueError("method information needs a target, where the source is")
        given = [n for n in ("per_pointing", "max_spread", "contiguous") if getattr(constraints, n)]
        given += ["short"] if constraints.short != "merge" else []
        if given:
            raise ValueError(
                "method information keeps to within, and to one of min_livetime and min_runs; "
                f"leave {', '.join(given)} out"
            )
        if constraints.min_livetime is not None and constraints.min_runs is not None:
            raise ValueError("method information takes min_livetime or min_runs, not both")

    def prepare(self, request: Request) -> Method:
        """See `~obscluster.grouping.method.MethodConfig`.

        New runs find their group by the features: that of the most similar run.
        """
        if request.scores is None:
            raise RequestError("method information needs the expected counts of a source (scores)")
        runs, asked = request.runs, request.constraints
        places = {obs_id: i for i, obs_id in enumerate(request.scores.obs_ids.tolist())}
        unknown = [i for i in runs["obs_id"].tolist() if i not in places]
        if unknown:
            raise RequestError(f"scores: no expected counts of run {unknown[0]}")
        scores = request.scores.select(np.array([places[i] for i in runs["obs_id"].tolist()]))
        weights, least = None, 0.0
        if asked.min_runs is not None:
            weights, least = np.ones(len(runs)), float(asked.min_runs)
        elif asked.min_livetime is not None:
            name = "livetime" if "livetime" in runs.colnames else "LIVETIME"
            weights = np.nan_to_num(numbers(column_of(runs, name), u.h))
            least = minimum_hours(asked.min_livetime)
        strata = None
        if asked.within:
            cells, _ = Cells(tuple(categories_of(runs, c) for c in asked.within), {}).cells(runs)
            strata = np.unique(cells, axis=0, return_inverse=True)[1].reshape(-1)

        def group(part: Table, _n_groups: int | None) -> Grouping:
            grouping = cluster_by_information(
                scores,
                self.n_groups,
                self.max_loss,
                within=strata,
                weights=weights,
                min_weight=least,
                fit_background=request.fit_background,
            )
            outside = zip(grouping.obs_ids.tolist(), grouping.labels, scores.notes, strict=True)
            # What the grouping loses, in a sentence.
            loss, before = (grouping.parameters[name] for name in ("loss", "pre_merge_loss"))
            groups = "1 group" if grouping.n_groups == 1 else f"{grouping.n_groups} groups"
            inflation = grouping.parameters["error_inflation"]
            text = ", ".join(f"{name} {value:.2%}" for name, value in inflation.items())
            remark = (
                f"stacking into {groups} loses {loss:.2%} of the information; errors grow: {text}"
            )
            if before > 0:
                remark += f"; at most {before:.4%} by runs merged beforehand, as there are many"
            return replace(
                grouping,
                rule=_nearest_run(request, part, grouping.labels),
                reasons={
                    obs_id: note or "its part holds less than the minimum"
                    for obs_id, label, note in outside
                    if label == UNASSIGNED
                },
                remarks=[remark],
            )

        return Method(group, lambda part: np.zeros((len(part), 0)), constrained=True)


def _nearest_run(request: Request, runs: Table, labels: Ints) -> NearestRun | None:
    """The group of the run with the most similar features; None if no run has them."""
    scaled = scaled_features(runs, request.names, request.scaling)
    X, names = feature_matrix(scaled)
    if not np.isfinite(X).all(axis=1).any():
        return None
    return NearestRun.fit(scaled.meta["scaling"], names, X, labels)


@dataclass(frozen=True)
class _Problem:
    """Runs that are grouped, in the order of their identifiers."""

    rows: Ints
    runs: Sums
    limits: Limits
    merges: Merges
    base: float
    pre_merge_loss: float

    @property
    def n_strata(self) -> int:
        return len(np.unique(self.limits.strata))

    @property
    def n_runs(self) -> int:
        return len(self.rows)

    @property
    def most_groups(self) -> int:
        """No more groups can all have the least weight."""
        least = self.limits.min_weight
        if least == 0:
            return self.n_runs
        totals = np.bincount(self.limits.strata, weights=self.limits.weights)
        return min(self.n_runs, int((totals // least).sum()))


def cluster_by_information(
    scores: Scores,
    n_groups: int | None = None,
    max_loss: float | None = None,
    within: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    min_weight: float = 0.0,
    fit_background: bool = False,
) -> Grouping:
    """Groups that lose least information.

    Parameters
    ----------
    scores : `~obscluster.information.scores.Scores`
        Counts and derivatives of the runs.
    n_groups : int, optional
        Number of groups.
    max_loss : float, optional
        Or: the fewest groups that lose at most this part of the information, such as 0.01.
    within : array_like, optional
        Runs of different values here are never in one group, shape (n_obs,).
    weights : array_like, optional
        Weight of each run, shape (n_obs,); its live time in seconds unless told.
    min_weight : float
        Least weight of a group.
    fit_background : bool
        Fit the normalisation of the background of each group, see
        `~obscluster.information.loss`.

    Returns
    -------
    grouping : `~obscluster.grouping.base.Grouping`
        Labels count from 1 in the order of the smallest identifier in each group; -1 for runs that
        could not be computed, and for those whose ``within`` is lighter than ``min_weight``
        altogether. The tree is that of the agglomeration, with the loss as height; refined groups
        may differ from each of its cuts. ``parameters`` hold the ``loss`` and the
        ``error_inflation``, and the ``pre_merge_loss`` if there were too many runs for a single
        tree: what the groups lost at most that were made before, of which the refinement leaves
        little.

    Raises
    ------
    RequestError
        If not exactly one of the two is given, or there are no such groups; the message says what
        can be had.

    Warns
    -----
    ObsClusterWarning
        If a pre-merge loses more than 0.01 %.
    """
    if (n_groups is None) == (max_loss is None):
        raise RequestError("give either n_groups or max_loss")
    problem = _prepare(scores, within, weights, min_weight, fit_background)
    if n_groups is not None:
        if not isinstance(n_groups, int | np.integer):
            raise RequestError(f"n_groups {n_groups!r}; expected a whole number")
        if not problem.n_strata <= n_groups <= problem.most_groups:
            few = f" in {problem.n_strata} parts that never mix" if problem.n_strata > 1 else ""
            least = problem.limits.min_weight
            heavy = f" of at least {least:g} each" if least > 0 else ""
            raise RequestError(
                f"{n_groups} groups{heavy} asked of {problem.n_runs} runs{few}; ask for "
                f"{problem.n_strata} to {problem.most_groups}"
            )
        reach = next(reach for most, reach in _NEIGHBOURS if problem.n_runs <= most)
        found = _partitions(problem, n_groups - reach, n_groups + reach)
        if n_groups not in found:
            possible = ", ".join(str(number) for number in found) or "fewer"
            raise RequestError(
                f"{n_groups} groups of at least {problem.limits.min_weight:g} each are not found; "
                f"ask for {possible}"
            )
        labels = found[int(n_groups)]
    else:
        labels = _within_budget(problem, float(max_loss if max_loss is not None else np.nan))
    options = {
        "n_groups": n_groups,
        "max_loss": max_loss,
        "min_weight": min_weight,
        "fit_background": fit_background,
    }
    return _grouping(scores, problem, labels, options)


def information_partitions(
    scores: Scores,
    max_groups: int | None = None,
    within: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    min_weight: float = 0.0,
    fit_background: bool = False,
) -> dict[int, Grouping]:
    """Groups that lose least information, for each number of groups.

    Parameters
    ----------
    scores, within, weights, min_weight, fit_background
        See `cluster_by_information`.
    max_groups : int, optional
        Largest number of groups; as many as there are runs unless told.

    Returns
    -------
    groupings : dict
        Number of groups to `~obscluster.grouping.base.Grouping`, without numbers that ``within``
        and ``min_weight`` forbid. The loss never rises with the number, unless backgrounds are
        fitted.
    """
    problem = _prepare(scores, within, weights, min_weight, fit_background)
    most = problem.n_runs if max_groups is None else max_groups
    if most < 1:
        raise RequestError(f"max_groups {max_groups}; expected at least 1")
    found = _partitions(problem, problem.n_strata, max(most, problem.n_strata))
    options = {"min_weight": min_weight, "fit_background": fit_background}
    return {
        number: _grouping(scores, problem, labels, {"n_groups": number, **options})
        for number, labels in found.items()
    }


def _prepare(
    scores: Scores,
    within: ArrayLike | None,
    weights: ArrayLike | None,
    min_weight: float,
    fit_background: bool,
) -> _Problem:
    """Check, order, and agglomerate."""
    n_obs = len(scores)
    strata = np.zeros(n_obs, dtype=np.int64)
    if within is not None:
        values = np.asarray(within)
        if values.shape != (n_obs,):
            raise RequestError(f"within has shape {values.shape}; expected one for each of {n_obs}")
        strata = np.unique(values, return_inverse=True)[1].astype(np.int64)
    if not 0 <= min_weight < np.inf:
        raise RequestError(f"min_weight {min_weight}; expected a number from 0")
    heaviness = _weights(scores, weights, min_weight)
    rows = np.flatnonzero(scores.usable)
    # Results must not depend on the order of the runs.
    rows = rows[np.argsort(scores.obs_ids[rows], kind="stable")]
    total = np.bincount(strata[rows], weights=heaviness[rows], minlength=n_obs)
    rows = rows[total[strata[rows]] >= min_weight]
    if len(rows) == 0:
        raise RequestError(
            f"no run can be grouped: none is computed, or all together are lighter than "
            f"{min_weight:g}"
        )
    runs = Sums.of_scores(scores.select(rows), fit_background)
    limits = Limits(strata[rows], heaviness[rows], min_weight)
    merges, pre_merge_loss = agglomerate_many(runs, strata[rows] if within is not None else None)
    if pre_merge_loss > _PRE_MERGE_BUDGET:
        text = f"{len(rows)} runs were merged in part before the tree, which loses up to"
        warnings.warn(f"{text} {pre_merge_loss:.2%}", ObsClusterWarning, stacklevel=4)
    base = max(1 - float(kept(runs).sum()), 0.0)
    return _Problem(rows, runs, limits, merges, base, pre_merge_loss)


def _weights(scores: Scores, weights: ArrayLike | None, min_weight: float) -> NDArray[np.float64]:
    values = scores.livetimes if weights is None else np.asarray(weights, dtype=float)
    if values is None or (min_weight == 0 and weights is None):
        return np.ones(len(scores))
    if values.shape != (len(scores),):
        raise RequestError(f"weights have shape {values.shape}; expected one for each run")
    if not (values[scores.usable] >= 0).all():
        raise RequestError("weights: expected numbers from 0; live times may be missing")
    return np.asarray(np.nan_to_num(values))


def _within_budget(problem: _Problem, max_loss: float) -> Ints:
    if not 0 <= max_loss <= 1:
        raise RequestError(f"max_loss {max_loss:g}; expected 0 to 1, such as 0.01")
    allowed = max_loss + _ROUNDING
    spent = np.append(problem.base, problem.base + np.cumsum(problem.merges.costs))
    # The tree alone: after so many merges it is still within the budget.
    fine = np.flatnonzero(spent[: problem.merges.n_free + 1] <= allowed)
    upper = problem.n_runs - int(fine[-1]) if len(fine) else problem.n_runs
    upper = max(upper, problem.n_strata)
    step = upper if problem.n_runs <= _MAX_ALL else max(upper // 10, 3)
    best: Ints | None = None
    least = np.inf
    while upper >= problem.n_strata:
        found, losses = _with_losses(problem, upper - step, upper)
        least = min([least, *losses.values()])
        good = [number for number, loss in losses.items() if loss <= allowed]
        if not good:
            break
        best = found[min(good)]
        if min(good) > min(found):
            break
        upper = min(good) - 1
    # With a least weight, groups are other than the tree's, and more may be needed.
    while best is None and upper < problem.most_groups:
        found, losses = _with_losses(problem, upper, upper + step)
        least = min([least, *losses.values()])
        good = [number for number, loss in losses.items() if loss <= allowed]
        best = found[min(good)] if good else None
        upper += step + 1
    if best is None:
        raise RequestError(
            f"no grouping found loses at most {max_loss:.3%}; the least that the conditions allow "
            f"is {least:.3%}"
        )
    return best


def _with_losses(
    problem: _Problem, fewest: int, most: int
) -> tuple[dict[int, Ints], dict[int, float]]:
    found = _partitions(problem, fewest, most)
    return found, {number: loss_of(problem.runs, labels) for number, labels in found.items()}


def _partitions(problem: _Problem, fewest: int, most: int) -> dict[int, Ints]:
    fewest, most = max(fewest, problem.n_strata, 1), min(most, problem.most_groups)
    return best_partitions(problem.runs, problem.merges, problem.limits, fewest, most)


def _grouping(
    scores: Scores, problem: _Problem, labels: Ints, options: Mapping[str, Any]
) -> Grouping:
    numbers = np.full(len(scores), UNASSIGNED, dtype=np.int64)
    numbers[problem.rows] = in_order(labels) + 1
    fit_background = bool(options["fit_background"])
    parameters = {
        "method": "information",
        **{name: value for name, value in options.items() if value is not None},
        "source_parameters": list(scores.names),
        "loss": information_loss(scores, numbers, fit_background),
        "error_inflation": error_inflation(scores, numbers, fit_background),
        "pre_merge_loss": problem.pre_merge_loss,
    }
    linkage = as_linkage(problem.merges, problem.base, problem.rows)
    return Grouping(scores.obs_ids, numbers, linkage, parameters)
