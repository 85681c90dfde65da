"""Tables of results in ECSV, whose header is YAML that somebody may have edited."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import yaml
from astropy.table import QTable

from obscluster.exceptions import ArchiveError
from obscluster.files.records import (
    Check,
    RecordError,
    check_record,
    list_of,
    mapping,
    optional,
    require,
    text,
)
from obscluster.files.yaml import Limits, parse, require_file

__all__ = ["check_columns", "read_ecsv"]

_HEADER = Limits("the header of a table", 1_000_000, 20_000, 50)
_CONTENT: Check = mapping(
    {"datatype": list_of(mapping({"name": text, "datatype": text}, {"unit": optional(text)}))}
)
# Astropy tells what is wrong with a table by whatever its parts raise.
_ERRORS = (
    ArithmeticError,
    AttributeError,
    ImportError,
    LookupError,
    TypeError,
    ValueError,
    csv.Error,
    yaml.YAMLError,
)


def read_ecsv(path: Path, whole: Iterable[str] = (), numbers: Iterable[str] = ()) -> QTable:
    """Read a table that was written as ECSV.

    Parameters
    ----------
    path : `~pathlib.Path`
        The file.
    whole, numbers : iterable of str
        Columns that must be there, with a whole number or a finite number in each row.

    Returns
    -------
    table : `~astropy.table.QTable`
        Its content.

    Raises
    ------
    ArchiveError
        If the file cannot be read, is no such table, or lacks a column; the message names it.
    """
    require_file(path)
    try:
        header = _header(path)
        check_record(parse(header, str(path), _HEADER, places=False, tags=True)[0], _CONTENT, path)
        table = QTable.read(path, format="ascii.ecsv")
    except ArchiveError:
        raise
    except OSError as error:
        raise ArchiveError(f"{path}: cannot be read ({error.strerror or error})") from None
    except _ERRORS as error:
        lines = str(error).splitlines() or [type(error).__name__]
        raise ArchiveError(f"{path}: not a table in ECSV ({lines[0][:200]})") from None
    try:
        check_columns(table, whole, numbers)
    except RecordError as error:
        raise ArchiveError(f"{path}: {error}") from None
    return table


def check_columns(table: QTable, whole: Iterable[str] = (), numbers: Iterable[str] = ()) -> None:
    """Check that columns are there and have a number in each row.

    Raises
    ------
    RecordError
        If that is not so; the message names the column.
    """
    for names, kinds, what in ((whole, "iu", "whole number"), (numbers, "iuf", "finite number")):
        for name in names:
            require(name in table.colnames, f"has no column {name}")
            column = table[name]
            values = np.asarray(getattr(column, "value", column))
            good = values.ndim == 1 and values.dtype.kind in kinds
            good = good and not np.ma.is_masked(column) and bool(np.isfinite(values).all())
            require(good, f"column {name}: expected a {what} in each row")


def _header(path: Path) -> str:
    """The YAML of the header; its first line, which names the format, is left empty."""
    lines: list[str] = []
    size = 0
    with path.open("rb") as file:
        for line in iter(lambda: file.readline(_HEADER.n_bytes + 1), b""):
            size += len(line)
            if not line.startswith(b"#") or size > _HEADER.n_bytes:
                break
            lines.append(line.decode("utf-8").removeprefix("#").removeprefix(" "))
    if size > _HEADER.n_bytes or not lines or not lines[0].startswith("%ECSV"):
        raise ArchiveError(f"{path}: not a table in ECSV (expected a first line # %ECSV 1.0)")
    return "\n" + "".join(lines[1:])
