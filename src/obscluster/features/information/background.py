"""Expected background in each bin: from the background response, or from a rate of the user's.

Rates are per time of observation, dead time included, as the format has it (GADF: BKG_2D, BKG_3D,
notes). Where a run has neither, `obscluster.features.information.off_events` counts its own events.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from astropy import units as u
from numpy.typing import NDArray

from obscluster.exceptions import RequestError
from obscluster.features.base import NotComputableError
from obscluster.features.information.binning import Binning
from obscluster.gadf.irf import IRF

__all__ = [
    "BackgroundRate",
    "bin_rates",
    "make_rate",
    "rate_background",
    "response_background",
    "solid_angles",
]

Array = NDArray[np.float64]

# Directions on each ring, and on the circle around the pointing if the background turns.
_N_DIRECTIONS = 12
_TINY = np.finfo(float).tiny

BackgroundRate = tuple[tuple[float, ...], bool]
"""Rates per energy bin, and whether they are per sr (else inside the directional cut)."""


def response_background(
    bkg: IRF,
    binning: Binning,
    direction: tuple[float, float],
    ontime: float,
    cut: Array | None = None,
) -> Array:
    """Background counts from the background response.

    Parameters
    ----------
    bkg : `~obscluster.gadf.irf.IRF`
        A ``bkg_2d`` or a ``bkg_3d``. One that is aligned with altitude and azimuth turns with the
        field during the run, so it is averaged over the directions at the same offset.
    binning : `~obscluster.features.information.binning.Binning`
        The bins.
    direction : (float, float)
        Place of the source in the field of view, to the east and to the north, in degrees.
    ontime : float
        Duration of the observation in seconds, dead time included.
    cut : `~numpy.ndarray`, optional
        For energy alone: radius of the directional cut in degrees, shape (n_energies,); the rate
        at the source holds for all of it.

    Returns
    -------
    counts : `~numpy.ndarray`
        Shape (n_bins,).

    Raises
    ------
    NotComputableError
        If the source is outside the response.
    """
    axis, offset = bkg.axes["energy"], float(np.hypot(*direction))
    angle = np.arange(_N_DIRECTIONS) * 2 * np.pi / _N_DIRECTIONS
    circle = np.stack([np.cos(angle), np.sin(angle)])
    rings = binning.rings
    # Places on each ring, at the radius that halves its area; shape (2, n_rings, n_directions).
    radius = np.sqrt(0.5 * (rings[:-1] ** 2 + rings[1:] ** 2)) if len(rings) else np.zeros(1)
    places = np.array(direction)[:, np.newaxis, np.newaxis] + (
        radius[np.newaxis, :, np.newaxis] * circle[:, np.newaxis, :]
    )
    if "offset" in bkg.axes:
        _require(bkg, {"offset": offset}, offset)
        density = _interpolate(bkg, {"offset": np.hypot(*places)})
    else:
        _require(bkg, {"fov_lon": direction[0], "fov_lat": direction[1]}, offset)
        # Gammapy, too, takes an alignment that is not given to be that of the sky.
        if str(bkg.header.get("FOVALIGN", "RADEC")).strip().upper() == "ALTAZ":
            places = np.hypot(*places)[..., np.newaxis] * circle[:, np.newaxis, np.newaxis]
            places = places.reshape(2, len(radius), -1)
        density = _interpolate(bkg, {"fov_lon": places[0], "fov_lat": places[1]})
    density = np.clip(np.nan_to_num(density.mean(axis=-1)), 0.0, None)
    density *= bkg.unit.to("s-1 TeV-1 sr-1")
    rates = bin_rates(axis.scaled_center, density, axis.edges[[0, -1]], binning.energies)
    return np.asarray(ontime * rates * solid_angles(binning, cut)).ravel()


def _require(bkg: IRF, place: Mapping[str, float], offset: float) -> None:
    """Raise `NotComputableError` if the source is outside the response."""
    if not all(bkg.axes[name].contains(value) for name, value in place.items()):
        raise NotComputableError(
            f"the source, {offset:.2f} deg off, is outside the {bkg.hdu_class}"
        )


def _interpolate(bkg: IRF, places: Mapping[str, Array]) -> Array:
    """Density at places in the field of view, shape (n_energies, ...).

    Linear rather than logarithmic, so that empty cells do not dominate; beyond the outer centres
    as there.
    """
    # Each axis takes two neighbours: a sum over the corners of a cell.
    names = list(bkg.axes)[1:]
    values = np.asarray(bkg.arrays["BKG"])
    corners: list[tuple[tuple[Any, ...], Array]] = [((), np.ones(1))]
    for name in names:
        axis = bkg.axes[name]
        position = np.interp(places[name], axis.center, np.arange(axis.nbin))
        lower = np.minimum(position.astype(int), max(axis.nbin - 2, 0))
        upper, t = np.minimum(lower + 1, axis.nbin - 1), position - lower
        corners = [
            ((*index, i), weight * w)
            for index, weight in corners
            for i, w in ((lower, 1 - t), (upper, t))
        ]
    return np.asarray(sum(values[(slice(None), *index)] * weight for index, weight in corners))


def solid_angles(binning: Binning, cut: Array | None) -> Array:
    """Solid angles in sr: of the rings, shape (1, n_rings), or of the cut, (n_energies, 1)."""
    if binning.ring_edges:
        return binning.ring_solid_angles[np.newaxis, :]
    if cut is None:
        raise NotComputableError("the directional cut is not known, nor what background is in it")
    return np.asarray(2 * np.pi * (1 - np.cos(np.radians(cut))))[:, np.newaxis]


def bin_rates(log_center: Array, density: Array, reach: Array, edges: Array) -> Array:
    """Integrals of a density over bins.

    Interpolated in both logarithms between the centres and continued to the ends of the axis, as
    in Gammapy; each bin is then integrated along the power law between its edges.

    Parameters
    ----------
    log_center : `~numpy.ndarray`
        Logarithm of the energies in TeV at which the density is given, shape (n,).
    density : `~numpy.ndarray`
        Density in TeV-1, shape (n, n_rings).
    reach : `~numpy.ndarray`
        First and last energy of the axis in TeV; there is nothing beyond.
    edges : `~numpy.ndarray`
        Edges of the bins in TeV, shape (n_bins + 1,).

    Returns
    -------
    rates : `~numpy.ndarray`
        Shape (n_bins, n_rings).
    """
    lo, hi = np.clip(edges[:-1], *reach), np.clip(edges[1:], *reach)
    if len(density) == 1:
        return np.asarray(density * (hi - lo)[:, np.newaxis])
    logs = np.log(np.clip(density, _TINY, None))
    ends = []
    for energy in (lo, hi):
        x = np.log(energy)
        i = np.clip(np.searchsorted(log_center, x, side="right") - 1, 0, len(logs) - 2)
        t = ((x - log_center[i]) / (log_center[i + 1] - log_center[i]))[:, np.newaxis]
        # Continued from the last two, a density that rises steeply must not run away.
        value = np.minimum((1 - t) * logs[i] + t * logs[i + 1], logs.max() + 1.0)
        ends.append(value + x[:, np.newaxis])
    # E times the density is linear in the logarithm: its mean is the logarithmic mean of the ends.
    change = np.abs(ends[1] - ends[0])
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = np.where(change > 1e-9, -np.expm1(-change) / change, 1.0)
    width = np.log(hi / lo)[:, np.newaxis]
    rates = np.exp(np.maximum(*ends)) * mean * width
    return np.where(width > 0, rates, 0.0)


def make_rate(rate: Any, binning: Binning) -> BackgroundRate:
    """Background rate of the user's in plain numbers.

    Parameters
    ----------
    rate : `~astropy.units.Quantity`
        Rate in each energy bin, shape (n_energies,): per solid angle in s-1 sr-1, or, for
        point-like responses, inside the directional cut in s-1.
    binning : `~obscluster.features.information.binning.Binning`
        The bins.

    Raises
    ------
    RequestError
        If it is no rate, negative, or not one per energy bin.
    """
    try:
        quantity = u.Quantity(rate)
        per_solid_angle = quantity.unit.is_equivalent("s-1 sr-1")
        values = quantity.to_value("s-1 sr-1" if per_solid_angle else "s-1")
    except (TypeError, ValueError, u.UnitsError):
        text = f"background {rate!r}: expected auto, irf, events, or rates in s-1 sr-1 or s-1"
        raise RequestError(text) from None
    if values.shape != (binning.n_energies,):
        raise RequestError(
            f"background rates of shape {values.shape}; expected one for each of the "
            f"{binning.n_energies} energy bins"
        )
    if not (np.isfinite(values) & (values >= 0)).all():
        raise RequestError("background rates: expected numbers from 0")
    return tuple(float(value) for value in values), per_solid_angle


def rate_background(
    rate: BackgroundRate, binning: Binning, ontime: float, cut: Array | None
) -> Array:
    """Background counts from the user's rate, shape (n_bins,).

    Raises
    ------
    NotComputableError
        If the rate does not fit the response: see `make_rate`.
    """
    values, per_solid_angle = np.array(rate[0])[:, np.newaxis], rate[1]
    if per_solid_angle:
        return np.asarray(ontime * values * solid_angles(binning, cut)).ravel()
    if binning.ring_edges:
        raise NotComputableError(
            "a background rate in s-1 is that inside a directional cut; this run has none, so give "
            "it per solid angle, in s-1 sr-1"
        )
    return np.asarray(ontime * values).ravel()
