"""Is the predicted growth of errors true? Fits of simulated counts, apart, grouped and stacked.

    python benchmarks/pseudo_experiments.py ARCHIVE [--experiments N] [--figure FILE]

ARCHIVE is hess-dl3-dr1. Counts are drawn in the bins of the scores, energy times rings, for each
run. The same counts are then fitted three times by maximum likelihood, with the logarithm of the
amplitude and the index free: the runs kept apart, which have a joint likelihood; summed in groups;
all summed. Expected counts are folded anew for each trial of the parameters, nothing is linear.

The prediction is that of a large number of counts, so all exposures are multiplied by a factor
first. That changes no loss, since signal and background grow alike. Tables with smaller factors,
down to 1, show what happens where counts are few. It takes about ten minutes.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from matplotlib.figure import Figure
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from obscluster import DataStore
from obscluster.archive.observation import Observation
from obscluster.information.cluster import cluster_by_information
from obscluster.information.counts import true_energies
from obscluster.information.loss import error_inflation, fisher_matrix, information_loss
from obscluster.information.scores import Scores, get_scores
from obscluster.information.source import PowerLaw, Source, make_source
from obscluster.plots.scatter import save_figure
from obscluster.plots.style import OKABE_ITO
from obscluster.simulate import simulate

Array = NDArray[np.float64]
Ints = NDArray[np.int64]

NAMES = ("amplitude", "index")
# A fit is done where the next step is so small a part of the errors.
TOLERANCE = 1e-5
MAX_ITERATIONS = 200
N_EXPERIMENTS = 200_000
# Exposures with fewer counts, down to the true ones.
FEW = (100, 10, 1)
# Parts of the experiments whose scatter tells the error of what has no formula.
N_PARTS = 50
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
        All exposures are multiplied by it: errors of the parameters are then 1 to 2 %.
    """

    name: str
    position: SkyCoord
    flux: str
    n_groups: tuple[int, ...]
    factor: float


PKS = SkyCoord(329.71693826, -30.2255890, unit="deg")
RADIUS = 2 * u.deg
CEN_A = SkyCoord(201.3651, -43.0191, unit="deg")
REAL = Case("PKS 2155-304, H.E.S.S.", PKS, "0.6 % Crab", (3, 2, 1), 1000)
SIMULATED = (
    Case("Centaurus A, simulated", CEN_A, "0.1 % Crab", (3, 2, 1), 10000),
    Case("PKS 2155-304, simulated", PKS, "0.1 % Crab", (3, 2, 1), 10000),
)
SIMULATED_ARCHIVE = {"n_obs": 120, "seed": 2, "size": "small", "separation": 2, "n_epochs": 5}


