"""Responses: axes and values are Gammapy's, profiles integrate to one, damage is named.

On purpose different from Gammapy: a parametric PSF is zero outside its axes, not extrapolated; a
Gaussian that is switched off (zero width) in some bins and not in the next is not given a width of
1 deg; a background is interpolated in double precision, whatever the file's; bins without a value
do not count (see test_defined).
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import astropy.units as u
import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy.integrate import quad
from scipy.interpolate import RegularGridInterpolator

from obscluster.exceptions import FormatError, RequestError
from obscluster.gadf.axis import Axis
from obscluster.gadf.fits import FitsFile
from obscluster.gadf.irf import read_irf
from obscluster.gadf.psf import PROFILES
from obscluster.gadf.response import IRF
from obscluster.simulate import simulate

TINY = 1e-300


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files ``psf_table.fits.gz`` and so on, with the kinds of responses that simulate has."""
    directory = tmp_path_factory.mktemp("kinds")
    for psf, bkg in [("psf_table", "bkg_3d"), ("psf_3gauss", "bkg_2d"), ("psf_king", "bkg_2d")]:
        archive = directory / psf
        simulate(archive, n_obs=3, size="small", psf=psf, bkg=bkg, events=False)
        next((archive / "data").iterdir()).rename(directory / f"{psf}.fits.gz")
    return directory


CTA_IRF = "caldb/data/cta/1dc/bcf/South_z20_50h/irf_file.fits"
HESS_RUN = "data/hess_dl3_dr1_obs_id_020325.fits.gz"
RESPONSES = [
    *[("simulated", "psf_table.fits.gz", name) for name in ("AEFF", "EDISP", "PSF", "BKG")],
    ("simulated", "psf_3gauss.fits.gz", "PSF"),
    ("simulated", "psf_3gauss.fits.gz", "BKG"),
    ("simulated", "psf_king.fits.gz", "PSF"),
    *[("hess_dr1", HESS_RUN, name) for name in ("AEFF", "EDISP", "PSF", "BKG")],
    ("cta_1dc", CTA_IRF, "EFFECTIVE AREA"),
    ("cta_1dc", CTA_IRF, "ENERGY DISPERSION"),
    ("cta_1dc", CTA_IRF, "POINT SPREAD FUNCTION"),
    ("cta_1dc", CTA_IRF, "BACKGROUND"),
    ("fact_crab", "fact_irf.fits", "EFFECTIVE AREA"),
    ("fact_crab", "fact_irf.fits", "ENERGY DISPERSION"),
]


def read(path: Path, name: str, hdu_class: str | None = None) -> IRF:
    with FitsFile(path) as file:
        return read_irf(file.hdu(name), hdu_class)


