"""The source whose measurement counts: spectrum, size, and the parameters of interest.

What stacking costs depends on the source: a faint one drowns in background and suffers from mixed
PSFs, a bright one hardly does. `make_source` takes values with units; the classes hold floats in
TeV, degrees, and cm-2 s-1 TeV-1.

The derivative to ``amplitude`` is taken to its logarithm, so that its error is a relative one and
does not depend on the unit of the flux. All others are to the parameter itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from astropy import units as u
from numpy.typing import NDArray

from obscluster.exceptions import RequestError, unknown_name
from obscluster.values.parsing import degrees_of, energy_of, flux_of

__all__ = [
    "CRAB",
    "SPECTRA",
    "ExpCutoffPowerLaw",
    "LogParabola",
    "PowerLaw",
    "Source",
    "Spectrum",
    "make_source",
]

Array = NDArray[np.float64]

_FLUX = u.Unit("cm-2 s-1 TeV-1")


class Spectrum(Protocol):
    """Anything with a flux and its derivatives."""

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of the parameters."""

    def flux(self, energy: Array) -> Array:
        """Differential flux in cm-2 s-1 TeV-1 at energies in TeV."""

    def log_gradient(self, name: str, energy: Array) -> Array:
        """Derivative of the logarithm of the flux to a parameter (amplitude: its logarithm)."""


@dataclass(frozen=True)
class PowerLaw:
    """``amplitude (E / reference)^-index``.

    Parameters
    ----------
    amplitude : float
        Flux at the reference energy, in cm-2 s-1 TeV-1.
    index : float
        Spectral index, positive for a falling spectrum.
    reference : float
        Reference energy in TeV.
    """

    amplitude: float
    index: float = 2.7
    reference: float = 1.0

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of the parameters."""
        return ("amplitude", "index")

    def flux(self, energy: Array) -> Array:
        """Differential flux in cm-2 s-1 TeV-1 at energies in TeV."""
        return np.asarray(self.amplitude * (energy / self.reference) ** -self.index)

    def log_gradient(self, name: str, energy: Array) -> Array:
        """Derivative of the logarithm of the flux to a parameter (amplitude: its logarithm)."""
        if name == "amplitude":
            return np.ones_like(energy)
        if name == "index":
            return np.asarray(-np.log(energy / self.reference))
        raise RequestError(unknown_name("parameter", name, self.parameters))


@dataclass(frozen=True)
class ExpCutoffPowerLaw(PowerLaw):
    """``amplitude (E / reference)^-index exp(-lambda_ E)``.

    Parameters
    ----------
    amplitude, index, reference
        See `PowerLaw`.
    lambda_ : float
        Inverse of the cut-off energy, in TeV-1.
    """

    lambda_: float = 0.1

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of the parameters."""
        return ("amplitude", "index", "lambda_")

    def flux(self, energy: Array) -> Array:
        """Differential flux in cm-2 s-1 TeV-1 at energies in TeV."""
        return np.asarray(super().flux(energy) * np.exp(-self.lambda_ * energy))

    def log_gradient(self, name: str, energy: Array) -> Array:
        """Derivative of the logarithm of the flux to a parameter (amplitude: its logarithm)."""
        return -energy if name == "lambda_" else super().log_gradient(name, energy)


