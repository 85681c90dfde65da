"""Simulated archives: valid, reproducible, and true to the response they were made with."""

from __future__ import annotations

import io
from pathlib import Path

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import AltAz, EarthLocation, SkyCoord
from astropy.io import fits
from astropy.table import QTable, Table
from astropy.time import Time
from numpy.testing import assert_allclose
from scipy.cluster.hierarchy import fcluster, linkage

from obscluster.exceptions import RequestError
from obscluster.simulate import TARGETS, plan_runs, response, simulate
from obscluster.simulate.irfs import (
    BKG_TABLES,
    PSF_TABLES,
    SIZES,
    draw_migration,
    draw_radius,
    irf_hdus,
)
from obscluster.simulate.model import EPOCHS, psf_containment

# Crab (a bright source), high zenith angle, three telescopes, PSF and resolution of epoch 2.
TRUTH = response(zenith=45.0, muoneff=0.8, epoch=2, n_tels=3)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return simulate(tmp_path_factory.mktemp("simulated") / "archive", n_obs=12, size="small")


@pytest.fixture(scope="module")
def runs(archive: Path) -> QTable:
    return QTable.read(archive / "obs-index.fits.gz", unit_parse_strict="raise")


def files(directory: Path) -> dict[str, bytes]:
    paths = [path for path in directory.rglob("*") if path.is_file()]
    return {str(path.relative_to(directory)): path.read_bytes() for path in paths}


def tables(psf: str = "psf_table", bkg: str = "bkg_3d", size: str = "full") -> dict[str, QTable]:
    """IRF tables of TRUTH after a round trip through FITS."""
    buffer = io.BytesIO()
    hdus = irf_hdus(TRUTH, size=size, psf=psf, bkg=bkg)
    fits.HDUList([fits.PrimaryHDU(), *(hdu for _, hdu in hdus)]).writeto(buffer)
    with fits.open(io.BytesIO(buffer.getvalue())) as hdulist:
        return {hdu.name: QTable.read(hdu, unit_parse_strict="raise") for hdu in hdulist[1:]}


def one_to_one(labels: np.ndarray, truth: np.ndarray) -> bool:
    pairs = set(zip(labels.tolist(), truth.tolist(), strict=True))
    return len(pairs) == len(set(labels.tolist())) == len(set(truth.tolist()))


def ward(features: np.ndarray, n_clusters: int) -> np.ndarray:
    scaled = (features - features.mean(axis=0)) / features.std(axis=0)
    return fcluster(linkage(scaled, method="ward"), n_clusters, criterion="maxclust")


# --- the response model ---------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
def test_edisp_is_normalised_and_has_the_true_moments(size):
    table = tables(size=size)["EDISP"][0]
    low, high = (np.array(table[f"MIGRA_{end}"], float) for end in ("LO", "HI"))
    matrix = np.array(table["MATRIX"], float)
    width = (high - low)[:, np.newaxis]
    assert_allclose((matrix * width).sum(axis=1), 1, atol=2e-5)

    energy = np.sqrt(table["ENERG_LO"] * table["ENERG_HI"]).to_value("TeV")
    offset = table["THETA_LO"].to_value("deg")[:, np.newaxis]
    mean, std = TRUTH.edisp_moments(energy, offset)
    center = 0.5 * (low + high)[:, np.newaxis]
    found = (matrix * width * center).sum(axis=1)
    spread = np.sqrt((matrix * width * (center - found[:, np.newaxis]) ** 2).sum(axis=1))
    above = energy > 2 * TRUTH.threshold
    assert_allclose(found[:, above] - 1, mean[:, above], atol=2e-3)
    assert_allclose(spread[:, above], std[:, above], rtol=0.02)


@pytest.mark.parametrize("size", SIZES)
def test_psf_table_is_normalised(size):
    table = tables(size=size)["PSF"][0]
    area = np.pi * (table["RAD_HI"].to("rad") ** 2 - table["RAD_LO"].to("rad") ** 2)
    inside = (table["RPSF"] * area[:, np.newaxis, np.newaxis]).sum(axis=0).to_value("")
    assert_allclose(inside, 1, atol=1e-6)


