"""FITS header cards to a dictionary (FITS Standard 4.0, section 4)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

import numpy as np

__all__ = ["BLOCK", "CARD", "Header", "find_card", "has_end", "parse_header"]

BLOCK = 2880
CARD = 80

Header = Mapping[str, Any]
"""FITS keywords and their values: str, int, float or bool; None where undefined."""

# Of a card, after keyword and "= ".
_VALUE_AT = 10
_VALUE = re.compile(r"\s*('(?:[^']|'')*'|[^/]*)")
_INTEGER = re.compile(r"[+-]?\d{1,70}\Z")
_END, _CONTINUE, _HIERARCH = b"END     ", b"CONTINUE", b"HIERARCH"
_NAME = np.dtype({"names": ["name"], "formats": ["S8"], "itemsize": CARD})


class _Cards(Mapping[str, Any]):
    """Keywords of a header of plain cards, found when they are asked for: few ever are.

    Parameters
    ----------
    raw : bytes
        Cards of 80 characters.
    names : list of bytes
        First 8 characters of each card, up to END.
    """

    def __init__(self, raw: bytes, names: list[bytes]):
        self._raw = raw
        self._names = names
        self._values: dict[str, Any] = {}

    def __getitem__(self, key: str) -> Any:
        if key in self._values:
            return self._values[key]
        start = self._place(key)
        if start is None:
            raise KeyError(key)
        card = self._raw[start + _VALUE_AT : start + CARD]
        value = self._values[key] = _parse_value(card.decode("latin-1"))
        return value

    def get(self, key: str, default: Any = None) -> Any:
        """Value of a keyword, or the default."""
        # Many are asked for that are not there, and the exceptions of Mapping.get are slow.
        if key not in self:
            return default
        return self[key]

    def _place(self, key: str) -> int | None:
        """Where the first card of a keyword begins, None if there is none."""
        name = key.ljust(8).encode("latin-1", "replace")
        number = self._numbers.get(name)
        if number is None or self._has_value(number):
            return None if number is None else number * CARD
        # That one was commentary.
        others = (i for i in range(number, len(self._names)) if self._names[i] == name)
        return next((i * CARD for i in others if self._has_value(i)), None)

    @cached_property
    def _numbers(self) -> dict[bytes, int]:
        """Number of the first card of each name."""
        last = len(self._names) - 1
        return dict(zip(reversed(self._names), range(last, -1, -1), strict=True))

    def _has_value(self, number: int) -> bool:
        """Whether a card is no commentary."""
        return self._raw[number * CARD + 8 : number * CARD + _VALUE_AT] == b"= "

    def __contains__(self, key: object) -> bool:
        return key in self._values or (isinstance(key, str) and self._place(key) is not None)

    def __iter__(self) -> Iterator[str]:
        names = [name for number, name in enumerate(self._names) if self._has_value(number)]
        return iter(dict.fromkeys(name.decode("latin-1").rstrip() for name in names))

    def __len__(self) -> int:
        return len(list(iter(self)))

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
    names = _names(raw)
    if _END in names:
        del names[names.index(_END) :]
    if _CONTINUE in names or _HIERARCH in names:
        return _long_header(raw.decode("latin-1"))
    return _Cards(raw, names)


def _names(raw: bytes, start: int = 0) -> list[bytes]:
    """First 8 characters of every card."""
    n_cards = (len(raw) - start) // CARD
    return np.frombuffer(raw, _NAME, n_cards, start)["name"].tolist() if n_cards else []


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
    return _END in _names(raw, max(start, 0))


def find_card(raw: bytes, key: str) -> int | None:
    """Number of the first card of a keyword, None if there is none."""
    names, name = _names(raw), key.ljust(8).encode("latin-1")
    return names.index(name) if name in names else None


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
