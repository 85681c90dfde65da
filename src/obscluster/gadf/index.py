"""Index tables of an archive: which observations there are, and where their HDUs lie.

https://gamma-astro-data-formats.readthedocs.io/en/v0.3/data_storage/index.html
"""

from __future__ import annotations

import gzip
import io
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Column, MaskedColumn, Table
from numpy.typing import NDArray

from obscluster.exceptions import (
    ArchiveError,
    DataError,
    MissingDataError,
    RequestError,
)
from obscluster.gadf.fits import FitsFile
from obscluster.gadf.hdu import HDU
from obscluster.gadf.irf import IRF_CLASSES, hdu_class_of
from obscluster.gadf.units import parse_unit

__all__ = [
    "HDU_INDEX",
    "OBS_INDEX",
    "HDUIndex",
    "HDULocation",
    "expand_path",
    "find_index",
    "read_index",
    "write_index",
]

OBS_INDEX = "obs-index"
HDU_INDEX = "hdu-index"
_SUFFIXES = (".fits.gz", ".fits")
_STRUCTURE = ("XTENSION", "BITPIX", "PCOUNT", "GCOUNT", "TFIELDS")
_COLUMN_KEYS = ("NAXIS", "TTYPE", "TFORM", "TUNIT", "TDIM", "TNULL", "TDISP", "TCOMM")


def expand_path(path: str | os.PathLike[str]) -> Path:
    """Path with ``~`` and environment variables expanded.

    Raises
    ------
    RequestError
        If it names an environment variable that is not set.
    """
    text = os.path.expandvars(os.fspath(path))
    if "$" in text:
        name = text[text.index("$") + 1 :].strip("{").split("/")[0].split("}")[0]
        raise RequestError(f"path {os.fspath(path)}: environment variable ${name} is not set")
    return Path(text).expanduser()


def find_index(directory: Path, kind: str, filename: str | None = None) -> Path:
    """Index file of an archive, plain or gzipped.

    Parameters
    ----------
    directory : `~pathlib.Path`
        The archive.
    kind : {"obs-index", "hdu-index"}
        Which of the two.
    filename : str, optional
        Its name, relative to the archive, where it is not the usual one.

    Raises
    ------
    ArchiveError
        If the archive or the file does not exist.
    """
    if not directory.exists():
        raise ArchiveError(f"{directory}: no such archive directory; check the path")
    if not directory.is_dir():
        raise ArchiveError(f"{directory}: is a file; an archive is a directory with index files")
    names = [kind + suffix for suffix in _SUFFIXES] if filename is None else [filename]
    for name in names:
        if (directory / name).is_file():
            return directory / name
    raise ArchiveError(
        f"{directory}: no {' or '.join(names)}; the directory of an archive holds "
        f"{OBS_INDEX}.fits.gz and {HDU_INDEX}.fits.gz"
    )


def read_index(path: Path) -> Table:
    """Index table of an archive, with units; the header is in its ``meta``.

    Parameters
    ----------
    path : `~pathlib.Path`
        The obs-index or hdu-index file.

    Returns
    -------
    table : `~astropy.table.Table`
        Text columns as str, numbers in native byte order; OBS_ID as int64 whatever its type in
        the file. Missing integers (TNULL) are masked.

    Raises
    ------
    ArchiveError
        If the file cannot be read, holds no table, or has no usable OBS_ID.
    """
    try:
        with FitsFile(path) as file:
            hdu = next((h for h in file if h.index > 0 and "OBS_ID" in h), None)
            if hdu is None:
                found = [f"{h.name} ({', '.join(h.colnames)})" for h in file if h.index > 0]
                raise ArchiveError(
                    f"{path}: no column OBS_ID, so it is not an index of observations; "
                    f"tables in it: {'; '.join(found) or 'none'}"
                )
            columns = [_read_column(hdu, name) for name in hdu.colnames]
    except DataError as error:
        raise ArchiveError(f"index file {error}") from None
    table = Table(columns, copy=False, meta=_meta(hdu))
    table["OBS_ID"] = _obs_ids(table, path)
    return table


def write_index(table: Table, path: Path) -> None:
    """Write an index table as a GADF file, gzipped if its name ends in ``.gz``.

    Parameters
    ----------
    table : `~astropy.table.Table`
        As `read_index` gives it; ``meta`` becomes the header. Descriptions of columns become
        ``TCOMM`` keywords.
    path : `~pathlib.Path`
        The new file. The same table gives the same bytes.
    """
    from astropy.io import fits

    plain = Table(table, copy=False)
    plain.meta = {}
    hdu = fits.table_to_hdu(plain)
    for key, value in table.meta.items():
        if isinstance(value, str | int | float | bool):
            hdu.header[key] = value
    for number, name in enumerate(plain.colnames, start=1):
        if plain[name].description:
            hdu.header[f"TCOMM{number}"] = plain[name].description
    buffer = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(buffer)
    content = buffer.getvalue()
    # Without a time stamp, so that results can be compared byte by byte.
    path.write_bytes(gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)


