"""``obscluster info``: what is in an archive."""

from __future__ import annotations

import argparse
from typing import Any

from obscluster.cli.common import add_command, progress_bar

EXAMPLES = """\
examples:
  obscluster info $GAMMAPY_DATA/hess-dl3-dr1
"""


def add(commands: Any) -> None:
    """Describe the arguments."""
    command = add_command(commands, "info", "say what is in an archive", EXAMPLES, run)
    command.add_argument("archive", help="directory with obs-index and hdu-index files")


def run(arguments: argparse.Namespace) -> int:
    """Print the description of an archive."""
    from obscluster.info import describe_archive
    from obscluster.store import DataStore

    data_store = DataStore.from_dir(arguments.archive)
    total = len(data_store.obs_table)
    print(describe_archive(data_store, lambda rows: progress_bar(rows, total, "headers")))
    return 0
