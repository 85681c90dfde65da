"""Archives of many runs that share the files of a few."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.table import Table

from obscluster.gadf.index import read_index, write_index

FIRST_ID = 20000


def tile(archive: Path, directory: Path, n_obs: int) -> Path:
    """Copy of an archive with more runs, whose conditions differ and whose responses repeat."""
    copy = shutil.copytree(archive, directory)
    rng = np.random.default_rng(5)
    table = read_index(copy / "obs-index.fits.gz")
    rows = np.arange(n_obs) % len(table)
    ids = FIRST_ID + np.arange(n_obs)
    many = Table(table[rows])
    many["OBS_ID"] = ids
    many["ZEN_PNT"] = rng.uniform(0, 60, n_obs) * u.deg
    many["MUONEFF"] = rng.choice([0.7, 0.9, 1.1], n_obs) + 0.02 * rng.normal(size=n_obs)
    many["TSTART"] = np.sort(rng.uniform(1e8, 4e8, n_obs)) * u.s
    write_index(many, copy / "obs-index.fits.gz")
    hdus = read_index(copy / "hdu-index.fits.gz")
    of_run = [np.flatnonzero(hdus["OBS_ID"] == obs_id) for obs_id in table["OBS_ID"]]
    wanted = [of_run[row] for row in rows]
    repeated = hdus[np.concatenate(wanted)]
    repeated["OBS_ID"] = np.repeat(ids, [len(part) for part in wanted])
    write_index(repeated, copy / "hdu-index.fits.gz")
    return copy
