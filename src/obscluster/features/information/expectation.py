"""Expected counts of a source in a run, and their derivatives to its parameters.

The order is Gammapy's: flux times effective area in true energy, times the part of the PSF in each
ring, folded with the energy dispersion at the offset of the source.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from obscluster.features.base import NotComputableError
from obscluster.features.information.binning import Binning
from obscluster.features.information.rings import disc_fractions
from obscluster.features.information.source import Source
from obscluster.features.slices import Remark, at_offset, energy_weights
from obscluster.gadf.irf import IRF

__all__ = ["dispersion_kernel", "effective_area", "signal", "true_energies"]

Array = NDArray[np.float64]

# True energies per decade: finer than a resolution of 5 %, and the flux hardly bends in a bin.
_PER_DECADE = 32
# Share of the counts whose loss is worth a word.
_MUCH_LOST = 0.01
_TINY = np.finfo(float).tiny
# How far true energies reach beyond the reconstructed ones; nothing migrates farther.
_REACH = 5.0


def true_energies(binning: Binning) -> tuple[Array, float]:
    """True energies on which counts are summed.

    Returns
    -------
    energies : `~numpy.ndarray`
        Centres in TeV, shape (n_true,).
    width : float
        Width of the bins in the natural logarithm.
    """
    lo, hi = binning.energy_edges[0] / _REACH, binning.energy_edges[-1] * _REACH
    n_bins = int(np.ceil(_PER_DECADE * np.log10(hi / lo)))
    width = float(np.log(hi / lo) / n_bins)
    return np.asarray(lo * np.exp(width * (np.arange(n_bins) + 0.5))), width


def effective_area(aeff: IRF, energies: Array, offset: float) -> Array:
    """Effective area in cm2 at true energies in TeV, zero outside the response.

    Raises
    ------
    NotComputableError
        If the offset is outside the response, or the area is zero everywhere.
    """
    axis = aeff.axes["energy_true"]
    nodes = at_offset(aeff, "EFFAREA", offset)
    bins, weights = energy_weights(axis, energies, np.isfinite(nodes))
    nodes = np.clip(np.nan_to_num(nodes), 0.0, None)
    if not nodes.max() > 0:
        raise NotComputableError(f"the effective area is zero ({offset:.2f} deg)")
    area = (weights * nodes[bins]).sum(axis=0)
    return np.where(axis.contains(energies), area, 0.0) * aeff.unit.to("cm2")


def dispersion_kernel(edisp: IRF, energies: Array, edges: Array, offset: float) -> Array:
    """Probability of each bin of reconstructed energy.

    Parameters
    ----------
    edisp : `~obscluster.gadf.irf.IRF`
        An ``edisp_2d``. It is normalised to one at every true energy, since some files hold
        numbers of events; beyond its outer true energies it is taken as there.
    energies : `~numpy.ndarray`
        True energies in TeV, shape (n_true,).
    edges : `~numpy.ndarray`
        Edges in reconstructed energy in TeV, shape (n_reco + 1,).
    offset : float
        Offset from the pointing in degrees.

    Returns
    -------
    kernel : `~numpy.ndarray`
        Shape (n_true, n_reco); zero where the response is empty.

    Raises
    ------
    NotComputableError
        If the offset is outside the response.
    """
    axis, migra = edisp.axes["energy_true"], edisp.axes["migra"]
    density = np.clip(np.nan_to_num(at_offset(edisp, "MATRIX", offset)), 0.0, None)
    sums = np.cumsum(density * np.diff(migra.edges), axis=1)
    sums = np.concatenate([np.zeros((len(sums), 1)), sums], axis=1)
    total = sums[:, -1:]
    sums = np.divide(sums, total, out=np.zeros_like(sums), where=total > 0)
    bins, weights = energy_weights(axis, energies, total[:, 0] > 0)
    wanted = edges[np.newaxis, :] / energies[:, np.newaxis]
    i = np.clip(np.searchsorted(migra.edges, wanted, side="right") - 1, 0, migra.nbin - 1)
    t = np.clip((wanted - migra.edges[i]) / np.diff(migra.edges)[i], 0.0, 1.0)

    def at_edges(rows: NDArray[np.intp]) -> Array:
        row = rows[:, np.newaxis]
        return np.asarray((1 - t) * sums[row, i] + t * sums[row, i + 1])

    below = weights[0, :, np.newaxis] * at_edges(bins[0])
    below += weights[1, :, np.newaxis] * at_edges(bins[1])
    return np.asarray(np.diff(below, axis=1))


def signal(
    source: Source,
    binning: Binning,
    aeff: IRF,
    edisp: IRF,
    psf: IRF | None,
    offset: tuple[float, float, float],
    livetime: float,
    remark: Remark | None = None,
) -> tuple[Array, Array]:
    """Expected counts and their derivatives.

    Parameters
    ----------
    source : `~obscluster.features.information.source.Source`
        What is measured.
    binning : `~obscluster.features.information.binning.Binning`
        The bins.
    aeff, edisp : `~obscluster.gadf.irf.IRF`
        Responses.
    psf : `~obscluster.gadf.irf.IRF` or None
        None for energy alone: the effective area then holds the directional cut.
    offset : (float, float, float)
        Offset at which to take each of the three, in degrees.
    livetime : float
        In seconds.
    remark : callable, optional
        Is told if counts are lost where dispersion or PSF have no value.

    Returns
    -------
    counts : `~numpy.ndarray`
        Shape (n_bins,).
    derivatives : `~numpy.ndarray`
        Shape (n_bins, n_params), in the order of the source's parameters; to ``amplitude`` that
        to its logarithm, to ``size`` per degree.

    Raises
    ------
    NotComputableError
        If the source is outside a response, or the area is zero everywhere.
    """
    energies, width = true_energies(binning)
    area = effective_area(aeff, energies, offset[0])
    events = livetime * source.spectrum.flux(energies) * energies * width * area
    kernel = dispersion_kernel(edisp, energies, binning.energies, offset[1])
    if psf is None:
        fractions, widening = np.ones((len(energies), 1)), np.zeros((len(energies), 1))
    else:
        inside, growth = disc_fractions(psf, energies, offset[2], binning.rings, source.size)
        fractions, widening = np.diff(inside, axis=1), np.diff(growth, axis=1)
    lost = ~(kernel.any(axis=1) & fractions.any(axis=1))
    within = (energies > binning.energies[0]) & (energies < binning.energies[-1])
    share = events[lost & within].sum() / max(events[within].sum(), _TINY)
    if remark is not None and share > _MUCH_LOST:
        remark(
            f"expected counts left out where dispersion or PSF are empty ({100 * share:.0f} % of "
            f"{binning.energies[0]:.3g} to {binning.energies[-1]:.3g} TeV)"
        )

    def fold(events: Array, fractions: Array) -> Array:
        return np.asarray(kernel.T @ (events[:, np.newaxis] * fractions)).ravel()

    derivatives = [
        fold(events, widening)
        if name == "size"
        else fold(events * source.spectrum.log_gradient(name, energies), fractions)
        for name in source.parameters
    ]
    return fold(events, fractions), np.stack(derivatives, axis=-1)
