"""Expected counts of a source in a run, in bins of reconstructed energy and distance from it.

The PSF is integrated over the rings, exactly for the functions of `obscluster.gadf.psf` and with
constant density per bin for a table. A Gaussian source is convolved with it in the plane: a ring of
the PSF becomes a smeared ring, whose content inside a circle is a Rice distribution.

A PSF table is normalised to one where it is not empty, as Gammapy does with its kernels.

The order is Gammapy's: flux times effective area in true energy, times the part of the PSF in each
ring, folded with the energy dispersion at the offset of the source.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from astropy import units as u
from astropy.coordinates import Angle
from numpy.typing import NDArray
from scipy.special import i0e, i1e

from obscluster.exceptions import RequestError
from obscluster.features.base import NotComputableError
from obscluster.features.slices import Remark, at_offset, columns_at_offset, energy_weights
from obscluster.gadf.axis import Axis
from obscluster.gadf.psf import PROFILES
from obscluster.gadf.response import IRF
from obscluster.information.source import Source

__all__ = [
    "Binning",
    "disc_fractions",
    "dispersion_kernel",
    "effective_area",
    "make_binning",
    "signal",
    "smeared_disc",
    "true_energies",
]

Array = NDArray[np.float64]

_DEFAULT_ENERGIES = tuple(np.geomspace(0.1, 100.0, 25).tolist())
# About a quarter of a usual PSF's radius in the centre; the outer rings tell the background.
_DEFAULT_RINGS = (0.0, 0.04, 0.08, 0.12, 0.17, 0.23, 0.3, 0.4)


@dataclass(frozen=True)
class Binning:
    """Edges of the bins; bins count ring by ring within an energy.

    Parameters
    ----------
    energy_edges : tuple of float
        Reconstructed energy in TeV, rising.
    ring_edges : tuple of float
        Distance from the source in degrees, rising from 0 or more. Empty for energy alone, inside
        the directional cut of point-like responses.
    """

    energy_edges: tuple[float, ...] = _DEFAULT_ENERGIES
    ring_edges: tuple[float, ...] = _DEFAULT_RINGS

    @property
    def n_energies(self) -> int:
        """Number of energy bins."""
        return len(self.energy_edges) - 1

    @property
    def n_rings(self) -> int:
        """Number of rings, 1 for energy alone."""
        return max(len(self.ring_edges) - 1, 1)

    @property
    def n_bins(self) -> int:
        """Number of all bins."""
        return self.n_energies * self.n_rings

    @property
    def energies(self) -> Array:
        """Edges in energy, in TeV."""
        return np.array(self.energy_edges)

    @property
    def rings(self) -> Array:
        """Edges of the rings, in degrees."""
        return np.array(self.ring_edges)

    @property
    def ring_solid_angles(self) -> Array:
        """Solid angle of each ring in sr, shape (n_rings,)."""
        return np.asarray(2 * np.pi * -np.diff(np.cos(np.radians(self.rings))))

    @property
    def energy_only(self) -> Binning:
        """The same energies without rings."""
        return Binning(self.energy_edges, ())


def make_binning(
    energy_edges: Any = None, ring_edges: Any = None, bins_per_decade: int = 8
) -> Binning:
    """Bins from values with units.

    Parameters
    ----------
    energy_edges : `~astropy.units.Quantity` or sequence of str, optional
        Edges in reconstructed energy; with two of them, the range that is divided evenly in the
        logarithm. From 0.1 to 100 TeV unless told: name the range for an instrument that sees
        lower energies.
    ring_edges : `~astropy.units.Quantity` or sequence of str, optional
        Edges of the rings around the source; seven rings out to 0.4 deg unless told. They should
        resolve the PSF, and reach out to where there is background alone if that is fitted.
    bins_per_decade : int
        How finely a range of energies is divided. Counts in wide bins have lost information of
        their own, so that stacking loses less of what is left: take the bins of the analysis.
        (With rings it is the other way round: they tell sharp PSFs from wide ones in a stack, too.)

    Returns
    -------
    binning : `Binning`
        The edges in plain numbers.

    Raises
    ------
    RequestError
        If edges are no energies or angles, do not rise, or are fewer than two.
    """
    energies, rings = _DEFAULT_ENERGIES, _DEFAULT_RINGS
    if energy_edges is not None:
        edges = _values("energy_edges", energy_edges, u.TeV, "'0.1 TeV'")
        if not edges[0] > 0:
            raise RequestError(f"energy_edges {energy_edges}: expected energies above 0")
        if len(edges) == 2:
            if bins_per_decade < 1:
                raise RequestError(f"bins_per_decade {bins_per_decade}; expected at least 1")
            n_bins = max(round(bins_per_decade * np.log10(edges[1] / edges[0])), 1)
            edges = np.geomspace(edges[0], edges[1], n_bins + 1)
        energies = tuple(edges.tolist())
    if ring_edges is not None:
        edges = _values("ring_edges", ring_edges, u.deg, "'0.1 deg'")
        if edges[0] < 0 or edges[-1] > 90:
            raise RequestError(f"ring_edges {ring_edges}: expected angles from 0 to 90 deg")
        rings = tuple(edges.tolist())
    return Binning(energies, rings)


def _values(name: str, edges: Any, unit: u.UnitBase, example: str) -> Array:
    """Rising edges in a unit."""
    try:
        if isinstance(edges, Sequence) and not isinstance(edges, str):
            parse = Angle if unit == u.deg else u.Quantity
            edges = u.Quantity([parse(edge) for edge in edges])
        values = np.atleast_1d(u.Quantity(edges).to_value(unit)).astype(float)
    except (TypeError, ValueError, u.UnitsError):
        raise RequestError(f"{name} {edges}: expected values with unit like {example}") from None
    if values.ndim != 1 or len(values) < 2 or not (np.diff(values) > 0).all():
        raise RequestError(f"{name} {edges}: expected at least two edges that rise")
    return values


# Thin rings into which a PSF is divided before it is smeared, and how far out: from where more than
# so many widths of the source are needed to come back, nothing does.
_N_RADII = 400
_N_WIDTHS = 8.0
# Parts into which a thin ring is divided that is not thin compared with the source.
_MAX_PARTS = 32


def disc_fractions(
    psf: IRF, energies: Array, offset: float, radii: Array, size: float = 0.0
) -> tuple[Array, Array]:
    """Fractions within circles around the source.

    Parameters
    ----------
    psf : `~obscluster.gadf.irf.IRF`
        A ``psf_table``, ``psf_3gauss`` or ``psf_king``.
    energies : `~numpy.ndarray`
        True energies in TeV, shape (n_energies,). Beyond the outer centres of the PSF's axis it is
        taken as there.
    offset : float
        Offset from the pointing in degrees.
    radii : `~numpy.ndarray`
        Radii of the circles in degrees, shape (n_radii,).
    size : float
        Width of a Gaussian source in degrees, 0 for a point.

    Returns
    -------
    fractions, size_derivatives : `~numpy.ndarray`
        Shape (n_energies, n_radii): fraction of the gamma rays, zero where the PSF is empty, and
        its derivative to the size in deg-1 (zero for a point).

    Raises
    ------
    NotComputableError
        If the offset is outside the response.
    """
    if size == 0:
        fractions = _point_fractions(psf, energies, offset, radii)
        return fractions, np.zeros_like(fractions)
    edges = np.linspace(0.0, radii.max() + _N_WIDTHS * size, _N_RADII + 1)
    content = np.diff(_point_fractions(psf, energies, offset, edges), axis=1)
    inside, derivative = smeared_disc(tuple(edges.tolist()), tuple(radii.tolist()), size)
    return content @ inside, content @ derivative


def _point_fractions(psf: IRF, energies: Array, offset: float, radii: Array) -> Array:
    """Fractions within circles around a point, shape (n_energies, n_radii)."""
    columns = columns_at_offset(psf, offset)
    any_column = next(iter(columns.values()))
    defined = np.array([np.isfinite(values).all() for values in any_column])
    # Weights within 0 and 1 keep mixtures of two PSFs PSFs.
    bins, weights = energy_weights(psf.axes["energy_true"], energies, defined)
    weights = weights[:, :, np.newaxis]
    if psf.is_parametric:
        parameters = {}
        for name, values in columns.items():
            nodes = np.clip(np.nan_to_num(values), 0.0, None)[:, np.newaxis]
            parameters[name] = (weights * nodes[bins]).sum(axis=0)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            inside = PROFILES[psf.hdu_class].containment(radii[np.newaxis, :], parameters)
        return np.clip(np.where(np.isfinite(inside), inside, 0.0), 0.0, 1.0)
    nodes = _table_fractions(columns["RPSF"], psf.axes["rad"], radii)
    return np.asarray((weights * nodes[bins]).sum(axis=0))


def _table_fractions(density: Array, axis: Axis, radii: Array) -> Array:
    """Fractions at the PSF's own energies; density is constant within a bin of the table."""
    density = np.clip(np.nan_to_num(density), 0.0, None)
    squares = np.maximum(axis.edges, 0.0) ** 2
    sums = np.cumsum(density * np.diff(squares), axis=1)
    sums = np.concatenate([np.zeros((len(sums), 1)), sums], axis=1)
    total = sums[:, -1:]
    sums = np.divide(sums, total, out=np.zeros_like(sums), where=total > 0)
    wanted = np.clip(radii**2, squares[0], squares[-1])
    i = np.clip(np.searchsorted(squares, wanted, side="right") - 1, 0, axis.nbin - 1)
    t = (wanted - squares[i]) / (squares[i + 1] - squares[i])
    return np.asarray((1 - t) * sums[:, i] + t * sums[:, i + 1])


