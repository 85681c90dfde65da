"""Checks of one response: class, units, axes, thresholds, and its numbers.

https://gamma-astro-data-formats.readthedocs.io/en/v0.3/irfs/index.html
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from astropy import units as u
from numpy.typing import NDArray

from obscluster.check.findings import Finding, error, info, warning
from obscluster.check.headers import number
from obscluster.gadf.axis import Axis
from obscluster.gadf.fits import HDU
from obscluster.gadf.irf import IRF_CLASSES, hdu_class_of, irf_class_of, rad_max_of, read_irf
from obscluster.gadf.response import IRF
from obscluster.gadf.units import unit_factor

__all__ = ["check_empty_bins", "check_irf", "check_normalisation", "check_profile", "check_values"]

Array = NDArray[np.float64]

# Deviation from 1 of the integral of an energy dispersion. Distributions that the migration axis
# cuts off are a few per cent short; what is off by more was never normalised.
EDISP_INFO, EDISP_WARNING = 0.01, 0.1
# A tabulated PSF may end with its axis before it holds everything, but cannot hold more than 1.
PSF_LOW, PSF_HIGH = 0.9, 1.01
# Outside, it is much more or less than one.
PSF_FAR = 1.1
_SR_PER_DEG2 = float((u.deg**2).to(u.sr))
# Where features are asked: bins next to this energy in TeV, at offsets up to this in degrees.
ENERGY, OFFSET = 1.0, 1.0
# No value of a response is as large: it is damage.
HUGE = 1e30
# Degrees: wider than any Cherenkov telescope sees.
PSF_WIDEST = 5.0

# Class to what makes a bin an empty one.
_EMPTY = {
    "psf_table": "RPSF is zero at every RAD",
    "psf_3gauss": "SCALE or each width is zero",
    "psf_king": "SIGMA or GAMMA is zero",
    "edisp_2d": "MATRIX is zero at every MIGRA",
    "bkg_2d": "BKG is zero",
    "bkg_3d": "BKG is zero",
    "rad_max_2d": "RAD_MAX is zero",
}


def check_values(hdu: HDU, irf: IRF) -> Iterator[Finding]:
    """Not finite, negative, all zero.

    Parameters
    ----------
    hdu : `~obscluster.gadf.fits.HDU`
        The table: readers may have put zero for what is no number.
    irf : `~obscluster.gadf.irf.IRF`
        The same as a response.
    """
    for name in irf.arrays:
        column = name if name in hdu else "BGD"
        values = np.asarray(hdu.view(column)[0], dtype=float)
        n_nan, n_huge = int(np.isnan(values).sum()), int((np.abs(values) > HUGE).sum())
        if n_nan + n_huge == values.size:
            yield error(f"{column} is NaN or infinite everywhere")
            continue
        if n_nan + n_huge:
            yield warning(
                f"{column} is NaN in {n_nan} and infinite or absurd in {n_huge} of {values.size} "
                "bins; taken as zero"
            )
        negative = values[values < 0]
        if negative.size:
            yield warning(
                f"{column} is negative in {negative.size} of {values.size} bins, "
                f"{negative.min():.4g} at worst"
            )
        # The parameters of a profile may be zero: an amplitude that is not used.
        if not irf.is_parametric and not (values > 0).any():
            yield error(f"{column} is nowhere positive")


def check_normalisation(irf: IRF) -> Iterator[Finding]:
    """Whether a dispersion or a tabulated PSF integrates to one, where it is not empty.

    Parameters
    ----------
    irf : `~obscluster.gadf.irf.IRF`
        A response of class ``edisp_2d`` or ``psf_table``.
    """
    values = np.nan_to_num(np.asarray(irf.data, dtype=float), posinf=0.0, neginf=0.0)
    name = "migra" if irf.hdu_class == "edisp_2d" else "rad"
    edges = irf.axes[name].edges
    # A ring of the sky; nodes at zero have their lower edge below it.
    sizes = (
        np.diff(edges)
        if name == "migra"
        else np.pi * np.diff(np.asarray(np.radians(np.clip(edges, 0.0, None)) ** 2))
    )
    axis = list(irf.axes).index(name)
    integral = np.moveaxis(values, axis, -1) @ sizes
    if name == "rad":
        integral = integral * unit_factor(irf.unit, u.sr**-1)
    used = np.any(values != 0, axis=axis)
    if not used.any():
        return
    off = np.where(used, np.abs(integral - 1), 0.0)
    worst = np.unravel_index(int(np.argmax(off)), off.shape)
    others = [axis for axis in irf.axes.values() if axis.name != name]
    place = ", ".join(
        f"{axis.name} {axis.center[i]:.4g} {axis.unit}"
        for axis, i in zip(others, worst, strict=True)
    )
    bins = f"of {used.sum()} bins, worst {integral[worst]:.4g} at {place}"
    if name == "rad":
        typical = float(np.median(integral[used]))
        for factor, text in ((_SR_PER_DEG2, "(pi/180)^2"), (1 / _SR_PER_DEG2, "(180/pi)^2")):
            if 1 / PSF_FAR < typical / factor < PSF_FAR:
                yield warning(
                    f"RPSF in {irf.unit} integrates to {text} = {factor:.4g}, expected is 1: its "
                    "values are those of another unit (deg-2 or sr-1)"
                )
                return
        high, low = used & (integral > PSF_HIGH), used & (integral < PSF_LOW)
        if high.any():
            far = int((used & (integral > PSF_FAR)).sum())
            more = f", to much more than one (above {PSF_FAR}) in {far}" if far else ""
            yield warning(f"RPSF integrates to more than {PSF_HIGH} in {high.sum()}{more} {bins}")
        if low.any():
            yield info(f"RPSF integrates to less than {PSF_LOW} in {low.sum()} {bins}")
        return
    text = f"MATRIX integrates over MIGRA to something else than 1 in {{}} {bins}"
    if np.allclose(values.sum(axis=axis)[used], 1, atol=EDISP_INFO):
        text += "; the bins add up to 1, so it holds probabilities, expected are densities"
    if off.max() > EDISP_WARNING:
        yield warning(text.format((off > EDISP_WARNING).sum()))
    elif off.max() > EDISP_INFO:
        yield info(text.format((off > EDISP_INFO).sum()))


def check_empty_bins(irf: IRF) -> Iterator[Finding]:
    """Bins without a value next to where features are asked: 1 TeV, offsets up to 1 deg.

    Parameters
    ----------
    irf : `~obscluster.gadf.irf.IRF`
        Any response.
    """
    what = _EMPTY.get(irf.hdu_class)
    if what is None:
        return
    empty, axes = _empty_bins(irf)
    if empty.all():
        return
    chosen = np.ix_(*[_near(axis) for axis in axes])
    n_empty = int(empty[chosen].sum())
    if n_empty:
        yield warning(
            f"{n_empty} of {empty[chosen].size} bins next to {ENERGY:g} TeV and offsets up to "
            f"{OFFSET:g} deg are empty ({what}): there is no value there, others stand in"
        )
        return
    if irf.hdu_class.startswith("bkg"):
        # Single bins of a cube are empty for want of events, all of an energy are not.
        central = np.ix_(np.arange(len(empty)), *[_near(axis) for axis in axes[1:]])
        some = np.flatnonzero(np.any(~empty[central], axis=tuple(range(1, empty.ndim))))
        gaps = np.setdiff1d(np.arange(some[0], some[-1]), some) if some.size else some
        if gaps.size:
            energies = axes[0].center[gaps]
            yield info(
                f"BKG is zero in {len(energies)} of {len(empty)} energy bins, at {energies[0]:.4g} "
                f"{axes[0].unit}, up to {OFFSET:g} deg, but not at lower and higher energies"
            )


def _empty_bins(irf: IRF) -> tuple[NDArray[np.bool_], list[Axis]]:
    """Where a response has no value, and the axes of this array."""
    values = {
        name: np.nan_to_num(np.asarray(array, dtype=float), posinf=0.0, neginf=0.0)
        for name, array in irf.arrays.items()
    }
    axes = list(irf.axes.values())
    if irf.hdu_class == "psf_king":
        return (values["SIGMA"] == 0) | (values["GAMMA"] == 0), axes
    if irf.hdu_class == "psf_3gauss":
        widths = [values[f"SIGMA_{i}"] for i in (1, 2, 3)]
        return (values["SCALE"] == 0) | np.all([w == 0 for w in widths], axis=0), axes
    (array,) = values.values()
    inner = [i for i, axis in enumerate(axes) if axis.name in ("migra", "rad")]
    empty = np.all(array == 0, axis=tuple(inner)) if inner else array == 0
    return np.asarray(empty), [axis for i, axis in enumerate(axes) if i not in inner]


def _near(axis: Axis) -> NDArray[np.int64]:
    """Bins of an axis between which values are interpolated where features are asked."""
    first, last = (ENERGY, ENERGY) if axis.name.startswith("energy") else (0.0, OFFSET)
    if axis.name.startswith("fov"):
        first = -OFFSET
    begin = max(int(np.searchsorted(axis.center, first, side="right")) - 1, 0)
    end = min(int(np.searchsorted(axis.center, last, side="left")), axis.nbin - 1)
    return np.arange(min(begin, axis.nbin - 1), max(end, begin) + 1)


def check_profile(irf: IRF) -> Iterator[Finding]:
    """Whether the parameters of a PSF are possible, where it is not empty.

    Parameters
    ----------
    irf : `~obscluster.gadf.irf.IRF`
        A response of class ``psf_3gauss`` or ``psf_king``.
    """
    values = {name: np.asarray(array, dtype=float) for name, array in irf.arrays.items()}
    if irf.hdu_class == "psf_king":
        used = (values["SIGMA"] != 0) & (values["GAMMA"] != 0)
        widths = {"SIGMA": used}
        low = used & (values["GAMMA"] <= 1)
        if low.any():
            yield warning(
                f"GAMMA is not above 1 in {low.sum()} of {used.sum()} bins, where a King profile "
                f"has no finite integral: {values['GAMMA'][low].min():.4g}"
            )
    else:
        used = values["SCALE"] != 0
        widths = {
            "SIGMA_1": used,
            "SIGMA_2": used & (values["AMPL_2"] != 0),
            "SIGMA_3": used & (values["AMPL_3"] != 0),
        }
    if not used.any():
        yield error("the PSF is empty: no bin has a scale and a width")
    for name, where in widths.items():
        sigma = values[name]
        # Negative ones are reported as such.
        zero, wide = where & (sigma == 0), where & (sigma > PSF_WIDEST)
        if zero.any():
            yield warning(f"{name} is zero in {zero.sum()} of {where.sum()} bins with an amplitude")
        if wide.any():
            yield warning(
                f"{name} exceeds {PSF_WIDEST:g} deg in {wide.sum()} of {where.sum()} bins: "
                f"up to {sigma[wide].max():.4g} deg"
            )


# SCALE of a sum of Gaussians comes without unit in most productions; it is normalised anyway.
_UNIT_OPTIONAL = ("SCALE",)


def check_irf(hdu: HDU, hdu_class: str, has_rad_max: bool) -> Iterator[Finding]:
    """All checks of a response.

    Parameters
    ----------
    hdu : `~obscluster.gadf.fits.HDU`
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
