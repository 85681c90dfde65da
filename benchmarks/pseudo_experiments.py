"""Is the predicted growth of errors true? Fits of simulated counts, apart, grouped and stacked.

    python benchmarks/pseudo_experiments.py ARCHIVE [--experiments N] [--figure FILE]

ARCHIVE is hess-dl3-dr1. Counts are drawn in the bins of the scores, energy times rings, for each
run. The same counts are then fitted three times by maximum likelihood, with the logarithm of the
amplitude and the index free: the runs kept apart, which have a joint likelihood; summed in groups;
all summed. Expected counts are folded anew for each trial of the parameters, nothing is linear.

The prediction is that of a large number of counts, so all exposures are multiplied by a factor
first. That changes no loss, since signal and background grow alike. The last table shows what
happens without it.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.coordinates import SkyCoord
from matplotlib.figure import Figure
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from obscluster import DataStore
from obscluster.features.information import (
    Scores,
    Source,
    error_inflation,
    fisher_matrix,
    get_scores,
    information_loss,
    make_source,
)
from obscluster.features.information.expectation import true_energies
from obscluster.features.information.source import PowerLaw
from obscluster.grouping.information import cluster_by_information
from obscluster.report.plots import save_figure
from obscluster.report.style import OKABE_ITO
from obscluster.simulate import simulate

Array = NDArray[np.float64]
Ints = NDArray[np.int64]

NAMES = ("amplitude", "index")
# A fit is done where the next step is so small a part of the errors.
TOLERANCE = 1e-5
MAX_ITERATIONS = 200
# Experiments that are fitted at once: more need more memory, and are no faster.
CHUNK = 500


@dataclass(frozen=True)
class Case:
    """Runs, a source, and how they are grouped.

    Parameters
    ----------
    name : str
        What the table calls it.
    position : `~astropy.coordinates.SkyCoord`
        Where the source is.
    flux : str
        Its flux; the index is 2.7.
    n_groups : tuple of int
        Numbers of groups, 1 for the stack of all.
    factor : float
        All exposures are multiplied by it.
    """

    name: str
    position: SkyCoord
    flux: str
    n_groups: tuple[int, ...]
    factor: float


PKS = SkyCoord(329.71693826, -30.2255890, unit="deg")
CEN_A = SkyCoord(201.3651, -43.0191, unit="deg")
REAL = Case("PKS 2155-304, 21 runs of H.E.S.S.", PKS, "0.6 % Crab", (3, 2, 1), 1000)
SIMULATED = (
    Case("Centaurus A, simulated", CEN_A, "0.1 % Crab", (3, 2, 1), 10000),
    Case("PKS 2155-304, simulated", PKS, "0.1 % Crab", (3, 2, 1), 10000),
)
ARCHIVE = {"n_obs": 120, "seed": 2, "size": "small", "separation": 2, "n_epochs": 5}


@dataclass(frozen=True)
class Slices(PowerLaw):
    """A power law whose parameters are the fluxes in slices of true energy.

    Its derivatives are the counts that come from each slice, so that counts for any other spectrum
    are their weighted sum, exactly.

    Parameters
    ----------
    amplitude, index, reference
        See `~obscluster.features.information.source.PowerLaw`.
    n_slices : int
        Number of true energies.
    """

    n_slices: int = 0

    @property
    def parameters(self) -> tuple[str, ...]:
        """One for each slice."""
        return tuple(str(i) for i in range(self.n_slices))

    def log_gradient(self, name: str, energy: Array) -> Array:
        """One within the slice, zero elsewhere."""
        return (np.arange(len(energy)) == int(name)).astype(float)


@dataclass(frozen=True)
class Counts:
    """Expected counts of runs, or of groups of them, for any amplitude and index.

    Parameters
    ----------
    slices : `~numpy.ndarray`
        Counts from each slice of true energy for the true source, shape (n, n_bins, n_true).
    background : `~numpy.ndarray`
        Shape (n, n_bins).
    log_energies : `~numpy.ndarray`
        Logarithms of the true energies over the reference energy, shape (n_true,).
    """

    slices: Array
    background: Array
    log_energies: Array

    @property
    def mu(self) -> Array:
        """Counts for the true source, shape (n, n_bins)."""
        return self.slices.sum(axis=-1) + self.background

    def stack(self, labels: Ints) -> Counts:
        """Sums over the runs of each group."""
        names = np.unique(labels)
        slices = np.stack([self.slices[labels == name].sum(axis=0) for name in names])
        background = np.stack([self.background[labels == name].sum(axis=0) for name in names])
        return Counts(slices, background, self.log_energies)

    def scaled(self, factor: float) -> Counts:
        """With all exposures multiplied by a factor."""
        return Counts(factor * self.slices, factor * self.background, self.log_energies)


def expect(observations, source: Source, position: SkyCoord) -> tuple[Scores, Counts]:
    """Scores of the runs, and their expected counts for any amplitude and index."""
    scores = get_scores(observations, source, position)
    energies, _ = true_energies(scores.binning)
    spectrum = source.spectrum
    slices = Slices(spectrum.amplitude, spectrum.index, spectrum.reference, len(energies))
    parts = get_scores(observations, Source(slices, source.size, slices.parameters), position)
    log_energies = np.log(energies / spectrum.reference)
    return scores, Counts(parts.d, scores.background, log_energies)


@dataclass(frozen=True)
class State:
    """Likelihood, gradient and information at the parameters of each experiment."""

    gain: Array
    gradient: Array
    information: Array


class Fit:
    """Maximum likelihood of many experiments at once, by Fisher's scoring with halved steps.

    Parameters
    ----------
    model : `Counts`
        Of the runs or groups that the counts belong to.
    """

    def __init__(self, model: Counts):
        slices = model.slices.reshape(-1, len(model.log_energies))
        # A bin that never has signal says nothing of the source.
        self.bins = slices.any(axis=1)
        self.slices, self.log_energies = slices[self.bins], model.log_energies
        self.background = model.background.ravel()[self.bins]
        self.truth = self.slices.sum(axis=1) + self.background

    def evaluate(self, counts: Array, theta: Array) -> State:
        """Everything at ``theta``: logarithm of amplitude and index, both relative to the truth."""
        weights = np.exp(theta[:, :1] - theta[:, 1:] * self.log_energies)
        s = weights @ self.slices.T
        slope = -(weights * self.log_energies) @ self.slices.T
        mu = s + self.background
        excess = counts / mu - 1
        gradient = np.stack([(excess * s).sum(axis=1), (excess * slope).sum(axis=1)], axis=1)
        amplitude, mixed, index = (
            (first * second / mu).sum(axis=1)
            for first, second in ((s, s), (s, slope), (slope,) * 2)
        )
        information = np.stack([amplitude, mixed, mixed, index], axis=1).reshape(-1, 2, 2)
        # Relative to the truth, for the sake of rounding.
        gain = (counts * np.log(mu / self.truth) - (mu - self.truth)).sum(axis=1)
        return State(gain, gradient, information)

    def run(self, counts: Array) -> tuple[Array, NDArray[np.bool_]]:
        """Fit the counts of experiments.

        Parameters
        ----------
        counts : `~numpy.ndarray`
            Shape (n_experiments, n, n_bins).

        Returns
        -------
        theta : `~numpy.ndarray`
            Logarithm of the amplitude and index, relative to the truth, shape (n_experiments, 2).
        done : `~numpy.ndarray`
            Whether there is a maximum, shape (n_experiments,).
        """
        counts = counts.reshape(len(counts), -1)[:, self.bins]
        theta = np.zeros((len(counts), 2))
        done = np.zeros(len(counts), dtype=bool)
        active = np.arange(len(counts))
        with np.errstate(all="ignore"):
            state = self.evaluate(counts, theta)
            step = _steps(state)
            for _ in range(MAX_ITERATIONS):
                trial = theta[active] + step
                new = self.evaluate(counts[active], trial)
                good = np.isfinite(new.gain) & (new.gain >= state.gain - 1e-7)
                theta[active[good]] = trial[good]
                state = State(
                    *(
                        np.where(good.reshape(-1, *[1] * (a.ndim - 1)), a, b)
                        for a, b in zip(vars(new).values(), vars(state).values(), strict=True)
                    )
                )
                next_step = _steps(state)
                size = np.einsum("ep,ep->e", next_step, state.gradient)
                finished = good & (size < TOLERANCE**2)
                # No signal is left: the logarithm runs away to minus infinity.
                lost = ~np.isfinite(size) | (theta[active, 0] < -12)
                done[active[finished & ~lost]] = True
                step = np.where(good[:, np.newaxis], next_step, step / 2)
                rest = ~(finished | lost)
                active, step = active[rest], step[rest]
                state = State(*(value[rest] for value in vars(state).values()))
                if len(active) == 0:
                    break
        return theta, done


def _steps(state: State) -> Array:
    """Steps of Fisher's scoring, none so large that the spectrum is another."""
    (a, b), d = state.information[:, 0].T, state.information[:, 1, 1]
    g, h = state.gradient.T
    step = np.stack([d * g - b * h, a * h - b * g], axis=1) / (a * d - b * b)[:, np.newaxis]
    largest = np.abs(step).max(axis=1, keepdims=True)
    return step / np.maximum(largest, 1.0)


