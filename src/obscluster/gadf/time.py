"""Times as GADF stores them: seconds since a reference that the header gives.

https://gamma-astro-data-formats.readthedocs.io/en/v0.3/general/time.html
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from astropy.time import Time

__all__ = ["has_time_ref", "time_ref_from_header"]


def has_time_ref(header: Mapping[str, Any]) -> bool:
    """Whether the header says from when times count."""
    return "MJDREFI" in header or "MJDREF" in header


def time_ref_from_header(header: Mapping[str, Any]) -> Time:
    """Reference time of a header.

    Parameters
    ----------
    header : mapping
        With MJDREFI and MJDREFF, or MJDREF. TIMESYS may be in lower case or missing (TT is
        assumed, the default of the specification).

    Returns
    -------
    time_ref : `~astropy.time.Time`
        Reference time, format MJD.

    Raises
    ------
    KeyError
        If there is no reference in the header.
    ValueError
        If a keyword is not a number, or TIMESYS is not a time scale.
    """
    for key in ("MJDREFI", "MJDREF"):
        if key in header and header[key] is None:
            raise ValueError(f"{key} has no value")
    scale = str(header.get("TIMESYS") or "tt").strip().lower()
    if scale not in Time.SCALES:
        raise ValueError(f"TIMESYS = {scale!r} is no time scale")
    if "MJDREFI" in header:
        # Some productions write these as text.
        day, fraction = float(header["MJDREFI"]), float(header.get("MJDREFF") or 0.0)
    else:
        day, fraction = float(header["MJDREF"]), 0.0
    return Time(day, fraction, format="mjd", scale=scale)
