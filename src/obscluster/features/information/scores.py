"""Expected counts and scores of many runs: the arrays from which information is counted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from obscluster.exceptions import RequestError
from obscluster.features.information.binning import Binning

__all__ = ["Scores"]

Array = NDArray[np.float64]

# Fewer counts are none: their inverse would overflow.
_NO_COUNT = 1e-100


@dataclass(frozen=True, eq=False)
class Scores:
    """Expected counts of runs in bins, and their derivatives to the parameters of a source.

    A bin below the safe energy of a run has no counts and no derivatives there: in a stacked
    dataset, too, a bin holds only the runs that are safe in it.

    Parameters
    ----------
    obs_ids : array_like of int
        Observations, shape (n_obs,).
    mu : array_like
        Expected counts, signal and background, shape (n_obs, n_bins). A row of NaN is a run that
        could not be computed.
    d : array_like
        Derivatives of the counts, shape (n_obs, n_bins, n_params).
    b : array_like, optional
        The background part of the counts, shape (n_obs, n_bins); zero unless told. It counts only
        where the normalisation of the background is fitted, too.
    names : tuple of str
        The parameters; ``p0``, ``p1``, ... unless told.
    livetimes : array_like, optional
        Live times in seconds, shape (n_obs,); NaN where unknown.
    binning : `~obscluster.features.information.binning.Binning`, optional
        What the bins are.
    notes : tuple of str
        Why a run could not be computed, or what is doubtful; one for each.
    unread : mapping, optional
        Observations of which a file could not be read, and why.

    Raises
    ------
    RequestError
        If shapes do not fit, an observation appears twice, counts are negative or infinite, or a
        derivative is not zero where no count is expected.
    """

    obs_ids: NDArray[np.int64]
    mu: Array
    d: Array
    b: Array | None = None
    names: tuple[str, ...] = ()
    livetimes: Array | None = None
    binning: Binning | None = None
    notes: tuple[str, ...] = field(default=(), repr=False)
    unread: Mapping[int, str] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        obs_ids = np.array(self.obs_ids, dtype=np.int64)
        mu, d = np.asarray(self.mu, dtype=float), np.asarray(self.d, dtype=float)
        b = np.zeros_like(mu) if self.b is None else np.asarray(self.b, dtype=float)
        n_obs = len(obs_ids)
        if mu.ndim != 2 or len(mu) != n_obs or b.shape != mu.shape:
            raise RequestError(
                f"counts of shape {mu.shape} and background of shape {b.shape}; expected "
                f"({n_obs}, n_bins)"
            )
        if d.ndim != 3 or d.shape[:2] != mu.shape or d.shape[2] == 0:
            raise RequestError(
                f"derivatives of shape {d.shape}; expected ({n_obs}, {mu.shape[1]}, n_params)"
            )
        if len(np.unique(obs_ids)) != n_obs:
            raise RequestError("an observation appears twice")
        names = tuple(self.names) or tuple(f"p{i}" for i in range(d.shape[2]))
        notes = tuple(self.notes) or ("",) * n_obs
        livetimes = np.full(n_obs, np.nan) if self.livetimes is None else self.livetimes
        livetimes = np.asarray(livetimes, dtype=float)
        if len(names) != d.shape[2] or len(notes) != n_obs or livetimes.shape != (n_obs,):
            raise RequestError(
                f"{len(names)} names of parameters, {len(notes)} notes and {livetimes.size} live "
                f"times; expected {d.shape[2]}, {n_obs} and {n_obs}"
            )
        usable = ~np.isnan(mu).any(axis=1)
        _check_values(mu[usable], d[usable], b[usable])
        empty = mu < _NO_COUNT
        if (mu[empty] > 0).any():
            mu, b = np.where(empty, 0.0, mu), np.where(empty, 0.0, b)
            d = np.where(empty[:, :, np.newaxis], 0.0, d)
        fields = {"obs_ids": obs_ids, "mu": mu, "d": d, "b": b, "livetimes": livetimes}
        for name, value in {**fields, "names": names, "notes": notes}.items():
            object.__setattr__(self, name, value)

    def __len__(self) -> int:
        return len(self.obs_ids)

    @property
    def background(self) -> Array:
        """The background part of the counts, shape (n_obs, n_bins)."""
        return np.zeros_like(self.mu) if self.b is None else self.b

    @property
    def usable(self) -> NDArray[np.bool_]:
        """Runs that could be computed, shape (n_obs,)."""
        return np.asarray(~np.isnan(self.mu).any(axis=1))

    def select(self, rows: ArrayLike) -> Scores:
        """Some of the runs, by mask or by their places."""
        places = np.arange(len(self))[np.asarray(rows)]
        return Scores(
            self.obs_ids[places],
            self.mu[places],
            self.d[places],
            self.background[places],
            self.names,
            None if self.livetimes is None else self.livetimes[places],
            self.binning,
            tuple(self.notes[i] for i in places),
            {i: self.unread[i] for i in self.obs_ids[places].tolist() if i in self.unread},
        )


def _check_values(mu: Array, d: Array, b: Array) -> None:
    if not (np.isfinite(mu) & (mu >= 0)).all() or not (np.isfinite(b) & (b >= 0)).all():
        raise RequestError("expected counts: expected numbers from 0")
    if not np.isfinite(d).all():
        raise RequestError("derivatives of the counts: expected numbers")
    if (np.abs(d).max(axis=2, initial=0.0)[mu == 0] > 0).any():
        raise RequestError("a derivative is not zero in a bin where no count is expected")
