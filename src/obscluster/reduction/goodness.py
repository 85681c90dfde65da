"""Whether a model fits: the statistic, and how often chance alone gives one as large.

The statistic is zero where counts equal the prediction: W for spectra with OFF counts, C for maps,
chi-square for flux points. Of maps it is that of rings around the source: pixels with a hundredth
of a count give a C that falls as well as rises when the model is wrong. With many counts it follows
the chi-square distribution. With few it does not, and is drawn instead: pseudo-experiments of the
fitted model, each fitted anew.

Such a fit needs no minimiser. Near the minimum the score S and the information J of the parameters
give its shift D = J^-1 S, by which the statistic falls from that at the truth: by S D together, and
by 2 S_g D - D J_g D in a part g of the data. The mean of the latter is the number of parameters
that the part pays for, tr(J^-1 J_g).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from astropy.table import QTable
from gammapy.datasets import Datasets
from gammapy.stats import cstat, get_wstat_mu_bkg, wstat
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize_scalar
from scipy.stats import chi2

from obscluster.reduction.geometry import fitted_mask, has_off, is_map, is_points
from obscluster.reduction.models import source_of

__all__ = ["TOGETHER", "chance", "constancy", "goodness_table", "ratio_test"]

Array = NDArray[np.float64]

TOGETHER = "together"
# With fewer expected counts than this in a bin, the statistic does not follow chi-square.
_FEW = 10.0
# Numbers that are drawn at most, in all, and at once; and how many experiments at least and most.
_MOST_DRAWN, _AT_ONCE = 10_000_000, 2_000_000
_EXPERIMENTS = (200, 5_000)
_TINY = 1e-25
# Edges of the rings in deg: the core of a PSF, its wings, and the field of view.
_RINGS = (0.05, 0.1, 0.2, 0.4, 0.7, 1.0, 1.5, 2.0)


@dataclass(frozen=True, eq=False)
class _Counts:
    """Bins of a dataset that were fitted; arrays of shape (n_bins,).

    ``mu`` is the predicted signal with OFF counts, else all that is predicted. ``slopes``, of shape
    (n_parameters, n_bins), are its derivatives.
    """

    n_on: Array
    mu: Array
    slopes: Array
    n_off: Array | None = None
    alpha: Array | None = None
    error: Array | None = None

    @property
    def background(self) -> Array:
        """Expected OFF counts, given the signal."""
        if self.n_off is None or self.alpha is None:
            raise ValueError("no OFF counts")
        return np.nan_to_num(get_wstat_mu_bkg(self.n_on, self.n_off, self.alpha, self.mu))

    @property
    def statistic(self) -> float:
        """The statistic of what was measured."""
        return float(self.stat(self.n_on, self.n_off).sum())

    @property
    def few(self) -> bool:
        """Whether there are bins with too few counts for chi-square."""
        if self.error is not None:
            return False
        if self.alpha is None:
            return bool((self.mu < _FEW).any())
        off = self.background
        return bool((self.mu + self.alpha * off < _FEW).any() or (off < _FEW).any())

    @property
    def weights(self) -> Array:
        """Information of each bin on its ``mu``."""
        if self.error is not None:
            return 1 / self.error**2
        if self.alpha is None:
            return 1 / self.mu
        variance = self.mu + (1 + self.alpha) * self.alpha * self.background
        return np.divide(1, variance, out=np.zeros_like(variance), where=variance > 0)

    def stat(self, n_on: Array, n_off: Array | None) -> Array:
        """The statistic of each bin, for counts of shape (..., n_bins)."""
        if self.error is not None:
            return np.square((n_on - self.mu) / self.error)
        if self.alpha is None:
            return np.asarray(cstat(n_on, self.mu))
        return np.nan_to_num(wstat(n_on, n_off, self.alpha, self.mu))

    def draw(self, rng: np.random.Generator, size: int) -> tuple[Array, Array]:
        """Pseudo-experiments: the statistic, shape (size,), and the score, (size, n_parameters)."""
        shape, n_off = (size, len(self.mu)), None
        if self.error is not None:
            n_on = self.mu + self.error * rng.standard_normal(shape)
            pull = (n_on - self.mu) * self.weights
        elif self.alpha is None:
            n_on = rng.poisson(self.mu, shape).astype(float)
            pull = n_on / self.mu - 1
        else:
            off = self.background
            n_on = rng.poisson(self.mu + self.alpha * off, shape).astype(float)
            n_off = rng.poisson(off, shape).astype(float)
            found = np.nan_to_num(get_wstat_mu_bkg(n_on, n_off, self.alpha, self.mu))
            expected = self.mu + self.alpha * found
            pull = np.divide(n_on, expected, out=np.ones(shape), where=expected > 0) - 1
        return self.stat(n_on, n_off).sum(axis=1), pull @ self.slopes.T


def goodness_table(datasets: Datasets, random_state: int = 0) -> QTable:
    """How well the fitted models describe each dataset, and all together.

    Parameters
    ----------
    datasets : `gammapy.datasets.Datasets`
        The datasets with models at the minimum; models are as before afterwards.
    random_state : int
        Seed of the pseudo-experiments.

    Returns
    -------
    table : `~astropy.table.QTable`
        One row per dataset, and the last ``together``: ``dataset``, ``statistic``, ``n_bins`` (of
        maps: of rings and energies), ``dof`` (bins less the parameters that the dataset pays for),
        ``p_value`` (how often chance gives a statistic as large), ``method`` ("chi2" or
        "pseudo-experiments"), ``n_experiments``.
    """
    rings = [_rings(dataset) for dataset in datasets]
    slopes = _slopes(datasets, rings)
    parts = [_counts(*of) for of in zip(datasets, slopes, rings, strict=True)]
    infos = [(part.slopes * part.weights) @ part.slopes.T for part in parts]
    inverse: Array = np.linalg.pinv(np.sum(infos, axis=0), hermitian=True)
    paid = [float(np.trace(inverse @ info)) for info in infos]
    observed = np.array([part.statistic for part in parts])
    n_bins = np.array([len(part.mu) for part in parts])
    dof = n_bins - paid
    few = [part.few for part in parts]
    drawn = np.zeros((0, len(parts)))
    if any(few):
        wanted = _MOST_DRAWN // max(1, int(n_bins.sum()))
        size = int(np.clip(wanted, *_EXPERIMENTS))
        drawn = _experiments(parts, infos, inverse, size, np.random.default_rng(random_state))
    rows = [
        _row(d.name, observed[i], n_bins[i], dof[i], drawn[:, i] if few[i] else None)
        for i, d in enumerate(datasets)
    ]
    total = observed.sum(), n_bins.sum(), n_bins.sum() - np.linalg.matrix_rank(inverse)
    rows.append(_row(TOGETHER, *total, drawn.sum(axis=1) if any(few) else None))
    return QTable(rows=rows)


def _row(name: str, stat: float, n_bins: float, dof: float, drawn: Array | None) -> dict[str, Any]:
    if drawn is None:
        p = float(chi2.sf(stat, dof)) if dof > 0 else float("nan")
    else:
        p = chance(stat, drawn)
    return {
        "dataset": name,
        "statistic": float(stat),
        "n_bins": int(n_bins),
        "dof": float(dof),
        "p_value": p,
        "method": "chi2" if drawn is None else "pseudo-experiments",
        "n_experiments": 0 if drawn is None else len(drawn),
    }


def chance(value: float, drawn: ArrayLike) -> float:
    """How often experiments give as much; the one that was done counts as one of them."""
    drawn = np.asarray(drawn)
    return float((1 + (drawn >= value * (1 - 1e-12)).sum()) / (1 + len(drawn)))


def _experiments(
    parts: list[_Counts], infos: list[Array], inverse: Array, size: int, rng: np.random.Generator
) -> Array:
    """Statistic of each dataset in each pseudo-experiment, fitted; shape (size, n_datasets)."""
    stats, scores = np.empty((size, len(parts))), np.empty((len(parts), size, len(inverse)))
    for i, part in enumerate(parts):
        step = max(1, _AT_ONCE // len(part.mu))
        for start in range(0, size, step):
            stop = min(size, start + step)
            stats[start:stop, i], scores[i, start:stop] = part.draw(rng, stop - start)
    shift = scores.sum(axis=0) @ inverse
    for i, info in enumerate(infos):
        linear = 2 * (scores[i] * shift).sum(axis=1)
        stats[:, i] -= linear - ((shift @ info) * shift).sum(axis=1)
    return stats


def _slopes(datasets: Datasets, rings: list[NDArray[np.int64] | None]) -> list[Array]:
    """Derivatives of what each dataset predicts, shape (n_parameters, n_bins).

    They are by steps of about an error: matrices of amplitudes beside indices are singular to a
    computer, and nothing here depends on the scale of a parameter.
    """
    free = list(datasets.models.parameters.free_unique_parameters)
    found: list[list[Array]] = [[] for _ in datasets]
    for parameter in free:
        value = parameter.value
        error = parameter.error
        step = 0.1 * error if np.isfinite(error) and error > 0 else 1e-3 * abs(value) or 1e-3
        sides = []
        for side in (value + step, value - step):
            parameter.value = side
            sides.append([_predicted(*of) for of in zip(datasets, rings, strict=True)])
        parameter.value = value
        for slopes, up, down in zip(found, *sides, strict=True):
            slopes.append((up - down) / 2)
    return [np.array(s).reshape(len(free), -1) for s in found]


def _predicted(dataset: Any, rings: NDArray[np.int64] | None) -> Array:
    mask = fitted_mask(dataset)
    if is_points(dataset):
        return np.asarray(dataset.flux_pred().to_value(dataset.data.dnde.unit)[mask])
    npred = dataset.npred_signal() if has_off(dataset) else dataset.npred()
    return _in_rings(np.asarray(npred.data[mask], dtype=float), rings)


def _rings(dataset: Any) -> NDArray[np.int64] | None:
    """Number of the ring and energy of each fitted pixel of a map; None for what is no map."""
    if not is_map(dataset):
        return None
    geom, mask = dataset.counts.geom, fitted_mask(dataset)
    center = source_of(dataset.models, dataset.name).position
    ring = np.searchsorted(_RINGS, geom.to_image().separation(center).deg)
    energy = np.arange(len(mask))[:, np.newaxis, np.newaxis] * (len(_RINGS) + 1)
    return np.unique((ring + energy)[mask], return_inverse=True)[1]


def _in_rings(values: Array, rings: NDArray[np.int64] | None) -> Array:
    return values if rings is None else np.bincount(rings, weights=values).astype(float)


def _counts(dataset: Any, slopes: Array, rings: NDArray[np.int64] | None = None) -> _Counts:
    mu, mask = _predicted(dataset, rings), fitted_mask(dataset)
    if is_points(dataset):
        points = dataset.data
        return _Counts(points.dnde.data[mask], mu, slopes, error=points.dnde_err.data[mask])
    n_on = np.asarray(dataset.counts.data[mask], dtype=float)
    if not has_off(dataset):
        return _Counts(_in_rings(n_on, rings), np.maximum(mu, _TINY), slopes)
    n_off = np.asarray(dataset.counts_off.data[mask], dtype=float)
    return _Counts(n_on, mu, slopes, n_off, np.nan_to_num(dataset.alpha.data[mask]))


def ratio_test(joint: float, apart: Iterable[float], dof: int) -> tuple[float, float]:
    """Likelihood-ratio test: statistic of the joint fit, against the sum of those of fits apart.

    Parameters
    ----------
    joint : float
        The statistic of the fit with fewer free parameters.
    apart : iterable of float
        Those of the fits with more.
    dof : int
        How many more.

    Returns
    -------
    gain : float
        By how much the statistic falls, and not below zero.
    p_value : float
        Probability of as much, by chi-square; NaN without degrees of freedom.
    """
    gain = max(0.0, joint - sum(apart))
    return gain, float(chi2.sf(gain, dof)) if dof > 0 else float("nan")


def constancy(
    n_on: Array,
    signal: Array,
    n_off: Array | None = None,
    alpha: Array | None = None,
    background: Array | None = None,
    random_state: int = 0,
) -> dict[str, Any]:
    """Test whether counts at several times are those of one flux; arrays of shape (n_times,).

    Parameters
    ----------
    n_on : array
        Counts.
    signal : array
        Those that a steady source gives, up to a common factor, which is fitted.
    n_off, alpha : array, optional
        OFF counts, and their scale.
    background : array, optional
        Expected background counts in place of OFF counts.
    random_state : int
        Seed of the pseudo-experiments, for times with few counts.

    Returns
    -------
    test : dict
        ``statistic``, ``dof``, ``p_value``, ``method``, ``n_experiments``.
    """
    known = np.zeros(len(n_on)) if background is None else background

    def at(factor: float) -> _Counts:
        mu = np.maximum(factor * signal + known, _TINY)
        return _Counts(n_on, mu, signal[np.newaxis], n_off, alpha)

    total = max(float(n_on.sum()), 1.0) / max(float(signal.sum()), _TINY)
    best = minimize_scalar(
        lambda factor: at(factor).statistic, bounds=(0, 10 * total), method="bounded"
    )
    part = at(float(best.x))
    info = (part.slopes * part.weights) @ part.slopes.T
    drawn = None
    if part.few:
        rng = np.random.default_rng(random_state)
        inverse = np.asarray(np.linalg.pinv(info, hermitian=True), dtype=float)
        drawn = _experiments([part], [info], inverse, _EXPERIMENTS[1], rng)[:, 0]
    row = _row("", part.statistic, len(n_on), len(n_on) - 1, drawn)
    return {k: row[k] for k in ("statistic", "dof", "p_value", "method", "n_experiments")}
