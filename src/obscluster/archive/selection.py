"""Selections of observations: which rows of an obs-index pass, and how many each step drops.

A selection is a dictionary with a ``type`` and the keywords of that type:

==============  =======================================================================
type            keywords
==============  =======================================================================
``sky_circle``  ``lon``, ``lat``, ``radius``; ``frame`` (icrs, galactic), ``border``
``sky_box``     ``lon``, ``lat`` (two values each); ``frame``, ``border``
``time_box``    ``time_range`` (two times); ``partial_overlap``
``par_box``     ``variable`` (a quantity or column), ``value_range`` (two values)
``par_values``  ``variable``, ``values`` (one or several)
==============  =======================================================================

Each takes ``inverted=True`` to keep what it would drop. A range holds its lower and not its upper
end; two equal values select exactly that value. Longitudes and azimuths wrap: from 350 to 10 deg is
a range of 20 deg through north; any other range must rise. A row whose value is unknown (missing in
the index, and for an archive also in header and files) never passes, inverted or not; how many
these are is counted apart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from astropy import units as u
from astropy.coordinates import Angle, SkyCoord
from astropy.table import Column, Table
from astropy.time import Time
from numpy.typing import NDArray

from obscluster.archive.quantities import QUANTITIES, column_of, is_known_name, texts_of
from obscluster.exceptions import RequestError, unknown_name
from obscluster.gadf.time import time_ref_from_header
from obscluster.values.columns import full_turn, is_numeric

__all__ = [
    "SELECTION_TYPES",
    "Selection",
    "Target",
    "cut_flow",
    "names_of_runs",
    "passing",
    "pointing",
    "resolve_target",
    "selection_mask",
    "target_names",
]

Selection = Mapping[str, Any]
Mask = NDArray[np.bool_]

_FRAMES = ("icrs", "galactic")


def selection_mask(table: Table, selection: Selection) -> Mask:
    """Rows of an observation table that pass one selection, see `passing`."""
    return passing(table, selection)[0]


def passing(table: Table, selection: Selection) -> tuple[Mask, Mask]:
    """Rows of an observation table that pass one selection, and those of which one knows.

    Parameters
    ----------
    table : `~astropy.table.Table`
        Observation table.
    selection : mapping
        ``type`` and the keywords of that type, see the module's text.

    Returns
    -------
    mask, known : `~numpy.ndarray`
        True where the row passes, and where it is known whether it does, shape (n_obs,).

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
    return known_value & (~inside if inverted else inside), known_value


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
        One row per step, the first being the whole table: ``selection``, ``passed``, ``dropped``,
        and of those that were dropped, how many are ``outside`` and how many ``unknown``.
        ``meta["unknown"]`` has the OBS_ID of the latter for each step that has any.
    """
    steps = [selections] if isinstance(selections, Mapping) else list(selections)
    passed = np.ones(len(table), dtype=bool)
    rows = [("all observations", len(table), 0, 0, 0)]
    unknown: dict[str, list[int]] = {}
    for step in steps:
        inside, known = passing(table, step)
        n_before, lost = int(passed.sum()), passed & ~known
        passed &= inside
        n_passed, n_unknown = int(passed.sum()), int(lost.sum())
        n_dropped = n_before - n_passed
        rows.append((describe(step), n_passed, n_dropped, n_dropped - n_unknown, n_unknown))
        if n_unknown:
            unknown[describe(step)] = np.asarray(table["OBS_ID"])[lost].tolist()
    names = ["selection", "passed", "dropped", "outside", "unknown"]
    return Table(rows=rows, names=names, meta={"unknown": unknown} if unknown else {})


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
        "par_values": f"{get('variable')} = {', '.join(map(_plain, _several(get('values'))))}",
    }.get(str(get("type")), str(dict(selection)))
    return f"not {text}" if get("inverted") else text


def pointing(table: Table) -> SkyCoord:
    """Pointing directions of an observation table in ICRS, shape (n_obs,), NaN where unknown.

    Raises
    ------
    RequestError
        If no run has a direction.
    """
    ra, dec = (column_of(table, name).value for name in ("RA_PNT", "DEC_PNT"))
    if len(table) and not np.isfinite(ra * dec).any():
        raise RequestError(
            "no run says where it pointed (RA_PNT and DEC_PNT, or GLON_PNT and GLAT_PNT), so no "
            "sky selection works"
        )
    return SkyCoord(ra, dec, frame="icrs")


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
    start, stop = (column_of(table, name).value.to_value(u.d) for name in ("start", "stop"))
    if len(table) and not np.isfinite(start + stop).any():
        raise RequestError(
            "no run says when it was taken (TSTART, TSTOP, and MJDREFI for their reference), so no "
            f"time selection works{_of_reference(table)}"
        )
    pair = _pair("time_range", time_range)
    try:
        first, last = (Time(value) for value in pair)
    except ValueError:
        example = "2006-07-27T20:00:00"
        raise RequestError(
            f"time_range {_plain(time_range)}: not two times; write them as {example}"
        ) from None
    lo, hi = first.tt.mjd, last.tt.mjd
    if lo > hi:
        raise RequestError(f"time_range {_plain(time_range)}: the first time is after the second")
    inside = (lo <= stop) & (hi >= start) if partial_overlap else (lo <= start) & (hi >= stop)
    return inside, np.isfinite(start) & np.isfinite(stop)


def _of_reference(table: Table) -> str:
    """What is wrong with the time reference of an observation table, empty if nothing is."""
    try:
        time_ref_from_header(table.meta)
    except KeyError:
        return ""
    except ValueError as error:
        return f": {error}"
    return ""


def _par_box(table: Table, variable: str, value_range: Any) -> tuple[Mask, Mask]:
    pair = _pair("value_range", value_range)
    if _is_text(table, variable):
        if pair[0] != pair[1]:
            raise RequestError(f"{variable} holds text; give the same value twice to select it")
        texts = texts_of(table, variable)
        return texts == str(pair[0]).strip(), texts != ""
    values, unit = _numbers(table, variable)
    limits = np.array([_value(variable, x, unit) for x in pair])
    turn = full_turn(variable, Column([], unit=unit))
    if turn is not None:
        to_deg = 360 / turn
        return _in_cyclic_range(values * to_deg, limits * to_deg), np.isfinite(values)
    if limits[0] > limits[1]:
        raise RequestError(f"{variable} {_plain(pair)}: the lower limit is above the upper one")
    return _in_range(values, limits), np.isfinite(values)


def _par_values(table: Table, variable: str, values: Any) -> tuple[Mask, Mask]:
    wanted = _several(values)
    if not wanted:
        raise RequestError(f"{variable}: no value to select")
    if _is_text(table, variable):
        texts = texts_of(table, variable)
        found = {str(value).strip() for value in wanted}
        for value in found - {*texts.tolist()}:
            known = sorted({text for text in texts.tolist() if text})
            raise RequestError(unknown_name(f"value of {variable}", value, known))
        return np.isin(texts, list(found)), texts != ""
    numbers, unit = _numbers(table, variable)
    limits = np.array([_value(variable, value, unit) for value in wanted])
    return np.isin(numbers, limits), np.isfinite(numbers)


def _several(values: Any) -> list[Any]:
    return [values] if isinstance(values, str) or np.ndim(values) == 0 else list(values)


def _is_text(table: Table, variable: str) -> bool:
    """Whether a quantity is text, of which a range means nothing."""
    if variable in QUANTITIES:
        return False
    if variable in table.colnames:
        return table[variable].dtype.kind in "USO"
    if not is_known_name(table, variable):
        known = {*table.colnames, *QUANTITIES}
        raise RequestError(unknown_name("column of the observation table", str(variable), known))
    return not np.isfinite(column_of(table, variable).value).any()


def _numbers(table: Table, variable: str) -> tuple[NDArray[np.float64], u.UnitBase]:
    known = column_of(table, variable)
    values = np.asarray(known.value.value)
    if len(table) and variable not in table.colnames and not np.isfinite(values).any():
        there = [name for name in table.colnames if is_numeric(table[name])]
        where = "neither the obs-index nor the headers have it"
        if getattr(table, "files", None) is None:
            raise RequestError(unknown_name("column of the observation table", variable, there))
        raise RequestError(f"{variable} of no run is known: {where}")
    return values, known.value.unit


SELECTION_TYPES: dict[
    str, tuple[Callable[..., tuple[Mask, Mask]], tuple[str, ...], tuple[str, ...]]
] = {
    "sky_circle": (_sky_circle, ("lon", "lat", "radius"), ("frame", "border")),
    "sky_box": (_sky_box, ("lon", "lat"), ("frame", "border")),
    "time_box": (_time_box, ("time_range",), ("partial_overlap",)),
    "par_box": (_par_box, ("variable", "value_range"), ()),
    "par_values": (_par_values, ("variable", "values"), ()),
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


_NAME_COLUMNS = ("OBJECT", "TARGET_NAME")


@dataclass(frozen=True)
class Target:
    """A direction, and how to select the runs around it.

    Parameters
    ----------
    position : `~astropy.coordinates.SkyCoord`
        The direction.
    selection : mapping
        A selection of `obscluster.archive.selection`.
    """

    position: SkyCoord
    selection: Selection


def target_names(table: Table) -> dict[str, int]:
    """Names of the targets (OBJECT, of index or headers), and the number of runs of each."""
    runs: dict[str, set[int]] = {}
    for obs_id, name in zip(table["OBS_ID"], names_of_runs(table), strict=True):
        runs.setdefault(name or "(no name)", set()).add(int(obs_id))
    if set(runs) == {"(no name)"}:
        return {}
    return {name: len(ids) for name, ids in sorted(runs.items(), key=lambda i: (-len(i[1]), i[0]))}


def names_of_runs(table: Table) -> list[str]:
    """What each run looked at, by its index or header; empty where neither says."""
    column = next((name for name in _NAME_COLUMNS if name in table.colnames), _NAME_COLUMNS[0])
    names: list[str] = texts_of(table, column).tolist()
    return names


def resolve_target(table: Table, text: str, radius: str = "2 deg", frame: str = "icrs") -> Target:
    """Target from "longitude latitude", or from a name in the archive.

    Parameters
    ----------
    table : `~astropy.table.Table`
        Observation table.
    text : str
        "329.717 -30.226" in degrees, coordinates such as "21h58m52s -30d13m32s", or a name of the
        OBJECT (or TARGET_NAME) column, whatever its case and blanks.
    radius : str
        Largest angle between pointing and target.
    frame : {"icrs", "galactic"}
        Frame of coordinates.

    Raises
    ------
    RequestError
        If it is neither; the names that the archive knows are listed.
    """
    # Names first: a survey may call its objects by their coordinates.
    position = _position_of(table, text) or _parse_coordinates(text, frame)
    if position is None:
        raise _unknown_target(table, text)
    selection = {
        "type": "sky_circle",
        "frame": "icrs",
        "lon": f"{position.ra.deg:.10g} deg",
        "lat": f"{position.dec.deg:.10g} deg",
        "radius": radius,
    }
    return Target(position, selection)


def _parse_coordinates(text: str, frame: str) -> SkyCoord | None:
    """Direction from two numbers in degrees, or from hours and degrees with colons or letters."""
    parts = text.replace(",", " ").split()
    if len(parts) != 2:
        return None
    hours = frame == "icrs" and ":" in parts[0]
    try:
        lon, lat = Angle(parts[0], u.hourangle if hours else u.deg), Angle(parts[1], u.deg)
    except (ValueError, u.UnitsError):
        return None
    if not (-360 <= lon.deg <= 360 and -90 <= lat.deg <= 90):
        raise RequestError(f"target {text!r}: no place on the sky; expected longitude and latitude")
    return SkyCoord(lon, lat, frame=frame).icrs


def _position_of(table: Table, name: str) -> SkyCoord | None:
    """Mean of the object's coordinates over the runs of that name, None if there is none."""
    wanted = _folded(name)
    for column in _columns(table):
        matches = np.array([_folded(value) == wanted for value in texts_of(table, column)], bool)
        if matches.any():
            return _mean_position(table[matches], name)
    return None


