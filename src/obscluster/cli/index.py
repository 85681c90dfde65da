"""``obscluster index``: write the index files of an archive."""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from obscluster.cli.common import add_command, progress_bar
from obscluster.cli.terminal import say

if TYPE_CHECKING:
    from obscluster.gadf.discover import Discovery

EXAMPLES = """\
examples:
  index the FITS files in a directory and below it:
    obscluster index archive/
  with one response file for all runs, and the index files in another directory:
    obscluster index $GAMMAPY_DATA/fact-crab --irf $GAMMAPY_DATA/fact-crab/fact_irf.fits \\
        --output my-index/
"""
_MAX_LINES = 50


def add(commands: Any) -> None:
    """Describe the arguments."""
    command = add_command(commands, "index", "write the index files of an archive", EXAMPLES, run)
    command.add_argument("directory", help="directory with FITS files, also further down in it")
    command.add_argument(
        "-o", "--output", type=Path, help="directory for the index files (default: the same)"
    )
    command.add_argument(
        "--irf",
        nargs="+",
        metavar="FILE",
        help="file with the responses of all runs, or one per run (default: found by headers)",
    )
    command.add_argument("--overwrite", action="store_true", help="replace index files")


def run(arguments: argparse.Namespace) -> int:
    """Read the headers, write, and tell."""
    from obscluster.gadf.discover import check_index_files, discover, write_index_files
    from obscluster.gadf.index import expand_path

    directory = _existing_directory(arguments.directory)
    output = directory if arguments.output is None else expand_path(arguments.output)
    # Before the work, not after it.
    check_index_files(output, arguments.overwrite)
    found = discover(
        directory,
        arguments.irf,
        base_dir=output,
        progress=lambda files: progress_bar(files, len(files), "headers"),
    )
    written = write_index_files(found, output, arguments.overwrite)
    _print(found)
    say(f"{' and '.join(path.name for path in written)} written to {output}")
    return 0


def _existing_directory(name: str) -> Path:
    from obscluster.exceptions import ArchiveError
    from obscluster.gadf.index import expand_path

    directory = expand_path(name)
    if not directory.is_dir():
        what = "is a file; name its directory" if directory.exists() else "no such directory"
        raise ArchiveError(f"{directory}: {what}")
    return directory


def _print(found: Discovery) -> None:
    obs_ids = found.obs_table["OBS_ID"]
    kinds = Counter(str(kind) for kind in found.hdu_table["HDU_CLASS"])
    say(f"{len(obs_ids)} runs, OBS_ID {obs_ids[0]} to {obs_ids[-1]}")
    say(f"HDUs: {', '.join(f'{kind} ({n})' for kind, n in kinds.items())}")
    for remark in found.remarks:
        say(f"obscluster: warning: {remark}", error=True)
    for path, reason in list(found.skipped.items())[:_MAX_LINES]:
        say(f"left out: {path}: {reason}", error=True)
    if len(found.skipped) > _MAX_LINES:
        say(f"... and {len(found.skipped) - _MAX_LINES} more left out", error=True)
