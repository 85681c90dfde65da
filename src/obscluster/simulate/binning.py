"""How finely the IRF tables are binned."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from obscluster.simulate.model import FOV_MAX, MIGRA_MAX, MIGRA_MIN

__all__ = ["SIZES", "Binning"]

FloatArray = NDArray[np.float64]


class Binning(NamedTuple):
    """Axes of the IRF tables: edges in TeV or deg, except for the offsets, which are nodes."""

    energy: FloatArray
    energy_psf: FloatArray
    energy_bkg: FloatArray
    offset: FloatArray
    migra: FloatArray
    rad: FloatArray
    theta_bkg: FloatArray
    det: FloatArray


def _rad_edges(n_bins: int) -> FloatArray:
    """Radii in deg to 1.2 deg, denser in the centre, where the PSF varies."""
    return 1.2 * np.linspace(0, 1, n_bins + 1) ** 1.5


#: Binnings by name: ``full`` is that of H.E.S.S. (0.6 MB per run), ``small`` has few bins.
SIZES: Mapping[str, Binning] = {
    "full": Binning(
        energy=np.geomspace(0.01, 100, 97),
        energy_psf=np.geomspace(0.01, 100, 33),
        energy_bkg=np.geomspace(0.1, 100, 21),
        offset=np.linspace(0, FOV_MAX, 6),
        migra=np.linspace(MIGRA_MIN, MIGRA_MAX, 161),
        rad=_rad_edges(144),
        theta_bkg=np.linspace(0, FOV_MAX, 26),
        det=np.linspace(-FOV_MAX, FOV_MAX, 51),
    ),
    "small": Binning(
        energy=np.geomspace(0.02, 100, 33),
        energy_psf=np.geomspace(0.02, 100, 13),
        energy_bkg=np.geomspace(0.1, 100, 10),
        offset=np.array([0.0, 0.5, 1.0, FOV_MAX]),
        migra=np.linspace(MIGRA_MIN, MIGRA_MAX, 61),
        rad=_rad_edges(40),
        theta_bkg=np.linspace(0, FOV_MAX, 11),
        det=np.linspace(-FOV_MAX, FOV_MAX, 12),
    ),
}
