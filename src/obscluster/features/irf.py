"""Features of the instrument response: one number per response, true energy and offset.

The definitions of ``edisp-bias``, ``edisp-res`` and ``psf-radius`` are those of Gammapy 2.1
(`EDispKernel.get_bias`, `EDispKernel.get_resolution`, `PSF.containment_radius`), so that results
can be compared to the digit. Energies are in TeV and angles in degrees.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from astropy import units as u
from numpy.typing import NDArray

from obscluster.gadf.axis import Axis
from obscluster.gadf.irf import IRF
from obscluster.gadf.psf import PROFILES

__all__ = ["IRF_FEATURES", "IRFFeature", "NotComputableError"]

Array = NDArray[np.float64]

# Entries of a dispersion kernel below this are numerical noise.
_KERNEL_NOISE = 1e-8
# Containments that differ by less are the same but for rounding.
_PLATEAU = 1e-9
# Refinement of the rad axis, and the axis of PSFs that are given by parameters.
_RAD_FACTOR = 20
_PARAMETRIC_RAD = Axis.from_edges("rad", np.linspace(0.0, 0.66, 67))


class NotComputableError(Exception):
    """A feature has no value for this response; the text says why."""


@dataclass(frozen=True)
class IRFFeature:
    """A number that characterises a response.

    Parameters
    ----------
    name : str
        Name of the column.
    hdu_type : str
        The response that it needs: aeff, edisp, psf, bkg.
    unit : `~astropy.units.UnitBase`
        Unit of the value.
    description : str
        One line.
    function : callable
        ``function(irf, energy, offset, containment_fraction)``, with energy in TeV and offset in
        degrees; returns the value and a remark on it, empty if there is none to make, or raises
        `NotComputableError`.
    """

    name: str
    hdu_type: str
    unit: u.UnitBase
    description: str
    function: Callable[[IRF, float, float, float], tuple[float, str]]


def edisp_bias(
    edisp: IRF, energy: float, offset: float, containment_fraction: float
) -> tuple[float, str]:
    """Mean of (E_reco - E) / E of the dispersion kernel, E being the centre of its bin."""
    del containment_fraction
    center, mean, _ = _kernel_moments(edisp, energy, offset)
    return (mean - center) / center, ""


def edisp_res(
    edisp: IRF, energy: float, offset: float, containment_fraction: float
) -> tuple[float, str]:
    """Standard deviation of E_reco / E of the dispersion kernel, E being the centre of its bin."""
    del containment_fraction
    center, _, variance = _kernel_moments(edisp, energy, offset)
    return float(np.sqrt(variance)) / center, ""


def psf_radius(
    psf: IRF, energy: float, offset: float, containment_fraction: float
) -> tuple[float, str]:
    """Containment radius on the refined rad axis, nearest point, in degrees.

    Where the tabulated PSF never reaches the fraction, the nearest point is where it stops rising.
    (Gammapy's is then any point from there on: rounding errors decide.)
    """
    _check_energy(psf, energy)
    if psf.is_parametric:
        rad = _refined_center(_PARAMETRIC_RAD)
        parameters = {n: np.clip(_at(psf, n, energy, offset), 0.0, None) for n in psf.arrays}
        containment = PROFILES[psf.hdu_class].containment(rad, parameters)
    else:
        rad_axis = psf.axes["rad"]
        rad = _refined_center(rad_axis)
        density = _at(psf, "RPSF", energy, offset) * psf.unit.to(u.deg**-2)
        containment = _tabulated_containment(rad_axis, density, rad)
    containment = np.nan_to_num(containment)
    if not containment.max() > 0:
        raise NotComputableError(f"the PSF is empty at {energy:g} TeV and {offset:.2f} deg")
    largest = containment.max()
    if largest < containment_fraction:
        remark = f"the PSF holds only {largest:.1%} at {energy:g} TeV and {offset:.2f} deg"
        return float(rad[np.argmax(containment >= largest - _PLATEAU)]), remark
    return float(rad[np.argmin(np.abs(containment - containment_fraction))]), ""


IRF_FEATURES = {
    feature.name: feature
    for feature in (
        IRFFeature(
            "edisp-bias",
            "edisp",
            u.dimensionless_unscaled,
            "Energy bias: mean of (E_reco - E) / E",
            edisp_bias,
        ),
        IRFFeature(
            "edisp-res",
            "edisp",
            u.dimensionless_unscaled,
            "Energy resolution: standard deviation of E_reco / E",
            edisp_res,
        ),
        IRFFeature("psf-radius", "psf", u.deg, "Containment radius of the PSF", psf_radius),
    )
}
"""Name of a feature to its definition."""


def _check_energy(irf: IRF, energy: float) -> None:
    axis = irf.axes["energy_true"]
    if not axis.contains(energy):
        lo, hi = axis.edges[[0, -1]]
        raise NotComputableError(f"{energy:g} TeV is outside the energies {lo:.3g} to {hi:.3g} TeV")


def _at(irf: IRF, name: str, energy: float, offset: float) -> Array:
    """Values at an energy and an offset, interpolated linearly in log energy and offset."""
    i, j, t = irf.axes["energy_true"].neighbours(energy)
    a, b = (_at_offset(irf, name, index, offset) for index in (i, j))
    return np.asarray((1 - t) * a + t * b)


def _at_offset(irf: IRF, name: str, energy_index: int, offset: float) -> Array:
    """Values of one energy bin at an offset; the offset axis is gone."""
    axis = irf.axes["offset"]
    if not axis.contains(offset):
        lo, hi = axis.edges[[0, -1]]
        raise NotComputableError(
            f"offset {offset:.2f} deg is outside the {irf.hdu_class}'s "
            f"{max(lo, 0):.2f} to {hi:.2f} deg"
        )
    i, j, t = axis.neighbours(offset)
    where = list(irf.axes).index("offset")
    values = np.moveaxis(irf.arrays[name], where, 0)
    # The energy axis comes first, so after the offset is taken away it is index 0 again.
    a, b = (values[index][energy_index].astype(float) for index in (i, j))
    return np.asarray((1 - t) * a + t * b)


def _kernel_moments(edisp: IRF, energy: float, offset: float) -> tuple[float, float, float]:
    """Centre of the energy bin, and mean and variance of the reconstructed energy, in TeV.

    The kernel is binned on the true-energy axis: the migration distribution of the bin that holds
    the energy, integrated between the edges of each reconstructed bin.
    """
    _check_energy(edisp, energy)
    axis, migra = edisp.axes["energy_true"], edisp.axes["migra"]
    index = int(np.searchsorted(axis.edges, energy, side="right")) - 1
    index = min(index, axis.nbin - 1)
    density = np.clip(_at_offset(edisp, "MATRIX", index, offset), 0.0, None)
    density[~np.isfinite(density)] = 0.0
    cumulative = np.concatenate([[0.0], np.cumsum(density * np.diff(migra.edges))])
    if not cumulative[-1] > 0:
        raise NotComputableError(
            f"no energy dispersion at {energy:g} TeV and {offset:.2f} deg, the matrix is empty"
        )
    center = float(axis.center[index])
    steps = np.interp(axis.edges / center, migra.edges, cumulative / cumulative[-1])
    kernel = np.clip(np.diff(steps), 0.0, None)
    kernel[kernel < _KERNEL_NOISE] = 0.0
    total = kernel.sum()
    if not total > 0:
        raise NotComputableError(
            f"the energy dispersion at {energy:g} TeV lies outside the true energies"
        )
    mean = (kernel * axis.center).sum() / total
    variance = (kernel * (axis.center - mean) ** 2).sum() / total
    return center, float(mean), float(variance)


def _refined_center(axis: Axis) -> Array:
    """Centres of the bins after each one is divided into equal parts."""
    fine = np.arange(axis.nbin * _RAD_FACTOR + 1) / _RAD_FACTOR
    edges = np.interp(fine, np.arange(axis.nbin + 1), axis.edges)
    return np.asarray(0.5 * (edges[:-1] + edges[1:]))


def _tabulated_containment(axis: Axis, density: Array, rad: Array) -> Array:
    """Integral of a radial density (per square degree) up to each rad, in degrees.

    The sum over bins belongs to the upper edges; between them it is interpolated. Below the first
    one it is extrapolated over half a bin, and zero further in.
    """
    per_bin = density * 2 * np.pi * axis.center * np.diff(axis.edges)
    nodes, total = axis.edges[1:], np.cumsum(per_bin)
    if len(nodes) == 1:
        return np.where(rad >= nodes[0], total[0], 0.0)
    i = np.clip(np.searchsorted(nodes, rad, side="right") - 1, 0, len(nodes) - 2)
    slope = (total[i + 1] - total[i]) / (nodes[i + 1] - nodes[i])
    containment = np.clip(total[i] + slope * (rad - nodes[i]), 0.0, None)
    containment[rad < nodes[0] - 0.5 * (nodes[1] - nodes[0])] = 0.0
    return np.asarray(containment)
