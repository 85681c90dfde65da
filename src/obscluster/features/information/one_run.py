"""Expected counts of one run: responses, live time and background put together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from astropy import units as u
from astropy.coordinates import angular_separation, position_angle
from numpy.typing import NDArray

from obscluster.exceptions import DataError
from obscluster.features.base import NotComputableError, Run
from obscluster.features.information.background import (
    BackgroundRate,
    rate_background,
    response_background,
    solid_angles,
)
from obscluster.features.information.binning import Binning
from obscluster.features.information.expectation import signal
from obscluster.features.information.off_events import off_counts
from obscluster.features.information.safe_energy import safe_bins
from obscluster.features.information.source import Source
from obscluster.observation import Observation

__all__ = ["OffEvents", "RunCounts", "Task", "expected_counts"]

Array = NDArray[np.float64]

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
        ``safe_energy`` and ``aeff_fraction`` of `obscluster.features.information.get_scores`.
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
