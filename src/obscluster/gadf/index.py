"""Index tables of an archive: which observations there are, and where their HDUs lie.

https://gamma-astro-data-formats.readthedocs.io/en/v0.3/data_storage/index.html
"""

from __future__ import annotations

import gzip
import io
import os
import re
import warnings
from pathlib import Path
from typing import Any, cast

import numpy as np
from astropy import units as u
from astropy.io import fits
from astropy.table import Column, MaskedColumn, Table
from astropy.utils.exceptions import AstropyWarning

from obscluster.exceptions import (
    ArchiveError,
    DataError,
    MissingDataError,
    ObsClusterWarning,
    RequestError,
)
from obscluster.gadf.fits import HDU, FitsFile
from obscluster.gadf.keywords import NUMBERS, unit_of_column
from obscluster.gadf.remote import is_file, is_remote, is_url, join, make_path
from obscluster.gadf.units import parse_unit
from obscluster.gadf.unpack import file_kind

__all__ = [
    "HDU_INDEX",
    "OBS_INDEX",
    "check_single_values",
    "expand_path",
    "find_index",
    "has_index",
    "is_own_index",
    "read_index",
    "split_hdu",
    "whole_number",
    "write_index",
]

OBS_INDEX = "obs-index"
HDU_INDEX = "hdu-index"
_SUFFIXES = (".fits.gz", ".fits")
# Keywords that describe how a table is stored: another one is stored in another way.
_STRUCTURE = ("XTENSION", "BITPIX", "PCOUNT", "GCOUNT", "TFIELDS", "THEAP", "CHECKSUM", "DATASUM")
_COLUMN_KEYS = (
    *("NAXIS", "TTYPE", "TFORM", "TUNIT", "TDIM", "TNULL", "TDISP", "TCOMM", "TSCAL", "TZERO"),
    "TBCOL",
)

_TEXTS = ("HDU_TYPE", "HDU_CLASS", "FILE_DIR", "FILE_NAME", "HDU_NAME")
# Other columns of the obs-index with one value per row; without those, it is read all the same.
_SINGLE = (
    *(*NUMBERS, "QUALITY", "OBJECT", "OBS_MODE", "TELLIST", "TELESCOP", "INSTRUME"),
    *("EVENT_TYPE", "INTERVAL"),
    *("DATE-OBS", "TIME-OBS", "DATE-END", "TIME-END"),
)
# Kind of index to the parameter and the option that name its file.
_OPTIONS = {
    OBS_INDEX: "obs_table_filename, --obs-index",
    HDU_INDEX: "hdu_table_filename, --hdu-index",
}


def split_hdu(text: str) -> tuple[str, int | str | None]:
    """Name of a file and the HDU asked for behind it, in brackets: its number or EXTNAME.

    Examples
    --------
    >>> split_hdu("obs.fits[2]"), split_hdu("obs.fits[OBS_INDEX]"), split_hdu("obs.fits")
    (('obs.fits', 2), ('obs.fits', 'OBS_INDEX'), ('obs.fits', None))
    """
    file, bracket, rest = text.rpartition("[")
    name = rest[:-1].strip()
    if not (bracket and rest.endswith("]") and name):
        return text, None
    return file, int(name) if re.fullmatch("[0-9]{1,18}", name) else name


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
        Its name, relative to the archive, where it is not the usual one; ``~`` and environment
        variables are expanded. What `split_hdu` takes for an HDU is left out.

    Raises
    ------
    ArchiveError
        If the archive or the file does not exist.
    RequestError
        If the name has an environment variable that is not set.
    """
    remote = is_remote(directory)
    if not remote and not directory.exists():
        raise ArchiveError(f"{directory}: no such archive directory; check the path")
    if not remote and not directory.is_dir():
        raise ArchiveError(f"{directory}: is a file; an archive is a directory with index files")
    filename = split_hdu(filename)[0] if filename else None
    if filename:
        # Compressed or unpacked since somebody wrote its name down.
        packed = filename.endswith(".gz")
        names = [filename, filename[:-3] if packed else f"{filename}.gz"]
    else:
        names = [kind + suffix for suffix in _SUFFIXES]
    denied = ""
    try:
        for name in names:
            path = join(directory, name) if remote else directory / expand_path(name)
            try:
                if is_file(path) if is_remote(path) else path.is_file():
                    return path
            except PermissionError as error:
                # Some stores say so of what is not there; the other name may be.
                denied = str(error.strerror)
            if not is_remote(path) and (what := file_kind(path)):
                raise ArchiveError(f"{path}: is {what}; expected the {kind}, a file")
    except MissingDataError as error:
        raise ArchiveError(str(error)) from None
    except (OSError, ValueError) as error:
        if isinstance(error, RequestError):
            raise
        raise ArchiveError(f"{directory}: no file has the name {names[0]!r}") from None
    if denied:
        raise ArchiveError(
            f"{directory}: no {' or '.join(names)} that may be read ({denied}); check the path "
            "and what you may read"
        )
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

    Raises
    ------
    ArchiveError
        If the server of a URL does not tell.
    """
    paths = [directory / (kind + suffix) for suffix in _SUFFIXES]
    if not is_remote(directory):
        # What is there but no file is named where it is opened.
        return any(map(Path.exists, paths))
    try:
        return any(map(_may_be_read, paths))
    except MissingDataError as error:
        # Not that there is none: the archive would be another one.
        raise ArchiveError(str(error)) from None