def test_psf_3gauss_is_normalised():
    table = tables(psf="psf_3gauss")["PSF"][0]
    squares = [table[f"SIGMA_{i}"].to_value("rad") ** 2 for i in (1, 2, 3)]
    sum_ = squares[0] + table["AMPL_2"] * squares[1] + table["AMPL_3"] * squares[2]
    assert_allclose(2 * table["SCALE"] * sum_, 1, atol=1e-6)


def test_psf_formats_share_their_radii():
    energy, offset = np.geomspace(0.1, 50, 9), 0.5
    narrow, wide = TRUTH.psf_sigmas(energy, offset)
    gamma, sigma = TRUTH.psf_king(energy, offset)
    for radius, fraction in (
        (TRUTH.psf_r68(energy, offset), 0.68),
        (TRUTH.psf_r95(energy, offset), 0.95),
    ):
        assert_allclose(psf_containment(radius, narrow), fraction, atol=1e-9)
        gauss = 1 - 0.75 * np.exp(-0.5 * (radius / narrow) ** 2)
        assert_allclose(gauss - 0.25 * np.exp(-0.5 * (radius / wide) ** 2), fraction, atol=1e-9)
        king = 1 - (1 + radius**2 / (2 * gamma * sigma**2)) ** (1 - gamma)
        assert_allclose(king, fraction, atol=1e-9)


@pytest.mark.parametrize("psf", PSF_TABLES)
def test_draws_follow_the_response(psf):
    rng = np.random.default_rng(5)
    energy = np.full(40_000, 1.0)
    radius = draw_radius(TRUTH, energy, 0.5, psf, rng)
    assert_allclose(np.mean(radius < TRUTH.psf_r68(1.0, 0.5)), 0.68, atol=0.01)
    assert_allclose(np.mean(radius < TRUTH.psf_r95(1.0, 0.5)), 0.95, atol=0.005)
    migration = draw_migration(TRUTH, energy, 0.5, rng)
    mean, std = TRUTH.edisp_moments(1.0, 0.5)
    assert_allclose(migration.mean() - 1, mean, atol=0.01)
    assert_allclose(migration.std(), std, rtol=0.03)


def test_response_follows_the_conditions():
    """The directions in which a real array changes."""
    good = response(zenith=10.0, muoneff=1.0, epoch=1, n_tels=4)
    for worse in (
        response(zenith=50.0, muoneff=1.0, epoch=1, n_tels=4),
        response(zenith=10.0, muoneff=0.7, epoch=1, n_tels=4),
        response(zenith=10.0, muoneff=1.0, epoch=1, n_tels=3),
    ):
        assert worse.threshold > good.threshold
        assert worse.aeff(0.3, 0.5) < good.aeff(0.3, 0.5)
        assert worse.psf_r68(1.0, 0.5) > good.psf_r68(1.0, 0.5)
        assert worse.edisp_sigma(1.0, 0.5) > good.edisp_sigma(1.0, 0.5)
    high = response(zenith=50.0, muoneff=1.0, epoch=1, n_tels=4)
    assert high.aeff(30.0, 0.5) > good.aeff(30.0, 0.5)
    assert good.aeff(1.0, 2.0) < good.aeff(1.0, 0.0)
    assert good.psf_r68(0.3, 0.5) > good.psf_r68(3.0, 0.5)
    assert good.bkg(1.0, 2.0) < good.bkg(1.0, 0.0)
    slope = np.log(good.bkg(30.0, 0.0) / good.bkg(3.0, 0.0)) / np.log(10)
    assert -3.5 < slope < -2.7
    assert 0.1 < good.threshold < 0.2


def test_separation_zero_makes_epochs_alike():
    models = [response(20.0, 0.9, k + 1, 4, separation=0.0) for k in range(len(EPOCHS))]
    assert set(models) == {models[0]}


