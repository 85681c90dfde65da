"""What is known of an observation beside its data, from its header and its row of the obs-index."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from astropy.coordinates import EarthLocation

from obscluster.exceptions import DataError
from obscluster.gadf.keywords import NUMBERS, number_of
from obscluster.gadf.location import location_from_keywords, location_of_telescope

__all__ = ["Keywords", "ObservationMeta", "make_meta"]


@dataclass(frozen=True)
class ObservationMeta:
    """What is known of an observation beside its data.

    Parameters
    ----------
    obs_id : int
        Identifier.
    location : `~astropy.coordinates.EarthLocation` or None
        Place of the telescopes.
    deadtime_fraction : float
        Part of the time in which nothing could be recorded, by DEADC, or LIVETIME over ONTIME; NaN
        where neither is known.
    optional : mapping
        Every keyword of the EVENTS header and every column of the obs-index by its name, such as
        ``MUONEFF``; where both have it, the header counts, which is more precise.
    """

    obs_id: int
    location: EarthLocation | None
    deadtime_fraction: float
    optional: Mapping[str, Any] = field(default_factory=dict)


class Keywords(Mapping[str, Any]):
    """What header and index say, as one mapping: the header counts, where it gives a value.

    Nothing is copied, since of hundreds of keywords a few are asked for.

    Parameters
    ----------
    index_row, header : mapping
        Columns of the obs-index, and the EVENTS header.
    """

    def __init__(self, index_row: Mapping[str, Any], header: Mapping[str, Any]):
        self._index_row = index_row
        self._header = header

    def __getitem__(self, key: str) -> Any:
        value = self._header.get(key)
        if value is None:
            return self._index_row[key]
        # What is no number does not hide one.
        unusable = key in NUMBERS and key in self._index_row and np.isnan(number_of(key, value))
        return self._index_row[key] if unusable else value

    def __iter__(self) -> Iterator[str]:
        given = (key for key, value in self._header.items() if value is not None)
        return iter(dict.fromkeys([*self._index_row, *given]))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __repr__(self) -> str:
        return repr(dict(self))


def make_meta(
    obs_id: int,
    index_row: Mapping[str, Any],
    header: Mapping[str, Any],
    more_keywords: Callable[[], Mapping[str, Any]] | None = None,
) -> ObservationMeta:
    """Merge what index and header say.

    Parameters
    ----------
    obs_id : int
        Identifier.
    index_row, header : mapping
        Columns of the obs-index, and the EVENTS header.
    more_keywords : callable, optional
        Reads the header of the pointing table, for a location that is nowhere else: LST and MAGIC
        have it there.

    Raises
    ------
    ValueError
        If a number of the location is none.
    """
    optional = Keywords(index_row, header)
    deadc = number_of("DEADC", optional.get("DEADC"))
    if np.isnan(deadc):
        livetime, ontime = (number_of(key, optional.get(key)) for key in ("LIVETIME", "ONTIME"))
        deadc = livetime / ontime if ontime > 0 else np.nan
    location = location_from_keywords(optional)
    if location is None and more_keywords is not None:
        with suppress(DataError):
            location = location_from_keywords(more_keywords())
    if location is None:
        location = location_of_telescope(str(optional.get("TELESCOP") or ""))
    return ObservationMeta(obs_id, location, 1.0 - deadc, optional)
