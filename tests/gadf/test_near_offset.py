"""Responses that are read around an offset only give what whole ones give, and less is read."""

import shutil

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from obscluster import DataStore, get_features
from obscluster.exceptions import SkippedRunWarning
from obscluster.features.base import feature
from obscluster.features.catalog import FEATURES
from obscluster.gadf import unpack
from obscluster.gadf.axis import Axis
from obscluster.gadf.fits import FitsFile
from obscluster.gadf.irf import read_irf
from obscluster.simulate import simulate

OF_RESPONSES = [name for name, each in FEATURES.items() if each.needs]


@feature("undeclared")
def undeclared(run):
    """Looks at a response without saying so."""
    return float(run.irf("aeff").axes["offset"].nbin)


@feature("whole", needs=["aeff", "edisp", "psf", "bkg", "rad_max"])
def whole(run):
    """Makes everything be read, and sees that it was."""
    return float(np.prod(run.irf("aeff").data.shape))


def both_ways(observations, **options):
    """The same features with responses read in part, and in whole."""
    part = get_features(observations, OF_RESPONSES, "1 TeV", **options)
    all_of_it = get_features(observations, [*OF_RESPONSES, whole], "1 TeV", **options)
    return part, all_of_it


def assert_same(part, all_of_it):
    assert len(part)
    for name in OF_RESPONSES:
        column = next(c for c in part.colnames if c.split("@")[0] == name)
        assert_array_equal(part[column].value, all_of_it[column].value, err_msg=name)
    assert part["notes"].tolist() == all_of_it["notes"].tolist()


@pytest.fixture(scope="module", params=["bkg_2d", "bkg_3d"])
def simulated(tmp_path_factory, request):
    directory = tmp_path_factory.mktemp("near") / "archive"
    return simulate(directory, n_obs=4, size="small", bkg=request.param, compress=False)


@pytest.mark.parametrize("offset", ["0 deg", "0.5 deg", "0.77 deg", "2.4 deg", "9 deg"])
def test_every_feature_is_the_same_at_any_offset(simulated, offset):
    assert_same(*both_ways(DataStore.from_dir(simulated).get_observations(), fixed_offset=offset))


@pytest.mark.parametrize("degrees", [0.3, 2.9, 12.0])
def test_every_feature_is_the_same_for_a_position(simulated, degrees):
    observations = DataStore.from_dir(simulated).get_observations()
    pointing = observations[0].get_pointing_icrs()
    position = pointing.directional_offset_by(40 * u.deg, degrees * u.deg)
    assert_same(*both_ways(observations, position=position))


@pytest.mark.parametrize("name", ["hess_dr1", "cta_1dc", "fact_crab"])
def test_real_data_give_the_same(name, request):
    observations = DataStore.from_dir(request.getfixturevalue(name)).get_observations()[:8]
    position = SkyCoord(83.63, 22.01, unit="deg") if name == "fact_crab" else None
    fixed = None if position else "0.6 deg"
    assert_same(*both_ways(observations, position=position, fixed_offset=fixed))