def _columns(table: Table) -> list[str]:
    """Columns and keywords with names of targets."""
    return [name for name in _NAME_COLUMNS if name in table.colnames or name == "OBJECT"]


def _unknown_target(table: Table, name: str) -> RequestError:
    hint = "give coordinates in degrees, such as '83.63 22.01'"
    known = {text for column in _columns(table) for text in texts_of(table, column) if text}
    if not known:
        return RequestError(
            f"target {name!r}: neither the obs-index nor the headers name targets (OBJECT); {hint}"
        )
    return RequestError(f"{unknown_name('target', name, known)}; or {hint}")


def _mean_position(table: Table, name: str) -> SkyCoord:
    ra, dec = (column_of(table, key).value for key in ("RA_OBJ", "DEC_OBJ"))
    known = np.isfinite(ra) & np.isfinite(dec) & ~((ra == 0) & (dec == 0))
    if not known.any():
        raise RequestError(
            f"target {name!r}: no run says where it is (RA_OBJ, DEC_OBJ); give coordinates in "
            "degrees, such as '83.63 22.01'"
        )
    coords = SkyCoord(ra[known], dec[known])
    mean = SkyCoord(coords.cartesian.mean(), frame="icrs")
    return SkyCoord(mean.spherical.lon, mean.spherical.lat, frame="icrs")


def _folded(name: Any) -> str:
    return "".join(str(name).split()).casefold()
