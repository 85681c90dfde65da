"""Index tables of an archive: which observations there are, and where their HDUs lie.

https://gamma-astro-data-formats.readthedocs.io/en/v0.3/data_storage/index.html
"""

from __future__ import annotations

import gzip
import io
import os
from pathlib import Path
from typing import Any, cast

import numpy as np
from astropy import units as u
from astropy.table import Column, MaskedColumn, Table

from obscluster.exceptions import (
    ArchiveError,
    DataError,
    MissingDataError,
    RequestError,
)
from obscluster.gadf.fits import FitsFile
from obscluster.gadf.hdu import HDU
from obscluster.gadf.keywords import unit_of_column
from obscluster.gadf.remote import is_file, is_remote, is_url, make_path
from obscluster.gadf.units import parse_unit

__all__ = [
    "HDU_INDEX",
    "OBS_INDEX",
    "expand_path",
    "find_index",
    "has_index",
    "read_index",
    "whole_number",
    "write_index",
]

OBS_INDEX = "obs-index"
HDU_INDEX = "hdu-index"
_SUFFIXES = (".fits.gz", ".fits")
_STRUCTURE = ("XTENSION", "BITPIX", "PCOUNT", "GCOUNT", "TFIELDS")
_COLUMN_KEYS = ("NAXIS", "TTYPE", "TFORM", "TUNIT", "TDIM", "TNULL", "TDISP", "TCOMM")


def expand_path(path: str | os.PathLike[str]) -> Path:
    """Path with ``~`` and environment variables expanded; of a URL, see `obscluster.gadf.remote`.

    Raises
    ------
    RequestError
        If it names an environment variable that is not set, or a user who is not known, or is a
        URL that cannot be used.
    """
    if is_remote(path):
        return cast(Path, path)
    text = os.fspath(path)
    if isinstance(path, Path) and "$" not in text and not text.startswith("~"):
        return path
    text = os.path.expandvars(text)
    if is_url(text):
        return make_path(text)
    if "$" in text:
        name = text[text.index("$") + 1 :].strip("{").split("/")[0].split("}")[0]
        raise RequestError(f"path {os.fspath(path)}: environment variable ${name} is not set")
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise RequestError(f"path {os.fspath(path)}: there is no home of that name") from None


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
    remote = is_remote(directory)
    if not remote and not directory.exists():
        raise ArchiveError(f"{directory}: no such archive directory; check the path")
    if not remote and not directory.is_dir():
        raise ArchiveError(f"{directory}: is a file; an archive is a directory with index files")
    if filename is None:
        names = [kind + suffix for suffix in _SUFFIXES]
    else:
        # Compressed or unpacked since somebody wrote its name down.
        packed = filename.endswith(".gz")
        names = [filename, filename[:-3] if packed else f"{filename}.gz"]
    try:
        for name in names:
            if is_file(directory / name) if remote else (directory / name).is_file():
                return directory / name
    except MissingDataError as error:
        raise ArchiveError(str(error)) from None
    searched = "; below a URL nothing is searched, so name the directory itself" if remote else ""
    raise ArchiveError(
        f"{directory}: no {' or '.join(names)}; the directory of an archive holds "
        f"{OBS_INDEX}.fits.gz and {HDU_INDEX}.fits.gz{searched}{_next_step(directory)}"
    )


def _next_step(directory: Path) -> str:
    """What to do where an index is missing."""
    if is_remote(directory):
        return ""
    return (
        f"; obscluster index {directory} writes them from the headers, and --obs-index and "
        "--hdu-index name others"
    )


def has_index(directory: Path, kind: str) -> bool:
    """Whether an archive has an index file of the usual name.

    Parameters
    ----------
    directory : `~pathlib.Path`
        The archive, also at a URL.
    kind : {"obs-index", "hdu-index"}
        Which of the two.
    """
    there = is_file if is_remote(directory) else Path.is_file
    try:
        return any(there(directory / (kind + suffix)) for suffix in _SUFFIXES)
    except MissingDataError:
        return False


def read_index(path: Path, strict: bool = True) -> Table:
    """Index table of an archive, with units; the header is in its ``meta``.

    Parameters
    ----------
    path : `~pathlib.Path`
        The obs-index or hdu-index file.
    strict : bool
        Raise an error where the unit of a column of GADF cannot be used; else it is kept as it is.

    Returns
    -------
    table : `~astropy.table.Table`
        Text columns as str, numbers in native byte order; OBS_ID as int64 whatever its type in
        the file. Missing integers (TNULL) are masked. Columns of GADF that come without a unit
        have that of the specification.

    Raises
    ------
    ArchiveError
        If the file cannot be read, holds no table, or has no usable OBS_ID or unit.
    """
    try:
        with FitsFile(path) as file:
            hdu = next((h for h in file if h.is_table and "OBS_ID" in h), None)
            if hdu is None:
                found = [f"{h.name} ({', '.join(h.colnames)})" for h in file if h.is_table]
                raise ArchiveError(
                    f"{path}: no column OBS_ID, so it is not an index of observations; "
                    f"tables in it: {'; '.join(found) or 'none'}"
                )
            columns = [_read_column(hdu, name, strict) for name in hdu.colnames]
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


def _read_column(hdu: HDU, name: str, strict: bool) -> Column:
    values, text = hdu.column(name), hdu.unit(name)
    unit = parse_unit(text) if text else None
    try:
        expected = unit_of_column(name, text, hdu.header)
        unit = unit if expected is None else None if expected == u.one else expected
    except ValueError as error:
        if strict:
            next_step = "correct the file, or name another index by --obs-index FILE"
            raise ArchiveError(f"{hdu.path}, HDU {hdu.name}: {error}; {next_step}") from None
    null = hdu.null(name)
    if null is not None and values.dtype.kind in "iu":
        return MaskedColumn(values, name=name, unit=unit, mask=values == null)
    return Column(values, name=name, unit=unit)


def _meta(hdu: HDU) -> dict[str, Any]:
    return {
        key: value
        for key, value in hdu.header.items()
        if key not in _STRUCTURE and key.rstrip("0123456789") not in _COLUMN_KEYS
    }


def _obs_ids(table: Table, path: Path) -> Column:
    """The column OBS_ID, whatever its name's case and its type, as int64."""
    names = [name for name in table.colnames if name.upper() == "OBS_ID"]
    name = "OBS_ID" if "OBS_ID" in names else names[0]
    values = table[name].tolist()
    numbers = [whole_number(value) for value in values]
    if None in numbers:
        bad = values[numbers.index(None)]
        raise ArchiveError(f"{path}: OBS_ID holds {bad!r}; expected whole numbers")
    if name != "OBS_ID":
        table.rename_column(name, "OBS_ID")
    return Column(np.array(numbers, dtype=np.int64), name="OBS_ID")


def whole_number(value: Any) -> int | None:
    """Whole number, from a number or a text; None if it is none or takes more than 64 bits."""
    if isinstance(value, bool):
        return None
    try:
        number = int(value)
    except (TypeError, ValueError, OverflowError):
        return None
    exact = isinstance(value, str) or number == value
    return number if exact and abs(number) < 2**63 else None
