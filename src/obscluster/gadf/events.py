"""Event lists and good time intervals.

https://gamma-astro-data-formats.readthedocs.io/en/v0.3/events/index.html
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import QTable
from astropy.time import Time
from numpy.typing import NDArray

from obscluster.exceptions import FormatError
from obscluster.gadf.fits import HDU, read_numbers, read_quantity, read_time_ref
from obscluster.gadf.time import MAX_SECONDS, quiet_times, time_ref_from_header
from obscluster.gadf.units import parse_unit

__all__ = ["GTI", "EventList", "read_events", "read_gti"]

_UNITS = {"START": u.s, "STOP": u.s, "TIME": u.s, "ENERGY": u.TeV, "RA": u.deg, "DEC": u.deg}


# Seconds: some intervals end with an event, but for rounding.
_ROUNDING = 1e-6


class _TimeTable:
    """A table whose times count from the reference in its header."""

    def __init__(self, table: QTable, path: Path | None = None):
        self.table = table
        self.path = path

    def __len__(self) -> int:
        return len(self.table)

    @cached_property
    def time_ref(self) -> Time:
        """Reference time, from MJDREFI, MJDREFF and TIMESYS."""
        return time_ref_from_header(self.table.meta)

    def _times(self, colname: str) -> Time:
        seconds = self._column(colname, u.s)
        if (np.abs(seconds.value) > MAX_SECONDS).any():
            raise self._error(f"column {colname} has values that are no times")
        with quiet_times():
            return self.time_ref + seconds

    def _column(self, name: str, unit: u.UnitBase | None) -> u.Quantity:
        if name not in self.table.colnames:
            known = ", ".join(self.table.colnames)
            raise self._error(f"has no column {name}; its columns: {known}")
        # Single precision overflows on conversion, and damage may look like a signalling NaN.
        with np.errstate(over="ignore", invalid="ignore"):
            return u.Quantity(self.table[name], unit, dtype=float)

    def _error(self, message: str) -> FormatError:
        return FormatError(message, self.path, str(self.table.meta.get("EXTNAME", "")) or None)


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
        return self._column("ENERGY", None)

    @property
    def radec(self) -> SkyCoord:
        """Reconstructed directions in ICRS, shape (n_events,)."""
        ra, dec = (self._column(name, u.deg) for name in ("RA", "DEC"))
        if (np.abs(dec.value) > 90).any() or (np.abs(ra.value) > 720).any():
            raise self._error("columns RA and DEC have values that are no directions")
        return SkyCoord(ra, dec, frame="icrs")

    def within(self, gti: GTI) -> EventList:
        """Events inside good time intervals, their ends included.

        Parameters
        ----------
        gti : `GTI`
            Intervals, which may overlap and be in any order.

        Returns
        -------
        events : `EventList`
            In the same order.
        """
        times = self._column("TIME", u.s).value - gti.seconds_before(self)
        start, stop = gti.intervals
        inside = np.zeros(len(times), dtype=bool)
        for first, last in zip(start, stop, strict=True):
            inside |= (times >= first - _ROUNDING) & (times <= last + _ROUNDING)
        return EventList(self.table[inside], self.path)


class GTI(_TimeTable):
    """Good time intervals of one observation.

    Parameters
    ----------
    table : `~astropy.table.QTable`
        Columns START and STOP; the header is in its ``meta``.
    """

    @property
    def intervals(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """START and STOP in seconds since the reference, shape (n_intervals,)."""
        start, stop = (np.atleast_1d(self._column(n, u.s).value) for n in ("START", "STOP"))
        return start, stop

    def seconds_before(self, other: _TimeTable) -> float:
        """Seconds to take off times of another table to have those of the intervals."""
        one, ref = self.time_ref, other.time_ref
        if (one.scale, one.jd1, one.jd2) == (ref.scale, ref.jd1, ref.jd2):
            return 0.0
        with quiet_times():
            return float((one - ref).to_value("s"))

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
        return (self._column("STOP", u.s) - self._column("START", u.s)).sum()


def read_events(hdu: HDU, columns: Sequence[str] | None = None) -> EventList:
    """Event list from its HDU.

    Parameters
    ----------
    hdu : `~obscluster.gadf.fits.HDU`
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
    names = hdu.colnames if columns is None else columns
    events = EventList(_read_table(hdu, names), hdu.path)
    if "TIME" in events.table.colnames:
        read_time_ref(hdu)
    return events


def read_gti(hdu: HDU) -> GTI:
    """Good time intervals from their HDU.

    Raises
    ------
    FormatError
        If START or STOP is missing, there is no interval, or the reference time is missing.
    """
    gti = GTI(_read_table(hdu, ["START", "STOP"]), hdu.path)
    if len(gti) == 0:
        raise hdu.error("no good time interval")
    for name in ("START", "STOP"):
        if not np.isfinite(read_numbers(hdu, name, u.s)).all():
            raise hdu.error(f"column {name} has values that are no times")
    read_time_ref(hdu)
    return gti


def _read_table(hdu: HDU, columns: Sequence[str]) -> QTable:
    table = QTable(meta=hdu.header)
    for name in columns:
        expected = _UNITS.get(name.upper())
        if expected is not None:
            table[name.upper()] = read_quantity(hdu, name, expected)
            continue
        # Rows of different length come as an array of arrays.
        values, unit = hdu.column(name), hdu.unit(name)
        numbers = unit and values.dtype.kind in "fiu"
        table[name] = u.Quantity(values, parse_unit(unit)) if numbers else values
    return table
