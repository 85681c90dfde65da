"""What is made faster is what Gammapy makes: responses, regions, counts and thresholds."""

from __future__ import annotations

import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import Table
from astropy.time import Time
from numpy.testing import assert_allclose, assert_array_equal

from obscluster import DataStore
from obscluster.exceptions import DataError

pytest.importorskip("gammapy")

import gammapy.data
from gammapy.data import EventList
from gammapy.datasets import SpectrumDataset
from gammapy.makers import ReflectedRegionsBackgroundMaker, ReflectedRegionsFinder, SafeMaskMaker
from gammapy.maps import Map, MapAxis, RegionGeom, WcsGeom
from gammapy.utils.regions import compound_region_to_regions
from regions import CircleSkyRegion, EllipseSkyRegion

from obscluster.reduction.archive import gammapy_store
from obscluster.reduction.makers import (
    AreaSafeMaskMaker,
    ReflectedCirclesFinder,
    ReflectedCirclesMaker,
)
from obscluster.reduction.messages import captured

TARGET = SkyCoord(329.71693826, -30.2255890, unit="deg")
ENERGY = MapAxis.from_energy_bounds("0.2 TeV", "20 TeV", nbin=10, per_decade=True)


def stores(path):
    """Gammapy's store as this package makes it, and as Gammapy itself does."""
    data_store = DataStore.from_dir(path)
    return gammapy_store(data_store), gammapy.data.DataStore.from_dir(data_store.base_dir)


def assert_same_arrays(one, other):
    for name in one.dtype.names or ():
        assert_same_arrays(one[name], other[name])
    if not one.dtype.names and not np.array_equal(one, other):
        assert_allclose(one, other, rtol=1e-12, atol=0)


class TestParts:
    @pytest.mark.parametrize("fixture", ["hess_dr1", "fact_crab", "cta_1dc"])
    def test_responses_of_all_runs(self, fixture, request):
        ours, plain = stores(request.getfixturevalue(fixture))
        read = {}
        for obs_id in plain.obs_table["OBS_ID"]:
            run, other = (store.obs(obs_id, required_irf=[]) for store in (ours, plain))
            assert run.available_hdus == other.available_hdus
            for name in set(other.available_irfs) - {"rad_max"}:
                location = plain.hdu_table.hdu_location(obs_id, name)
                # One of many files that is shared is enough.
                key = (location.path(), location.hdu_name)
                if key not in read or fixture != "fact_crab":
                    with captured():
                        read[key] = getattr(other, name)
                with captured():
                    irf = getattr(run, name)
                expected = read[key]
                assert type(irf) is type(expected)
                assert irf.unit == expected.unit
                assert irf.is_pointlike == expected.is_pointlike
                assert irf.fov_alignment == expected.fov_alignment
                assert_same_arrays(irf.data, expected.data)
                for axis, as_expected in zip(irf.axes, expected.axes, strict=True):
                    assert (axis.name, axis.interp) == (as_expected.name, as_expected.interp)
                    assert axis.unit == as_expected.unit
                    assert_same_arrays(axis.edges.value, as_expected.edges.value)
                    assert_same_arrays(axis.center.value, as_expected.center.value)

    @pytest.mark.parametrize("fixture", ["hess_dr1", "fact_crab", "cta_1dc"])
    def test_events_times_and_pointing(self, fixture, request):
        ours, plain = stores(request.getfixturevalue(fixture))
        for obs_id in plain.obs_table["OBS_ID"][::10]:
            run, other = (store.obs(obs_id, required_irf=[]) for store in (ours, plain))
            for name in ("time_start", "time_stop", "time_ref"):
                one, expected = getattr(run.gti, name), getattr(other.gti, name)
                assert_array_equal((one - expected).to_value("s"), 0)
                assert one.scale == expected.scale
            assert_array_equal((run.events.time - other.events.time).to_value("s"), 0)
            table, as_table = run.events.table, other.events.table
            assert table.colnames == as_table.colnames
            for name in set(table.colnames) - {"TIME"}:
                assert table[name].unit == as_table[name].unit
                assert_array_equal(table[name], as_table[name])
            assert repr(vars(run.pointing)) == repr(vars(other.pointing))
            without = {"creation"}
            assert repr(run.meta.model_dump(exclude=without)) == repr(
                other.meta.model_dump(exclude=without)
            )
            assert run.observation_live_time_duration == other.observation_live_time_duration

    def test_what_this_package_cannot_read_gammapy_says(self, hess_dr1, tmp_path):
        for name in ("obs-index.fits.gz", "hdu-index.fits.gz"):
            shutil.copy(hess_dr1 / name, tmp_path)
        (tmp_path / "data").mkdir()
        file = "data/hess_dl3_dr1_obs_id_033787.fits.gz"
        (tmp_path / file).write_bytes((hess_dr1 / file).read_bytes()[:50_000])
        data_store = DataStore.from_dir(tmp_path)
        with pytest.raises(DataError):
            data_store.obs(33787).read_irfs("psf")
        said = []
        for store in stores(tmp_path):
            for name in ("aeff", "edisp", "psf", "events"):
                try:
                    with captured() as messages:
                        part = getattr(store.obs(33787), name)
                        said.append((name, part is None, dict(messages)))
                except Exception as error:  # noqa: BLE001 of whatever class
                    said.append((name, repr(error), dict(messages)))
        assert said[:4] == said[4:]
        assert [part for _, part, _ in said] != [False] * 8


