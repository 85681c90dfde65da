"""Point-spread functions that files give as parameters of a function.

https://gamma-astro-data-formats.readthedocs.io/en/v0.3/irfs/full_enclosure/psf/index.html

Angles are in degrees, densities per square degree, and every profile integrates to one.
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
    """

    density: Callable[[Array, Parameters], Array]
    containment: Callable[[Array, Parameters], Array]


def _gauss_components(parameters: Parameters) -> list[tuple[Array, Array]]:
    """Fraction and width of each of the three Gaussians.

    A component that is switched off may have zero width; any other width serves as well.
    """
    amplitudes = (np.ones_like(parameters["SCALE"]), parameters["AMPL_2"], parameters["AMPL_3"])
    widths = [
        np.where(sigma == 0.0, 1.0, sigma)
        for sigma in (parameters["SIGMA_1"], parameters["SIGMA_2"], parameters["SIGMA_3"])
    ]
    areas = [
        parameters["SCALE"] * amplitude * sigma**2
        for amplitude, sigma in zip(amplitudes, widths, strict=True)
    ]
    total = sum(areas, start=np.zeros_like(areas[0]))
    with np.errstate(divide="ignore", invalid="ignore"):
        return [
            (np.nan_to_num(area / total), sigma) for area, sigma in zip(areas, widths, strict=True)
        ]


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


def _king_base(rad: Array, parameters: Parameters) -> Array:
    gamma, sigma = parameters["GAMMA"], parameters["SIGMA"]
    return 1 + rad**2 / (2 * gamma * sigma**2)


def _king_density(rad: Array, parameters: Parameters) -> Array:
    gamma, sigma = parameters["GAMMA"], parameters["SIGMA"]
    with np.errstate(divide="ignore", invalid="ignore"):
        norm = (1 - 1 / gamma) / (2 * np.pi * sigma**2)
        return np.asarray(norm * _king_base(rad, parameters) ** -gamma)


def _king_containment(rad: Array, parameters: Parameters) -> Array:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(1 - _king_base(rad, parameters) ** (1 - parameters["GAMMA"]))


PROFILES = {
    "psf_3gauss": Profile(_gauss_density, _gauss_containment),
    "psf_king": Profile(_king_density, _king_containment),
}
"""GADF class of a parametric PSF to its functions."""
