"""What the commands print, and what watches over it.

Commands print lines with `say`, and texts that views have put together with `print`. Both come from
`obscluster.exceptions`, so that a text of an archive can neither command the terminal nor look like
a line of ours. What others print, such as libraries that warn, passes `guarded` streams.

What the commands share.
"""

from __future__ import annotations

import argparse
import logging
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from obscluster.exceptions import join_lines, printable

__all__ = [
    "STRICT",
    "LogFormatter",
    "add_archive",
    "add_command",
    "add_overwriting_of_file",
    "add_strict",
    "add_trust",
    "archive_config",
    "archive_of",
    "guarded",
    "progress_bar",
    "say",
    "show_traceback",
    "terminal_of",
    "writing",
]


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


STRICT = 3
"""Exit code of ``--strict``."""


def add_command(
    commands: Any,
    name: str,
    summary: str,
    examples: str,
    run: Callable[[argparse.Namespace], int],
    interrupted: str = "results appear whole or not at all",
) -> argparse.ArgumentParser:
    """Add a command whose help ends with examples, and which is run by a function.

    ``interrupted`` says where things stand when the user ends it in the middle.
    """
    command: argparse.ArgumentParser = commands.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.",
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.set_defaults(run=run, interrupted=interrupted)
    command.add_argument(
        "--debug",
        action="store_true",
        help="show tracebacks, also of features that fail (in one process: without --workers)",
    )
    return command


def add_archive(command: argparse.ArgumentParser, optional: bool = False) -> None:
    """Describe the archive: a directory, and index files of other names.

    ``optional`` makes an option of the directory, for commands that know one from results.
    """
    if optional:
        command.add_argument(
            "--archive", metavar="DIR", help="where the runs are now (default: as recorded)"
        )
    else:
        command.add_argument("archive", help="directory with obs-index and hdu-index files")
    for kind in ("obs", "hdu"):
        command.add_argument(
            f"--{kind}-index",
            metavar="FILE[HDU]",
            help=f"the {kind}-index, where it is not {kind}-index.fits.gz; with number or name of "
            "the HDU where the file has several tables: 'index.fits[2]'",
        )


def add_overwriting_of_file(command: argparse.ArgumentParser) -> None:
    """Describe when a single file is replaced."""
    command.add_argument(
        "--overwrite", action="store_true", help="replace a file that is there, if it is as written"
    )
    command.add_argument(
        "--force", action="store_true", help="replace any file, also one that was changed since"
    )


def add_trust(command: argparse.ArgumentParser) -> None:
    """Describe when results are read that are not those that were written."""
    command.add_argument(
        "--trust",
        action="store_true",
        help="read results although their files changed since they were written",
    )


@contextmanager
def writing(output: Path | None, overwrite: bool, archive: Path | str | None) -> Iterator[None]:
    """Hold the output of a command, if it has one, from before the work to its end."""
    if output is None:
        yield
        return
    from obscluster.files.output import reserved
    from obscluster.gadf.index import expand_path

    place = expand_path(archive) if isinstance(archive, str) else archive
    with reserved(output, overwrite, place):
        yield


def add_strict(command: argparse.ArgumentParser) -> None:
    """Describe ``--strict``, for commands that go on without runs that cannot be read."""
    command.add_argument(
        "--strict",
        action="store_true",
        help=f"exit with {STRICT} if files of runs could not be read; results are written as ever",
    )


def archive_of(arguments: argparse.Namespace) -> tuple[str, str | None, str | None]:
    """Directory, hdu-index and obs-index, as `DataStore.from_dir` takes them."""
    return arguments.archive, arguments.hdu_index, arguments.obs_index


def archive_config(arguments: argparse.Namespace) -> Any:
    """The archive as a description has it: its directory, or a block with its index files."""
    given = {"path": arguments.archive, "obs_index": arguments.obs_index}
    given["hdu_index"] = arguments.hdu_index
    block = {key: value for key, value in given.items() if value is not None}
    return arguments.archive if set(block) <= {"path"} else block


def progress_bar(iterable: Iterable[Any], total: int, what: str) -> Iterable[Any]:
    """Bar on stderr for anything longer than a second; silent when that is not a terminal."""
    from tqdm import tqdm

    options: dict[str, Any] = {"unit": "run", "delay": 1, "leave": False, "disable": None}
    stream = terminal_of(sys.stderr)
    return tqdm(iterable, desc=printable(what), total=total, file=stream, **options)
