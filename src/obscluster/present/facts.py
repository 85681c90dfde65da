"""What results and their obs-index say of the runs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import QTable
from astropy.time import Time
from numpy.typing import NDArray

from obscluster.exceptions import ArchiveError, RequestError
from obscluster.files.ecsv import read_ecsv
from obscluster.files.records import path_in
from obscluster.gadf.time import quiet_times
from obscluster.grouping.base import RECORD_FILE, UNASSIGNED, Grouping
from obscluster.obs_table import ObservationTable, several_rows
from obscluster.target import names_of_runs

__all__ = [
    "attribution",
    "features_with_notes",
    "pointings",
    "selected_rows",
    "start_times",
    "target_names_of",
]

# SHA-256 of the obs-index of archives that ask for an acknowledgement.
_ARCHIVES = {
    "sha256:f44f788d37147439ff03bca3fd1144f8b1d3ecd7caae292ff7592ff7e6b1a8b9": (
        "HESS DL3 DR1, H.E.S.S. collaboration"
    ),
}


def selected_rows(directory: Path, grouping: Grouping) -> ObservationTable:
    """Rows of the obs-index that was written with the results, in the order of the grouping."""
    path = path_in(directory, "obs-index.fits.gz", directory / RECORD_FILE)
    table = ObservationTable.read(path)
    if several_rows(table) and "GROUP_ID" in table.colnames:
        # Of event types, the row that is in a group, or else the first.
        order = np.argsort(np.asarray(table["GROUP_ID"]) == UNASSIGNED, kind="stable")
        table = table[np.sort(order[np.unique(table["OBS_ID"][order], return_index=True)[1]])]
    try:
        return table.select_obs_id(grouping.obs_ids)
    except RequestError as error:
        raise ArchiveError(f"{path}: is not that of {RECORD_FILE} ({error})") from None


def features_with_notes(directory: Path, grouping: Grouping, features: QTable) -> QTable:
    """Features with the notes of why some are missing, which groups.ecsv leaves out."""
    path = directory / "features.ecsv"
    if not path.exists():
        return features
    table = read_ecsv(path_in(directory, path.name, directory / RECORD_FILE))
    same = "obs_id" in table.colnames and np.array_equal(table["obs_id"], grouping.obs_ids)
    return table if same else features


def start_times(obs_table: ObservationTable) -> NDArray[np.float64]:
    """When the runs began, as MJD (UTC); NaN where it is unknown."""
    mjd = np.array(obs_table.quantity("start").value.value)
    known = np.isfinite(mjd)
    with quiet_times():
        mjd[known] = Time(mjd[known], format="mjd", scale="tt").utc.mjd
    return mjd


def pointings(
    obs_table: ObservationTable,
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Right ascension and declination in degrees; None if they are unknown for all runs."""
    ra, dec = (np.array(obs_table.quantity(key).value.value) for key in ("RA_PNT", "DEC_PNT"))
    return (ra, dec) if (np.isfinite(ra) & np.isfinite(dec)).any() else None


def target_names_of(obs_table: ObservationTable) -> list[str]:
    """What each run looked at; empty if neither index nor headers say."""
    names = names_of_runs(obs_table)
    return names if any(names) else []


def attribution(record: Mapping[str, Any]) -> str:
    """Whom to acknowledge: of archives whose index has a checksum that is known."""
    files = record.get("index_files")
    checksums = files.values() if isinstance(files, Mapping) else ()
    return next((_ARCHIVES[value] for value in checksums if value in _ARCHIVES), "")
