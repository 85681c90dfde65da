"""What the commands print, and what watches over it.

Commands print lines with `say`, and texts that views have put together with `print`. Both come from
`obscluster.printable`, so that a text of an archive can neither command the terminal nor look like
a line of ours. What others print, such as libraries that warn, passes `guarded` streams.
"""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from types import TracebackType
from typing import Any, TextIO

from obscluster.printable import join_lines, printable

__all__ = ["LogFormatter", "guarded", "say", "show_traceback", "terminal_of"]


class _Guard:
    """A stream that escapes all that is no text; it has everything else of the stream."""

    def __init__(self, stream: TextIO):
        self.stream = stream

    def write(self, text: str) -> int:
        self.stream.write(join_lines(text.split("\n")))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def isatty(self) -> bool:
        # Colours of libraries that ask would come out as text.
        return False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


@contextmanager
def guarded() -> Iterator[None]:
    """Within it, nothing but text and ends of lines is written to the standard streams."""
    with redirect_stdout(_Guard(sys.stdout)), redirect_stderr(_Guard(sys.stderr)):
        yield


def terminal_of(stream: Any) -> Any:
    """The stream behind a guard, for progress bars: they move the cursor, and hold our texts."""
    return stream.stream if isinstance(stream, _Guard) else stream


def say(*lines: object, error: bool = False) -> None:
    """Print lines, each of which stays one.

    Parameters
    ----------
    *lines : object
        The lines.
    error : bool
        Print to stderr.
    """
    print(join_lines(lines), file=sys.stderr if error else sys.stdout, flush=True)


def show_traceback(error: BaseException) -> None:
    """Print where an error was raised, and its message as one line, to stderr."""
    print(_traceback_text(error, error.__traceback__), file=sys.stderr)


class LogFormatter(logging.Formatter):
    """Records of a log, of which each message stays one line, those of errors too."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 (the name of logging)
        return printable(record.message)

    def formatException(self, ei: Any) -> str:  # noqa: N802 (the name of logging)
        return _traceback_text(ei[1], ei[2])


def _traceback_text(error: BaseException | None, trace: TracebackType | None) -> str:
    lines = "".join(traceback.format_tb(trace)).splitlines()
    return join_lines([*lines, f"{type(error).__name__}: {error}"])
