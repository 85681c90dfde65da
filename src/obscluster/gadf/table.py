"""Tables of a run: columns with units, checked, and the reference of their times."""

from __future__ import annotations

import numpy as np
from astropy import units as u
from astropy.time import Time
from numpy.typing import NDArray

from obscluster.gadf.hdu import HDU
from obscluster.gadf.time import MAX_SECONDS, time_ref_from_header
from obscluster.gadf.units import convertible_unit

__all__ = ["read_numbers", "read_quantity", "read_time_ref"]


def read_quantity(hdu: HDU, name: str, expected: u.UnitBase) -> u.Quantity:
    """Column of one number per row, in the unit of the file.

    Parameters
    ----------
    hdu : `~obscluster.gadf.hdu.HDU`
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