# --- the plan -------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_obs", [30, 60, 120])
def test_ward_finds_the_epochs_for_any_seed(n_obs):
    for seed in range(20):
        table, _ = plan_runs(n_obs=n_obs, seed=seed)
        features = []
        for run in table:
            offset = run["OFFSET_OBJ"].value
            truth = response(run["ZEN_PNT"].value, run["MUONEFF"], run["EPOCH"], run["N_TELS"])
            features.append((truth.edisp_moments(1.0, offset)[1], truth.psf_r68(1.0, offset)))
        assert one_to_one(ward(np.array(features), 3), table["EPOCH"]), f"seed {seed}"


@pytest.mark.parametrize("zenith_range", [(0, 2), (5, 50), (60, 70)])
def test_zenith_angles_are_in_the_range(zenith_range):
    table, _ = plan_runs(n_obs=60, zenith_range=zenith_range)
    zenith = table["ZEN_PNT"].to_value("deg")
    assert zenith_range[0] <= zenith.min()
    assert zenith.max() <= zenith_range[1]
    assert np.ptp(zenith) > 0.5 * np.ptp(zenith_range)


def test_targets_and_conditions_vary():
    table, _ = plan_runs(n_obs=200)
    assert {target.name for target in TARGETS} - set(table["OBJECT"]) == {"Mkn 421"}
    assert set(table["N_TELS"]) == {3, 4}
    assert set(table["TELLIST"]) == {"1,2,3,4", "2,3,4", "1,3,4", "1,2,4", "1,2,3"}
    assert [t.count(",") + 1 for t in table["TELLIST"]] == table["N_TELS"].tolist()
    assert np.bincount(table["EPOCH"])[1:].tolist() == [67, 67, 66]
    # In time, epochs follow each other, and no two runs overlap.
    assert (np.diff(table["EPOCH"]) >= 0).all()
    assert (table["TSTART"][1:] > table["TSTOP"][:-1]).all()


# --- the archive ----------------------------------------------------------------------------------


def test_zenith_belongs_to_position_and_time(runs):
    meta = runs.meta
    site = EarthLocation.from_geodetic(
        meta["GEOLON"] * u.deg, meta["GEOLAT"] * u.deg, meta["ALTITUDE"] * u.m
    )
    middle = 0.5 * (runs["TSTART"] + runs["TSTOP"])
    time = Time(meta["MJDREFI"], meta["MJDREFF"], format="mjd", scale="tt") + middle
    pointing = SkyCoord(runs["RA_PNT"], runs["DEC_PNT"])
    expected = pointing.transform_to(AltAz(obstime=time, location=site))
    assert_allclose(runs["ZEN_PNT"].to_value("deg"), expected.zen.deg, atol=1e-4)
    assert_allclose(runs["ALT_PNT"].to_value("deg"), expected.alt.deg, atol=1e-4)
    assert_allclose(runs["AZ_PNT"].to_value("deg"), expected.az.deg, atol=1e-3)
    offset = pointing.separation(SkyCoord(runs["RA_OBJ"], runs["DEC_OBJ"]))
    assert_allclose(offset.deg, runs["OFFSET_OBJ"].to_value("deg"), atol=1e-6)
    stamps = [f"{d}T{t}" for d, t in zip(runs["DATE-OBS"], runs["TIME-OBS"], strict=True)]
    start = Time(meta["MJDREFI"], meta["MJDREFF"], format="mjd", scale="tt") + runs["TSTART"]
    assert start.isot.tolist() == stamps


def test_night_is_dark(runs):
    """The Sun is well below the horizon whenever the array observes."""
    from astropy.coordinates import get_sun

    time = Time(51910, 64.184 / 86400, format="mjd", scale="tt") + runs["TSTART"]
    site = EarthLocation.from_geodetic(16.5 * u.deg, -23.27 * u.deg, 1835 * u.m)
    sun = get_sun(time).transform_to(AltAz(obstime=time, location=site))
    assert sun.alt.max() < -17 * u.deg


