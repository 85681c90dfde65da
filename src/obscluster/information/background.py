"""Expected background in each bin: from a response, a rate of the user's, or the runs' own events.

Rates are per time of observation, dead time included, as the format has it (GADF: BKG_2D, BKG_3D,
notes). Where a run has neither, its own
events are counted.

Events are counted in reflected regions: circles at the offset of the source around the pointing,
where the acceptance is the same. A source too close to the pointing for that has a ring around it
instead, which is not corrected for the acceptance.

A single run has few events, and their scatter from bin to bin would look like a difference between
runs, which costs information when they are stacked. So the runs share a spectrum, from all of their
events together; a run has its own normalisation, and tilts and bends the spectrum as far as its
events demand, against a prior whose width is that which makes the events of all runs most likely.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from astropy import units as u
from numpy.typing import NDArray

from obscluster.exceptions import RequestError
from obscluster.features.area import remark_empty_background
from obscluster.features.base import NotComputableError
from obscluster.features.slices import Remark
from obscluster.gadf.response import IRF
from obscluster.information.counts import Binning

__all__ = [
    "BackgroundRate",
    "bin_rates",
    "make_rate",
    "off_counts",
    "rate_background",
    "response_background",
    "shared_rates",
    "solid_angles",
]

Array = NDArray[np.float64]

# Directions on each ring, and on the circle around the pointing if the background turns.
_N_DIRECTIONS = 12
_TINY = np.finfo(float).tiny
# Edges that differ by less are the same (single precision).
_SLACK = 1e-6

BackgroundRate = tuple[tuple[float, ...], bool]
"""Rates per energy bin, and whether they are per sr (else inside the directional cut)."""


def response_background(
    bkg: IRF,
    binning: Binning,
    direction: tuple[float, float],
    ontime: float,
    cut: Array | None = None,
    safe: NDArray[np.bool_] | None = None,
    remark: Remark | None = None,
) -> Array:
    """Background counts from the background response; a bin of zero adds nothing.

    Parameters
    ----------
    bkg : `~obscluster.gadf.irf.IRF`
        A ``bkg_2d`` or a ``bkg_3d``. One that is aligned with altitude and azimuth turns with the
        field during the run, so it is averaged over the directions at the same offset.
    binning : `~obscluster.information.counts.Binning`
        The bins.
    direction : (float, float)
        Place of the source in the field of view, to the east and to the north, in degrees.
    ontime : float
        Duration of the observation in seconds, dead time included.
    cut : `~numpy.ndarray`, optional
        For energy alone: radius of the directional cut in degrees, shape (n_energies,); the rate
        at the source holds for all of it.
    safe : `~numpy.ndarray`, optional
        Bins that count, shape (n_bins,).
    remark : callable, optional
        Is told if of the bins for these many are zero while others at the same place are not.

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
        corners = _corners(bkg, {"offset": np.hypot(*places)})
    else:
        _require(bkg, {"fov_lon": direction[0], "fov_lat": direction[1]}, offset)
        # Gammapy, too, takes an alignment that is not given to be that of the sky.
        if str(bkg.header.get("FOVALIGN", "RADEC")).strip().upper() == "ALTAZ":
            places = np.hypot(*places)[..., np.newaxis] * circle[:, np.newaxis, np.newaxis]
            places = places.reshape(2, len(radius), -1)
        corners = _corners(bkg, {"fov_lon": places[0], "fov_lat": places[1]})
    if remark is not None:
        # Bins between edges which the energy bins that count share.
        lo, hi = binning.energies[:-1], binning.energies[1:]
        if safe is not None:
            counts = safe.reshape(len(lo), -1).any(axis=1)
            lo, hi = lo[counts], hi[counts]
        first = int(np.searchsorted(axis.edges, lo.min() * (1 + _SLACK), side="right")) - 1
        energies = slice(max(first, 0), int(np.searchsorted(axis.edges, hi.max() * (1 - _SLACK))))
        used = zip(*(index for index, weight in corners if weight.any()), strict=True)
        bins = tuple(np.concatenate([part.ravel() for part in parts]) for parts in used)
        remark_empty_background(bkg, bins, energies, remark)
    values = np.asarray(bkg.arrays["BKG"])
    density = sum(values[(slice(None), *index)] * weight for index, weight in corners)
    density = np.clip(np.nan_to_num(np.mean(density, axis=-1)), 0.0, None)
    density *= bkg.unit.to("s-1 TeV-1 sr-1")
    rates = bin_rates(axis.scaled_center, density, axis.edges, binning.energies)
    return np.asarray(ontime * rates * solid_angles(binning, cut)).ravel()


