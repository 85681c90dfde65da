"""``obscluster init``: an example description for an archive."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from obscluster.cli.common import (
    add_archive,
    add_command,
    add_overwriting_of_file,
    archive_config,
)
from obscluster.cli.terminal import say

EXAMPLES = """\
examples:
  a description of what can be done with an archive, with all options as comments, and a run of it:
    obscluster init $GAMMAPY_DATA/hess-dl3-dr1 -o run.yaml
    obscluster run run.yaml -o results/
"""


def add(commands: Any) -> None:
    """Describe the arguments."""
    command = add_command(
        commands, "init", "write a commented example description for an archive", EXAMPLES, run
    )
    add_archive(command)
    command.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path("run.yaml"),
        metavar="FILE",
        help="the description (default: run.yaml)",
    )
    add_overwriting_of_file(command)
    command.add_argument(
        "--all",
        action="store_true",
        help="take livetimes from the good time intervals of all runs, rather than from the index",
    )


def run(arguments: argparse.Namespace) -> int:
    """Look at the archive, write, and say what to do next."""
    from obscluster.init import write_description

    write_description(
        archive_config(arguments),
        arguments.output,
        arguments.overwrite,
        arguments.all,
        arguments.force,
    )
    say(f"description in {arguments.output}; next: obscluster run {arguments.output} -o results/")
    return 0