def _may_be_read(path: Path) -> bool:
    """Whether there is a file at a URL, and access to it."""
    try:
        return is_file(path)
    except PermissionError:
        return False


def read_index(
    path: Path, kind: str | None = None, hdu: int | str | None = None, strict: bool = True
) -> Table:
    """Index table of an archive, with units; the header is in its ``meta``.

    Parameters
    ----------
    path : `~pathlib.Path`
        The obs-index or hdu-index file.
    kind : {"obs-index", "hdu-index"}, optional
        Which of the two is wanted, where a file holds both; otherwise the first table with OBS_ID.
    hdu : int or str, optional
        Number (0 for the primary HDU) or EXTNAME of the table, see `split_hdu`.
    strict : bool
        Raise an error where the unit of a column of GADF cannot be used; else it is kept as it is.

    Returns
    -------
    table : `~astropy.table.Table`
        Text columns as str, numbers in native byte order; OBS_ID as int64 whatever its type in
        the file. Missing integers (TNULL) are masked. Columns of one-element arrays are plain ones,
        those of variable-length arrays hold an array each. Columns of GADF that come without a unit
        have that of the specification.

    Raises
    ------
    ArchiveError
        If the file cannot be read, holds no table or not the one asked for, or has no usable
        OBS_ID or unit.

    Warns
    -----
    ObsClusterWarning
        If several tables may be meant, or a column is left out because it cannot be read, or holds
        arrays where GADF has one value per row.
    """
    try:
        with FitsFile(path) as file:
            found = _find_table(file, kind, hdu)
            columns = _read_columns(found, strict)
    except DataError as error:
        raise ArchiveError(f"index file {error}") from None
    table = Table(columns, copy=False, meta=_meta(found))
    check_single_values(table, f"{path}, HDU {found.name}")
    # The column OBS_ID, whatever its name's case and its type, as int64.
    names = [name for name in table.colnames if name.upper() == "OBS_ID"]
    name = "OBS_ID" if "OBS_ID" in names else names[0]
    values = table[name].tolist()
    numbers = [whole_number(value) for value in values]
    if None in numbers:
        bad = values[numbers.index(None)]
        raise ArchiveError(f"{path}: OBS_ID holds {bad!r}; expected whole numbers")
    if name != "OBS_ID":
        table.rename_column(name, "OBS_ID")
    table["OBS_ID"] = Column(np.array(numbers, dtype=np.int64), name="OBS_ID")
    return table


