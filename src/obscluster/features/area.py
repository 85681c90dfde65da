"""Effective area, background and directional cut."""

from __future__ import annotations

import numpy as np
from astropy import units as u
from numpy.typing import NDArray

from obscluster.features.base import NotComputableError, Run, feature
from obscluster.features.slices import at_energy, at_offset, check_energy
from obscluster.gadf.irf import IRF

__all__ = ["FEATURES", "area_threshold", "background_rate"]

Array = NDArray[np.float64]

# Fraction of the largest area that defines the threshold.
_THRESHOLD_FRACTION = 0.1
# Directions on the ring over which a three-dimensional background is averaged.
_RING_POINTS = 36


def area_threshold(aeff: IRF, offset: float, fraction: float = _THRESHOLD_FRACTION) -> float:
    """Energy where the effective area first reaches a fraction of its maximum.

    Parameters
    ----------
    aeff : `~obscluster.gadf.irf.IRF`
        An ``aeff_2d``.
    offset : float
        Offset from the pointing in degrees.
    fraction : float
        Fraction of the maximum over all energies at this offset.

    Returns
    -------
    energy : float
        In TeV; interpolated linearly in the logarithm of the energy, as the area is.

    Raises
    ------
    NotComputableError
        Outside the response, where it is empty, or where the lowest energy is above the threshold.
    """
    area = np.nan_to_num(at_offset(aeff, "EFFAREA", offset))
    level = fraction * area.max()
    if not level > 0:
        raise NotComputableError(f"the effective area is zero at {offset:.2f} deg")
    above = int(np.argmax(area >= level))
    axis = aeff.axes["energy_true"]
    if above == 0:
        raise NotComputableError(
            f"the effective area is above its threshold at the lowest energy, "
            f"{axis.center[0]:.3g} TeV"
        )
    x = axis.scaled_center[above - 1 : above + 1]
    return float(np.exp(np.interp(level, area[above - 1 : above + 1], x)))


def background_rate(bkg: IRF, energy: float, offset: float) -> float:
    """Background rate per solid angle above a reconstructed energy.

    Parameters
    ----------
    bkg : `~obscluster.gadf.irf.IRF`
        A ``bkg_2d``, or a ``bkg_3d``, which is averaged over the ring at the offset.
    energy : float
        Reconstructed energy in TeV.
    offset : float
        Offset from the pointing in degrees.

    Returns
    -------
    rate : float
        In s-1 sr-1, integrated bin by bin to the end of the energy axis; of the bin that holds the
        energy, the part above it, along a power law through its neighbour where there is one.

    Raises
    ------
    NotComputableError
        If energy or offset is outside the response, or it is empty.
    """
    check_energy(bkg, energy, "energy")
    axis = bkg.axes["energy"]
    if bkg.hdu_class == "bkg_2d":
        density = at_offset(bkg, "BKG", offset)
    else:
        density = _ring_mean(bkg, offset)
    density = np.clip(np.nan_to_num(density), 0.0, None) * bkg.unit.to("s-1 TeV-1 sr-1")
    lower, upper = axis.edges[:-1], axis.edges[1:]
    rates = [
        _power_law_integral(density, axis.center, i, max(lo, energy), hi)
        for i, (lo, hi) in enumerate(zip(lower, upper, strict=True))
        if hi > energy
    ]
    total = float(np.sum(rates))
    if not total > 0:
        raise NotComputableError(f"the background is zero above {energy:g} TeV at {offset:.2f} deg")
    return total


def _power_law_integral(density: Array, center: Array, i: int, lo: float, hi: float) -> float:
    """Integral of a bin's density between two energies of it, along the local power law."""
    j = i + 1 if i + 1 < len(center) and density[i + 1] > 0 else i - 1
    if not density[i] > 0:
        return 0.0
    if j < 0 or not density[j] > 0:
        return float(density[i] * (hi - lo))
    slope = np.log(density[j] / density[i]) / np.log(center[j] / center[i])
    x, y = lo / center[i], hi / center[i]
    if abs(slope + 1) < 1e-9:
        return float(density[i] * center[i] * np.log(y / x))
    return float(density[i] * center[i] * (y ** (slope + 1) - x ** (slope + 1)) / (slope + 1))


def _ring_mean(bkg: IRF, offset: float) -> Array:
    """Mean over directions at an offset, shape (n_energies,): alignments need not be known."""
    angle = np.arange(_RING_POINTS) * 2 * np.pi / _RING_POINTS
    lon, lat = offset * np.cos(angle), offset * np.sin(angle)
    axes = bkg.axes
    if not (axes["fov_lon"].contains(lon) & axes["fov_lat"].contains(lat)).all():
        reach = min(abs(axes[name].edges[[0, -1]]).min() for name in ("fov_lon", "fov_lat"))
        raise NotComputableError(
            f"offset {offset:.2f} deg is outside the bkg_3d's field of view of {reach:.2f} deg"
        )
    # Linear rather than logarithmic, so that empty cells do not dominate.
    values = np.asarray(bkg.arrays["BKG"], dtype=float)
    total = np.zeros(axes["energy"].nbin)
    for x, y in zip(lon, lat, strict=True):
        i, j, s = axes["fov_lon"].neighbours(x)
        k, m, t = axes["fov_lat"].neighbours(y)
        total += (1 - s) * ((1 - t) * values[:, i, k] + t * values[:, i, m])
        total += s * ((1 - t) * values[:, j, k] + t * values[:, j, m])
    return total / _RING_POINTS


@feature("aeff", unit="m2", description="Effective area", needs=["aeff"], per_energy=True)
def aeff(run: Run, energy: float) -> float:
    """Effective area, interpolated."""
    irf = run.irf("aeff")
    value = float(at_energy(irf, "EFFAREA", energy, run.offset_for(irf))) * irf.unit.to(u.m**2)
    if not np.isfinite(value):
        raise NotComputableError(f"the effective area at {energy:g} TeV is no number")
    return max(value, 0.0)


@feature(
    "aeff-threshold",
    unit="TeV",
    description="Energy where the effective area reaches 10 % of its maximum",
    needs=["aeff"],
)
def aeff_threshold(run: Run) -> float:
    """Energy threshold by effective area."""
    irf = run.irf("aeff")
    return area_threshold(irf, run.offset_for(irf))


@feature(
    "bkg-rate",
    unit="s-1 sr-1",
    description="Background rate per solid angle above a reconstructed energy",
    needs=["bkg"],
    per_energy=True,
)
def bkg_rate(run: Run, energy: float) -> float:
    """Integral background rate at the offset."""
    irf = run.irf("bkg")
    return background_rate(irf, energy, run.offset_for(irf))


@feature(
    "rad-max",
    unit="deg",
    description="Directional cut of a point-like response",
    needs=["rad_max"],
    per_energy=True,
)
def rad_max(run: Run, energy: float) -> float:
    """Cut at a reconstructed energy, interpolated."""
    irf = run.irf("rad_max")
    return float(at_energy(irf, "RAD_MAX", energy, run.offset_for(irf), "energy")) * irf.unit.to(
        u.deg
    )


FEATURES = (aeff, aeff_threshold, bkg_rate, rad_max)
