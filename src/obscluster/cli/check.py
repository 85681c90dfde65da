"""``obscluster check``: what is wrong with an archive."""

from __future__ import annotations

import argparse
import io
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from obscluster.cli.common import (
    add_archive,
    add_command,
    add_overwriting_of_file,
    archive_of,
    progress_bar,
)
from obscluster.cli.terminal import say

if TYPE_CHECKING:
    from astropy.table import Table

EXAMPLES = """\
examples:
  obscluster check $GAMMAPY_DATA/hess-dl3-dr1
  obscluster check archive/ --workers 4 --all --output findings.ecsv

exit code: 0 without errors (there may be warnings), 1 with errors, 2 if the archive cannot be
opened.
"""


def add(commands: Any) -> None:
    """Describe the arguments."""
    summary = "check every run and every HDU of an archive"
    command = add_command(commands, "check", summary, EXAMPLES, run)
    add_archive(command)
    command.add_argument(
        "--workers", type=int, default=1, metavar="N", help="files read at once (default: 1)"
    )
    command.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="write the findings as an ECSV table"
    )
    add_overwriting_of_file(command)
    command.add_argument(
        "--all", action="store_true", help="list each finding, not one line for many runs"
    )


def run(arguments: argparse.Namespace) -> int:
    """Check, tell, and write."""
    from obscluster.check import check_archive, describe_findings, severity_counts
    from obscluster.engine import get_engine
    from obscluster.files.output import check_file
    from obscluster.gadf.index import expand_path
    from obscluster.store import DataStore

    engine = get_engine(arguments.workers)
    # Before the work, not after it.
    data_store = DataStore.from_dir(*archive_of(arguments), strict=False)
    if arguments.output is not None:
        manner = arguments.overwrite, arguments.force, expand_path(arguments.archive)
        check_file(arguments.output, *manner)
    total = len(data_store.obs_ids)
    findings = check_archive(
        data_store, engine, lambda results: progress_bar(results, total, "checked")
    )
    width = min(max(shutil.get_terminal_size((100, 24)).columns, 80), 120)
    print(describe_findings(findings, every=arguments.all, width=width))
    if arguments.output is not None:
        _write(findings, arguments.output, *manner)
        say("", f"findings in {arguments.output}")
    return 1 if severity_counts(findings)["error"] else 0


def _write(findings: Table, output: Path, overwrite: bool, force: bool, archive: Path) -> None:
    from obscluster.files.checksums import UNSEALED
    from obscluster.files.output import write_file

    content = io.StringIO()
    findings.meta["seal"] = UNSEALED
    findings.write(content, format="ascii.ecsv")
    write_file(output, content.getvalue(), overwrite, force, archive)
