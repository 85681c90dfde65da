"""What is observed when, and under which conditions: one row per run.

Every run has a random generator of its own. The plan takes 15 numbers from each, whatever it needs
of them, so that neither other runs nor the events drawn later change what a run is.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import QTable
from numpy.typing import NDArray
from scipy.special import ndtri

from obscluster.simulate import sky
from obscluster.simulate.model import (
    EPOCHS,
    TARGETS,
    check_integer,
    check_number,
    check_zenith_range,
    run_response,
    safe_energy,
)

__all__ = ["plan_runs"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

# Epoch 1 starts on 2004-01-01; an epoch lasts two years.
_FIRST_NIGHT = 53005
_NIGHTS = 730
# With more runs, two of an epoch would share their OBS_ID.
_MAX_OBS = 99 * _NIGHTS
# Local midnight in UTC hours; +- 3.4 h around it the Sun is 18 deg below the horizon all year.
_MIDNIGHT = 24 - sky.LONGITUDE / 15
_DARK_HOURS = 3.4
_SLOTS = 41
# Keeps the exact zenith angles in the range asked for: see the approximations of `sky`.
_ZENITH_MARGIN = 0.3

_OFF_FIELD = "Off field"
_OFF_FRACTION = 0.12
_OFF_NSB = 90.0

#: Columns of the obs-index, in the order of GADF; EPOCH is ours.
_COLUMNS = [
    *("OBS_ID", "RA_PNT", "DEC_PNT", "GLON_PNT", "GLAT_PNT", "ZEN_PNT", "ALT_PNT", "AZ_PNT"),
    *("OBJECT", "RA_OBJ", "DEC_OBJ", "OFFSET_OBJ", "ONTIME", "LIVETIME", "DEADC"),
    *("TSTART", "TSTOP", "DATE-OBS", "TIME-OBS", "DATE-END", "TIME-END", "N_TELS", "TELLIST"),
    *("QUALITY", "MUONEFF", "NSBLEVEL", "EVENT_COUNT", "SAFE_ENERGY_LO", "SAFE_ENERGY_HI"),
    "EPOCH",
]


def plan_runs(
    *,
    n_obs: int = 60,
    seed: int = 1,
    n_epochs: int = 3,
    separation: float = 1.0,
    zenith_range: tuple[float, float] = (5.0, 50.0),
) -> tuple[QTable, list[np.random.Generator]]:
    """Draw targets, times, pointings and conditions of the runs, without writing anything.

    Parameters
    ----------
    n_obs, seed, n_epochs, separation, zenith_range
        See `obscluster.simulate.simulate`.

    Returns
    -------
    runs : `~astropy.table.QTable`
        One row per run in the order of OBS_ID, i.e. of time, with the columns of the obs-index
        (GADF: obs-index) and EPOCH; EVENT_COUNT is 0.
    generators : list of `~numpy.random.Generator`
        A generator per row, to draw the events of the run from.

    Raises
    ------
    RequestError
        An argument is out of range.
    """
    check_integer("n_epochs", n_epochs, 1, len(EPOCHS))
    check_integer("n_obs", n_obs, n_epochs, _MAX_OBS)
    check_integer("seed", seed, 0)
    check_number("separation", separation, 0, 2)
    check_zenith_range(zenith_range)

    sequence = np.random.SeedSequence(int(seed))
    generators = [np.random.default_rng(child) for child in sequence.spawn(int(n_obs))]
    draws = np.array([rng.random(15) for rng in generators])
    shift = int(np.random.default_rng(sequence).integers(_NIGHTS))

    number = np.arange(n_obs)
    epoch = number % n_epochs + 1
    # Each run of an epoch has its own night until the nights are used up. The stride, prime to the
    # number of nights and near its golden section, spreads the first runs evenly.
    rank = number // n_epochs
    night = (rank * 451 + shift) % _NIGHTS
    first = _FIRST_NIGHT + (epoch - 1) * _NIGHTS

    runs = QTable()
    runs["OBS_ID"] = 100 * (200 + (epoch - 1) * _NIGHTS + night) + rank // _NIGHTS + 1
    runs["EPOCH"] = epoch
    middle, nsb = _add_pointings(runs, first + night, draws[:, :8], zenith_range)
    _add_conditions(runs, draws[:, 8:14], middle, nsb)
    # Muon efficiency: 10 % lost in the course of an epoch, a step to the next, 1 % scatter.
    elapsed = night / _NIGHTS
    draw = draws[:, 14]
    light = np.array([instrument.light for instrument in EPOCHS])[epoch - 1]
    runs["MUONEFF"] = np.exp(separation * light) * (1 - 0.1 * elapsed) * (1 + 0.01 * _normal(draw))
    runs["EVENT_COUNT"] = np.zeros(n_obs, dtype=np.int64)
    # Add the energies where the area at the offset of the object reaches 10 % of its maximum.
    runs["SAFE_ENERGY_LO"] = [
        safe_energy(run_response(run, separation), float(run["OFFSET_OBJ"].value)) for run in runs
    ] * u.TeV
    runs["SAFE_ENERGY_HI"] = np.full(len(runs), 100.0) * u.TeV
    runs = runs[_COLUMNS]
    runs.meta.update(sky.TIME_REFERENCE | sky.SITE)

    order = np.argsort(runs["OBS_ID"])
    return runs[order], [generators[i] for i in order]


def _add_pointings(
    runs: QTable, night: IntArray, draws: FloatArray, zenith_range: tuple[float, float]
) -> tuple[FloatArray, FloatArray]:
    """Choose target, wobble position and time for every night (MJD).

    Returns
    -------
    middle, nsb : ndarray
        Middle of the run in mission seconds, and the sky brightness of the target in MHz.
    """
    low, high = zenith_range[0] + _ZENITH_MARGIN, zenith_range[1] - _ZENITH_MARGIN
    rows = np.arange(len(night))
    angle = 90.0 * np.floor(4 * draws[:, 0])
    wobble = np.where(draws[:, 1] < 0.7, 0.5, 0.7)

    # Every target at every time of the dark hours: shapes (n_obs, n_targets), (n_obs, n_slots).
    ra = np.array([target.ra for target in TARGETS])
    dec = np.array([target.dec for target in TARGETS])
    ra_pnt, dec_pnt = sky.offset_by(ra, dec, angle[:, np.newaxis], wobble[:, np.newaxis])
    fraction = (np.arange(_SLOTS) + draws[:, [2]]) / _SLOTS
    utc = night[:, np.newaxis] + (_MIDNIGHT + _DARK_HOURS * (2 * fraction - 1)) / 24
    sidereal = sky.sidereal_time(utc)
    zenith = sky.zenith_angle(sidereal[:, np.newaxis] - ra_pnt[..., np.newaxis], dec_pnt)
    visible = (zenith >= low) & (zenith <= high)

    choice = _pick(visible.any(axis=2), draws[:, 3])
    choice[draws[:, 4] < _OFF_FRACTION] = -1
    is_off = choice < 0
    slot = np.where(
        is_off, (_SLOTS * draws[:, 5]).astype(int), _pick(visible[rows, choice], draws[:, 5])
    )

    # An off field lies wherever the zenith angle is as wished.
    off_ra, off_dec = sky.sky_position(
        sidereal[rows, slot], low + (high - low) * draws[:, 6], 360 * draws[:, 7]
    )
    off_ra_obj, off_dec_obj = sky.offset_by(off_ra, off_dec, angle + 180, wobble)
    pointing = SkyCoord(
        np.where(is_off, off_ra, ra_pnt[rows, choice]) * u.deg,
        np.where(is_off, off_dec, dec_pnt[rows, choice]) * u.deg,
    )
    middle = np.round((utc[rows, slot] - sky.MJDREFI) * 86400)

    galactic, horizontal = pointing.galactic, sky.horizontal(pointing, middle)
    angles = {
        "RA_PNT": pointing.ra,
        "DEC_PNT": pointing.dec,
        "GLON_PNT": galactic.l,
        "GLAT_PNT": galactic.b,
        "ZEN_PNT": horizontal.zen,
        "ALT_PNT": horizontal.alt,
        "AZ_PNT": horizontal.az,
    }
    for key, value in angles.items():
        runs[key] = value.to_value("deg") * u.deg
    # Index -1 is the off field: the last element of both lists.
    runs["OBJECT"] = np.array([*(target.name for target in TARGETS), _OFF_FIELD])[choice]
    runs["RA_OBJ"] = np.where(is_off, off_ra_obj % 360, ra[choice]) * u.deg
    runs["DEC_OBJ"] = np.where(is_off, off_dec_obj, dec[choice]) * u.deg
    runs["OFFSET_OBJ"] = wobble * u.deg
    return middle, np.array([*(target.nsb for target in TARGETS), _OFF_NSB])[choice]


def _pick(allowed: Any, draw: FloatArray) -> IntArray:
    """Column of one of the True elements in each row, all as likely; -1 where there is none."""
    count = allowed.cumsum(axis=1)
    wanted = np.floor(draw * count[:, -1]).astype(int) + 1
    column = np.argmax(count == wanted[:, np.newaxis], axis=1)
    return np.where(count[:, -1] > 0, column, -1)


def _add_conditions(runs: QTable, draws: FloatArray, middle: FloatArray, nsb: FloatArray) -> None:
    """Add times (dates in TT, the time system of the archive), telescopes, quality, brightness."""
    # Even numbers of seconds, so that the middle of the run is a whole second.
    ontime = np.where(draws[:, 0] < 0.85, 1680, 600 + 2 * np.floor(480 * draws[:, 1]))
    start, stop = middle - ontime / 2, middle + ontime / 2
    deadc = 0.92 + 0.01 * _normal(draws[:, 3])
    runs["ONTIME"] = ontime * u.s
    runs["LIVETIME"] = deadc * ontime * u.s
    runs["DEADC"] = deadc
    runs["TSTART"], runs["TSTOP"] = start * u.s, stop * u.s
    for suffix, seconds in (("OBS", start), ("END", stop)):
        stamps = np.char.partition(sky.mission_time(seconds).isot, "T")
        runs[f"DATE-{suffix}"], runs[f"TIME-{suffix}"] = stamps[:, 0].astype("U10"), stamps[:, 2]

    # All telescopes in 85 % of the runs; one of the four is missing in the others.
    patterns = np.array(["1,2,3,4", "2,3,4", "1,3,4", "1,2,4", "1,2,3"])
    missing = np.where(draws[:, 2] < 0.85, 0, 1 + np.floor((draws[:, 2] - 0.85) / 0.0375))
    pattern = np.minimum(missing, 4).astype(int)
    runs["N_TELS"] = np.where(pattern == 0, 4, 3)
    runs["TELLIST"] = patterns[pattern]
    runs["QUALITY"] = (draws[:, 5] > 0.95).astype(np.int64)
    runs["NSBLEVEL"] = nsb * np.exp(0.08 * _normal(draws[:, 4])) * u.MHz


def _normal(draw: FloatArray) -> FloatArray:
    """Turn a uniform draw into a standard normal one, cut at 3 sigma."""
    return np.clip(ndtri(draw), -3.0, 3.0)
