"""What a user calls a target: coordinates, or a name that the archive knows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from astropy import units as u
from astropy.coordinates import Angle, SkyCoord
from astropy.table import Table

from obscluster.archive.quantities import column_of, texts_of
from obscluster.exceptions import RequestError, unknown_name
from obscluster.selection import Selection

__all__ = ["Target", "names_of_runs", "resolve_target", "target_names"]

_NAME_COLUMNS = ("OBJECT", "TARGET_NAME")


@dataclass(frozen=True)
class Target:
    """A direction, and how to select the runs around it.

    Parameters
    ----------
    position : `~astropy.coordinates.SkyCoord`
        The direction.
    selection : mapping
        A selection of `obscluster.selection`.
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
