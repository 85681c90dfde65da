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

# Bytes throughout: what Python's text takes for blanks and digits, FITS does not (0xA0, 0x85).
_KEYWORD = 8
_EQUALS = b"= "
_VALUE_AT = _KEYWORD + len(_EQUALS)
# Of these no value follows in a card of their own, whatever it says.
_NO_VALUE = (b"", b"COMMENT", b"HISTORY", b"CONTINUE", b"HIERARCH", b"END")
# Keywords that are searched for one by one; who asks for more has all of them parsed.
_FEW = 40
_MISSING = object()
_VALUE = re.compile(rb" *('(?:[^']|'')*'|[^/]*)", re.DOTALL)
# Blanks within a number are allowed by none but astropy, which reads them.
_INTEGER = re.compile(rb"[+-]? *[0-9]{1,70}\Z")
# NaN and infinity are none of FITS, but written.
_FLOAT = re.compile(
    rb"[+-]? *(?:(?:[0-9]+\.?[0-9]*|\.[0-9]+) *(?:[ED] *[+-]? *[0-9]+)?|NAN|INF(?:INITY)?)\Z",
    re.IGNORECASE,
)


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
        # Less than a card is none.
        self._stop = stop - stop % CARD
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
        card = self._raw[start + _VALUE_AT : start + CARD] if start >= 0 else b""
        value = _VALUE.match(card)
        comment = b"" if value is None else card[value.end() :]
        return comment.decode("latin-1").strip().removeprefix("/").strip()

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
        return _parse_cards(self._raw[: self._stop])


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


def _parse_cards(raw: bytes) -> dict[str, Any]:
    """All keywords and values, also those that are longer than a card allows."""
    header: dict[str, Any] = {}
    # Of a keyword given both ways, the plain card counts.
    long_keys: set[str] = set()
    continued: str | None = None
    for start in range(0, len(raw) - CARD + 1, CARD):
        card = raw[start : start + CARD]
        name = card[:_KEYWORD].rstrip(b" ")
        if name == b"CONTINUE" and continued is not None:
            more = _parse_value(card[_KEYWORD:])
            if isinstance(more, str):
                header[continued] = header[continued][:-1] + more
            if not header[continued].endswith("&"):
                header[continued] = header[continued].rstrip(" ")
                continued = None
            continue
        continued = None
        if name == b"HIERARCH" and b"=" in card:
            name, _, rest = card[_KEYWORD + 1 :].partition(b"=")
            key, value = _text(name.strip(b" ").upper()), _parse_value(rest)
            is_new = key not in header
            long_keys |= {key} if is_new else set()
        elif card[_KEYWORD:_VALUE_AT] == _EQUALS and name not in _NO_VALUE:
            key, value = _text(name), _parse_value(card[_VALUE_AT:])
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
    while found >= 0 and (found % CARD or raw[found + 3 : found + 8].strip(b" ")):
        found = raw.find(b"END", found + 1)
    return found


def find_card(raw: bytes, key: str, stop: int | None = None) -> int:
    """Where the first card of a keyword with a value begins, -1 if there is none."""
    try:
        name = key.encode("latin-1")
    except UnicodeEncodeError:
        return -1
    if name.endswith(b" ") or name in _NO_VALUE:
        return -1
    wanted = name.ljust(_KEYWORD) + _EQUALS
    # The blanks are not searched for: headers are full of them.
    found = raw.find(name, 0, stop)
    while found >= 0 and (found % CARD or raw[found : found + _VALUE_AT] != wanted):
        found = raw.find(name, found + 1, stop)
    return found


def _text(stored: bytes) -> str:
    """Text in Latin-1, which never fails; text that is not ASCII is against the standard."""
    return stored.decode("latin-1")


def _parse_value(stored: bytes) -> str | int | float | bool | None:
    """Value of a card; what follows its slash is a comment."""
    plain = stored.partition(b"/")[0].strip(b" ")
    # Most are numbers.
    if plain.isdigit():
        return int(plain)
    match = _VALUE.match(stored)
    word = match[1].strip(b" ") if match else b""
    if word.startswith(b"'"):
        # One that does not end goes on to the end of its card.
        word = word[1:-1] if len(word) > 1 and word.endswith(b"'") else word[1:]
        return _text(word.replace(b"''", b"'").rstrip(b" "))
    if word in (b"T", b"F"):
        return word == b"T"
    if not word:
        return None
    number = word.replace(b" ", b"")
    if _INTEGER.match(word):
        return int(number)
    return float(number.upper().replace(b"D", b"E")) if _FLOAT.match(word) else _text(word)


# Files of a production have many cards in common.
_parse_stored = lru_cache(maxsize=4096)(_parse_value)
