"""Where to cut a quantity.

==============  ==================================================================
edges           bins
==============  ==================================================================
``cut``         below and above given values, the median or the mean
``edges``       between given edges; runs outside belong nowhere
``quantiles``   of equal numbers of runs
``width``       of equal width
``livetime``    of equal livetime
``adaptive``    that grow from below until they hold a minimum of livetime or runs
==============  ==================================================================

All take plain numbers, NaN where missing, and return rising edges; a bin holds its lower edge. Cuts
that the data define lie midway between two runs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from obscluster.exceptions import RequestError

__all__ = [
    "STATISTICS",
    "adaptive_edges",
    "bin_labels",
    "cut_edges",
    "livetime_edges",
    "quantile_edges",
    "width_edges",
]

Array = NDArray[np.float64]

STATISTICS: dict[str, Callable[[Array], Any]] = {"median": np.median, "mean": np.mean}
"""Cuts that the data define."""


def bin_labels(values: Any, edges: Any) -> NDArray[np.int64]:
    """Bin of each value, numbered from 1 without gaps.

    Parameters
    ----------
    values : array_like
        Numbers, shape (n,); NaN where missing.
    edges : array_like
        Rising bin edges, shape (n_bins + 1,); a bin holds its lower edge. Outer ones may be
        infinite.

    Returns
    -------
    labels : `~numpy.ndarray`
        Shape (n,); -1 outside the edges. Empty bins are not counted.
    """
    values, edges = np.asarray(values, dtype=float), np.asarray(edges, dtype=float)
    bins = np.digitize(values, edges).astype(np.int64)
    inside = (bins > 0) & (bins < len(edges)) & np.isfinite(values)
    labels = np.full(len(values), -1, dtype=np.int64)
    labels[inside] = 1 + np.unique(bins[inside], return_inverse=True)[1]
    return labels


def cut_edges(cuts: Sequence[float]) -> Array:
    """Edges of the bins below, between and above some values."""
    return np.concatenate([[-np.inf], np.unique(cuts), [np.inf]])


def quantile_edges(values: Array, quantiles: int | Sequence[float], name: str) -> Array:
    """Edges at quantiles.

    Parameters
    ----------
    values : `~numpy.ndarray`
        Shape (n,).
    quantiles : int or sequence of float
        Number of bins, or where to cut, between 0 and 1.
    name : str
        What the quantity is called, for messages.
    """
    if isinstance(quantiles, int | np.integer):
        fractions = np.arange(1, _check_n(int(quantiles), "quantile groups", name)) / quantiles
    else:
        fractions = np.asarray(quantiles, dtype=float)
    if not ((fractions > 0) & (fractions < 1)).all():
        raise RequestError(f"quantiles {fractions.tolist()}; expected values between 0 and 1")
    return cut_edges(np.quantile(values[np.isfinite(values)], fractions).tolist())


def width_edges(values: Array, n_bins: int, name: str) -> Array:
    """Edges of bins of equal width from the lowest to the highest value."""
    _check_n(n_bins, "bins of equal width", name)
    known = values[np.isfinite(values)]
    edges = np.linspace(known.min(), known.max(), n_bins + 1)
    # The highest value belongs to the last bin, also where all are the same.
    edges[-1] = np.nextafter(known.max(), np.inf)
    return np.unique(edges)


def livetime_edges(values: Array, livetime: Array, n_bins: int, name: str) -> Array:
    """Edges of bins that hold nearly the same livetime.

    Parameters
    ----------
    values : `~numpy.ndarray`
        Shape (n,).
    livetime : `~numpy.ndarray`
        Of each run, shape (n,).
    n_bins : int
        Number of bins.
    name : str
        What the quantity is called, for messages.
    """
    _check_n(n_bins, "bins of equal livetime", name)
    places, sums = _sums_below(values, livetime[:, None])
    total = sums[-1, 0] if len(sums) else 0.0
    if not total > 0:
        raise RequestError(f"no run with {name} has a livetime, so there are no equal bins of it")
    targets = total * np.arange(1, n_bins) / n_bins
    chosen = [float(places[np.argmin(np.abs(sums[:-1, 0] - t))]) for t in targets if len(places)]
    return cut_edges(chosen)


def adaptive_edges(values: Array, amounts: Array, minimum: Sequence[float], name: str) -> Array:
    """Edges of bins that grow from below until they hold enough.

    What remains at the top, and is not enough, belongs to the last bin.

    Parameters
    ----------
    values : `~numpy.ndarray`
        Shape (n,).
    amounts : `~numpy.ndarray`
        What is summed of each run, such as its livetime and 1, shape (n, n_amounts).
    minimum : sequence of float
        What a bin must hold of each, shape (n_amounts,).
    name : str
        What the quantity is called, for messages.

    Raises
    ------
    RequestError
        If all runs together do not hold the minimum.
    """
    places, sums = _sums_below(values, amounts)
    wanted = np.asarray(minimum, dtype=float)
    if not len(sums) or not (sums[-1] >= wanted).all():
        total = ", ".join(f"{x:g}" for x in (sums[-1] if len(sums) else wanted * 0))
        text = ", ".join(f"{x:g}" for x in wanted)
        raise RequestError(
            f"all runs with {name} together hold {total}, but each bin is to hold {text}; ask for "
            "less"
        )
    cuts, below = [], np.zeros_like(wanted)
    for place, so_far in zip(places, sums[:-1], strict=True):
        enough_left = (sums[-1] - so_far >= wanted).all()
        if (so_far - below >= wanted).all() and enough_left:
            cuts.append(float(place))
            below = so_far
    return cut_edges(cuts)


def _sums_below(values: Array, amounts: Array) -> tuple[Array, Array]:
    """Where to cut between two different values, and what lies below each place and in all."""
    known = np.isfinite(values)
    distinct, place = np.unique(values[known], return_inverse=True)
    sums = np.zeros((len(distinct), amounts.shape[1]))
    np.add.at(sums, place, np.nan_to_num(amounts[known]))
    return 0.5 * (distinct[:-1] + distinct[1:]), np.cumsum(sums, axis=0)


def _check_n(n_bins: int, what: str, name: str) -> int:
    if n_bins < 1:
        raise RequestError(f"{n_bins} {what} of {name}; expected 1 or more")
    return n_bins
