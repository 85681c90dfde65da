"""The response of a run as IRF tables, and events that are drawn from it.

https://gamma-astro-data-formats.readthedocs.io/en/v0.3/irfs/index.html

https://gamma-astro-data-formats.readthedocs.io/en/v0.3/events/index.html
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from obscluster.simulate.model import (
    FOV_MAX,
    MIGRA_MAX,
    MIGRA_MIN,
    TAIL_FRACTION,
    TAIL_RATIO,
    TARGETS,
    Response,
    migration_range,
    psf_containment,
    safe_energy,
)
from obscluster.simulate.sky import SITE, TIME_REFERENCE, offset_by

__all__ = [
    "BKG_TABLES",
    "NO_EVENTS",
    "PSF_TABLES",
    "SIZES",
    "Binning",
    "draw_events",
    "draw_migration",
    "draw_radius",
    "events_hdu",
    "gti_hdu",
    "irf_hdus",
    "table_hdu",
]

FloatArray = NDArray[np.float64]


class Binning(NamedTuple):
    """Axes of the IRF tables: edges in TeV or deg, except for the offsets, which are nodes."""

    energy: FloatArray
    energy_psf: FloatArray
    energy_bkg: FloatArray
    offset: FloatArray
    migra: FloatArray
    rad: FloatArray
    theta_bkg: FloatArray
    det: FloatArray


def _rad_edges(n_bins: int) -> FloatArray:
    """Radii in deg to 1.2 deg, denser in the centre, where the PSF varies."""
    return 1.2 * np.linspace(0, 1, n_bins + 1) ** 1.5


#: Binnings by name: ``full`` is that of H.E.S.S. (0.6 MB per run), ``small`` has few bins.
SIZES: Mapping[str, Binning] = {
    "full": Binning(
        energy=np.geomspace(0.01, 100, 97),
        energy_psf=np.geomspace(0.01, 100, 33),
        energy_bkg=np.geomspace(0.1, 100, 21),
        offset=np.linspace(0, FOV_MAX, 6),
        migra=np.linspace(MIGRA_MIN, MIGRA_MAX, 161),
        rad=_rad_edges(144),
        theta_bkg=np.linspace(0, FOV_MAX, 26),
        det=np.linspace(-FOV_MAX, FOV_MAX, 51),
    ),
    "small": Binning(
        energy=np.geomspace(0.02, 100, 33),
        energy_psf=np.geomspace(0.02, 100, 13),
        energy_bkg=np.geomspace(0.1, 100, 10),
        offset=np.array([0.0, 0.5, 1.0, FOV_MAX]),
        migra=np.linspace(MIGRA_MIN, MIGRA_MAX, 61),
        rad=_rad_edges(40),
        theta_bkg=np.linspace(0, FOV_MAX, 11),
        det=np.linspace(-FOV_MAX, FOV_MAX, 12),
    ),
}


def irf_hdus(
    truth: Response, *, size: str, psf: str, bkg: str
) -> list[tuple[str, fits.BinTableHDU]]:
    """Tabulate a response as GADF HDUs.

    Parameters
    ----------
    truth : Response
        The response.
    size : str
        Name of the binning, see `SIZES`.
    psf : {"psf_table", "psf_3gauss", "psf_king"}
        Format of the PSF.
    bkg : {"bkg_3d", "bkg_2d"}
        Format of the background; ``bkg_2d`` has no room for a gradient.

    Returns
    -------
    hdus : list of (str, `~astropy.io.fits.BinTableHDU`)
        GADF class (``HDU_CLASS`` of the index) and table of area, dispersion, PSF, background.
    """
    bins = SIZES[size]
    # Effective area, shape (offset, energy) (GADF: aeff_2d).
    area = truth.aeff(_centers(bins.energy), bins.offset[:, np.newaxis])
    hdu = _table(
        "AEFF",
        "EFF_AREA",
        "AEFF_2D",
        {"ENERG": bins.energy, "THETA": bins.offset},
        {"EFFAREA": (area, "m2")},
    )
    hdu.header["LO_THRES"] = (safe_energy(truth, 0.0), "[TeV] area is 10 % of its maximum")
    hdu.header["HI_THRES"] = (100.0, "[TeV]")
    # Energy dispersion dP/dmigra, shape (offset, migra, energy) (GADF: edisp_2d).
    energy, offset = _centers(bins.energy), bins.offset[:, np.newaxis, np.newaxis]
    low, high, median, sigma = migration_range(truth, energy, offset)
    below = ndtr((np.log(bins.migra)[:, np.newaxis] - median) / sigma)
    matrix = np.diff(below, axis=1) / (high - low) / np.diff(bins.migra)[:, np.newaxis]
    return [
        ("aeff_2d", hdu),
        (
            "edisp_2d",
            _table(
                "EDISP",
                "EDISP",
                "EDISP_2D",
                {"ENERG": bins.energy, "MIGRA": bins.migra, "THETA": bins.offset},
                {"MATRIX": (matrix, None)},
            ),
        ),
        (psf, PSF_TABLES[psf](truth, bins)),
        (bkg, BKG_TABLES[bkg](truth, bins)),
    ]


def _psf_table(truth: Response, bins: Binning) -> fits.BinTableHDU:
    """PSF in sr-1, shape (rad, offset, energy) (GADF: psf_table).

    A bin holds the mean density in it: the sum over the bins times their areas pi (r_hi^2 - r_lo^2)
    is 1. The PSF ends with the axis.
    """
    narrow, _ = truth.psf_sigmas(_centers(bins.energy_psf), bins.offset[:, np.newaxis])
    rad = np.radians(bins.rad)
    inside = psf_containment(bins.rad[:, np.newaxis, np.newaxis], narrow)
    area = np.pi * np.diff(rad**2)
    values = np.diff(inside, axis=0) / inside[-1] / area[:, np.newaxis, np.newaxis]
    return _table(
        "PSF",
        "RPSF",
        "PSF_TABLE",
        {"ENERG": bins.energy_psf, "THETA": bins.offset, "RAD": bins.rad},
        {"RPSF": (values, "sr-1")},
    )


def _psf_3gauss(truth: Response, bins: Binning) -> fits.BinTableHDU:
    """Parameters of the sum of Gaussians, shape (offset, energy) (GADF: psf_3gauss).

    ``SCALE / pi (exp(-r^2 / 2 SIGMA_1^2) + AMPL_2 exp(-r^2 / 2 SIGMA_2^2) + ...)`` in sr-1.
    """
    narrow, wide = truth.psf_sigmas(_centers(bins.energy_psf), bins.offset[:, np.newaxis])
    scale = (1 - TAIL_FRACTION) / (2 * np.radians(narrow) ** 2)
    amplitude = TAIL_FRACTION / (1 - TAIL_FRACTION) / TAIL_RATIO**2
    return _table(
        "PSF",
        "RPSF",
        "PSF_3GAUSS",
        {"ENERG": bins.energy_psf, "THETA": bins.offset},
        {
            "SCALE": (scale, None),
            "SIGMA_1": (narrow, "deg"),
            "AMPL_2": (np.full_like(narrow, amplitude), None),
            "SIGMA_2": (wide, "deg"),
            "AMPL_3": (np.zeros_like(narrow), None),
            # Of no account without amplitude, but a width of 0 would be a division by zero.
            "SIGMA_3": (wide, "deg"),
        },
    )


def _psf_king(truth: Response, bins: Binning) -> fits.BinTableHDU:
    """Parameters of the King profile, shape (offset, energy) (GADF: psf_king)."""
    gamma, sigma = truth.psf_king(_centers(bins.energy_psf), bins.offset[:, np.newaxis])
    return _table(
        "PSF",
        "RPSF",
        "PSF_KING",
        {"ENERG": bins.energy_psf, "THETA": bins.offset},
        {"GAMMA": (gamma, None), "SIGMA": (sigma, "deg")},
    )


#: Tables by format; the names are those of the configuration and of HDU_CLASS.
PSF_TABLES = {"psf_table": _psf_table, "psf_3gauss": _psf_3gauss, "psf_king": _psf_king}


def _bkg_2d(truth: Response, bins: Binning) -> fits.BinTableHDU:
    """Background rate, shape (offset, energy) (GADF: bkg_2d)."""
    offset = 0.5 * (bins.theta_bkg[:-1] + bins.theta_bkg[1:])
    rate = truth.bkg(_centers(bins.energy_bkg), offset[:, np.newaxis])
    return _table(
        "BKG",
        "BKG",
        "BKG_2D",
        {"ENERG": bins.energy_bkg, "THETA": bins.theta_bkg},
        {"BKG": (1e-6 * rate, "s-1 MeV-1 sr-1")},
    )


def _bkg_3d(truth: Response, bins: Binning) -> fits.BinTableHDU:
    """Background rate, shape (DETY, DETX, energy) (GADF: bkg_3d, in its recommended axis order)."""
    center = 0.5 * (bins.det[:-1] + bins.det[1:])
    det_x, det_y = center[np.newaxis, :, np.newaxis], center[:, np.newaxis, np.newaxis]
    rate = truth.bkg(_centers(bins.energy_bkg), np.hypot(det_x, det_y))
    rate = rate * truth.bkg_tilt(det_x, det_y)
    hdu = _table(
        "BKG",
        "BKG",
        "BKG_3D",
        {"ENERG": bins.energy_bkg, "DETX": bins.det, "DETY": bins.det},
        {"BKG": (1e-6 * rate, "s-1 MeV-1 sr-1")},
    )
    hdu.header["FOVALIGN"] = ("RADEC", "DETX to the East, DETY to the North")
    return hdu


BKG_TABLES = {"bkg_3d": _bkg_3d, "bkg_2d": _bkg_2d}


def _centers(edges: FloatArray) -> FloatArray:
    """Logarithmic bin centres in TeV: where GADF readers place the values of an energy axis."""
    return np.sqrt(edges[:-1] * edges[1:])


#: Units of the axes; the migration has none.
_AXIS_UNITS = {"ENERG": "TeV", "THETA": "deg", "RAD": "deg", "DETX": "deg", "DETY": "deg"}


def _table(
    name: str,
    class2: str,
    class4: str,
    axes: Mapping[str, FloatArray],
    arrays: Mapping[str, tuple[FloatArray, str | None]],
) -> fits.BinTableHDU:
    """One-row table of arrays and their axes (GADF: BINTABLE HDU, "fits-arrays-bintable-hdu").

    Parameters
    ----------
    name, class2, class4 : str
        EXTNAME, HDUCLAS2 and HDUCLAS4.
    axes : mapping of str to ndarray
        Edges by axis name in FITS order, i.e. the last axis of the arrays comes first. ``THETA``
        of a table with as many nodes as the arrays have rows is an axis of points, LO = HI.
    arrays : mapping of str to (ndarray, str or None)
        Values and unit by column name.
    """
    shape = next(iter(arrays.values()))[0].shape[::-1]
    columns: list[tuple[str, FloatArray, str | None]] = []
    for n_values, (axis, edges) in zip(shape, axes.items(), strict=True):
        low, high = (edges, edges) if len(edges) == n_values else (edges[:-1], edges[1:])
        unit = _AXIS_UNITS.get(axis)
        columns += [(f"{axis}_LO", low, unit), (f"{axis}_HI", high, unit)]
    columns += [(column, values, unit) for column, (values, unit) in arrays.items()]

    rows: NDArray[Any] = np.zeros(1, dtype=[(key, ">f4", np.shape(a)) for key, a, _ in columns])
    for key, values, _ in columns:
        rows[key] = values
    hdu = table_hdu(name, rows, {key: unit for key, _, unit in columns if unit is not None})
    header = hdu.header
    header["HDUCLAS1"] = "RESPONSE"
    header["HDUCLAS2"] = class2
    header["HDUCLAS3"] = "FULL-ENCLOSURE"
    header["HDUCLAS4"] = class4
    order = ",".join(f"{axis}_LO:{axis}_HI" for axis in axes)
    for i in range(2 * len(axes), len(columns)):
        header[f"CREF{i + 1}"] = f"({order})"
    return hdu


def table_hdu(name: str, rows: NDArray[Any], units: Mapping[str, str]) -> fits.BinTableHDU:
    """Binary table of a big-endian structured array.

    As a `FITS_rec` astropy writes the array as it is; any other array it would copy into native
    byte order and swap back on writing, which takes fifty times longer.
    """
    hdu = fits.BinTableHDU(rows.view(fits.FITS_rec), name=name)
    for key, unit in units.items():
        hdu.columns[key].unit = unit
    return hdu


_EVENT = np.dtype(
    [("EVENT_ID", ">i8"), ("TIME", ">f8"), ("RA", ">f4"), ("DEC", ">f4"), ("ENERGY", ">f4")]
)
NO_EVENTS: NDArray[Any] = np.zeros(0, dtype=_EVENT)

#: Columns of the obs-index that are keywords of EVENTS too; times in s, angles in deg.
_EVENTS_KEYS = (
    *("OBJECT", "RA_OBJ", "DEC_OBJ", "RA_PNT", "DEC_PNT", "GLON_PNT", "GLAT_PNT", "ALT_PNT"),
    *("AZ_PNT", "TSTART", "TSTOP", "ONTIME", "LIVETIME", "DEADC", "DATE-OBS", "TIME-OBS"),
    *("DATE-END", "TIME-END", "N_TELS", "TELLIST", "MUONEFF", "NSBLEVEL"),
)


def draw_events(run: Any, truth: Response, psf: str, rng: np.random.Generator) -> NDArray[Any]:
    """Draw background and source events, sorted by time, in the columns of EVENTS."""
    background = _draw_background(run, truth, rng)
    ra, dec, energy = np.concatenate([background, _draw_source(run, truth, psf, rng)], axis=1)
    table = np.zeros(len(ra), dtype=_EVENT)
    start, stop = run["TSTART"].to_value("s"), run["TSTOP"].to_value("s")
    table["EVENT_ID"] = np.arange(1, len(ra) + 1)
    table["TIME"] = np.sort(rng.uniform(start, stop, len(ra)))
    # Which event comes when is chance: background and source have to mix.
    mixed = rng.permutation(len(ra))
    table["RA"], table["DEC"], table["ENERGY"] = ra[mixed] % 360, dec[mixed], energy[mixed]
    return table


def _draw_background(run: Any, truth: Response, rng: np.random.Generator) -> FloatArray:
    """RA, Dec (deg) and energy (TeV) of background events, shape (3, n), within 2.5 deg.

    The rate is per observation time, dead time included (GADF: notes on bkg).
    """
    energy = np.geomspace(0.1, 100, 201)
    width = truth.bkg_width(energy)
    inside = -np.expm1(-0.5 * (FOV_MAX / width) ** 2)
    rate = truth.bkg(energy, 0.0) * 2 * np.pi * np.radians(width) ** 2 * inside
    drawn = _draw_energies(energy, rate * run["ONTIME"].to_value("s"), rng)

    width = truth.bkg_width(drawn)
    inside = -np.expm1(-0.5 * (FOV_MAX / width) ** 2)
    radius = width * np.sqrt(-2 * np.log1p(-inside * rng.random(len(drawn))))
    angle = rng.uniform(0, 360, len(drawn))
    # A position and its opposite are equally likely so far: choose between them by the gradient.
    east, north = radius * np.sin(np.radians(angle)), radius * np.cos(np.radians(angle))
    opposite = rng.random(len(drawn)) > truth.bkg_tilt(east, north) / 2
    ra, dec = offset_by(
        run["RA_PNT"].to_value("deg"),
        run["DEC_PNT"].to_value("deg"),
        angle + 180 * opposite,
        radius,
    )
    return np.array([ra, dec, drawn])


def _draw_source(run: Any, truth: Response, psf: str, rng: np.random.Generator) -> FloatArray:
    """RA, Dec (deg) and energy (TeV) of the events of the target, shape (3, n)."""
    source = next((target for target in TARGETS if target.name == run["OBJECT"]), None)
    if source is None:
        return np.empty((3, 0))
    offset = float(run["OFFSET_OBJ"].to_value("deg"))
    energy = np.geomspace(0.02, 100, 301)
    rate = source.flux * energy**-source.slope * 1e4 * truth.aeff(energy, offset)
    true_energy = _draw_energies(energy, rate * run["LIVETIME"].to_value("s"), rng)
    migration = draw_migration(truth, true_energy, offset, rng)
    radius = draw_radius(truth, true_energy, offset, psf, rng)
    ra, dec = offset_by(source.ra, source.dec, rng.uniform(0, 360, len(radius)), radius)
    return np.array([ra, dec, true_energy * migration])


def _draw_energies(
    energy: FloatArray, spectrum: FloatArray, rng: np.random.Generator
) -> FloatArray:
    """Draw a Poisson number of energies (TeV) from counts per TeV on a grid of energies."""
    per_log = spectrum * energy
    steps = 0.5 * (per_log[1:] + per_log[:-1]) * np.diff(np.log(energy))
    expected = np.concatenate([[0.0], np.cumsum(steps)])
    draw = rng.random(rng.poisson(expected[-1])) * expected[-1]
    return np.exp(np.interp(draw, expected, np.log(energy)))


def draw_migration(
    truth: Response, energy: FloatArray, offset: float, rng: np.random.Generator
) -> FloatArray:
    """Draw E_reco / E for true energies (TeV) at an offset (deg), within the tabulated range."""
    low, high, median, sigma = migration_range(truth, energy, np.full_like(energy, offset))
    quantile = ndtri(low + (high - low) * rng.random(len(energy)))
    return np.exp(median + sigma * quantile)


def draw_radius(
    truth: Response, energy: FloatArray, offset: float, psf: str, rng: np.random.Generator
) -> FloatArray:
    """Draw the angle in deg between true and reconstructed direction, for true energies (TeV)."""
    # As many random numbers whatever the format: it changes the radii, and no other events.
    outside = 1 - rng.random(len(energy))
    in_tail = rng.random(len(energy)) < TAIL_FRACTION
    if psf == "psf_king":
        gamma, sigma = truth.psf_king(energy, offset)
        square = 2 * gamma * (outside ** (1 / (1 - gamma)) - 1)
        return sigma * np.sqrt(square)
    narrow, wide = truth.psf_sigmas(energy, offset)
    return np.where(in_tail, wide, narrow) * np.sqrt(-2 * np.log(outside))


def events_hdu(run: Any, table: NDArray[Any]) -> fits.BinTableHDU:
    """Event list with its header (GADF: EVENTS)."""
    units = {"TIME": "s", "RA": "deg", "DEC": "deg", "ENERGY": "TeV"}
    hdu = table_hdu("EVENTS", table, units)
    header = hdu.header
    header["HDUCLAS1"] = "EVENTS"
    header.update(TIME_REFERENCE | SITE)
    header["OBS_MODE"] = "POINTING"
    header["EV_CLASS"] = "std"
    header["RADECSYS"] = "ICRS"
    header["EQUINOX"] = 2000.0
    header["TELAPSE"] = float((run["TSTOP"] - run["TSTART"]).to_value("s"))
    for key in _EVENTS_KEYS:
        header[key] = getattr(run[key], "value", run[key]).item()
    return hdu


def gti_hdu(run: Any) -> fits.BinTableHDU:
    """Good time interval: the whole run (GADF: GTI)."""
    start, stop = float(run["TSTART"].to_value("s")), float(run["TSTOP"].to_value("s"))
    table = np.array([(start, stop)], dtype=[("START", ">f8"), ("STOP", ">f8")])
    hdu = table_hdu("GTI", table, {"START": "s", "STOP": "s"})
    hdu.header["HDUCLAS1"] = "GTI"
    hdu.header.update(TIME_REFERENCE | {"TSTART": start, "TSTOP": stop})
    return hdu