def assert_same_regions(found, expected):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert type(one) is type(other)
        assert one.center.frame.name == other.center.frame.name
        assert one.center.separation(other.center).deg < 1e-12
        assert_allclose(one.radius.to_value("deg"), other.radius.to_value("deg"), rtol=1e-12)


def both(region, observation, mask=None, **options):
    """OFF counts and acceptance by the fast and by Gammapy's maker."""
    dataset = SpectrumDataset.create(RegionGeom.create(region, axes=[ENERGY]), name="run")
    makers = (
        ReflectedCirclesMaker(ReflectedCirclesFinder(**options), exclusion_mask=mask),
        ReflectedRegionsBackgroundMaker(ReflectedRegionsFinder(**options), exclusion_mask=mask),
    )
    return [maker.make_counts_off(dataset, observation) for maker in makers]


def assert_same_off(region, observation, mask=None, **options):
    (counts, acceptance), (as_counts, as_acceptance) = both(region, observation, mask, **options)
    assert_array_equal(acceptance.data, as_acceptance.data)
    assert (counts is None) == (as_counts is None)
    if counts is None:
        return 0
    assert_array_equal(counts.data, as_counts.data)
    assert counts.data.dtype == as_counts.data.dtype
    assert counts.unit == as_counts.unit
    assert_same_regions(*(compound_region_to_regions(c.geom.region) for c in (counts, as_counts)))
    return int(acceptance.data.max())


def pointed(pointing, rng, n_events=3000):
    """A run with random events around its pointing."""
    angle = rng.uniform(0, 360, n_events) * u.deg
    radec = pointing.directional_offset_by(angle, 2.5 * np.sqrt(rng.random(n_events)) * u.deg)
    energy = 0.1 * rng.random(n_events) ** -0.8 * u.TeV
    columns = {"RA": radec.icrs.ra, "DEC": radec.icrs.dec, "ENERGY": energy}
    time = Time(np.full(n_events, 53000.0), format="mjd", scale="tt")
    events = EventList(Table(columns | {"TIME": time}))
    return SimpleNamespace(
        get_pointing_icrs=lambda _: pointing, tmid=None, rad_max=None, events=events
    )


