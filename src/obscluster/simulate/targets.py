"""The sources that the simulated array looks at."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["TARGETS", "Target"]


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
