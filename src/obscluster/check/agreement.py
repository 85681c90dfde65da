"""Checks of headers against the index, and of both against the sky: pointing, place, zenith.

https://gamma-astro-data-formats.readthedocs.io/en/v0.3/data_storage/obs_index/index.html
https://gamma-astro-data-formats.readthedocs.io/en/v0.3/general/coordinates.html
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from astropy import units as u
from astropy.coordinates import AltAz, EarthLocation, SkyCoord
from astropy.time import Time
from numpy.typing import NDArray

from obscluster.check.findings import Row, warning
from obscluster.check.headers import number, obs_mode, seconds
from obscluster.check.index import column_numbers
from obscluster.gadf.hdu import HDU
from obscluster.gadf.location import location_from_keywords, location_of_telescope
from obscluster.gadf.time import quiet_times, time_ref_from_header
from obscluster.store import DataStore

__all__ = ["HeaderFacts", "check_against_headers", "facts_of"]

Array = NDArray[np.float64]
Place = tuple[float, float, float]
"""Longitude and latitude in degrees, height in metres."""
Mid = tuple[str, float]
"""Time scale, and MJD."""
UNKNOWN = (np.nan, np.nan, np.nan)

POINTING_TOLERANCE = 0.01  # deg
ZENITH_TOLERANCE = 1.0  # deg
# Days (MJD) for which the rotation of the Earth is known well enough: 1968 to 2077.
DAYS = (40000.0, 80000.0)
# Values of OBS_MODE for which one direction on the sky does not tell (OGIP, GADF 0.3).
_MOVING = ("DRIFT", "SLEW", "SCAN", "RASTER")


class HeaderFacts(NamedTuple):
    """What an EVENTS header says that the index, or the Earth, can contradict; NaN if unknown."""

    obs_id: int
    file: str
    fixed: bool
    ra: float
    dec: float
    n_events: float
    mid: Mid
    place: Place
    site: Place
    """Place of the telescope by its name."""


def facts_of(hdu: HDU, obs_id: int, file: str) -> HeaderFacts:
    """Facts from the header of an EVENTS table."""
    header = hdu.header
    return HeaderFacts(
        obs_id=obs_id,
        file=file,
        fixed=obs_mode(header) not in _MOVING,
        ra=number(header, "RA_PNT"),
        dec=number(header, "DEC_PNT"),
        n_events=number(header, "NAXIS2"),
        mid=_mid(header, 0.5 * (seconds(header, "TSTART") + seconds(header, "TSTOP"))),
        place=_place(header),
        site=_geodetic(location_of_telescope(str(header.get("TELESCOP") or ""))),
    )


def check_against_headers(data_store: DataStore, facts: Iterable[HeaderFacts]) -> Iterator[Row]:
    """Index and headers: pointing, number of events, place, and zenith angle.

    Parameters
    ----------
    data_store : `~obscluster.store.DataStore`
        The archive.
    facts : iterable of `HeaderFacts`
        What the headers say.
    """
    facts = sorted(facts)
    table = data_store.obs_table
    if not facts:
        return
    row_of = {obs_id: row for row, obs_id in enumerate(table["OBS_ID"].tolist())}
    rows = np.array([row_of.get(fact.obs_id, -1) for fact in facts])
    listed = rows >= 0

    def index(name: str) -> Array:
        """Column of the index in the order of the facts."""
        values = np.full(len(facts), np.nan)
        values[listed] = column_numbers(table, name)[rows[listed]]
        return values

    def header(name: str) -> Array:
        return np.array([getattr(fact, name) for fact in facts], dtype=float)

    def report(bad: Any, make: Any) -> Iterator[Row]:
        for i in np.flatnonzero(bad):
            yield Row(facts[i].obs_id, "events", *warning(make(i)), facts[i].file)

    ra, dec, ra_index, dec_index = header("ra"), header("dec"), index("RA_PNT"), index("DEC_PNT")
    apart = _separation(ra, dec, ra_index, dec_index)
    fixed = header("fixed").astype(bool)
    yield from report(
        (apart > POINTING_TOLERANCE) & fixed,
        lambda i: (
            f"RA_PNT, DEC_PNT = {ra[i]:.4f}, {dec[i]:.4f} deg in the header, "
            f"{ra_index[i]:.4f}, {dec_index[i]:.4f} deg in the index: {apart[i]:.3f} deg apart"
        ),
    )
    n_events, n_index = header("n_events"), index("EVENT_COUNT")
    yield from report(
        np.isfinite(n_index) & (n_events != n_index),
        lambda i: f"{n_events[i]:.0f} events, but EVENT_COUNT = {n_index[i]:.0f} in the index",
    )
    # The first of header, index and telescope that says where.
    index_place = _place(table.meta)
    places = np.array([_first(fact.place, index_place, fact.site) for fact in facts]).T
    yield from report(
        [np.isnan(_first(fact.place, index_place)).any() for fact in facts],
        lambda i: (
            "no place of the observatory: GEOLON, GEOLAT and ALTITUDE (or OBSGEO-X, -Y, -Z) are "
            "missing or no place, in header and index"
            + ("" if np.isnan(places[:, i]).any() else "; that of TELESCOP is taken")
        ),
    )
    index_mid = 0.5 * (index("TSTART") + index("TSTOP"))
    mids = [
        _mid(table.meta, seconds) if np.isnan(fact.mid[1]) else fact.mid
        for fact, seconds in zip(facts, index_mid.tolist(), strict=True)
    ]
    zenith = _zenith(_or(ra, ra_index), _or(dec, dec_index), places, mids)
    written = _or(index("ZEN_PNT"), 90 - index("ALT_PNT"))
    yield from report(
        (np.abs(zenith - written) > ZENITH_TOLERANCE) & fixed,
        lambda i: (
            f"ZEN_PNT = {written[i]:.2f} deg in the index, but {zenith[i]:.2f} deg from pointing, "
            "mid-time and place"
        ),
    )


def _or(values: Array, others: Array) -> Array:
    """Values, and others where there are none."""
    return np.where(np.isfinite(values), values, others)


def _first(*places: Place) -> Place:
    """The first place that is known; never the longitude of one and the latitude of another."""
    return next((place for place in places if np.isfinite(place).all()), UNKNOWN)


def _place(values: Mapping[str, Any]) -> Place:
    """Place by the keywords of a header."""
    try:
        return _geodetic(location_from_keywords(values))
    except ValueError:
        return UNKNOWN


def _geodetic(location: EarthLocation | None) -> Place:
    if location is None:
        return UNKNOWN
    return location.lon.deg, location.lat.deg, location.height.to_value(u.m)


def _mid(header: Mapping[str, Any], seconds: float) -> Mid:
    """Time from the reference in a header."""
    try:
        ref = time_ref_from_header(header)
    except (KeyError, ValueError):
        return "tt", np.nan
    return ref.scale, float(ref.mjd) + seconds / 86400


def _zenith(ra: Array, dec: Array, places: Array, mids: list[Mid]) -> Array:
    """Zenith angles in deg, NaN where something is unknown; all runs at once."""
    zenith = np.full(len(ra), np.nan)
    scales, days = np.array([scale for scale, _ in mids]), np.array([day for _, day in mids])
    good = np.isfinite(ra + dec) & np.isfinite(places).all(axis=0) & (np.abs(dec) <= 90)
    good &= (days > DAYS[0]) & (days < DAYS[1]) & (scales != "local")
    for scale in np.unique(scales[good]):
        chosen = good & (scales == scale)
        lon, lat, height = places[:, chosen]
        location = EarthLocation.from_geodetic(lon * u.deg, lat * u.deg, height * u.m)
        with quiet_times():
            time = Time(days[chosen], format="mjd", scale=str(scale))
            coord = SkyCoord(ra[chosen], dec[chosen], unit="deg", frame="icrs")
            zenith[chosen] = coord.transform_to(AltAz(obstime=time, location=location)).zen.deg
    return zenith


def _separation(ra: Array, dec: Array, other_ra: Array, other_dec: Array) -> Array:
    """Angle between directions, all in deg."""
    # The chord is precise for small angles, where the cosine is not.
    one, other = (
        np.array([np.cos(d) * np.cos(r), np.cos(d) * np.sin(r), np.sin(d)])
        for r, d in (
            (np.radians(ra), np.radians(dec)),
            (np.radians(other_ra), np.radians(other_dec)),
        )
    )
    chord = np.linalg.norm(one - other, axis=0)
    return np.asarray(np.degrees(2 * np.arcsin(np.clip(chord / 2, 0, 1))))