def pseudo_experiments(
    runs: Counts, groupings: list[Ints], n_experiments: int, seed: int
) -> tuple[Array, NDArray[np.bool_]]:
    """Draw counts and fit them, runs apart and in each of the groupings.

    Parameters
    ----------
    runs : `Counts`
        Expected counts of the runs.
    groupings : list of `~numpy.ndarray`
        Labels of the runs.
    n_experiments, seed : int
        How many, and of which random numbers.

    Returns
    -------
    theta : `~numpy.ndarray`
        Fitted parameters, see `Fit.run`, shape (1 + n_groupings, n_experiments, 2), first those
        of the runs kept apart.
    done : `~numpy.ndarray`
        Whether all fits of an experiment have a maximum, shape (n_experiments,).
    """
    rng = np.random.default_rng(seed)
    mu, ways = runs.mu, [np.arange(len(runs.slices)), *groupings]
    fits = [Fit(runs.stack(labels)) for labels in ways]
    members = [np.equal.outer(np.unique(labels), labels).astype(float) for labels in ways]
    theta, done = [], []
    for start in range(0, n_experiments, CHUNK):
        size = (min(CHUNK, n_experiments - start), *mu.shape)
        counts = rng.poisson(mu, size).astype(float)
        found = [
            fit.run(np.einsum("gi,eik->egk", member, counts, optimize=True))
            for fit, member in zip(fits, members, strict=True)
        ]
        theta.append(np.stack([values for values, _ in found]))
        done.append(np.all([converged for _, converged in found], axis=0))
    return np.concatenate(theta, axis=1), np.concatenate(done)


