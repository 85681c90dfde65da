"""Each setting of a reduction and of a fit, on simulated archives whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest
import yaml
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import QTable, Table
from numpy.testing import assert_allclose, assert_array_equal
from scipy.optimize import minimize_scalar
from scipy.stats import poisson

from archives import Archive, set_keywords
from obscluster.cli import main
from obscluster.config import make_config
from obscluster.exceptions import RequestError
from obscluster.grouping.base import Grouping
from obscluster.reduction import make_reduce_config
from obscluster.simulate import irfs, simulate
from obscluster.simulate.model import TARGETS, psf_containment, run_response
from obscluster.workflow.assess import assess_grouping, write_assessment
from obscluster.workflow.group import group_observations, write_results

pytest.importorskip("gammapy")

from gammapy.datasets import SpectrumDatasetOnOff
from gammapy.maps import MapAxis, RegionGeom, RegionNDMap
from gammapy.stats import wstat

from obscluster.reduction import (
    compare_groupings,
    fit_datasets,
    fit_reduction,
    reduce_groups,
    to_gammapy,
)
from obscluster.reduction.makers import (
    make_plan,
    off_advice,
    reduce_observation,
    reduce_runs,
    sparse_counts,
)

COARSE = {
    "target": "Crab Nebula",
    "energy": {"min": "0.5 TeV", "max": "50 TeV", "bins_per_decade": 5},
    "fit": {"flux_points_per_decade": 0},
}
MAPS = COARSE | {
    "kind": "3d",
    "energy": {"min": "1 TeV", "max": "20 TeV", "bins_per_decade": 3},
    "energy_true": {"min": "0.5 TeV", "max": "40 TeV", "bins_per_decade": 6},
    "map": {"width": "3 deg", "binsz": "0.05 deg"},
}
CRAB = next(target for target in TARGETS if target.name == "Crab Nebula")
POSITION = SkyCoord(CRAB.ra, CRAB.dec, unit="deg")


def simulated(directory):
    """Archive with seven runs on the Crab, among others."""
    return simulate(directory, n_obs=40, seed=1, size="small", zenith_range=(44.0, 48.0))


def crab_runs(archive):
    """The seven runs in two groups."""
    table = Table.read(archive / "obs-index.fits.gz")
    ids = np.sort(np.asarray(table["OBS_ID"][table["OBJECT"] == "Crab Nebula"]))
    return Grouping(ids, [1, 1, 1, 2, 2, 2, 2])


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """Simulated archive; do not change it."""
    return simulated(tmp_path_factory.mktemp("simulated") / "archive")


@pytest.fixture(scope="module")
def observation(archive):
    """One run of Gammapy's."""
    return to_gammapy(crab_runs(archive), archive)["group_1"][0]


def reduced(observation, base=COARSE, **content):
    """Dataset of a run, with parts of the description replaced."""
    config = make_reduce_config(base | content)
    return reduce_observation(make_plan(config, POSITION), observation)


def parameters_of(fit):
    """Name to value and error, of the source."""
    table = fit.parameters
    return {r["name"]: (r["value"], r["error"]) for r in table if r["model"] == "source"}


def assert_recovered(fit, **truth):
    found = parameters_of(fit)
    for name, expected in truth.items():
        value, error = found[name]
        assert error > 0
        assert abs(value - expected) < 3 * error, f"{name}: {value} +- {error}, not {expected}"


