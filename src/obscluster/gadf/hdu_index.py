"""Where the parts of each observation lie: the hdu-index, looked up by observation.

https://gamma-astro-data-formats.readthedocs.io/en/v0.3/data_storage/hdu_index/index.html
"""

from __future__ import annotations

import contextlib
import posixpath
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from astropy.table import Row, Table
from numpy.typing import NDArray

from obscluster.exceptions import (
    AbsentError,
    ArchiveError,
    MissingDataError,
    RequestError,
    UnreadableError,
)
from obscluster.gadf.fits import HDU, FitsFile
from obscluster.gadf.index import check_single_values, expand_path
from obscluster.gadf.irf import IRF_CLASSES, hdu_type_of
from obscluster.gadf.remote import is_file, is_remote, is_url, join
from obscluster.gadf.unpack import file_kind

__all__ = ["KEY_COLUMNS", "HDUIndex", "HDULocation"]

KEY_COLUMNS = ("EVENT_TYPE", "EVENT_CLASS", "INTERVAL")
"""Columns by which both indices may have several rows of one OBS_ID."""


class HDULocation(NamedTuple):
    """Where one HDU of an observation lies.

    Parameters
    ----------
    obs_id : int
        The observation.
    hdu_type, hdu_class : str
        GADF ``HDU_TYPE`` and ``HDU_CLASS``, in lower case.
    path : `~pathlib.Path`
        File as the index names it.
    hdu_name : str
        Extension name, which may be empty or out of date.
    """

    obs_id: int
    hdu_type: str
    hdu_class: str
    path: Path
    hdu_name: str

    @property
    def existing_path(self) -> Path:
        """The file, with or without ``.gz``, whichever is there.

        Raises
        ------
        MissingDataError
            If neither is, or the index names it by an environment variable that is not set.
        """
        try:
            expand_path(self.path)
        except RequestError as error:
            raise MissingDataError(str(error)) from None
        other = (
            self.path.with_suffix("")
            if self.path.suffix == ".gz"
            else self.path.with_name(self.path.name + ".gz")
        )
        denied = ""
        for path in (self.path, other):
            try:
                if _is_file(path):
                    return path
            except PermissionError as error:
                # Some servers say so of what is not there.
                denied = denied or str(error.strerror)
        if denied:
            raise AbsentError(f"cannot be read ({denied})", self.path)
        what = "" if is_remote(self.path) else file_kind(self.path)
        raise AbsentError(
            f"{f'is {what}, not a' if what else 'no such'} file, though the index lists it for "
            f"{self.hdu_type} of run {self.obs_id}",
            self.path,
        )

    def open(self) -> FitsFile:
        """The file, opened.

        Raises
        ------
        DataError
            See `existing_path` and `~obscluster.gadf.fits.FitsFile`.
        """
        try:
            return FitsFile(self.path)
        except UnreadableError as error:
            if is_remote(self.path) and not isinstance(error, AbsentError):
                raise
            # Seldom, so that it is not looked for first.
            return FitsFile(self.existing_path)

    def find(self, file: FitsFile) -> HDU:
        """This HDU in an opened file: by its name, else by what it is.

        Names differ between productions and may be out of date, so a HDU of that name that shows
        itself to be of another type is taken only if there is none of the wanted type.

        Raises
        ------
        MissingDataError
            If the file has neither.
        """
        wanted = self.hdu_name.strip().upper()
        named = None
        if wanted:
            # What a HDU is takes longer to see than its name, so only one of that name is looked
            # at, if all is well.
            named = file.find(wanted)
            if named is not None and hdu_type_of(named) in (None, self.hdu_type):
                return named
        of_type = None
        for hdu in file:
            kind = hdu_type_of(hdu)
            if wanted and hdu.name == wanted and kind in (None, self.hdu_type):
                return hdu
            if of_type is None and kind == self.hdu_type:
                of_type = hdu
        found = of_type or named
        if found is not None:
            return found
        names = ", ".join(hdu.name for hdu in file)
        raise MissingDataError(
            f"no such HDU and none of type {self.hdu_type}; the file has {names}",
            file.path,
            self.hdu_name or self.hdu_type,
        )


def _is_file(path: Path) -> bool:
    if is_remote(path):
        return is_file(path)
    try:
        return path.is_file()
    except (OSError, ValueError):
        # Such as a name that is too long, or has a null character.
        return False


