"""Archives as particular instruments write them: sites, pointings, directional cuts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import AltAz, EarthLocation, SkyCoord
from astropy.io import fits
from astropy.table import Table
from numpy.testing import assert_allclose

from archives import Archive, rebuilt
from obscluster import DataStore, get_irfs_features
from obscluster.archive.observation import Observations
from obscluster.cli import main
from obscluster.exceptions import FormatError
from obscluster.gadf.keywords import SITES, location_of_telescope
from obscluster.simulate import simulate

FEATURES = ("edisp-bias", "edisp-res", "aeff")
SITE = ("GEOLON", "GEOLAT", "ALTITUDE")
NOWHERE = dict.fromkeys(SITE)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return simulate(tmp_path_factory.mktemp("plain") / "archive", n_obs=4, seed=3, size="small")


@pytest.fixture
def archive(original: Path, tmp_path: Path) -> Archive:
    return Archive.copy_of(original, tmp_path / "archive")


def observations(directory: Path) -> Observations:
    return DataStore.from_dir(directory).get_observations()


def assert_same_features(archive: Archive, original: Path, names: Any = FEATURES) -> None:
    ours, plain = (
        get_irfs_features(observations(path), "1 TeV", names=names)
        for path in (archive.directory, original)
    )
    for name in names:
        assert_allclose(np.asarray(ours[name]), np.asarray(plain[name]), rtol=1e-6, err_msg=name)


def separation(one: SkyCoord, other: SkyCoord) -> float:
    return float(one.separation(other).to_value("arcsec"))


def forget_site(archive: Archive) -> None:
    archive.keywords(**NOWHERE)

    def edit(table: Table) -> None:
        for key in SITE:
            table.meta.pop(key, None)

    archive.index("obs", edit)


# --- sites ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["ctao_north", "ctao_south", "hess", "magic", "veritas", "fact"])
def test_sites_are_gammapys(key):
    known = pytest.importorskip("gammapy.data").observatory_locations[key]
    ours = location_of_telescope({"ctao_north": "CTA-N", "ctao_south": "CTA-S"}.get(key, key))
    distance = np.linalg.norm([(getattr(ours, a) - getattr(known, a)).value for a in "xyz"])
    assert distance < 150  # metres


@pytest.mark.parametrize(
    ("name", "site"),
    [
        ("H.E.S.S.", "HESS"),
        ("hess", "HESS"),
        ("LST-1", "CTAN"),
        ("CTAO North", "CTAN"),
        ("CTA-S", "CTAS"),
        ("VERITAS", "VERITAS"),
        ("FACT", "FACT"),
        ("MAGIC", "MAGIC"),
    ],
)
def test_telescopes_are_known_by_their_usual_names(name, site):
    lon, lat, _ = SITES[site]
    location = location_of_telescope(name)
    assert_allclose([location.lon.deg, location.lat.deg], [lon, lat])


def test_site_by_the_name_of_the_telescope(archive, original):
    forget_site(archive)
    archive.keywords("EVENTS", TELESCOP="H.E.S.S.")
    for ours, plain in zip(observations(archive.directory), observations(original), strict=True):
        zenith, expected = (obs.get_pointing_altaz(obs.tmid).zen.deg for obs in (ours, plain))
        assert_allclose(zenith, expected, rtol=1e-6)


@pytest.mark.parametrize("telescope", ["SIMULATION", "CTA", None])
def test_site_that_nobody_knows_is_asked_for(telescope, archive):
    forget_site(archive)
    archive.keywords("EVENTS", TELESCOP=telescope)
    archive.index("obs", lambda table: table.meta.pop("TELESCOP", None) and None)
    obs = observations(archive.directory)[0]
    assert obs.observatory_earth_location is None
    with pytest.raises(FormatError, match=r"GEOLON, GEOLAT or ALTITUDE .*TELESCOP"):
        obs.get_pointing_altaz(obs.tmid)
    assert main(["info", str(archive.directory)]) == 0


# --- pointing tables -----------------------------------------------------------------------------


def pointing_hdu(hdulist: fits.HDUList, **columns: Any) -> fits.BinTableHDU:
    """Pointing table at the start and 100, 200 and 300 s later."""
    start = hdulist["GTI"].data["START"][0]
    table = Table({"TIME": start + np.array([200.0, 0, 100, 300]), **columns})
    hdu = fits.BinTableHDU(table, name="POINTING")
    for key in ("MJDREFI", "MJDREFF", "TIMESYS"):
        hdu.header[key] = hdulist["GTI"].header[key]
    hdu.header["HDUCLAS1"] = "POINTING"
    return hdu


def add_table(archive: Archive, **columns: Any) -> None:
    archive.add("pointing", "pointing", lambda hdulist: pointing_hdu(hdulist, **columns))


ALONG_ZERO = {"RA_PNT": [1.0, 357.0, 359.0, 3.0], "DEC_PNT": [0.0, 0, 0, 0]}
ACROSS_POLE = {"RA_PNT": [190.0, 10, 10, 190], "DEC_PNT": [89.0, 87, 89, 87]}
FIXED = {"ALT_PNT": [60.0] * 4, "AZ_PNT": [100.0] * 4}


def forget_pointing(archive: Archive, *more: str) -> None:
    names = ["RA_PNT", "DEC_PNT", *more]
    archive.keywords("EVENTS", **dict.fromkeys(names))
    archive.index("obs", lambda t: t.remove_columns([n for n in names if n in t.colnames]))


def test_table_counts_where_there_is_no_fixed_direction(archive):
    forget_pointing(archive)
    add_table(archive, **ALONG_ZERO)
    obs = observations(archive.directory)[0]
    assert len(obs.pointing_table) == 4
    assert_allclose((obs.pointing_table.time - obs.tstart).to_value("s"), [0, 100, 200, 300])
    for seconds, ra in [(0, 357), (50, 358), (100, 359), (150, 0), (1e5, 3), (-1e5, 357)]:
        found = obs.get_pointing_icrs(obs.tstart + seconds * u.s)
        assert separation(found, SkyCoord(ra, 0, unit="deg")) < 1
    several = obs.get_pointing_icrs(obs.tstart + [0, 300] * u.s)
    assert_allclose(several.ra.deg, [357, 3])
    assert_allclose(obs.pointing_lon_lat()[0], np.radians(3))
    zenith = obs.get_pointing_altaz(obs.tstart).zen
    frame = AltAz(obstime=obs.tstart, location=obs.observatory_earth_location)
    assert_allclose(zenith.deg, 90 - SkyCoord("357d", "0d").transform_to(frame).alt.deg, rtol=1e-6)


def test_table_is_interpolated_across_the_pole(archive):
    forget_pointing(archive)
    add_table(archive, **ACROSS_POLE)
    obs = observations(archive.directory)[0]
    assert obs.get_pointing_icrs(obs.tstart + 150 * u.s).dec.deg == pytest.approx(90, abs=1e-3)


@pytest.mark.parametrize(
    ("mode", "moves"),
    [("POINTING", False), ("WOBBLE", False)]
    + [(mode, True) for mode in ("SLEW", "scan", "RASTER")],
)
def test_fixed_direction_counts_unless_the_mode_says_otherwise(mode, moves, archive):
    archive.keywords("EVENTS", OBS_MODE=mode)
    add_table(archive, **ALONG_ZERO)
    obs = observations(archive.directory)[0]
    expected = (
        SkyCoord("0d", "0d")
        if moves
        else SkyCoord(obs.header["RA_PNT"], obs.header["DEC_PNT"], unit="deg")
    )
    assert separation(obs.get_pointing_icrs(obs.tstart + 150 * u.s), expected) < 1


@pytest.mark.parametrize("source", ["header", "zenith", "table"])
def test_drift_without_a_direction_on_the_sky(source, archive):
    forget_pointing(archive, "ALT_PNT", "AZ_PNT", "ZEN_PNT")
    keywords = {
        "header": {"ALT_PNT": 60.0, "AZ_PNT": "100"},
        "zenith": {"ZEN_PNT": 30, "AZ_PNT": 100},
    }
    archive.keywords("EVENTS", OBS_MODE="drift", **keywords.get(source, {}))
    if source == "table":
        add_table(archive, **FIXED)
    obs = observations(archive.directory)[0]
    assert obs.is_drift
    for time in (obs.tstart, obs.tmid):
        altaz = obs.get_pointing_altaz(time)
        assert_allclose([altaz.alt.deg, altaz.az.deg], [60, 100])
    middle = SkyCoord(*obs.pointing_lon_lat(), unit="rad")
    assert separation(middle, obs.get_pointing_icrs()) < 1e-3
    assert (
        get_irfs_features(observations(archive.directory), "1 TeV", position=middle, names="aeff")[
            "aeff"
        ][0]
        > 0 * u.m**2
    )


def test_drift_that_says_nothing_names_what_is_missing(archive):
    forget_pointing(archive, "ALT_PNT", "AZ_PNT", "ZEN_PNT")
    archive.keywords("EVENTS", OBS_MODE="DRIFT")
    obs = observations(archive.directory)[0]
    with pytest.raises(FormatError, match="AZ_PNT is neither"):
        obs.get_pointing_icrs()


@pytest.mark.parametrize("columns", [{}, {"RA_PNT": [np.nan] * 4, "DEC_PNT": [0.0] * 4}])
def test_table_without_directions_is_named(columns, archive):
    add_table(archive, **columns)
    with pytest.raises(FormatError, match=r"POINTING.*no time with a direction"):
        _ = observations(archive.directory)[0].pointing_table


# --- directional cuts ----------------------------------------------------------------------------


def make_pointlike(archive: Archive, **keywords: Any) -> None:
    """Responses with a directional cut have neither PSF nor background."""
    archive.take_out("psf", "bkg")
    archive.keywords("AEFF", "EDISP", HDUCLAS3="POINT-LIKE", **keywords)


@pytest.mark.parametrize(("value", "degrees"), [(0.2, 0.2), ("0.2 deg", 0.2), ("12 arcmin", 0.2)])
def test_cut_of_a_keyword_is_a_single_bin(value, degrees, archive, original):
    make_pointlike(archive, RAD_MAX=value)
    obs = observations(archive.directory)[0]
    assert obs.rad_max.hdu_class == "rad_max_2d"
    assert [axis.nbin for axis in obs.rad_max.axes.values()] == [1, 1]
    assert_allclose(obs.rad_max.quantity.to_value("deg"), degrees)
    area = obs.aeff.axes["energy_true"].edges
    assert_allclose(obs.rad_max.axes["energy"].edges, area[[0, -1]])
    assert obs.aeff.is_pointlike
    assert obs.available_irfs == ["aeff", "edisp"]
    assert_same_features(archive, original)
    if value == 0.2:
        irf = pytest.importorskip("gammapy.irf")
        path = obs.locations["aeff"].existing_path
        theirs = irf.RadMax2D.from_irf(irf.EffectiveAreaTable2D.read(path, hdu="AEFF"))
        assert_allclose(theirs.data.squeeze(), obs.rad_max.data.squeeze())
        assert_allclose(theirs.axes["energy"].edges.to_value("TeV"), area[[0, -1]], rtol=1e-6)


@pytest.mark.parametrize("value", ["wide", -1.0, "0.2 TeV", 1e9])
def test_cut_that_is_no_angle_is_named(value, archive):
    make_pointlike(archive, RAD_MAX=value)
    with pytest.raises(FormatError, match="HDU AEFF: RAD_MAX"):
        _ = observations(archive.directory)[0].rad_max


def test_cut_in_a_column_of_the_area(archive):
    make_pointlike(archive)
    archive.columns(["AEFF"], lambda c: c.update(RAD_MAX=[c["EFFAREA"][0] * 0 + 0.1, "deg"]))
    obs = observations(archive.directory)[0]
    assert obs.rad_max.data.shape == obs.aeff.data.shape
    assert (obs.rad_max.quantity == 0.1 * u.deg).all() or np.allclose(obs.rad_max.data, 0.1)


def test_full_enclosure_has_no_cut(archive):
    archive.keywords("AEFF", RAD_MAX=0.2)
    assert observations(archive.directory)[0].rad_max is None


# --- instruments ---------------------------------------------------------------------------------


def test_like_veritas(archive, original):
    """V2DL3: ``sr^-1``, offsets as points, MJDREFI a float, single precision times in the index."""
    archive.keywords(TELESCOP="VERITAS", ORIGIN="VERITAS Collaboration")
    archive.keywords("EVENTS", "GTI", MJDREFI=51910.0, TIMEREF="topocenter", OBS_MODE=None)
    archive.keywords("AEFF", "EDISP", "PSF", "BKG", HDUCLAS3="full-enclosure")
    archive.keywords("AEFF", HDUCLAS4="aeff_2d")
    archive.keywords("PSF", HDUCLAS2="PSF", HDUCLAS4="psf_table", TUNIT7="sr^-1")
    archive.keywords("EDISP", TUNIT3="", TUNIT4="")
    flags = {"IS_GAMMA": [np.ones(1, bool), None], "Xoff": [np.ones(1, "f4"), None]}

    def edit(hdulist: fits.HDUList) -> None:
        n = len(hdulist["EVENTS"].data)
        more = {name: [np.repeat(v, n), unit] for name, (v, unit) in flags.items()}
        hdulist["EVENTS"] = rebuilt(hdulist["EVENTS"], lambda columns: columns.update(more))

    archive.runs(edit)
    archive.index("obs", lambda t: t.replace_column("TSTART", t["TSTART"].astype("f4")))
    assert_same_features(archive, original, (*FEATURES, "psf-radius", "bkg-rate", "event-rate"))
    assert observations(archive.directory)[0].events.table["IS_GAMMA"].all()


def test_like_magic(archive, original):
    """Point-like with an energy-dependent cut; the site is in the pointing table alone."""
    make_pointlike(archive)
    forget_site(archive)
    archive.keywords(TELESCOP=None, TIMESYS="UTC", HDUDOC=None, OBS_MODE="WOBBLE")

    def rad_max(hdulist: fits.HDUList) -> fits.BinTableHDU:
        hdu = rebuilt(
            hdulist["AEFF"], lambda c: c.update(RAD_MAX=[c.pop("EFFAREA")[0] * 0 + 0.2, "deg"])
        )
        hdu.name = "RAD_MAX"
        hdu.header.update({"HDUCLAS2": "RAD_MAX", "HDUCLAS4": "RAD_MAX_2D"})
        return hdu

    def pointing(hdulist: fits.HDUList) -> fits.BinTableHDU:
        hdu = pointing_hdu(hdulist, **ALONG_ZERO, **FIXED)
        hdu.header.update({"OBSGEO-L": -17.89, "OBSGEO-B": 28.7619, "OBSGEO-H": 2200.0})
        return hdu

    archive.add("rad_max", "rad_max_2d", rad_max)
    archive.add("pointing", "pointing", pointing)
    obs = observations(archive.directory)[0]
    assert obs.available_irfs == ["aeff", "edisp", "rad_max"]
    assert_allclose(obs.rad_max.evaluate(energy=1 * u.TeV, offset=1 * u.deg).value, 0.2)
    place = EarthLocation.from_geodetic(-17.89, 28.7619, 2200.0)
    assert_allclose(obs.observatory_earth_location.x.value, place.x.value)
    assert (
        separation(
            obs.get_pointing_icrs(),
            SkyCoord(obs.header["RA_PNT"], obs.header["DEC_PNT"], unit="deg"),
        )
        < 1
    )
    assert obs.psf is None
    assert_same_features(archive, original)
    assert main(["info", str(archive.directory)]) == 0


def test_like_lst(archive, original):
    """Point-like with a fixed cut as text with unit, one offset bin, more columns and keywords."""
    make_pointlike(archive, RAD_MAX="0.2 deg", GH_CUT=0.7)
    forget_site(archive)
    archive.keywords(TELESCOP="CTA-N", INSTRUME="LST-1", OBS_MODE="UNDETERMINED", TIMEREF=None)

    def one_offset(columns: dict[str, list]) -> None:
        columns["THETA_LO"][0] = np.array([[0.1]])
        columns["THETA_HI"][0] = np.array([[0.7]])
        name = "MATRIX" if "MATRIX" in columns else "EFFAREA"
        columns[name][0] = columns[name][0][:, :1].astype("f8")

    archive.columns(["AEFF", "EDISP"], one_offset)
    obs = observations(archive.directory)[0]
    assert obs.observatory_earth_location == location_of_telescope("LST-1")
    assert_allclose(obs.rad_max.data, 0.2)
    assert_same_features(archive, original)
