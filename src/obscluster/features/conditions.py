"""Observing conditions: what the telescope and the sky were like.

Values come from the obs-index, else from the EVENTS header, else they are computed from pointing,
time and location where that is possible.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from numpy.typing import NDArray

from obscluster.features.base import NotComputableError, Run, feature
from obscluster.gadf.time import has_time_ref, time_ref_from_header

__all__ = ["FEATURES"]

# None looks at a response.
_condition = partial(feature, at_offset=True)


@_condition("zenith", unit="deg", description="Zenith angle")
def zenith(run: Run) -> float:
    """ZEN_PNT, or 90 deg - ALT_PNT, or computed at mid-time."""
    try:
        return run.value("ZEN_PNT")
    except NotComputableError:
        pass
    try:
        return 90.0 - run.value("ALT_PNT")
    except NotComputableError:
        return float(_altaz(run).zen.deg)


@_condition("airmass", description="Airmass, 1 / cos(zenith angle)")
def airmass(run: Run) -> float:
    """Secant of the zenith angle: the plane-parallel atmosphere."""
    angle = zenith.function(run)
    if not 0 <= angle < 90:
        raise NotComputableError(f"the zenith angle is {angle:.2f} deg")
    return float(1.0 / np.cos(np.radians(angle)))


@_condition("cos-zenith", description="Cosine of the zenith angle")
def cos_zenith(run: Run) -> float:
    """Responses change evenly with it, which makes it the usual axis of zenith bins."""
    return float(np.cos(np.radians(zenith.function(run))))


@_condition("azimuth", unit="deg", description="Azimuth, north to east", period=360.0)
def azimuth(run: Run) -> float:
    """AZ_PNT, or computed at mid-time; from 0 to 360 deg."""
    try:
        return run.value("AZ_PNT") % 360.0
    except NotComputableError:
        return float(_altaz(run).az.deg)


@_condition("offset", unit="deg", description="Angle between pointing and target")
def offset(run: Run) -> float:
    """Angle to the target asked for, else OFFSET_OBJ."""
    return run.offset if run.has_target else run.value("OFFSET_OBJ")


@_condition("livetime", unit="s", description="Live time")
def livetime(run: Run) -> float:
    """LIVETIME, or ONTIME times DEADC."""
    try:
        return run.value("LIVETIME")
    except NotComputableError:
        return run.value("ONTIME") * run.value("DEADC")


@_condition("deadtime-fraction", description="Part of the time in which nothing could be recorded")
def deadtime_fraction(run: Run) -> float:
    """1 - DEADC, or 1 - LIVETIME / ONTIME."""
    try:
        return 1.0 - run.value("DEADC")
    except NotComputableError:
        return 1.0 - run.value("LIVETIME") / run.value("ONTIME")


@_condition("mjd", unit="d", description="Middle of the observation, MJD (TT)")
def mjd(run: Run) -> float:
    """Middle of TSTART and TSTOP, or of the good time intervals."""
    obs = run.observation
    # The header is read only if the index does not tell.
    middle = _middle(obs.index_row, obs.index_header)
    if middle is None:
        middle = _middle(obs.header, obs.header)
    return float(obs.tmid.tt.mjd) if middle is None else middle


def _middle(values: Mapping[str, Any], reference: Mapping[str, Any]) -> float | None:
    """Middle of TSTART and TSTOP as MJD (TT), None where they or their reference are missing."""
    if not has_time_ref(reference) or not {"TSTART", "TSTOP"} <= values.keys():
        return None
    seconds = 0.5 * (float(values["TSTART"]) + float(values["TSTOP"]))
    if not np.isfinite(seconds):
        return None
    return float((time_ref_from_header(reference) + seconds * u.s).tt.mjd)


@_condition("muoneff", description="Muon efficiency")
def muoneff(run: Run) -> float:
    """MUONEFF."""
    return run.value("MUONEFF")


@_condition("n-tels", description="Number of telescopes")
def n_tels(run: Run) -> float:
    """N_TELS."""
    return run.value("N_TELS")


@_condition("nsb", description="Level of the night-sky background")
def nsb(run: Run) -> float:
    """NSBLEVEL."""
    return run.value("NSBLEVEL")


@_condition("event-rate", unit="s-1", description="Event rate above an energy", per_energy=True)
def event_rate(run: Run, energy: float) -> float:
    """Events of at least this reconstructed energy, by live time."""
    energies = run.once("energies", lambda: _event_energies(run))
    seconds = livetime.function(run)
    if not seconds > 0:
        raise NotComputableError(f"the live time is {seconds:g} s")
    return float((energies >= energy).sum() / seconds)


def _event_energies(run: Run) -> NDArray[np.float64]:
    """Reconstructed energies in TeV, of which every threshold asks."""
    return np.asarray(run.observation.read_events("ENERGY").energy.to_value(u.TeV))


def _altaz(run: Run) -> SkyCoord:
    """Pointing at mid-time, as altitude and azimuth."""
    return run.observation.get_pointing_altaz(run.observation.tmid)


FEATURES = (
    zenith,
    airmass,
    cos_zenith,
    azimuth,
    offset,
    livetime,
    deadtime_fraction,
    mjd,
    muoneff,
    n_tels,
    nsb,
    event_rate,
)
