"""What one file holds, from its headers alone."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from obscluster.gadf.discover.obs_index import KEYWORDS
from obscluster.gadf.fits import FitsFile
from obscluster.gadf.hdu import HDU
from obscluster.gadf.header import BLOCK, Header
from obscluster.gadf.index import whole_number
from obscluster.gadf.irf_class import IRF_CLASSES, hdu_type_of, irf_class_of
from obscluster.gadf.keywords import HeaderNumbers

__all__ = ["FileContent", "Part", "scan_file"]

_RUN_TYPES = ("events", "gti", "pointing")


@dataclass(frozen=True)
class Part:
    """One HDU that belongs into an hdu-index.

    Parameters
    ----------
    hdu_type, hdu_class : str
        GADF ``HDU_TYPE`` and ``HDU_CLASS``.
    path : `~pathlib.Path`
        The file.
    hdu_name : str
        Extension name; empty where it does not identify the HDU in its file.
    size : int
        Bytes of header and data, with padding.
    """

    hdu_type: str
    hdu_class: str
    path: Path
    hdu_name: str
    size: int

    @property
    def is_response(self) -> bool:
        """Whether this is an instrument response."""
        return self.hdu_class in IRF_CLASSES


@dataclass(frozen=True)
class FileContent:
    """What a file holds.

    Parameters
    ----------
    path : `~pathlib.Path`
        The file.
    header : dict, optional
        The keywords of the EVENTS header that matter here; None if there are no events.
    obs_id : int, optional
        The observation that the headers name.
    n_events : int
        Number of events.
    parts : tuple of `Part`
        HDUs for the index.
    """

    path: Path
    header: Header | None = None
    obs_id: int | None = None
    n_events: int = 0
    parts: tuple[Part, ...] = field(default=())

    @property
    def responses(self) -> tuple[Part, ...]:
        """Instrument responses among the parts."""
        return tuple(part for part in self.parts if part.is_response)


def scan_file(path: Path) -> FileContent:
    """Walk through the headers of a file.

    Parameters
    ----------
    path : `~pathlib.Path`
        The file.

    Returns
    -------
    content : `FileContent`
        Empty for an index file, and for a file that has nothing to do with GADF.

    Raises
    ------
    DataError
        If the file is missing, damaged, or holds several runs.
    """
    with FitsFile(path) as file:
        hdus = list(file)
        if any(_keyword(hdu, "HDUCLAS1") == "INDEX" for hdu in hdus):
            return FileContent(path)
        _check_complete(hdus[-1])
        names = Counter(hdu.name for hdu in hdus)
        parts: list[Part] = []
        found: list[HDU] = []
        for hdu in hdus:
            kind = _type_and_class(hdu)
            if kind is not None:
                name = str(hdu.header.get("EXTNAME") or "").strip()
                # A damaged name is none: text of an index file is ASCII.
                usable = names[hdu.name] == 1 and name.isascii() and name.isprintable()
                parts.append(Part(*kind, path, name if usable else "", _size(hdu)))
                found.append(hdu)
        events = [hdu for hdu, part in zip(found, parts, strict=True) if part.hdu_type == "events"]
        if len(events) > 1:
            raise events[1].error(f"is EVENTS table {len(events)} of the file; expected one run")
        ids = (whole_number(hdu.header.get("OBS_ID")) for hdu in (*events, hdus[0], *found))
        obs_id = next((value for value in ids if value is not None), None)
        if not events:
            return FileContent(path, None, obs_id, 0, tuple(parts))
        # Some productions say once, in the primary header, what holds for the whole file.
        header: dict[str, Any] = {}
        try:
            for numbers in (HeaderNumbers(hdus[0].header), HeaderNumbers(events[0].header)):
                header |= {key: numbers[key] for key in KEYWORDS if key in numbers}
        except ValueError as error:
            raise events[0].error(str(error)) from None
        return FileContent(path, header, obs_id, events[0].n_rows, tuple(parts))


def _type_and_class(hdu: HDU) -> tuple[str, str] | None:
    """GADF type and class of an HDU: by keywords, columns, or name; None if it has none."""
    if not hdu.is_table:
        return None
    hdu_class = irf_class_of(hdu.structure)
    if hdu_class is not None:
        return IRF_CLASSES[hdu_class].hdu_type, hdu_class
    for name in (hdu_type_of(hdu), hdu.name.lower()):
        if name in _RUN_TYPES:
            return name, name
    return None


def _keyword(hdu: HDU, key: str) -> str:
    value: Any = hdu.header.get(key)
    return value.strip().upper() if isinstance(value, str) else ""


def _size(hdu: HDU) -> int:
    """Bytes of header and data, with padding."""
    return len(hdu._header_bytes) + hdu.data_size + (-hdu.data_size % BLOCK)


def _check_complete(last: HDU) -> None:
    """Raise an error if the file ends before its last HDU does.

    What follows in the file would be missing in the index, and nobody would know.
    """
    end = last._start + last.data_size
    if last.data_size and not last._source.read(end - 1, end):
        raise last.error(f"the file is truncated: {end} bytes announced; fetch it again")
