"""Times of runs that may count from different references."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from astropy import units as u
from astropy.time import Time
from astropy.utils import iers
from numpy.typing import NDArray

from obscluster.gadf.header import Header
from obscluster.gadf.time import time_ref_from_header, time_unit

__all__ = ["TIME_KEYS", "Times", "common_times", "dates", "earth_rotation"]

FloatArray = NDArray[np.float64]

TIME_KEYS = ("MJDREFI", "MJDREFF", "MJDREF", "TIMESYS")
"""Keywords that say from when times count."""

# Years 1941 to 2132: outside, a header is damaged, and astronomical time is not known.
_FIRST_MJD, _LAST_MJD = 30000, 100000


@dataclass(frozen=True)
class Times:
    """Start and stop of runs, in seconds since one reference.

    Parameters
    ----------
    reference : `~astropy.time.Time` or None
        The reference; None if no header has any.
    meta : dict
        Its keywords.
    start, stop : `~numpy.ndarray`
        Seconds, NaN where not known, shape (n_obs,).
    """

    reference: Time | None
    meta: dict[str, Any]
    start: FloatArray
    stop: FloatArray

    @property
    def middle(self) -> FloatArray:
        """Middle of the runs in seconds, NaN where it is not known or no sensible time."""
        return self.sensible(0.5 * (self.start + self.stop))

    def sensible(self, seconds: FloatArray) -> FloatArray:
        """Seconds, NaN where they lead to no sensible time."""
        if self.reference is None:
            return np.full_like(seconds, np.nan)
        mjd = self.reference.mjd + seconds / 86400
        return np.where((mjd > _FIRST_MJD) & (mjd < _LAST_MJD), seconds, np.nan)


@contextmanager
def earth_rotation() -> Iterator[None]:
    """Let astropy compute with the Earth rotation table that comes with it.

    Never with one from the network: the same files have to give the same index. After the end of
    the table, the rotation is off by less than a second of time, of which astropy would warn.
    """
    with warnings.catch_warnings(), iers.earth_orientation_table.set(iers.IERS_B.open()):
        warnings.simplefilter("ignore")
        yield


def common_times(headers: Sequence[Header], start: FloatArray, stop: FloatArray) -> Times:
    """Times relative to the reference of the first run that has one.

    Parameters
    ----------
    headers : sequence of dict
        With the keywords of the reference, and TIMEUNIT.
    start, stop : `~numpy.ndarray`
        Times as in the headers, shape (n_obs,).

    Returns
    -------
    times : `Times`
        Those of a run without reference are NaN, unless no run has one.
    """
    factor = np.array([time_unit(header).to(u.s) for header in headers])
    start, stop = factor * start, factor * stop
    keys = [tuple(str(header.get(key)) for key in TIME_KEYS) for header in headers]
    references = {key: _reference(headers[keys.index(key)]) for key in dict.fromkeys(keys)}
    first = next((key for key in keys if references[key] is not None), None)
    if first is None:
        return Times(None, {}, start, stop)
    shift = np.array([0.0 if key == first else np.nan for key in keys])
    with earth_rotation():
        for key, reference in references.items():
            if key != first and reference is not None:
                seconds = float((reference - references[first]).to_value("s"))
                shift[[other == key for other in keys]] = seconds
    header = headers[keys.index(first)]
    return Times(references[first], _meta(header), start + shift, stop + shift)


def dates(times: Times, seconds: FloatArray) -> list[str]:
    """Date and time of day in UTC, such as 2004-03-26T02:56:42.000; empty if not known."""
    seconds = times.sensible(seconds)
    known = np.isfinite(seconds)
    found = np.full(len(seconds), "", dtype="U23")
    if times.reference is not None and known.any():
        with earth_rotation():
            found[known] = (times.reference + seconds[known] * u.s).utc.isot
    return [str(stamp) for stamp in found]


def _reference(header: Header) -> Time | None:
    """Reference of a header, None if it has none that can be used."""
    try:
        reference = time_ref_from_header(header)
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
    # The local time of an unknown place is no time.
    usable = reference.scale != "local" and 0 <= reference.mjd < _LAST_MJD
    return reference if usable else None


def _meta(header: Header) -> dict[str, Any]:
    """Keywords of the reference, in the form of the specification."""
    if "MJDREFI" in header:
        whole, fraction = float(header["MJDREFI"]), float(header.get("MJDREFF") or 0.0)
    else:
        whole, fraction = 0.0, float(header["MJDREF"])
    day = np.floor(whole + fraction)
    if not whole.is_integer() or not 0 <= fraction < 1:
        whole, fraction = day, (whole - day) + fraction
    meta: dict[str, Any] = {"MJDREFI": int(whole), "MJDREFF": fraction, "TIMEUNIT": "s"}
    meta["TIMESYS"] = str(header.get("TIMESYS") or "TT").strip().upper()
    frame = header.get("TIMEREF")
    if isinstance(frame, str) and frame.isprintable() and frame.isascii() and frame.strip():
        meta["TIMEREF"] = frame.strip().upper()
    return meta