def test_index_lists_every_hdu(archive, runs):
    index = Table.read(archive / "hdu-index.fits.gz")
    assert len(index) == 6 * len(runs)
    assert set(index["OBS_ID"]) == set(runs["OBS_ID"])
    for row in index[:12]:
        path = archive / row["FILE_DIR"] / row["FILE_NAME"]
        with fits.open(path) as hdulist:
            hdulist.verify("exception")
            info = hdulist[row["HDU_NAME"]].fileinfo()
            header = hdulist[row["HDU_NAME"]].header
        assert row["SIZE"] == info["datLoc"] - info["hdrLoc"] + info["datSpan"]
        assert header["HDUCLASS"] == "GADF"
        assert header["OBS_ID"] == row["OBS_ID"]
        if header["HDUCLAS1"] == "RESPONSE":
            assert header["HDUCLAS4"].lower() == row["HDU_CLASS"]
        Table.read(path, hdu=row["HDU_NAME"], unit_parse_strict="raise")


def test_events_lie_in_the_good_time_and_the_field(archive, runs):
    for run in runs:
        with fits.open(archive / "data" / f"run_{run['OBS_ID']:06d}.fits.gz") as hdulist:
            events, gti, header = hdulist["EVENTS"].data, hdulist["GTI"].data, hdulist[1].header
            assert len(events) == run["EVENT_COUNT"] > 50
            assert gti["START"][0] <= events["TIME"].min()
            assert events["TIME"].max() <= gti["STOP"][0]
            assert (np.diff(events["TIME"]) >= 0).all()
            position = SkyCoord(events["RA"], events["DEC"], unit="deg")
        assert_allclose((gti["STOP"] - gti["START"]).sum(), header["ONTIME"])
        assert_allclose(header["LIVETIME"], header["DEADC"] * header["ONTIME"])
        center = SkyCoord(run["RA_PNT"], run["DEC_PNT"])
        assert center.separation(position).deg.max() < 3


def test_source_is_where_the_target_is(archive, runs):
    """Events within r68 of the Crab exceed those at the opposite side of the pointing."""
    run = next(run for run in runs if run["OBJECT"] == "Crab Nebula")
    with fits.open(archive / "data" / f"run_{run['OBS_ID']:06d}.fits.gz") as hdulist:
        events = hdulist["EVENTS"].data
        position = SkyCoord(events["RA"], events["DEC"], unit="deg")
    center, source = (SkyCoord(run[f"RA_{k}"], run[f"DEC_{k}"]) for k in ("PNT", "OBJ"))
    mirror = center.directional_offset_by(source.position_angle(center), center.separation(source))
    on, off = ((p.separation(position) < 0.2 * u.deg).sum() for p in (source, mirror))
    assert on > off + 5 * np.sqrt(on + off)


def test_same_arguments_same_bytes(tmp_path, archive):
    again = simulate(tmp_path / "again", n_obs=12, size="small")
    assert files(again) == files(archive)
    other = simulate(tmp_path / "other", n_obs=12, size="small", seed=2)
    assert files(other).keys() != files(archive).keys()


def test_larger_archive_contains_the_smaller(tmp_path, archive):
    few = files(simulate(tmp_path / "few", n_obs=3, size="small"))
    many = files(archive)
    data = {name for name in few if name.startswith("data")}
    assert len(data) == 3
    assert {name: few[name] for name in data} == {name: many[name] for name in data}