class TestRegions:
    def test_a_given_circle_is_the_circle(self, observation):
        plain = {"radius": "0.2 deg", "containment_correction": False}
        shape = f"icrs;circle({CRAB.ra}, {CRAB.dec}, 0.2)"
        one, other = (
            reduced(observation, region=region)
            for region in (plain, {"shape": shape, "containment_correction": False})
        )
        assert_array_equal(one.counts.data, other.counts.data)
        assert_allclose(one.exposure.data, other.exposure.data)

    def test_an_ellipse_holds_what_is_in_it(self, observation):
        shape = f"icrs;ellipse({CRAB.ra}, {CRAB.dec}, 0.3, 0.1, 0)"
        region = {"shape": shape, "containment_correction": False}
        dataset = reduced(observation, region=region)
        table = observation.events.table
        lon, lat = POSITION.spherical_offsets_to(observation.events.radec)
        inside = (lon.deg / 0.3) ** 2 + (lat.deg / 0.1) ** 2 < 1
        energy = u.Quantity(table["ENERGY"]).to_value("TeV")
        expected = (inside & (energy > 0.5) & (energy < 50)).sum()
        assert abs(dataset.counts.data.sum() - expected) <= 1
        assert dataset.acceptance_off.data.max() >= 1

    def test_the_containment_correction_is_the_containment(self, observation):
        exposures = [
            reduced(
                observation, region={"radius": "0.11 deg", "containment_correction": corrected}
            ).exposure
            for corrected in (True, False)
        ]
        ratio = (exposures[0] / exposures[1]).data.ravel()
        energy = exposures[0].geom.axes["energy_true"].center
        offset = POSITION.separation(observation.get_pointing_icrs(observation.tmid))
        expected = observation.psf.containment(
            energy_true=energy, offset=offset, rad=0.11 * u.deg
        ).value
        assert_allclose(ratio, np.ravel(expected), rtol=0.02)

    @pytest.mark.parametrize("content", [{"target": "200 -20"}, {}])
    def test_what_no_run_sees_is_told(self, archive, content, tmp_path):
        """Gammapy would make a map that reaches there."""
        shape = {"shape": "icrs;circle(200, -20, 0.1)", "containment_correction": False}
        config = make_reduce_config(COARSE | {"region": shape} | content)
        with pytest.raises(RequestError, match=r"the region is 1.* deg from the pointing"):
            reduce_groups(crab_runs(archive), config, tmp_path / "out", archive)
        assert list(tmp_path.iterdir()) == []

    def test_maps_that_no_run_sees(self, archive, tmp_path):
        config = make_reduce_config(MAPS | {"target": "200 -20"})
        with pytest.raises(RequestError, match="no part of the map is in the field of view"):
            reduce_groups(crab_runs(archive), config, tmp_path / "out", archive)


