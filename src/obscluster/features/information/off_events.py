"""Background from the runs' own events, where there is no background response.

Events are counted in reflected regions: circles at the offset of the source around the pointing,
where the acceptance is the same. A source too close to the pointing for that has a ring around it
instead, which is not corrected for the acceptance.

A single run has few events, and their scatter from bin to bin would look like a difference between
runs, which costs information when they are stacked. So the runs share a spectrum, from all of their
events together; a run has its own normalisation, and tilts and bends the spectrum as far as its
events demand, against a prior whose width is that which makes the events of all runs most likely.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from obscluster.features.base import NotComputableError
from obscluster.features.information.binning import Binning

__all__ = ["off_counts", "shared_rates"]

Array = NDArray[np.float64]

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
    binning : `~obscluster.features.information.binning.Binning`
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
