"""``obscluster assign``: put new runs into existing groups."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from obscluster.cli.common import (
    STRICT,
    add_archive,
    add_command,
    add_strict,
    add_trust,
    archive_config,
    progress_bar,
    writing,
)
from obscluster.cli.terminal import say

EXAMPLES = """\
examples:
  where do the runs of an archive belong that has grown since the groups were made?
    obscluster assign results/groups.yaml $GAMMAPY_DATA/hess-dl3-dr1
  write the groups with their new runs:
    obscluster assign results/groups.yaml $GAMMAPY_DATA/hess-dl3-dr1 --output results-2/

Runs that have a group keep it. New runs that are unlike all others fit none, and are listed.
"""


def add(commands: Any) -> None:
    """Describe the arguments."""
    command = add_command(commands, "assign", "put new runs into existing groups", EXAMPLES, run)
    command.add_argument("groups", type=Path, help="groups.yaml, or the directory that has it")
    add_archive(command)
    command.add_argument("-o", "--output", type=Path, help="directory for the extended groups")
    command.add_argument("--overwrite", action="store_true", help="replace results in the output")
    command.add_argument(
        "--workers", type=int, default=1, metavar="N", help="runs read at once (default: 1)"
    )
    add_trust(command)
    add_strict(command)


def run(arguments: argparse.Namespace) -> int:
    """Assign, write, and tell."""
    from obscluster.assign import assign_observations, write_assignment
    from obscluster.summary import describe_assignment

    files = []
    with writing(arguments.output, arguments.overwrite, arguments.archive):
        assignment = assign_observations(
            arguments.groups,
            archive_config(arguments) or "",
            arguments.workers,
            progress_bar,
            arguments.trust,
        )
        # Written first: whoever reads the text may stop halfway.
        if arguments.output is not None:
            files = write_assignment(assignment, arguments.output, arguments.overwrite)
    print(describe_assignment(assignment))
    if files:
        say("", f"results in {arguments.output}: {', '.join(files)}")
    return STRICT if arguments.strict and assignment.unread else 0
