"""Site, mission time and the sky above the site; angles are floats in deg."""

from __future__ import annotations

import numpy as np
from astropy import units as u
from astropy.coordinates import AltAz, EarthLocation, SkyCoord
from astropy.time import Time
from astropy.utils import iers
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "LATITUDE",
    "LONGITUDE",
    "MJDREFI",
    "SITE",
    "TIME_REFERENCE",
    "horizontal",
    "mission_time",
    "offset_by",
    "sidereal_time",
    "sky_position",
    "zenith_angle",
]

FloatArray = NDArray[np.float64]

# The H.E.S.S. site (deg, deg, m), as in the headers of the H.E.S.S. public data release.
LONGITUDE, LATITUDE, ALTITUDE = 16.5002222222222, -23.2717777777778, 1835.0

# Mission time counts seconds of Terrestrial Time from 2001-01-01 00:00:00 UTC.
MJDREFI, MJDREFF = 51910, 64.184 / 86400

#: Site and time in the headers (GADF: "Coordinates", "Time").
SITE = {"GEOLON": LONGITUDE, "GEOLAT": LATITUDE, "ALTITUDE": ALTITUDE}
TIME_REFERENCE = {
    "MJDREFI": MJDREFI,
    "MJDREFF": MJDREFF,
    "TIMEUNIT": "s",
    "TIMESYS": "TT",
    "TIMEREF": "LOCAL",
}


def mission_time(seconds: ArrayLike) -> Time:
    """Mission time in s as a time in TT."""
    return Time(MJDREFI, MJDREFF + np.asarray(seconds) / 86400, format="mjd", scale="tt")


def horizontal(pointing: SkyCoord, seconds: ArrayLike) -> SkyCoord:
    """Altitude and azimuth at a mission time, without refraction.

    The Earth rotation table is the one that comes with astropy, never one from the network: the
    same arguments have to give the same bytes.
    """
    site = EarthLocation.from_geodetic(
        LONGITUDE * u.deg, LATITUDE * u.deg, ALTITUDE * u.m, ellipsoid="WGS84"
    )
    with iers.earth_orientation_table.set(iers.IERS_B.open()):
        return pointing.transform_to(AltAz(obstime=mission_time(seconds), location=site))


def offset_by(
    ra: ArrayLike, dec: ArrayLike, angle: ArrayLike, distance: ArrayLike
) -> tuple[FloatArray, FloatArray]:
    """RA (not wrapped at 360) and Dec at a position angle (North over East) and distance."""
    dec, angle, distance = np.radians(dec), np.radians(angle), np.radians(distance)
    sin_dec = np.sin(dec) * np.cos(distance) + np.cos(dec) * np.sin(distance) * np.cos(angle)
    east = np.sin(angle) * np.sin(distance) * np.cos(dec)
    north = np.cos(distance) - np.sin(dec) * sin_dec
    return np.asarray(ra) + np.degrees(np.arctan2(east, north)), np.degrees(np.arcsin(sin_dec))


# Planning looks at hundreds of positions per run. For that the functions below do without
# precession and UT1: far faster than `horizontal`, and less than 0.3 deg off.


def sidereal_time(mjd: FloatArray) -> FloatArray:
    """Local sidereal time at UTC dates (MJD); not wrapped at 360."""
    return 280.46061837 + 360.98564736629 * (mjd - 51544.5) + LONGITUDE


def zenith_angle(hour_angle: FloatArray, dec: FloatArray) -> FloatArray:
    """Zenith angle, shape of the hour angle, for one declination per last row."""
    latitude, dec = np.radians(LATITUDE), np.radians(dec)[..., np.newaxis]
    cosine = np.sin(latitude) * np.sin(dec) + np.cos(latitude) * np.cos(dec) * np.cos(
        np.radians(hour_angle)
    )
    return np.degrees(np.arccos(np.clip(cosine, -1, 1)))


def sky_position(
    sidereal: FloatArray, zenith: FloatArray, azimuth: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """RA and Dec of a horizontal position at a local sidereal time."""
    latitude, zenith, azimuth = np.radians(LATITUDE), np.radians(zenith), np.radians(azimuth)
    north = np.sin(zenith) * np.cos(azimuth)
    dec = np.arcsin(np.sin(latitude) * np.cos(zenith) + np.cos(latitude) * north)
    hour_angle = np.arctan2(
        -np.sin(zenith) * np.sin(azimuth),
        np.cos(latitude) * np.cos(zenith) - np.sin(latitude) * north,
    )
    return (sidereal - np.degrees(hour_angle)) % 360, np.degrees(dec)
