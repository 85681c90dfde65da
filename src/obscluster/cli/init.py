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
  only what makes datasets of groups that are there already:
    obscluster init $GAMMAPY_DATA/hess-dl3-dr1 --reduce -o reduce.yaml
    obscluster reduce results/ --config reduce.yaml -o datasets/
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
        metavar="FILE",
        help="the description (default: run.yaml, or reduce.yaml)",
    )
    command.add_argument(
        "--reduce", action="store_true", help="describe a reduction of groups, not a whole run"
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

    reduction = arguments.reduce
    path = arguments.output or Path("reduce.yaml" if reduction else "run.yaml")
    write_description(
        archive_config(arguments),
        path,
        arguments.overwrite,
        arguments.all,
        arguments.force,
        reduction,
    )
    after = (
        f"reduce GROUPS --config {path} -o datasets/" if reduction else f"run {path} -o results/"
    )
    say(f"description in {path}; next: obscluster {after}")
    return 0
