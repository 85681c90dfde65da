"""One header-data unit and the columns of its table.

Columns come out as views of the stored bytes wherever numpy can do that. What is unusual
(variable-length, scaled or bit columns, ASCII tables) goes to `astropy.io.fits`, which reads the
same bytes.
"""

from __future__ import annotations

import warnings
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from obscluster.exceptions import FormatError
from obscluster.gadf.columns import Column, column_layout
from obscluster.gadf.header import BLOCK, Header
from obscluster.gadf.unpack import Source

__all__ = ["HDU"]

# More than any file holds. Numbers of a damaged header may have thousands of digits.
_MAX_BYTES = 1 << 50


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
        size = abs(int(bits)) // 8 * groups * (extra + prod(shape))
        if size > _MAX_BYTES:
            raise self.error("the header announces more data than any file holds; fetch it again")
        return size

    @property
    def is_table(self) -> bool:
        """Whether this HDU has columns, rather than an image or nothing."""
        return self.header.get("XTENSION") in ("BINTABLE", "A3DTABLE", "TABLE")

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
        if not column.dtype:
            return self._astropy_column(column.name)
        return column.values(self._rows[column.name])

    def null(self, colname: str) -> int | None:
        """Integer that stands for a missing value in this column (TNULL), None if there is none."""
        number = 1 + list(self._columns).index(self._require(colname).name)
        value = self.header.get(f"TNULL{number}")
        return value if isinstance(value, int) else None

    @cached_property
    def _columns(self) -> dict[str, Column]:
        if not self.is_table:
            raise self.error("is not a table")
        n_axes, n_columns = self._length("NAXIS"), self._length("TFIELDS", default=0)
        if n_axes != 2 or self.header.get("GCOUNT", 1) != 1:
            raise self.error("a table has NAXIS = 2 and GCOUNT = 1")
        if n_columns > 999:
            raise self.error(f"TFIELDS = {n_columns}; expected at most 999")
        is_text = self.header["XTENSION"] == "TABLE"
        columns: dict[str, Column] = {}
        offset = 0
        for number in range(1, n_columns + 1):
            name = str(self.header.get(f"TTYPE{number}") or f"col{number}").strip()
            if name in columns:
                raise self.error(f"two columns are named {name!r}")
            unit = str(self.header.get(f"TUNIT{number}") or "").strip()
            try:
                column = (
                    Column(name, unit)
                    if is_text
                    else column_layout(self.header, number, name, unit, offset)
                )
            except ValueError as error:
                raise self.error(str(error)) from None
            columns[name] = column
            offset += column.width
        row = self._length("NAXIS1")
        if not is_text and offset != row:
            raise self.error(f"NAXIS1 = {row}, but the columns take {offset}")
        if row == 0 and columns and self.n_rows:
            raise self.error(f"{self.n_rows} rows of no width")
        return columns

    @cached_property
    def _rows(self) -> NDArray[Any]:
        """All rows as a structured view, without the columns that only astropy can read."""
        columns = [column for column in self._columns.values() if column.dtype]
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
        except (ValueError, TypeError, OverflowError) as error:
            raise self.error(f"numpy cannot hold a row of this table ({error})") from None
        if not data:
            return np.empty(0, dtype=layout)
        return np.frombuffer(data, dtype=layout, count=self.n_rows)

    def _astropy_column(self, name: str) -> NDArray[Any]:
        """Values of a column as `astropy.io.fits` reads them from the same bytes."""
        try:
            with warnings.catch_warnings():
                # Of keywords that nothing here uses.
                warnings.simplefilter("ignore")
                return np.asarray(self._fallback.field(name))
        except FormatError:
            raise
        except Exception as error:  # noqa: BLE001 astropy raises all sorts on damaged tables
            raise self.error(f"astropy cannot read column {name} ({error})") from None

    @cached_property
    def _fallback(self) -> Any:
        """The table as an `astropy.io.fits.FITS_rec`."""
        from astropy.io import fits

        kind = fits.TableHDU if self.header["XTENSION"] == "TABLE" else fits.BinTableHDU
        # The data is as long as announced, so nothing can be allocated for what is not there.
        data = self._data()
        padded = self._header_bytes + data + b"\0" * (-len(data) % BLOCK)
        # With uint, as fits.open has it: else unsigned integers pass through floating point.
        return kind.fromstring(padded, uint=True).data

    def _data(self) -> bytes:
        data = self._source.read(self._start, self._start + self.data_size)
        if len(data) < self.data_size:
            raise self.error(
                f"the file is truncated: {self.data_size} bytes announced, {len(data)} there; "
                "fetch it again"
            )
        return data

    def _find(self, colname: str) -> Column | None:
        found = self._columns.get(colname)
        if found is None:
            found = next(
                (c for n, c in self._columns.items() if n.upper() == colname.upper()), None
            )
        return found

    def _require(self, colname: str) -> Column:
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