def _require(bkg: IRF, place: Mapping[str, float], offset: float) -> None:
    """Raise `NotComputableError` if the source is outside the response."""
    if not all(bkg.axes[name].contains(value) for name, value in place.items()):
        raise NotComputableError(
            f"the source, {offset:.2f} deg off, is outside the {bkg.hdu_class}"
        )


def _corners(bkg: IRF, places: Mapping[str, Array]) -> list[tuple[tuple[Any, ...], Array]]:
    """Bins in the field of view around places, and their weights: a sum over the corners of a cell.

    Linear rather than logarithmic, so that empty cells do not dominate; beyond the outer centres
    as there.
    """
    corners: list[tuple[tuple[Any, ...], Array]] = [((), np.ones(1))]
    for name in list(bkg.axes)[1:]:
        axis = bkg.axes[name]
        position = np.interp(places[name], axis.center, np.arange(axis.nbin))
        lower = np.minimum(position.astype(int), max(axis.nbin - 2, 0))
        upper, t = np.minimum(lower + 1, axis.nbin - 1), position - lower
        corners = [
            ((*index, i), weight * w)
            for index, weight in corners
            for i, w in ((lower, 1 - t), (upper, t))
        ]
    return corners


def solid_angles(binning: Binning, cut: Array | None) -> Array:
    """Solid angles in sr: of the rings, shape (1, n_rings), or of the cut, (n_energies, 1)."""
    if binning.ring_edges:
        return binning.ring_solid_angles[np.newaxis, :]
    if cut is None:
        raise NotComputableError("the directional cut is not known, nor what background is in it")
    return np.asarray(2 * np.pi * (1 - np.cos(np.radians(cut))))[:, np.newaxis]


def bin_rates(log_center: Array, density: Array, bounds: Array, edges: Array) -> Array:
    """Integrals of a density over bins.

    Interpolated in both logarithms between the centres and continued to the ends of the axis, as
    in Gammapy; each bin is then integrated along the power law between its edges. Where the density
    is zero it is interpolated between the others, and those bins of the axis add nothing.

    Parameters
    ----------
    log_center : `~numpy.ndarray`
        Logarithm of the energies in TeV at which the density is given, shape (n,).
    density : `~numpy.ndarray`
        Density in TeV-1, shape (n, n_rings).
    bounds : `~numpy.ndarray`
        Edges of the axis in TeV, shape (n + 1,); there is nothing beyond.
    edges : `~numpy.ndarray`
        Edges of the bins in TeV, shape (n_bins + 1,).

    Returns
    -------
    rates : `~numpy.ndarray`
        Shape (n_bins, n_rings).
    """
    lo, hi = (np.clip(some, *bounds[[0, -1]]) for some in (edges[:-1], edges[1:]))
    if len(density) == 1:
        return np.asarray(density * (hi - lo)[:, np.newaxis])
    filled = density > 0
    if not filled.any():
        return np.zeros((len(lo), density.shape[1]))
    logs = _logs(log_center, density)
    # Continued from the last two, a density that rises steeply must not run away.
    most = logs[filled].max() + 1.0
    x = np.log([lo, hi])[:, :, np.newaxis]
    ends = []
    for place in x:
        i = np.clip(np.searchsorted(log_center, place[:, 0], side="right") - 1, 0, len(logs) - 2)
        t = (place - log_center[i, np.newaxis]) / np.diff(log_center)[i, np.newaxis]
        ends.append(np.minimum((1 - t) * logs[i] + t * logs[i + 1], most) + place)
    rates = _integral(*x, *ends)
    if filled.all():
        return rates
    slope = np.divide(ends[1] - ends[0], x[1] - x[0], out=np.zeros_like(rates), where=x[1] > x[0])
    parts = np.zeros_like(rates)
    for bound, there in zip(np.log([bounds[:-1], bounds[1:]]).T, filled, strict=True):
        begin, end = (np.clip(value, *x) for value in bound)
        within = (ends[0] + slope * (place - x[0]) for place in (begin, end))
        parts += there * _integral(begin, end, *within)
    return np.where(filled.all(axis=0), rates, parts)