@pytest.mark.parametrize("bkg", BKG_TABLES)
@pytest.mark.parametrize("psf", PSF_TABLES)
def test_gammapy_recovers_the_truth(tmp_path, psf, bkg):
    data = pytest.importorskip("gammapy.data")
    simulate(tmp_path / "a", n_obs=3, psf=psf, bkg=bkg, size="small", compress=False, events=False)
    store = data.DataStore.from_dir(tmp_path / "a")
    energy, offset = 1 * u.TeV, 0.5 * u.deg
    for run, obs in zip(store.obs_table, store.get_observations(), strict=True):
        truth = response(run["ZEN_PNT"], run["MUONEFF"], run["EPOCH"], run["N_TELS"])
        assert len(obs.events.table) == 0
        altaz = obs.get_pointing_altaz(obs.tmid)
        assert_allclose(altaz.zen.deg, run["ZEN_PNT"], atol=1e-4)
        area = obs.aeff.evaluate(energy_true=energy, offset=offset)
        assert_allclose(area.to_value("m2"), truth.aeff(1.0, 0.5), rtol=0.02)
        radius = obs.psf.containment_radius(0.68, energy_true=energy, offset=offset)
        assert_allclose(radius.to_value("deg"), truth.psf_r68(1.0, 0.5), rtol=0.03)
        center = obs.bkg.axes["energy"].center[3]
        where = {"offset": 1 * u.deg} if bkg == "bkg_2d" else {"fov_lon": 0 * u.deg}
        where |= {} if bkg == "bkg_2d" else {"fov_lat": [-1, 1] * u.deg}
        # The gradient is odd: it drops out of the mean of opposite positions.
        rate = obs.bkg.evaluate(energy=center, **where).to_value("s-1 TeV-1 sr-1").mean()
        assert_allclose(rate, truth.bkg(center.to_value("TeV"), 1.0), rtol=0.05)


def test_gammapy_features_give_back_the_epochs(tmp_path):
    data = pytest.importorskip("gammapy.data")
    cluster = pytest.importorskip("gammapy.utils.cluster")
    simulate(tmp_path / "a", n_obs=12, events=False, compress=False)
    store = data.DataStore.from_dir(tmp_path / "a")
    features = data.get_irfs_features(
        store.get_observations(),
        energy_true=1 * u.TeV,
        fixed_offset=0.5 * u.deg,
        names=["edisp-res", "psf-radius"],
    )
    expected = []
    for run in store.obs_table:
        truth = response(run["ZEN_PNT"], run["MUONEFF"], run["EPOCH"], run["N_TELS"])
        expected.append((truth.edisp_moments(1.0, 0.5)[1], truth.psf_r68(1.0, 0.5)))
    resolution, radius = np.transpose(expected)
    assert_allclose(features["edisp-res"], resolution, rtol=0.05)
    assert_allclose(features["psf-radius"].quantity.to_value("deg"), radius, rtol=0.01)
    labels = cluster.hierarchical_clustering(cluster.standard_scaler(features))["labels"]
    assert one_to_one(np.array(labels), np.array(store.obs_table["EPOCH"]))


def test_background_rises_towards_the_zenith(tmp_path):
    data = pytest.importorskip("gammapy.data")
    simulate(tmp_path / "a", n_obs=3, size="small", events=False, zenith_range=(40, 50))
    for obs in data.DataStore.from_dir(tmp_path / "a").get_observations():
        altaz = obs.get_pointing_altaz(obs.tmid)
        pointing = obs.get_pointing_icrs(obs.tmid)
        rates = []
        for step in (1, -1) * u.deg:
            there = SkyCoord(altaz.az, altaz.alt + step, frame=altaz.frame).icrs
            fov = there.transform_to(pointing.skyoffset_frame())
            rates.append(
                obs.bkg.evaluate(
                    energy=1 * u.TeV, fov_lon=fov.lon.wrap_at("180d"), fov_lat=fov.lat
                ).value
            )
        expected = 2 * 0.03 * np.tan(altaz.zen)
        assert_allclose((rates[0] - rates[1]) / np.mean(rates), expected, rtol=0.1)


