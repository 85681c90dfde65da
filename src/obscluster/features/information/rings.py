"""Which part of a source's gamma rays falls into each ring around it.

The PSF is integrated over the rings, exactly for the functions of `obscluster.gadf.psf` and with
constant density per bin for a table. A Gaussian source is convolved with it in the plane: a ring of
the PSF becomes a smeared ring, whose content inside a circle is a Rice distribution.

A PSF table is normalised to one where it is not empty, as Gammapy does with its kernels.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import i0e, i1e

from obscluster.features.slices import columns_at_offset, energy_weights
from obscluster.gadf.axis import Axis
from obscluster.gadf.irf import IRF
from obscluster.gadf.psf import PROFILES

__all__ = ["disc_fractions", "smeared_disc"]

Array = NDArray[np.float64]

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
