"""Gammapy's view of an archive and of the groups in it.

Gammapy makes its objects from tables that this package has read, which takes a fraction of the
time; what cannot be read so that the numbers are the same, Gammapy reads by itself.
"""

from __future__ import annotations

import os
import re
import warnings
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import gammapy.data
import numpy as np
from astropy import units as u
from astropy.table import Column, Table
from gammapy.data import (
    GTI,
    EventList,
    EventListMetaData,
    FixedPointingInfo,
    Observation,
    ObservationMetaData,
    Observations,
)
from gammapy.data.hdu_index_table import HDUIndexTable
from gammapy.irf import IRF_REGISTRY
from gammapy.utils.fits import HDULocation
from gammapy.utils.time import time_ref_from_dict

from obscluster.archive.description import open_archive
from obscluster.archive.kinds import KEEP_APART, Kind, check_stackable, joined, kind_of, settled
from obscluster.archive.store import DataStore
from obscluster.exceptions import DataError, RequestError, SkippedRunWarning
from obscluster.gadf.fits import HDU, FitsFile
from obscluster.gadf.shared_irfs import SharedIRFs
from obscluster.grouping.base import Grouping
from obscluster.reduction.messages import captured

__all__ = [
    "gammapy_store",
    "group_kinds",
    "is_read_error",
    "read_observations",
    "required_irfs",
    "to_gammapy",
    "why_unread",
]

# A background response is needed in 3D only, a PSF not for point-like runs.
_REQUIRED = {"1d": ("aeff", "edisp"), "3d": ("aeff", "edisp", "psf", "bkg")}
# Columns in the order in which Gammapy has them.
_OF_EVENTS = ("TIME", "ENERGY", "RA", "DEC")
# Keywords of the layout of a table, which are no metadata.
_LAYOUT = re.compile(
    "XTENSION|BITPIX|NAXIS[12]?|PCOUNT|GCOUNT|TFIELDS|THEAP|"
    "T(TYPE|FORM|UNIT|NULL|SCAL|ZERO|DISP|BCOL|DIM|CTYP|CUNI|CRPX|CRVL|CDLT|RPOS)[0-9]+"
)


def to_gammapy(
    grouping: Grouping,
    archive: str | os.PathLike[str] | DataStore,
    required_irf: Iterable[str] = ("aeff", "edisp"),
) -> dict[str, Observations]:
    """Gammapy's observations of each group, to go on with makers of one's own.

    Parameters
    ----------
    grouping : `~obscluster.grouping.base.Grouping`
        The groups.
    archive : str, path or `~obscluster.archive.store.DataStore`
        Where the runs are.
    required_irf : iterable of str
        Runs without these responses are left out.

    Returns
    -------
    observations : dict
        ``group_<label>`` to `gammapy.data.Observations`; runs in no group are left out.

    Raises
    ------
    ArchiveError
        If the archive cannot be read.

    Warns
    -----
    SkippedRunWarning
        If runs were left out, with the reason of each.
    """
    store = gammapy_store(open_archive(archive))
    groups, skipped = {}, {}
    for name, obs_ids in grouping.groups.items():
        if name != "unassigned":
            found, missing = read_observations(store, obs_ids.tolist(), tuple(required_irf))
            groups[name] = Observations(list(found.values()))
            skipped.update(missing)
    if skipped:
        reasons = "; ".join(f"{obs_id}: {reason}" for obs_id, reason in list(skipped.items())[:10])
        more = f"; and {len(skipped) - 10} more" if len(skipped) > 10 else ""
        text = f"{len(skipped)} runs left out: {reasons}{more}"
        warnings.warn(text, SkippedRunWarning, stacklevel=2)
    return groups


def group_kinds(data_store: DataStore, members: Mapping[str, Sequence[int]]) -> dict[str, Kind]:
    """Kind of the runs of each group; only the headers of the runs are looked at.

    Parameters
    ----------
    data_store : `~obscluster.archive.store.DataStore`
        The archive.
    members : mapping
        Name of a group to its runs.

    Raises
    ------
    RequestError
        If a group holds runs that may not be stacked.
    """
    listed = set(data_store.hdu_index.obs_ids.tolist())
    obs_ids = [i for of_group in members.values() for i in of_group if i in listed]
    runs = [data_store.obs(obs_id).passing() for obs_id in obs_ids]
    types = ("aeff", "rad_max")
    shared = SharedIRFs.among(run.files(*types) for run in runs)
    kinds = []
    for run in runs:
        irfs = {}
        # What cannot be read is told when the run is reduced.
        with suppress(DataError):
            irfs = run.read_irfs(*types, shared=shared, offset=lambda: 0.0)
        kinds.append(kind_of(run, irfs))
    of_run = dict(zip(obs_ids, settled(kinds), strict=True))
    check_stackable(of_run, members, KEEP_APART)
    return {
        name: joined(of_run.get(i, Kind()) for i in of_group) for name, of_group in members.items()
    }


