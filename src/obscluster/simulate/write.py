"""Writing a synthetic archive: index files and one file per run, whole or not at all."""

from __future__ import annotations

import gzip
import io
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.table import QTable

from obscluster.exceptions import RequestError
from obscluster.files.output import check_outside, replaced_directory
from obscluster.simulate.irfs import (
    BKG_TABLES,
    NO_EVENTS,
    PSF_TABLES,
    SIZES,
    draw_events,
    events_hdu,
    gti_hdu,
    irf_hdus,
)
from obscluster.simulate.model import bkg_gradient, check_choice, run_response
from obscluster.simulate.plan import plan_runs
from obscluster.version import __version__

__all__ = ["simulate"]

# Rows of the hdu-index: see the names of its columns in `_hdu_index_hdu`.
_IndexEntry = tuple[int, str, str, str, str, str, int]

_GADF = {
    "HDUCLASS": "GADF",
    "HDUDOC": "https://github.com/open-gamma-ray-astro/gamma-astro-data-formats",
    "HDUVERS": "0.3",
}
_ORIGIN = {
    "TELESCOP": "SIMULATION",
    "INSTRUME": "Four-telescope array",
    "ORIGIN": "obscluster",
    "CREATOR": f"obscluster {__version__}",
}
# Keywords by which an archive is known as simulated here.
_MARKS = ("TELESCOP", "INSTRUME", "ORIGIN")


def simulate(
    directory: Path | str,
    *,
    n_obs: int = 60,
    seed: int = 1,
    n_epochs: int = 3,
    separation: float = 1.0,
    zenith_range: tuple[float, float] = (5.0, 50.0),
    psf: str = "psf_table",
    bkg: str = "bkg_3d",
    size: str = "full",
    compress: bool = True,
    events: bool = True,
    overwrite: bool = False,
    progress: Callable[[Iterable[Any]], Iterable[Any]] | None = None,
) -> Path:
    """Write a synthetic archive; the same arguments give the same bytes.

    The archive holds ``obs-index.fits.gz``, ``hdu-index.fits.gz`` and one file per run in
    ``data``. With the default separation and zenith range, the energy resolution and the PSF
    radius at 1 TeV and the offset of the target, standardised and clustered by Ward's method into
    ``n_epochs`` groups, give back the column EPOCH.

    Parameters
    ----------
    directory : path
        The archive to be. It appears whole or not at all.
    n_obs : int
        Number of runs, at least `n_epochs`.
    seed : int
        Seed of everything random.
    n_epochs : int
        Number of instrument epochs, 1 to 6, each two years long from 2004 on: see
        `obscluster.simulate.model.EPOCHS`. The runs are shared out evenly.
    separation : float
        How far the responses of the epochs are apart, 0 (alike) to 2.
    zenith_range : (float, float)
        Range of the zenith angles in deg, within 0 to 70 and at least 2 wide.
    psf : {"psf_table", "psf_3gauss", "psf_king"}
        Format of the PSF. The containment radii are the same, those at 68 and 95 % exactly.
    bkg : {"bkg_3d", "bkg_2d"}
        Format of the background; ``bkg_3d`` has a gradient towards the zenith.
    size : {"full", "small"}
        Binning of the responses: like that of H.E.S.S., or small.
    compress : bool
        Compress the data files (``.fits.gz``).
    events : bool
        Draw events; otherwise the event lists are empty.
    overwrite : bool
        Replace an existing simulated archive. A directory that holds anything else, or that is
        marked read-only, is never replaced.
    progress : callable, optional
        Wraps the iterable of the runs, such as a progress bar.

    Returns
    -------
    directory : `~pathlib.Path`
        The archive, as given.

    Raises
    ------
    RequestError
        An argument is out of range, there is something at `directory`, or it cannot be written.
    """
    check_choice("psf", psf, PSF_TABLES)
    check_choice("bkg", bkg, BKG_TABLES)
    check_choice("size", size, SIZES)
    target = Path(directory).expanduser().resolve()
    _check_directory(target, overwrite)
    runs, generators = plan_runs(
        n_obs=n_obs,
        seed=seed,
        n_epochs=n_epochs,
        separation=separation,
        zenith_range=zenith_range,
    )

    with replaced_directory(target, partial(_check_directory, target, overwrite)) as archive:
        (archive / "data").mkdir()
        entries: list[_IndexEntry] = []
        rows = list(enumerate(zip(runs, generators, strict=True)))
        for i, (run, rng) in rows if progress is None else progress(rows):
            truth = run_response(run, separation)
            if bkg == "bkg_3d":  # the format that can hold a gradient
                truth = replace(truth, bkg_gradient=bkg_gradient(run))
            table = draw_events(run, truth, psf, rng) if events else NO_EVENTS
            runs["EVENT_COUNT"][i] = len(table)
            hdus = [("events", events_hdu(run, table)), ("gti", gti_hdu(run))]
            hdus += irf_hdus(truth, size=size, psf=psf, bkg=bkg)
            name = f"run_{run['OBS_ID']:06d}.fits" + (".gz" if compress else "")
            entries += _write_run(archive / "data" / name, int(run["OBS_ID"]), hdus)
        # Observation index (GADF: OBS_INDEX), with the true epochs in the column EPOCH.
        hdu = fits.table_to_hdu(runs)
        hdu.name = "OBS_INDEX"
        hdu.header.update(_GADF | _ORIGIN | {"HDUCLAS1": "INDEX", "HDUCLAS2": "OBS"})
        _write(archive / "obs-index.fits.gz", [hdu])
        _write(archive / "hdu-index.fits.gz", [_hdu_index_hdu(entries)])
    return Path(directory)


