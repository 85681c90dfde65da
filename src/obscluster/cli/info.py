"""``obscluster info``: what is in an archive."""

from __future__ import annotations

import argparse
from functools import partial
from typing import Any

from obscluster.cli.common import add_archive, add_command, archive_of, progress_bar

EXAMPLES = """\
examples:
  obscluster info $GAMMAPY_DATA/hess-dl3-dr1
  the same, with the livetimes of the index held against the good time intervals of all runs:
    obscluster info $GAMMAPY_DATA/hess-dl3-dr1 --all
"""


def add(commands: Any) -> None:
    """Describe the arguments."""
    command = add_command(commands, "info", "say what is in an archive", EXAMPLES, run)
    add_archive(command)
    command.add_argument(
        "--all", action="store_true", help="verify livetimes by the good time intervals of all runs"
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the description of an archive."""
    from obscluster.info import describe_archive
    from obscluster.store import DataStore

    data_store = DataStore.from_dir(*archive_of(arguments))
    total = len(data_store.obs_table)
    wrap = partial(progress_bar, total=total, what="headers")
    print(describe_archive(data_store, wrap, arguments.all))
    return 0