def _find_table(file: FitsFile, kind: str | None, wanted: int | str | None) -> HDU:
    """The table asked for, else the first that may be the index."""
    hdus: list[HDU] = []
    candidates: list[HDU] = []
    try:
        for hdu in file:
            hdus.append(hdu)
            if hdu.is_table and "OBS_ID" in hdu:
                candidates.append(hdu)
    except DataError:
        # What is damaged behind an index does not concern it.
        if not candidates:
            raise
    if wanted is not None:
        same = (hdu.index if isinstance(wanted, int) else hdu.name for hdu in hdus)
        name = wanted if isinstance(wanted, int) else wanted.upper()
        asked = next((hdu for hdu, own in zip(hdus, same, strict=True) if own == name), None)
        if asked is None:
            there = ", ".join(f"{hdu.index} {hdu.name}" for hdu in hdus)
            raise ArchiveError(f"{file.path}: no HDU {wanted}; it has {there}")
        candidates = [hdu for hdu in candidates if hdu is asked]
        hdus = [asked]
    if not candidates:
        tables = [f"{h.name} ({', '.join(h.colnames)})" for h in hdus if h.is_table]
        raise ArchiveError(
            f"{file.path}: no column OBS_ID, so it is not an index of observations; "
            f"tables in it: {'; '.join(tables) or 'none'}"
        )
    if kind is not None:
        of_kind = [hdu for hdu in candidates if ("FILE_NAME" in hdu) == (kind == HDU_INDEX)]
        candidates = of_kind or candidates
    if len(candidates) > 1:
        tables = [f"{hdu.index} {hdu.name} ({hdu.n_rows} rows)" for hdu in candidates]
        how = f" ({_OPTIONS[kind]})" if kind in _OPTIONS else ""
        warnings.warn(
            f"{file.path}: several tables may be the {kind or 'index'}: {', '.join(tables)}; the "
            f"first is read, name another as '{file.path.name}[{candidates[1].index}]'{how}",
            ObsClusterWarning,
            stacklevel=3,
        )
    return candidates[0]


def _read_columns(hdu: HDU, strict: bool) -> list[Column]:
    """Columns of an index; those that nobody needs are left out where they cannot be read."""
    columns, problems = [], []
    for name in hdu.colnames:
        known = name.upper()
        try:
            column = _read_column(hdu, name, strict)
        except DataError as error:
            if known in ("OBS_ID", *_TEXTS):
                raise
            problems.append(f"{name} ({error.message})")
            continue
        if known in _SINGLE and (column.ndim > 1 or column.dtype.kind == "O"):
            problems.append(f"{name} (holds arrays; expected one value per row)")
            continue
        if known in _TEXTS and column.dtype.kind not in "UO":
            # Such as numbers for names of files.
            column = Column(column.astype(str), name=name)
        columns.append(column)
    if problems:
        text = f"{hdu.path}, HDU {hdu.name}: columns left out: {'; '.join(problems)}"
        warnings.warn(text, ObsClusterWarning, stacklevel=3)
    return columns


def _read_column(hdu: HDU, name: str, strict: bool) -> Column:
    values, text = hdu.column(name), hdu.unit(name)
    if values.ndim > 1 and values.size == len(values):
        values = values.reshape(len(values))
    elif values.dtype.kind == "O" and len(values) and all(np.size(value) == 1 for value in values):
        values = np.concatenate([np.ravel(value) for value in values])
    unit = parse_unit(text) if text else None
    try:
        expected = unit_of_column(name, text, hdu.header)
        if expected is not None:
            unit = None if expected == u.one else expected
    except ValueError as error:
        if strict:
            next_step = "correct the file, or name another index by --obs-index FILE"
            raise ArchiveError(f"{hdu.path}, HDU {hdu.name}: {error}; {next_step}") from None
        unit = u.UnrecognizedUnit(text)
    # What is written, for messages; empty where the unit is that of the specification.
    meta = {"TUNIT": text} if str(unit or "") != text else None
    null = hdu.null(name)
    if null is not None and values.dtype.kind in "iu":
        return MaskedColumn(values, name=name, unit=unit, mask=values == null, meta=meta)
    return Column(values, name=name, unit=unit, meta=meta)


def check_single_values(table: Table, where: str) -> None:
    """Raise an error if OBS_ID, or what says where a HDU lies, holds arrays.

    Parameters
    ----------
    table : `~astropy.table.Table`
        The table.
    where : str
        What to call it.

    Raises
    ------
    ArchiveError
        If one of the columns has several values per row.
    """
    for name in table.colnames:
        if name.upper() not in ("OBS_ID", *_TEXTS):
            continue
        column = table[name]
        is_list = column.dtype.kind == "O" and any(np.ndim(value) > 0 for value in column)
        if column.ndim > 1 or is_list:
            raise ArchiveError(f"{where}: column {name} holds arrays; expected one value per row")