@dataclass(frozen=True)
class Row:
    """Predicted and measured growth of the error of one parameter.

    Parameters
    ----------
    case, parameter : str
        Of which runs and what.
    n_groups : int
        Number of groups.
    loss : float
        Predicted loss of information.
    predicted, measured, error : float
        Growth of the error; the last is the statistical error of the measured one.
    difference, difference_error : float
        Growth as the differences between the two fits of the same counts tell it.
    """

    case: str
    parameter: str
    n_groups: int
    loss: float
    predicted: float
    measured: float
    error: float
    difference: float
    difference_error: float

    @property
    def sigmas(self) -> float:
        """How many statistical errors the measured growth is off."""
        return (self.measured - self.predicted) / self.error

    @property
    def agrees(self) -> bool:
        """Within 10 % of the growth or the statistical error, whichever is larger."""
        off = abs(self.measured - self.predicted)
        return bool(off <= max(0.1 * self.predicted, self.error))


def growth(apart: Array, grouped: Array) -> tuple[float, float]:
    """Ratio of two spreads of the same experiments, minus 1, and its statistical error.

    The error is that of the paired ratio, by the delta method: each experiment has its share in
    both variances, and what moves both alike cancels.
    """
    x, y = apart - apart.mean(), grouped - grouped.mean()
    ratio = float(y.std() / x.std())
    share = 0.5 * (y**2 / y.var() - x**2 / x.var())
    return ratio - 1, ratio * float(share.std()) / np.sqrt(len(x))