def test_less_is_read(simulated, monkeypatch):
    read = unpack._read
    sizes = []

    def recorded(file, start, size, path):
        found = read(file, start, size, path)
        sizes.append(len(found))
        return found

    monkeypatch.setattr(unpack, "_read", recorded)
    monkeypatch.setattr(unpack, "WINDOW", 2880)
    observations = DataStore.from_dir(simulated).get_observations()
    with fits.open(observations[0].locations["edisp"].path) as hdulist:
        n_offsets = hdulist["EDISP"].data["MATRIX"].shape[1]
        n_bytes = hdulist["EDISP"].data["MATRIX"].nbytes
    assert n_offsets > 2
    total = {}
    for names in ("edisp-res", "edisp-res whole"):
        sizes.clear()
        wanted = [whole if name == "whole" else name for name in names.split()]
        get_features(observations[:1], wanted, "1 TeV", fixed_offset="0.5 deg")
        total[names] = sum(sizes)
        assert max(sizes) == (n_bytes * 2 // n_offsets if len(wanted) == 1 else n_bytes)
    assert total["edisp-res"] < total["edisp-res whole"]


def test_who_does_not_say_what_it_needs_sees_no_part(simulated):
    observations = DataStore.from_dir(simulated).get_observations()
    features = get_features(observations, [undeclared, "aeff"], "1 TeV", fixed_offset="0.5 deg")
    assert set(features["undeclared"].value) == {observations[0].aeff.axes["offset"].nbin}
    assert observations[0].aeff.axes["offset"].nbin > 2


def spoil(archive, directory, hdu, column, where):
    """A copy of an archive with NaN at some offsets."""
    shutil.copytree(archive, directory)
    for path in sorted((directory / "data").iterdir()):
        with fits.open(path, mode="update", memmap=False) as hdulist:
            hdulist[hdu].data[column][0][where] = np.nan
    return DataStore.from_dir(directory).get_observations()


def test_what_is_no_number_is_told_of_what_was_used(simulated, tmp_path):
    # Offsets lie first in the stored matrix.
    far = spoil(simulated, tmp_path / "far", "EDISP", "MATRIX", np.s_[-1, 0, 0])
    part, all_of_it = both_ways(far, fixed_offset="0.1 deg")
    assert_same(part, all_of_it)
    assert not any("no numbers" in note for note in part["notes"])
    near = spoil(simulated, tmp_path / "near", "EDISP", "MATRIX", np.s_[0, 0, :3])
    part, all_of_it = both_ways(near, fixed_offset="0.1 deg")
    assert_same(part, all_of_it)
    assert all("no numbers left out (3 of edisp_2d)" in note for note in part["notes"])


def test_a_table_that_is_not_all_there_is_not_trusted(simulated, tmp_path):
    directory = tmp_path / "cut"
    shutil.copytree(simulated, directory)
    for path in (directory / "data").iterdir():
        with FitsFile(path) as file:
            hdu = file.hdu("EDISP")
            end = hdu._start + hdu.data_size
        path.write_bytes(path.read_bytes()[: end - 1])
    observations = DataStore.from_dir(directory).get_observations()
    with pytest.warns(SkippedRunWarning, match="truncated"):
        get_features(observations, ["edisp-res"], "1 TeV", fixed_offset="0 deg")


@given(st.floats(-1, 6), st.sampled_from(["AEFF", "EDISP", "PSF", "BKG"]))
def test_a_part_is_the_part_of_the_whole(simulated_file, offset, name):
    with FitsFile(simulated_file) as file:
        part = read_irf(file.hdu(name), offset=offset)
        expected = read_irf(file.hdu(name)).near(offset)
    assert part.hdu_class == expected.hdu_class
    for axis, other in zip(part.axes.values(), expected.axes.values(), strict=True):
        assert axis is other
    for column in expected.arrays:
        assert_array_equal(part.arrays[column], expected.arrays[column])


@pytest.fixture(scope="module")
def simulated_file(tmp_path_factory):
    directory = tmp_path_factory.mktemp("part") / "archive"
    simulate(directory, n_obs=4, size="small", bkg="bkg_2d", compress=False)
    return next((directory / "data").iterdir())


def test_near_an_offset_the_response_evaluates_to_the_same(simulated_file):
    with FitsFile(simulated_file) as file:
        irf = read_irf(file.hdu("AEFF"))
    part = irf.near(0.7)
    assert part.axes["offset"].nbin == 2
    assert np.shares_memory(part.data, irf.data)
    at = {"energy_true": [0.3, 1, 20] * u.TeV, "offset": 0.7 * u.deg}
    np.testing.assert_allclose(part.evaluate(**at), irf.evaluate(**at), rtol=1e-12)


@given(
    st.lists(st.floats(0, 10), min_size=1, max_size=8, unique=True).map(sorted),
    st.floats(-2, 12),
    st.booleans(),
)
def test_the_neighbours_are_the_same_on_the_part_of_an_axis(points, value, at_nodes):
    if (np.diff(points) < 1e-6).any() or (not at_nodes and len(points) < 2):
        return
    axis = (Axis.from_nodes if at_nodes else Axis.from_edges)("offset", points)
    bins, part = axis.near(value)
    assert part.nbin == bins.stop - bins.start <= max(2, axis.nbin)
    assert part.holds(value) == axis.holds(value)
    i, j, t = axis.neighbours(value)
    assert part.neighbours(value) == (i - bins.start, j - bins.start, t)
