"""What the commands share."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from typing import Any

__all__ = ["add_command", "progress_bar"]


def add_command(
    commands: Any,
    name: str,
    summary: str,
    examples: str,
    run: Callable[[argparse.Namespace], int],
    interrupted: str = "results appear whole or not at all",
) -> argparse.ArgumentParser:
    """Add a command whose help ends with examples, and which is run by a function.

    ``interrupted`` says where things stand when the user ends it in the middle.
    """
    command: argparse.ArgumentParser = commands.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.",
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.set_defaults(run=run, interrupted=interrupted)
    return command


def progress_bar(iterable: Iterable[Any], total: int, what: str) -> Iterable[Any]:
    """Bar on stderr for anything longer than a second; silent when that is not a terminal."""
    from tqdm import tqdm

    return tqdm(iterable, desc=what, total=total, unit="run", delay=1, leave=False, disable=None)