def write_index(table: Table, path: Path) -> None:
    """Write an index table as a GADF file, gzipped if its name ends in ``.gz``.

    Parameters
    ----------
    table : `~astropy.table.Table`
        As `read_index` gives it; ``meta`` becomes the header. Descriptions of columns become
        ``TCOMM`` keywords. Text columns are written in Latin-1, as they are read.
    path : `~pathlib.Path`
        The new file. The same table gives the same bytes.

    Warns
    -----
    ObsClusterWarning
        If FITS has no room for something: letters in names, keywords and text are then written as
        ``?``, and keywords without a usable name or value are left out.
    """
    plain = Table(table, copy=False)
    plain.meta = {}
    remarks: list[str] = []
    for name in plain.colnames:
        # Text of a column, its name and its unit as FITS has them: bytes, and printable ASCII.
        column = plain[name]
        if isinstance(column.unit, u.UnrecognizedUnit) and not str(column.unit).isascii():
            plain[name].unit = u.UnrecognizedUnit(_printable(str(column.unit)))
        if column.dtype.kind == "U":
            values = np.ascontiguousarray(np.ma.filled(column, ""))
            points = values.view(np.uint32).reshape(*values.shape, -1)
            foreign = points > 255
            if foreign.any():
                n_bad = int(foreign.reshape(len(values), -1).any(axis=1).sum())
                remarks.append(f"column {name}: letters of {n_bad} values replaced by '?'")
            if (points > 127).any():
                stored = np.where(foreign, ord("?"), points).astype(np.uint8)
                encoded = stored.view(f"S{stored.shape[-1]}").reshape(values.shape)
                plain[name] = Column(encoded, name=name, description=column.description)
        if _printable(name) != name:
            plain.rename_column(name, _printable(name))
            remarks.append(f"column {_printable(name)}: name in ASCII")
    with warnings.catch_warnings():
        # Of long keywords, and of units that are not in the standard.
        warnings.simplefilter("ignore", AstropyWarning)
        hdu = fits.table_to_hdu(plain)
        texts = {f"TCOMM{n}": plain[c].description for n, c in enumerate(plain.colnames, start=1)}
        for key, value in {**table.meta, **{k: text for k, text in texts.items() if text}}.items():
            if isinstance(value, str | int | float | bool):
                written = _printable(value) if isinstance(value, str) else value
                remarks += [f"keyword {key}: text in ASCII"] if written != value else []
                try:
                    hdu.header[key if len(key) <= 8 else f"HIERARCH {key}"] = written
                except ValueError:
                    remarks.append(f"keyword {key} left out")
        # A fixed text in place of the time, so that the same table gives the same bytes.
        hdu.add_checksum(when="of this HDU", checksum_keyword="CHECKSUM")
        buffer = io.BytesIO()
        # Keywords of a damaged header, such as an EXTNAME that is no text, stay as they are.
        fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(buffer, output_verify="silentfix+ignore")
    if remarks:
        text = f"{path.name}: not all can be written in FITS: {'; '.join(remarks)}"
        warnings.warn(text, ObsClusterWarning, stacklevel=2)
    content = buffer.getvalue()
    # Without a time stamp, so that results can be compared byte by byte.
    path.write_bytes(gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)


def is_own_index(path: Path) -> bool:
    """Whether a file is an index that obscluster has found by itself, as it was written."""
    try:
        with warnings.catch_warnings(), fits.open(path, memmap=False) as hdus:
            warnings.simplefilter("ignore")
            is_ours = str(hdus[1].header.get("CREATOR")).startswith("obscluster")
            return is_ours and hdus[1].verify_checksum() == hdus[1].verify_datasum() == 1
    except (OSError, IndexError, ValueError):
        return False


def _printable(text: str) -> str:
    return "".join(c if " " <= c <= "~" else "?" for c in text)


def _meta(hdu: HDU) -> dict[str, Any]:
    return {
        key: value
        for key, value in hdu.header.items()
        if key not in _STRUCTURE and key.rstrip("0123456789") not in _COLUMN_KEYS
    }


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