class HDUIndex:
    """The hdu-index of an archive, looked up by observation.

    Parameters
    ----------
    table : `~astropy.table.Table`
        Columns OBS_ID, HDU_TYPE, HDU_CLASS, FILE_DIR, FILE_NAME and HDU_NAME. Without FILE_DIR,
        files lie in ``directory``; without HDU_NAME, HDUs are told by their headers; of HDU_TYPE
        and HDU_CLASS one is enough.
    directory : `~pathlib.Path`
        What FILE_DIR is relative to.

    Raises
    ------
    ArchiveError
        If a column is missing that must be there, or holds arrays.
    """

    def __init__(self, table: Table, directory: Path):
        missing = {"OBS_ID", "FILE_NAME"} - set(table.colnames)
        if {"HDU_TYPE", "HDU_CLASS"}.isdisjoint(table.colnames):
            missing.add("HDU_TYPE")
        if missing:
            raise ArchiveError(
                f"{directory}: the hdu-index has no column {', '.join(sorted(missing))}; "
                f"it has {', '.join(table.colnames)}"
            )
        check_single_values(table, f"{directory}: the hdu-index")
        self.table = _with_type_and_class(table)
        self.directory = directory

    @cached_property
    def keys(self) -> tuple[str, ...]:
        """Columns that tell parts of one OBS_ID apart, such as EVENT_TYPE."""
        return tuple(name for name in KEY_COLUMNS if name in self.table.colnames)

    def key_of(self, row: Row) -> tuple[Any, ...]:
        """What finds the parts of a row of the obs-index: OBS_ID, and its values of `keys`."""
        there = row.colnames
        return (
            int(row["OBS_ID"]),
            *(str(row[name]).strip() if name in there else None for name in self.keys),
        )

    @cached_property
    def _order(self) -> NDArray[np.int64]:
        return np.argsort(np.asarray(self.table["OBS_ID"]), kind="stable")

    @cached_property
    def _sorted_ids(self) -> NDArray[np.int64]:
        return np.asarray(self.table["OBS_ID"])[self._order]

    @cached_property
    def obs_ids(self) -> NDArray[np.int64]:
        """Observations that the index knows, in order, shape (n_obs,)."""
        return np.unique(self._sorted_ids)

    @cached_property
    def _spans(self) -> dict[int, slice]:
        """Where each observation is among the sorted ones."""
        first = np.searchsorted(self._sorted_ids, self.obs_ids)
        ends = [*first[1:].tolist(), len(self._sorted_ids)]
        return dict(zip(self.obs_ids.tolist(), map(slice, first.tolist(), ends), strict=True))

    def rows(self, obs_id: int) -> NDArray[np.int64]:
        """Rows of one observation, in the order of the file."""
        return self._order[self._spans.get(obs_id, slice(0, 0))]

    def locations(self, obs_id: int, *values: str | None) -> dict[str, HDULocation]:
        """HDU type to location for one observation; of several of a type, the first.

        Parameters
        ----------
        obs_id : int
            The observation.
        *values : str or None
            Its values of `keys`; None for any. Parts without a value are of all.
        """
        found: dict[str, HDULocation] = {}
        wanted = [(self._text(k), v) for k, v in zip(self.keys, values, strict=False) if v]
        classes, types, names = (self._texts[n] for n in ("HDU_CLASS", "HDU_TYPE", "HDU_NAME"))
        directories, files = self._texts["FILE_DIR"], self._texts["FILE_NAME"]
        paths: dict[tuple[str, str], Path] = {}
        for row in self.rows(obs_id).tolist():
            if any(texts[row] not in ("", value) for texts, value in wanted):
                continue
            # The class tells more; types have been cut to the width of their column.
            hdu_class = classes[row]
            hdu_type = _type_of_class(hdu_class) or types[row]
            if hdu_type not in found:
                # Most parts of a run lie in one file.
                file = (directories[row], files[row])
                path = paths.get(file) or paths.setdefault(file, self._path(*file))
                found[hdu_type] = HDULocation(obs_id, hdu_type, hdu_class, path, names[row])
        return found

    def has_choices(self, obs_id: int) -> bool:
        """Whether different HDUs are listed for the same class of one observation."""
        texts = [self._texts[name] for name in ("FILE_DIR", "FILE_NAME", "HDU_NAME")]
        places: dict[str, set[tuple[str, ...]]] = {}
        for row in self.rows(obs_id).tolist():
            place = tuple(text[row] for text in texts)
            places.setdefault(self._texts["HDU_CLASS"][row], set()).add(place)
        return any(len(found) > 1 for found in places.values())

    def _path(self, directory: str, name: str) -> Path:
        if is_remote(self.directory) or is_url(directory):
            return join(self.directory, posixpath.join(directory, name))
        if "$" not in directory + name and not (directory or name).startswith("~"):
            # An absolute path stands for itself.
            return Path(self.directory, directory, name)
        listed = Path(directory, name)
        # What cannot be expanded concerns this file alone, and is said when it is wanted.
        with contextlib.suppress(RequestError):
            listed = expand_path(listed)
        return self.directory / listed

    @cached_property
    def _texts(self) -> dict[str, list[str]]:
        """Columns as text, row by row: a table is slow to ask for single values."""
        lower = {name: self._text(name, str.lower) for name in ("HDU_TYPE", "HDU_CLASS")}
        return lower | {name: self._text(name) for name in ("FILE_DIR", "FILE_NAME", "HDU_NAME")}

    def _text(self, colname: str, change: Callable[[str], str] = str) -> list[str]:
        if colname not in self.table.colnames:
            return [""] * len(self.table)
        values = self.table[colname]
        if values.dtype.kind == "S":
            values = np.char.decode(np.ma.filled(values, b""), "latin-1")
        values = np.ma.filled(values.astype(str), "")
        # Few differ, and one object for all that are the same takes the memory of one.
        same: dict[str, str] = {}
        stripped = (change(value.strip()) for value in values.tolist())
        return [same.setdefault(value, value) for value in stripped]


def _type_of_class(hdu_class: str) -> str | None:
    """GADF type for a class of response; None if it is none that is known."""
    spec = IRF_CLASSES.get(hdu_class)
    return None if spec is None else spec.hdu_type


def _with_type_and_class(table: Table) -> Table:
    """The table with both columns, HDU_TYPE and HDU_CLASS; the given one is not changed.

    For the other HDUs, type and class are the same. Responses whose class nobody says are told by
    their header.
    """
    for name, source in (("HDU_TYPE", "HDU_CLASS"), ("HDU_CLASS", "HDU_TYPE")):
        if name not in table.colnames:
            texts = [str(value).strip().lower() for value in table[source].tolist()]
            names = [_type_of_class(text) or text for text in texts]
            table = table.copy(copy_data=False)
            table[name] = np.array(names, dtype=str)
    return table