def _check_directory(target: Path, overwrite: bool) -> None:
    """Raise `RequestError` if the archive cannot be put at this place."""
    check_outside(target.parent)
    if not target.exists() and not target.is_symlink():
        return
    if target.is_symlink() or not target.is_dir():
        raise RequestError(f"{target} exists and is no directory; name a new directory")
    if not any(target.iterdir()):
        return
    if not overwrite:
        raise RequestError(
            f"{target} exists and is not empty; name a new directory, or use overwrite=True to "
            "replace an archive"
        )
    if not _is_simulated(target):
        raise RequestError(
            f"{target} does not hold a simulated archive and nothing else, so it is not "
            "overwritten; name a new directory"
        )
    # Modes count for root too: what is marked read-only is not ours to replace.
    protected = [path for path in (target, target / "data") if not path.stat().st_mode & 0o222]
    if protected:
        raise RequestError(f"{protected[0]} is read-only, so it is not overwritten")


def _is_simulated(directory: Path) -> bool:
    """Whether a directory holds an archive of this module, and nothing that it did not write."""
    index_files = {"obs-index.fits.gz", "hdu-index.fits.gz"}
    if {path.name for path in directory.iterdir()} != index_files | {"data"}:
        return False
    try:
        headers = [fits.getheader(directory / name, 1) for name in sorted(index_files)]
        listed = set(fits.getdata(directory / "hdu-index.fits.gz", 1)["FILE_NAME"])
    except (OSError, KeyError, IndexError):
        return False
    ours = all(header.get(key) == _ORIGIN[key] for header in headers for key in _MARKS)
    return ours and {path.name for path in (directory / "data").iterdir()} <= listed


def _write_run(
    path: Path, obs_id: int, hdus: list[tuple[str, fits.BinTableHDU]]
) -> list[_IndexEntry]:
    """Write the file of a run; return its rows of the hdu-index."""
    for _, hdu in hdus:
        hdu.header.update(_GADF | _ORIGIN | {"OBS_ID": obs_id})
    _write(path, [hdu for _, hdu in hdus])
    return [
        (obs_id, kind.split("_")[0], kind, "data", path.name, hdu.name, _n_bytes(hdu))
        for kind, hdu in hdus
    ]


def _n_bytes(hdu: fits.BinTableHDU) -> int:
    """Size of a HDU, header and data, in whole FITS blocks."""
    return len(hdu.header.tostring()) + -(-hdu.size // 2880) * 2880


def _hdu_index_hdu(entries: list[_IndexEntry]) -> fits.BinTableHDU:
    """Index of the HDUs (GADF: HDU_INDEX)."""
    names = ("OBS_ID", "HDU_TYPE", "HDU_CLASS", "FILE_DIR", "FILE_NAME", "HDU_NAME", "SIZE")
    columns = [np.array(values) for values in zip(*entries, strict=True)]
    hdu = fits.table_to_hdu(QTable(columns, names=names))
    hdu.name = "HDU_INDEX"
    hdu.header.update(_GADF | _ORIGIN | {"HDUCLAS1": "INDEX", "HDUCLAS2": "HDU"})
    return hdu


def _write(path: Path, hdus: list[fits.BinTableHDU]) -> None:
    """Write a FITS file, compressed without time stamp and file name if it ends in .gz."""
    buffer = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(buffer)
    content = buffer.getvalue()
    # Level 1: the tables are noise to gzip, higher levels take longer to save 5 %.
    path.write_bytes(gzip.compress(content, 1, mtime=0) if path.suffix == ".gz" else content)
