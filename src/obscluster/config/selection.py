"""Steps of a selection, see `obscluster.selection`."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from obscluster.config.values import AngleText, Direction, OffsetText
from obscluster.description import Strict

__all__ = ["SelectionConfig"]


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
        """The step as `obscluster.selection` takes it."""
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
