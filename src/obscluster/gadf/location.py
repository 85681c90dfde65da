"""Where the telescopes stand, from the keywords of a header or from the name of the telescope.

https://gamma-astro-data-formats.readthedocs.io/en/v0.3/events/events.html#optional-header-keywords
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from astropy import units as u
from astropy.coordinates import EarthLocation

__all__ = ["LOCATION_KEYS", "SITES", "location_from_keywords", "location_of_telescope"]

_GEOCENTRIC = ("OBSGEO-X", "OBSGEO-Y", "OBSGEO-Z")
LOCATION_KEYS = (
    *("GEOLON", "GEOLAT", "GEOALT", "ALTITUDE", "OBSGEO-L", "OBSGEO-B", "OBSGEO-H"),
    *_GEOCENTRIC,
)
"""Keywords that say where: those of GADF, and those of FITS 4.0 (used by LST and MAGIC)."""

SITES = {
    # Headers of the public data releases: H.E.S.S. DL3 DR1, FACT open data.
    "HESS": (16.50022222, -23.27177778, 1835.0),
    "FACT": (-17.890701, 28.761795, 2199.4),
    # Constants of the programs that write these data: V2DL3, and the site of gammapy.data.
    "VERITAS": (-110.952408, 31.674951, 1277.1),
    "MAGIC": (-17.89, 28.76194444, 2200.0),
    # gammapy.data.observatory_locations: ctao_north (LST-1 is a hundred metres away), ctao_south.
    "CTAN": (-17.892005, 28.762164, 2147.0),
    "CTAS": (-70.31634444, -24.68342778, 2150.0),
}
"""Site to longitude and latitude in degrees (east and north positive) and height in metres."""

_ALIASES = {
    **dict.fromkeys(("CTAONORTH", "CTAON", "CTANORTH", "LST", "LST1", "LSTN"), "CTAN"),
    **dict.fromkeys(("CTAOSOUTH", "CTAOS", "CTASOUTH"), "CTAS"),
    **dict.fromkeys(("MAGIC1", "MAGIC2", "MAGICI", "MAGICII"), "MAGIC"),
    **dict.fromkeys(("HESSI", "HESSII"), "HESS"),
}
# Distances from the centre of the Earth that are a place on it, in metres.
_EARTH = (6.3e6, 6.4e6)
_RANGES = (("longitude", 360.0), ("latitude", 90.0), ("height", 20_000.0))


def location_from_keywords(values: Mapping[str, Any]) -> EarthLocation | None:
    """Location from GEOLON, GEOLAT and ALTITUDE (or GEOALT), OBSGEO-L, -B and -H, or -X, -Y and -Z.

    Parameters
    ----------
    values : mapping
        Keywords; numbers may be text.

    Returns
    -------
    location : `~astropy.coordinates.EarthLocation` or None
        None if a keyword is missing.

    Raises
    ------
    ValueError
        If one of the keywords is not a number, or not a place on Earth.
    """
    height = "GEOALT" if values.get("GEOALT") is not None else "ALTITUDE"
    for keys in (("GEOLON", "GEOLAT", height), ("OBSGEO-L", "OBSGEO-B", "OBSGEO-H")):
        if all(values.get(key) is not None for key in keys):
            return _location(*[_number(key, values[key], *r) for key, r in _with_ranges(keys)])
    if all(values.get(key) is not None for key in _GEOCENTRIC):
        # Metres from the centre of the Earth (FITS 4.0, section 8.4.1).
        x, y, z = (_number(key, values[key], "distance in m", 1e7) for key in _GEOCENTRIC)
        place = EarthLocation.from_geocentric(x * u.m, y * u.m, z * u.m)
        _number("height of OBSGEO-X, -Y, -Z", float(place.height.to_value(u.m)), *_RANGES[2])
        return place
    return None


def location_of_telescope(name: str) -> EarthLocation | None:
    """Location of an observatory by the keyword TELESCOP; None if it is not known.

    Examples
    --------
    >>> location_of_telescope("H.E.S.S.").lat
    <Latitude -23.27177778 deg>
    """
    letters = re.sub(r"[^A-Z0-9]", "", name.upper())
    site = SITES.get(_ALIASES.get(letters, letters))
    return None if site is None else _location(*site)


def _location(lon: float, lat: float, height: float) -> EarthLocation:
    return EarthLocation.from_geodetic(lon=lon * u.deg, lat=lat * u.deg, height=height * u.m)


def _with_ranges(keys: tuple[str, ...]) -> list[tuple[str, tuple[str, float]]]:
    return list(zip(keys, _RANGES, strict=True))


def _number(key: str, value: Any, what: str, limit: float) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise ValueError(f"{key} = {value!r}; expected a number") from None
    if not (np.isfinite(number) and abs(number) <= limit):
        raise ValueError(f"{key} = {value!r}; expected a {what} of at most {limit:g}")
    return number
