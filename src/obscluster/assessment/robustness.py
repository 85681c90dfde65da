"""Would other runs, or slightly other features, have given the same groups?"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from astropy import units as u
from astropy.table import Column, QTable, Table
from numpy.typing import NDArray

from obscluster.assessment.comparison import adjusted_rand, match_labels
from obscluster.assessment.within_groups import run_ids
from obscluster.exceptions import ObsClusterWarning, RequestError, join_lines
from obscluster.features.scaling import feature_names
from obscluster.grouping import UNASSIGNED
from obscluster.grouping.base import Grouping
from obscluster.values.columns import numbers

__all__ = ["Stability", "stability"]

_MAX_LISTED = 10
# Streams of random numbers, so that the one does not depend on how much the other is used.
_RESAMPLING, _NOISE = 0, 1


@dataclass(frozen=True, eq=False)
class Stability:
    """How much a grouping depends on which runs there are, and on small changes of features.

    Parameters
    ----------
    grouping : `~obscluster.grouping.base.Grouping`
        The grouping of the whole set.
    table : `~astropy.table.Table`
        One row for the resampling, and one for each noise level: ``kind``, ``level`` (fraction of
        the runs drawn, or noise in scaled units), ``median``, ``q05`` and ``q95`` of the adjusted
        Rand index between the groups found then and those of the whole set, and ``n``, over how
        many trials.
    runs : `~astropy.table.Table`
        One row for each assigned run: ``obs_id``, ``label``, ``stays`` (fraction of the resamples
        with this run in which it is in the group that corresponds to its own) and ``n``, the number
        of these resamples.
    """

    grouping: Grouping
    table: Table
    runs: Table

    def between(self, stays: float = 0.8) -> Table:
        """Runs that stay with their group in less than this fraction of resamples, worst first."""
        unsteady = self.runs[np.asarray(self.runs["stays"]) < stays]
        order = np.lexsort((np.asarray(unsteady["obs_id"]), np.asarray(unsteady["stays"])))
        return unsteady[order]

    def __str__(self) -> str:
        lines = ["adjusted Rand index with the groups of all runs: median (5 % to 95 %)"]
        for row in self.table:
            what = f"{row['level']:.0%} of the runs" if row["kind"] == "resampling" else ""
            what = what or f"noise of {row['level']:g} in scaled units"
            values = f"{row['median']:.2f} ({row['q05']:.2f} to {row['q95']:.2f})"
            lines.append(f"  {what}: {values}, {row['n']} trials")
        unsteady = self.between()
        if len(unsteady):
            listed = [f"{row['obs_id']} ({row['stays']:.0%})" for row in unsteady[:_MAX_LISTED]]
            more = ", ..." if len(unsteady) > _MAX_LISTED else ""
            lines.append(
                f"{len(unsteady)} between groups, which stay in less than 80% of the resamples: "
                f"{', '.join(listed)}{more}"
            )
        else:
            lines.append("every run stays with its group in at least 80% of the resamples")
        return join_lines(lines)


def stability(
    scaled: Table,
    method: Callable[[QTable], Grouping],
    n_resamples: int = 50,
    fraction: float = 0.8,
    noise: Sequence[float] = (0.05, 0.1, 0.2),
    random_state: int = 0,
) -> Stability:
    """Group again with some of the runs, and with noise on the features.

    Takes ``n_resamples * (1 + len(noise))`` times as long as grouping once.

    Parameters
    ----------
    scaled : `~astropy.table.Table`
        Scaled features with ``obs_id``.
    method : callable
        Takes such a table, with other runs or values, and returns a
        `~obscluster.grouping.base.Grouping`. It must be deterministic.
    n_resamples : int
        Number of resamples, and of trials for each noise level.
    fraction : float
        Fraction of the runs in a resample, drawn without replacement. The adjusted Rand index is
        over these.
    noise : sequence of float
        Standard deviations of the Gaussian noise, in scaled units; none for an empty sequence.
    random_state : int
        Seed. Resamples do not depend on ``noise``, and levels use the same random numbers.

    Returns
    -------
    stability : `Stability`
        ``print`` it for a summary. A run that loses its group in a trial counts as one that goes
        elsewhere; a run without a group in the whole set does not count.

    Raises
    ------
    RequestError
        If a number is not usable, or the method cannot group a resample.
    """
    _check(n_resamples, fraction, noise)
    obs_ids = run_ids(scaled)
    # In the order of the identifiers, so that draws do not depend on that of the rows.
    table = QTable(scaled, copy=True)[np.argsort(obs_ids)]
    obs_ids = np.sort(obs_ids)
    grouping = method(table.copy())
    labels = grouping.label_of(obs_ids)
    rows = []
    n_drawn, n_stays = np.zeros(len(table), dtype=np.int64), np.zeros(len(table), dtype=np.int64)
    indices = []
    with warnings.catch_warnings():
        # What the method warns of has been said of the whole set.
        warnings.simplefilter("ignore", ObsClusterWarning)
        for drawn in _draws(len(table), fraction, n_resamples, random_state):
            found = _group(method, table[drawn], f"{len(drawn)} of {len(table)} runs")
            matched = match_labels(labels[drawn], found)
            n_drawn[drawn] += 1
            n_stays[drawn] += matched == labels[drawn]
            indices.append(_index(labels[drawn], found))
        rows.append(("resampling", fraction, *_summary(indices)))
        for level in noise:
            indices = []
            for noisy in _noisy(table, level, n_resamples, random_state):
                found = _group(method, noisy, f"the runs with noise of {level:g}")
                indices.append(_index(labels, found))
            rows.append(("noise", level, *_summary(indices)))
    assigned = labels != UNASSIGNED
    stays = np.full(len(table), np.nan)
    np.divide(n_stays, n_drawn, out=stays, where=n_drawn > 0)
    runs = Table()
    for name, column, description in (
        ("obs_id", obs_ids, "Observation identifier"),
        ("label", labels, "Group in the whole set"),
        ("stays", stays, "Fraction of the resamples in which it stays with its group"),
        ("n", n_drawn, "Resamples with this run"),
    ):
        runs[name] = Column(column[assigned], description=description)
    summary = Table(rows=rows, names=("kind", "level", "median", "q05", "q95", "n"))
    summary.meta.update(random_state=random_state)
    return Stability(grouping, summary, runs)


def _check(n_resamples: int, fraction: float, noise: Sequence[float]) -> None:
    if n_resamples < 1:
        raise RequestError(f"n_resamples = {n_resamples}; ask for at least 1")
    if not 0 < fraction <= 1:
        raise RequestError(f"fraction = {fraction} of the runs; expected above 0, at most 1")
    if wrong := [level for level in noise if not 0 <= level < np.inf]:
        raise RequestError(f"noise of {wrong[0]}; expected numbers from 0, in scaled units")


def _draws(
    n_runs: int, fraction: float, n_resamples: int, random_state: int
) -> Iterator[NDArray[np.int64]]:
    """Rows of each resample, in rising order."""
    generator = np.random.default_rng((random_state, _RESAMPLING))
    size = min(n_runs, max(2, round(fraction * n_runs)))
    for _ in range(n_resamples):
        yield np.sort(generator.choice(n_runs, size, replace=False))


def _noisy(table: QTable, level: float, n_trials: int, random_state: int) -> Iterator[QTable]:
    """Copies of a table with noise on every feature; missing values stay missing."""
    generator = np.random.default_rng((random_state, _NOISE))
    names = feature_names(table)
    for _ in range(n_trials):
        noisy = table.copy()
        for name in names:
            noise = level * generator.standard_normal(len(table))
            noisy[name] = u.Quantity(numbers(table[name]) + noise, table[name].unit or u.one)
        yield noisy


def _group(method: Callable[[QTable], Grouping], table: QTable, what: str) -> NDArray[np.int64]:
    try:
        return method(table).label_of(np.asarray(table["obs_id"]))
    except RequestError as error:
        raise RequestError(
            f"{what} cannot be grouped like all: {error}; ask for fewer groups, or draw a larger "
            "fraction"
        ) from error


def _index(reference: NDArray[np.int64], found: NDArray[np.int64]) -> float:
    """Adjusted Rand index; runs that lost their group are a group of their own."""
    lost = np.where(found == UNASSIGNED, found.max(initial=0) + 1, found)
    return adjusted_rand(reference, lost)


def _summary(indices: list[float]) -> tuple[float, float, float, int]:
    known = np.array([index for index in indices if np.isfinite(index)])
    if not len(known):
        return np.nan, np.nan, np.nan, 0
    q05, median, q95 = np.quantile(known, [0.05, 0.5, 0.95])
    return float(median), float(q05), float(q95), len(known)
