"""Point-spread function: containment radii.

``psf-radius`` is Gammapy's (`PSF.containment_radius`), a point of a fine grid; ``psf-r68`` and
``psf-r95`` are solved continuously.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from astropy import units as u
from numpy.typing import NDArray

from obscluster.features.base import NotComputableError, Run, feature
from obscluster.features.slices import Remark, at_energy, columns_at_energy, quantile
from obscluster.gadf.axis import Axis
from obscluster.gadf.psf import PROFILES
from obscluster.gadf.response import IRF
from obscluster.gadf.units import unit_factor

__all__ = ["FEATURES", "containment_radius", "nearest_containment_radius"]

Array = NDArray[np.float64]

_PER_SQUARE_DEGREE = u.deg**-2
# Refinement of the rad axis, and the axis of PSFs that are given by parameters, as in Gammapy.
_RAD_FACTOR = 20
_PARAMETRIC_RAD = Axis.from_edges("rad", np.linspace(0.0, 0.66, 67))
# Containments that differ by less are the same but for rounding.
_PLATEAU = 1e-9
# A parametric PSF that holds less than the fraction within this many degrees never will.
_FARTHEST = 90.0
# What a tabulated PSF may integrate to.
_NORMAL = (0.9, 1.1)


def containment_radius(
    psf: IRF, energy: float, offset: float, fraction: float, remark: Remark | None = None
) -> float:
    """Radius that contains a fraction of the PSF.

    Parameters
    ----------
    psf : `~obscluster.gadf.irf.IRF`
        A ``psf_table``, ``psf_3gauss`` or ``psf_king``.
    energy : float
        True energy in TeV.
    offset : float
        Offset from the pointing in degrees.
    fraction : float
        Fraction of all gamma rays, between 0 and 1.
    remark : callable, optional
        Is told what is doubtful about the value.

    Returns
    -------
    radius : float
        In degrees.

    Raises
    ------
    NotComputableError
        Outside the response, where it is empty, or where it never reaches the fraction.
    """
    # It takes 0.4 s to load, as long as the features of a hundred runs.
    from scipy.optimize import brentq

    if psf.is_parametric:
        parameters = _parameters(psf, energy, offset, remark)
        containment = PROFILES[psf.hdu_class].containment

        def excess(rad: float) -> float:
            return float(containment(np.asarray(rad), parameters)) - fraction

        if not excess(_FARTHEST) >= 0:
            raise _too_little(excess(_FARTHEST) + fraction, fraction, energy, offset, _FARTHEST)
        return float(brentq(excess, 0.0, _FARTHEST, xtol=1e-9))
    axis = psf.axes["rad"]
    rings = _rings(psf, energy, offset, remark)
    total = np.concatenate([[0.0], np.cumsum(rings)])
    # In a bin of constant density containment grows with the square of the radius.
    inner = max(axis.edges[0], 0.0)
    squares = np.concatenate([[inner], axis.edges[1:]]) ** 2
    square = quantile(squares, np.maximum.accumulate(total), fraction)
    if not np.isfinite(square):
        raise _too_little(total.max(), fraction, energy, offset)
    return float(np.sqrt(square))


def nearest_containment_radius(
    psf: IRF, energy: float, offset: float, fraction: float, remark: Remark | None = None
) -> float:
    """Containment radius on the refined rad axis, nearest point, as Gammapy defines it.

    Parameters
    ----------
    psf, energy, offset, fraction, remark
        See `containment_radius`.

    Returns
    -------
    radius : float
        In degrees.

    Raises
    ------
    NotComputableError
        Outside the response, where it is empty, or where it never reaches the fraction. (Gammapy
        then gives a point of the grid.)
    """
    within: float | None
    if psf.is_parametric:
        rad = _refined_center(_PARAMETRIC_RAD)
        parameters = _parameters(psf, energy, offset, remark)
        containment = PROFILES[psf.hdu_class].containment(rad, parameters)
        largest, within = float(containment[-1]), float(rad[-1])
    else:
        axis = psf.axes["rad"]
        rad, sums = _refined_center(axis), _rings(psf, energy, offset, remark).cumsum()
        near = _bins_near(sums, fraction)
        if near is not None:
            points = slice(near.start * _RAD_FACTOR, near.stop * _RAD_FACTOR)
            apart = np.abs(_interpolate_sums(axis, sums, points) - fraction)
            return float(rad[points][apart.argmin()])
        containment = _interpolate_sums(axis, sums)
        largest, within = float(sums.max()), None
    if not largest >= fraction:
        raise _too_little(largest, fraction, energy, offset, within)
    return float(rad[np.argmin(np.abs(containment - fraction))])


def _bins_near(sums: Array, fraction: float) -> slice | None:
    """Bins of rad that hold the refined point nearest to a fraction, None where any may.

    Containment rises, so it is in the bin where the fraction is passed, or next to it; or in one
    before from which on nothing is added, as of equally near points the first counts.
    """
    if not (sums[-1] > fraction + _PLATEAU and sums[0] >= 0 and (sums[1:] >= sums[:-1]).all()):
        return None
    passed = int(sums.searchsorted(fraction))
    first = int(sums.searchsorted(sums[max(passed - 1, 0)] - _PLATEAU))
    last = int(sums.searchsorted(sums[passed] + _PLATEAU, side="right"))
    # The largest containment at a refined point is less than that of the last edge.
    return slice(max(first - 1, 0), last + 1) if last < len(sums) - 1 else None


def _rings(psf: IRF, energy: float, offset: float, remark: Remark | None) -> Array:
    """Content of each bin of rad."""
    density = at_energy(psf, "RPSF", energy, offset, remark=remark)
    rings = density * _ring_areas(psf.axes["rad"], psf.unit)
    total = float(np.add.reduce(rings))
    if not 0 < total < np.inf:
        # Continued beyond the outer bins, or in numbers too large to add.
        raise _unusable(psf, energy, offset)
    if remark is not None and not _NORMAL[0] <= total <= _NORMAL[1]:
        remark(f"the PSF does not integrate to one ({energy:g} TeV, {offset:.2f} deg: {total:.3g})")
    return rings


@lru_cache(maxsize=64)
def _ring_areas(axis: Axis, unit: u.UnitBase) -> Array:
    """Solid angle of each bin of rad, per that of the unit of a PSF."""
    square_degrees = 2 * np.pi * axis.center * np.diff(axis.edges)
    return np.asarray(square_degrees * unit_factor(unit, _PER_SQUARE_DEGREE))


def _parameters(psf: IRF, energy: float, offset: float, remark: Remark | None) -> dict[str, Array]:
    values = columns_at_energy(psf, energy, offset, remark=remark)
    parameters = {name: np.maximum(value, 0.0) for name, value in values.items()}
    if not PROFILES[psf.hdu_class].usable(parameters):
        raise _unusable(psf, energy, offset)
    return parameters


def _unusable(psf: IRF, energy: float, offset: float) -> NotComputableError:
    return NotComputableError(
        f"continued beyond the outer bins there is no PSF left "
        f"({psf.hdu_class} at {energy:g} TeV, {offset:.2f} deg)"
    )


@lru_cache(maxsize=64)
def _refined_center(axis: Axis) -> Array:
    """Centres of the bins after each one is divided into equal parts."""
    fine = np.arange(axis.nbin * _RAD_FACTOR + 1) / _RAD_FACTOR
    edges = np.interp(fine, np.arange(axis.nbin + 1), axis.edges)
    return np.asarray(0.5 * (edges[:-1] + edges[1:]))


def _interpolate_sums(axis: Axis, sums: Array, points: slice = slice(None)) -> Array:
    """Containment at refined centres, from the sums that belong to the bins' upper edges.

    Below the first one it is extrapolated over half a bin, and zero further in, as in Gammapy.
    """
    if axis.nbin == 1:
        return np.where(_refined_center(axis)[points] >= axis.edges[1], sums[0], 0.0)
    i, beyond, width, inner = (values[points] for values in _places(axis))
    below = sums[i]
    slopes = (sums[i + 1] - below) / width
    containment = np.maximum(below + slopes * beyond, 0.0)
    containment[inner] = 0.0
    return containment


@lru_cache(maxsize=64)
def _places(axis: Axis) -> tuple[NDArray[np.intp], Array, Array, NDArray[np.bool_]]:
    """Where the refined centres lie between upper edges.

    Which edge is below, the distance from it, that to the next one, and whether it is too near the
    centre to extrapolate.
    """
    nodes, rad = axis.edges[1:], _refined_center(axis)
    i = np.clip(np.searchsorted(nodes, rad, side="right") - 1, 0, len(nodes) - 2)
    too_near = rad < nodes[0] - 0.5 * (nodes[1] - nodes[0])
    return i, rad - nodes[i], nodes[i + 1] - nodes[i], too_near


def _too_little(
    largest: float, fraction: float, energy: float, offset: float, within: float | None = None
) -> NotComputableError:
    limit = "" if within is None else f" within {within:.3g} deg"
    return NotComputableError(
        f"the PSF never holds {100 * fraction:g} % ({energy:g} TeV, {offset:.2f} deg: "
        f"{100 * largest:.1f} % at most{limit})"
    )


@feature(
    "psf-radius",
    unit="deg",
    description="Containment radius of the PSF",
    needs=["psf"],
    per_energy=True,
    at_offset=True,
)
def psf_radius(run: Run, energy: float) -> float:
    """Containment radius at the fraction asked, nearest point of the refined rad axis."""
    psf, offset = run.irf_at_offset("psf")
    return nearest_containment_radius(psf, energy, offset, run.containment_fraction, run.remark)


@feature(
    "psf-r68",
    unit="deg",
    description="68 % containment radius of the PSF",
    needs=["psf"],
    per_energy=True,
    at_offset=True,
)
def psf_r68(run: Run, energy: float) -> float:
    """Radius that contains 68 %, solved continuously."""
    psf, offset = run.irf_at_offset("psf")
    return containment_radius(psf, energy, offset, 0.68, run.remark)


@feature(
    "psf-r95",
    unit="deg",
    description="95 % containment radius of the PSF",
    needs=["psf"],
    per_energy=True,
    at_offset=True,
)
def psf_r95(run: Run, energy: float) -> float:
    """Radius that contains 95 %, solved continuously."""
    psf, offset = run.irf_at_offset("psf")
    return containment_radius(psf, energy, offset, 0.95, run.remark)


FEATURES = (psf_radius, psf_r68, psf_r95)
