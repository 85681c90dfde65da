r"""The arithmetic of stacking: what a group keeps of the information.

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

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from obscluster.features.information.loss import reference_matrix
from obscluster.features.information.scores import Scores

__all__ = ["Sums", "kept", "kept_with", "sums_of", "sums_without"]

Array = NDArray[np.float64]

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
