"""Point-spread functions that files give as parameters of a function.

https://gamma-astro-data-formats.readthedocs.io/en/v0.3/irfs/full_enclosure/psf/index.html

Angles are in degrees, densities per square degree, and every profile integrates to one. Where the
parameters are not those of a PSF, such as a width of zero, there are no numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["PROFILES", "Profile"]

Array = NDArray[np.float64]
Parameters = Mapping[str, Array]


@dataclass(frozen=True)
class Profile:
    """A radial function and its integral.

    Parameters
    ----------
    density : callable
        ``density(rad, parameters)``, per square degree.
    containment : callable
        ``containment(rad, parameters)``, the integral over the disc of radius ``rad``.
    usable : callable
        ``usable(parameters)``, whether these are the parameters of a PSF.
    """

    density: Callable[[Array, Parameters], Array]
    containment: Callable[[Array, Parameters], Array]
    usable: Callable[[Parameters], NDArray[np.bool_]]


def _gauss_amplitudes_and_widths(parameters: Parameters) -> list[tuple[Array, Array]]:
    amplitudes = (np.ones_like(parameters["SCALE"]), parameters["AMPL_2"], parameters["AMPL_3"])
    widths = (parameters["SIGMA_1"], parameters["SIGMA_2"], parameters["SIGMA_3"])
    return list(zip(amplitudes, widths, strict=True))


def _gauss_components(parameters: Parameters) -> list[tuple[Array, Array]]:
    """Fraction and width of each of the three Gaussians.

    One that is switched off may have zero width; any other width serves as well.
    """
    widths, areas = [], []
    for amplitude, sigma in _gauss_amplitudes_and_widths(parameters):
        without = np.where(amplitude > 0, np.nan, 1.0)
        widths.append(np.where(sigma > 0, sigma, without))
        areas.append(parameters["SCALE"] * amplitude * widths[-1] ** 2)
    total = sum(areas, start=np.zeros_like(areas[0]))
    with np.errstate(divide="ignore", invalid="ignore"):
        return [(area / total, sigma) for area, sigma in zip(areas, widths, strict=True)]


def _gauss_usable(parameters: Parameters) -> NDArray[np.bool_]:
    usable = np.logical_and.reduce([np.isfinite(values) for values in parameters.values()])
    area = np.zeros(usable.shape)
    with np.errstate(invalid="ignore", over="ignore"):
        for amplitude, sigma in _gauss_amplitudes_and_widths(parameters):
            usable = usable & ((amplitude <= 0) | (sigma > 0))
            area = area + np.maximum(amplitude, 0.0) * np.square(sigma, dtype=float)
        return np.asarray(usable & (parameters["SCALE"] * area > 0))


def _gauss_density(rad: Array, parameters: Parameters) -> Array:
    parts = [
        fraction / (2 * np.pi * sigma**2) * np.exp(-0.5 * (rad / sigma) ** 2)
        for fraction, sigma in _gauss_components(parameters)
    ]
    return np.asarray(np.sum(parts, axis=0))


def _gauss_containment(rad: Array, parameters: Parameters) -> Array:
    parts = [
        -fraction * np.expm1(-0.5 * (rad / sigma) ** 2)
        for fraction, sigma in _gauss_components(parameters)
    ]
    return np.asarray(np.sum(parts, axis=0))


def _king_usable(parameters: Parameters) -> NDArray[np.bool_]:
    gamma, sigma = parameters["GAMMA"], parameters["SIGMA"]
    return np.asarray((gamma > 1) & (sigma > 0) & np.isfinite(gamma) & np.isfinite(sigma))


def _king_base(rad: Array, parameters: Parameters) -> Array:
    gamma, sigma = parameters["GAMMA"], parameters["SIGMA"]
    base = 1 + rad**2 / (2 * gamma * sigma**2)
    return np.where(_king_usable(parameters), base, np.nan)


def _king_density(rad: Array, parameters: Parameters) -> Array:
    gamma, sigma = parameters["GAMMA"], parameters["SIGMA"]
    with np.errstate(divide="ignore", invalid="ignore"):
        norm = (1 - 1 / gamma) / (2 * np.pi * sigma**2)
        return np.asarray(norm * _king_base(rad, parameters) ** -gamma)


def _king_containment(rad: Array, parameters: Parameters) -> Array:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(1 - _king_base(rad, parameters) ** (1 - parameters["GAMMA"]))


PROFILES = {
    "psf_3gauss": Profile(_gauss_density, _gauss_containment, _gauss_usable),
    "psf_king": Profile(_king_density, _king_containment, _king_usable),
}
"""GADF class of a parametric PSF to its functions."""
