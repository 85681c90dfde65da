"""Selections of observations: which rows of an obs-index pass, and how many each step drops.

A selection is a dictionary with a ``type`` and the keywords of that type:

==============  =======================================================================
type            keywords
==============  =======================================================================
``sky_circle``  ``lon``, ``lat``, ``radius``; ``frame`` (icrs, galactic), ``border``
``sky_box``     ``lon``, ``lat`` (two values each); ``frame``, ``border``
``time_box``    ``time_range`` (two times); ``partial_overlap``
``par_box``     ``variable`` (a column), ``value_range`` (two values)
==============  =======================================================================

Each takes ``inverted=True`` to keep what it would drop. A range holds its lower and not its upper
end; two equal values select exactly that value. Longitudes and azimuths wrap: from 350 to 10 deg is
a range of 20 deg through north. A row whose value is missing (masked or NaN) never passes, inverted
or not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from astropy import units as u
from astropy.coordinates import Angle, SkyCoord
from astropy.table import Table
from astropy.time import Time
from numpy.typing import NDArray

from obscluster.columns import full_turn, numbers
from obscluster.exceptions import RequestError, unknown_name
from obscluster.gadf.time import has_time_ref, time_ref_from_header

__all__ = ["SELECTION_TYPES", "Selection", "cut_flow", "pointing", "selection_mask"]

Selection = Mapping[str, Any]
Mask = NDArray[np.bool_]

_FRAMES = ("icrs", "galactic")


def selection_mask(table: Table, selection: Selection) -> Mask:
    """Rows of an observation table that pass one selection.

    Parameters
    ----------
    table : `~astropy.table.Table`
        Observation table.
    selection : mapping
        ``type`` and the keywords of that type, see the module's text.

    Returns
    -------
    mask : `~numpy.ndarray`
        True where the row passes, shape (n_obs,).

    Raises
    ------
    RequestError
        If type, keyword, column, value or unit is not usable.
    """
    if not isinstance(selection, Mapping):
        raise RequestError(f"selection {selection!r}: expected a dictionary with a 'type'")
    keywords = dict(selection)
    kind = str(keywords.pop("type", None))
    if kind not in SELECTION_TYPES:
        raise RequestError(unknown_name("selection type", kind, SELECTION_TYPES))
    inverted = keywords.pop("inverted", False)
    function, required, optional = SELECTION_TYPES[kind]
    for name in keywords:
        if name not in required + optional:
            known = (*required, *optional, "inverted")
            raise RequestError(unknown_name(f"keyword of selection {kind}", name, known))
    for name in required:
        if name not in keywords:
            raise RequestError(f"selection {kind} needs {name}; given: {', '.join(keywords)}")
    inside, known_value = function(table, **keywords)
    return known_value & (~inside if inverted else inside)


def cut_flow(table: Table, selections: Selection | Sequence[Selection]) -> Table:
    """How many observations each step of a selection drops.

    Parameters
    ----------
    table : `~astropy.table.Table`
        Observation table.
    selections : mapping or sequence of mappings
        Applied one after the other.

    Returns
    -------
    cut_flow : `~astropy.table.Table`
        One row per step, the first being the whole table: ``selection``, ``passed``, ``dropped``.
    """
    steps = [selections] if isinstance(selections, Mapping) else list(selections)
    passed = np.ones(len(table), dtype=bool)
    rows = [("all observations", len(table), 0)]
    for step in steps:
        before = int(passed.sum())
        passed &= selection_mask(table, step)
        after = int(passed.sum())
        rows.append((describe(step), after, before - after))
    return Table(rows=rows, names=["selection", "passed", "dropped"])


def describe(selection: Selection) -> str:
    """One line of text for a selection, such as ``not ZEN_PNT in 40 to 60 deg``."""
    get = selection.get
    border = f" + {_plain(get('border'))}" if get("border") else ""
    frame = get("frame", "icrs")
    text = {
        "sky_circle": f"within {_plain(get('radius'))}{border} of {frame} "
        f"{_plain(get('lon'))}, {_plain(get('lat'))}",
        "sky_box": f"{frame} lon {_plain(get('lon'))}, lat {_plain(get('lat'))}{border}",
        "time_box": f"time {_plain(get('time_range'))}"
        + (" in part" if get("partial_overlap") else ""),
        "par_box": f"{get('variable')} {_plain(get('value_range'))}",
    }.get(str(get("type")), str(dict(selection)))
    return f"not {text}" if get("inverted") else text


def pointing(table: Table) -> SkyCoord:
    """Pointing directions of an observation table in ICRS, shape (n_obs,).

    Raises
    ------
    RequestError
        If the table has neither RA_PNT and DEC_PNT nor GLON_PNT and GLAT_PNT.
    """
    for lon, lat, frame in (("RA_PNT", "DEC_PNT", "icrs"), ("GLON_PNT", "GLAT_PNT", "galactic")):
        if lon in table.colnames and lat in table.colnames:
            coords = [Angle(numbers(table[name], u.deg), u.deg) for name in (lon, lat)]
            # No place on the sky is a missing value.
            coords[1] = np.where(abs(coords[1]) <= 90 * u.deg, coords[1], np.nan * u.deg)
            return SkyCoord(*coords, frame=frame).icrs
    raise RequestError("the observation table has no RA_PNT and DEC_PNT, so no sky selection works")


def _sky_circle(
    table: Table, lon: Any, lat: Any, radius: Any, frame: str = "icrs", border: Any = 0
) -> tuple[Mask, Mask]:
    center = SkyCoord(_angle("lon", lon), _latitude("lat", lat), frame=_frame(frame))
    reach = _angle("radius", radius) + _angle("border", border)
    if not reach > 0 * u.deg:
        raise RequestError(f"radius {_plain(radius)}: expected a positive angle")
    separation = center.separation(pointing(table))
    return separation < reach, np.isfinite(separation.deg)


def _sky_box(
    table: Table, lon: Any, lat: Any, frame: str = "icrs", border: Any = 0
) -> tuple[Mask, Mask]:
    widen = np.array([-1, 1]) * _angle("border", border).deg
    coords = pointing(table).transform_to(_frame(frame)).spherical
    lon_range = np.array([_angle("lon", x).deg for x in _pair("lon", lon)])
    lat_range = np.array([_angle("lat", x).deg for x in _pair("lat", lat)])
    if lon_range[1] < lon_range[0]:
        # Across zero: make it rise before it is widened.
        lon_range[1] += 360 * np.ceil((lon_range[0] - lon_range[1]) / 360)
    inside = _in_cyclic_range(coords.lon.deg, lon_range + widen)
    inside &= _in_range(coords.lat.deg, lat_range + widen)
    return inside, np.isfinite(coords.lon.deg) & np.isfinite(coords.lat.deg)


def _time_box(table: Table, time_range: Any, partial_overlap: bool = False) -> tuple[Mask, Mask]:
    for name in ("TSTART", "TSTOP"):
        if name not in table.colnames:
            raise RequestError(f"the observation table has no {name}, so no time selection works")
    if not has_time_ref(table.meta):
        raise RequestError("the observation table has no MJDREFI keyword: its times are relative")
    try:
        reference = time_ref_from_header(table.meta)
    except (KeyError, ValueError) as error:
        raise RequestError(f"the observation table has no usable time reference: {error}") from None
    pair = _pair("time_range", time_range)
    try:
        first, last = (Time(value) for value in pair)
    except ValueError:
        example = "2006-07-27T20:00:00"
        raise RequestError(
            f"time_range {_plain(time_range)}: not two times; write them as {example}"
        ) from None
    start, stop = (numbers(table[name], u.s) for name in ("TSTART", "TSTOP"))
    lo, hi = ((time - reference).to_value(u.s) for time in (first, last))
    inside = (lo <= stop) & (hi >= start) if partial_overlap else (lo <= start) & (hi >= stop)
    return inside, np.isfinite(start) & np.isfinite(stop)


def _par_box(table: Table, variable: str, value_range: Any) -> tuple[Mask, Mask]:
    if variable not in table.colnames:
        raise RequestError(
            unknown_name("column of the observation table", str(variable), table.colnames)
        )
    column = table[variable]
    pair = _pair("value_range", value_range)
    if column.dtype.kind in "USO":
        if pair[0] != pair[1]:
            raise RequestError(f"{variable} holds text; give the same value twice to select it")
        return np.asarray(column) == str(pair[0]), ~np.ma.getmaskarray(np.ma.asarray(column))
    unit = column.unit or u.one
    limits = np.array([_value(variable, x, unit) for x in pair])
    values = numbers(column)
    turn = full_turn(variable, column)
    if turn is not None:
        to_deg = 360 / turn
        return _in_cyclic_range(values * to_deg, limits * to_deg), np.isfinite(values)
    return _in_range(values, limits), np.isfinite(values)


SELECTION_TYPES: dict[
    str, tuple[Callable[..., tuple[Mask, Mask]], tuple[str, ...], tuple[str, ...]]
] = {
    "sky_circle": (_sky_circle, ("lon", "lat", "radius"), ("frame", "border")),
    "sky_box": (_sky_box, ("lon", "lat"), ("frame", "border")),
    "time_box": (_time_box, ("time_range",), ("partial_overlap",)),
    "par_box": (_par_box, ("variable", "value_range"), ()),
}
"""Type of a selection to its function, the keywords that it needs, and those that it takes."""


def _in_range(values: NDArray[Any], limits: NDArray[Any]) -> Mask:
    lo, hi = limits
    return np.asarray(values == lo if lo == hi else (lo <= values) & (values < hi))


def _in_cyclic_range(values: NDArray[Any], limits: NDArray[Any]) -> Mask:
    """Whether angles in degrees lie in a range that may wrap around."""
    lo, hi = limits
    if lo == hi:
        return np.asarray(np.mod(values - lo, 360) == 0)
    width = hi - lo if hi > lo else np.mod(hi - lo, 360)
    return np.asarray((width >= 360) | (np.mod(values - lo, 360) < width))


def _pair(name: str, value: Any) -> Any:
    try:
        if len(value) == 2 and not isinstance(value, str):
            return value
    except TypeError:
        pass
    raise RequestError(f"{name} {_plain(value)}: expected two values")


def _angle(name: str, value: Any) -> Angle:
    try:
        angle = Angle(value, u.deg)
        if not angle.isscalar or not np.isfinite(angle):
            raise ValueError
        return angle
    except (ValueError, TypeError, u.UnitsError):
        raise RequestError(
            f"{name} {_plain(value)}: not an angle; write it with its unit, such as '2 deg'"
        ) from None


def _latitude(name: str, value: Any) -> Angle:
    angle = _angle(name, value)
    if abs(angle.deg) > 90:
        raise RequestError(f"{name} {_plain(value)}: expected -90 to 90 deg")
    return angle


def _value(variable: str, value: Any, unit: u.UnitBase) -> float:
    """Number in the column's unit; a number without unit is taken to be in it."""
    try:
        quantity = u.Quantity(value)
        plain = quantity.unit == u.one and not isinstance(value, u.Quantity)
        number = float(quantity.value if plain else quantity.to_value(unit))
        if np.isnan(number):
            raise ValueError
        return number
    except (u.UnitsError, TypeError, ValueError):
        wanted = unit.to_string() or "a number"
        raise RequestError(f"{variable}: {_plain(value)} does not convert to {wanted}") from None


def _frame(name: Any) -> str:
    if str(name).lower() not in _FRAMES:
        raise RequestError(unknown_name("frame", str(name), _FRAMES))
    return str(name).lower()


def _plain(value: Any) -> str:
    if isinstance(value, Time):
        return f"{value.isot}" if value.isscalar else " to ".join(value.isot)
    if not isinstance(value, str) and np.ndim(value) == 1 and len(value) == 2:
        return f"{_plain(value[0])} to {_plain(value[1])}"
    return f"{value}"
