"""What is shared between the files of a production, and what must not be."""

import numpy as np
import pytest
from astropy.io import fits

from obscluster.gadf.fits import FitsFile, data_size
from obscluster.gadf.irf import _all_small, clean, read_irf
from obscluster.gadf.unpack import MIN_STEP


def aeff(energies, value=1.0, unit="TeV"):
    energies = np.asarray(energies, dtype=">f4")
    cell = np.full((1, len(energies) - 1), value, dtype=">f4")
    columns = [
        fits.Column("ENERG_LO", f"{len(energies) - 1}E", unit, array=[energies[:-1]]),
        fits.Column("ENERG_HI", f"{len(energies) - 1}E", unit, array=[energies[1:]]),
        fits.Column("THETA_LO", "1E", "deg", array=[[0.0]]),
        fits.Column("THETA_HI", "1E", "deg", array=[[3.0]]),
        fits.Column("EFFAREA", f"{cell.size}E", "m2", dim=f"({cell.size},1)", array=[cell]),
    ]
    hdu = fits.BinTableHDU.from_columns(columns, name="AEFF")
    for i, text in enumerate(("RESPONSE", "EFF_AREA", "FULL-ENCLOSURE", "AEFF_2D"), 1):
        hdu.header[f"HDUCLAS{i}"] = text
    return hdu


@pytest.fixture
def read(tmp_path):
    def read(hdu, name="a.fits"):
        path = tmp_path / name
        fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(path, overwrite=True)
        with FitsFile(path) as file:
            return read_irf(file.hdu("AEFF"))

    return read


def test_the_same_header_is_worked_out_once_and_axes_follow_the_bytes(read):
    first, same = read(aeff([0.1, 1, 10]), "a.fits"), read(aeff([0.1, 1, 10], 2.0), "b.fits")
    other = read(aeff([0.2, 2, 20]), "c.fits")
    assert first.header == same.header == other.header
    assert first.axes["energy_true"] is same.axes["energy_true"]
    assert first.axes["offset"] is other.axes["offset"]
    np.testing.assert_allclose(other.axes["energy_true"].edges, [0.2, 2, 20], rtol=1e-6)
    assert same.data.max() == 2.0


def test_runs_of_a_production_share_their_structure_but_not_their_header(tmp_path):
    found = []
    for obs_id in (1, 23):
        hdu = aeff([0.1, 1, 10])
        hdu.header["OBS_ID"] = obs_id
        hdu.header["NOTE"] = "an OBS_ID  = 7 within a value"
        path = tmp_path / f"{obs_id}.fits"
        fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(path)
        with FitsFile(path) as file:
            found.append(file.hdu("AEFF"))
    one, other = found
    assert one.structure is other.structure
    assert (one.header["OBS_ID"], other.header["OBS_ID"]) == (1, 23)


def test_a_unit_that_differs_is_another_structure(read):
    gev = read(aeff([100, 1000, 10000], unit="GeV"))
    np.testing.assert_allclose(gev.axes["energy_true"].edges, [0.1, 1, 10], rtol=1e-6)
    np.testing.assert_allclose(
        read(aeff([100, 1000, 10000])).axes["energy_true"].edges, [100, 1000, 10000], rtol=1e-6
    )


def test_who_changes_what_is_shared_is_stopped(read):
    axis = read(aeff([0.1, 1, 10])).axes["energy_true"]
    for array in (axis.edges, axis.center):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 5.0
    axes = read(aeff([0.1, 1, 10])).axes
    axes.clear()
    assert read(aeff([0.1, 1, 10])).axes


def test_a_damaged_header_is_not_remembered_as_a_good_one():
    card = b"NAXIS   =                   -1".ljust(80) + b"END".ljust(80)
    for _ in range(2):
        with pytest.raises(ValueError, match="NAXIS = -1"):
            data_size(card)


@pytest.mark.parametrize("dtype", [">f4", ">f8", "<f4", ">i2"])
@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf, 1.01e30, -1.01e30, 0.99e30, 1e29, 0.0])
def test_the_quick_look_never_calls_bad_values_small(dtype, odd):
    values = np.linspace(-5, 5, 1001).astype(dtype)
    assert clean(values)[1] is None
    if dtype == ">i2":
        return
    values[77] = odd
    is_bad = not abs(odd) <= 1e30
    cleaned, bad = clean(values)
    assert (bad is not None) == is_bad
    assert not is_bad or np.flatnonzero(bad).tolist() == [77]
    assert not (_all_small(values) and is_bad)
    assert cleaned[77] == (0.0 if is_bad else values[77])


def test_the_quick_look_suffices_for_what_is_usual():
    for dtype in (">f4", ">f8"):
        assert _all_small(np.linspace(-1e29, 1e29, 100).astype(dtype))
        assert _all_small(np.zeros((3, 4), dtype).T)


@pytest.mark.parametrize("n_values", [MIN_STEP // 8, 3 * MIN_STEP, 40 * MIN_STEP])
def test_data_in_several_pieces_is_put_together(tmp_path, n_values):
    rng = np.random.default_rng(1)
    values = rng.normal(size=n_values)
    path = tmp_path / "a.fits.gz"
    tables = [
        fits.BinTableHDU.from_columns([fits.Column("X", "D", array=values + i)], name=f"T{i}")
        for i in range(4)
    ]
    fits.HDUList([fits.PrimaryHDU(), *tables]).writeto(path)
    with FitsFile(path) as file:
        # Also backwards, and again.
        for i in (0, 3, 1, 3, 2):
            np.testing.assert_array_equal(file.hdu(f"T{i}").column("X"), values + i)
