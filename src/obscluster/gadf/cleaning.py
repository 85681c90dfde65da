"""What is no number among the values of a response: found fast, and replaced."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["clean"]

# No value of a response is as large: it is damage.
_HUGE = 1e30
# Type in the file, to the first byte (without sign) from which on a number may be huge: its
# exponent is then 99 or more, and 2^99 < 1e30.
_SMALL_FIRST_BYTE = {">f4": (99 + 127) >> 1, ">f8": (99 + 1023) >> 4}
_LITTLE_ENDIAN = sys.byteorder == "little"


def clean(
    values: NDArray[Any], keep_nan: bool = False
) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
    """Values with zero for what is no number, and where there were such; None for nowhere.

    Some write NaN into bins without simulated events; a single one would spoil every value that is
    interpolated next to it. A missing cut is not zero, though.
    """
    if _all_small(values):
        return values, None
    # Damage may look like a signalling NaN, of which numpy warns wherever it is touched.
    with np.errstate(invalid="ignore"):
        bad = ~(np.abs(values) <= _HUGE)
    if not bad.any():
        return values, None
    return np.where(bad, np.nan if keep_nan else 0.0, values), bad


def _all_small(values: NDArray[Any]) -> bool:
    """Whether all are surely numbers, and not huge, seen from the first byte of each.

    It holds the sign and the upper bits of the exponent, which are ones in what is no number. Of a
    cube of values that is a quarter of the work of comparing them; False says nothing.
    """
    limit = _SMALL_FIRST_BYTE.get(values.dtype.str)
    if limit is None or not values.size or _LITTLE_ENDIAN is False:
        return False
    # The bytes of the file read as integers of this machine: the first byte becomes the lowest.
    bits = values.view(f"<u{values.dtype.itemsize}")
    return int((bits & 0x7F).max()) < limit
