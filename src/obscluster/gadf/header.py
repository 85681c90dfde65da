"""FITS header cards to a dictionary (FITS Standard 4.0, section 4)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

__all__ = ["BLOCK", "CARD", "Header", "has_end", "parse_header"]

BLOCK = 2880
CARD = 80

Header = Mapping[str, Any]
"""FITS keywords and their values: str, int, float or bool; None where undefined."""

# Of a card, after keyword and "= ".
_VALUE_AT = 10
_VALUE = re.compile(r"\s*('(?:[^']|'')*'|[^/]*)")
_INTEGER = re.compile(r"[+-]?\d{1,70}\Z")


class _Cards(Mapping[str, Any]):
    """Keywords of a header of plain cards, found when they are asked for: few ever are.

    Parameters
    ----------
    text : str
        Cards of 80 characters, up to END.
    """

    def __init__(self, text: str):
        self._text = text
        self._values: dict[str, Any] = {}

    def __getitem__(self, key: str) -> Any:
        if key in self._values:
            return self._values[key]
        start = self._places[key]
        value = self._values[key] = _parse_value(self._text[start + _VALUE_AT : start + CARD])
        return value

    def get(self, key: str, default: Any = None) -> Any:
        """Value of a keyword, or the default."""
        return self[key] if key in self._places else default

    @cached_property
    def _places(self) -> dict[str, int]:
        """Where the first card of each keyword begins."""
        text = self._text
        last = len(text) // CARD * CARD - CARD
        return {
            text[start : start + 8].rstrip(): start
            for start in range(last, -1, -CARD)
            if text[start + 8 : start + _VALUE_AT] == "= "
        }

    def __contains__(self, key: object) -> bool:
        return key in self._places

    def __iter__(self) -> Iterator[str]:
        return reversed(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def __repr__(self) -> str:
        return repr(dict(self))


def parse_header(raw: bytes) -> Header:
    """Keywords and values of a header.

    Parameters
    ----------
    raw : bytes
        Cards of 80 characters. Commentary is left out; of a keyword given twice the first value
        counts, as in astropy.

    Returns
    -------
    header : mapping
        Keyword to value.
    """
    text = raw.decode("latin-1")
    if "CONTINUE" in text or "HIERARCH" in text:
        return _long_header(text)
    return _Cards(text[: _end(raw)])


def _long_header(text: str) -> Header:
    """Header with values or keywords that are longer than a card allows."""
    header: dict[str, Any] = {}
    continued: str | None = None
    for start in range(0, len(text) - CARD + 1, CARD):
        card = text[start : start + CARD]
        key = card[:8].rstrip()
        if key == "END":
            break
        if key == "CONTINUE" and continued is not None:
            more = _parse_value(card[8:])
            if isinstance(more, str):
                header[continued] = header[continued][:-1] + more
            if not header[continued].endswith("&"):
                header[continued] = header[continued].rstrip()
                continued = None
            continue
        if key == "HIERARCH" and "=" in card:
            key, _, rest = card[9:].partition("=")
            key, value = key.strip().upper(), _parse_value(rest)
        elif card[8:10] == "= ":
            value = _parse_value(card[10:])
        else:
            continue
        if key not in header:
            header[key] = value
            continued = key if isinstance(value, str) and value.endswith("&") else None
    return header


def has_end(raw: bytes, start: int = 0) -> bool:
    """Whether one of the cards from a position on is END."""
    return _end(raw, start) is not None


def _end(raw: bytes, start: int = 0) -> int | None:
    """Where the card END begins, None if there is none."""
    found = raw.find(b"END", start)
    while found >= 0:
        if found % CARD == 0 and raw[found + 3 : found + 8] == b"     ":
            return found
        found = raw.find(b"END", found + 1)
    return None


def _parse_value(text: str) -> str | int | float | bool | None:
    """Value of a card; what follows its slash is a comment."""
    plain = text.partition("/")[0].strip()
    # Most are numbers.
    if plain.isdecimal() and plain.isascii():
        return int(plain)
    match = _VALUE.match(text)
    word = match[1].strip() if match else ""
    if word.startswith("'"):
        return word[1:-1].replace("''", "'").rstrip() if len(word) > 1 else ""
    if word in ("T", "F"):
        return word == "T"
    if not word:
        return None
    if _INTEGER.match(word):
        return int(word)
    try:
        return float(word.upper().replace("D", "E"))
    except ValueError:
        return word
