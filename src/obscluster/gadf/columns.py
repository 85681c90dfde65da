"""How the columns of a binary table lie in its rows (FITS Standard 4.0, section 7.3)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from obscluster.gadf.header import Header

__all__ = ["Column", "column_layout"]

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