class TestBackground:
    def test_a_ring_predicts_what_the_response_does(self, archive):
        """The background of the ring, scaled by its acceptance, against reflected regions."""
        observations = list(to_gammapy(crab_runs(archive), archive)["group_2"])
        sums = {}
        for method in ("reflected", "ring"):
            config = make_reduce_config(COARSE | {"background": {"method": method}})
            plan = make_plan(config, POSITION)
            datasets = [outcome.dataset for outcome in reduce_runs(observations, plan)]
            mask = [d.mask_safe.data for d in datasets]
            alpha = [np.nan_to_num(d.alpha.data[m]) for d, m in zip(datasets, mask, strict=True)]
            off = [d.counts_off.data[m] for d, m in zip(datasets, mask, strict=True)]
            value = sum((a * o).sum() for a, o in zip(alpha, off, strict=True))
            error = np.sqrt(sum((a**2 * o).sum() for a, o in zip(alpha, off, strict=True)))
            sums[method] = (value, error)
        (one, one_error), (other, other_error) = sums.values()
        assert one > 3
        assert abs(one - other) < 3 * np.hypot(one_error, other_error)

    def test_a_ring_of_another_size_has_another_acceptance(self, observation):
        acceptances = [
            reduced(observation, background={"method": "ring", "ring_width": width})
            .acceptance_off.data[:5]
            .mean()
            for width in ("0.1 deg", "0.2 deg")
        ]
        # In proportion to the area, but for the fall of the background with offset.
        areas = [0.6**2 - 0.5**2, 0.7**2 - 0.5**2]
        assert_allclose(acceptances[1] / acceptances[0], areas[1] / areas[0], rtol=0.1)

    def test_a_ring_without_background_response(self, archive, tmp_path):
        copy = Archive.copy_of(archive, tmp_path / "archive")
        copy.take_out("bkg")
        config = make_reduce_config(COARSE | {"background": {"method": "ring"}})
        with pytest.raises(RequestError, match=r"a ring needs the background response, .*reflect"):
            reduce_groups(crab_runs(archive), config, tmp_path / "out", copy.directory)

    def test_maps_leave_out_runs_without_background_response(self, archive, tmp_path):
        copy = Archive.copy_of(archive, tmp_path / "archive")
        grouping = crab_runs(archive)
        first = int(grouping.obs_ids[0])
        copy.index("hdu", lambda t: t[(t["OBS_ID"] != first) | (t["HDU_TYPE"] != "bkg")])
        result = reduce_groups(grouping, make_reduce_config(MAPS), tmp_path / "out", copy.directory)
        assert list(result.skipped) == [first]
        assert "'bkg'" in result.skipped[first]
        assert len(result.groups["group_1"]["obs_ids"]) == 2

    @pytest.mark.parametrize("method", ["ring", "reflected", "wobble"])
    def test_regions_make_no_background_of_maps(self, method):
        text = f"background.method {method} is not for kind 3d; expected one of auto, fov"
        with pytest.raises(RequestError, match=text):
            make_reduce_config({"kind": "3d", "background": {"method": method}})

    def test_the_number_of_off_regions(self, observation):
        for n in (1, 3):
            dataset = reduced(observation, background={"off_regions": n})
            assert dataset.acceptance_off.data.max() == n

    def test_the_field_of_view_scaled_and_fitted(self, observation):
        """Both recover the normalisation of the background that was simulated."""
        norms = {}
        for method in ("scale", "fit"):
            dataset = reduced(observation, MAPS, background={"fov_method": method})
            norms[method] = dataset.background_model.spectral_model.norm.value
            far = dataset.counts.geom.separation(POSITION) > 0.4 * u.deg
            mask = dataset.mask_safe.data & far
            counts = dataset.counts.data[mask].sum()
            expected = dataset.npred_background().data[mask].sum()
            assert abs(counts - expected) < 3 * np.sqrt(counts)
        assert_allclose(norms["scale"], 1, atol=0.2)
        assert_allclose(norms["fit"], norms["scale"], atol=0.03)

    def test_without_any_off_region_a_run_is_left_out(self, archive, tmp_path):
        """The mask covers all regions of one group's pointings, or of all."""
        everywhere = {"exclusion": {"regions": [f"icrs;circle({CRAB.ra}, {CRAB.dec}, 3)"]}}
        with pytest.raises(RequestError, match=r"no OFF region fits: .*method ring") as raised:
            reduce_groups(
                crab_runs(archive),
                make_reduce_config(COARSE | everywhere),
                tmp_path / "out",
                archive,
            )
        assert str(raised.value).count("OFF region") == 1

    def test_the_reason_is_told_once(self, archive, tmp_path, capsys):
        grouping = crab_runs(archive)
        grouping.write(tmp_path)
        # Runs point 0.5 or 0.7 deg from the source, and regions are on the circle through it.
        where = f"icrs;circle({CRAB.ra}, {CRAB.dec}, 1.2)"
        content = COARSE | {"exclusion": {"regions": [where]}}
        (tmp_path / "reduce.yaml").write_text(yaml.safe_dump(content))
        options = ["--config", str(tmp_path / "reduce.yaml"), "--archive", str(archive)]
        assert main(["reduce", str(tmp_path), *options, "-o", str(tmp_path / "out")]) == 0
        out = capsys.readouterr().out
        record = yaml.safe_load((tmp_path / "out" / "reduction.yaml").read_text())
        skipped = [i for group in record["groups"].values() for i in group["skipped"]]
        assert len(skipped) == 5
        assert out.count("OFF region fits") == 1
        assert f"{', '.join(map(str, skipped))}: no OFF region fits" in out

    def test_no_off_counts_is_no_problem(self, archive, tmp_path):
        """High above the threshold nothing is in the OFF regions."""
        energy = {"min": "10 TeV", "max": "50 TeV", "bins_per_decade": 2}
        config = make_reduce_config(COARSE | {"energy": energy, "background": {"off_regions": 1}})
        result = reduce_groups(crab_runs(archive), config, tmp_path / "out", archive)
        datasets = result.read()
        assert sum(dataset.counts_off.data.sum() for dataset in datasets) <= 1
        fit = fit_datasets(datasets)
        assert np.isfinite(fit.stat)


