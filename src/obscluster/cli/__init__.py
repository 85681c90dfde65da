"""Command line: parse, call the pipeline, return an exit code.

0: done; 1: done, and something was found, or a fit did not converge; 2: the request cannot be met;
3: done, but files could not be read, where ``--strict`` was asked for; 130 and 143: interrupted and
terminated.

Every command has a function ``add_<command>``, which describes its arguments, and one that runs it:

- `archives`: info, check, index, features, init, simulate.
- `groupings`: group, run, assess, report, frontier, compare, assign.
- `reductions`: reduce, fit.
- `options`: arguments that several commands share; `terminal`: what they print.

Loading astropy takes a second, so a command imports what it needs when it runs, and ``--help``
answers at once.
"""

from __future__ import annotations

import argparse
import logging
import signal
import sys
import warnings
from collections.abc import Sequence
from typing import Any, NoReturn

from obscluster.cli import archives, groupings, reductions
from obscluster.cli.terminal import LogFormatter, guarded, say, show_traceback
from obscluster.exceptions import ObsClusterError, ObsClusterWarning, printable
from obscluster.parallel.interrupts import no_interrupt_lost
from obscluster.version import __version__

__all__ = ["main"]

# In the order in which they are listed.
_COMMANDS = (
    *(archives.add_info, archives.add_check, archives.add_index, archives.add_features),
    *(groupings.add_group, archives.add_init, groupings.add_run),
    *(groupings.add_assess, groupings.add_report, groupings.add_frontier),
    *(groupings.add_compare, groupings.add_assign),
    *(reductions.add_reduce, reductions.add_fit, archives.add_simulate),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments; those of the process unless told.

    Returns
    -------
    code : int
        Exit code.
    """
    with guarded():
        return _run(make_parser().parse_args(argv))


def _run(arguments: argparse.Namespace) -> int:
    # It takes warnings into its own hands when it is loaded, and must not do so later.
    import astropy  # noqa: F401

    if arguments.debug:
        handler = logging.StreamHandler()
        handler.setFormatter(LogFormatter())
        logging.basicConfig(level=logging.WARNING, handlers=[handler])
        logging.getLogger("obscluster").setLevel(logging.DEBUG)
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        try:
            with no_interrupt_lost():
                return int(arguments.run(arguments))
        except ObsClusterError as error:
            # An error may have several lines; what they hold is escaped.
            print(f"obscluster: error: {error}", file=sys.stderr)
            return 2
        except KeyboardInterrupt as error:
            number = getattr(error, "number", signal.SIGINT)
            what = "interrupted" if number == signal.SIGINT else "terminated"
            is_late = getattr(error, "is_late", False)
            then = "all was done already" if is_late else arguments.interrupted
            say(f"obscluster: {what}; {then}", error=True)
            return 128 + number
        except BrokenPipeError:
            # The reader of our output, such as `head`, has seen enough.
            sys.stderr.close()
            return 0
        except OSError as error:
            # A full disk, a directory that went away: what nobody nearer has expected.
            if arguments.debug:
                show_traceback(error)
            where = f"{error.filename}: " if error.filename else ""
            text = error.strerror or str(error) or type(error).__name__
            say(f"obscluster: error: {where}{text}; --debug shows where", error=True)
            return 2
        except Exception as error:  # noqa: BLE001 shown, with an exit code of its own
            # Python would print it too, but after the streams are watched no more.
            show_traceback(error)
            say(
                "obscluster: error: this was not expected; please report the lines above",
                error=True,
            )
            return 2


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, whatever the arguments hold."""

    def error(self, message: str) -> NoReturn:
        super().error(printable(message))


def make_parser() -> argparse.ArgumentParser:
    """Parser of all commands."""
    parser = _Parser(
        prog="obscluster",
        description="Group gamma-ray observations by observing conditions and instrument response.",
        epilog='example: obscluster info archive/   ("obscluster COMMAND --help" tells more)',
    )
    parser.add_argument("--version", action="version", version=f"obscluster {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for add_command in _COMMANDS:
        add_command(commands)
    return parser


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: Any = None,
    line: str | None = None,
) -> None:
    del file, line
    ours = issubclass(category, ObsClusterWarning)
    where = "" if ours else f" ({category.__name__}, {filename}:{lineno})"
    say(f"obscluster: warning: {message}{where}", error=True)
