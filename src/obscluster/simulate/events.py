"""The events of a run: drawn from its response, and written with their good time interval.

https://gamma-astro-data-formats.readthedocs.io/en/v0.3/events/index.html
"""

from __future__ import annotations

from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray
from scipy.special import ndtri

from obscluster.simulate.model import FOV_MAX, TAIL_FRACTION, Response, migration_range
from obscluster.simulate.sky import SITE, TIME_REFERENCE, offset_by
from obscluster.simulate.tables import table_hdu
from obscluster.simulate.targets import TARGETS

__all__ = [
    "NO_EVENTS",
    "draw_events",
    "draw_migration",
    "draw_radius",
    "events_hdu",
    "gti_hdu",
]

FloatArray = NDArray[np.float64]

_EVENT = np.dtype(
    [("EVENT_ID", ">i8"), ("TIME", ">f8"), ("RA", ">f4"), ("DEC", ">f4"), ("ENERGY", ">f4")]
)
NO_EVENTS: NDArray[Any] = np.zeros(0, dtype=_EVENT)

#: Columns of the obs-index that are keywords of EVENTS too; times in s, angles in deg.
_EVENTS_KEYS = (
    *("OBJECT", "RA_OBJ", "DEC_OBJ", "RA_PNT", "DEC_PNT", "GLON_PNT", "GLAT_PNT", "ALT_PNT"),
    *("AZ_PNT", "TSTART", "TSTOP", "ONTIME", "LIVETIME", "DEADC", "DATE-OBS", "TIME-OBS"),
    *("DATE-END", "TIME-END", "N_TELS", "TELLIST", "MUONEFF", "NSBLEVEL"),
)


def draw_events(run: Any, truth: Response, psf: str, rng: np.random.Generator) -> NDArray[Any]:
    """Draw background and source events, sorted by time, in the columns of EVENTS."""
    background = _draw_background(run, truth, rng)
    ra, dec, energy = np.concatenate([background, _draw_source(run, truth, psf, rng)], axis=1)
    table = np.zeros(len(ra), dtype=_EVENT)
    start, stop = run["TSTART"].to_value("s"), run["TSTOP"].to_value("s")
    table["EVENT_ID"] = np.arange(1, len(ra) + 1)
    table["TIME"] = np.sort(rng.uniform(start, stop, len(ra)))
    # Which event comes when is chance: background and source have to mix.
    mixed = rng.permutation(len(ra))
    table["RA"], table["DEC"], table["ENERGY"] = ra[mixed] % 360, dec[mixed], energy[mixed]
    return table


def _draw_background(run: Any, truth: Response, rng: np.random.Generator) -> FloatArray:
    """RA, Dec (deg) and energy (TeV) of background events, shape (3, n), within 2.5 deg.

    The rate is per observation time, dead time included (GADF: notes on bkg).
    """
    energy = np.geomspace(0.1, 100, 201)
    width = truth.bkg_width(energy)
    inside = -np.expm1(-0.5 * (FOV_MAX / width) ** 2)
    rate = truth.bkg(energy, 0.0) * 2 * np.pi * np.radians(width) ** 2 * inside
    drawn = _draw_energies(energy, rate * run["ONTIME"].to_value("s"), rng)

    width = truth.bkg_width(drawn)
    inside = -np.expm1(-0.5 * (FOV_MAX / width) ** 2)
    radius = width * np.sqrt(-2 * np.log1p(-inside * rng.random(len(drawn))))
    angle = rng.uniform(0, 360, len(drawn))
    # A position and its opposite are equally likely so far: choose between them by the gradient.
    east, north = radius * np.sin(np.radians(angle)), radius * np.cos(np.radians(angle))
    opposite = rng.random(len(drawn)) > truth.bkg_tilt(east, north) / 2
    ra, dec = offset_by(
        run["RA_PNT"].to_value("deg"),
        run["DEC_PNT"].to_value("deg"),
        angle + 180 * opposite,
        radius,
    )
    return np.array([ra, dec, drawn])


