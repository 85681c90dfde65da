r"""What a grouping loses: information, and the errors of the parameters.

Run i expects ``mu_ik`` counts in bin k, with the derivatives ``d_ikp`` to the parameters of
interest. Poisson counts have the Fisher information ``J_pq = sum_i sum_k d_ikp d_ikq / mu_ik`` when
the runs are kept apart. A stacked group has the sums of ``mu`` and of ``d`` over its runs, and the
same formula gives its information ``J_groups``, which is smaller:

* information loss: ``1 - tr(J^-1 J_groups) / n_params``, from 0 to 1. As information grows with
  exposure, it is the part of the observing time that the grouping throws away.
* error inflation of a parameter: ``sqrt((J_groups^-1)_pp / (J^-1)_pp) - 1``.

With ``fit_background`` the normalisation of the background is fitted, too, one for each group, and
profiled out: its row and column leave the Fisher matrix by Schur's complement. The reference is
then a single normalisation for all runs, kept apart otherwise: no grouping knows more than that,
so the loss is never negative. Runs kept apart with a normalisation each then lose something, and
merging may gain, as it saves a normalisation; without ``fit_background`` merging never gains.

Runs that belong nowhere (label -1, or not computed) are left out of both sides, unless told.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from obscluster.exceptions import RequestError, unknown_name
from obscluster.features.information.scores import Scores

__all__ = [
    "LossSummary",
    "error_inflation",
    "fisher_matrix",
    "information_loss",
    "loss_summary",
    "reference_matrix",
]

Array = NDArray[np.float64]

_UNASSIGNED = -1
_WAYS = ("excluded", "lost", "apart")
# A scaled Fisher matrix with a smaller eigenvalue does not tell the parameters apart.
_SINGULAR = 1e-13


@dataclass(frozen=True)
class LossSummary:
    """What a grouping loses.

    Parameters
    ----------
    n_groups : int
        Number of groups.
    loss : float
        Information loss, 0 to 1.
    inflation : mapping
        Parameter to relative growth of its error.
    errors : mapping
        Parameter to its expected error with the grouping; relative for the amplitude.
    livetime : float
        Live time of the runs that count, in seconds.
    n_excluded : int
        Runs that belong nowhere, or could not be computed.
    livetime_excluded : float
        Their live time in seconds, as far as it is known.
    """

    n_groups: int
    loss: float
    inflation: Mapping[str, float]
    errors: Mapping[str, float]
    livetime: float
    n_excluded: int
    livetime_excluded: float

    @property
    def lost_time(self) -> float:
        """The loss in observing time, in seconds."""
        return self.loss * self.livetime


def information_loss(
    scores: Scores,
    labels: ArrayLike,
    fit_background: bool = False,
    unassigned: str = "excluded",
) -> float:
    """Information that a grouping loses, against runs kept apart.

    Parameters
    ----------
    scores : `~obscluster.features.information.scores.Scores`
        Counts and derivatives.
    labels : array_like of int
        Group of each run, -1 for none, shape (n_obs,); from any method.
    fit_background : bool
        Fit the normalisation of the background of each group, see the module's text.
    unassigned : {"excluded", "lost", "apart"}
        Runs with label -1 are left out of both sides; or are lost; or are kept as they are, each
        in a group of its own.

    Returns
    -------
    loss : float
        From 0 to 1.

    Raises
    ------
    RequestError
        If there is not one label per run, no run belongs to a group, or the counts do not tell the
        parameters.
    """
    apart, groups = _matrices(scores, labels, fit_background, unassigned)
    scale = 1 / np.sqrt(np.diag(apart))
    kept = np.linalg.solve(apart * np.outer(scale, scale), groups * np.outer(scale, scale))
    # The rounding of a loss of zero must not make it negative.
    return float(np.clip(1 - np.trace(kept) / len(apart), 0.0, 1.0))


def error_inflation(
    scores: Scores,
    labels: ArrayLike,
    fit_background: bool = False,
    unassigned: str = "excluded",
) -> dict[str, float]:
    """Relative growth of the error of each parameter, against runs kept apart.

    Parameters
    ----------
    scores, labels, fit_background, unassigned
        See `information_loss`.

    Returns
    -------
    inflation : dict
        Parameter to growth, 0.05 for an error that is 5 % larger; infinite where the grouping
        loses all information.
    """
    apart, groups = _matrices(scores, labels, fit_background, unassigned)
    ratio = _variances(groups) / _variances(apart)
    growth = np.maximum(np.sqrt(ratio) - 1, 0.0)
    return dict(zip(scores.names, growth.tolist(), strict=True))


def loss_summary(
    scores: Scores,
    labels: ArrayLike,
    fit_background: bool = False,
    unassigned: str = "excluded",
) -> LossSummary:
    """Everything that a grouping loses.

    Parameters
    ----------
    scores, labels, fit_background, unassigned
        See `information_loss`.

    Returns
    -------
    summary : `LossSummary`
        Loss, inflation, errors and what was left out.
    """
    numbers = _as_labels(scores, labels)
    counted = scores.usable & (numbers != _UNASSIGNED)
    _, groups = _matrices(scores, numbers, fit_background, unassigned)
    errors = np.sqrt(_variances(groups))
    livetimes = np.nan_to_num(_livetimes(scores))
    return LossSummary(
        len(np.unique(numbers[counted])),
        information_loss(scores, numbers, fit_background, unassigned),
        error_inflation(scores, numbers, fit_background, unassigned),
        dict(zip(scores.names, errors.tolist(), strict=True)),
        float(livetimes[counted].sum()),
        int((~counted).sum()),
        float(livetimes[~counted].sum()),
    )


def fisher_matrix(
    scores: Scores, labels: ArrayLike | None = None, fit_background: bool = False
) -> Array:
    """Fisher information on the parameters.

    Parameters
    ----------
    scores : `~obscluster.features.information.scores.Scores`
        Counts and derivatives.
    labels : array_like of int, optional
        Group of each run, -1 for none; runs kept apart unless told.
    fit_background : bool
        With the normalisation of the background of each group profiled out.

    Returns
    -------
    information : `~numpy.ndarray`
        Shape (n_params, n_params); its inverse is the covariance that a fit will have. Of the
        amplitude it is that of its logarithm.
    """
    rows = scores.usable
    numbers = np.arange(len(scores)) if labels is None else _as_labels(scores, labels)
    rows = rows & (numbers != _UNASSIGNED)
    mu, d, b = _group_sums(scores, numbers, rows)
    return _information(mu, d, b if fit_background else None)


def reference_matrix(scores: Scores, fit_background: bool = False) -> Array:
    """Fisher information of all usable runs kept apart: what a loss is measured against.

    With ``fit_background``, one normalisation of the background is common to them.

    Raises
    ------
    RequestError
        If the counts do not tell the parameters.
    """
    return _reference(scores, scores.usable, fit_background)


def _matrices(
    scores: Scores, labels: ArrayLike, fit_background: bool, unassigned: str
) -> tuple[Array, Array]:
    """Information of the runs kept apart, and of the groups."""
    if unassigned not in _WAYS:
        raise RequestError(unknown_name("way with unassigned runs", unassigned, _WAYS))
    numbers = _as_labels(scores, labels)
    nowhere = numbers == _UNASSIGNED
    if unassigned == "apart":
        # Labels that nobody else has.
        numbers = np.where(nowhere, numbers.max(initial=0) + 1 + np.arange(len(numbers)), numbers)
        nowhere = np.zeros(len(numbers), dtype=bool)
    counted = scores.usable & ~nowhere
    if not counted.any():
        raise RequestError("no run belongs to a group, so there is nothing to compare")
    mu, d, b = _group_sums(scores, numbers, counted)
    reference = scores.usable if unassigned == "lost" else counted
    apart = _reference(scores, reference, fit_background)
    return apart, _information(mu, d, b if fit_background else None)


def _as_labels(scores: Scores, labels: ArrayLike) -> NDArray[np.int64]:
    values = np.asarray(labels)
    if values.shape != (len(scores),):
        raise RequestError(f"{len(scores)} runs but labels of shape {values.shape}")
    if values.dtype.kind not in "iub":
        raise RequestError(f"labels of type {values.dtype}; expected integers, -1 for none")
    return values.astype(np.int64)


def _livetimes(scores: Scores) -> Array:
    return np.full(len(scores), np.nan) if scores.livetimes is None else scores.livetimes


def _group_sums(
    scores: Scores, labels: NDArray[np.int64], rows: NDArray[np.bool_]
) -> tuple[Array, Array, Array]:
    """Sums of counts, derivatives and background over the runs of each group."""
    # In the order of the identifiers, so that not even rounding depends on that of the runs.
    order = np.flatnonzero(rows)
    order = order[np.lexsort((scores.obs_ids[order], labels[order]))]
    starts = np.flatnonzero(np.diff(labels[order], prepend=labels[order[0]] - 1))

    def total(values: Array) -> Array:
        # One group after the other: a sorted copy of everything would be large.
        ends = np.append(starts[1:], len(order))
        return np.stack([values[order[i:j]].sum(axis=0) for i, j in zip(starts, ends, strict=True)])

    return total(scores.mu), total(scores.d), total(scores.background)


def _information(mu: Array, d: Array, b: Array | None) -> Array:
    """Fisher information of independent datasets, each with a background norm if b is given."""
    n_params = d.shape[2]
    weight = np.divide(1.0, mu, out=np.zeros_like(mu), where=mu > 0)
    root = (d * np.sqrt(weight)[:, :, np.newaxis]).reshape(-1, n_params)
    information = root.T @ root
    if b is not None:
        mixed = np.einsum("gkp,gk->gp", d, b * weight)
        norm = np.einsum("gk,gk,gk->g", b, b, weight)
        fitted = norm > 0
        information = information - (mixed[fitted].T / norm[fitted]) @ mixed[fitted]
    return np.asarray(information)


def _reference(scores: Scores, rows: NDArray[np.bool_], fit_background: bool) -> Array:
    order = np.flatnonzero(rows)
    order = order[np.argsort(scores.obs_ids[order])]
    mu, d, b = scores.mu[order], scores.d[order], scores.background[order]
    if not fit_background:
        information = _information(mu, d, None)
    else:
        # A single dataset of all bins of all runs has one normalisation.
        information = _information(
            mu.reshape(1, -1), d.reshape(1, -1, d.shape[2]), b.reshape(1, -1)
        )
    diagonal = np.diag(information)
    known = [name for name, value in zip(scores.names, diagonal, strict=True) if value > 0]
    if len(known) < len(scores.names):
        missing = ", ".join(name for name in scores.names if name not in known)
        raise RequestError(f"the expected counts do not depend on {missing}; leave it out")
    scale = 1 / np.sqrt(diagonal)
    if not np.linalg.eigvalsh(information * np.outer(scale, scale))[0] > _SINGULAR:
        raise RequestError(
            f"the expected counts do not tell {', '.join(scores.names)} apart; ask for fewer "
            "parameters"
        )
    return information


def _variances(information: Array) -> Array:
    """Diagonal of the inverse; infinite where nothing is known."""
    diagonal = np.diag(information)
    if not (diagonal > 0).all():
        return np.full(len(diagonal), np.inf)
    scale = 1 / np.sqrt(diagonal)
    try:
        inverse = np.linalg.inv(information * np.outer(scale, scale))
    except np.linalg.LinAlgError:
        return np.full(len(diagonal), np.inf)
    return np.asarray(np.maximum(np.diag(inverse), 0.0) * scale**2)