# --- arguments and directories --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("n_obs", 2),
        ("n_obs", 10.0),
        ("n_obs", True),
        ("seed", -1),
        ("n_epochs", 0),
        ("n_epochs", 7),
        ("separation", -0.1),
        ("separation", np.nan),
        ("zenith_range", (50, 5)),
        ("zenith_range", (5, 80)),
        ("zenith_range", 30),
        ("psf", "psf_moffat"),
        ("bkg", "none"),
        ("size", "huge"),
    ],
)
def test_bad_arguments_are_named(tmp_path, argument, value):
    with pytest.raises(RequestError, match=argument) as info:
        simulate(tmp_path / "a", **{argument: value})
    assert str(value) in str(info.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("argument", "value", "allowed"),
    [
        ("zenith", 90.0, "a number from 0 to 89"),
        ("muoneff", 0.0, "a number from 0.01 to 10"),
        ("epoch", 0, "an integer from 1 to 6"),
        ("n_tels", 1, "an integer from 2 to 4"),
    ],
)
def test_impossible_conditions_are_named(argument, value, allowed):
    good = {"zenith": 20.0, "muoneff": 1.0, "epoch": 1, "n_tels": 4}
    with pytest.raises(RequestError, match=f"{argument} is {value}; it must be {allowed}$"):
        response(**good | {argument: value})


def test_does_not_replace_what_is_there(tmp_path):
    target = tmp_path / "a"
    kwargs = {"n_obs": 3, "size": "small", "events": False}
    target.mkdir()
    simulate(target, **kwargs)
    before = files(target)
    with pytest.raises(RequestError, match="not empty"):
        simulate(target, seed=2, **kwargs)
    assert files(target) == before
    simulate(target, seed=2, overwrite=True, **kwargs)
    assert files(target).keys() != before.keys()
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_never_replaces_what_is_no_archive(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(RequestError, match="not overwritten"):
        simulate(tmp_path, n_obs=3, overwrite=True)
    with pytest.raises(RequestError, match="no directory"):
        simulate(tmp_path / "thesis.tex", n_obs=3, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def another_telescope(archive):
    path = archive / "obs-index.fits.gz"
    with fits.open(path) as hdus:
        hdus[1].header["TELESCOP"] = "HESS"
        hdus.writeto(path, overwrite=True)


@pytest.mark.parametrize(
    "change",
    [
        another_telescope,
        lambda archive: (archive / "README.txt").write_text("terms of use"),
        lambda archive: (archive / "data" / "run_999999.fits").write_text("another run"),
        lambda archive: (archive / "hdu-index.fits.gz").write_text("damaged"),
        lambda archive: (archive / "data").chmod(0o555),
        lambda archive: archive.chmod(0o555),
    ],
    ids=["telescope", "readme", "more runs", "damaged", "read-only data", "read-only"],
)
def test_data_of_somebody_else_is_never_replaced(change, tmp_path):
    target = simulate(tmp_path / "a", n_obs=3, size="small", events=False)
    change(target)
    before = files(target)
    with pytest.raises(RequestError, match="not overwritten"):
        simulate(target, n_obs=3, seed=2, size="small", events=False, overwrite=True)
    assert files(target) == before
    for path in (target, target / "data"):
        path.chmod(0o755)


def test_appears_whole_or_not_at_all(tmp_path):
    seen = []

    def interrupted(runs):
        for run in runs:
            seen.append((tmp_path / "a").exists())
            if len(seen) == 3:
                raise KeyboardInterrupt
            yield run

    with pytest.raises(KeyboardInterrupt):
        simulate(tmp_path / "a", n_obs=3, size="small", events=False, progress=interrupted)
    assert seen == [False] * 3
    assert not list(tmp_path.iterdir())


def test_an_interrupted_replacement_keeps_the_old_archive(tmp_path, monkeypatch):
    target = simulate(tmp_path / "a", n_obs=3, size="small", events=False)
    before = files(target)

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("obscluster.files.output.publish", interrupt)
    with pytest.raises(KeyboardInterrupt):
        simulate(target, n_obs=3, seed=2, size="small", events=False, overwrite=True)
    assert files(target) == before
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
