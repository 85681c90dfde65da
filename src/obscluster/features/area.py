"""Effective area, background and directional cut."""

from __future__ import annotations

from typing import Any

import numpy as np
from astropy import units as u
from numpy.typing import NDArray

from obscluster.features.base import NotComputableError, Run, feature
from obscluster.features.slices import (
    Remark,
    at_energy,
    at_offset,
    check_energy,
    check_offset,
    no_value,
)
from obscluster.gadf.axis import defined_bins
from obscluster.gadf.response import IRF
from obscluster.gadf.units import unit_factor

__all__ = ["FEATURES", "area_threshold", "background_rate", "remark_empty_background"]

Array = NDArray[np.float64]

_AREA = u.m**2
_RATE = u.Unit("s-1 TeV-1 sr-1")
# Fraction of the largest area that defines the threshold.
_THRESHOLD_FRACTION = 0.1
# Share of background bins without events that is worth a word.
_MANY_EMPTY = 0.01
# Directions on the ring over which a three-dimensional background is averaged.
_RING_POINTS = 36


def area_threshold(
    aeff: IRF,
    offset: float,
    fraction: float = _THRESHOLD_FRACTION,
    remark: Remark | None = None,
) -> float:
    """Energy where the effective area first reaches a fraction of its maximum.

    Parameters
    ----------
    aeff : `~obscluster.gadf.irf.IRF`
        An ``aeff_2d``.
    offset : float
        Offset from the pointing in degrees.
    fraction : float
        Fraction of the maximum over all energies at this offset.
    remark : callable, optional
        Is told what is doubtful about the value.

    Returns
    -------
    energy : float
        In TeV; interpolated linearly in the logarithm of the energy, as the area is.

    Raises
    ------
    NotComputableError
        Outside the response, where it is empty, or where the lowest energy is above the threshold
        or the energy before it has no value.
    """
    area = at_offset(aeff, "EFFAREA", offset, remark=remark)
    known = np.isfinite(area)
    level = fraction * area.max(where=known, initial=0.0)
    if not level > 0:
        raise NotComputableError(f"the effective area is zero ({offset:.2f} deg)")
    above = int(np.argmax(area >= level))
    axis = aeff.axes["energy_true"]
    if not known[:above].any():
        raise NotComputableError(
            f"the effective area is above its threshold at the lowest energy "
            f"({axis.center[above]:.3g} TeV, {offset:.2f} deg)"
        )
    if not known[above - 1]:
        raise no_value(aeff, f"{axis.center[above - 1]:.3g} TeV, {offset:.2f} deg")
    x = axis.scaled_center[above - 1 : above + 1]
    return float(np.exp(np.interp(level, area[above - 1 : above + 1], x)))


def background_rate(bkg: IRF, energy: float, offset: float, remark: Remark | None = None) -> float:
    """Background rate per solid angle above a reconstructed energy.

    Parameters
    ----------
    bkg : `~obscluster.gadf.irf.IRF`
        A ``bkg_2d``, or a ``bkg_3d``, which is averaged over the ring at the offset.
    energy : float
        Reconstructed energy in TeV.
    offset : float
        Offset from the pointing in degrees.
    remark : callable, optional
        Is told what is doubtful about the value.

    Returns
    -------
    rate : float
        In s-1 sr-1, integrated bin by bin to the end of the energy axis; of the bin that holds the
        energy, the part above it, along a power law through its neighbour where there is one. A bin
        of zero adds nothing.

    Raises
    ------
    NotComputableError
        If energy or offset is outside the response, or it is empty.
    """
    check_energy(bkg, energy, "energy")
    axis = bkg.axes["energy"]
    bins: tuple[NDArray[np.intp], ...]
    if bkg.hdu_class == "bkg_2d":
        check_offset(bkg, offset)
        first, second, t = bkg.axes["offset"].neighbours(offset)
        bins, weights = (np.array([first, second]),), np.array([1 - t, t])
    else:
        bins, weights = _ring(bkg, offset)
    # Linear rather than logarithmic, so that empty cells do not dominate.
    block = np.asarray(bkg.arrays["BKG"][:, *bins], dtype=float)
    density = np.where(np.isfinite(block), block, 0.0) @ weights
    if remark is not None:
        energies = slice(int(np.searchsorted(axis.edges[1:-1], energy, side="right")), None)
        remark_empty_background(bkg, tuple(index[weights != 0] for index in bins), energies, remark)
    density = np.clip(density, 0.0, None) * unit_factor(bkg.unit, _RATE)
    lower, upper = axis.edges[:-1], axis.edges[1:]
    total = float(_integrals(density, axis.center, np.clip(lower, energy, upper), upper).sum())
    if not total > 0:
        raise NotComputableError(
            f"the background is zero above the energy ({energy:g} TeV, {offset:.2f} deg)"
        )
    return total


