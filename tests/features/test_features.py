"""Features of the response: published numbers, Gammapy's numbers, and closed forms."""

import shutil

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.table import QTable
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import norm

from evaluation import evaluate
from obscluster import DataStore, get_irfs_features, hierarchical_clustering, standard_scaler
from obscluster.exceptions import RequestError, SkippedRunWarning
from obscluster.features.base import NotComputableError
from obscluster.features.edisp import kernel_moments
from obscluster.gadf.axis import Axis
from obscluster.gadf.response import IRF
from obscluster.parallel.engine import LocalWorkers, get_engine
from obscluster.simulate import simulate

PKS_2155 = SkyCoord(329.71693826, -30.2255890, unit="deg")
NAMES = ["edisp-bias", "edisp-res", "psf-radius"]


@pytest.fixture(scope="module")
def simulated(small_archive):
    return DataStore.from_dir(small_archive).get_observations()


@pytest.fixture(scope="module")
def features(hess_dr1, pks_reference):
    observations = DataStore.from_dir(hess_dr1).get_observations(pks_reference["obs_id"])
    return get_irfs_features(
        observations, "1 TeV", position=PKS_2155, names=["edisp-res", "psf-radius"]
    )


class TestPublishedNumbers:
    def test_features(self, features, pks_reference):
        assert_allclose(features["edisp-res"].value, pks_reference["edisp_res"], rtol=1e-6)
        radius = features["psf-radius"].to_value("deg")
        assert_allclose(radius, pks_reference["psf_radius_deg"], rtol=1e-6)

    def test_scaled_features(self, features, pks_reference):
        scaled = standard_scaler(features)
        assert_allclose(scaled["edisp-res"].value, pks_reference["scaled_edisp_res"], rtol=1e-6)
        assert_allclose(scaled["psf-radius"].value, pks_reference["scaled_psf_radius"], rtol=1e-6)

    def test_labels(self, features, pks_reference):
        labelled = hierarchical_clustering(standard_scaler(features), fcluster_kwargs={"t": 2})
        assert_array_equal(labelled["labels"], pks_reference["label"])


class TestAgainstGammapy:
    @pytest.mark.parametrize(
        "options",
        [
            {"energy_true": "1 TeV", "position": PKS_2155},
            {"energy_true": "10 TeV", "fixed_offset": 0.5 * u.deg, "containment_fraction": 0.95},
            {"energy_true": "400 GeV", "fixed_offset": 1.7 * u.deg, "containment_fraction": 0.5},
        ],
        ids=["1 TeV at a position", "10 TeV, 0.5 deg, 95%", "0.4 TeV, 1.7 deg, 50%"],
    )
    def test_all_runs_of_hess_dr1(self, options, hess_dr1):
        self.compare(hess_dr1, options)

    @pytest.mark.parametrize("energy", ["0.1 TeV", "1 TeV", "31.6 TeV"])
    def test_cta_1dc(self, energy, cta_1dc):
        self.compare(
            cta_1dc / "index" / "gps", {"energy_true": energy, "fixed_offset": 1.2 * u.deg}
        )

    @pytest.mark.parametrize("psf", ["psf_table", "psf_3gauss", "psf_king"])
    def test_simulated_archives(self, psf, tmp_path):
        archive = simulate(tmp_path / "archive", n_obs=5, psf=psf, size="small", events=False)
        self.compare(archive, {"energy_true": "3 TeV", "fixed_offset": 0.8 * u.deg})

    @pytest.mark.filterwarnings("ignore::astropy.utils.exceptions.AstropyWarning")
    def compare(self, archive, options):
        gammapy = pytest.importorskip("gammapy.data")
        from gammapy.data.utils import get_irfs_features as gammapys

        theirs = gammapys(
            gammapy.DataStore.from_dir(archive).get_observations(),
            **options | {"energy_true": u.Quantity(options["energy_true"])},
        )
        ours = get_irfs_features(DataStore.from_dir(archive).get_observations(), **options)
        assert_array_equal(ours["obs_id"], theirs["obs_id"])
        for name in NAMES:
            assert_allclose(ours[name].value, theirs[name], rtol=1e-6, err_msg=name)


