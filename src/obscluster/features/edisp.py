"""Energy dispersion: bias and resolution.

``edisp-bias`` and ``edisp-res`` are Gammapy's (`EDispKernel.get_bias`, `get_resolution`): moments
of a kernel that is binned on the true-energy axis. They suffer from that binning and from tails;
``edisp-bias50`` and ``edisp-res68`` do not.
"""

from __future__ import annotations

from functools import lru_cache
from math import isfinite

import numpy as np
from numpy.typing import NDArray

from obscluster.features.base import NotComputableError, Run, feature
from obscluster.features.slices import (
    Remark,
    at_energy,
    at_offset,
    check_energy,
    no_value,
    normal_quantile,
)
from obscluster.gadf.axis import Axis
from obscluster.gadf.response import IRF

__all__ = ["FEATURES", "kernel_moments", "migration_quantiles"]

Array = NDArray[np.float64]

# Entries of a dispersion kernel below this are numerical noise.
_KERNEL_NOISE = 1e-8


def kernel_moments(
    edisp: IRF, energy: float, offset: float, remark: Remark | None = None
) -> tuple[float, float, float]:
    """Moments of the dispersion kernel.

    The kernel is binned on the true-energy axis: the migration distribution of the bin that holds
    the energy, integrated between the edges of each reconstructed bin.

    Parameters
    ----------
    edisp : `~obscluster.gadf.irf.IRF`
        An ``edisp_2d``.
    energy : float
        True energy in TeV.
    offset : float
        Offset from the pointing in degrees.
    remark : callable, optional
        Is told what is doubtful about the values.

    Returns
    -------
    center, mean, variance : float
        Centre of the energy bin, and mean (TeV) and variance (TeV2) of the reconstructed energy.

    Raises
    ------
    NotComputableError
        Outside the response, or where it is empty.
    """
    check_energy(edisp, energy)
    axis, migra = edisp.axes["energy_true"], edisp.axes["migra"]
    index = _bin_of(axis, energy)
    (density,) = at_offset(edisp, "MATRIX", offset, slice(index, index + 1), remark)
    cumulative = _cumulative(density, migra)
    if cumulative is None:
        raise no_value(edisp, f"{energy:g} TeV, {offset:.2f} deg")
    center, migrations = _migrations(axis, index)
    at_edges = np.interp(migrations, migra.edges, cumulative)
    kernel = at_edges[1:] - at_edges[:-1]
    kernel[kernel < _KERNEL_NOISE] = 0.0
    total = np.add.reduce(kernel)
    if not total > 0:
        raise NotComputableError(
            f"the energy dispersion lies outside the true energies "
            f"({energy:g} TeV, {offset:.2f} deg)"
        )
    mean = np.add.reduce(kernel * axis.center) / total
    variance = np.add.reduce(kernel * (axis.center - mean) ** 2) / total
    return center, float(mean), float(variance)


# Runs of one production share their axes.
@lru_cache(maxsize=256)
def _migrations(axis: Axis, index: int) -> tuple[float, Array]:
    """Centre of an energy bin, and the migrations from there to all edges of the axis."""
    center = float(axis.center[index])
    return center, axis.edges / center


@lru_cache(maxsize=256)
def _bin_of(axis: Axis, energy: float) -> int:
    """Bin that holds an energy."""
    index = int(np.searchsorted(axis.edges, energy, side="right")) - 1
    return min(max(index, 0), axis.nbin - 1)


@lru_cache(maxsize=64)
def _widths(axis: Axis) -> Array:
    return np.diff(axis.edges)


def migration_quantiles(
    edisp: IRF,
    energy: float,
    offset: float,
    fractions: tuple[float, ...],
    remark: Remark | None = None,
) -> Array:
    """Quantiles of E_reco / E at an energy in TeV and an offset in degrees.

    Raises
    ------
    NotComputableError
        Outside the response, or where it is empty.
    """
    migra = edisp.axes["migra"]
    density = at_energy(edisp, "MATRIX", energy, offset, remark=remark)
    cumulative = _cumulative(density, migra)
    if cumulative is None:
        raise no_value(edisp, f"{energy:g} TeV, {offset:.2f} deg")
    return np.array([normal_quantile(migra.edges, cumulative, value) for value in fractions])


def _cumulative(density: Array, migra: Axis) -> Array | None:
    """Distribution function at the edges, from 0 to 1; None if there is nothing to normalise."""
    cumulative = _sums(density, migra)
    if not isfinite(cumulative[-1]):
        # Something is no number, or the sum of very large ones is none.
        density = np.where(np.isfinite(density), density, 0.0)
        cumulative = _sums(density / max(density.max(), 1.0), migra)
    total = float(cumulative[-1])
    return cumulative / total if total > 0 else None


def _sums(density: Array, migra: Axis) -> Array:
    """Integral of a density up to each edge; what is negative counts as nothing."""
    sums = np.zeros(len(density) + 1)
    (np.maximum(density, 0.0) * _widths(migra)).cumsum(out=sums[1:])
    return sums


def _moments(run: Run, energy: float) -> tuple[float, float, float]:
    """Moments of the kernel of a run, which bias and resolution share."""
    edisp, offset = run.irf_at_offset("edisp")
    remarks: list[str] = []
    moments, remarks = run.once(
        ("moments", energy),
        lambda: (kernel_moments(edisp, energy, offset, remarks.append), remarks),
    )
    # Each of the features says what is doubtful.
    for text in remarks:
        run.remark(text)
    return moments


@feature(
    "edisp-bias",
    description="Energy bias: mean of (E_reco - E) / E",
    needs=["edisp"],
    per_energy=True,
    at_offset=True,
)
def edisp_bias(run: Run, energy: float) -> float:
    """Mean of (E_reco - E) / E of the dispersion kernel, E being the centre of its bin."""
    center, mean, _ = _moments(run, energy)
    return (mean - center) / center


@feature(
    "edisp-res",
    description="Energy resolution: standard deviation of E_reco / E",
    needs=["edisp"],
    per_energy=True,
    at_offset=True,
)
def edisp_res(run: Run, energy: float) -> float:
    """Standard deviation of E_reco / E of the dispersion kernel, E being the centre of its bin."""
    center, _, variance = _moments(run, energy)
    return float(np.sqrt(variance)) / center


@feature(
    "edisp-bias50",
    description="Energy bias: median of E_reco / E, less 1",
    needs=["edisp"],
    per_energy=True,
    at_offset=True,
)
def edisp_bias50(run: Run, energy: float) -> float:
    """Median migration less 1, at the energy itself."""
    edisp, offset = run.irf_at_offset("edisp")
    (median,) = migration_quantiles(edisp, energy, offset, (0.5,), run.remark)
    return float(median) - 1.0


@feature(
    "edisp-res68",
    description="Energy resolution: half the central 68 % width of E_reco / E",
    needs=["edisp"],
    per_energy=True,
    at_offset=True,
)
def edisp_res68(run: Run, energy: float) -> float:
    """Half the distance of the 16 % and 84 % quantiles of the migration, at the energy itself."""
    edisp, offset = run.irf_at_offset("edisp")
    lo, hi = migration_quantiles(edisp, energy, offset, (0.16, 0.84), run.remark)
    return 0.5 * float(hi - lo)


FEATURES = (edisp_bias, edisp_res, edisp_bias50, edisp_res68)
