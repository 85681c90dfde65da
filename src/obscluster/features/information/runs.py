"""Expected counts and scores of the runs of an archive."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from astropy.coordinates import SkyCoord
from numpy.typing import NDArray

from obscluster.archive.kinds import ONE_KIND, Kind, check_stackable
from obscluster.engine import Engine, get_engine
from obscluster.exceptions import DataError, RequestError, SkippedRunWarning, unknown_name
from obscluster.features.base import NotComputableError
from obscluster.features.information.background import BackgroundRate, make_rate
from obscluster.features.information.binning import Binning
from obscluster.features.information.off_events import shared_rates
from obscluster.features.information.one_run import OffEvents, RunCounts, Task, expected_counts
from obscluster.features.information.scores import Scores
from obscluster.features.information.source import Source
from obscluster.observation import Observation

__all__ = ["get_scores"]

Array = NDArray[np.float64]
Progress = Callable[[Iterable[Any]], Iterable[Any]]

_SAFE = ("aeff-max", "index", "none")
_CLASSES = {True: "point-like", False: "full-enclosure"}
_BACKGROUNDS = ("auto", "irf", "events")


@dataclass(frozen=True)
class _Row:
    """What was found of one run: counts, or why there are none; and what could not be read."""

    counts: RunCounts | None
    note: str
    unread: str


def get_scores(
    observations: Iterable[Observation],
    source: Source,
    position: SkyCoord,
    binning: Binning | None = None,
    safe_energy: str = "aeff-max",
    aeff_fraction: float = 0.1,
    background: Any = "auto",
    engine: Engine | None = None,
    progress: Progress | None = None,
) -> Scores:
    """Expected counts and scores of many observations.

    Parameters
    ----------
    observations : iterable of `~obscluster.observation.Observation`
        The observations.
    source : `~obscluster.features.information.source.Source`
        What is measured, see `~obscluster.features.information.source.make_source`.
    position : `~astropy.coordinates.SkyCoord`
        Where it is.
    binning : `~obscluster.features.information.binning.Binning`, optional
        The bins. For point-like responses its energies alone count.
    safe_energy : {"aeff-max", "index", "none"}
        Reconstructed energies that count in a run: where the area reaches ``aeff_fraction`` of its
        maximum; between the columns SAFE_ENERGY_LO and SAFE_ENERGY_HI of the obs-index; all.
    aeff_fraction : float
        Fraction of the maximum area.
    background : {"auto", "irf", "events"} or `~astropy.units.Quantity`
        Where the background comes from: the background response; the run's own events in reflected
        regions or, for a source close to the pointing, in a ring around it; the first of the two
        that the run has; or rates per energy bin in s-1 sr-1, or in s-1 inside the directional cut.
    engine : optional
        Anything with ``map``, see `obscluster.engine`; one worker unless told.
    progress : callable, optional
        Wraps the iterable of results, such as a progress bar.

    Returns
    -------
    scores : `Scores`
        One row per observation, in their order; NaN with the reason in ``notes`` for a run that
        cannot be computed.

    Raises
    ------
    RequestError
        If a value is not usable, no run can be computed, point-like and full-enclosure responses
        are mixed, or the size of a source is asked of point-like ones.

    Warns
    -----
    SkippedRunWarning
        If some runs could not be computed.
    """
    observations = list(observations)
    binning = binning or Binning()
    if safe_energy not in _SAFE:
        raise RequestError(unknown_name("safe_energy", safe_energy, _SAFE))
    if not 0 <= aeff_fraction < 1:
        raise RequestError(f"aeff_fraction {aeff_fraction}; expected 0 to 1")
    if not isinstance(position, SkyCoord) or not position.isscalar:
        raise RequestError(f"position {position!r}: expected a single SkyCoord")
    if isinstance(background, str):
        if background not in _BACKGROUNDS:
            raise RequestError(unknown_name("background", background, _BACKGROUNDS))
        where: str | BackgroundRate = background
    else:
        where = make_rate(background, binning)
    lon, lat = float(position.icrs.ra.deg), float(position.icrs.dec.deg)
    task = Task(source, binning, lon, lat, safe_energy, aeff_fraction, where)
    engine = engine or get_engine(1)
    results = engine.map(partial(_expect, task=task), observations)
    rows = list(results if progress is None else progress(results))
    scores = _gather(observations, rows, task)
    _warn_of_skipped(observations, rows)
    return scores


def _expect(observation: Observation, task: Task) -> _Row:
    """Counts of one observation."""
    observation = observation.passing(with_gti=True)
    try:
        counts, note = expected_counts(observation, task), ""
    except (DataError, NotComputableError) as reason:
        counts, note = None, f"skipped: {reason}"
    unread = observation.unread.get(observation.obs_id, "")
    return _Row(counts, note if counts is None else counts.note, unread)


def _gather(observations: Sequence[Observation], rows: Sequence[_Row], task: Task) -> Scores:
    known = [(i, row.counts) for i, row in enumerate(rows) if row.counts is not None]
    kinds = {counts.pointlike for _, counts in known}
    if not kinds:
        reasons = "; ".join(dict.fromkeys(row.note for row in rows)) or "there is none"
        raise RequestError(f"no run has expected counts: {reasons}")
    if len(kinds) > 1:
        of_run = {
            observations[i].obs_id: Kind(response=_CLASSES[counts.pointlike]) for i, counts in known
        }
        check_stackable(of_run, {"these counts": of_run}, ONE_KIND)
    binning = task.binning.energy_only if kinds == {True} else task.binning
    if kinds == {True} and (task.source.size > 0 or "size" in task.source.parameters):
        raise RequestError(
            "the responses are point-like: they are of no use for an extended source"
        )
    backgrounds = _backgrounds([counts for _, counts in known], binning)
    n_bins, n_params = binning.n_bins, len(task.source.parameters)
    mu, d = np.full((len(rows), n_bins), np.nan), np.full((len(rows), n_bins, n_params), np.nan)
    b, livetimes = np.full_like(mu, np.nan), np.full(len(rows), np.nan)
    for (i, counts), background in zip(known, backgrounds, strict=True):
        b[i] = np.where(counts.safe, background, 0.0)
        mu[i] = np.where(counts.safe, counts.s, 0.0) + b[i]
        d[i] = np.where(counts.safe[:, np.newaxis], counts.d, 0.0)
        livetimes[i] = counts.livetime
    return Scores(
        np.array([obs.obs_id for obs in observations], dtype=np.int64),
        mu,
        d,
        b,
        task.source.parameters,
        livetimes,
        binning,
        tuple(row.note for row in rows),
        {int(o.obs_id): r.unread for o, r in zip(observations, rows, strict=True) if r.unread},
    )


def _backgrounds(known: Sequence[RunCounts], binning: Binning) -> list[Array]:
    """Background of each run, shape (n_bins,); of those that count events, from all of these."""
    counting = [counts for counts in known if isinstance(counts.background, OffEvents)]
    rates: Iterator[Array] = iter(())
    if counting:
        offs = [counts.background for counts in known if isinstance(counts.background, OffEvents)]
        safe = np.stack([counts.safe[:: binning.n_rings] for counts in counting])
        exposure = np.where(safe, np.stack([off.exposure for off in offs]), 0.0)
        rates = iter(shared_rates(np.stack([off.counts for off in offs]), exposure))
    backgrounds = []
    for counts in known:
        b = counts.background
        if isinstance(b, OffEvents):
            b = (next(rates)[:, np.newaxis] * b.wanted).ravel()
        backgrounds.append(b)
    return backgrounds


def _warn_of_skipped(observations: Sequence[Observation], rows: Sequence[_Row]) -> None:
    skipped = [
        f"run {obs.obs_id} {row.note}"
        for obs, row in zip(observations, rows, strict=True)
        if row.counts is None
    ]
    if skipped:
        more = f"; and {len(skipped) - 5} more" if len(skipped) > 5 else ""
        text = f"{len(skipped)} of {len(rows)} runs: {'; '.join(skipped[:5])}{more}"
        warnings.warn(text, SkippedRunWarning, stacklevel=3)
