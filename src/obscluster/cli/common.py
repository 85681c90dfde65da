"""What the commands share."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable
from typing import Any

from obscluster.cli.terminal import terminal_of
from obscluster.printable import printable

__all__ = ["add_archive", "add_command", "archive_config", "archive_of", "progress_bar"]


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