def _read_column(hdu: HDU, name: str) -> Column:
    values, unit = hdu.column(name), hdu.unit(name)
    parsed = parse_unit(unit) if unit else None
    null = hdu.null(name)
    if null is not None and values.dtype.kind in "iu":
        return MaskedColumn(values, name=name, unit=parsed, mask=values == null)
    return Column(values, name=name, unit=parsed)


def _meta(hdu: HDU) -> dict[str, Any]:
    return {
        key: value
        for key, value in hdu.header.items()
        if key not in _STRUCTURE and key.rstrip("0123456789") not in _COLUMN_KEYS
    }


def _obs_ids(table: Table, path: Path) -> Column:
    name = next(name for name in table.colnames if name.upper() == "OBS_ID")
    try:
        values = np.asarray(table[name]).astype(np.int64)
    except (ValueError, TypeError):
        raise ArchiveError(
            f"{path}: OBS_ID holds {str(table[name][0])!r}; expected whole numbers"
        ) from None
    if name != "OBS_ID":
        table.rename_column(name, "OBS_ID")
    return Column(values, name="OBS_ID")


@dataclass(frozen=True)
class HDULocation:
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
            If neither is.
        """
        if self.path.is_file():
            return self.path
        other = (
            self.path.with_suffix("")
            if self.path.suffix == ".gz"
            else self.path.with_name(self.path.name + ".gz")
        )
        if other.is_file():
            return other
        raise MissingDataError(
            f"no such file, though the index lists it for {self.hdu_type} of run {self.obs_id}",
            self.path,
        )

    def find(self, file: FitsFile) -> HDU:
        """This HDU in an opened file: by its name, else by its HDUCLAS keywords.

        Raises
        ------
        MissingDataError
            If the file has neither.
        """
        wanted = self.hdu_name.strip().upper()
        matches = None
        for hdu in file:
            if wanted and hdu.name == wanted:
                return hdu
            if matches is None and _hdu_type(hdu) == self.hdu_type:
                matches = hdu
        if matches is not None:
            return matches
        names = ", ".join(hdu.name for hdu in file)
        raise MissingDataError(
            f"no such HDU and none of type {self.hdu_type}; the file has {names}",
            file.path,
            self.hdu_name or self.hdu_type,
        )


def _hdu_type(hdu: HDU) -> str | None:
    """GADF type of an HDU, from its header."""
    hdu_class = hdu_class_of(hdu.header)
    if hdu_class is not None:
        return IRF_CLASSES[hdu_class].hdu_type
    return str(hdu.header.get("HDUCLAS1", "")).strip().lower() or None


class HDUIndex:
    """The hdu-index of an archive, looked up by observation.

    Parameters
    ----------
    table : `~astropy.table.Table`
        Columns OBS_ID, HDU_TYPE, HDU_CLASS, FILE_DIR, FILE_NAME and HDU_NAME.
    directory : `~pathlib.Path`
        What FILE_DIR is relative to.

    Raises
    ------
    ArchiveError
        If a column is missing.
    """

    def __init__(self, table: Table, directory: Path):
        missing = {"OBS_ID", "HDU_TYPE", "HDU_CLASS", "FILE_NAME"} - set(table.colnames)
        if missing:
            raise ArchiveError(
                f"{directory}: the hdu-index has no column {', '.join(sorted(missing))}; "
                f"it has {', '.join(table.colnames)}"
            )
        self.table = table
        self.directory = directory

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

    def rows(self, obs_id: int) -> NDArray[np.int64]:
        """Rows of one observation, in the order of the file."""
        first, last = np.searchsorted(self._sorted_ids, [obs_id, obs_id + 1])
        return self._order[first:last]

    def locations(self, obs_id: int) -> dict[str, HDULocation]:
        """HDU type to location for one observation; of several of a type, the first."""
        found: dict[str, HDULocation] = {}
        for row in self.rows(obs_id):
            hdu_type = str(self.table["HDU_TYPE"][row]).strip().lower()
            if hdu_type not in found:
                found[hdu_type] = HDULocation(
                    obs_id,
                    hdu_type,
                    str(self.table["HDU_CLASS"][row]).strip().lower(),
                    self._path(row),
                    self._text("HDU_NAME", row),
                )
        return found

    def _path(self, row: int) -> Path:
        directory, name = self._text("FILE_DIR", row), self._text("FILE_NAME", row)
        # An absolute path, also after expansion, stands for itself.
        return self.directory / expand_path(os.path.join(directory, name))  # noqa: PTH118

    def _text(self, colname: str, row: int) -> str:
        return str(self.table[colname][row]).strip() if colname in self.table.colnames else ""
