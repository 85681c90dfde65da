"""Typed errors and warnings: what was wrong, where, and what to do next; and texts for a terminal.

Names in headers, index tables and file systems may hold any character. A terminal takes some of
them as commands: to move, to erase, to write from right to left. None reaches it: texts that are
put together from lines go through `join_lines`, messages of errors and warnings of this package are
escaped by their classes (`obscluster.exceptions`), and the command line watches what is left
(`obscluster.cli.terminal`).

Two families matter to a user. A `RequestError` (unknown feature, impossible selection, unreadable
archive) stops the work: nothing sensible can be computed. A `DataError` concerns one file or one
HDU: the run that needs it is skipped, named and counted, and the rest goes on. If it is a
`ReadError`, trying again may help.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from unicodedata import category

__all__ = [
    "AbsentError",
    "ArchiveError",
    "DamagedError",
    "DataError",
    "FormatError",
    "MissingDataError",
    "ObsClusterError",
    "ObsClusterWarning",
    "ReadError",
    "RequestError",
    "SkippedRunWarning",
    "UnreadableError",
    "join_lines",
    "printable",
    "unknown_name",
]


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
    return "".join(
        c
        if (c.isprintable() or category(c) == "Zs")
        else c.encode("unicode_escape").decode("ascii")
        for c in text
    )


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


class ObsClusterError(Exception):
    """Base class of every error that obscluster raises on purpose.

    Parameters
    ----------
    *lines : str
        The message, most often one line. Each stays one line, see `obscluster.exceptions`.
    """

    def __str__(self) -> str:
        return join_lines(self.args)


class RequestError(ObsClusterError, ValueError):
    """The request cannot be met as it stands; the message says what can be asked instead."""


class ArchiveError(RequestError, OSError):
    """An archive as a whole cannot be read: no such directory, no or broken index files."""


class DataError(ObsClusterError, OSError):
    """Data of one run cannot be used; the run is skipped and the others go on.

    Parameters
    ----------
    message : str
        What is wrong, what was expected and what to do next.
    path : `~pathlib.Path` or str, optional
        The file concerned.
    hdu : str, optional
        Name of the HDU concerned.
    """

    def __init__(self, message: str, path: Path | str | None = None, hdu: str | None = None):
        self.message = message
        # A path at a URL is none of this machine, see obscluster.gadf.remote.
        self.path = Path(path) if isinstance(path, str) else path
        self.hdu = hdu
        super().__init__(message)

    def __str__(self) -> str:
        where = [] if self.path is None else [str(self.path)]
        if self.hdu is not None:
            where.append(f"HDU {self.hdu}")
        return printable(f"{', '.join(where)}: {self.message}" if where else self.message)

    @property
    def reason(self) -> str:
        """As one reason of a note: what is wrong, and in brackets where, and what to do next.

        What is wrong is the same words for all runs alike, so that runs can be counted by it.
        """
        what, rest = _first_part(self.message)
        where = [] if self.path is None else [str(self.path)]
        where += [] if self.hdu is None else [f"HDU {self.hdu}"]
        details = ", ".join([*where, *rest]).replace("; ", ", ")
        return f"{what} ({details})" if details else what

    def __reduce__(self) -> tuple[type[DataError], tuple[str, Path | None, str | None]]:
        return type(self), (self.message, self.path, self.hdu)


class MissingDataError(DataError):
    """A file or an HDU that the index announces is not there."""


class FormatError(DataError):
    """A file is not what it should be: truncated, not FITS, or against GADF."""


class ReadError(DataError):
    """The bytes of a file could not be had, or are damaged: another day it may be readable.

    What comes of it is never kept as a result. It is not raised for what an intact file says, or
    does not say.
    """


class UnreadableError(ReadError, MissingDataError):
    """A file cannot be opened or read: permission, a disk, a server."""


class AbsentError(UnreadableError):
    """There is no file of that name, or none that may be seen."""


class DamagedError(ReadError, FormatError):
    """A file is cut short, or its bytes are not those that were written."""


class ObsClusterWarning(UserWarning):
    """Base class of every warning that obscluster emits; the message is one line."""

    def __str__(self) -> str:
        return printable(super().__str__())


class SkippedRunWarning(ObsClusterWarning):
    """Some runs were left out; the message names them and says why."""


def _first_part(text: str) -> tuple[str, list[str]]:
    """A text up to its first comma, colon or semicolon outside brackets, and the rest, if any."""
    depth = 0
    for place in re.finditer(r"[(\[]|[)\]]|[;,:] ", text):
        if place[0] in "([":
            depth += 1
        elif place[0] in ")]":
            depth -= 1
        elif depth <= 0:
            return text[: place.start()], [text[place.end() :]]
    return text, []


def unknown_name(kind: str, name: str, known: Iterable[str]) -> str:
    """Sentence for a name that is not known: the alternatives, and the likely one.

    Examples
    --------
    >>> unknown_name("feature", "psf-radus", ["edisp-res", "psf-radius"])
    "unknown feature 'psf-radus'; did you mean 'psf-radius'? Known: edisp-res, psf-radius"
    """
    known = sorted(str(other) for other in known)
    close = get_close_matches(name, known, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else "."
    return f"unknown {kind} {name!r}{hint} Known: {', '.join(known)}"
