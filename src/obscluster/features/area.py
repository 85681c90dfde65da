"""Effective area, background and directional cut."""

from __future__ import annotations

import numpy as np
from astropy import units as u
from numpy.typing import NDArray

from obscluster.features.base import NotComputableError, Run, feature
from obscluster.features.slices import at_energy, at_offset, check_energy
from obscluster.gadf.irf import IRF
from obscluster.gadf.units import unit_factor

__all__ = ["FEATURES", "area_threshold", "background_rate"]

Array = NDArray[np.float64]

_AREA = u.m**2
_RATE = u.Unit("s-1 TeV-1 sr-1")
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
    density = np.clip(np.nan_to_num(density), 0.0, None) * unit_factor(bkg.unit, _RATE)
    lower, upper = axis.edges[:-1], axis.edges[1:]
    total = float(_integrals(density, axis.center, np.clip(lower, energy, upper), upper).sum())
    if not total > 0:
        raise NotComputableError(f"the background is zero above {energy:g} TeV at {offset:.2f} deg")
    return total


def _integrals(density: Array, center: Array, lo: Array, hi: Array) -> Array:
    """Integral of each bin's density between two energies of it, along the local power law.

    The law goes through the next bin, or the one before where the next is empty; without a
    neighbour, the density is constant.
    """
    filled = density > 0
    # A bin beyond the ends, which is empty, stands in for what is not there.
    padded = np.concatenate([[0.0], density, [0.0]])
    following, before = padded[2:], padded[:-2]
    use_following = following > 0
    energies = np.concatenate([center[:1], center, center[-1:]])
    other = np.where(use_following, following, before)
    at = np.where(use_following, energies[2:], energies[:-2])
    straight = filled & (other > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        slope = np.log(other / density) / np.log(at / center)
        x, y, power = lo / center, hi / center, slope + 1
        by_law = density * center * (y**power - x**power) / power
        by_logarithm = density * center * np.log(y / x)
        integral = np.where(np.abs(power) < 1e-9, by_logarithm, by_law)
    constant = density * (hi - lo)
    return np.asarray(np.where(filled, np.where(straight, integral, constant), 0.0))


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


@feature(
    "aeff",
    unit="m2",
    description="Effective area",
    needs=["aeff"],
    per_energy=True,
    at_offset=True,
)
def aeff(run: Run, energy: float) -> float:
    """Effective area, interpolated."""
    irf, offset = run.irf_at_offset("aeff")
    value = float(at_energy(irf, "EFFAREA", energy, offset))
    value *= unit_factor(irf.unit, _AREA)
    if not np.isfinite(value):
        raise NotComputableError(f"the effective area at {energy:g} TeV is no number")
    return max(value, 0.0)


@feature(
    "aeff-threshold",
    unit="TeV",
    description="Energy where the effective area reaches 10 % of its maximum",
    needs=["aeff"],
    at_offset=True,
)
def aeff_threshold(run: Run) -> float:
    """Energy threshold by effective area."""
    irf, offset = run.irf_at_offset("aeff")
    return area_threshold(irf, offset)


@feature(
    "bkg-rate",
    unit="s-1 sr-1",
    description="Background rate per solid angle above a reconstructed energy",
    needs=["bkg"],
    per_energy=True,
    at_offset=True,
)
def bkg_rate(run: Run, energy: float) -> float:
    """Integral background rate at the offset."""
    irf, offset = run.irf_at_offset("bkg")
    return background_rate(irf, energy, offset)


@feature(
    "rad-max",
    unit="deg",
    description="Directional cut of a point-like response",
    needs=["rad_max"],
    per_energy=True,
    at_offset=True,
)
def rad_max(run: Run, energy: float) -> float:
    """Cut at a reconstructed energy, interpolated."""
    irf, offset = run.irf_at_offset("rad_max")
    value = float(at_energy(irf, "RAD_MAX", energy, offset, "energy"))
    return value * unit_factor(irf.unit, u.deg)


FEATURES = (aeff, aeff_threshold, bkg_rate, rad_max)
