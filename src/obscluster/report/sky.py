"""Pointings on a flat map: right ascension and declination, or the whole sky."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["SkyMap", "sky_map"]

Array = NDArray[np.float64]

# Wider fields are drawn on the whole sky; nearer to the poles, meridians are not parallel.
_WIDEST = 40.0
_NORTHERNMOST = 75.0
# Least width of a map in degrees, so that one pointing does not fill it.
_NARROWEST = 1.0
# Runs with the same pointing lie on a spiral around it, this part of the map apart.
_APART = 0.016
# Radius of the spiral in such steps, at most.
_WIDEST_SPIRAL = 4.0
_GOLDEN_ANGLE = 2.399963229728653


@dataclass(frozen=True, eq=False)
class SkyMap:
    """Places on a flat map.

    Parameters
    ----------
    x, y : `~numpy.ndarray`
        Of each run, shape (n_obs,); NaN where there is no pointing.
    x_range, y_range : tuple of float
        Ends of the map; right ascension rises to the left.
    aspect : float
        Length of a unit of y over that of x, on paper.
    whole_sky : bool
        Whether it is a map of the whole sky, in Mollweide's projection; else x and y are right
        ascension and declination in degrees.
    lines : sequence of (x, y)
        Meridians and parallels of a map of the whole sky.
    """

    x: Array
    y: Array
    x_range: tuple[float, float]
    y_range: tuple[float, float]
    aspect: float
    whole_sky: bool = False
    lines: Sequence[tuple[Array, Array]] = ()


def sky_map(ra: Array, dec: Array) -> SkyMap:
    """Map of pointings.

    Parameters
    ----------
    ra, dec : `~numpy.ndarray`
        In degrees, shape (n_obs,).
    """
    known = np.isfinite(ra) & np.isfinite(dec)
    if not known.any():
        return SkyMap(ra, dec, (1.0, 0.0), (0.0, 1.0), 1.0)
    vector = np.exp(1j * np.radians(ra[known])).mean()
    middle = float(np.degrees(np.angle(vector))) % 360 if abs(vector) > 1e-9 else 180.0
    turned = middle + (ra - middle + 180) % 360 - 180
    cos_dec = float(np.cos(np.radians(np.median(dec[known]))))
    width = float(np.ptp(turned[known])) * cos_dec
    height = float(np.ptp(dec[known]))
    if max(width, height) > _WIDEST or np.abs(dec[known]).max() > _NORTHERNMOST:
        return _whole_sky(ra, dec)
    half = 0.56 * max(width, height, _NARROWEST)
    x0 = 0.5 * float(turned[known].min() + turned[known].max())
    y0 = 0.5 * float(dec[known].min() + dec[known].max())
    dx, dy = _spiral(turned, dec, 2 * half)
    return SkyMap(
        turned + dx / cos_dec,
        dec + dy,
        (x0 + half / cos_dec, x0 - half / cos_dec),
        (y0 - half, y0 + half),
        1 / cos_dec,
    )


def _whole_sky(ra: Array, dec: Array) -> SkyMap:
    x, y = _mollweide(ra, dec)
    dx, dy = _spiral(x, y, 2.0)
    latitudes, longitudes = np.linspace(-90, 90, 61), np.linspace(-180, 180, 121)
    lines = [_mollweide(lon + 0 * latitudes, latitudes, wrap=False) for lon in range(-180, 181, 60)]
    lines += [
        _mollweide(longitudes, lat + 0 * longitudes, wrap=False) for lat in range(-60, 61, 30)
    ]
    return SkyMap(x + dx, y + dy, (-2.06, 2.06), (-1.04, 1.04), 1.0, True, lines)


def _mollweide(lon: Array, lat: Array, wrap: bool = True) -> tuple[Array, Array]:
    """Mollweide's projection with 0 h in the middle, from 2 to -2 and -1 to 1; east is left."""
    lon = (lon + 180) % 360 - 180 if wrap else lon
    phi = np.radians(lat)
    theta = phi.copy()
    for _ in range(30):
        # Newton's method converges slowly at the poles, where the slope vanishes.
        slope = np.maximum(2 + 2 * np.cos(2 * theta), 1e-9)
        theta = theta - (2 * theta + np.sin(2 * theta) - np.pi * np.sin(phi)) / slope
    theta = np.clip(theta, -np.pi / 2, np.pi / 2)
    return -lon / 90 * np.cos(theta), np.sin(theta)


def _spiral(x: Array, y: Array, size: float) -> tuple[Array, Array]:
    """Small shifts that set runs apart that lie at the same place."""
    dx, dy = np.zeros(len(x)), np.zeros(len(x))
    step = _APART * size
    known = np.flatnonzero(np.isfinite(x) & np.isfinite(y))
    places = np.round(np.column_stack([x[known], y[known]]) / step)
    _, place, counts = np.unique(places, axis=0, return_inverse=True, return_counts=True)
    seen = np.zeros(len(counts), dtype=np.int64)
    for row, one in zip(known.tolist(), place.reshape(-1).tolist(), strict=True):
        number = int(seen[one])
        seen[one] += 1
        # Many runs at one place fill it more densely instead of spreading over the map.
        widest = min(np.sqrt(counts[one]), _WIDEST_SPIRAL)
        radius = step * widest * np.sqrt(number / counts[one])
        dx[row] = radius * np.cos(number * _GOLDEN_ANGLE)
        dy[row] = radius * np.sin(number * _GOLDEN_ANGLE)
    return dx, dy
