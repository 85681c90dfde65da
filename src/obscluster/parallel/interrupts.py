"""Interrupts of the user and requests of the system to end, wherever they arrive.

Python raises an interrupt in whatever happens to run. Some of that cannot raise, such as finalizers
and callbacks of weak references, and some compiled code drops or renames all errors, such as that
of modules while they are loaded. The command would go on as if nothing had been said, or blame
something else. An interrupt here notices when it is dropped, and is sent again.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

__all__ = ["Interrupt", "no_interrupt_lost"]

# Longer than a callback takes, and shorter than a user waits before trying again.
_PAUSE = 0.01


class Interrupt(KeyboardInterrupt):
    """One that calls a function when nothing holds it any more.

    Parameters
    ----------
    number : int
        The signal.
    on_end : callable
        The function.
    is_late : bool
        Whether all was done already.
    """

    def __init__(self, number: int, on_end: Callable[[], None], is_late: bool = False):
        super().__init__()
        self.number = number
        self.is_late = is_late
        self._on_end = on_end

    def __del__(self) -> None:
        self._on_end()


@contextmanager
def no_interrupt_lost() -> Iterator[None]:
    """Within it, an interrupt ends what is done, wherever it arrives, and so does SIGTERM.

    It does so in the main thread of a process that leaves interrupts and alarms to Python and the
    system; otherwise it does nothing.

    Raises
    ------
    Interrupt
        If there was an interrupt, even if another error was made of it; its number says which.
    """
    if not _can_handle():
        yield
        return
    before = sys.unraisablehook
    asked = 0
    is_over = False

    def on_interrupt(number: int, _: Any) -> None:
        nonlocal asked
        # An alarm repeats what was asked.
        asked = asked if number == signal.SIGALRM else number
        raise Interrupt(asked, on_end)

    def on_end() -> None:
        if not is_over:
            # An alarm also ends what the process waits for.
            signal.setitimer(signal.ITIMER_REAL, _PAUSE)

    def on_unraisable(unraisable: UnraisableHookArgs) -> None:
        if not issubclass(unraisable.exc_type, Interrupt):
            before(unraisable)

    sys.unraisablehook = on_unraisable
    signal.signal(signal.SIGALRM, on_interrupt)
    signal.signal(signal.SIGINT, on_interrupt)
    terminate = signal.signal(signal.SIGTERM, on_interrupt)
    try:
        yield
    except Exception as error:
        if asked:
            raise Interrupt(asked, _nothing) from error
        raise
    else:
        # It was dropped so late that there was no time to repeat it.
        if asked:
            raise Interrupt(asked, _nothing, is_late=True)
    finally:
        is_over = True
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, terminate)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        sys.unraisablehook = before


def _nothing() -> None:
    pass


def _can_handle() -> bool:
    return (
        hasattr(signal, "setitimer")
        and threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGINT) is signal.default_int_handler
        and signal.getsignal(signal.SIGALRM) is signal.SIG_DFL
    )