def gammapy_response(path: Path, name: str, hdu_class: str) -> Any:
    irf = pytest.importorskip("gammapy.irf")
    classes = {
        "aeff_2d": irf.EffectiveAreaTable2D,
        "edisp_2d": irf.EnergyDispersion2D,
        "psf_table": irf.PSF3D,
        "psf_3gauss": irf.EnergyDependentMultiGaussPSF,
        "psf_king": irf.PSFKing,
        "bkg_2d": irf.Background2D,
        "bkg_3d": irf.Background3D,
        "rad_max_2d": irf.RadMax2D,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the units of CTA
        theirs = classes[hdu_class].read(path, hdu=name)
    if hdu_class.startswith("bkg"):
        theirs.data = theirs.data.astype(float)
    return theirs


@pytest.fixture(params=RESPONSES, ids=lambda r: f"{r[0]}-{r[1].split('/')[-1]}-{r[2]}")
def pair(request: pytest.FixtureRequest) -> tuple[IRF, Any]:
    """The same response read by obscluster and by Gammapy."""
    archive, path, name = request.param
    path = request.getfixturevalue(archive) / path
    ours = read(path, name)
    return ours, gammapy_response(path, name, ours.hdu_class)


def random_coords(irf: IRF, n: int = 1000) -> dict[str, u.Quantity]:
    rng = np.random.default_rng(1)
    coords = {}
    for name, axis in irf.axes.items():
        lo, hi = axis.edges[0], axis.edges[-1]
        coords[name] = rng.uniform(lo, hi, n) * axis.unit
        if axis.interp == "log":
            coords[name] = np.exp(rng.uniform(np.log(lo), np.log(hi), n)) * axis.unit
    if irf.is_parametric:
        coords["rad"] = rng.uniform(0, 0.5, n) * u.deg
    return coords


def components_are_on_or_off(irf: IRF, coords: dict[str, u.Quantity]) -> np.ndarray:
    """Where no Gaussian has a width in one of the bins around and none in another."""
    ok = np.full(coords["rad"].shape, fill_value=True)
    nodes = [np.log(irf.axes["energy_true"].center), irf.axes["offset"].center]
    points = np.stack([np.log(coords["energy_true"].value), coords["offset"].value], axis=-1)
    for sigma in (irf.arrays[f"SIGMA_{i}"] for i in (1, 2, 3)):
        on = (sigma > 0).astype(float)
        share = RegularGridInterpolator(nodes, on, bounds_error=False, fill_value=None)(points)
        ok &= (share == 0) | (share == 1)
    return ok


def among_defined_bins(irf: IRF, coords: dict[str, u.Quantity]) -> np.ndarray:
    """Where all bins that count have a value."""
    axes = [axis for name, axis in irf.axes.items() if name not in ("migra", "rad")]
    long = [axis for axis in axes if axis.nbin > 1]
    share = RegularGridInterpolator(
        [axis.scaled_center for axis in long],
        irf.defined.astype(float).reshape([axis.nbin for axis in long]),
        bounds_error=False,
        fill_value=None,
    )
    points = np.stack([axis.scale(coords[axis.name].value) for axis in long], axis=-1)
    return np.abs(share(points) - 1) < 1e-9


# --- the same as Gammapy -------------------------------------------------------------------------


def test_axes_are_gammapys(pair):
    ours, theirs = pair
    assert list(ours.axes) == theirs.axes.names
    for name, axis in ours.axes.items():
        assert axis.interp == theirs.axes[name].interp
        assert_allclose(axis.edges, theirs.axes[name].edges.to_value(axis.unit), rtol=1e-12)
        assert_allclose(axis.center, theirs.axes[name].center.to_value(axis.unit), rtol=1e-12)


def test_evaluate_is_gammapys_within_the_axes(pair):
    ours, theirs = pair
    coords = random_coords(ours)
    values, expected = ours.evaluate(**coords), theirs.evaluate(**coords)
    assert values.unit.is_equivalent(expected.unit)
    same = among_defined_bins(ours, coords)
    assert np.isfinite(values[same]).all()
    if ours.hdu_class == "psf_3gauss":
        same &= components_are_on_or_off(ours, coords)
    assert same.mean() > 0.5
    expected = expected.to_value(values.unit)
    assert (expected[same] > 0).mean() > 0.1
    assert_allclose(values.value[same], expected[same], rtol=1e-12, atol=TINY)


def test_left_out_axes_are_taken_at_their_centres(pair):
    ours, _ = pair
    values = ours.evaluate().value
    inner = [k for k, name in enumerate(ours.axes) if name in ("migra", "rad")]
    defined = np.broadcast_to(np.expand_dims(ours.defined, inner), values.shape)
    assert np.isfinite(values[defined]).all()
    if ours.is_parametric:
        assert ours.evaluate().shape == tuple(axis.nbin for axis in ours.axes.values())
    else:
        expected = np.clip(np.asarray(ours.data, float), 0, None)
        assert_allclose(values[defined], expected[defined], rtol=1e-6, atol=TINY)
    if not ours.hdu_class.startswith("bkg"):
        assert np.isnan(values[~defined]).all()


def test_values_outside_any_axis_are_zero(pair):
    ours, _ = pair
    inside = {name: coord[:50] for name, coord in random_coords(ours).items()}
    for name, axis in ours.axes.items():
        width = axis.edges[-1] - axis.edges[0]
        for beyond in (axis.edges[-1] + 1e-6 * width, axis.edges[0] - 1e-6 * width):
            values = ours.evaluate(**{**inside, name: beyond * axis.unit})
            assert (values == 0).all()


@pytest.mark.parametrize("name", ["AEFF", "PSF", "BKG"])
def test_shape_of_the_result_is_that_of_the_coordinates(name, simulated):
    irf = read(simulated / "psf_king.fits.gz", name)
    one = {axis: coord[0] for axis, coord in random_coords(irf).items()}
    assert irf.evaluate(**one).shape == ()
    first = next(iter(one))
    three = {**one, first: u.Quantity([one[first]] * 3)}
    assert irf.evaluate(**three).shape == (3,)
    assert irf.evaluate(**{**three, first: three[first][:, np.newaxis]}).shape == (3, 1)
    assert_allclose(irf.evaluate(**three).value, irf.evaluate(**one).value)


# --- tables in every dress -----------------------------------------------------------------------

ENERGY = [1.0, 2.0, 4.0, 8.0]
AREA = np.array([[1.0, 2, 3], [4, 5, 6]])  # offset, energy


def aeff_hdu(drop: str = "", **columns: Any) -> fits.BinTableHDU:
    """Effective area of 3 energies and 2 offsets; columns and keywords (lower case) replaced."""
    keywords = {"hduclas1": "RESPONSE", "hduclas2": "EFF_AREA", "hduclas4": "AEFF_2D"}
    table = {
        "ENERG_LO": [ENERGY[:-1]] * u.TeV,
        "ENERG_HI": [ENERGY[1:]] * u.TeV,
        "THETA_LO": [[0.0, 1.0]] * u.deg,
        "THETA_HI": [[1.0, 2.0]] * u.deg,
        "EFFAREA": [AREA] * u.m**2,
    }
    for name, value in columns.items():
        (keywords if name.islower() else table)[name] = value
    hdu = fits.BinTableHDU(Table({k: table[k] for k in table if k not in drop.split()}))
    hdu.name = "AEFF"
    hdu.header.update({key.upper(): value for key, value in keywords.items()})
    return hdu


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"drop": "ENERG_LO ENERG_HI", "ETRUE_LO": [ENERGY[:-1]] * u.TeV, "ETRUE_HI": [ENERGY[1:]]},
        {"ENERG_LO": [[1e3, 2e3, 4e3]] * u.GeV, "ENERG_HI": [[2e6, 4e6, 8e6]] * u.MeV},
        {"THETA_LO": [[0, 60.0]] * u.arcmin, "THETA_HI": np.radians([[1.0, 2.0]]) * u.rad},
        {"ENERG_LO": [ENERGY[:-1]], "ENERG_HI": [ENERGY[1:]]},
        {"EFFAREA": [AREA * 1e4] * u.cm**2},
        {"EFFAREA": [AREA]},
        {"EFFAREA": [AREA.astype("i2")] * u.m**2},
        {"EFFAREA": [AREA.T] * u.m**2},
        {"hduclas4": "2D"},
        {"hduclas1": "UNKNOWN"},
        {"hduclas2": "", "hduclas4": "aeff_2d"},
    ],
    ids=lambda changes: "-".join(changes) or "plain",
)
def test_effective_area_is_the_same_in_every_dress(changes, write_fits):
    irf = read(write_fits(aeff_hdu(**changes)), "AEFF", "aeff_2d")
    assert_allclose(irf.axes["energy_true"].edges, ENERGY)
    assert_allclose(irf.axes["energy_true"].center, np.sqrt([2, 8, 32]))
    assert_allclose(irf.axes["offset"].edges, [0, 1, 2])
    assert_allclose(irf.quantity.to_value("m2"), AREA.T)
    area = irf.evaluate(energy_true=4 * u.TeV, offset=1 * u.deg)
    assert_allclose(area.to_value("m2"), (2 + 3 + 5 + 6) / 4)