class TestFewOffCounts:
    @pytest.mark.parametrize(
        ("expected", "low", "high"), [(1, 0.1, 0.13), (2, 0.05, 0.07), (5, 0, 0.01), (10, 0, 0.002)]
    )
    def test_from_how_many_on_the_statistic_is_unbiased(self, expected, low, high):
        """The best fit of infinitely many bins, by Gammapy's statistic over all outcomes."""
        alpha = 0.2
        truth = background = alpha * expected
        n_on, n_off = np.meshgrid(np.arange(60), np.arange(60), indexing="ij")
        chance = poisson.pmf(n_on, truth + background) * poisson.pmf(n_off, expected)

        def mean(signal):
            signals = np.full(n_on.shape, float(signal))
            return (chance * wstat(n_on, n_off, alpha, signals)).sum()

        best = minimize_scalar(mean, bounds=(0.2 * truth, 3 * truth), method="bounded").x
        assert low <= best / truth - 1 <= high

    def test_counts_in_sparse_bins(self):
        axis = MapAxis.from_energy_bounds("1 TeV", "100 TeV", nbin=6)
        geom = RegionGeom.create("icrs;circle(83.6, 22, 0.1)", axes=[axis])
        mask = RegionNDMap.from_geom(geom, data=np.array([0, 1, 1, 1, 1, 1], dtype=bool))
        maps = {
            name: RegionNDMap.from_geom(geom, data=np.array(values, dtype=float))
            for name, values in {
                "counts": [90, 40, 20, 10, 5, 5],
                "counts_off": [99, 30, 12, 6, 3, 0],
                "acceptance": [1] * 6,
                "acceptance_off": [3] * 6,
            }.items()
        }
        dataset = SpectrumDatasetOnOff(**maps, mask_safe=mask)
        # They fall already, so that what is expected is what was counted.
        assert sparse_counts(dataset) == {"counts": 80, "sparse": 10, "background": 1.0}
        assert sparse_counts(dataset, 2) == {"counts": 80, "sparse": 20, "background": 3.0}
        assert sparse_counts(dataset, 10)["sparse"] == 80

    def test_it_is_told_once(self):
        few = {"counts": 100.0, "sparse": 50.0, "background": 20.0}
        groups = {f"group_{i}": {"few_off": {"group": few}} for i in range(1, 6)}
        groups["group_1"]["few_off"]["runs"] = few
        assert len(off_advice(groups, make_reduce_config({}))) == 1
        config = make_reduce_config({"keep_runs": True})
        group, runs = off_advice(groups, config)
        assert group.startswith("50% of the counts in group_1, group_2, group_3 and 2 more groups")
        assert "fewer than 5 expected OFF counts" in group
        assert "bins_per_decade below 10" in group
        assert "the runs of group_1" in runs
        for harmless in ({"sparse": 5.0}, {"background": 5.0}):
            assert not off_advice({"a": {"few_off": {"group": few | harmless}}}, config)
        assert not off_advice({"a": {}}, config)

    def test_it_is_in_the_reduction(self, archive, tmp_path, capsys):
        grouping = crab_runs(archive)
        grouping.write(tmp_path)
        # Beside the source, so that there is background alone.
        place = f"{CRAB.ra} {CRAB.dec + 0.35}"
        source = f"icrs;circle({CRAB.ra}, {CRAB.dec}, 0.25)"
        (tmp_path / "reduce.yaml").write_text(yaml.safe_dump({"exclusion": {"regions": [source]}}))
        arguments = ["reduce", str(tmp_path), "--archive", str(archive), "--target", place]
        arguments += ["--config", str(tmp_path / "reduce.yaml")]
        advice = {}
        for name, options in {
            "few": ["--off-regions", "1", "--bins-per-decade", "20"],
            "many": ["--energy-range", "0.5 TeV", "5 TeV", "--bins-per-decade", "2"],
        }.items():
            output = tmp_path / name
            assert main([*arguments, *options, "-o", str(output)]) == 0
            advice[name] = yaml.safe_load((output / "reduction.yaml").read_text())["advice"]
            assert capsys.readouterr().out.count("W statistic is biased") == len(advice[name])
        assert len(advice["few"]) == 1
        assert advice["many"] == []


