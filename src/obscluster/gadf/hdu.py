"""One header-data unit and the columns of its table.

Columns come out as views of the stored bytes wherever numpy can do that. What is unusual
(variable-length, scaled, logical or bit columns, ASCII tables) goes to `astropy.io.fits`, which
reads the same bytes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from obscluster.exceptions import FormatError
from obscluster.gadf.header import BLOCK, Header
from obscluster.gadf.unpack import Source

__all__ = ["HDU"]

_FORMAT = re.compile(r"(\d{0,12})([LXBIJKAEDCMPQ])(.*)\Z")
# Bytes per element (FITS Standard 4.0, table 18) and the numpy type where numpy can view it.
_WIDTHS = {"L": 1, "B": 1, "A": 1, "I": 2, "J": 4, "E": 4, "K": 8, "D": 8, "C": 8, "M": 16} | {
    "P": 8,
    "Q": 16,
}
_DTYPES = {"B": "u1", "I": ">i2", "J": ">i4", "K": ">i8", "E": ">f4", "D": ">f8"}


@dataclass(frozen=True)
class _Column:
    """Place of a column within a row; an empty dtype is left to astropy."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
    unit: str


class HDU:
    """One header-data unit of a file.

    Parameters
    ----------
    path : `~pathlib.Path`
        The file, for messages.
    index : int
        Position in the file, 0 for the primary HDU.
    header : dict
        Keywords and values.
    header_bytes : bytes
        The header as stored, for the astropy fallback.
    start : int
        Position of the data in the unpacked file, in bytes.
    source
        Where to read the data.
    """

    def __init__(
        self,
        path: Path,
        index: int,
        header: Header,
        header_bytes: bytes,
        start: int,
        source: Source,
    ):
        self.path = path
        self.index = index
        self.header = header
        self._header_bytes = header_bytes
        self._start = start
        self._source = source

    @property
    def name(self) -> str:
        """EXTNAME in upper case; ``PRIMARY`` for the first HDU, ``#<index>`` without a name."""
        name = self.header.get("EXTNAME")
        if isinstance(name, str) and name.strip():
            return name.strip().upper()
        return "PRIMARY" if self.index == 0 else f"#{self.index}"

    @property
    def n_rows(self) -> int:
        """Number of table rows."""
        return self._length("NAXIS2")

    @cached_property
    def data_size(self) -> int:
        """Length of the data in bytes, without padding (FITS Standard 4.0, eq. 1 and 2)."""
        n_axes = self._length("NAXIS")
        if n_axes == 0:
            return 0
        if n_axes > 999:
            raise self.error(f"NAXIS = {n_axes}; expected at most 999")
        bits = self.header.get("BITPIX")
        if bits not in (8, 16, 32, 64, -32, -64):
            raise self.error(f"BITPIX = {bits!r}; expected 8, 16, 32, 64, -32 or -64")
        shape = [self._length(f"NAXIS{i + 1}") for i in range(n_axes)]
        extra, groups = self._length("PCOUNT", default=0), self._length("GCOUNT", default=1)
        return abs(int(bits)) // 8 * groups * (extra + prod(shape))

    @property
    def colnames(self) -> list[str]:
        """Names of the table columns, as stored."""
        return list(self._columns)

    def __contains__(self, colname: str) -> bool:
        return self._find(colname) is not None

    def unit(self, colname: str) -> str:
        """Unit of a column as written in the file, empty if none.

        Raises
        ------
        FormatError
            If there is no such column.
        """
        return self._require(colname).unit

    def column(self, colname: str) -> NDArray[Any]:
        """Values of a column, shape (n_rows, ...), copied to the byte order of the machine.

        The array dimensions of FITS (TDIM) come out reversed, as numpy has it: the last axis
        varies fastest. Text loses trailing blanks. The name is matched whatever its case.

        Raises
        ------
        FormatError
            If there is no such column or the file ends before the table does.
        """
        values = self.view(colname)
        if values.dtype.kind == "S":
            # What is not ASCII, against the standard, is read as Latin-1 and never fails.
            values = np.char.decode(values, "latin-1")
        if values.dtype.kind == "U":
            return np.char.rstrip(values, " \0")
        return np.array(values, dtype=values.dtype.newbyteorder("="))

    def view(self, colname: str) -> NDArray[Any]:
        """As `column`, but in the file's byte order and without a copy."""
        column = self._require(colname)
        if self._rows is None:
            return np.asarray(self._fallback.field(column.name))
        return self._rows[column.name]

    def null(self, colname: str) -> int | None:
        """Integer that stands for a missing value in this column (TNULL), None if there is none."""
        number = 1 + list(self._columns).index(self._require(colname).name)
        value = self.header.get(f"TNULL{number}")
        return value if isinstance(value, int) else None

    @cached_property
    def _columns(self) -> dict[str, _Column]:
        kind = self.header.get("XTENSION")
        if kind not in ("BINTABLE", "A3DTABLE", "TABLE"):
            raise self.error("is not a table")
        n_axes, n_columns = self._length("NAXIS"), self._length("TFIELDS", default=0)
        if n_axes != 2 or self.header.get("GCOUNT", 1) != 1:
            raise self.error("a table has NAXIS = 2 and GCOUNT = 1")
        if n_columns > 999:
            raise self.error(f"TFIELDS = {n_columns}; expected at most 999")
        columns: dict[str, _Column] = {}
        offset = 0
        for number in range(1, n_columns + 1):
            name = str(self.header.get(f"TTYPE{number}") or f"col{number}").strip()
            if name in columns:
                raise self.error(f"two columns are named {name!r}")
            unit = str(self.header.get(f"TUNIT{number}") or "").strip()
            if kind == "TABLE":
                columns[name] = _Column(name, "", (), 0, unit)
                continue
            dtype, shape, width = self._layout(number)
            columns[name] = _Column(name, dtype, shape, offset, unit)
            offset += width
        if kind != "TABLE" and offset != self._length("NAXIS1"):
            raise self.error(f"NAXIS1 = {self.header['NAXIS1']}, but the columns take {offset}")
        return columns

    def _layout(self, number: int) -> tuple[str, tuple[int, ...], int]:
        """Numpy type, shape of a cell and its width in bytes, from TFORM and TDIM."""
        form = self.header.get(f"TFORM{number}")
        match = _FORMAT.match(form.strip().upper()) if isinstance(form, str) else None
        if match is None:
            raise self.error(f"TFORM{number} = {form!r} is not a format of a binary table")
        repeat, code = int(match[1] or 1), match[2]
        if code == "X":
            return "", (), (repeat + 7) // 8
        width = repeat * _WIDTHS[code]
        if code == "A":
            # Arrays of text, and text of no width, are left to astropy.
            plain = repeat > 0 and f"TDIM{number}" not in self.header
            return f"S{repeat}" if plain else "", (), width
        scaled = f"TSCAL{number}" in self.header or f"TZERO{number}" in self.header
        dtype = "" if scaled else _DTYPES.get(code, "")
        dim = self.header.get(f"TDIM{number}")
        if not isinstance(dim, str):
            return dtype, () if repeat == 1 else (repeat,), width
        try:
            shape = tuple(int(n) for n in dim.strip().strip("()").split(","))[::-1]
        except ValueError:
            raise self.error(f"TDIM{number} = {dim!r} is not a list of lengths") from None
        if min(shape) < 0 or prod(shape) != repeat:
            raise self.error(f"TDIM{number} = {dim!r} does not fit {repeat} elements")
        return dtype, shape, width

    @cached_property
    def _rows(self) -> NDArray[Any] | None:
        """All rows as a structured view; None where astropy has to read the table."""
        columns = self._columns.values()
        if not all(column.dtype for column in columns):
            return None
        data = self._data()
        try:
            layout = np.dtype(
                {
                    "names": [c.name for c in columns],
                    "formats": [(c.dtype, c.shape) for c in columns],
                    "offsets": [c.offset for c in columns],
                    "itemsize": self._length("NAXIS1"),
                }
            )
        except ValueError as error:
            raise self.error(f"numpy cannot hold a row of this table ({error})") from None
        if not data:
            return np.empty(0, dtype=layout)
        return np.frombuffer(data, dtype=layout, count=self.n_rows)

    @cached_property
    def _fallback(self) -> Any:
        """The table as an `astropy.io.fits.FITS_rec`."""
        from astropy.io import fits

        kind = fits.TableHDU if self.header["XTENSION"] == "TABLE" else fits.BinTableHDU
        data = self._data()
        try:
            padded = self._header_bytes + data + b"\0" * (-len(data) % BLOCK)
            # With uint, as fits.open has it: else unsigned integers pass through floating point.
            table = kind.fromstring(padded, uint=True).data
        except Exception as error:  # noqa: BLE001 astropy raises all sorts on damaged tables
            raise self.error(f"astropy cannot read this table ({error})") from None
        return table

    def _data(self) -> bytes:
        data = self._source.read(self._start, self._start + self.data_size)
        if len(data) < self.data_size:
            raise self.error(
                f"the file is truncated: {self.data_size} bytes announced, {len(data)} there; "
                "fetch it again"
            )
        return data

    def _find(self, colname: str) -> _Column | None:
        found = self._columns.get(colname)
        if found is None:
            found = next(
                (c for n, c in self._columns.items() if n.upper() == colname.upper()), None
            )
        return found

    def _require(self, colname: str) -> _Column:
        found = self._find(colname)
        if found is None:
            raise self.error(f"has no column {colname}; its columns: {', '.join(self._columns)}")
        return found

    def _length(self, key: str, default: int | None = None) -> int:
        value = self.header.get(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise self.error(f"{key} = {value!r}; expected a whole number from 0")
        return value

    def error(self, message: str) -> FormatError:
        """Error that names this file and HDU."""
        return FormatError(message, self.path, self.name)