@pytest.mark.parametrize("shape", [(1, 3), (3,), (1, 1, 3)])
def test_single_offset_bin_holds_every_offset(shape, write_fits):
    area = np.array([1.0, 2, 3]).reshape(shape)
    scalar = {"THETA_LO": [0.0] * u.deg, "THETA_HI": [0.5] * u.deg, "EFFAREA": [area] * u.m**2}
    irf = read(write_fits(aeff_hdu(**scalar)), "AEFF")
    assert irf.axes["offset"].nbin == 1
    areas = irf.evaluate(energy_true=np.sqrt(8) * u.TeV, offset=[0, 0.25, 3] * u.deg)
    assert_allclose(areas.value, 2)


def test_response_of_a_single_bin_is_constant(write_fits):
    hdu = aeff_hdu(ENERG_LO=[1.0], ENERG_HI=[2.0], THETA_LO=[0.0], THETA_HI=[1.0], EFFAREA=[7.0])
    irf = read(write_fits(hdu), "AEFF")
    assert_allclose(irf.evaluate(energy_true=[1.1, 1.9, 3] * u.TeV).value.ravel(), [7, 7, 0])


def test_offsets_given_as_points_are_nodes(write_fits):
    points = [[0.5, 1.5]] * u.deg
    axis = read(write_fits(aeff_hdu(THETA_LO=points, THETA_HI=points)), "AEFF").axes["offset"]
    assert_allclose(axis.center, [0.5, 1.5])
    assert_allclose(axis.edges, [0, 1, 2])


