"""Which bins of a run count: those above its threshold, as Gammapy's `SafeMaskMaker` has it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from obscluster.features.area import area_threshold
from obscluster.features.base import NotComputableError, Run
from obscluster.features.information.binning import Binning

__all__ = ["safe_bins"]

# A bin that begins at the threshold must not fall out by a rounding error (single precision).
_SLACK = 1e-6


def safe_bins(
    run: Run, method: str, fraction: float, binning: Binning, offset: float
) -> NDArray[np.bool_]:
    """Bins that lie within the safe energies as a whole.

    Parameters
    ----------
    run : `~obscluster.features.base.Run`
        The run, with its effective area.
    method : {"aeff-max", "index", "none"}
        See `~obscluster.features.information.scores.get_scores`.
    fraction : float
        Fraction of the maximum area.
    binning : `~obscluster.features.information.binning.Binning`
        The bins.
    offset : float
        Offset of the source in degrees.

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
        lo = _threshold(run, fraction, offset)
    edges = binning.energies
    safe = (edges[:-1] >= lo * (1 - _SLACK)) & (edges[1:] <= hi * (1 + _SLACK))
    if not safe.any():
        raise NotComputableError(
            f"no energy bin lies within the safe range, {lo:.3g} to {hi:.3g} TeV"
        )
    return np.repeat(safe, binning.n_rings)


def _threshold(run: Run, fraction: float, offset: float) -> float:
    """Threshold in TeV, zero where the area is above it at the lowest energy."""
    aeff = run.irf("aeff")
    try:
        return area_threshold(aeff, offset, fraction)
    except NotComputableError:
        # The other reason, an area of zero, has been met before.
        return 0.0