class TestReflectedRegions:
    @pytest.mark.parametrize("excluded", [False, True])
    def test_real_runs(self, excluded, hess_dr1):
        store = gammapy_store(DataStore.from_dir(hess_dr1))
        table = store.obs_table.select_sky_circle(TARGET, 2 * u.deg)
        mask = None
        if excluded:
            geom = WcsGeom.create(skydir=TARGET, width=6, binsz=0.02, frame="icrs", proj="TAN")
            places = [TARGET.directional_offset_by(a * u.deg, 0.8 * u.deg) for a in (10, 100, 250)]
            mask = geom.region_mask([CircleSkyRegion(p, 0.2 * u.deg) for p in places], inside=False)
        region = CircleSkyRegion(TARGET, 0.11 * u.deg)
        numbers = [
            assert_same_off(region, run, mask)
            for run in map(store.obs, table["OBS_ID"][:: 3 if excluded else 1].tolist())
        ]
        assert min(numbers) >= 5

    def test_simulated_pointings(self):
        """Any place on the sky, offset, radius, setting and mask; none found is the same, too."""
        rng = np.random.default_rng(7)
        numbers = []
        for i in range(24):
            target = SkyCoord(rng.uniform(0, 360), rng.uniform(-85, 85), unit="deg")
            target = target.galactic if i % 4 == 3 else target
            offset = rng.uniform(0.0 if i % 5 == 4 else 0.3, 1.0) * u.deg
            pointing = target.directional_offset_by(rng.uniform(0, 360) * u.deg, offset).icrs
            mask = None
            if i % 2:
                frame = "galactic" if i % 3 else "icrs"
                geom = WcsGeom.create(skydir=target, width=5, binsz=0.03, frame=frame, proj="TAN")
                mask = Map.from_geom(geom, data=True, dtype=bool)
                for _ in range(rng.integers(1, 5)):
                    around = rng.uniform(0, 360) * u.deg
                    hole = pointing.directional_offset_by(around, rng.uniform(0.2, 1.5) * u.deg)
                    mask.data &= geom.separation(hole) > rng.uniform(0.02, 0.4) * u.deg
            options = {} if i % 3 else {"min_distance_input": "8 deg", "max_region_number": 6}
            region = CircleSkyRegion(target, rng.uniform(0.05, 0.3) * u.deg)
            numbers.append(assert_same_off(region, pointed(pointing, rng), mask, **options))
        assert 0 in numbers
        assert max(numbers) > 15

    def test_the_finder_alone_and_other_shapes(self):
        pointing = TARGET.directional_offset_by(30 * u.deg, 0.7 * u.deg)
        circle = CircleSkyRegion(TARGET, 0.15 * u.deg)
        ellipse = EllipseSkyRegion(TARGET, 0.3 * u.deg, 0.2 * u.deg, 20 * u.deg)
        finders = ReflectedCirclesFinder(), ReflectedRegionsFinder()
        (found, wcs), (expected, as_wcs) = (f.run(circle, pointing) for f in finders)
        assert_same_regions(found, expected)
        assert wcs.to_header() == as_wcs.to_header()
        (found, _), (expected, _) = (f.run(ellipse, pointing) for f in finders)
        assert len(found) == len(expected) > 5
        assert_same_off(circle, pointed(pointing, np.random.default_rng(1)))
        counts, as_counts = (
            off[0].data for off in both(ellipse, pointed(pointing, np.random.default_rng(1)))
        )
        assert_array_equal(counts, as_counts)


def test_safe_energies():
    """Areas with one crossing, several, and none; fine bins, so that thresholds tell."""
    rng = np.random.default_rng(1)
    axis = MapAxis.from_energy_bounds("0.01 TeV", "100 TeV", nbin=200, per_decade=True)
    true = MapAxis.from_energy_bounds(
        "0.005 TeV", "200 TeV", nbin=20, per_decade=True, name="energy_true"
    )
    geom = RegionGeom.create(CircleSkyRegion(TARGET, 0.1 * u.deg), axes=[axis])
    energy, used = true.center.value, []
    for i in range(20):
        dataset = SpectrumDataset.create(geom, energy_axis_true=true)
        area = (energy / rng.uniform(0.02, 1)) ** rng.uniform(1, 4)
        area = 1e9 * area / (1 + 0.1 * area) * (energy > rng.uniform(0.004, 0.1))
        area *= np.where(energy > rng.uniform(10, 100), 0.01 if i % 3 else 1, 1)
        area *= rng.uniform(0.3, 1, area.size) if i % 5 == 0 else 1
        dataset.exposure.data[:, 0, 0] = area
        dataset.exposure.meta = {"livetime": 1000 * u.s}
        options = {"methods": ["aeff-max"], "aeff_percent": rng.uniform(3, 40), "position": TARGET}
        mask, expected = (
            maker(**options).make_mask_energy_aeff_max(dataset)
            for maker in (AreaSafeMaskMaker, SafeMaskMaker)
        )
        assert_array_equal(mask.data, expected.data)
        used.append(int(mask.data.sum()))
    assert len(set(used)) > 10
