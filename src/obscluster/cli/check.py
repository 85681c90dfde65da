"""``obscluster check``: what is wrong with an archive."""

from __future__ import annotations

import argparse
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from obscluster.cli.common import add_archive, add_command, archive_of, progress_bar

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
    command.add_argument("--overwrite", action="store_true", help="replace the output file")
    command.add_argument(
        "--all", action="store_true", help="list each finding, not one line for many runs"
    )


def run(arguments: argparse.Namespace) -> int:
    """Check, tell, and write."""
    from obscluster.check import check_archive, describe_findings, severity_counts
    from obscluster.engine import get_engine
    from obscluster.store import DataStore

    engine = get_engine(arguments.workers)
    # Before the work, not after it.
    if arguments.output is not None:
        _check_output(arguments.output, arguments.overwrite)
    data_store = DataStore.from_dir(*archive_of(arguments), strict=False)
    total = len(data_store.obs_ids)
    findings = check_archive(
        data_store, engine, lambda results: progress_bar(results, total, "checked")
    )
    width = min(max(shutil.get_terminal_size((100, 24)).columns, 80), 120)
    print(describe_findings(findings, every=arguments.all, width=width))
    if arguments.output is not None:
        _write(findings, arguments.output)
        print(f"\nfindings in {arguments.output}")
    return 1 if severity_counts(findings)["error"] else 0


def _check_output(output: Path, overwrite: bool) -> None:
    from obscluster.exceptions import RequestError

    if not output.absolute().parent.is_dir():
        raise RequestError(f"output {output}: no such directory {output.parent}")
    if output.is_dir():
        raise RequestError(f"output {output}: is a directory; name a file")
    if output.exists() and not overwrite:
        raise RequestError(f"output {output}: exists; name another, or pass --overwrite")
    if not output.absolute().parent.stat().st_mode & 0o222:
        # Modes count for root too.
        raise RequestError(f"output {output}: {output.parent} is read-only; name another place")


def _write(findings: Table, output: Path) -> None:
    """Write the table beside its place, and put it there when it is whole."""
    from obscluster.exceptions import RequestError

    partial = output.with_name(f".{output.name}.{os.getpid()}.partial")
    try:
        findings.write(partial, format="ascii.ecsv", overwrite=True)
        partial.replace(output)
    except OSError as error:
        raise RequestError(f"output {output}: cannot be written ({error.strerror})") from None
    finally:
        partial.unlink(missing_ok=True)
