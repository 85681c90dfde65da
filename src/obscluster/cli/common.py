"""What the commands share."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from obscluster.cli.terminal import terminal_of
from obscluster.printable import printable

__all__ = [
    "STRICT",
    "add_archive",
    "add_command",
    "add_overwriting_of_file",
    "add_strict",
    "add_trust",
    "archive_config",
    "archive_of",
    "progress_bar",
    "writing",
]

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