class TestClosedForms:
    """Responses built by hand, with bins as instruments have them."""

    energy = Axis.from_edges("energy_true", np.geomspace(0.01, 100, 97), "log")
    offset = Axis.from_nodes("offset", [0.0, 1.0, 2.0])

    def log_normal(self, sigma):
        migra = Axis.from_edges("migra", np.linspace(0.0, 4.0, 801))
        edges = np.log(np.clip(migra.edges, 1e-9, None))
        density = np.diff(norm.cdf(edges / sigma)) / np.diff(migra.edges)
        matrix = np.broadcast_to(density[None, :, None], (96, 800, 3))
        axes = {"energy_true": self.energy, "migra": migra, "offset": self.offset}
        return IRF("edisp_2d", axes, {"MATRIX": matrix}, u.one)

    def gaussian(self, sigma):
        rad = Axis.from_edges("rad", np.linspace(0.0, 1.0, 201))
        inside = -np.expm1(-0.5 * (rad.edges / sigma) ** 2)
        density = np.diff(inside) / (2 * np.pi * rad.center * np.diff(rad.edges))
        table = np.broadcast_to(density, (96, 3, 200))
        axes = {"energy_true": self.energy, "offset": self.offset, "rad": rad}
        return IRF("psf_table", axes, {"RPSF": table}, u.deg**-2)

    @pytest.mark.parametrize("sigma", [0.1, 0.2, 0.3])
    def test_log_normal_dispersion(self, sigma):
        edisp = self.log_normal(sigma)
        mean = np.exp(sigma**2 / 2)
        # The energy bins, a tenth wide, add the variance of a uniform distribution.
        width = np.log(10) / 24
        expected = np.sqrt(mean**2 * np.expm1(sigma**2) + width**2 / 12)
        assert_allclose(evaluate("edisp-res", edisp)[0], expected, rtol=0.03)
        assert_allclose(evaluate("edisp-bias", edisp)[0], mean - 1, atol=0.003)

    @pytest.mark.parametrize("fraction", [0.39, 0.68, 0.95])
    @pytest.mark.parametrize("sigma", [0.05, 0.1])
    def test_gaussian_psf(self, sigma, fraction):
        radius, remark = evaluate("psf-radius", self.gaussian(sigma), 1.0, 0.5, fraction)
        # Nearest point of a grid of 0.00025 deg.
        assert_allclose(radius, sigma * np.sqrt(-2 * np.log(1 - fraction)), atol=0.0003)
        assert remark == ""

    @pytest.mark.parametrize("name", ["psf-radius", "psf-r95"])
    def test_a_psf_that_ends_too_early_has_no_radius(self, name):
        reason = r"^the PSF never holds 95 % \(1 TeV, 0\.50 deg: 54\.2 % at most\)$"
        with pytest.raises(NotComputableError, match=reason):
            evaluate(name, self.gaussian(0.8), 1.0, 0.5, 0.95)

    @pytest.mark.parametrize("energy", [0.001, 150.0])
    @pytest.mark.parametrize("name", NAMES)
    def test_energies_outside_the_response_have_no_value(self, name, energy):
        irf = self.gaussian(0.1) if name == "psf-radius" else self.log_normal(0.1)
        with pytest.raises(NotComputableError, match=r"energy outside.*0\.01 to 100 TeV"):
            evaluate(name, irf, energy)

    @pytest.mark.parametrize("name", NAMES)
    def test_beyond_the_last_offset_its_value_holds_and_is_noted(self, name):
        irf = self.gaussian(0.1) if name == "psf-radius" else self.log_normal(0.1)
        value, remark = evaluate(name, irf, 1.0, 3.0)
        assert value == evaluate(name, irf, 1.0, 2.0)[0]
        place = f"({irf.hdu_class} at 2.00 deg instead of 3.00 deg)"
        assert remark == f"offset beyond the response, last bin taken {place}"

    def test_offsets_outside_the_response_have_no_value(self):
        reason = r"offset outside the response \(edisp_2d: 3\.00 deg, expected 0\.00 to 2\.50 deg\)"
        with pytest.raises(NotComputableError, match=reason):
            kernel_moments(self.log_normal(0.1), 1.0, 3.0)

    @pytest.mark.parametrize("name", NAMES)
    def test_an_empty_response_has_no_value(self, name):
        irf = self.gaussian(0.1) if name == "psf-radius" else self.log_normal(0.1)
        (column,) = irf.arrays
        irf.arrays[column] = np.zeros(irf.arrays[column].shape)
        with pytest.raises(NotComputableError, match="empty"):
            evaluate(name, irf)

    def test_a_single_offset_bin_serves_all_offsets(self):
        irf = self.log_normal(0.2)
        irf.arrays["MATRIX"] = irf.arrays["MATRIX"][:, :, :1]
        irf.axes["offset"] = Axis.from_edges("offset", [0.0, 0.5])
        (value, nothing), (same, remark) = (evaluate("edisp-res", irf, 1.0, o) for o in (0.1, 4.0))
        assert value == same
        assert nothing == ""
        assert remark == (
            "offset outside the only bin of the response "
            "(edisp_2d: 4.00 deg, the bin is 0.00 to 0.50 deg)"
        )


