"""Directions that headers do not give: computed from pointing, time and location."""

from __future__ import annotations

import numpy as np
from astropy import units as u
from astropy.coordinates import AltAz, EarthLocation, SkyCoord
from numpy.typing import NDArray

from obscluster.gadf.discover.times import Times, earth_rotation

__all__ = ["fill_pointing"]

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]


def fill_pointing(angles: dict[str, FloatArray], drift: BoolArray, times: Times) -> None:
    """Compute missing directions, in place, all runs at once.

    Parameters
    ----------
    angles : dict
        RA_PNT, DEC_PNT, GLON_PNT, GLAT_PNT, ZEN_PNT, ALT_PNT, AZ_PNT, GEOLON and GEOLAT in
        degrees, ALTITUDE in metres, shape (n_obs,) each. NaN is replaced where possible.
    drift : `~numpy.ndarray`
        Where the telescopes stood still in altitude and azimuth: the right ascension is then that
        of the middle of the run, whatever the header says.
    times : `Times`
        Start and stop.
    """
    _complete(angles, "ALT_PNT", 90.0 - angles["ZEN_PNT"])
    middle = times.middle
    placed = np.isfinite(middle) & _finite(angles, "GEOLON", "GEOLAT", "ALTITUDE")

    rows = np.flatnonzero(drift & placed & _finite(angles, "ALT_PNT", "AZ_PNT"))
    if len(rows):
        horizontal = SkyCoord(
            alt=angles["ALT_PNT"][rows] * u.deg,
            az=angles["AZ_PNT"][rows] * u.deg,
            frame=_frame(angles, times, middle, rows),
        )
        with earth_rotation():
            sky = horizontal.icrs
        for name, values in (("RA_PNT", sky.ra), ("DEC_PNT", sky.dec)):
            angles[name] = angles[name].copy()
            angles[name][rows] = values.deg
        for name in ("GLON_PNT", "GLAT_PNT"):
            angles[name] = np.where(drift, np.nan, angles[name])

    known = _finite(angles, "RA_PNT", "DEC_PNT")
    rows = np.flatnonzero(~drift & placed & known & ~_finite(angles, "ALT_PNT", "AZ_PNT"))
    if len(rows):
        with earth_rotation():
            found = _pointing(angles, rows).transform_to(_frame(angles, times, middle, rows))
        for name, values in (("ALT_PNT", found.alt), ("AZ_PNT", found.az)):
            _complete(angles, name, _scatter(values.deg, rows, len(known)))
    _complete(angles, "ZEN_PNT", 90.0 - angles["ALT_PNT"])

    rows = np.flatnonzero(known & ~_finite(angles, "GLON_PNT", "GLAT_PNT"))
    if len(rows):
        galactic = _pointing(angles, rows).galactic
        for name, values in (("GLON_PNT", galactic.l), ("GLAT_PNT", galactic.b)):
            _complete(angles, name, _scatter(values.deg, rows, len(known)))


def _finite(angles: dict[str, FloatArray], *names: str) -> BoolArray:
    return np.all([np.isfinite(angles[name]) for name in names], axis=0)


def _complete(angles: dict[str, FloatArray], name: str, values: FloatArray) -> None:
    angles[name] = np.where(np.isfinite(angles[name]), angles[name], values)


def _scatter(values: FloatArray, rows: NDArray[np.intp], n_obs: int) -> FloatArray:
    out = np.full(n_obs, np.nan)
    out[rows] = values
    return out


def _pointing(angles: dict[str, FloatArray], rows: NDArray[np.intp]) -> SkyCoord:
    return SkyCoord(angles["RA_PNT"][rows] * u.deg, angles["DEC_PNT"][rows] * u.deg, frame="icrs")


def _frame(
    angles: dict[str, FloatArray], times: Times, middle: FloatArray, rows: NDArray[np.intp]
) -> AltAz:
    location = EarthLocation.from_geodetic(
        lon=angles["GEOLON"][rows] * u.deg,
        lat=angles["GEOLAT"][rows] * u.deg,
        height=angles["ALTITUDE"][rows] * u.m,
    )
    return AltAz(obstime=times.reference + middle[rows] * u.s, location=location)