class TestSafeMask:
    def test_the_bias_of_the_energy_dispersion(self, observation, archive):
        """The lowest energy is where the injected bias falls below the limit."""
        run = next(
            r
            for r in QTable.read(archive / "obs-index.fits.gz")
            if r["OBS_ID"] == int(observation.obs_id)
        )
        truth = run_response(run, 1.0)
        energy = {"min": "0.1 TeV", "max": "50 TeV", "bins_per_decade": 10}
        lowest = []
        for percent in (5, 20):
            mask = {"methods": ["edisp-bias"], "bias_percent": percent}
            dataset = reduced(observation, energy=energy, safe_mask=mask)
            edges = dataset.counts.geom.axes["energy"].edges.to_value("TeV")
            lowest.append(edges[:-1][dataset.mask_safe.data.ravel()].min())
            grid = np.geomspace(0.1, 10, 500)
            bias = truth.edisp_moments(grid, 0.5)[0]
            expected = grid[np.argmax(bias < percent / 100)]
            # Reconstructed energies at the limit; tables and axis are coarse.
            assert_allclose(np.log(lowest[-1]), np.log(expected), atol=0.4)
        assert lowest[1] < lowest[0]

    def test_an_axis_that_begins_above_the_turn_on(self, observation):
        """And true energies that go on beyond the response."""
        energy = {"min": "5 TeV", "max": "100 TeV", "bins_per_decade": 5}
        dataset = reduced(observation, energy=energy)
        edges = dataset.counts.geom.axes["energy"].edges.to_value("TeV")
        assert dataset.mask_safe.data.ravel()[edges[:-1] < 50].all()

    def test_the_fraction_of_the_area(self, observation):
        energy = {"min": "0.1 TeV", "max": "50 TeV", "bins_per_decade": 10}
        used = [
            reduced(
                observation, energy=energy, safe_mask={"aeff_percent": percent}
            ).mask_safe.data.sum()
            for percent in (0, 10, 50)
        ]
        assert used[0] > used[1] > used[2]

    def test_the_offset_leaves_out_runs_in_1d(self, archive, tmp_path):
        """Wobbles are 0.5 or 0.7 deg."""
        table = Table.read(archive / "obs-index.fits.gz")
        grouping = crab_runs(archive)
        rows = table[np.isin(table["OBS_ID"], grouping.obs_ids)]
        wide = set(np.asarray(rows["OBS_ID"][rows["OFFSET_OBJ"] > 0.6]).tolist())
        assert 0 < len(wide) < 7
        mask = {"methods": ["aeff-max", "offset-max"], "offset_max": "0.6 deg"}
        config = make_reduce_config(COARSE | {"safe_mask": mask})
        result = reduce_groups(grouping, config, tmp_path / "out", archive)
        assert set(result.skipped) == wide
        assert set(result.skipped.values()) == {"no energy and offset passes the safe mask"}

    def test_the_offset_cuts_maps(self, observation):
        pointing = observation.get_pointing_icrs(observation.tmid)
        for offset_max in (0.8, 1.5):
            dataset = reduced(observation, MAPS, safe_mask={"offset_max": f"{offset_max} deg"})
            used = dataset.mask_safe.data.any(axis=0)
            offset = dataset.counts.geom.to_image().separation(pointing).deg
            assert offset[used].max() <= offset_max
            assert offset[used].max() > offset_max - 0.1


class TestSpectra:
    """Curved spectra drawn event by event, and recovered."""

    class Shape:
        """Stands in for a slope, so that ``energy**-slope`` is any function of energy."""

        __array_ufunc__ = None

        def __init__(self, function):
            self.function = function

        def __neg__(self):
            return self

        def __rpow__(self, energy):
            return self.function(energy)

    def fit(self, function, model, directory, monkeypatch):
        curved = CRAB._replace(flux=2e-10, slope=self.Shape(function))
        monkeypatch.setattr(irfs, "TARGETS", [curved])
        archive = simulated(directory / "archive")
        config = make_reduce_config(COARSE | {"fit": {"model": model}})
        result = reduce_groups(crab_runs(archive), config, directory / "out", archive)
        fit = fit_reduction(result)[1]
        assert fit.success
        return fit

    def test_a_cut_off(self, tmp_path, monkeypatch):
        fit = self.fit(
            lambda e: e**-2.0 * np.exp(-e / 5), "cutoff-power-law", tmp_path, monkeypatch
        )
        assert_recovered(fit, index=2.0, lambda_=0.2, amplitude=2e-10)
        value, error = parameters_of(fit)["lambda_"]
        assert value > 5 * error

    def test_a_log_parabola(self, tmp_path, monkeypatch):
        fit = self.fit(
            lambda e: e ** (-2.2 - 0.3 * np.log(e)), "log-parabola", tmp_path, monkeypatch
        )
        assert_recovered(fit, alpha=2.2, beta=0.3, amplitude=2e-10)
        value, error = parameters_of(fit)["beta"]
        assert value > 5 * error


