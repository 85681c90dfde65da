"""Texts for a terminal, in which nothing but text is left.

Names in headers, index tables and file systems may hold any character. A terminal takes some of
them as commands: to move, to erase, to write from right to left. None reaches it: texts that are
put together from lines go through `join_lines`, messages of errors and warnings of this package are
escaped by their classes (`obscluster.exceptions`), and the command line watches what is left
(`obscluster.cli.terminal`).
"""

from __future__ import annotations

from collections.abc import Iterable
from unicodedata import category

__all__ = ["join_lines", "printable"]


def printable(text: object) -> str:
    """Text on one line, with escapes for all characters that cannot be seen.

    Escaped are controls, ends of lines among them, what changes the direction of writing, what has
    no width, and bytes of file names that are no text. Text that is escaped stays as it is.

    Parameters
    ----------
    text : object
        Text, or what has one.

    Returns
    -------
    text : str
        The text, as Python writes it in quotes, but without quotes.

    Examples
    --------
    >>> print(printable("Crab" + chr(27) + "[31m" + chr(10) + "error: none"))
    Crab\\x1b[31m\\nerror: none
    """
    text = str(text)
    if text.isprintable():
        return text
    return "".join(c if _can_be_seen(c) else _escape(c) for c in text)


def join_lines(lines: Iterable[object]) -> str:
    """Text of several lines, each of which stays one, whatever it holds.

    Parameters
    ----------
    lines : iterable
        The lines.

    Returns
    -------
    text : str
        What `printable` makes of each, one below the other.
    """
    return "\n".join(printable(line) for line in lines)


def _can_be_seen(character: str) -> bool:
    # Python counts spaces of other widths among what cannot be printed.
    return character.isprintable() or category(character) == "Zs"


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