def remark_empty_background(
    bkg: IRF, bins: tuple[NDArray[np.intp], ...], energies: slice, remark: Remark
) -> None:
    """Tell if of the bins that are used many are zero while others at the same place are not.

    Parameters
    ----------
    bkg : `~obscluster.gadf.irf.IRF`
        A ``bkg_2d`` or a ``bkg_3d``.
    bins : tuple of `~numpy.ndarray`
        Bins that are used along the axes behind the energy, shape (n,) each.
    energies : slice
        Bins of the energy that are used.
    remark : callable
        Is told.
    """
    places: tuple[Any, ...] = (slice(None), *bins)
    block = {name: values[places] for name, values in bkg.arrays.items()}
    invalid = {name: mask[places] for name, mask in bkg.invalid.items()}
    empty = ~defined_bins(bkg.hdu_class, block, bkg.axes, invalid)[energies]
    if empty.size and empty.mean() > _MANY_EMPTY:
        remark(
            f"background bins without events count as zero ({bkg.hdu_class}: "
            f"{100 * empty.mean():.0f} % of those used)"
        )


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


def _ring(bkg: IRF, offset: float) -> tuple[tuple[NDArray[np.intp], NDArray[np.intp]], Array]:
    """Bins around the directions at an offset, and their weights in the mean over these.

    Alignments need not be known for that.
    """
    angle = np.arange(_RING_POINTS) * 2 * np.pi / _RING_POINTS
    lon, lat = offset * np.cos(angle), offset * np.sin(angle)
    axes = bkg.axes
    if not (axes["fov_lon"].contains(lon) & axes["fov_lat"].contains(lat)).all():
        reach = min(abs(axes[name].edges[[0, -1]]).min() for name in ("fov_lon", "fov_lat"))
        raise NotComputableError(
            f"offset outside the field of view of the response (bkg_3d: {offset:.2f} deg, "
            f"expected up to {reach:.2f} deg)"
        )
    corners = []
    for x, y in zip(lon, lat, strict=True):
        i, j, s = axes["fov_lon"].neighbours(x)
        k, m, t = axes["fov_lat"].neighbours(y)
        corners += [(i, k, (1 - s) * (1 - t)), (i, m, (1 - s) * t)]
        corners += [(j, k, s * (1 - t)), (j, m, s * t)]
    first, second, weights = zip(*corners, strict=True)
    return (np.array(first), np.array(second)), np.array(weights) / _RING_POINTS


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
    value = float(at_energy(irf, "EFFAREA", energy, offset, remark=run.remark))
    value *= unit_factor(irf.unit, _AREA)
    threshold = run.once("threshold of energy", lambda: _run_threshold(irf, offset))
    if energy < threshold:
        run.remark(
            f"energy below the run's threshold (aeff_2d: {energy:g} TeV, threshold at "
            f"{threshold:.3g} TeV)"
        )
    return max(value, 0.0)


def _run_threshold(aeff: IRF, offset: float) -> float:
    """Threshold in TeV: LO_THRES of the header, else that of the area; 0 if neither is known."""
    try:
        threshold = float(aeff.header.get("LO_THRES", 0.0))
    except (TypeError, ValueError):
        threshold = 0.0
    if threshold > 0:
        return threshold
    try:
        return area_threshold(aeff, offset)
    except NotComputableError:
        return 0.0


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
    return area_threshold(irf, offset, remark=run.remark)


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
    return background_rate(irf, energy, offset, run.remark)


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
    value = float(at_energy(irf, "RAD_MAX", energy, offset, "energy", run.remark))
    if not value > 0:
        raise NotComputableError(
            f"continued beyond the outer bins there is no cut left "
            f"({irf.hdu_class} at {energy:g} TeV, {offset:.2f} deg)"
        )
    return value * unit_factor(irf.unit, u.deg)


FEATURES = (aeff, aeff_threshold, bkg_rate, rad_max)