class TestSizes:
    """In pixels whose fractions are near the size: see `obscluster.reduction.fit._scan_size`."""

    def test_the_width_of_a_gaussian(self, tmp_path, monkeypatch):
        sigma, draw = 0.2, irfs.draw_radius

        def wider(truth, energy, offset, psf, rng):
            radius = draw(truth, energy, offset, psf, rng)
            return np.hypot(
                radius + rng.normal(0, sigma, len(radius)), rng.normal(0, sigma, len(radius))
            )

        monkeypatch.setattr(irfs, "draw_radius", wider)
        archive = simulated(tmp_path / "archive")
        config = make_reduce_config(
            MAPS
            | {"exclusion": {"target": "0.8 deg"}, "fit": {"spatial": "gaussian"}}
            | {"map": {"width": "2.4 deg", "binsz": "0.08 deg"}}
        )
        result = reduce_groups(crab_runs(archive), config, tmp_path / "out", archive)
        fit = fit_reduction(result)[1]
        assert fit.success
        assert_recovered(
            fit, sigma=sigma, lat_0=CRAB.dec, lon_0=CRAB.ra, index=CRAB.slope, amplitude=CRAB.flux
        )
        assert parameters_of(fit)["sigma"][1] < 0.05 * sigma


def truth_of(archive):
    """Response of each run, by its number."""
    table = QTable.read(archive / "obs-index.fits.gz")
    return {int(run["OBS_ID"]): (run, run_response(run, 1.0)) for run in table}


def with_cut(hdulist, truths, radius_of):
    """Make the area of a run that after a cut in direction; ``radius_of(truth, energy)`` in deg."""
    hdu = hdulist["AEFF"]
    _, truth = truths[int(hdu.header["OBS_ID"])]
    row = hdu.data[0]
    energy = np.sqrt(row["ENERG_LO"] * row["ENERG_HI"])
    offset = ((row["THETA_LO"] + row["THETA_HI"]) / 2)[:, np.newaxis]
    narrow, _ = truth.psf_sigmas(energy, offset)
    row["EFFAREA"][:] = row["EFFAREA"] * psf_containment(radius_of(truth, energy), narrow)
    set_keywords(hdu.header, {"HDUCLAS3": "POINT-LIKE"})