def growth_by_difference(apart: Array, grouped: Array) -> tuple[float, float]:
    """The same from the spread of the differences, and its statistical error.

    A fit that uses all information is not correlated with its difference to any other (else a
    mixture of the two would be better still), so variances of fit and difference add up.
    """
    x, y = apart - apart.mean(), grouped - apart - (grouped - apart).mean()
    ratio = float(y.var() / x.var())
    share = y**2 / y.var() - x**2 / x.var()
    total = np.sqrt(1 + ratio)
    return float(total - 1), float(ratio * share.std() / np.sqrt(len(x)) / (2 * total))


def compare(
    case: Case, scores: Scores, runs: Counts, n_experiments: int, seed: int
) -> tuple[list[Row], str]:
    """Rows of a case, and a line about its fits."""
    labels = [cluster_by_information(scores, n).labels for n in case.n_groups]
    many = Scores(
        scores.obs_ids, case.factor * scores.mu, case.factor * scores.d, names=scores.names
    )
    theta, done = pseudo_experiments(runs.scaled(case.factor), labels, n_experiments, seed)
    rows = []
    for n_groups, grouping, grouped in zip(case.n_groups, labels, theta[1:], strict=True):
        loss = information_loss(scores, grouping)
        # What the factor leaves as it is.
        np.testing.assert_allclose(information_loss(many, grouping), loss, rtol=1e-9)
        predicted = error_inflation(scores, grouping)
        for p, name in enumerate(NAMES):
            apart, together = theta[0][done, p], grouped[done, p]
            rows.append(
                Row(
                    case.name,
                    name,
                    n_groups,
                    loss,
                    predicted[name],
                    *growth(apart, together),
                    *growth_by_difference(apart, together),
                )
            )
    errors = np.sqrt(np.diag(np.linalg.inv(fisher_matrix(many))))
    spread = theta[0][done].std(axis=0)
    bias = theta[0][done].mean(axis=0) / spread
    text = ", ".join(
        f"{name} {error:.4f} predicted, {found:.4f} measured, bias {off:+.3f} of it"
        for name, error, found, off in zip(NAMES, errors, spread, bias, strict=True)
    )
    without = f"; {np.sum(~done)} experiments have no maximum and are left out" * (not done.all())
    return rows, f"errors with the runs apart: {text}{without}"


def cases(archive: str, directory: str) -> Iterator[tuple[Case, Scores, Counts]]:
    """All cases with their counts; the simulated archive is written to a directory."""
    simulated = simulate(Path(directory) / "archive", events=False, **ARCHIVE)
    for case, path in ((REAL, archive), *((case, simulated) for case in SIMULATED)):
        data_store = DataStore.from_dir(path)
        table = data_store.obs_table
        pointing = SkyCoord(table["RA_PNT"], table["DEC_PNT"], unit="deg")
        near = pointing.separation(case.position).deg < 2
        observations = data_store.get_observations(np.asarray(table["OBS_ID"])[near])
        yield case, *expect(observations, make_source(case.flux, index=2.7), case.position)


def measure(archive: str, n_experiments: int = 50_000, seed: int = 1) -> Iterator[list[Row]]:
    """Rows of each case, which are printed on the way.

    Parameters
    ----------
    archive : str
        hess-dl3-dr1.
    n_experiments, seed : int
        How many pseudo-experiments, and of which random numbers.
    """
    with tempfile.TemporaryDirectory() as directory:
        for case, scores, runs in cases(archive, directory):
            start = time.perf_counter()
            rows, remark = compare(case, scores, runs, n_experiments, seed)
            took = time.perf_counter() - start
            print(
                f"{case.name}: {len(scores)} runs, {case.flux}, exposures times {case.factor:g}; "
                f"{n_experiments:,} experiments in {took:.0f} s\n  {remark}"
            )
            print(table(rows), flush=True)
            yield rows


def table(rows: list[Row]) -> str:
    """Rows as text."""
    lines = [
        "  groups  loss     parameter  predicted  measured          off            by differences"
    ]
    lines += [
        f"  {row.n_groups:<6}  {row.loss:6.2%}  {row.parameter:<9}  {row.predicted:8.3%}   "
        f"{row.measured:7.3%} ± {row.error:.3%}  {row.sigmas:+.1f} sigma "
        f"{'agrees' if row.agrees else 'DIFFERS'}  "
        f"{row.difference:7.3%} ± {row.difference_error:.3%}"
        for row in rows
    ]
    return "\n".join(lines)
