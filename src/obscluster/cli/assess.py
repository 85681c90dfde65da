"""``obscluster assess``: what a grouping is worth."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from obscluster.cli.common import (
    add_archive,
    add_command,
    add_trust,
    archive_config,
    progress_bar,
    writing,
)
from obscluster.cli.run_arguments import given
from obscluster.cli.source_arguments import add_source, source_config
from obscluster.cli.terminal import say

EXAMPLES = """\
examples:
  how much the runs of each group differ, how many groups there should be, and which runs are odd:
    obscluster assess results/
  and how much of the information on a source of 1 % of the Crab stacking loses:
    obscluster assess results/ --flux "1 % Crab"
  the same as tables and a plot:
    obscluster assess results/ --output assessment/
"""


def add(commands: Any) -> None:
    """Describe the arguments."""
    command = add_command(commands, "assess", "tell what a grouping is worth", EXAMPLES, run)
    command.add_argument("groups", type=Path, help="groups.yaml, or the directory that has it")
    command.add_argument(
        "--max-groups", type=int, default=10, metavar="N", help="numbers to look at (default: 10)"
    )
    command.add_argument(
        "--resamples",
        type=int,
        default=50,
        metavar="N",
        help="trials for the stability, 0 for none (default: 50)",
    )
    command.add_argument("-o", "--output", type=Path, help="directory for tables and plot")
    command.add_argument("--overwrite", action="store_true", help="replace results in the output")
    add_archive(command, optional=True)
    command.add_argument(
        "--target", help="where the source is (default: the target of the grouping)"
    )
    add_source(command)
    add_trust(command)


def run(arguments: argparse.Namespace) -> int:
    """Assess, tell, and write."""
    from obscluster.assess import assess_grouping, write_assessment
    from obscluster.summary import describe_assessment

    files = []
    with writing(arguments.output, arguments.overwrite, arguments.archive):
        assessment = assess_grouping(
            arguments.groups,
            arguments.max_groups,
            arguments.resamples,
            progress_bar,
            source_config(arguments)
            | given({"archive": archive_config(arguments), "target": arguments.target}),
            trust=arguments.trust,
        )
        # Written first: whoever reads the text may stop halfway.
        if arguments.output is not None:
            files = write_assessment(assessment, arguments.output, arguments.overwrite)
    print(describe_assessment(assessment))
    if files:
        say("", f"results in {arguments.output}: {', '.join(files)}")
    return 0
