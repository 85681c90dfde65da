"""Checks of one response: class, units, axes, thresholds, and its numbers.

https://gamma-astro-data-formats.readthedocs.io/en/v0.3/irfs/index.html
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from astropy import units as u

from obscluster.check.findings import Finding, info, warning
from obscluster.check.headers import number
from obscluster.check.values import (
    check_empty_bins,
    check_normalisation,
    check_profile,
    check_values,
)
from obscluster.gadf.hdu import HDU
from obscluster.gadf.irf import IRF, IRF_CLASSES, hdu_class_of, irf_class_of, rad_max_of, read_irf

__all__ = ["check_irf"]

# SCALE of a sum of Gaussians comes without unit in most productions; it is normalised anyway.
_UNIT_OPTIONAL = ("SCALE",)


def check_irf(hdu: HDU, hdu_class: str, has_rad_max: bool) -> Iterator[Finding]:
    """All checks of a response.

    Parameters
    ----------
    hdu : `~obscluster.gadf.hdu.HDU`
        Table of one row.
    hdu_class : str
        GADF class by the index, for a header that does not tell.
    has_rad_max : bool
        Whether every run that uses it has a RAD_MAX table.

    Raises
    ------
    DataError
        If it cannot be read as a response.
    """
    written = hdu_class_of(hdu.header)
    if not {written, hdu_class, irf_class_of(hdu.structure)} & set(IRF_CLASSES):
        yield warning(f"class {hdu_class!r} is none that obscluster reads: not checked")
        return
    irf = read_irf(hdu, hdu_class)
    yield from _check_units(hdu, irf)
    yield from _check_axes(hdu, irf)
    yield from check_values(hdu, irf)
    yield from check_empty_bins(irf)
    if irf.is_parametric:
        yield from check_profile(irf)
    elif irf.hdu_class in ("edisp_2d", "psf_table"):
        yield from check_normalisation(irf)
    if irf.hdu_class == "aeff_2d":
        yield from _check_area(hdu, irf, has_rad_max)


def _check_units(hdu: HDU, irf: IRF) -> Iterator[Finding]:
    """Units that are missing; those that do not convert stop the reader."""
    axes = [name for name in hdu.colnames if name[-3:] in ("_LO", "_HI") and "MIGRA" not in name]
    expected = IRF_CLASSES[irf.hdu_class].columns
    wanted = [name for name, unit in expected.items() if unit != u.one and name in hdu]
    missing = [n for n in axes + wanted if not hdu.unit(n) and n not in _UNIT_OPTIONAL]
    if missing:
        assumed = [str(expected[n]) for n in missing if n in expected and "BKG" not in n]
        # H.E.S.S. wrote backgrounds without unit, and per MeV.
        assumed += ["s-1 MeV-1 sr-1" for n in missing if n == "BKG"]
        assumed += ["TeV or deg"] if any(name in axes for name in missing) else []
        yield warning(f"no unit of column {', '.join(missing)}; {', '.join(assumed)} assumed")


def _check_axes(hdu: HDU, irf: IRF) -> Iterator[Finding]:
    """Ranges and gaps; axes that do not rise stop the reader."""
    for name, axis in irf.axes.items():
        if name in ("offset", "rad", "migra") and axis.center[0] < 0:
            yield warning(f"axis {name} begins at {axis.center[0]:.4g}; expected from 0 on")
        if name in ("energy", "energy_true") and axis.edges[0] < 1e-12:
            yield info(f"axis {name} begins at zero, which its logarithm does not have")
    for low in hdu.colnames:
        high = f"{low[:-3]}_HI"
        if not low.endswith("_LO") or high not in hdu:
            continue
        lo, hi = (np.asarray(hdu.column(name)[0], dtype=float).ravel() for name in (low, high))
        if np.allclose(lo, hi):
            continue
        apart = ~np.isclose(hi[:-1], lo[1:], rtol=1e-4, atol=1e-6)
        if apart.any():
            at = int(np.argmax(apart))
            yield warning(
                f"{apart.sum()} bins do not end where the next begins: {high} = {hi[at]:.6g}, "
                f"{low} = {lo[at + 1]:.6g}"
            )


def _check_area(hdu: HDU, irf: IRF, has_rad_max: bool) -> Iterator[Finding]:
    """Energy thresholds, and the directional cut of a point-like response."""
    low, high = number(irf.header, "LO_THRES"), number(irf.header, "HI_THRES")
    if low >= high:
        yield warning(f"LO_THRES = {low:.4g} is not below HI_THRES = {high:.4g}")
    rad_max = rad_max_of(hdu)
    if irf.is_pointlike and not has_rad_max and rad_max is None:
        yield warning("point-like, but there is neither a keyword RAD_MAX nor a RAD_MAX table")
    if rad_max is not None:
        yield from check_empty_bins(rad_max)
