"""Files laid out like those of H.E.S.S. DR1, for machines without the real ones.

Axis columns have no TDIM, offsets are points rather than bins, rad bins are of even area, the
background is stored as (DETX, DETY, ENERG), and some units are written with a caret.
"""

import shutil

import astropy.units as u
import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from numpy.testing import assert_allclose, assert_array_equal

from obscluster import DataStore, get_irfs_features
from obscluster.simulate import simulate

UNITS = {"EFFAREA": "m2", "MATRIX": None, "RPSF": "sr^-1", "BKG": "MeV-1 s-1 sr-1"}
NAMES = {"EFFAREA": "AEFF", "MATRIX": "EDISP", "RPSF": "PSF", "BKG": "BKG"}


def like_hess(hdu):
    """The same response in the layout of H.E.S.S."""
    columns = []
    for column in hdu.columns:
        values = hdu.data[column.name][0].astype(">f4")
        if column.name in ("THETA_LO", "THETA_HI"):
            # Points: the middle of each bin.
            values = (hdu.data["THETA_LO"][0] + hdu.data["THETA_HI"][0]).astype(">f4") / 2
        unit, dim = column.unit, None
        if column.name in UNITS:
            unit = UNITS[column.name]
            if column.name == "BKG":
                values = np.moveaxis(values, -1, 0).swapaxes(1, 2)
                values = values * u.Unit(column.unit).to("MeV-1 s-1 sr-1")
            dim = str(tuple(reversed(values.shape))).replace(" ", "")
        form = f"{values.size}E"
        array = values[np.newaxis]
        columns.append(fits.Column(column.name, form, unit, array=array, dim=dim))
    new = fits.BinTableHDU.from_columns(columns)
    keep = ("HDUCLASS", "HDUCLAS1", "HDUCLAS2", "HDUCLAS3", "HDUCLAS4", "OBS_ID", "FOVALIGN")
    new.header.update({key: hdu.header[key] for key in keep if key in hdu.header})
    new.name = next(NAMES[name] for name in hdu.columns.names if name in NAMES)
    return new


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """Simulated runs in the layout of H.E.S.S."""
    original = tmp_path_factory.mktemp("like-hess") / "original"
    simulate(original, n_obs=4, psf="psf_table", bkg="bkg_3d")
    target = shutil.copytree(original, original.with_name("archive"))
    for path in (target / "data").iterdir():
        with fits.open(path) as hdus:
            changed = [hdus[0], hdus["EVENTS"], hdus["GTI"]]
            changed += [like_hess(hdu) for hdu in hdus if hdu.header.get("HDUCLAS1") == "RESPONSE"]
            fits.HDUList(changed).writeto(path, overwrite=True)
    index = Table.read(target / "hdu-index.fits.gz")
    short = {"aeff": "aeff", "edisp": "edisp", "psf": "psf", "bkg": "bkg"}
    index["HDU_NAME"] = [short.get(kind, kind) for kind in index["HDU_TYPE"]]
    index.write(target / "hdu-index.fits.gz", overwrite=True)
    return target


@pytest.mark.filterwarnings("ignore::astropy.utils.exceptions.AstropyWarning")
@pytest.mark.parametrize(
    "options",
    [
        {"energy_true": "1 TeV", "fixed_offset": 0.5 * u.deg},
        {"energy_true": "10 TeV", "fixed_offset": 1.3 * u.deg, "containment_fraction": 0.95},
        {"energy_true": "600 GeV", "fixed_offset": 0 * u.deg, "containment_fraction": 0.5},
    ],
    ids=["1 TeV", "10 TeV", "0.6 TeV"],
)
def test_features_equal_gammapys(options, archive):
    gammapy = pytest.importorskip("gammapy.data")
    from gammapy.data.utils import get_irfs_features as gammapys

    theirs = gammapys(
        gammapy.DataStore.from_dir(archive).get_observations(),
        **options | {"energy_true": u.Quantity(options["energy_true"])},
    )
    ours = get_irfs_features(DataStore.from_dir(archive).get_observations(), **options)
    assert_array_equal(ours["obs_id"], theirs["obs_id"])
    for name in ("edisp-bias", "edisp-res", "psf-radius"):
        assert_allclose(ours[name].value, theirs[name], rtol=1e-6, err_msg=name)


@pytest.mark.filterwarnings("ignore::astropy.utils.exceptions.AstropyWarning")
def test_responses_equal_gammapys(archive):
    gammapy = pytest.importorskip("gammapy.data")
    obs_id = DataStore.from_dir(archive).obs_ids[0]
    ours, theirs = (
        DataStore.from_dir(archive).obs(obs_id),
        gammapy.DataStore.from_dir(archive).obs(obs_id),
    )
    for name in ("aeff", "edisp", "psf", "bkg"):
        irf, peer = getattr(ours, name), getattr(theirs, name)
        assert list(irf.axes) == peer.axes.names
        assert_array_equal(irf.data, peer.data)
        assert irf.unit == peer.unit
        for axis in peer.axes:
            assert_allclose(irf.axes[axis.name].center, axis.center.to_value(axis.unit), rtol=1e-12)
            assert_allclose(irf.axes[axis.name].edges, axis.edges.to_value(axis.unit), rtol=1e-12,
                            atol=1e-12)  # fmt: skip