class TestPointLike:
    """Runs whose cut in direction is applied already, as MAGIC and FACT publish them."""

    def test_a_cut_that_depends_on_energy(self, archive, tmp_path):
        copy = Archive.copy_of(archive, tmp_path / "archive")
        truths = truth_of(archive)
        edges = np.geomspace(0.1, 100, 31)

        def radius_of(truth, energy):
            """68 % containment at the middle of the bin, as it is tabulated."""
            i = np.clip(np.searchsorted(edges, energy) - 1, 0, len(edges) - 2)
            return truth.psf_r68(np.sqrt(edges[i] * edges[i + 1]), 0.5)

        def rad_max(hdulist):
            truth = truths[int(hdulist["EVENTS"].header["OBS_ID"])][1]
            radius = radius_of(truth, np.sqrt(edges[:-1] * edges[1:]))
            table = Table(
                {
                    "ENERG_LO": [edges[:-1]] * u.TeV,
                    "ENERG_HI": [edges[1:]] * u.TeV,
                    "THETA_LO": [[0.0]] * u.deg,
                    "THETA_HI": [[2.5]] * u.deg,
                    "RAD_MAX": [[radius]] * u.deg,
                }
            )
            hdu = fits.table_to_hdu(table)
            hdu.name = "RAD_MAX"
            hdu.header.update(
                {"HDUCLASS": "GADF", "HDUCLAS1": "RESPONSE", "HDUCLAS2": "RAD_MAX"}
                | {"HDUCLAS3": "POINT-LIKE", "HDUCLAS4": "RAD_MAX_2D"}
            )
            return hdu

        copy.runs(lambda hdulist: with_cut(hdulist, truths, radius_of))
        copy.add("rad_max", "rad_max_2d", rad_max)
        copy.take_out("psf", "bkg")
        result = reduce_groups(
            crab_runs(archive), make_reduce_config(COARSE), tmp_path / "out", copy.directory
        )
        assert result.skipped == {}
        datasets = result.read()
        assert type(datasets[0].counts.geom.region).__name__ == "PointSkyRegion"
        # One OFF region to each, of the size of its energy.
        assert_allclose(np.nanmax(datasets[0].alpha.data), 1)
        fit = fit_reduction(result)[1]
        assert fit.success
        assert_recovered(fit, index=CRAB.slope, amplitude=CRAB.flux)

    def test_a_cut_in_the_header(self, archive, tmp_path):
        copy = Archive.copy_of(archive, tmp_path / "archive")
        truths = truth_of(archive)
        copy.runs(lambda hdulist: with_cut(hdulist, truths, lambda *_: 0.14))
        copy.keywords("AEFF", "EDISP", RAD_MAX=0.14, HDUCLAS3="POINT-LIKE")
        copy.take_out("psf", "bkg")
        config = make_reduce_config(COARSE | {"region": {"radius": "0.5 deg"}})
        result = reduce_groups(crab_runs(archive), config, tmp_path / "out", copy.directory)
        assert result.skipped == {}
        radius = result.read()[0].counts.geom.region.radius
        assert_allclose(radius.to_value("deg"), 0.14, rtol=1e-3)
        assert_recovered(fit_reduction(result)[1], index=CRAB.slope, amplitude=CRAB.flux)

    def test_without_a_cut(self, archive, tmp_path):
        copy = Archive.copy_of(archive, tmp_path / "archive")
        copy.keywords("AEFF", HDUCLAS3="POINT-LIKE")
        config = make_reduce_config(COARSE)
        with pytest.raises(RequestError, match=r"no run can be reduced: .*RAD_MAX"):
            reduce_groups(crab_runs(archive), config, tmp_path / "out", copy.directory)


@pytest.fixture(scope="module")
def informed(archive, tmp_path_factory):
    """Groups made by information, and their assessment."""
    directory = tmp_path_factory.mktemp("information")
    source = {"amplitude": f"{CRAB.flux} cm-2 s-1 TeV-1", "index": CRAB.slope}
    config = make_config(
        {"archive": str(archive), "target": "Crab Nebula", "source": source}
        | {"grouping": {"method": "information", "n_groups": 2}}
        # One ring is the region of a spectrum.
        | {"counts": {"energy": ["0.5 TeV", "50 TeV"], "rings": ["0 deg", "0.11 deg"]}}
    )
    write_results(group_observations(config), directory / "groups", plots=False)
    assessment = assess_grouping(directory / "groups", n_resamples=0)
    write_assessment(assessment, directory / "assessed")
    return directory


@pytest.fixture(scope="module")
def informed_reduction(informed, tmp_path_factory):
    config = make_reduce_config(COARSE | {"keep_runs": True})
    return reduce_groups(informed / "groups", config, tmp_path_factory.mktemp("out") / "out")


class TestPrediction:
    """Growth of errors as the information predicts it, beside what the fits say."""

    def test_goes_beside_what_was_measured(self, informed, informed_reduction, tmp_path, capsys):
        losses = informed / "assessed" / "losses.ecsv"
        options = ["--compare", "--losses", str(losses), "--no-plots", "-o", str(tmp_path / "fit")]
        assert main(["fit", str(informed_reduction.directory), *options]) == 0
        assert " predicted)" in capsys.readouterr().out
        table = QTable.read(tmp_path / "fit" / "comparison.ecsv")
        expected = QTable.read(losses)
        for name in ("amplitude", "index"):
            predicted = np.asarray(table[f"{name} predicted"])
            assert predicted[0] == 0
            assert 0 < predicted[1] < predicted[2] < 0.1
            assert_allclose(predicted[1:], expected[f"{name} inflation"])
            # The fit knows no more of single runs than it can measure.
            assert_allclose(table[f"{name} inflation"], predicted, atol=0.05)

    def test_names_of_gammapy(self, informed_reduction):
        losses = QTable(
            {"grouping": ["these groups", "all stacked"]}
            | {"index inflation": [0.01, 0.02], "curvature inflation": [0.03, 0.04]}
        )
        losses.meta["prediction"] = {
            "model": "log-parabola",
            "kind": "1d",
            "energy": [0.5, 50.0],
            "flux_at_1_TeV": CRAB.flux,
            "index": CRAB.slope,
        }
        config = make_reduce_config({"fit": {"model": "log-parabola"}}).fit
        table = compare_groupings(informed_reduction, config, memory=False, losses=losses)
        assert table["alpha predicted"].tolist() == [0, 0.01, 0.02]
        assert table["beta predicted"].tolist() == [0, 0.03, 0.04]
        assert "amplitude predicted" not in table.colnames


