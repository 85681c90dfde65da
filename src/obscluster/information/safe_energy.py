"""Which bins of a run count: those above its threshold, as Gammapy's `SafeMaskMaker` has it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from obscluster.features.base import NotComputableError, Run
from obscluster.gadf.response import IRF
from obscluster.information.counts import Binning, disc_fractions, effective_area

__all__ = ["area_threshold_on_axis", "safe_bins"]

# A bin that begins at the threshold must not fall out by a rounding error (single precision).
_SLACK = 1e-6
_TINY = np.finfo(float).tiny
# Bins of true energy to one of reconstructed energy, and how far they reach beyond those: where
# Gammapy's datasets, as `obscluster.reduction` makes them, hold the area.
_FINER = 2


def safe_bins(
    run: Run,
    method: str,
    fraction: float,
    binning: Binning,
    offsets: tuple[float, float],
    psf: IRF | None,
) -> NDArray[np.bool_]:
    """Bins that lie within the safe energies as a whole.

    Parameters
    ----------
    run : `~obscluster.features.base.Run`
        The run, with its effective area.
    method : {"aeff-max", "index", "none"}
        See `~obscluster.information.scores.get_scores`.
    fraction : float
        Fraction of the maximum area.
    binning : `~obscluster.information.counts.Binning`
        The bins. Of a single circle, the area is that of the events in it, as for a spectrum with
        containment correction; of several rings, it is that of all.
    offsets : (float, float)
        Offset of the source in degrees, for area and PSF.
    psf : `~obscluster.gadf.irf.IRF` or None
        None if the effective area holds a directional cut.

    Returns
    -------
    safe : `~numpy.ndarray`
        Shape (n_bins,).

    Raises
    ------
    NotComputableError
        If the index does not have the columns, or no bin is safe.
    """
    lo, hi = 0.0, np.inf
    if method == "index":
        lo, hi = run.value("SAFE_ENERGY_LO"), run.value("SAFE_ENERGY_HI")
    elif method == "aeff-max" and fraction > 0:
        energies = _true_centers(binning)
        area = effective_area(run.irf("aeff"), energies, offsets[0])
        if psf is not None and len(binning.ring_edges) == 2 and binning.rings[0] == 0:
            area = area * disc_fractions(psf, energies, offsets[1], binning.rings[1:])[0][:, 0]
        lo = area_threshold_on_axis(energies, area, fraction)
    edges = binning.energies
    safe = (edges[:-1] >= lo * (1 - _SLACK)) & (edges[1:] <= hi * (1 + _SLACK))
    if not safe.any():
        raise NotComputableError(
            f"no energy bin lies within the safe range, {lo:.3g} to {hi:.3g} TeV"
        )
    return np.repeat(safe, binning.n_rings)


def _true_centers(binning: Binning) -> NDArray[np.float64]:
    lo, hi = binning.energies[0], binning.energies[-1]
    per_decade = _FINER * binning.n_energies / np.log10(hi / lo)
    lo, hi = lo / _FINER, hi * _FINER
    # Rounding must not add a bin.
    n_bins = int(np.ceil(np.round(per_decade * np.log10(hi / lo), 6)))
    edges = np.geomspace(lo, hi, n_bins + 1)
    return np.asarray(np.sqrt(edges[1:] * edges[:-1]))


def area_threshold_on_axis(
    energies: NDArray[np.float64], area: NDArray[np.float64], fraction: float
) -> float:
    """Energy from which an area that is known at some energies is above a part of its maximum.

    Parameters
    ----------
    energies, area : `~numpy.ndarray`
        Shape (n,).
    fraction : float
        The part.

    Returns
    -------
    energy : float
        Where a line between neighbours, in the logarithms of both, first crosses the limit; the
        first energy with an area if it is above the limit there.
    """
    above = int(np.argmax(area >= fraction * area.max()))
    seen = int(np.argmax(area > 0))
    if above <= seen:
        return float(energies[seen])
    y = np.log(np.maximum(area[above - 1 : above + 1], _TINY))
    at = np.interp(np.log(fraction * area.max()), y, np.log(energies[above - 1 : above + 1]))
    return float(np.exp(at))