def _logs(log_center: Array, density: Array) -> Array:
    """Logarithms of a density; those of zero from the line through the others around it."""
    logs = np.log(np.clip(density, _TINY, None))
    for k in np.flatnonzero((density <= 0).any(axis=0) & (density > 0).any(axis=0)):
        known = np.flatnonzero(density[:, k] > 0)
        x, y = log_center[known], logs[known, k]
        if len(known) == 1:
            logs[:, k] = y
            continue
        i = np.clip(np.searchsorted(x, log_center, side="right") - 1, 0, len(x) - 2)
        line = y[i] + (log_center - x[i]) * (y[i + 1] - y[i]) / (x[i + 1] - x[i])
        logs[:, k] = np.where(density[:, k] > 0, logs[:, k], line)
    return logs


def _integral(begin: Array, end: Array, first: Array, last: Array) -> Array:
    """Integral of the exponential of a line between two places, given the line there."""
    change = np.abs(last - first)
    with np.errstate(divide="ignore", invalid="ignore"):
        # The logarithmic mean of the ends.
        mean = np.where(change > 1e-9, -np.expm1(-change) / change, 1.0)
    width = end - begin
    return np.where(width > 0, np.exp(np.maximum(first, last)) * mean * width, 0.0)


def make_rate(rate: Any, binning: Binning) -> BackgroundRate:
    """Background rate of the user's in plain numbers.

    Parameters
    ----------
    rate : `~astropy.units.Quantity`
        Rate in each energy bin, shape (n_energies,): per solid angle in s-1 sr-1, or, for
        point-like responses, inside the directional cut in s-1.
    binning : `~obscluster.information.counts.Binning`
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


# The ring around a source that is close to the pointing, in units of the radius kept free.
_RING = (1.5, 3.0)
# Bins with fewer events of all runs are the tail, which is taken to fall as a power law.
_TAIL = 10
# Widths of the prior that are tried, for the tilt and the bend of the logarithm of the rate.
_WIDTHS = (0.0, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6)
_N_ITERATIONS = 50


def off_counts(
    energies: Array, distance: Array, angle: Array, offset: float, binning: Binning, radius: Array
) -> tuple[Array, Array, str]:
    """Events in reflected regions, or in a ring around the source.

    Parameters
    ----------
    energies : `~numpy.ndarray`
        Reconstructed energies of the events in TeV, shape (n_events,).
    distance, angle : `~numpy.ndarray`
        Their distance from the pointing and their position angle around it, the source being at
        angle 0; in radians, shape (n_events,).
    offset : float
        Distance of the source from the pointing in degrees.
    binning : `~obscluster.information.counts.Binning`
        The bins.
    radius : `~numpy.ndarray`
        Radius of the regions in degrees, shape (n_energies,).

    Returns
    -------
    counts, solid_angle : `~numpy.ndarray`
        Number of events, and solid angle in sr, shape (n_energies,).
    method : str
        Where events were counted.

    Raises
    ------
    NotComputableError
        If the regions have no size.
    """
    bins = np.searchsorted(binning.energies, energies, side="right") - 1
    seen = (bins >= 0) & (bins < binning.n_energies)
    bins, distance, angle = bins[seen], distance[seen], angle[seen]
    size, away = np.radians(radius), np.radians(offset)
    with np.errstate(divide="ignore", invalid="ignore"):
        half = np.arcsin(np.clip(np.sin(size) / np.sin(away), 0.0, 1.0))
        places = np.where(size < away, np.floor(np.pi / half), 0.0)
    # Energies without a cut are not seen at all.
    places = places[size > 0].astype(int)
    if len(places) == 0:
        raise NotComputableError("the directional cut is zero, so events cannot be counted")
    # One way for all energies, so that the spectrum has no step.
    if (places >= 2).all():
        n_places = int(places.min())
        inside = np.zeros(len(bins), dtype=bool)
        # Next to the source there may be its gamma rays; with few places there is no choice.
        first = 2 if n_places > 4 else 1
        for i in range(first, n_places - first + 1):
            to_center = _separation(distance, angle - 2 * np.pi * i / n_places, away)
            inside |= to_center < size[bins]
        counts = np.bincount(bins[inside], minlength=binning.n_energies).astype(float)
        n_regions = n_places - 2 * first + 1
        area = n_regions * 2 * np.pi * (1 - np.cos(size))
        return counts, area, f"{n_regions} reflected regions"
    inner, outer = _RING[0] * size.max(), _RING[1] * size.max()
    to_source = _separation(distance, angle, away)
    inside = (to_source >= inner) & (to_source < outer)
    counts = np.bincount(bins[inside], minlength=binning.n_energies).astype(float)
    area = np.full(len(size), 2 * np.pi * (np.cos(inner) - np.cos(outer)))
    return counts, area, "ring around the source"


def shared_rates(counts: Array, exposure: Array) -> Array:
    """Background rates of many runs from few events each.

    Parameters
    ----------
    counts : `~numpy.ndarray`
        Events per run and energy bin, shape (n_obs, n_energies).
    exposure : `~numpy.ndarray`
        What they are proportional to, such as time times solid angle; zero where a run does not
        count.

    Returns
    -------
    rates : `~numpy.ndarray`
        Expected events per exposure, shape (n_obs, n_energies).
    """
    counts = np.where(exposure > 0, counts, 0.0)
    common = _common_rate(counts.sum(axis=0), exposure.sum(axis=0))
    n_bins = counts.shape[1]
    x = np.linspace(-1.0, 1.0, n_bins) if n_bins > 1 else np.zeros(1)
    shapes = np.stack([np.ones(n_bins), x, x**2 - (x**2).mean()], axis=-1)
    expected = exposure * common
    fits = [_fit(counts, expected, shapes, width) for width in _WIDTHS]
    coefficients, _ = max(fits, key=lambda fit: fit[1])
    coefficients[:, 0] += _shrinkage(counts.sum(axis=1), expected.sum(axis=1))
    return np.asarray(common * np.exp(np.clip(coefficients @ shapes.T, -50.0, 50.0)))


def _shrinkage(events: Array, expected: Array) -> Array:
    """What to add to the logarithm of each run's normalisation, shape (n_obs,).

    A run counts a few events, whose fluctuation must not look like another background: stacking
    would seem to lose information between identical runs. So the normalisations are drawn towards
    their mean, as far as they do not scatter more than Poisson's law has it (DerSimonian and Laird
    1986, Control. Clin. Trials 7, 177).
    """
    seen = expected > 0
    counted = np.maximum(events[seen], 0.5)
    norm = np.log(counted / expected[seen])
    mean = (counted * norm).sum() / counted.sum() if seen.any() else 0.0
    excess = (counted * (norm - mean) ** 2).sum() - (len(norm) - 1)
    size = counted.sum() - (counted**2).sum() / counted.sum() if seen.any() else 0.0
    scatter = max(float(excess / size), 0.0) if size > 0 else 0.0
    shift = np.zeros(len(events))
    shift[seen] = (mean - norm) / (1 + scatter * counted)
    return shift


def _common_rate(counts: Array, exposure: Array) -> Array:
    """Rate of all runs together; its tail is smoothed."""
    rate = np.divide(counts, exposure, out=np.zeros_like(counts), where=exposure > 0)
    enough = np.flatnonzero(counts >= _TAIL)
    if len(enough) == 0 or enough[-1] == len(counts) - 1:
        return np.asarray(rate)
    # From the peak to the tail, a straight line in the logarithm, or as steep as one bin tells.
    last, peak = int(enough[-1]), int(enough[counts[enough].argmax()])
    body = enough[enough >= peak]
    slope = -1.0
    if len(body) > 1:
        slope = np.polyfit(body, np.log(rate[body]), 1, w=np.sqrt(counts[body]))[0]
    tail = np.arange(last + 1, len(counts))
    shape = np.exp(min(slope, -0.1) * (tail - last))
    seen = (shape * exposure[tail]).sum()
    # It holds as many events as there are; none is less than one half, as is usual.
    rate[tail] = shape * (max(counts[tail].sum(), 0.5) / seen if seen > 0 else 0.0)
    return np.asarray(rate)


def _fit(counts: Array, expected: Array, shapes: Array, width: float) -> tuple[Array, float]:
    """Coefficients of each run, shape (n_obs, n_shapes), and the evidence for the prior's width.

    The first shape is the normalisation, which is free; the evidence is Laplace's.
    """
    n_shapes = shapes.shape[1]
    coefficients = np.zeros((len(counts), n_shapes))
    total = expected.sum(axis=1)
    events = np.maximum(counts.sum(axis=1), 0.5)
    coefficients[:, 0] = np.log(np.divide(events, total, out=np.ones_like(total), where=total > 0))
    penalty = np.zeros(n_shapes)
    if width > 0:
        penalty[1:] = width**-2
        for _ in range(_N_ITERATIONS):
            model = expected * np.exp(np.clip(coefficients @ shapes.T, -50.0, 50.0))
            gradient = (counts - model) @ shapes - coefficients * penalty
            curvature = np.einsum("nk,kp,kq->npq", model, shapes, shapes, optimize=True)
            curvature += np.diag(penalty + 1e-9)
            step = np.linalg.solve(curvature, gradient[:, :, np.newaxis])[:, :, 0]
            # A short step cannot run away from a start that is off.
            step /= np.maximum(1.0, np.abs(step).max(axis=1, keepdims=True))
            # Without any event the normalisation has no best value.
            step[counts.sum(axis=1) == 0] = 0.0
            coefficients = coefficients + step
            if np.abs(step).max(initial=0.0) < 1e-9:
                break
    log_rate = coefficients @ shapes.T
    model = expected * np.exp(np.clip(log_rate, -50.0, 50.0))
    evidence = (counts * log_rate - model).sum() - 0.5 * (coefficients**2 * penalty).sum()
    if width > 0:
        curvature = np.einsum("nk,kp,kq->npq", model, shapes, shapes, optimize=True)
        norm = np.maximum(curvature[:, :1, :1], 1e-9)
        rest = curvature[:, 1:, 1:] - curvature[:, 1:, :1] * curvature[:, :1, 1:] / norm
        inner = np.eye(n_shapes - 1) + width**2 * rest
        evidence -= 0.5 * np.linalg.slogdet(inner)[1].sum()
    return coefficients, float(evidence)


def _separation(distance: Array, angle: Array, away: float) -> Array:
    """Angle to a point ``away`` from the pointing at angle 0, all in radians."""
    half = np.sin(0.5 * (distance - away)) ** 2
    half = half + np.sin(distance) * np.sin(away) * np.sin(0.5 * angle) ** 2
    return np.asarray(2 * np.arcsin(np.sqrt(np.clip(half, 0.0, 1.0))))
