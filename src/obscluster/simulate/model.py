"""The response of a simulated four-telescope array: a model with few numbers; sources and checks.

The whole response hangs on one variable, ``x``, the true energy in units of the threshold
``E_thr = 0.15 TeV cos(zenith)^-2.5 / muoneff (4 / n_tels)^0.4``: close to the threshold the area
drops, energies are overestimated, directions and energies are known less well. An epoch of the
instrument multiplies the widths of the energy dispersion and of the point-spread function.

`response` gives the truth as functions of energy and offset, for tests that compare what was
injected with what was recovered. Tables and events of the archives are made from the same
functions.

Everything here is beside a numeric kernel: energies are floats in TeV, offsets and radii in deg,
areas in m2, background rates in s-1 TeV-1 sr-1.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr

from obscluster.exceptions import RequestError, unknown_name
from obscluster.simulate.sky import LATITUDE

__all__ = [
    "EPOCHS",
    "FOV_MAX",
    "MIGRA_MAX",
    "MIGRA_MIN",
    "TAIL_FRACTION",
    "TAIL_RATIO",
    "TARGETS",
    "Epoch",
    "Response",
    "Target",
    "bkg_gradient",
    "check_choice",
    "check_integer",
    "check_number",
    "check_zenith_range",
    "migration_range",
    "psf_containment",
    "response",
    "run_response",
    "safe_energy",
]


def check_choice(name: str, value: str, choices: Iterable[str]) -> None:
    """Raise `RequestError` unless the value is one of the choices."""
    known = list(choices)
    if value not in known:
        raise RequestError(unknown_name(name, str(value), known))


# To Python True is the integer 1; as an argument it is a slip.


def check_integer(name: str, value: object, low: int, high: int | None = None) -> None:
    """Raise `RequestError` unless the value is an integer from low to high, both allowed."""
    inside = False
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        inside = bool(low <= value and (high is None or value <= high))
    if not inside:
        allowed = f"of at least {low}" if high is None else f"from {low} to {high}"
        raise RequestError(f"{name} is {value!r}; it must be an integer {allowed}")


def check_number(name: str, value: object, low: float, high: float) -> None:
    """Raise `RequestError` unless the value is a number from low to high, both allowed."""
    inside = False
    if isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool):
        inside = bool(low <= value <= high)
    if not inside:
        raise RequestError(f"{name} is {value!r}; it must be a number from {low} to {high}")


def check_zenith_range(zenith_range: tuple[float, float]) -> None:
    """Raise `RequestError` unless these are two angles with some sky between them."""
    try:
        low, high = (float(angle) for angle in zenith_range)
        allowed = low >= 0 and low + 2 <= high <= 70
    except (TypeError, ValueError):
        allowed = False
    if not allowed:
        raise RequestError(
            f"zenith_range is {zenith_range!r}; it must be two angles in deg, from 0 to 70 and at "
            "least 2 apart, such as (5, 50)"
        )


class Target(NamedTuple):
    """A target: J2000 position in deg, point source ``flux (E / TeV)^-slope``, sky brightness.

    ``flux`` is in cm-2 s-1 TeV-1 at 1 TeV, ``nsb`` in MHz per pixel.
    """

    name: str
    ra: float
    dec: float
    flux: float
    slope: float
    nsb: float


#: Fluxes near the published ones. Vela X is extended in reality, a point here. Mkn 421 stays below
#: 61 deg zenith angle: only a wide ``zenith_range`` reaches it.
TARGETS = (
    Target("Crab Nebula", 83.6333, 22.0145, 3.45e-11, 2.63, 120.0),
    Target("PKS 2155-304", 329.7169, -30.2256, 3.5e-12, 3.3, 80.0),
    Target("Mkn 421", 166.1138, 38.2088, 2.0e-11, 2.8, 80.0),
    Target("Vela X", 128.75, -45.6, 9.0e-12, 2.1, 190.0),
    Target("Centaurus A", 201.3651, -43.0191, 2.5e-13, 2.7, 110.0),
    Target("RX J1713.7-3946", 258.3875, -39.7633, 1.5e-11, 2.3, 200.0),
)

FloatArray = NDArray[np.float64]


class Epoch(NamedTuple):
    """How the instrument of an epoch differs from the array as built.

    Attributes
    ----------
    name : str
        What happened to the instrument.
    light, edisp, psf : float
        Natural logarithm of the factors on the muon efficiency at the start of the epoch, on the
        width of the energy dispersion and on the radius of the PSF, at ``separation=1``.
    """

    name: str
    light: float
    edisp: float
    psf: float


#: In the plane of (edisp, psf) any two epochs are at least 0.5 apart, several times the spread that
#: zenith angle, muon efficiency and telescope pattern cause within an epoch.
EPOCHS = (
    Epoch("as built", 0.0, 0.0, 0.0),
    Epoch("degraded mirrors", -0.25, 0.25, 0.5),
    Epoch("new cameras", -0.05, -0.5, 0.0),
    Epoch("refurbished mirrors", 0.1, -0.1, -0.55),
    Epoch("misaligned mirrors", 0.0, -0.35, 0.6),
    Epoch("low camera gain", -0.15, 0.55, -0.25),
)

# PSF: a quarter of the events in a second Gaussian 2.2 times wider, as real PSFs have tails. The
# shape is the same everywhere, so that the radius of any containment is a multiple of the 68 % one.
TAIL_FRACTION = 0.25
TAIL_RATIO = 2.2
# 68 % and 95 % containment radii in units of the narrow sigma, and the King profile that has the
# same two radii: its gamma, and its sigma in units of the narrow sigma. Solved once with a root
# finder; tests/simulate/test_simulate.py puts all four back into the profiles.
_R68 = 1.8221423973
_R95 = 3.9544800043
_KING_GAMMA = 2.8773736511
_KING_SIGMA = 0.8313436972

#: Ends of the energy dispersion, E_reco / E, and of the field of view in deg.
MIGRA_MIN, MIGRA_MAX = 0.2, 5.0
FOV_MAX = 2.5


@dataclass(frozen=True)
class Response:
    """The true response of one run; energies in TeV, angles in deg, broadcast against each other.

    Attributes
    ----------
    threshold : float
        Energy in TeV of the turn-on.
    area : float
        Area in m2 far above the threshold, on axis.
    edisp_scale, psf_scale : float
        Log-normal width, and 68 % containment radius in deg, far above the threshold at 1 TeV on
        axis.
    bkg_scale : float
        Background rate in s-1 TeV-1 sr-1 at 1 TeV on axis, far above the threshold.
    bkg_gradient : (float, float)
        Relative change of the background rate per deg along DETX (East) and DETY (North).
    """

    threshold: float
    area: float
    edisp_scale: float
    psf_scale: float
    bkg_scale: float
    bkg_gradient: tuple[float, float] = (0.0, 0.0)

    def aeff(self, energy: ArrayLike, offset: ArrayLike) -> FloatArray:
        """Effective area in m2 at true energies (TeV) and offsets (deg)."""
        energy, offset = np.asarray(energy, float), np.asarray(offset, float)
        x = energy / self.threshold
        turn_on = np.exp(-(x**-3.0)) / (1 + 2 / x)
        # The field of view widens with energy: brighter showers are seen from further outside.
        width = 1.7 * np.clip(energy, 0.05, 50.0) ** 0.08
        fall_off = np.exp(-0.5 * (offset / width) ** 3)
        return self.area * turn_on * fall_off / (1 + energy / 200)

    def edisp_bias(self, energy: ArrayLike) -> FloatArray:
        """Median migration minus 1 at true energies (TeV)."""
        x = np.asarray(energy, float) / self.threshold
        return 0.35 / (x**4 + 0.25)

    def edisp_sigma(self, energy: ArrayLike, offset: ArrayLike) -> FloatArray:
        """Width of ln(migration) at true energies (TeV) and offsets (deg)."""
        energy = np.asarray(energy, float)
        width = self.edisp_scale * self._worsening(energy, 0.35)
        return width * (1 + 0.03 * np.asarray(offset, float) ** 2)

    def edisp_moments(self, energy: ArrayLike, offset: ArrayLike) -> tuple[FloatArray, FloatArray]:
        """Mean of (E_reco - E) / E and standard deviation of E_reco / E."""
        variance = self.edisp_sigma(energy, offset) ** 2
        mean = (1 + self.edisp_bias(energy)) * np.exp(variance / 2)
        return mean - 1, mean * np.sqrt(np.expm1(variance))

    def psf_r68(self, energy: ArrayLike, offset: ArrayLike) -> FloatArray:
        """68 % containment radius in deg at true energies (TeV) and offsets (deg)."""
        energy = np.asarray(energy, float)
        radius = self.psf_scale * self._worsening(energy, 0.4)
        return radius * (1 + 0.05 * np.asarray(offset, float) ** 2)

    def psf_r95(self, energy: ArrayLike, offset: ArrayLike) -> FloatArray:
        """95 % containment radius in deg at true energies (TeV) and offsets (deg)."""
        return self.psf_r68(energy, offset) * (_R95 / _R68)

    def psf_sigmas(self, energy: ArrayLike, offset: ArrayLike) -> tuple[FloatArray, FloatArray]:
        """Sigmas in deg of the narrow Gaussian (75 % of the events) and of the wide one (25 %)."""
        narrow = self.psf_r68(energy, offset) / _R68
        return narrow, TAIL_RATIO * narrow

    def psf_king(self, energy: ArrayLike, offset: ArrayLike) -> tuple[FloatArray, FloatArray]:
        """Gamma and sigma (deg) of the King profile with the same 68 % and 95 % radii."""
        sigma = self.psf_r68(energy, offset) * (_KING_SIGMA / _R68)
        return np.full_like(sigma, _KING_GAMMA), sigma

    def bkg(self, energy: ArrayLike, offset: ArrayLike) -> FloatArray:
        """Background rate in s-1 TeV-1 sr-1 at reconstructed energies (TeV) and offsets (deg).

        With a gradient this is the mean rate on the circle around the pointing.
        """
        energy, offset = np.asarray(energy, float), np.asarray(offset, float)
        # E^-2.7 near the threshold, E^-3.2 at the highest energies.
        spectrum = energy**-2.7 / (1 + energy / 10) ** 0.5
        turn_on = np.exp(-((energy / self.threshold) ** -4.0))
        profile = np.exp(-0.5 * (offset / self.bkg_width(energy)) ** 2)
        return self.bkg_scale * spectrum * turn_on * profile

    @staticmethod
    def bkg_width(energy: ArrayLike) -> FloatArray:
        """Gaussian width in deg of the background in the field of view (reconstructed TeV)."""
        return 1.2 * np.clip(np.asarray(energy, float), 0.05, 50.0) ** 0.1

    def bkg_tilt(self, det_x: ArrayLike, det_y: ArrayLike) -> FloatArray:
        """Background rate relative to `bkg` that the gradient makes of it (coordinates in deg)."""
        along_x, along_y = self.bkg_gradient
        tilt = 1 + along_x * np.asarray(det_x, float) + along_y * np.asarray(det_y, float)
        return np.maximum(tilt, 0.0)

    def _worsening(self, energy: FloatArray, slope: float) -> FloatArray:
        """Width relative to 1 TeV far above the threshold; constant far below, where nothing is."""
        seen = np.maximum(energy, 0.7 * self.threshold)
        return seen**-0.1 * (1 + slope * self.threshold / seen)


def response(
    zenith: float, muoneff: float, epoch: int, n_tels: int, *, separation: float = 1.0
) -> Response:
    """Response under given conditions: what `obscluster.simulate.simulate` tabulates.

    Parameters
    ----------
    zenith : float
        Zenith angle of the pointing in deg, 0 to 89.
    muoneff : float
        Muon efficiency of the run, 1 for the array as built, 0.01 to 10. It holds the change of
        throughput from epoch to epoch.
    epoch : int
        Epoch of the instrument, 1 to 6: see `EPOCHS`.
    n_tels : int
        Number of telescopes, 2 to 4.
    separation : float
        How far the epochs are apart, see `obscluster.simulate.simulate`.

    Returns
    -------
    truth : Response
        Area, energy dispersion, PSF and background as functions of energy and offset. The
        background has no gradient.

    Raises
    ------
    RequestError
        One of the conditions is out of range.

    Examples
    --------
    >>> truth = response(zenith=20.0, muoneff=1.0, epoch=1, n_tels=4)
    >>> round(truth.threshold, 3), round(float(truth.psf_r68(1.0, 0.5)), 3)
    (0.175, 0.098)
    """
    check_number("zenith", zenith, 0, 89)
    check_number("muoneff", muoneff, 0.01, 10)
    check_integer("epoch", epoch, 1, len(EPOCHS))
    check_integer("n_tels", n_tels, 2, 4)
    cos_zenith = np.cos(np.radians(zenith))
    instrument = EPOCHS[epoch - 1]
    missing = 4 / n_tels
    return Response(
        threshold=float(0.15 * cos_zenith**-2.5 / muoneff * missing**0.4),
        # The light pool grows with the distance to the shower, as cos^-2, less absorption.
        area=float(3.2e5 * cos_zenith**-1.8 * missing**-0.8),
        edisp_scale=float(0.16 * np.exp(separation * instrument.edisp) * missing**0.3),
        psf_scale=float(0.09 * np.exp(separation * instrument.psf) * missing**0.3),
        bkg_scale=float(40.0 * cos_zenith**-0.6 * missing**-1.2),
    )


def run_response(run: Any, separation: float) -> Response:
    """Response of a row of the obs-index, without gradient of the background."""
    return response(
        float(run["ZEN_PNT"].value),
        float(run["MUONEFF"]),
        int(run["EPOCH"]),
        int(run["N_TELS"]),
        separation=separation,
    )


def bkg_gradient(run: Any) -> tuple[float, float]:
    """Relative gradient per deg along DETX and DETY, 3 % tan(zenith) towards the zenith, of a row.

    The lower in the sky, the faster the rate of air showers falls with zenith angle.
    """
    azimuth, altitude, dec = (run[key].to_value("rad") for key in ("AZ_PNT", "ALT_PNT", "DEC_PNT"))
    latitude = np.radians(LATITUDE)
    # The parallactic angle is the position angle of the zenith.
    east = -np.sin(azimuth) * np.cos(latitude) * np.cos(altitude)
    north = np.sin(latitude) - np.sin(altitude) * np.sin(dec)
    size = 0.03 / np.tan(altitude) / max(np.hypot(east, north), 1e-12)
    return float(size * east), float(size * north)


def psf_containment(radius: ArrayLike, narrow: ArrayLike) -> FloatArray:
    """Fraction of the events of the double Gaussian within a radius, both arguments in deg."""
    square = -0.5 * (np.asarray(radius, float) / np.asarray(narrow, float)) ** 2
    wide = np.expm1(square / TAIL_RATIO**2)
    return -(1 - TAIL_FRACTION) * np.expm1(square) - TAIL_FRACTION * wide


def migration_range(
    truth: Response, energy: FloatArray, offset: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Probabilities below the ends of the migra axis; median and width of ln(migration)."""
    median = np.log1p(truth.edisp_bias(energy))
    sigma = truth.edisp_sigma(energy, offset)
    low = ndtr((np.log(MIGRA_MIN) - median) / sigma)
    high = ndtr((np.log(MIGRA_MAX) - median) / sigma)
    return low, high, median, sigma


def safe_energy(truth: Response, offset: float) -> float:
    """Energy in TeV, to 2 %, where the area reaches 10 % of its maximum."""
    energy = np.geomspace(0.01, 100, 501)
    area = truth.aeff(energy, offset)
    return float(energy[np.argmax(area >= 0.1 * area.max())])
