"""FITS header cards to a dictionary (FITS Standard 4.0, section 4)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cached_property, lru_cache
from typing import Any

__all__ = ["BLOCK", "CARD", "Header", "find_card", "find_end", "parse_header", "written_unit"]

BLOCK = 2880
CARD = 80

Header = Mapping[str, Any]
"""FITS keywords and their values: str, int, float or bool; None where undefined."""

# Of a card, after keyword and "= ".
_VALUE_AT = 10
# Keywords that are searched for one by one; who asks for more has all of them parsed.
_FEW = 40
_MISSING = object()
_VALUE = re.compile(r"\s*('(?:[^']|'')*'|[^/]*)")
_INTEGER = re.compile(r"[+-]?\d{1,70}\Z")


class _Cards(Mapping[str, Any]):
    """Keywords of a header, searched for when they are asked for: few ever are.

    Parameters
    ----------
    raw : bytes
        Cards of 80 characters.
    stop : int
        Where the card END begins.
    """

    def __init__(self, raw: bytes, stop: int):
        self._raw = raw
        self._stop = stop
        self._known: dict[str, Any] = {}

    def __getitem__(self, key: str) -> Any:
        value = self._find(key)
        if value is _MISSING:
            raise KeyError(key)
        return value

    def get(self, key: str, default: Any = None) -> Any:
        """Value of a keyword, or the default."""
        value = self._find(key)
        return default if value is _MISSING else value

    def __contains__(self, key: object) -> bool:
        return self._find(key) is not _MISSING

    def __iter__(self) -> Iterator[str]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)

    def __repr__(self) -> str:
        return repr(self._all)

    def copy(self) -> dict[str, Any]:
        """All keywords and values, which may be changed; tables copy their header so."""
        return dict(self._all)

    def comment(self, key: str) -> str:
        """Text behind the slash of a keyword's card; empty if there is none."""
        start = find_card(self._raw, key, self._stop)
        card = self._raw[start + _VALUE_AT : start + CARD].decode("latin-1") if start >= 0 else ""
        value = _VALUE.match(card)
        return "" if value is None else card[value.end() :].strip().removeprefix("/").strip()

    def _find(self, key: object) -> Any:
        if not isinstance(key, str):
            return _MISSING
        known = self._known
        if key not in known:
            known[key] = self._search(key) if len(known) < _FEW else self._all.get(key, _MISSING)
        return known[key]

    def _search(self, key: str) -> Any:
        start = find_card(self._raw, key, self._stop)
        if start < 0:
            return self._all.get(key, _MISSING) if self._has_long_keys else _MISSING
        value = _parse_stored(self._raw[start + _VALUE_AT : start + CARD])
        # A long text goes on in the next card.
        return self._all[key] if isinstance(value, str) and value.endswith("&") else value

    @cached_property
    def _has_long_keys(self) -> bool:
        return b"HIERARCH" in self._raw

    @cached_property
    def _all(self) -> dict[str, Any]:
        return _parse_cards(self._raw[: self._stop].decode("latin-1"))


def parse_header(raw: bytes, end: int | None = None) -> Header:
    """Keywords and values of a header.

    Parameters
    ----------
    raw : bytes
        Cards of 80 characters. Commentary is left out; of a keyword given twice the first value
        counts, as in astropy.
    end : int, optional
        Where the card END begins, if that is known.

    Returns
    -------
    header : mapping
        Keyword to value.
    """
    end = find_end(raw) if end is None else end
    return _Cards(raw, len(raw) if end < 0 else end)


def _parse_cards(text: str) -> dict[str, Any]:
    """All keywords and values, also those that are longer than a card allows."""
    header: dict[str, Any] = {}
    # Of a keyword given both ways, the plain card counts.
    long_keys: set[str] = set()
    continued: str | None = None
    for start in range(0, len(text) - CARD + 1, CARD):
        card = text[start : start + CARD]
        key = card[:8].rstrip()
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
            is_new = key not in header
            long_keys |= {key} if is_new else set()
        elif card[8:10] == "= ":
            value = _parse_value(card[10:])
            is_new = key not in header or key in long_keys
            long_keys.discard(key)
        else:
            continue
        if is_new:
            header[key] = value
            continued = key if isinstance(value, str) and value.endswith("&") else None
    return header


def written_unit(header: Header, key: str) -> str:
    """Unit of a keyword, from brackets at the beginning of its comment (FITS 4.0, 4.3.2)."""
    comment = header.comment(key) if isinstance(header, _Cards) else ""
    unit, closed, _ = comment.removeprefix("[").partition("]")
    return unit.strip() if closed and comment.startswith("[") else ""


def find_end(raw: bytes, start: int = 0) -> int:
    """Where the first card END from a position on begins, -1 if there is none."""
    found = raw.find(b"END", start)
    while found >= 0 and (found % CARD or raw[found + 3 : found + 8].strip()):
        found = raw.find(b"END", found + 1)
    return found


def find_card(raw: bytes, key: str, stop: int | None = None) -> int:
    """Where the first card of a keyword with a value begins, -1 if there is none."""
    name = key.encode("latin-1", "replace")
    if name.endswith(b" "):
        return -1
    wanted = name.ljust(8) + b"= "
    # The blanks are not searched for: headers are full of them.
    found = raw.find(name, 0, stop)
    while found >= 0 and (found % CARD or raw[found : found + _VALUE_AT] != wanted):
        found = raw.find(name, found + 1, stop)
    return found


# Files of a production have many cards in common.
@lru_cache(maxsize=4096)
def _parse_stored(value: bytes) -> str | int | float | bool | None:
    return _parse_value(value.decode("latin-1"))


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
