"""What a grouping loses: information, and the errors of the parameters.

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

The arithmetic of stacking: what a group keeps of the information.

With the derivatives whitened by the reference information J, ``W d`` and ``W = J^-1/2 /
sqrt(n_params)``, a group of summed counts keeps the part ``T = sum_k |W d_k|^2 / mu_k`` of the
information, and the parts of all groups add up to one minus the loss. Merging A and B costs
``T(A) + T(B) - T(A + B)``, which is the sum over bins of ``mu_A mu_B / (mu_A + mu_B)
|W (d_A / mu_A - d_B / mu_B)|^2``: Ward's criterion between scores, with a weight of its own in each
bin. The sums of a group are all that counts, so no distance is ever updated from distances.

If the normalisation of the background is fitted for each group, ``T`` is less by
``|sum_k W d_k b_k / mu_k|^2 / sum_k (b_k^2 / mu_k)``. It is still a function of the sums.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from astropy import units as u
from astropy.table import QTable
from numpy.typing import ArrayLike, NDArray

from obscluster.archive.kinds import KEEP_APART, Kind, check_stackable
from obscluster.exceptions import RequestError, unknown_name
from obscluster.grouping.rules import UNASSIGNED
from obscluster.information.scores import Scores

__all__ = [
    "LossSummary",
    "Sums",
    "compared_groupings",
    "error_inflation",
    "fisher_matrix",
    "information_loss",
    "kept",
    "kept_with",
    "loss_summary",
    "loss_table",
    "reference_matrix",
    "sums_of",
    "sums_without",
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
    scores : `~obscluster.information.scores.Scores`
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
    scores : `~obscluster.information.scores.Scores`
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
        # NDArray[np.int64] that nobody else has.
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


# Rows per step: what is worked on stays in the processor's cache.
_BLOCK = 64
# In place of zero counts, where derivatives are zero, too.
_TINY = 1e-300
# Relative counts below which a difference of sums is rounding.
_ROUNDING = 1e-12


@dataclass(frozen=True)
class Sums:
    """Whitened sums of runs or groups.

    Parameters
    ----------
    d : `~numpy.ndarray`
        Whitened derivatives, shape (n, n_params, n_bins).
    mu : `~numpy.ndarray`
        Counts above zero, shape (n, n_bins).
    b : `~numpy.ndarray` or None
        Background counts, shape (n, n_bins), if its normalisation is fitted.
    """

    d: Array
    mu: Array
    b: Array | None = None

    @classmethod
    def of_scores(cls, scores: Scores, fit_background: bool = False) -> Sums:
        """Runs, all of which must be usable.

        Raises
        ------
        RequestError
            If the counts do not tell the parameters.
        """
        reference = reference_matrix(scores, fit_background)
        scale = 1 / np.sqrt(np.diag(reference))
        values, vectors = np.linalg.eigh(reference * np.outer(scale, scale))
        whitening = (vectors / np.sqrt(values)).T * scale / np.sqrt(len(reference))
        d = np.ascontiguousarray(np.einsum("qp,nkp->nqk", whitening, scores.d, optimize=True))
        mu = np.maximum(scores.mu, _TINY)
        return cls(d, mu, scores.background.copy() if fit_background else None)

    def __len__(self) -> int:
        return len(self.mu)

    def __getitem__(self, rows: ArrayLike | slice) -> Sums:
        """Some of them; a copy unless a slice."""
        index = rows if isinstance(rows, slice) else np.atleast_1d(np.asarray(rows))
        return Sums(self.d[index], self.mu[index], None if self.b is None else self.b[index])

    def set(self, row: int, other: Sums, other_row: int) -> None:
        """Overwrite a row in place."""
        self.d[row], self.mu[row] = other.d[other_row], other.mu[other_row]
        if self.b is not None and other.b is not None:
            self.b[row] = other.b[other_row]

    def add(self, row: int, other: Sums, other_row: int) -> None:
        """Add to a row in place."""
        self.d[row] += other.d[other_row]
        self.mu[row] += other.mu[other_row]
        if self.b is not None and other.b is not None:
            self.b[row] += other.b[other_row]


def sums_of(runs: Sums, labels: NDArray[np.int64], n_groups: int) -> Sums:
    """Sums of groups, whose labels count from 0."""
    order = np.argsort(labels, kind="stable")
    ends = np.cumsum(np.bincount(labels, minlength=n_groups))
    members = np.split(order, ends[:-1])
    return Sums(
        np.stack([runs.d[rows].sum(axis=0) for rows in members]),
        np.stack([runs.mu[rows].sum(axis=0) for rows in members]),
        None if runs.b is None else np.stack([runs.b[rows].sum(axis=0) for rows in members]),
    )


def sums_without(groups: Sums, runs: Sums) -> Sums:
    """Groups without a run each; row by row, a single row counts for all."""
    mu = groups.mu - runs.mu
    # Bins that only the run has filled: the difference is rounding, and must not count.
    empty = mu <= _ROUNDING * groups.mu
    d = np.where(empty[:, np.newaxis, :], 0.0, groups.d - runs.d)
    if groups.b is None or runs.b is None:
        return Sums(d, np.where(empty, _TINY, mu))
    b = np.where(empty, 0.0, np.maximum(groups.b - runs.b, 0.0))
    return Sums(d, np.where(empty, _TINY, mu), b)


def kept(sums: Sums) -> Array:
    """Part of the information that each row keeps, shape (n,)."""
    return _blockwise(sums, None)


def kept_with(sums: Sums, one: Sums) -> Array:
    """Part of the information that each row keeps once another one is added.

    Parameters
    ----------
    sums : `Sums`
        Rows.
    one : `Sums`
        A single row, or as many as ``sums`` has: row by row.

    Returns
    -------
    parts : `~numpy.ndarray`
        Shape (n,).
    """
    return _blockwise(sums, one)


def _blockwise(sums: Sums, one: Sums | None) -> Array:
    parts = np.empty(len(sums))
    for start in range(0, len(sums), _BLOCK):
        rows = slice(start, start + _BLOCK)
        d, mu, b = sums.d[rows], sums.mu[rows], None if sums.b is None else sums.b[rows]
        if one is not None:
            other = slice(0, 1) if len(one) == 1 else rows
            d, mu = d + one.d[other], mu + one.mu[other]
            b = None if b is None or one.b is None else b + one.b[other]
        weight = 1 / mu
        part = np.einsum("npk,npk,nk->n", d, d, weight)
        if b is not None:
            weight = weight * b
            mixed = np.einsum("npk,nk->np", d, weight)
            norm = np.einsum("nk,nk->n", b, weight)
            part -= np.einsum("np,np->n", mixed, mixed) / np.where(norm > 0, norm, np.inf)
        parts[rows] = part
    return parts


def loss_table(
    scores: Scores, groupings: Mapping[str, NDArray[np.int64]], fit_background: bool = False
) -> QTable:
    """What several groupings lose.

    Parameters
    ----------
    scores : `~obscluster.information.scores.Scores`
        Expected counts of the runs.
    groupings : mapping
        Name to the labels of the runs, in the order of the scores.
    fit_background : bool
        Fit the normalisation of the background of each group.

    Returns
    -------
    table : `~astropy.table.QTable`
        ``grouping``, ``n_groups``, ``loss``, ``lost_time`` (the loss in observing time), and for
        each parameter its ``<name> error`` and ``<name> inflation``.
    """
    rows = []
    for name, labels in groupings.items():
        summary = loss_summary(scores, labels, fit_background)
        row: dict[str, Any] = {
            "grouping": name,
            "n_groups": summary.n_groups,
            "loss": summary.loss,
            "lost_time": summary.lost_time / 3600 * u.h,
        }
        for parameter in scores.names:
            row[f"{parameter} error"] = summary.errors[parameter]
            row[f"{parameter} inflation"] = summary.inflation[parameter]
        rows.append(row)
    return QTable(rows=rows)


def compared_groupings(
    kinds: Mapping[int, Kind], obs_ids: NDArray[np.int64], labels: NDArray[np.int64]
) -> dict[str, NDArray[np.int64]]:
    """What the loss of a grouping is compared with: everything stacked, where that may be.

    Parameters
    ----------
    kinds : mapping
        Kinds of the runs.
    obs_ids, labels : `~numpy.ndarray`
        The runs and their groups, -1 for none, shape (n_obs,).

    Returns
    -------
    groupings : dict
        ``these groups`` and, unless the runs are of several kinds, ``all stacked``, for
        `loss_table`.

    Raises
    ------
    RequestError
        If a group holds runs that may not be stacked.
    """
    groups = {f"group_{k}": obs_ids[labels == k].tolist() for k in np.unique(labels[labels > 0])}
    check_stackable(kinds, groups, KEEP_APART)
    groupings = {"these groups": labels}
    with suppress(RequestError):
        check_stackable(kinds, {"all": obs_ids[labels != UNASSIGNED].tolist()}, "")
        groupings["all stacked"] = np.where(labels == UNASSIGNED, UNASSIGNED, 1)
    return groupings