def _draw_source(run: Any, truth: Response, psf: str, rng: np.random.Generator) -> FloatArray:
    """RA, Dec (deg) and energy (TeV) of the events of the target, shape (3, n)."""
    source = next((target for target in TARGETS if target.name == run["OBJECT"]), None)
    if source is None:
        return np.empty((3, 0))
    offset = float(run["OFFSET_OBJ"].to_value("deg"))
    energy = np.geomspace(0.02, 100, 301)
    rate = source.flux * energy**-source.slope * 1e4 * truth.aeff(energy, offset)
    true_energy = _draw_energies(energy, rate * run["LIVETIME"].to_value("s"), rng)
    migration = draw_migration(truth, true_energy, offset, rng)
    radius = draw_radius(truth, true_energy, offset, psf, rng)
    ra, dec = offset_by(source.ra, source.dec, rng.uniform(0, 360, len(radius)), radius)
    return np.array([ra, dec, true_energy * migration])


def _draw_energies(
    energy: FloatArray, spectrum: FloatArray, rng: np.random.Generator
) -> FloatArray:
    """Draw a Poisson number of energies (TeV) from counts per TeV on a grid of energies."""
    per_log = spectrum * energy
    steps = 0.5 * (per_log[1:] + per_log[:-1]) * np.diff(np.log(energy))
    expected = np.concatenate([[0.0], np.cumsum(steps)])
    draw = rng.random(rng.poisson(expected[-1])) * expected[-1]
    return np.exp(np.interp(draw, expected, np.log(energy)))


def draw_migration(
    truth: Response, energy: FloatArray, offset: float, rng: np.random.Generator
) -> FloatArray:
    """Draw E_reco / E for true energies (TeV) at an offset (deg), within the tabulated range."""
    low, high, median, sigma = migration_range(truth, energy, np.full_like(energy, offset))
    quantile = ndtri(low + (high - low) * rng.random(len(energy)))
    return np.exp(median + sigma * quantile)


def draw_radius(
    truth: Response, energy: FloatArray, offset: float, psf: str, rng: np.random.Generator
) -> FloatArray:
    """Draw the angle in deg between true and reconstructed direction, for true energies (TeV)."""
    # As many random numbers whatever the format: it changes the radii, and no other events.
    outside = 1 - rng.random(len(energy))
    in_tail = rng.random(len(energy)) < TAIL_FRACTION
    if psf == "psf_king":
        gamma, sigma = truth.psf_king(energy, offset)
        square = 2 * gamma * (outside ** (1 / (1 - gamma)) - 1)
        return sigma * np.sqrt(square)
    narrow, wide = truth.psf_sigmas(energy, offset)
    return np.where(in_tail, wide, narrow) * np.sqrt(-2 * np.log(outside))


def events_hdu(run: Any, table: NDArray[Any]) -> fits.BinTableHDU:
    """Event list with its header (GADF: EVENTS)."""
    units = {"TIME": "s", "RA": "deg", "DEC": "deg", "ENERGY": "TeV"}
    hdu = table_hdu("EVENTS", table, units)
    header = hdu.header
    header["HDUCLAS1"] = "EVENTS"
    header.update(TIME_REFERENCE | SITE)
    header["OBS_MODE"] = "POINTING"
    header["EV_CLASS"] = "std"
    header["RADECSYS"] = "ICRS"
    header["EQUINOX"] = 2000.0
    header["TELAPSE"] = float((run["TSTOP"] - run["TSTART"]).to_value("s"))
    for key in _EVENTS_KEYS:
        header[key] = getattr(run[key], "value", run[key]).item()
    return hdu


def gti_hdu(run: Any) -> fits.BinTableHDU:
    """Good time interval: the whole run (GADF: GTI)."""
    start, stop = float(run["TSTART"].to_value("s")), float(run["TSTOP"].to_value("s"))
    table = np.array([(start, stop)], dtype=[("START", ">f8"), ("STOP", ">f8")])
    hdu = table_hdu("GTI", table, {"START": "s", "STOP": "s"})
    hdu.header["HDUCLAS1"] = "GTI"
    hdu.header.update(TIME_REFERENCE | {"TSTART": start, "TSTOP": stop})
    return hdu