@dataclass(frozen=True)
class LogParabola(PowerLaw):
    """``amplitude (E / reference)^(-index - curvature ln(E / reference))``.

    Parameters
    ----------
    amplitude, index, reference
        See `PowerLaw`; Gammapy calls the index ``alpha``.
    curvature : float
        Gammapy's ``beta``, with the natural logarithm.
    """

    curvature: float = 0.1

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of the parameters."""
        return ("amplitude", "index", "curvature")

    def flux(self, energy: Array) -> Array:
        """Differential flux in cm-2 s-1 TeV-1 at energies in TeV."""
        bend = self.curvature * np.log(energy / self.reference) ** 2
        return np.asarray(super().flux(energy) * np.exp(-bend))

    def log_gradient(self, name: str, energy: Array) -> Array:
        """Derivative of the logarithm of the flux to a parameter (amplitude: its logarithm)."""
        if name == "curvature":
            return np.asarray(-(np.log(energy / self.reference) ** 2))
        return super().log_gradient(name, energy)


SPECTRA = {
    "power-law": PowerLaw,
    "cutoff-power-law": ExpCutoffPowerLaw,
    "log-parabola": LogParabola,
}
"""Spectra by the name that `make_source` takes."""

CRAB = PowerLaw(3.45e-11, 2.63, 1.0)
"""The Crab nebula, the unit of flux: the power law of H.E.S.S. (Aharonian et al. 2006, A&A 457,
899). A source of 1 % of the Crab has 1 % of its differential flux at the reference energy."""


@dataclass(frozen=True)
class Source:
    """What is measured.

    Parameters
    ----------
    spectrum : `Spectrum`
        Differential flux.
    size : float
        Width (sigma) of a Gaussian in degrees, 0 for a point.
    parameters : tuple of str
        The parameters of interest, among those of the spectrum and ``size``; the others are taken
        to be known.

    Raises
    ------
    RequestError
        If a parameter is unknown, named twice, or is the size of a point.
    """

    spectrum: Spectrum
    size: float = 0.0
    parameters: tuple[str, ...] = ("amplitude", "index")

    def __post_init__(self) -> None:
        known = (*self.spectrum.parameters, "size")
        for name in self.parameters:
            if name not in known:
                raise RequestError(unknown_name("parameter", name, known))
        if not self.parameters or len(set(self.parameters)) != len(self.parameters):
            names = ", ".join(self.parameters) or "(none)"
            raise RequestError(f"parameters {names}: name each parameter of interest once")
        if not 0 <= self.size < 10:
            raise RequestError(f"source size {self.size:g} deg; expected 0 to 10 deg")
        if "size" in self.parameters and self.size == 0:
            raise RequestError(
                "parameter size: a point has none, its derivative is zero; give a size above 0"
            )


def make_source(
    amplitude: Any = 0.01,
    index: float = 2.7,
    reference: Any = "1 TeV",
    model: str = "power-law",
    cutoff: Any = None,
    curvature: float | None = None,
    size: Any = "0 deg",
    parameters: str | Sequence[str] = ("amplitude", "index"),
) -> Source:
    """Source from values with units.

    Parameters
    ----------
    amplitude : `~astropy.units.Quantity`, str or float
        Differential flux at the reference energy, such as ``"2e-13 cm-2 s-1 TeV-1"``; or in units
        of the `CRAB` there: a number or ``"0.6 % Crab"``.
    index : float
        Spectral index, positive for a falling spectrum.
    reference : `~astropy.units.Quantity` or str
        Reference energy.
    model : {"power-law", "cutoff-power-law", "log-parabola"}
        Spectrum.
    cutoff : `~astropy.units.Quantity` or str, optional
        Cut-off energy of a ``cutoff-power-law``, needed for it. The parameter is its inverse,
        ``lambda_``, whose likelihood is the more normal one.
    curvature : float, optional
        Of a ``log-parabola``, needed for it.
    size : `~astropy.units.Quantity` or str
        Width (sigma) of a Gaussian source.
    parameters : str or sequence of str
        Parameters of interest: amplitude, index, lambda_, curvature, size.

    Returns
    -------
    source : `Source`
        The same in plain numbers.

    Raises
    ------
    RequestError
        If a value cannot be used, is missing or does not belong to the model.

    Examples
    --------
    >>> make_source("0.6 % Crab", index=2.7).spectrum.amplitude
    2.07e-13
    """
    if model not in SPECTRA:
        raise RequestError(unknown_name("model", model, SPECTRA))
    for name, value, owner in (
        ("cutoff", cutoff, "cutoff-power-law"),
        ("curvature", curvature, "log-parabola"),
    ):
        if (value is not None) != (model == owner):
            verb = "needs" if model == owner else "has no"
            raise RequestError(f"a {model} {verb} {name}")
    energy = _parsed("reference", energy_of, reference)
    common = {
        "amplitude": _parsed("amplitude", flux_of, amplitude, float(CRAB.flux(np.array(energy)))),
        "index": _finite("index", index),
    }
    spectrum: Spectrum
    if model == "cutoff-power-law":
        lambda_ = 1.0 / _parsed("cutoff", energy_of, cutoff)
        spectrum = ExpCutoffPowerLaw(**common, reference=energy, lambda_=lambda_)
    elif model == "log-parabola":
        bend = _finite("curvature", curvature)
        spectrum = LogParabola(**common, reference=energy, curvature=bend)
    else:
        spectrum = PowerLaw(**common, reference=energy)
    names = (parameters,) if isinstance(parameters, str) else tuple(parameters)
    return Source(spectrum, _parsed("size", degrees_of, size), names)


def _parsed(name: str, parse: Callable[..., float], value: Any, *more: float) -> float:
    """A value as it was written, or an error with its name."""
    try:
        return parse(value, *more)
    except ValueError as problem:
        raise RequestError(f"{name} {value}: {problem}") from None


def _finite(name: str, value: Any) -> float:
    try:
        result = float(value)
    except (TypeError, ValueError):
        result = np.nan
    if not np.isfinite(result):
        raise RequestError(f"{name} {value!r}: expected a number")
    return result