def test_a_group_of_one_run(archive, tmp_path):
    ids = crab_runs(archive).obs_ids[:3]
    config = make_reduce_config(COARSE | {"keep_runs": True})
    result = reduce_groups(Grouping(ids, [1, 2, 2]), config, tmp_path / "out", archive)
    single, run = result.read()["group_1"], result.read_runs()[f"run_{ids[0]}"]
    mask = run.mask_safe.data
    assert_array_equal(single.counts.data[mask], run.counts.data[mask])
    assert_allclose(single.exposure.data, run.exposure.data)
    table = compare_groupings(result, memory=False)
    assert table["n_datasets"].tolist() == [3, 2, 1]


def test_a_description_with_all_parts(archive, tmp_path):
    """What is written as YAML is what is read."""
    content = MAPS | {"exclusion": {"regions": ["icrs;circle(84, 21, 0.2)"]}, "workers": 2}
    (tmp_path / "reduce.yaml").write_text(yaml.safe_dump(content))
    grouping = crab_runs(archive)
    grouping.write(tmp_path)
    options = ["--config", str(tmp_path / "reduce.yaml"), "--archive", str(archive)]
    assert main(["reduce", str(tmp_path), *options, "-o", str(tmp_path / "out")]) == 0
    record = yaml.safe_load((tmp_path / "out" / "reduction.yaml").read_text())
    # Runs are kept as long as they are few.
    assert make_reduce_config(record["config"]) == make_reduce_config(content | {"keep_runs": True})


def test_options_replace_the_description(archive, tmp_path, capsys):
    """Options are keys of the description, of which the help lists all with their defaults."""
    (tmp_path / "reduce.yaml").write_text(yaml.safe_dump(COARSE | {"keep_runs": False}))
    crab_runs(archive).write(tmp_path)
    options = ["--on-radius", "0.2 deg", "--energy-range", "1 TeV", "10 TeV", "--keep-runs"]
    options += ["--bins-per-decade", "4", "--background", "reflected", "--off-regions", "3"]
    files = ["--config", str(tmp_path / "reduce.yaml"), "--archive", str(archive)]
    assert main(["reduce", str(tmp_path), *files, *options, "-o", str(tmp_path / "out")]) == 0
    record = yaml.safe_load((tmp_path / "out" / "reduction.yaml").read_text())
    expected = COARSE | {
        "energy": {"min": "1 TeV", "max": "10 TeV", "bins_per_decade": 4},
        "region": {"radius": "0.2 deg"},
        "background": {"method": "reflected", "off_regions": 3},
        "keep_runs": True,
    }
    assert make_reduce_config(record["config"]) == make_reduce_config(expected)
    wrong = ["--kind", "3d", "--background", "ring", "-o", str(tmp_path / "no")]
    assert main(["reduce", str(tmp_path), *files, *wrong]) == 2
    assert "background.method ring is not for kind 3d" in capsys.readouterr().err


def test_the_help_has_all_keys(capsys):
    with pytest.raises(SystemExit):
        main(["reduce", "--help"])
    lines = capsys.readouterr().out.splitlines()
    listed = {line.split()[0]: line for line in lines if line.startswith("  ")}

    def look(content, above=""):
        for key, value in content.items():
            if isinstance(value, dict):
                look(value, f"{above}{key}.")
                continue
            words = listed[above + key].split()
            shown = "-" if value in (None, (), []) else str(value)
            assert " ".join(words[1:]).startswith(
                shown.lower() if value in (True, False) else shown
            )
            # Those of fits are described where fits are.
            assert above == "fit." or len(words) > 2, above + key

    look(make_reduce_config({}).model_dump())