def gammapy_store(data_store: DataStore) -> gammapy.data.DataStore:
    """Gammapy's view of an archive.

    Parameters
    ----------
    data_store : `~obscluster.archive.store.DataStore`
        The archive.
    """
    with captured():
        if data_store.has_plain_index:
            obs_index, hdu_index = (str(path.absolute()) for path in data_store.index_files)
            store = gammapy.data.DataStore.from_dir(data_store.base_dir, hdu_index, obs_index)
            return gammapy.data.DataStore(_Index(store.hdu_table, copy=False), store.obs_table)
        # Files without an index: what was gathered from their headers stands in for it.
        hdu_table = _Index(data_store.hdu_table)
        hdu_table.meta["BASE_DIR"] = str(data_store.base_dir)
        obs_table = gammapy.data.ObservationTable(data_store.obs_table)
        return gammapy.data.DataStore(hdu_table, obs_table)


class _Index(HDUIndexTable):
    """Gammapy's index, whose parts are read by this package where that gives the same."""

    def hdu_location(self, *args: Any, **kwargs: Any) -> HDULocation | None:
        found = super().hdu_location(*args, **kwargs)
        return None if found is None else _Location(**vars(found))


class _Location(HDULocation):
    """A part of a run, see `_Index`."""

    def load(self) -> Any:
        try:
            with FitsFile(Path(self.path())) as file:
                # Gammapy's object of a HDU; whatever error, where this cannot be told to be the
                # same.
                hdu_class = self.hdu_class
                hdu = file.hdu(self.hdu_name)
                meta = {
                    key: value for key, value in hdu.header.items() if not _LAYOUT.fullmatch(key)
                }
                if hdu_class == "pointing":
                    return FixedPointingInfo.from_fits_header(meta)
                if hdu_class == "observation_metadata":
                    return ObservationMetaData.from_header(meta)
                if hdu_class == "events":
                    others = (
                        name for name in hdu.colnames if name not in (*_OF_EVENTS, "GLON", "GLAT")
                    )
                    table = _table(hdu, (*_OF_EVENTS, *others), meta)
                    if not all(np.isfinite(column).all() for column in table.itercols()):
                        raise ValueError("Gammapy masks events")
                    seconds = u.Quantity(table["TIME"].astype(float), u.s)
                    table["TIME"] = time_ref_from_dict(meta) + seconds
                    return EventList(table, EventListMetaData.from_header(meta))
                if hdu_class == "gti":
                    table = _table(hdu, ("START", "STOP"), meta)
                    ref = time_ref_from_dict(meta, format="mjd", scale="tt")
                    unit = meta.get("TIMEUNIT", "s")
                    return GTI.create(
                        *(u.Quantity(column, unit) for column in table.itercols()), ref
                    )
                return IRF_REGISTRY.get_cls(hdu_class).from_table(_table(hdu, hdu.colnames, meta))
        except Exception:  # noqa: BLE001 what is wrong with it, and whether, Gammapy says
            return super().load()


def _table(hdu: HDU, names: Iterable[str], meta: dict[str, Any]) -> Table:
    """Columns of a HDU, as `astropy.table.Table.read` gives them."""
    columns = []
    for name in names:
        values, unit = hdu.column(name), hdu.unit(name)
        if name not in hdu.colnames or values.dtype.kind not in "fiu" or hdu.null(name):
            raise ValueError(f"{name}: not a column of plain numbers")
        columns.append(Column(values, name, unit=u.Unit(unit, format="fits") if unit else None))
    return Table(columns, meta=meta, copy=False)


def read_observations(
    store: gammapy.data.DataStore, obs_ids: Iterable[int], required_irf: tuple[str, ...]
) -> tuple[dict[int, Observation], dict[int, str]]:
    """Observations, whose data are read when they are used, and reasons of those left out.

    Parameters
    ----------
    store : `gammapy.data.DataStore`
        The archive.
    obs_ids : iterable of int
        Which runs.
    required_irf : tuple of str
        Responses that a run must have.
    """
    found: dict[int, Observation] = {}
    missing: dict[int, str] = {}
    with captured():
        for obs_id in obs_ids:
            try:
                found[obs_id] = store.obs(obs_id, required_irf=list(required_irf))
            except Exception as error:  # noqa: BLE001 the engine has no class of its own for these
                missing[obs_id] = str(error)
    return found, missing


def is_read_error(error: BaseException, said: Iterable[str] = ()) -> bool:
    """Whether an error of the engine is that a file cannot be read, or is damaged.

    Parameters
    ----------
    error : Exception
        What it has raised.
    said : iterable of str
        What it has warned of before: a file that is cut short makes it raise anything.
    """
    # Of packed files that are damaged the latter two.
    damaged = isinstance(error, OSError | EOFError | zlib.error)
    return damaged or any("may have been truncated" in text for text in said)


def why_unread(data_store: DataStore, obs_id: int) -> str:
    """Why a file of a run cannot be read, empty if all can.

    The engine may take a file that is cut short for one that has fewer parts, so that its own
    reason is another one.

    Parameters
    ----------
    data_store : `~obscluster.archive.store.DataStore`
        The archive.
    obs_id : int
        The run.
    """
    try:
        run = data_store.obs(obs_id).passing(with_gti=True)
    except RequestError:
        return ""
    looks: tuple[Callable[[], object], ...] = (
        lambda: run.read_irfs("aeff", "edisp", "psf", "bkg"),
        lambda: run.gti,
        lambda: run.read_events("TIME", "ENERGY"),
    )
    for look in looks:
        with suppress(DataError):
            look()
    return run.unread.get(obs_id, "")


def required_irfs(kind: str) -> tuple[str, ...]:
    """Responses that a run must have to be reduced in 1D or 3D."""
    return _REQUIRED[kind]
