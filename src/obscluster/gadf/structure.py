"""What the header of an HDU says of its data: how long it is, and how the columns lie in it.

Responses of one production have the same headers, some but for the OBS_ID, so what is worked out
for one run is kept for the next ones.
"""

from __future__ import annotations

from functools import cached_property, lru_cache
from math import prod
from typing import Any

import numpy as np

from obscluster.gadf.columns import Column, column_layout
from obscluster.gadf.header import CARD, Header, find_card, parse_header

__all__ = ["Structure", "data_size", "structure_of"]

# More than any file holds. Numbers of a damaged header may have thousands of digits.
_MAX_BYTES = 1 << 50
_TABLES = ("BINTABLE", "A3DTABLE", "TABLE")
# What decides on the size of a table, in the order of the standard.
_SIZES = ("XTENSION", "BITPIX", "NAXIS", "NAXIS1", "NAXIS2", "PCOUNT", "GCOUNT")
_BLANK = b" " * CARD


class Structure:
    """What follows from the header of an HDU; everything raises ValueError if it is damaged.

    Parameters
    ----------
    header_bytes : bytes
        The header, maybe without its OBS_ID.
    """

    def __init__(self, header_bytes: bytes):
        self.header = parse_header(header_bytes)

    @cached_property
    def is_table(self) -> bool:
        """Whether there are columns, rather than an image or nothing."""
        return self.header.get("XTENSION") in _TABLES

    @cached_property
    def n_rows(self) -> int:
        """Number of table rows."""
        return length(self.header, "NAXIS2")

    @cached_property
    def columns(self) -> dict[str, Column]:
        """Columns by name, in the order of the table."""
        if not self.is_table:
            raise ValueError("is not a table")
        n_axes, n_columns = length(self.header, "NAXIS"), length(self.header, "TFIELDS", default=0)
        if n_axes != 2 or self.header.get("GCOUNT", 1) != 1:
            raise ValueError("a table has NAXIS = 2 and GCOUNT = 1")
        if n_columns > 999:
            raise ValueError(f"TFIELDS = {n_columns}; expected at most 999")
        is_text = self.header["XTENSION"] == "TABLE"
        columns: dict[str, Column] = {}
        offset = 0
        for number in range(1, n_columns + 1):
            name = str(self.header.get(f"TTYPE{number}") or f"col{number}").strip()
            if name in columns:
                raise ValueError(f"two columns are named {name!r}")
            unit = str(self.header.get(f"TUNIT{number}") or "").strip()
            columns[name] = column = (
                Column(name, unit)
                if is_text
                else column_layout(self.header, number, name, unit, offset)
            )
            offset += column.width
        row = length(self.header, "NAXIS1")
        if not is_text and offset != row:
            raise ValueError(f"NAXIS1 = {row}, but the columns take {offset}")
        if row == 0 and columns and self.n_rows:
            raise ValueError(f"{self.n_rows} rows of no width")
        return columns

    @cached_property
    def by_upper_name(self) -> dict[str, Column]:
        """Columns by name in upper case; of two that differ in case only, the first."""
        found: dict[str, Column] = {}
        for name, column in self.columns.items():
            found.setdefault(name.upper(), column)
        return found

    def find(self, colname: str) -> Column | None:
        """Column of a name, whatever its case; None if there is none."""
        return self.columns.get(colname) or self.by_upper_name.get(colname.upper())

    def column(self, colname: str) -> Column:
        """As `find`, for a column that must be there."""
        found = self.find(colname)
        if found is None:
            names = ", ".join(self.columns)
            raise ValueError(f"has no column {colname}; its columns: {names}")
        return found

    @cached_property
    def row_dtype(self) -> np.dtype[Any]:
        """A row as a structure, without the columns that only astropy can read."""
        columns = [column for column in self.columns.values() if column.dtype]
        try:
            return np.dtype(
                {
                    "names": [c.name for c in columns],
                    "formats": [(c.dtype, c.shape) for c in columns],
                    "offsets": [c.offset for c in columns],
                    "itemsize": length(self.header, "NAXIS1"),
                }
            )
        except (ValueError, TypeError, OverflowError) as error:
            raise ValueError(f"numpy cannot hold a row of this table ({error})") from None


def length(header: Header, key: str, default: int | None = None) -> int:
    """Whole number from 0 of a keyword.

    Raises
    ------
    ValueError
        If it is none.
    """
    value = header.get(key, default)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"{key} = {value!r}; expected a whole number from 0")
    return value


def data_size(header_bytes: bytes) -> int:
    """Length of the data of a HDU in bytes, without padding (FITS Standard 4.0, eq. 1 and 2).

    Parameters
    ----------
    header_bytes : bytes
        The header as stored.

    Raises
    ------
    ValueError
        If the header is damaged.
    """
    size = _size_of_table(header_bytes[: len(_SIZES) * CARD])
    return _size(parse_header(header_bytes)) if size is None else size


@lru_cache(maxsize=128)
def _size_of_table(cards: bytes) -> int | None:
    """Length of the data of a table whose first cards are in the prescribed order, else None.

    Responses of one production have the same size.
    """
    header = parse_header(cards)
    return _size(header) if tuple(header) == _SIZES and header["NAXIS"] == 2 else None


def _size(header: Header) -> int:
    n_axes = length(header, "NAXIS")
    if n_axes == 0:
        return 0
    if n_axes > 999:
        raise ValueError(f"NAXIS = {n_axes}; expected at most 999")
    bits = header.get("BITPIX")
    if bits not in (8, 16, 32, 64, -32, -64):
        raise ValueError(f"BITPIX = {bits!r}; expected 8, 16, 32, 64, -32 or -64")
    shape = [length(header, f"NAXIS{i + 1}") for i in range(n_axes)]
    extra, groups = length(header, "PCOUNT", default=0), length(header, "GCOUNT", default=1)
    size = abs(int(bits)) // 8 * groups * (extra + prod(shape))
    if size > _MAX_BYTES:
        raise ValueError("the header announces more data than any file holds; fetch it again")
    return size


def structure_of(header_bytes: bytes) -> Structure:
    """Structure of a HDU; the same object for headers that differ in their OBS_ID only.

    Parameters
    ----------
    header_bytes : bytes
        The header as stored.
    """
    start = find_card(header_bytes, "OBS_ID")
    if start < 0:
        return _structure(header_bytes)
    return _structure(header_bytes[:start] + _BLANK + header_bytes[start + CARD :])


@lru_cache(maxsize=128)
def _structure(header_bytes: bytes) -> Structure:
    return Structure(header_bytes)
