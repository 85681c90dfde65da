"""FITS files, walked HDU by HDU and unpacked no further than asked; columns of binary tables.

A run file holds a handful of HDUs, of which a feature needs one or two.

Responses of one production have the same headers, some but for the OBS_ID, so what is worked out
for one run is kept for the next ones.

Columns come out as views of the stored bytes wherever numpy can do that. What is unusual
(variable-length, scaled or bit columns, ASCII tables) goes to `astropy.io.fits`, which reads the
same bytes.

Format: FITS Standard 4.0, https://fits.gsfc.nasa.gov/fits_standard.html
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import prod
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from astropy import units as u
from astropy.io import fits
from astropy.time import Time
from numpy.typing import NDArray

from obscluster.exceptions import DamagedError, FormatError, MissingDataError
from obscluster.gadf.header import BLOCK, CARD, Header, find_card, find_end, parse_header
from obscluster.gadf.time import MAX_SECONDS, time_ref_from_header
from obscluster.gadf.units import convertible_unit
from obscluster.gadf.unpack import Source, open_source

__all__ = [
    "HDU",
    "Column",
    "FitsFile",
    "Structure",
    "column_layout",
    "data_size",
    "read_numbers",
    "read_quantity",
    "read_time_ref",
    "structure_of",
]

_FORMAT = re.compile(r"(\d{0,12})([LXBIJKAEDCMPQ])(.*)\Z")
# Bytes per element (FITS Standard 4.0, table 18) and the numpy type where numpy can view it.
_WIDTHS = {"L": 1, "B": 1, "A": 1, "I": 2, "J": 4, "E": 4, "K": 8, "D": 8, "C": 8, "M": 16} | {
    "P": 8,
    "Q": 16,
}
_DTYPES = {"B": "u1", "I": ">i2", "J": ">i4", "K": ">i8", "E": ">f4", "D": ">f8", "L": "u1"}
# Integers that FITS stores with an offset, because it has no type for them (section 5.2.5): format
# and TZERO to the type that they come out as.
_OFFSETS: dict[tuple[str, Any], str] = {
    ("I", 1 << 15): "u2",
    ("J", 1 << 31): "u4",
    ("K", 1 << 63): "u8",
}


@dataclass(frozen=True)
class Column:
    """Place of a column within a row.

    Parameters
    ----------
    name : str
        TTYPE.
    unit : str
        TUNIT as written, empty if none.
    dtype : str
        Numpy type of the stored elements; empty if only astropy can read them.
    shape : tuple of int
        Shape of a cell.
    offset, width : int
        First byte within a row, and number of bytes.
    stands_for : str
        Numpy type of the values where it is not that of the bytes: ``?`` or an unsigned integer.
    problem : str
        Why its values cannot be read, although its place is known; empty if they can.
    """

    name: str
    unit: str
    dtype: str = ""
    shape: tuple[int, ...] = ()
    offset: int = 0
    width: int = 0
    stands_for: str = ""
    problem: str = ""

    def values(self, stored: NDArray[Any]) -> NDArray[Any]:
        """Values that the stored elements stand for."""
        if not self.stands_for:
            return stored
        if self.stands_for == "?":
            return np.asarray(stored == ord("T"))
        native = np.ascontiguousarray(stored, dtype=stored.dtype.newbyteorder("="))
        # An offset of half the range flips the highest bit, and nothing else.
        unsigned = native.view(f"u{native.dtype.itemsize}")
        flipped = unsigned ^ unsigned.dtype.type(1 << (8 * native.dtype.itemsize - 1))
        return np.asarray(flipped.view(self.stands_for)).reshape(stored.shape)


def column_layout(header: Header, number: int, name: str, unit: str, offset: int) -> Column:
    """Layout of a column from TFORM, TDIM, TSCAL and TZERO.

    Parameters
    ----------
    header : dict
        Header of a binary table.
    number : int
        Column number, from 1.
    name, unit : str
        Its name and unit.
    offset : int
        Its first byte within a row.

    Raises
    ------
    ValueError
        If the format is none, so that nobody knows where the next column begins.
    """
    form = header.get(f"TFORM{number}")
    match = _FORMAT.match(form.strip().upper()) if isinstance(form, str) else None
    if match is None:
        raise ValueError(f"TFORM{number} = {form!r} is not a format of a binary table")
    repeat, code = int(match[1] or 1), match[2]
    if code == "X":
        return Column(name, unit, offset=offset, width=(repeat + 7) // 8)
    width = repeat * _WIDTHS[code]
    shape: tuple[int, ...] = () if repeat == 1 else (repeat,)
    dim = header.get(f"TDIM{number}")
    if isinstance(dim, str) and code not in "PQ":
        try:
            shape = _cell_shape(dim, repeat, number)
        except ValueError as error:
            # The place of the other columns does not depend on it.
            return Column(name, unit, offset=offset, width=width, problem=str(error))
    if code == "A":
        # The fastest axis is the length of a text; text of no width is left to astropy.
        *several, length = shape or (1,)
        dtype = f"S{length}" if repeat else ""
        return Column(name, unit, dtype, tuple(several), offset, width)
    scale, zero = header.get(f"TSCAL{number}"), header.get(f"TZERO{number}")
    stands_for = "?" if code == "L" else ""
    dtype = _DTYPES.get(code, "")
    if scale not in (None, 1) or zero not in (None, 0):
        stands_for = _OFFSETS.get((code, zero), "") if scale in (None, 1) else ""
        dtype = dtype if stands_for else ""
    return Column(name, unit, dtype, shape, offset, width, stands_for)


def _cell_shape(dim: str, repeat: int, number: int) -> tuple[int, ...]:
    """Shape of a cell from TDIM, the slowest axis first."""
    try:
        shape = tuple(int(n) for n in dim.strip().strip("()").split(","))[::-1]
    except ValueError:
        raise ValueError(f"TDIM{number} = {dim!r} is not a list of lengths") from None
    if min(shape) < 0 or prod(shape) != repeat:
        raise ValueError(f"TDIM{number} = {dim!r} does not fit {repeat} elements")
    return shape


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
        # EXTNAME in upper case, empty if there is none.
        name = self.header.get("EXTNAME")
        self.name = (name.strip().upper() if isinstance(name, str) else "") or (
            "PRIMARY" if index == 0 else f"#{index}"
        )
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
            # Bytes as text in Latin-1, which never fails; text that is not ASCII is against the
            # standard.
            width = values.dtype.itemsize
            points = np.ascontiguousarray(values).view(np.uint8).astype(np.uint32)
            values = points.view(f"U{width}")
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
        column : str or `~obscluster.gadf.fits.Column`
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


def read_quantity(hdu: HDU, name: str, expected: u.UnitBase) -> u.Quantity:
    """Column of one number per row, in the unit of the file.

    Parameters
    ----------
    hdu : `~obscluster.gadf.fits.HDU`
        The table.
    name : str
        The column.
    expected : `~astropy.units.UnitBase`
        What its unit must convert to; the unit of a column without one.

    Raises
    ------
    FormatError
        If the column is missing, or does not hold such numbers.
    """
    values = hdu.column(name)
    if values.dtype.kind not in "fiu":
        raise hdu.error(f"column {name} does not hold numbers")
    if values.ndim != 1:
        if values.size != len(values):
            raise hdu.error(f"column {name} holds arrays; expected one number per row")
        values = values.reshape(len(values))
    text = hdu.unit(name)
    unit = convertible_unit(text, expected) if text else expected
    if unit is None:
        raise hdu.error(f"unit {text!r} of column {name} does not convert to {expected}")
    return u.Quantity(values, unit)


def read_numbers(hdu: HDU, name: str, unit: u.UnitBase) -> NDArray[np.float64]:
    """As `read_quantity`, as numbers in the given unit; NaN where there is none, or no time."""
    column = read_quantity(hdu, name, unit)
    # Damage may look like a signalling NaN, of which numpy warns wherever it is touched.
    with np.errstate(over="ignore", invalid="ignore"):
        values = np.asarray(column.value, dtype=float) * float(column.unit.to(unit))
    return np.where(np.abs(values) <= MAX_SECONDS, values, np.nan)


def read_time_ref(hdu: HDU) -> Time:
    """Reference time of a table.

    Raises
    ------
    FormatError
        If the header has none, or one that cannot be read.
    """
    try:
        return time_ref_from_header(hdu.header)
    except KeyError as error:
        raise hdu.error(f"no keyword {error.args[0]}: the reference time is unknown") from None
    except ValueError as error:
        raise hdu.error(f"the reference time cannot be read ({error})") from None


# A header of more cards than this is damage, not data: its END would never be found.
MAX_HEADER_BYTES = 4096 * CARD
# How much is looked at in one go: most headers are no longer.
HEADER_STEP = 3 * BLOCK


class FitsFile:
    """A FITS file, plain or gzipped, read no further than needed.

    Parameters
    ----------
    path : `~pathlib.Path`
        The file. Whether it is gzipped is seen from its first bytes, not from its name.

    Raises
    ------
    MissingDataError
        If there is no such file or it cannot be opened.
    FormatError
        If it is not a FITS file.
    """

    def __init__(self, path: Path):
        self.path = path
        self._hdus: list[HDU] = []
        self._next = 0
        self._source = open_source(path)

    def __enter__(self) -> FitsFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; data that was not read yet cannot be read any more."""
        self._source.close()

    def __iter__(self) -> Iterator[HDU]:
        """HDUs in the order of the file; stop early and the rest is never unpacked."""
        index = 0
        while index < len(self._hdus) or self._read_next():
            yield self._hdus[index]
            index += 1

    def find(self, name: str) -> HDU | None:
        """First HDU with this EXTNAME, in upper case; None if there is none."""
        for hdu in self._hdus:
            if hdu.name == name:
                return hdu
        while self._read_next():
            if self._hdus[-1].name == name:
                return self._hdus[-1]
        return None

    def hdu(self, name: str) -> HDU:
        """HDU with this EXTNAME, whatever its case.

        Raises
        ------
        MissingDataError
            If the file has no such HDU.
        """
        found = self.find(name.strip().upper())
        if found is not None:
            return found
        names = ", ".join(hdu.name for hdu in self._hdus)
        raise MissingDataError(f"no such HDU in the file; it has {names}", self.path, name)

    def _read_next(self) -> bool:
        """Read one more header; False at the end of the file."""
        number = len(self._hdus)
        raw = self._source.read(self._next, self._next + HEADER_STEP)
        if not raw.startswith(b"XTENSION" if number else b"SIMPLE  "):
            if number and not raw.strip(b"\0 "):
                return False
            if not raw.strip(b"\0 "):
                raise DamagedError("the file is empty; fetch it again", self.path)
            what = f"no HDU #{number} where expected, at byte {self._next}: the file is damaged"
            raise DamagedError(what if number else "not a FITS file", self.path)
        end = find_end(raw)
        while end < 0:
            searched = len(raw)
            raw = self._source.read(self._next, self._next + searched + HEADER_STEP)
            if searched > MAX_HEADER_BYTES:
                raise DamagedError(f"the header of HDU #{number} has no END", self.path)
            if len(raw) == searched:
                what = f"truncated within the header of HDU #{number}; fetch it again"
                raise DamagedError(what, self.path)
            end = find_end(raw, searched // CARD * CARD)
        raw = raw[: end + BLOCK - end % BLOCK]
        start = self._next + len(raw)
        hdu = HDU(self.path, number, raw, end, start, self._source)
        self._next = start + hdu.data_size + (-hdu.data_size % BLOCK)
        self._hdus.append(hdu)
        return True
