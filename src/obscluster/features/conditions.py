"""Observing conditions: what the telescope and the sky were like.

Where their values come from is decided in `obscluster.archive.quantities`.
"""

from __future__ import annotations

from functools import partial

import numpy as np
from astropy import units as u
from numpy.typing import NDArray

from obscluster.archive.kinds import code_of, kind_of
from obscluster.features.base import Feature, NotComputableError, Run, feature

__all__ = ["FEATURES", "KIND"]

# None looks at a response.
_condition = partial(feature, at_offset=True)


@_condition("zenith", unit="deg", description="Zenith angle")
def zenith(run: Run) -> float:
    """ZEN_PNT, or 90 deg - ALT_PNT, or computed at mid-time."""
    return run.value("zenith")


@_condition("airmass", description="Airmass, 1 / cos(zenith angle)")
def airmass(run: Run) -> float:
    """Secant of the zenith angle: the plane-parallel atmosphere."""
    angle = run.value("zenith")
    if not 0 <= angle < 90:
        raise NotComputableError(f"no airmass below the horizon (zenith {angle:.2f} deg)")
    return float(1.0 / np.cos(np.radians(angle)))


@_condition("cos-zenith", description="Cosine of the zenith angle")
def cos_zenith(run: Run) -> float:
    """Responses change evenly with it, which makes it the usual axis of zenith bins."""
    return float(np.cos(np.radians(run.value("zenith"))))


@_condition("azimuth", unit="deg", description="Azimuth, north to east", period=360.0)
def azimuth(run: Run) -> float:
    """AZ_PNT, or computed at mid-time; from 0 to 360 deg."""
    return run.value("azimuth")


@_condition("offset", unit="deg", description="Angle between pointing and target")
def offset(run: Run) -> float:
    """Angle to the target asked for, else OFFSET_OBJ."""
    return run.offset if run.has_target else run.value("OFFSET_OBJ")


@_condition("livetime", unit="s", description="Live time")
def livetime(run: Run) -> float:
    """Good time times DEADC; what index or header say where there is no good time."""
    return run.value("livetime")


@_condition("deadtime-fraction", description="Part of the time in which nothing could be recorded")
def deadtime_fraction(run: Run) -> float:
    """1 - DEADC, or 1 - LIVETIME / ONTIME."""
    return run.value("deadtime-fraction")


@_condition("mjd", unit="d", description="Middle of the observation, MJD (TT)")
def mjd(run: Run) -> float:
    """Middle of TSTART and TSTOP, or of the good time intervals."""
    return run.value("mjd")


@_condition("muoneff", description="Muon efficiency")
def muoneff(run: Run) -> float:
    """MUONEFF."""
    return run.value("muoneff")


@_condition("n-tels", description="Number of telescopes")
def n_tels(run: Run) -> float:
    """N_TELS."""
    return run.value("n-tels")


@_condition("nsb", description="Level of the night-sky background")
def nsb(run: Run) -> float:
    """NSBLEVEL."""
    return run.value("nsb")


@_condition("event-rate", unit="s-1", description="Event rate above an energy", per_energy=True)
def event_rate(run: Run, energy: float) -> float:
    """Events of at least this reconstructed energy within the good time, by live time."""
    energies = run.once("energies", lambda: _event_energies(run))
    seconds = run.value("livetime")
    if not seconds > 0:
        raise NotComputableError(f"no event rate without live time (it is {seconds:g} s)")
    return float((energies >= energy).sum() / seconds)


def _event_energies(run: Run) -> NDArray[np.float64]:
    """Reconstructed energies in TeV, of which every threshold asks."""
    return np.asarray(run.good_events("ENERGY").energy.to_value(u.TeV))


def _kind_code(run: Run) -> float:
    """Number that stands for the kind of the run."""
    return code_of(kind_of(run.observation, run.irfs))


KIND = Feature(
    "_kind",
    u.one,
    "Kind of run, as a number",
    _kind_code,
    at_offset=True,
    hopes=("aeff", "rad_max"),
)
"""What every grouping asks for beside its features, see `obscluster.archive.kinds`; a number, so
that it is computed, shared out and kept as they are."""

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