class TestTable:
    def test_units_descriptions_and_what_made_it(self, simulated):
        table = get_irfs_features(simulated, 1 * u.TeV, fixed_offset="0.5 deg")
        assert isinstance(table, QTable)
        assert table.colnames == ["obs_id", *NAMES, "notes"]
        assert table["psf-radius"].unit == u.deg
        assert table["edisp-res"].unit == u.one
        assert all(table[name].info.description for name in table.colnames)
        assert table.meta["energy_true"] == ["1 TeV"]
        assert table.meta["fixed_offset"] == "0.5 deg"

    def test_several_energies_have_a_column_each(self, simulated):
        names = ["psf-radius"]
        table = get_irfs_features(simulated, ["500 GeV", "10 TeV"], names=names)
        assert table.colnames == ["obs_id", "psf-radius@500GeV", "psf-radius@10000GeV", "notes"]
        single = get_irfs_features(simulated, "10 TeV", names=names)
        assert_array_equal(table["psf-radius@10000GeV"], single["psf-radius"])

    def test_rows_follow_the_observations(self, simulated):
        forward = get_irfs_features(simulated, "1 TeV")
        backward = get_irfs_features(list(simulated)[::-1], "1 TeV")
        assert_array_equal(forward["obs_id"], backward["obs_id"][::-1])
        assert_array_equal(forward["psf-radius"], backward["psf-radius"][::-1])

    def test_the_number_of_workers_does_not_matter(self, simulated):
        serial = get_irfs_features(simulated, ["1 TeV", "5 TeV"], position=PKS_2155)
        parallel = get_irfs_features(
            simulated, ["1 TeV", "5 TeV"], position=PKS_2155, engine=LocalWorkers(3)
        )
        assert serial.colnames == parallel.colnames
        for name in serial.colnames:
            assert_array_equal(serial[name], parallel[name])

    def test_a_target_beyond_the_response_is_noted(self, simulated):
        far = SkyCoord(0, 89, unit="deg")
        table = get_irfs_features(simulated, "1 TeV", position=far, names="edisp-res")
        assert np.isfinite(table["edisp-res"]).all()
        assert all("last bin taken (edisp_2d at" in note for note in table["notes"])

    def test_scaled_at_once(self, simulated):
        table = get_irfs_features(simulated, "1 TeV", apply_standard_scaler=True)
        assert_allclose(table["psf-radius"].value.std(), 1.0)

    def test_progress_sees_every_run(self, simulated):
        seen = []
        get_irfs_features(
            simulated, "1 TeV", progress=lambda rows: [seen.append(r) or r for r in rows]
        )
        assert len(seen) == len(simulated)


class TestBrokenRuns:
    @pytest.fixture
    def broken(self, small_archive, tmp_path):
        """Archive with one run missing and one truncated."""
        archive = shutil.copytree(small_archive, tmp_path / "archive")
        files = sorted((archive / "data").iterdir())
        files[2].unlink()
        files[5].write_bytes(files[5].read_bytes()[:4000])
        return archive, files

    def test_are_skipped_with_their_reason_and_the_rest_goes_on(self, broken, simulated):
        archive, files = broken
        with pytest.warns(SkippedRunWarning, match="2 of 12 runs") as record:
            table = get_irfs_features(DataStore.from_dir(archive).get_observations(), "1 TeV")
        assert len(record) == 1
        bad = np.isin(np.arange(12), [2, 5])
        assert np.isnan(table["psf-radius"][bad]).all()
        assert_array_equal(
            table["psf-radius"][~bad], get_irfs_features(simulated, "1 TeV")["psf-radius"][~bad]
        )
        assert files[2].name in table["notes"][2]
        assert "no such file" in table["notes"][2]
        assert files[5].name in table["notes"][5]
        assert "truncated" in table["notes"][5]
        assert set(table["notes"][~bad]) == {""}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"names": ["psf-radus"]}, "unknown feature 'psf-radus'; did you mean 'psf-radius'"),
        ({"names": []}, "name each one once"),
        ({"names": ["edisp-res", "edisp-res"]}, "name each one once"),
        ({"energy_true": 1.0}, "has no unit; write it like '1 TeV'"),
        ({"energy_true": "1"}, "has no unit; write it like '1 TeV'"),
        ({"energy_true": "1 m"}, "is in m; write it like '1 TeV'"),
        ({"energy_true": "one TeV"}, "not an energy"),
        ({"energy_true": "-1 TeV"}, "expected positive values"),
        ({"energy_true": []}, "expected positive values"),
        ({"position": PKS_2155, "fixed_offset": "1 deg"}, "not both"),
        ({"position": SkyCoord([1, 2], [1, 2], unit="deg")}, "2 positions; expected one"),
        ({"fixed_offset": "1 TeV"}, "not an angle"),
        ({"fixed_offset": "-1 deg"}, "expected an angle from 0"),
        ({"containment_fraction": 68}, "between 0 and 1"),
    ],
)
def test_what_cannot_be_computed_is_refused(options, message, simulated):
    with pytest.raises(RequestError, match=message):
        get_irfs_features(simulated, **{"energy_true": "1 TeV"} | options)


def test_workers_are_counted_from_one():
    with pytest.raises(RequestError, match="at least 1"):
        get_engine(0)
    assert list(get_engine(None).map(str, [1, 2])) == ["1", "2"]
