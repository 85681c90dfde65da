"""Interrupts of the user that arrive where they would be lost, or taken for something else.

Callbacks of weak references, finalizers and the like cannot raise: what goes wrong in them is
printed, and forgotten. Where such a function happens to run when the user interrupts, the command
would go on as if nothing had been said. And compiled modules make an ImportError of an interrupt
that arrives while they are loaded.
"""

from __future__ import annotations

import _thread
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

__all__ = ["no_interrupt_lost"]

# Longer than a callback takes, and shorter than a user waits before trying again.
_PAUSE = 0.01


@contextmanager
def no_interrupt_lost() -> Iterator[None]:
    """Within it, an interrupt that cannot be raised where it arrives is raised a moment later.

    Raises
    ------
    KeyboardInterrupt
        If there was one, even if something else was made of it.
    """
    before = sys.unraisablehook
    is_over = False

    def send_again(thread: int) -> None:
        time.sleep(_PAUSE)
        if is_over:
            return
        if hasattr(signal, "pthread_kill"):
            # A signal also ends what the thread waits for.
            signal.pthread_kill(thread, signal.SIGINT)
        else:
            _thread.interrupt_main()

    def on_unraisable(unraisable: UnraisableHookArgs) -> None:
        if issubclass(unraisable.exc_type, KeyboardInterrupt):
            # `threading` has locks, one of which may be held where the callback came in between.
            _thread.start_new_thread(send_again, (threading.get_ident(),))
        else:
            before(unraisable)

    sys.unraisablehook = on_unraisable
    try:
        yield
    except Exception as error:
        if _is_of_an_interrupt(error):
            raise KeyboardInterrupt from error
        raise
    finally:
        is_over = True
        sys.unraisablehook = before


def _is_of_an_interrupt(error: BaseException | None) -> bool:
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None