@lru_cache(maxsize=32)
def smeared_disc(
    edges: tuple[float, ...], radii: tuple[float, ...], size: float
) -> tuple[Array, Array]:
    """Part of thin rings, smeared by a Gaussian, that is within circles of the same centre.

    Parameters
    ----------
    edges : tuple of float
        Edges of the thin rings in degrees, n + 1 of them.
    radii : tuple of float
        Radii of the circles in degrees.
    size : float
        Width of the Gaussian in degrees.

    Returns
    -------
    inside, derivative : `~numpy.ndarray`
        Shape (n, n_radii), the fraction and its derivative to the size in deg-1; density is
        constant within a ring.
    """
    # Loaded when there is need: it takes longer than many a grouping.
    from scipy.stats import ncx2

    squares, n_rings = np.array(edges) ** 2, len(edges) - 1
    n_parts = int(np.clip(np.ceil(2 * np.diff(edges).max() / size), 1, _MAX_PARTS))
    # Parts of the same area, each at its root mean square radius.
    parts = np.arange(n_rings * n_parts) / n_parts + 0.5 / n_parts
    r = np.sqrt(np.interp(parts, np.arange(n_rings + 1), squares))[:, np.newaxis]
    radius = np.array(radii)[np.newaxis, :]
    a, b = r / size, radius / size
    inside = np.asarray(ncx2.cdf(b**2, 2, a**2))
    # 1 - Q1(a, b) of Marcum's function, whose derivatives are Bessel functions.
    decay = b * np.exp(-0.5 * (a - b) ** 2)
    derivative = (r * i1e(a * b) - radius * i0e(a * b)) * decay / size**2
    inside = inside.reshape(n_rings, n_parts, -1).mean(axis=1)
    derivative = derivative.reshape(n_rings, n_parts, -1).mean(axis=1)
    inside.flags.writeable = derivative.flags.writeable = False
    return inside, derivative


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
    source : `~obscluster.information.source.Source`
        What is measured.
    binning : `~obscluster.information.counts.Binning`
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
