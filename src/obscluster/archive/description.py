"""How a description names an archive and the steps of a selection; archives opened by it."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from obscluster.archive.store import DataStore
from obscluster.files.description import Strict
from obscluster.gadf.index import expand_path
from obscluster.values.fields import AngleText, Direction, OffsetText

__all__ = ["ArchiveConfig", "SelectionConfig", "open_archive", "relocated"]


def _pair(value: Any) -> Any:
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise ValueError(f"{value!r}; expected two values, such as ['0 deg', '40 deg']")
    return tuple(value)


def _time(value: Any) -> Any:
    """YAML reads some times by itself; the text is what is meant."""
    if isinstance(value, dt.datetime):
        utc = value.astimezone(dt.UTC) if value.tzinfo is not None else value
        return utc.replace(tzinfo=None).isoformat()
    return value.isoformat() if isinstance(value, dt.date) else value


Reach = AngleText | Annotated[float, Field(gt=0)]
Value = str | int | float
Time = Annotated[str, BeforeValidator(_time)]


class _Step(Strict):
    """What all steps have."""

    type: str
    inverted: bool = False

    @property
    def keywords(self) -> dict[str, Any]:
        """The step as `obscluster.archive.selection` takes it."""
        return {"type": self.type, **self.model_dump(exclude_defaults=True)}


class SkyCircleConfig(_Step):
    """Pointings within a circle."""

    type: Literal["sky_circle"] = "sky_circle"
    lon: Direction
    lat: Direction
    radius: Reach
    frame: Literal["icrs", "galactic"] = "icrs"
    border: OffsetText | float = 0.0


class SkyBoxConfig(_Step):
    """Pointings within ranges of longitude and latitude."""

    type: Literal["sky_box"] = "sky_box"
    lon: Annotated[tuple[Direction, Direction], BeforeValidator(_pair)]
    lat: Annotated[tuple[Direction, Direction], BeforeValidator(_pair)]
    frame: Literal["icrs", "galactic"] = "icrs"
    border: OffsetText | float = 0.0


class TimeBoxConfig(_Step):
    """Runs within two times."""

    type: Literal["time_box"] = "time_box"
    time_range: Annotated[tuple[Time, Time], BeforeValidator(_pair)]
    partial_overlap: bool = False


class ParBoxConfig(_Step):
    """Runs whose value of a column lies in a range."""

    type: Literal["par_box"] = "par_box"
    variable: str
    value_range: Annotated[tuple[Value, Value], BeforeValidator(_pair)]


class ParValuesConfig(_Step):
    """Runs that have one of several values in a column."""

    type: Literal["par_values"] = "par_values"
    variable: str
    values: tuple[Value, ...]


SelectionConfig = Annotated[
    SkyCircleConfig | SkyBoxConfig | TimeBoxConfig | ParBoxConfig | ParValuesConfig,
    Field(discriminator="type"),
]


class ArchiveConfig(Strict):
    """An archive whose index files have other names, see `DataStore.from_dir`."""

    path: str
    obs_index: str | None = None
    hdu_index: str | None = None


def open_archive(
    archive: str | os.PathLike[str] | ArchiveConfig | Mapping[str, str] | DataStore,
    absolute: bool = False,
) -> DataStore:
    """An archive by its directory, or by a block with the names of its index files.

    Parameters
    ----------
    archive : str, path, `~obscluster.config.ArchiveConfig`, mapping or `DataStore`
        As a description has it; an archive that is open already is taken as it is.
    absolute : bool
        Make its paths absolute, for workers that stand elsewhere.

    Raises
    ------
    ArchiveError
        If it cannot be read.
    """
    if isinstance(archive, DataStore):
        return archive
    if isinstance(archive, str | os.PathLike):
        archive = ArchiveConfig(path=os.fspath(archive))
    elif not isinstance(archive, ArchiveConfig):
        archive = ArchiveConfig(**archive)
    place = expand_path(archive.path)
    place = place.absolute() if absolute else place
    return DataStore.from_dir(place, archive.hdu_index, archive.obs_index)


def relocated(asked: Any, given: Any) -> Any:
    """An archive as it was asked for, with another place or other index files.

    Parameters
    ----------
    asked, given : str, mapping with path, obs_index and hdu_index, or None
        What of ``given`` is not None takes the place of what was asked.

    Returns
    -------
    archive : str, dict or None
        As a description has it.
    """
    blocks = [a if isinstance(a, Mapping) else {"path": a} for a in (asked, given)]
    merged = {key: v for block in blocks for key, v in block.items() if v is not None}
    return merged.get("path") if set(merged) <= {"path"} else merged