@dataclass(frozen=True)
class Slices(PowerLaw):
    """A power law whose parameters are the fluxes in slices of true energy.

    Its derivatives are the counts that come from each slice, so that counts for any other spectrum
    are their weighted sum, exactly.

    Parameters
    ----------
    amplitude, index, reference
        See `~obscluster.information.source.PowerLaw`.
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


def expect(
    observations: list[Observation], source: Source, position: SkyCoord
) -> tuple[Scores, Counts]:
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
    """Maximum likelihood of many experiments at once, by Fisher's scoring with damped steps.

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
        active, damping = np.arange(len(counts)), np.ones((len(counts), 1))
        with np.errstate(all="ignore"):
            state = self.evaluate(counts, theta)
            step = _steps(state)
            for _ in range(MAX_ITERATIONS):
                trial = theta[active] + damping * step
                new = self.evaluate(counts[active], trial)
                good = np.isfinite(new.gain) & (new.gain >= state.gain - 1e-7)
                theta[active[good]] = trial[good]
                state = State(
                    *(
                        np.where(good.reshape(-1, *[1] * (a.ndim - 1)), a, b)
                        for a, b in zip(vars(new).values(), vars(state).values(), strict=True)
                    )
                )
                step = _steps(state)
                # Kept small once it was too large: with few counts, full steps may go to and fro.
                damping[~good] /= 2
                size = np.einsum("ep,ep->e", step, state.gradient)
                finished = good & (size < TOLERANCE**2)
                # No signal is left: the logarithm runs away to minus infinity.
                lost = ~np.isfinite(size) | (theta[active, 0] < -12)
                done[active[finished & ~lost]] = True
                rest = ~(finished | lost)
                active, step, damping = active[rest], step[rest], damping[rest]
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
    n_groups : int
        Number of groups.
    loss : float
        Predicted loss of information.
    parameter : str
        Which parameter.
    predicted, measured, error : float
        Growth of its error; the last is the statistical error of the measured one.
    difference, difference_error : float
        Growth as the differences between the two fits of the same counts tell it.
    """

    n_groups: int
    loss: float
    parameter: str
    predicted: float
    measured: float
    error: float
    difference: float = np.nan
    difference_error: float = np.nan

    @property
    def sigmas(self) -> float:
        """How many statistical errors the measured growth is off."""
        return (self.measured - self.predicted) / self.error

    @property
    def agrees(self) -> bool:
        """Within 10 % of the growth or the statistical error, whichever is larger."""
        off = abs(self.measured - self.predicted)
        return bool(off <= max(0.1 * self.predicted, self.error))


@dataclass(frozen=True)
class Result:
    """What was measured of a case.

    Parameters
    ----------
    case : `Case`
        Which runs and source.
    n_runs, n_experiments : int
        How many.
    factor : float
        All exposures were multiplied by it.
    errors, spreads, biases : tuple of float
        Predicted errors of the parameters with the runs apart, their spreads, and the mean of the
        fits minus the truth in units of these.
    without : float
        Part of the experiments in which some likelihood has no maximum: the logarithm of the
        amplitude runs away.
    rows : list of `Row`
        For each number of groups and each parameter.
    """

    case: Case
    n_runs: int
    n_experiments: int
    factor: float
    errors: tuple[float, ...]
    spreads: tuple[float, ...]
    biases: tuple[float, ...]
    without: float
    rows: list[Row]

    @property
    def remark(self) -> str:
        """A line about the fits of the runs kept apart."""
        found = zip(NAMES, self.errors, self.spreads, self.biases, strict=True)
        text = ", ".join(
            f"{name} {error:.4f} predicted, {spread:.4f} measured with bias {bias:+.3f} of it"
            for name, error, spread, bias in found
        )
        return f"errors apart: {text}; {self.without:.2%} of the fits have no maximum"

    def __str__(self) -> str:
        shown = bool(np.isfinite(self.rows[0].difference))
        what = f"{self.case.name}: {self.n_runs} runs, {self.case.flux}"
        how = f"exposures times {self.factor:g}, {self.n_experiments:,} experiments"
        head = "  groups   loss   parameter  predicted      measured         off"
        lines = [f"{what}, {how}", f"  {self.remark}", head + shown * f"{'by differences':>32}"]
        for row in self.rows:
            verdict = "agrees " if row.agrees else "differs"
            by_differences = f"  {row.difference:7.3%} ± {row.difference_error:.3%}" * shown
            lines.append(
                f"  {row.n_groups:4}   {row.loss:7.2%}  {row.parameter:<9}  {row.predicted:8.3%}  "
                f"{row.measured:7.3%} ± {row.error:.3%}  {row.sigmas:+.1f} sigma, {verdict}"
                f"{by_differences}"
            )
        return "\n".join(lines)


def growth(apart: Array, grouped: Array) -> tuple[float, float]:
    """Ratio of two standard deviations, minus 1, and its statistical error.

    The error is that of the paired ratio, by the delta method: each experiment has its share in
    both variances, and what moves both alike cancels.

    Parameters
    ----------
    apart, grouped : `~numpy.ndarray`
        A parameter, fitted to the same counts, shape (n_experiments,).
    """
    x, y = apart - apart.mean(), grouped - grouped.mean()
    ratio = float(y.std() / x.std())
    share = 0.5 * (y**2 / y.var() - x**2 / x.var())
    return ratio - 1, ratio * float(share.std()) / np.sqrt(len(x))


def growth_by_differences(apart: Array, grouped: Array) -> tuple[float, float]:
    """The same from the spread of the differences between both fits.

    A fit that uses all information is not correlated with its difference to any other (else a
    mixture of the two would be better still), so the variances of fit and difference add up. That
    is part of the theory to be tested, but measures the growth with fewer experiments.

    Parameters
    ----------
    apart, grouped
        See `growth`.
    """
    x, y = apart - apart.mean(), grouped - apart - (grouped - apart).mean()
    ratio = float(y.var() / x.var())
    share = y**2 / y.var() - x**2 / x.var()
    total = np.sqrt(1 + ratio)
    return float(total - 1), float(ratio * share.std() / np.sqrt(len(x)) / (2 * total))


def growth_of_widths(apart: Array, grouped: Array) -> tuple[float, float]:
    """The same for the central 68 %, where tails are not normal.

    Parameters
    ----------
    apart, grouped
        See `growth`.
    """

    def width(values: Array) -> float:
        low, high = np.quantile(values, [0.1587, 0.8413])
        return float(high - low)

    parts = zip(np.array_split(apart, N_PARTS), np.array_split(grouped, N_PARTS), strict=True)
    scatter = np.std([width(y) / width(x) for x, y in parts], ddof=1)
    return width(grouped) / width(apart) - 1, float(scatter) / np.sqrt(N_PARTS)


def compare(
    case: Case,
    scores: Scores,
    runs: Counts,
    n_experiments: int = N_EXPERIMENTS,
    seed: int = 1,
    factor: float | None = None,
) -> Result:
    """Measure the growth of errors, beside what is predicted.

    Parameters
    ----------
    case, scores, runs
        See `cases`.
    n_experiments, seed : int
        How many pseudo-experiments, and of which random numbers.
    factor : float, optional
        All exposures are multiplied by it, instead of that of the case. Spreads are then those of
        the central 68 %, and the amplitude that of an experiment without a maximum is zero.
    """
    labels = [cluster_by_information(scores, n).labels for n in case.n_groups]
    times = case.factor if factor is None else factor
    many = Scores(scores.obs_ids, times * scores.mu, times * scores.d, names=scores.names)
    theta, done = pseudo_experiments(runs.scaled(times), labels, n_experiments, seed)
    if factor is None:
        fitted = dict(zip(NAMES, np.moveaxis(theta[:, done], -1, 0), strict=True))
    else:
        amplitude = np.where(done, np.exp(theta[..., 0]), 0.0)
        fitted = {"amplitude": amplitude, "index": theta[:, done, 1]}
    rows = []
    for place, (n_groups, grouping) in enumerate(zip(case.n_groups, labels, strict=True), 1):
        loss, predicted = information_loss(scores, grouping), error_inflation(scores, grouping)
        # The factor leaves it as it is.
        np.testing.assert_allclose(information_loss(many, grouping), loss, rtol=1e-9)
        for name in NAMES:
            pair = fitted[name][0], fitted[name][place]
            if factor is None:
                measured = (*growth(*pair), *growth_by_differences(*pair))
            else:
                measured = growth_of_widths(*pair)
            rows.append(Row(n_groups, loss, name, predicted[name], *measured))
    errors = np.sqrt(np.diag(np.linalg.inv(fisher_matrix(many))))
    spreads = theta[0, done].std(axis=0)
    biases = theta[0, done].mean(axis=0) / spreads
    return Result(
        case,
        len(scores),
        n_experiments,
        times,
        tuple(errors.tolist()),
        tuple(spreads.tolist()),
        tuple(biases.tolist()),
        float(np.mean(~done)),
        rows,
    )


def near(archive: Path | str, position: SkyCoord) -> list[Observation]:
    """Observations of an archive around a position."""
    data_store = DataStore.from_dir(archive)
    table = data_store.obs_table
    pointing = SkyCoord(table["RA_PNT"], table["DEC_PNT"], unit="deg")
    rows = pointing.separation(position) < RADIUS
    return list(data_store.get_observations(np.asarray(table["OBS_ID"])[rows]))


def cases(archive: str) -> Iterator[tuple[Case, Scores, Counts]]:
    """All cases, with the scores and the expected counts of their runs.

    Parameters
    ----------
    archive : str
        hess-dl3-dr1.
    """
    with tempfile.TemporaryDirectory() as directory:
        simulated = simulate(Path(directory) / "archive", events=False, **SIMULATED_ARCHIVE)
        for case, path in ((REAL, archive), *((case, simulated) for case in SIMULATED)):
            source = make_source(case.flux, index=2.7)
            yield case, *expect(near(path, case.position), source, case.position)


def measure(archive: str, n_experiments: int = N_EXPERIMENTS, seed: int = 1) -> Iterator[Result]:
    """Results of all cases, and of the first with fewer counts.

    Parameters
    ----------
    archive, n_experiments, seed
        See `cases` and `compare`.
    """
    for case, *counts in cases(archive):
        yield compare(case, *counts, n_experiments, seed)
        if case is REAL:
            for factor in FEW:
                yield compare(case, *counts, max(n_experiments // 4, 2000), seed, factor)


def plot(results: list[Result], path: Path) -> None:
    """Draw measured against predicted growth, into a PNG file.

    Parameters
    ----------
    results : list of `Result`
        Of many counts.
    path : `~pathlib.Path`
        The file.
    """
    figure = Figure(figsize=(6.4, 6.4), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[2, 1])
    for i, result in enumerate(results):
        for marker, name in zip("os", NAMES, strict=True):
            rows = [row for row in result.rows if row.parameter == name]
            x, y, error = np.array([(r.predicted, r.measured, r.error) for r in rows]).T
            style = {
                "fmt": marker,
                "color": OKABE_ITO[i],
                "markerfacecolor": OKABE_ITO[i] if marker == "o" else "white",
                "markersize": 5,
                "capsize": 2,
            }
            label = f"{result.case.name}, {result.case.flux}: {name}"
            upper.errorbar(100 * x, 100 * y, 100 * error, label=label, **style)
            lower.errorbar(100 * x, y / x, error / x, **style)
    ends = np.array([0.1, 30])
    for ax, line in ((upper, ends), (lower, np.ones(2))):
        ax.plot(ends, line, color="0.3", linewidth=1, zorder=0)
        ax.fill_between(ends, 0.9 * line, 1.1 * line, color="0.88", linewidth=0, zorder=-1)
        ax.set_xscale("log")
        ax.grid(alpha=0.3)
        ax.xaxis.set_major_formatter("{x:g} %")
    upper.set_yscale("log")
    upper.yaxis.set_major_formatter("{x:g} %")
    upper.set_xlim(*ends)
    upper.set_ylim(*ends)
    upper.set_ylabel("measured growth of the error")
    upper.legend(fontsize="x-small")
    lower.set_ylim(0.75, 1.25)
    lower.set_ylabel("measured / predicted")
    lower.set_xlabel("predicted growth of the error")
    save_figure(figure, path)


def main() -> None:
    """Print the tables, and draw the figure if asked."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("archive", help="directory of hess-dl3-dr1")
    parser.add_argument("--experiments", type=int, default=N_EXPERIMENTS)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--figure", type=Path, help="PNG file to be written")
    arguments = parser.parse_args()
    results = []
    for result in measure(arguments.archive, arguments.experiments, arguments.seed):
        print(result, end="\n\n", flush=True)
        if result.factor == result.case.factor:
            results.append(result)
    rows = [row for result in results for row in result.rows]
    off = np.array([row.sigmas for row in rows])
    print(
        f"{sum(row.agrees for row in rows)} of {len(rows)} agree within 10 % of the growth or the "
        f"statistical error; root mean square off {np.sqrt(np.mean(off**2)):.2f} sigma"
    )
    if arguments.figure is not None:
        plot(results, arguments.figure)


if __name__ == "__main__":
    # More threads would wait for each other.
    with threadpool_limits(1):
        main()
