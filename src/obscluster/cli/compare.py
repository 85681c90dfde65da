"""``obscluster compare``: two groupings of the same runs."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from obscluster.cli.common import add_command, add_trust

EXAMPLES = """\
example:
  are the groups by response those by zenith angle?
    obscluster compare by-response/ by-zenith/
"""


def add(commands: Any) -> None:
    """Describe the arguments."""
    command = add_command(commands, "compare", "compare two groupings", EXAMPLES, run)
    for name in ("first", "second"):
        command.add_argument(name, type=Path, help="groups.yaml, or the directory that has it")
    add_trust(command)


def run(arguments: argparse.Namespace) -> int:
    """Compare, and tell."""
    from obscluster.assessment import compare
    from obscluster.grouping.base import Grouping

    paths = (arguments.first, arguments.second)
    first, second = (Grouping.read(path, arguments.trust) for path in paths)
    print(compare(first, second))
    return 0