@pytest.mark.parametrize(
    ("unit", "expected"), [(None, "s-1 MeV-1 sr-1"), ("s-1 TeV-1 sr-1", "s-1 TeV-1 sr-1")]
)
def test_background_without_unit_is_per_mev(unit, expected, write_fits):
    rates = u.Quantity([AREA], unit) if unit else [AREA]
    hdu = aeff_hdu("EFFAREA", BKG=rates, hduclas2="BKG", hduclas4="BKG_2D")
    irf = read(write_fits(hdu), "AEFF")
    assert irf.unit == u.Unit(expected)
    # Between four bins: the geometric mean.
    rate = irf.evaluate(energy=4 * u.TeV, offset=1 * u.deg)
    assert_allclose(rate.value, (2 * 3 * 5 * 6) ** 0.25)


def test_rad_max_is_gammapys(write_fits):
    hdu = aeff_hdu("EFFAREA", RAD_MAX=[AREA] * u.deg, hduclas2="RAD_MAX", hduclas4="RAD_MAX_2D")
    hdu.header["HDUCLAS3"] = "POINT-LIKE"
    path = write_fits(hdu)
    ours = read(path, "AEFF")
    assert ours.is_pointlike
    coords = random_coords(ours, 50)
    expected = gammapy_response(path, "AEFF", "rad_max_2d").evaluate(method="linear", **coords)
    # Continued to zero and below, a cut is none.
    expected = np.where(expected > 0, expected, np.nan)
    assert np.isfinite(expected).mean() > 0.9
    assert_allclose(ours.evaluate(**coords).to_value("deg"), expected.to_value("deg"))


def test_coordinates_may_have_any_unit_or_be_text(write_fits):
    irf = read(write_fits(aeff_hdu()), "AEFF")
    expected = irf.evaluate(energy_true=2 * u.TeV, offset=0.5 * u.deg)
    assert_allclose(irf.evaluate(energy_true="2000 GeV", offset=30 * u.arcmin), expected)


def test_unknown_axis_is_a_request_error_with_the_likely_name(write_fits):
    with pytest.raises(RequestError, match=r"'energy'.*'energy_true'"):
        read(write_fits(aeff_hdu()), "AEFF").evaluate(energy=2 * u.TeV)


