"""Event lists and good time intervals.

https://gamma-astro-data-formats.readthedocs.io/en/v0.3/events/index.html
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import QTable
from astropy.time import Time

from obscluster.exceptions import FormatError
from obscluster.gadf.hdu import HDU
from obscluster.gadf.time import time_ref_from_header
from obscluster.gadf.units import conversion_factor, parse_unit

__all__ = ["GTI", "EventList", "read_events", "read_gti"]


class _TimeTable:
    """A table whose times count from the reference in its header."""

    def __init__(self, table: QTable):
        self.table = table

    def __len__(self) -> int:
        return len(self.table)

    @cached_property
    def time_ref(self) -> Time:
        """Reference time, from MJDREFI, MJDREFF and TIMESYS."""
        return time_ref_from_header(self.table.meta)

    def _times(self, colname: str) -> Time:
        return self.time_ref + u.Quantity(self.table[colname], "s")


class EventList(_TimeTable):
    """Events of one observation.

    Parameters
    ----------
    table : `~astropy.table.QTable`
        Columns EVENT_ID, TIME, RA, DEC, ENERGY and more; the header is in its ``meta``.
    """

    @property
    def time(self) -> Time:
        """Arrival times, shape (n_events,)."""
        return self._times("TIME")

    @property
    def energy(self) -> u.Quantity:
        """Reconstructed energies, shape (n_events,)."""
        return self.table["ENERGY"]

    @property
    def radec(self) -> SkyCoord:
        """Reconstructed directions in ICRS, shape (n_events,)."""
        return SkyCoord(self.table["RA"], self.table["DEC"], unit="deg", frame="icrs")


class GTI(_TimeTable):
    """Good time intervals of one observation.

    Parameters
    ----------
    table : `~astropy.table.QTable`
        Columns START and STOP; the header is in its ``meta``.
    """

    @property
    def time_start(self) -> Time:
        """Start of each interval, shape (n_intervals,)."""
        return self._times("START")

    @property
    def time_stop(self) -> Time:
        """Stop of each interval, shape (n_intervals,)."""
        return self._times("STOP")

    @property
    def time_sum(self) -> u.Quantity:
        """Total duration, in seconds."""
        return u.Quantity(self.table["STOP"] - self.table["START"], "s").sum()


def read_events(hdu: HDU, columns: Sequence[str] | None = None) -> EventList:
    """Event list from its HDU.

    Parameters
    ----------
    hdu : `~obscluster.gadf.hdu.HDU`
        The EVENTS table.
    columns : sequence of str, optional
        Only these columns; all unless told.

    Returns
    -------
    events : `EventList`
        The events.

    Raises
    ------
    FormatError
        If a column is missing or the file is truncated.
    """
    events = EventList(_read_table(hdu, hdu.colnames if columns is None else columns))
    if "TIME" in events.table.colnames:
        _check_time_ref(events, hdu)
    return events


def read_gti(hdu: HDU) -> GTI:
    """Good time intervals from their HDU.

    Raises
    ------
    FormatError
        If START or STOP is missing, there is no interval, or the reference time is missing.
    """
    gti = GTI(_read_table(hdu, ["START", "STOP"]))
    if len(gti) == 0:
        raise hdu.error("no good time interval")
    _check_time_ref(gti, hdu)
    return gti


def _check_time_ref(table: _TimeTable, hdu: HDU) -> None:
    try:
        _ = table.time_ref
    except KeyError as error:
        raise hdu.error(f"no keyword {error.args[0]}: the reference time is unknown") from None
    except ValueError as error:
        raise hdu.error(f"the reference time cannot be read ({error})") from None


def _read_table(hdu: HDU, columns: Sequence[str]) -> QTable:
    table = QTable(meta=hdu.header)
    for name in columns:
        values = hdu.column(name)
        if values.dtype.kind == "O":
            raise FormatError(f"column {name} has rows of different length", hdu.path, hdu.name)
        unit = hdu.unit(name)
        expected = {"START": u.s, "STOP": u.s, "TIME": u.s, "ENERGY": u.TeV}.get(name)
        if expected is not None:
            if values.dtype.kind not in "fiu":
                raise hdu.error(f"column {name} does not hold numbers")
            if unit and conversion_factor(unit, expected) is None:
                raise hdu.error(f"unit {unit!r} of column {name} does not convert to {expected}")
            table[name] = u.Quantity(values, parse_unit(unit) if unit else expected)
        else:
            numbers = unit and values.dtype.kind in "fiu"
            table[name] = u.Quantity(values, parse_unit(unit)) if numbers else values
    return table
