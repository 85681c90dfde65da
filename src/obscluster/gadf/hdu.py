"""One header-data unit and the columns of its table.

Columns come out as views of the stored bytes wherever numpy can do that. What is unusual
(variable-length, scaled or bit columns, ASCII tables) goes to `astropy.io.fits`, which reads the
same bytes.
"""

from __future__ import annotations

import warnings
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from obscluster.exceptions import DamagedError, FormatError
from obscluster.gadf.columns import Column
from obscluster.gadf.header import BLOCK, Header, parse_header
from obscluster.gadf.structure import Structure, data_size, structure_of
from obscluster.gadf.unpack import Source

__all__ = ["HDU"]


class HDU:
    """One header-data unit of a file.

    Parameters
    ----------
    path : `~pathlib.Path`
        The file, for messages.
    index : int
        Position in the file, 0 for the primary HDU.
    header_bytes : bytes
        The header as stored.
    header_end : int
        Where in it the card END begins.
    start : int
        Position of the data in the unpacked file, in bytes.
    source
        Where to read the data.

    Attributes
    ----------
    header : mapping
        Keywords and values.
    name : str
        EXTNAME in upper case; ``PRIMARY`` for the first HDU, ``#<index>`` without a name.
    data_size : int
        Length of the data in bytes, without padding.

    Raises
    ------
    FormatError
        If the header does not tell how long the data is.
    """

    def __init__(
        self,
        path: Path,
        index: int,
        header_bytes: bytes,
        header_end: int,
        start: int,
        source: Source,
    ):
        self.path = path
        self.index = index
        self.header: Header = parse_header(header_bytes, header_end)
        self.name = _name(self.header) or ("PRIMARY" if index == 0 else f"#{index}")
        try:
            self.data_size = data_size(header_bytes)
        except ValueError as error:
            raise DamagedError(str(error), self.path, self.name) from None
        self._header_bytes = header_bytes
        self._start = start
        self._source = source

    @cached_property
    def structure(self) -> Structure:
        """What the header says of the columns, shared by HDUs of which it says the same."""
        return structure_of(self._header_bytes)

    @property
    def n_rows(self) -> int:
        """Number of table rows."""
        try:
            return self.structure.n_rows
        except ValueError as error:
            raise self.error(str(error)) from None

    @property
    def is_table(self) -> bool:
        """Whether this HDU has columns, rather than an image or nothing."""
        return self.structure.is_table

    @property
    def colnames(self) -> list[str]:
        """Names of the table columns, as stored."""
        return list(self._columns)

    def __contains__(self, colname: object) -> bool:
        try:
            return isinstance(colname, str) and self.structure.find(colname) is not None
        except ValueError as error:
            raise self.error(str(error)) from None

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
        is_list = values.dtype.kind == "O" and len(values)
        if is_list and all(np.asarray(v).dtype.kind == "U" for v in values):
            # Text of variable length comes letter by letter.
            values = np.array(["".join(np.ravel(value)) for value in values], dtype=np.str_)
        if values.dtype.kind == "S":
            values = _decoded(values)
        if values.dtype.kind == "U":
            values = np.char.rstrip(values, " \0")
            # Columns are declared wide, for names that are short, and there may be many of them.
            return values.astype(f"U{np.char.str_len(values).max(initial=1)}")
        return np.array(values, dtype=values.dtype.newbyteorder("="))

    def view(self, colname: str) -> NDArray[Any]:
        """As `column`, but in the file's byte order and without a copy."""
        column = self._require(colname)
        if column.problem:
            raise self.error(f"column {column.name} cannot be read: {column.problem}")
        if not column.dtype:
            return self._astropy_column(column.name)
        return column.values(self._rows[column.name])

    def cell(self, column: str | Column, part: slice | None = None) -> NDArray[Any]:
        """Values of a column in the first row, in the file's byte order and without a copy.

        Parameters
        ----------
        column : str or `~obscluster.gadf.columns.Column`
            The column, or its name.
        part : slice, optional
            Only these along the first axis, and no more is read.

        Raises
        ------
        FormatError
            If there is no such column or row, or the file ends before the table does.
        """
        if isinstance(column, str):
            column = self._require(column)
        if not self.n_rows:
            raise self.error("has no rows")
        shape, first, last = column.shape, 0, column.width
        if not column.dtype or column.stands_for or (part is not None and not last):
            whole = np.asarray(self.view(column.name)[0])
            return whole if part is None else whole[part]
        if part is not None:
            start, stop, stride = part.indices(shape[0] if shape else 0)
            if stride != 1 or not shape:
                raise ValueError(f"part {part} of column {column.name}: expected bins in a row")
            step, stop = column.width // shape[0], max(start, stop)
            shape, first, last = (stop - start, *shape[1:]), start * step, stop * step
        data = self._row_bytes(column.offset + first, column.offset + last)
        return np.frombuffer(data, column.dtype).reshape(shape)

    def bytes_before(self, column: Column) -> bytes:
        """Stored bytes of the first row, up to a column that can be viewed; else none."""
        return bytes(self._row_bytes(0, column.offset)) if column.dtype and self.n_rows else b""

    def null(self, colname: str) -> int | None:
        """Integer that stands for a missing value in this column (TNULL), None if there is none."""
        number = 1 + list(self._columns).index(self._require(colname).name)
        value = self.header.get(f"TNULL{number}")
        return value if isinstance(value, int) else None

    @property
    def _columns(self) -> dict[str, Column]:
        try:
            return self.structure.columns
        except ValueError as error:
            raise self.error(str(error)) from None

    @cached_property
    def _rows(self) -> NDArray[Any]:
        """All rows as a structured view, without the columns that only astropy can read."""
        data = self._bytes
        try:
            layout = self.structure.row_dtype
        except ValueError as error:
            raise self.error(str(error)) from None
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
        data = self._bytes
        padded = b"".join([self._header_bytes, data, b"\0" * (-len(data) % BLOCK)])
        # With uint, as fits.open has it: else unsigned integers pass through floating point.
        return kind.fromstring(padded, uint=True).data

    @cached_property
    def _bytes(self) -> memoryview:
        data = self._source.view(self._start, self._start + self.data_size)
        if len(data) < self.data_size:
            raise self._truncated()
        return data

    def _row_bytes(self, first: int, last: int) -> memoryview:
        """A part of the first row; of a table that is not all there, none is to be trusted."""
        if not self._source.holds(self._start + self.data_size):
            raise self._truncated()
        data = self._source.view(self._start + first, self._start + last)
        if len(data) < last - first:
            raise self._truncated()
        return data

    def _truncated(self) -> DamagedError:
        there = len(self._source.view(self._start, self._start + self.data_size))
        text = f"the file is truncated: {self.data_size} bytes announced, {there} there"
        return DamagedError(f"{text}; fetch it again", self.path, self.name)

    def _require(self, colname: str) -> Column:
        try:
            return self.structure.column(colname)
        except ValueError as error:
            raise self.error(str(error)) from None

    def error(self, message: str) -> FormatError:
        """Error that names this file and HDU."""
        return FormatError(message, self.path, self.name)


def _name(header: Header) -> str:
    """EXTNAME in upper case, empty if there is none."""
    name = header.get("EXTNAME")
    return name.strip().upper() if isinstance(name, str) else ""


def _decoded(values: NDArray[np.bytes_]) -> NDArray[np.str_]:
    """Bytes as text in Latin-1, which never fails; text that is not ASCII is against the standard.

    A byte is the code point of its character there, so that nothing needs to be looked up.
    """
    width = values.dtype.itemsize
    points = np.ascontiguousarray(values).view(np.uint8).astype(np.uint32)
    return points.view(f"U{width}")
