"""Expected counts and scores of the runs: the arrays from which information is counted."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord, angular_separation, position_angle
from numpy.typing import ArrayLike, NDArray

from obscluster.archive.kinds import ONE_KIND, Kind, check_stackable
from obscluster.archive.observation import Observation
from obscluster.exceptions import DataError, RequestError, SkippedRunWarning, unknown_name
from obscluster.features.base import NotComputableError, Run
from obscluster.information.background import (
    BackgroundRate,
    make_rate,
    off_counts,
    rate_background,
    response_background,
    shared_rates,
    solid_angles,
)
from obscluster.information.counts import Binning, signal
from obscluster.information.safe_energy import safe_bins
from obscluster.information.source import Source
from obscluster.parallel.engine import Engine, get_engine

__all__ = ["OffEvents", "RunCounts", "Scores", "Task", "expected_counts", "get_scores"]

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
    binning : `~obscluster.information.counts.Binning`, optional
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


_IRFS = ("aeff", "edisp", "psf", "bkg", "rad_max")


@dataclass(frozen=True)
class Task:
    """What to compute for each observation; angles in degrees.

    Parameters
    ----------
    source, binning
        What is measured, and the bins.
    lon, lat : float
        Right ascension and declination of the source.
    safe, fraction
        ``safe_energy`` and ``aeff_fraction`` of `obscluster.information.get_scores`.
    background : str or tuple
        Where the background comes from, or its rates.
    """

    source: Source
    binning: Binning
    lon: float
    lat: float
    safe: str
    fraction: float
    background: str | BackgroundRate


@dataclass(frozen=True)
class OffEvents:
    """Events of one run outside the source.

    Parameters
    ----------
    counts, exposure : `~numpy.ndarray`
        Events, and time times solid angle in s sr, shape (n_energies,).
    wanted : `~numpy.ndarray`
        Time times solid angle of the bins in s sr, shape (n_energies, n_rings).
    """

    counts: Array
    exposure: Array
    wanted: Array


@dataclass(frozen=True)
class RunCounts:
    """Expected counts of one run.

    Parameters
    ----------
    s, d : `~numpy.ndarray`
        Signal and its derivatives, shape (n_bins,) and (n_bins, n_params).
    background : `~numpy.ndarray` or `OffEvents`
        Background, shape (n_bins,), or events to estimate it from.
    safe : `~numpy.ndarray`
        Bins that count, shape (n_bins,).
    livetime : float
        In seconds.
    pointlike : bool
        Whether the responses hold a directional cut.
    note : str
        What is doubtful.
    """

    s: Array
    d: Array
    background: Array | OffEvents
    safe: NDArray[np.bool_]
    livetime: float
    pointlike: bool
    note: str


def expected_counts(observation: Observation, task: Task) -> RunCounts:
    """Expected counts of one run, of which what is read is kept in the observation.

    Raises
    ------
    DataError
        If its files cannot be read.
    NotComputableError
        If something is missing, or the source is outside the field of view.
    """
    wanted = [name for name in _IRFS if name != "bkg" or task.background in ("auto", "irf")]
    irfs = observation.read_irfs(*wanted)
    pointing = observation.pointing_lon_lat()
    target = np.radians(task.lon), np.radians(task.lat)
    offset = float(np.degrees(angular_separation(*pointing, *target)))
    run = Run(observation, irfs, offset, has_target=True)
    livetime = run.value("livetime")
    if not 0 < livetime < np.inf:
        raise NotComputableError(f"the live time is {livetime:g} s")
    aeff, edisp = run.irf("aeff"), run.irf("edisp")
    if not aeff.axes["offset"].contains(offset):
        raise NotComputableError(f"the source is outside the field of view, {offset:.1f} deg off")
    pointlike = aeff.is_pointlike
    binning = task.binning.energy_only if pointlike else task.binning
    psf = None if pointlike else run.irf("psf")
    offsets = [run.offset_for(irf) if irf is not None else 0.0 for irf in (aeff, edisp, psf)]
    where = (offsets[0], offsets[1], offsets[2])
    s, d = signal(task.source, binning, aeff, edisp, psf, where, livetime, run.remark)
    safe = safe_bins(run, task.safe, task.fraction, binning, (offsets[0], offsets[2]), psf)
    cut = None if binning.ring_edges else _cut(run, binning)
    if cut is not None and not cut.all():
        run.remark(
            f"energy bins without directional cut left out (rad_max_2d: {(cut == 0).sum()} of "
            f"{len(cut)})"
        )
        safe = safe & (cut > 0)
        if not safe.any():
            raise NotComputableError("no directional cut at any safe energy")
    b: Array | OffEvents
    if not isinstance(task.background, str):
        b = rate_background(task.background, binning, _ontime(run), cut)
    elif task.background == "irf" or (task.background == "auto" and "bkg" in irfs):
        b = response_background(
            run.irf("bkg"), binning, _field_of_view(run, task), _ontime(run), cut, safe, run.remark
        )
    else:
        b = _off(run, task, binning, cut)
    found = (s, d, b) if isinstance(b, np.ndarray) else (s, d)
    if not all(np.isfinite(values).all() for values in found):
        raise NotComputableError("the responses give counts that are no numbers")
    note = "; ".join(run.remarks)
    return RunCounts(s, d, b, safe, livetime, pointlike, note)


def _off(run: Run, task: Task, binning: Binning, cut: Array | None) -> OffEvents:
    """Events in the OFF regions."""
    if not binning.ring_edges and cut is None:
        raise NotComputableError("the directional cut is not known, so events cannot be counted")
    events = run.good_events("ENERGY", "RA", "DEC")
    lon, lat = run.observation.pointing_lon_lat()
    energies, radec = events.energy.to_value(u.TeV), events.radec
    distance = angular_separation(lon, lat, radec.ra.rad, radec.dec.rad)
    angle = position_angle(lon, lat, radec.ra.rad, radec.dec.rad).rad
    target = position_angle(lon, lat, np.radians(task.lon), np.radians(task.lat)).rad
    radius = np.full(binning.n_energies, binning.rings[-1]) if cut is None else cut
    counts, solid_angle, method = off_counts(
        energies, distance, angle - target, run.offset, binning, radius
    )
    if method.startswith("ring"):
        run.remark(f"background from a {method}, as it is only {run.offset:.2f} deg off")
    ontime = _ontime(run)
    wanted = np.broadcast_to(solid_angles(binning, cut), (binning.n_energies, binning.n_rings))
    return OffEvents(counts, ontime * solid_angle, ontime * wanted)


def _ontime(run: Run) -> float:
    """Sum of the good time intervals in seconds, or ONTIME where there are none."""
    try:
        return float(run.observation.gti.time_sum.to_value(u.s))
    except DataError:
        return run.value("ONTIME")


def _field_of_view(run: Run, task: Task) -> tuple[float, float]:
    """Place of the source relative to the pointing, to the east and to the north in degrees."""
    lon, lat = run.observation.pointing_lon_lat()
    east, target = np.radians(task.lon) - lon, np.radians(task.lat)
    x = np.cos(target) * np.cos(east) * np.cos(lat) + np.sin(target) * np.sin(lat)
    y = np.cos(target) * np.sin(east)
    z = np.sin(target) * np.cos(lat) - np.cos(target) * np.cos(east) * np.sin(lat)
    return float(np.degrees(np.arctan2(y, x))), float(np.degrees(np.arcsin(np.clip(z, -1, 1))))


def _cut(run: Run, binning: Binning) -> Array | None:
    """Directional cut in degrees at the centres of the energy bins, 0 where there is none.

    None if it is not known at all.
    """
    rad_max = run.irfs.get("rad_max")
    if rad_max is None:
        return None
    energies = np.sqrt(binning.energies[:-1] * binning.energies[1:])
    axis = rad_max.axes["energy"]
    nodes = rad_max.evaluate(
        energy=np.clip(energies, axis.edges[0], axis.edges[-1]) * u.TeV,
        offset=run.offset_for(rad_max) * u.deg,
    ).to_value(u.deg)
    return np.nan_to_num(np.asarray(nodes, dtype=float))


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
    observations : iterable of `~obscluster.archive.observation.Observation`
        The observations.
    source : `~obscluster.information.source.Source`
        What is measured, see `~obscluster.information.source.make_source`.
    position : `~astropy.coordinates.SkyCoord`
        Where it is.
    binning : `~obscluster.information.counts.Binning`, optional
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
        Anything with ``map``, see `obscluster.parallel.engine`; one worker unless told.
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
    skipped = [
        f"run {obs.obs_id} {row.note}"
        for obs, row in zip(observations, rows, strict=True)
        if row.counts is None
    ]
    if skipped:
        more = f"; and {len(skipped) - 5} more" if len(skipped) > 5 else ""
        text = f"{len(skipped)} of {len(rows)} runs: {'; '.join(skipped[:5])}{more}"
        warnings.warn(text, SkippedRunWarning, stacklevel=3)
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
