"""The bins in which counts are compared: reconstructed energy times distance from the source."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from astropy import units as u
from astropy.coordinates import Angle
from numpy.typing import NDArray

from obscluster.exceptions import RequestError

__all__ = ["Binning", "make_binning"]

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