@pytest.mark.parametrize(
    ("match", "changes"),
    [
        ("'s' of column EFFAREA.*m2", {"EFFAREA": [AREA] * u.s}),
        ("'m' of column ENERG_LO.*TeV", {"ENERG_LO": [ENERGY[:-1]] * u.m}),
        ("'TeV' of column THETA_HI.*deg", {"THETA_HI": [[1.0, 2.0]] * u.TeV}),
        ("'TeV ,' of column ENERG_LO", {"ENERG_LO": [ENERGY[:-1]], "tunit1": "TeV ,"}),
        ("do not rise", {"ENERG_LO": [[1.0, 5.0, 4.0]]}),
        ("do not rise", {"ENERG_LO": [[1.0, 1.0, 4.0]]}),
        ("THETA_HI have values beyond 1e\\+09, or none", {"THETA_HI": [[1.0, np.nan]]}),
        ("values beyond", {"ENERG_LO": [[1.0, 2.0, 1e20]]}),
        ("negative energies", {"ENERG_LO": [[-1.0, 2.0, 4.0]]}),
        ("ENERG_LO has 2 values, ENERG_HI has 3", {"ENERG_LO": [[1.0, 2.0]]}),
        ("EFFAREA.*shape.*2, 2.*3, 2", {"EFFAREA": [AREA[:, :2]] * u.m**2}),
        ("EFFAREA.*not hold numbers", {"EFFAREA": [[["a", "b", "c"]] * 2]}),
        ("ENERG_LO", {"ENERG_LO": [["a", "b", "c"]]}),
        ("ENERG_LO", {"ENERG_LO": [[1j, 2, 4]]}),
        ("no columns ENERG_LO and ENERG_HI or ETRUE_LO", {"drop": "ENERG_HI"}),
        ("no column EFFAREA", {"drop": "EFFAREA"}),
        ("3D_AEFF", {"hduclas4": "3D_AEFF", "DETX_LO": [[1.0]], "DETX_HI": [[2.0]]}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_table_that_is_no_response_is_named(match, changes, write_fits):
    path = write_fits(aeff_hdu(**changes))
    with pytest.raises(FormatError, match=match) as caught:
        read(path, "AEFF")
    assert f"{path}, HDU AEFF" in str(caught.value)


def test_image_and_table_of_other_than_one_row_are_no_responses(write_fits):
    hdu = aeff_hdu()
    two, none = np.repeat(hdu.data, 2), hdu.data[:0]
    for data, match in [(two, "2 rows"), (none, "0 rows"), (np.ones((1, 3)), "not a table")]:
        kind = fits.BinTableHDU if data.dtype.names else fits.ImageHDU
        with pytest.raises(FormatError, match=f"AEFF.*{match}"):
            read(write_fits(kind(data, name="AEFF")), "AEFF", "aeff_2d")


# --- axes ----------------------------------------------------------------------------------------

rising = st.lists(st.floats(0.01, 5), min_size=2, max_size=8).map(np.cumsum)


@given(nodes=rising, interp=st.sampled_from(["lin", "log"]))
def test_axes_from_nodes_and_edges_are_gammapys(nodes, interp):
    maps = pytest.importorskip("gammapy.maps")
    for ours, theirs in [
        (Axis.from_nodes("rad", nodes, interp), maps.MapAxis.from_nodes(nodes, interp=interp)),
        (Axis.from_edges("rad", nodes, interp), maps.MapAxis.from_edges(nodes, interp=interp)),
    ]:
        assert_allclose(ours.center, theirs.center, rtol=1e-9)
        assert_allclose(ours.edges, theirs.edges, rtol=1e-9, atol=1e-9)


@given(nodes=rising, value=st.floats(0, 50))
def test_neighbours_interpolate_linearly_and_continue_the_last_line(nodes, value):
    axis = Axis.from_nodes("rad", nodes)
    i, j, weight = axis.neighbours(value)
    assert j == i + 1
    assume(np.diff(nodes).min() > 1e-3)
    assert_allclose((1 - weight) * nodes[i] + weight * nodes[j], value, rtol=1e-6, atol=1e-6)
    if nodes[0] <= value <= nodes[-1]:
        assert -1e-12 <= weight <= 1 + 1e-12


def test_energy_axis_may_begin_at_zero(write_fits):
    irf = read(write_fits(aeff_hdu(ENERG_LO=[[0.0, 2.0, 4.0]])), "AEFF")
    assert np.isfinite(irf.axes["energy_true"].center).all()
    assert_allclose(irf.evaluate(energy_true=np.sqrt(8) * u.TeV, offset=0.5 * u.deg).value, 2)


# --- parametric point-spread functions -----------------------------------------------------------

widths, fractions = st.floats(0.01, 0.5), st.floats(0, 3)
king = st.fixed_dictionaries({"GAMMA": st.floats(1.3, 5), "SIGMA": widths})
gauss = st.fixed_dictionaries(
    {"SCALE": st.floats(0.1, 100), "AMPL_2": fractions, "AMPL_3": fractions}
    | {f"SIGMA_{i}": widths for i in (1, 2, 3)}
)
off = {"AMPL_2": 0.0, "AMPL_3": 0.0, "SIGMA_2": 0.0, "SIGMA_3": 0.0}


@pytest.mark.parametrize("name", ["psf_king", "psf_3gauss"])
@settings(max_examples=40)
@given(data=st.data())
def test_profile_integrates_to_one_and_containment_is_its_integral(name, data):
    parameters = data.draw(king if name == "psf_king" else gauss | gauss.map(lambda g: g | off))
    arrays = {key: np.asarray(value) for key, value in parameters.items()}
    profile = PROFILES[name]
    assert profile.containment(np.asarray(np.inf), arrays) == pytest.approx(1)
    assert profile.containment(np.asarray(0.0), arrays) == 0

    def ring(log_rad: float) -> float:
        rad = np.exp(log_rad)
        return 2 * np.pi * rad**2 * float(profile.density(rad, arrays))

    for rad in (0.1, 1.0):
        integral = quad(ring, np.log(1e-6), np.log(rad), limit=200)[0]
        assert profile.containment(np.asarray(rad), arrays) == pytest.approx(integral, abs=1e-6)


@pytest.mark.parametrize("name", ["psf_3gauss", "psf_king"])
def test_parametric_psf_of_a_file_integrates_to_one(name, simulated):
    irf = read(simulated / f"{name}.fits.gz", "PSF")
    rad = np.geomspace(1e-5, 100, 20_000) * u.deg
    density = irf.evaluate(energy_true=1 * u.TeV, offset=0.5 * u.deg, rad=rad)
    total = np.trapezoid(2 * np.pi * rad**2 * density, np.log(rad.value))
    assert total.to_value("") == pytest.approx(1, abs=1e-3)
    with pytest.raises(AttributeError, match="arrays"):
        _ = irf.data


# --- absurd values -------------------------------------------------------------------------------


@pytest.mark.parametrize("column", ["SIGMA", "GAMMA"])
@pytest.mark.parametrize("value", [0.0, -1.0, np.nan, np.inf, 1e30, 1e-30])
def test_king_profile_without_a_width_can_be_read(column, value, simulated, tmp_path):
    path = tmp_path / "king.fits"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with fits.open(simulated / "psf_king.fits.gz", memmap=False) as hdus:
            hdus["PSF"].data[column][...] = value
            hdus.writeto(path)
        irf = read(path, "PSF")
    assert irf.hdu_class == "psf_king"
    assert np.isfinite(irf.arrays[column]).all()


@pytest.mark.parametrize("number", [3, 4])
@pytest.mark.parametrize(
    "scale", ["1E300", "-1E300", "-1.0", "0.0", "1E-300", "NAN", "1E999", "'x'"]
)
def test_absurd_scale_of_an_axis_is_a_format_error(number, scale, simulated, tmp_path):
    path = tmp_path / "edisp.fits"
    with fits.open(simulated / "psf_table.fits.gz", memmap=False) as hdus:
        assert hdus["EDISP"].columns.names[number - 1].startswith("MIGRA")
        hdus.writeto(path)
    raw = path.read_bytes()
    start = raw.index(b"'EDISP")
    end = raw.index(b"END".ljust(80), start)
    card = f"TSCAL{number}  = {scale:>20}".ljust(80).encode() + b"END".ljust(80)
    path.write_bytes(raw[:end] + card + raw[end + len(card) :])
    with pytest.raises(FormatError, match=r"EDISP: .*MIGRA"):
        read(path, "EDISP")
