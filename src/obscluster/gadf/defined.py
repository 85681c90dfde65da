"""Which bins of a response have a value, and how to interpolate among these alone.

A bin without a value (an empty PSF, a width or a cut of zero) is undefined, not zero: whoever
interpolates through it makes values up.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from obscluster.gadf.axis import Axis
from obscluster.gadf.psf import PROFILES

__all__ = ["INNER_AXES", "blend", "defined_bins", "second_weight"]

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

INNER_AXES = ("migra", "rad")
"""Axes along which a bin of a response is a distribution, so that it has a value as a whole."""


def defined_bins(
    hdu_class: str,
    arrays: Mapping[str, NDArray[Any]],
    axes: Mapping[str, Axis],
    invalid: Mapping[str, Mask],
) -> Mask:
    """Which bins have a value.

    Parameters
    ----------
    hdu_class : str
        GADF class, such as ``psf_table``.
    arrays : mapping
        Column name to values, of all bins or of a few: a block in the order of the axes, with all
        of ``rad`` and ``migra``, and of a background with all energies.
    axes : mapping
        Axes of the response, by name.
    invalid : mapping
        Column name to where the file has no number; as `arrays`.

    Returns
    -------
    defined : `~numpy.ndarray`
        Shape of the block without ``rad`` or ``migra``. Undefined is

        - a tabulated PSF or a dispersion without content;
        - a PSF with a parameter that is no number, with a width that is not above zero, or with
          nothing in it; a Gaussian of amplitude zero needs no width;
        - a directional cut that is not above zero;
        - an effective area or a background that is no number (zero is a value);
        - a background of zero next to an energy that has some, or between two that have.
    """
    (name, values), names = next(iter(arrays.items())), list(axes)
    if hdu_class in PROFILES:
        return _without(PROFILES[hdu_class].usable(arrays), *invalid.values())
    if hdu_class == "psf_table":
        with np.errstate(invalid="ignore", over="ignore"):
            content = np.moveaxis(values, names.index("rad"), -1) @ _ring_areas(axes["rad"])
        return np.asarray((content > 0) & (content < np.inf))
    if hdu_class == "edisp_2d":
        return np.asarray(_positive(values).any(axis=names.index("migra")))
    if hdu_class == "rad_max_2d":
        return _positive(values)
    finite = _without(np.isfinite(values), *(invalid[name],) if name in invalid else ())
    if not hdu_class.startswith("bkg"):
        return finite
    filled = finite & (values > 0)
    beside = np.zeros_like(filled)
    beside[1:] |= filled[:-1]
    beside[:-1] |= filled[1:]
    between = np.logical_or.accumulate(filled, axis=0)
    between &= np.logical_or.accumulate(filled[::-1], axis=0)[::-1]
    return np.asarray(finite & (filled | ~(beside | between)))


def _positive(values: NDArray[Any]) -> Mask:
    return np.asarray((values > 0) & (values < np.inf))


def _without(mask: Mask, *others: Mask) -> Mask:
    for other in others:
        mask = mask & ~other
    return mask


@lru_cache(maxsize=64)
def _ring_areas(axis: Axis) -> Array:
    """Areas of the rings, but for a factor."""
    return axis.center * np.diff(axis.edges)


def second_weight(weight: Any, first: Any, second: Any) -> Array:
    """Weight of the second of two neighbours for interpolation among those that are defined.

    Where one of them is undefined the other one counts alone, if it is nearer than half of the
    distance between them. Who has no weight does not matter.

    Parameters
    ----------
    weight : array-like
        Weight of the second where both are defined; below 0 or above 1 the line is continued.
    first, second : array-like of bool
        Whether they are defined; everything broadcasts.

    Returns
    -------
    weight : `~numpy.ndarray`
        NaN where there is no value.
    """
    weight, first, second = np.asarray(weight, dtype=float), np.asarray(first), np.asarray(second)
    first_alone = first & ((weight == 0) | ~second & (np.abs(weight) < 0.5))
    second_alone = second & ((weight == 1) | ~first & (np.abs(1 - weight) < 0.5))
    result = np.where(first & second, weight, np.nan)
    return np.where(first_alone, 0.0, np.where(second_alone, 1.0, result))


def blend(first: Array, second: Array, weight: Array) -> Array:
    """Linear interpolation; of a neighbour without weight any value will do, even none."""
    with np.errstate(invalid="ignore", over="ignore"):
        both = (1 - weight) * first + weight * second
    return np.where(weight == 0, first, np.where(weight == 1, second, both))
