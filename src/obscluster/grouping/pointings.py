"""Which runs share a pointing position."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["pointing_names", "pointing_positions"]

# Positions are told apart by wobble offsets of 0.4 deg and more; tracking scatters by far less.
_SAME = 0.1


def pointing_positions(
    ra: NDArray[np.float64], dec: NDArray[np.float64], radius: float = _SAME
) -> NDArray[np.int64]:
    """Number of the pointing position of each run.

    Positions that are closer than the radius are one, also through others in between.

    Parameters
    ----------
    ra, dec : `~numpy.ndarray`
        Pointing in degrees, shape (n_obs,); NaN where it is not known.
    radius : float
        In degrees.

    Returns
    -------
    positions : `~numpy.ndarray`
        From 0 in the order of declination; -1 where the pointing is not known. Shape (n_obs,).
    """
    positions = np.full(len(ra), -1, dtype=np.int64)
    known = np.isfinite(ra) & np.isfinite(dec)
    if not known.any():
        return positions
    # Loaded when there is need: it takes longer than many a grouping.
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components
    from scipy.spatial import cKDTree

    # Many runs have the same pointing, but for digits that do not matter.
    places, which = np.unique(
        np.round(np.column_stack([dec[known], np.mod(ra[known], 360)]), 3),
        axis=0,
        return_inverse=True,
    )
    lat, lon = np.radians(places).T
    vectors = np.column_stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)])
    chord = 2 * np.sin(0.5 * np.radians(radius))
    pairs = cKDTree(vectors).query_pairs(chord, output_type="ndarray")
    n = len(places)
    graph = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(n, n))
    _, component = connected_components(graph, directed=False)
    # Numbered in the order of the places, whatever the search found first.
    first = np.unique(component, return_index=True)[1]
    rank = np.argsort(np.argsort(first))
    positions[known] = rank[component][which.reshape(-1)]
    return positions


def pointing_names(ra: NDArray[np.float64], dec: NDArray[np.float64]) -> NDArray[np.str_]:
    """Pointing position of each run in words, that of the first run there, shape (n_obs,).

    Parameters
    ----------
    ra, dec
        See `pointing_positions`.
    """
    positions = pointing_positions(ra, dec)
    names = {-1: "an unknown position"}
    for row, position in enumerate(positions.tolist()):
        names.setdefault(position, f"RA {np.mod(ra[row], 360):.2f}, Dec {dec[row]:.2f} deg")
    return np.array([names[position] for position in positions.tolist()], dtype=str)
