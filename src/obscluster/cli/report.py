"""``obscluster report``: a grouping on one page, for someone who was not there."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from obscluster.cli.common import add_archive, add_command, add_trust, archive_config, progress_bar
from obscluster.cli.terminal import say

EXAMPLES = """\
examples:
  one page of what was asked and what came out, with plots that can be played with:
    obscluster report results/
  elsewhere, with the archive in a new place:
    obscluster report results/ --output pks2155.html --archive /data/hess-dl3-dr1

The page is one file that opens in any browser, without network. Groups that are changed by hand in
it are downloaded as a file that `obscluster group ARCHIVE --labels FILE` takes. Needs the extra:
pip install "obscluster[report]".
"""


def add(commands: Any) -> None:
    """Describe the arguments."""
    command = add_command(
        commands, "report", "write a page that shows a grouping, with an explorer", EXAMPLES, run
    )
    command.add_argument("groups", type=Path, help="groups.yaml, or the directory that has it")
    command.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help="the page (default: report.html with the results)",
    )
    command.add_argument(
        "--force", action="store_true", help="replace any file, not only a page that is as written"
    )
    add_archive(command, optional=True)
    add_trust(command)


def run(arguments: argparse.Namespace) -> int:
    """Write, and say where."""
    from obscluster.present import require_report, write_report

    # Before the work, not after it.
    require_report()
    path = write_report(
        arguments.groups,
        arguments.output,
        archive_config(arguments),
        progress=progress_bar,
        trust=arguments.trust,
        force=arguments.force,
    )
    say(f"report in {path}, {path.stat().st_size / 1e6:.1f} MB")
    return 0
