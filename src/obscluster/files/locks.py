"""Who may write an output: one process at a time, and none that is dead.

The lock of an output is a file beside it that its owner holds locked. The system gives it up when
the owner ends, however it ends, so that what is found under a lock that one has just got belongs
to nobody.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import partial
from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

from obscluster.exceptions import RequestError

__all__ = [
    "LOCK_SUFFIX",
    "beside",
    "check_nobody_below",
    "check_not_inside",
    "completed",
    "locked",
    "may_write",
]

LOCK_SUFFIX = ".obscluster.lock"


def may_write(directory: Path) -> bool:
    """Whether files of a directory may be made and renamed.

    Modes count for root, too: what is marked read-only is not ours to change.
    """
    try:
        is_marked = not directory.stat().st_mode & 0o222
    except OSError:
        return False
    return not is_marked and os.access(directory, os.W_OK | os.X_OK)


def beside(place: Path) -> bool:
    """Whether what is needed to write an output can stand beside it, rather than in it."""
    return not place.is_dir() or (may_write(place.parent) and not os.path.ismount(place))


def completed(function: Callable[[], object]) -> None:
    """Call what may be called twice; an interrupt that arrives meanwhile is raised after it."""
    try:
        function()
    except KeyboardInterrupt:
        function()
        raise


@contextmanager
def locked(place: Path, wait: float = 0) -> Iterator[bool]:
    """Hold the lock of an output.

    Parameters
    ----------
    place : `~pathlib.Path`
        The output, without links. Whoever holds its lock already in this process gets it again.
    wait : float
        For how long to wait for another process, in seconds.

    Yields
    ------
    is_owner : bool
        Whether the lock was taken here: False within another `locked` of the same process, and
        where the file system has no locks.

    Raises
    ------
    RequestError
        If another process has it; the message names host, process and time.
    OSError
        If the lock cannot be made, such as in a read-only place.
    """
    path = _lock_path(place)
    # The same object for the same path. It is not inherited by processes that fork.
    lock = FileLock(path, thread_local=False, is_singleton=True)
    try:
        lock.acquire(timeout=wait)
    except Timeout:
        raise RequestError(f"output {place}: {_told(path)}") from None
    except OSError:
        if not may_write(path.parent):
            raise
        # Two writers at once are then for the user to avoid, and nothing is swept.
        yield False
        return
    is_owner = lock.lock_counter == 1
    try:
        if is_owner:
            now = datetime.now().astimezone().isoformat(timespec="seconds")
            path.write_text(f"{socket.gethostname()} process {os.getpid()} since {now}\n")
        yield is_owner
    finally:
        if is_owner:
            completed(partial(_give_up, lock, path))
        else:
            lock.release()


def _give_up(lock: BaseFileLock, path: Path) -> None:
    if lock.is_locked:
        # While it is held: whoever waits for this file sees that it is gone, and makes another.
        with suppress(OSError):
            path.unlink()
    lock.release()


def check_not_inside(place: Path) -> None:
    """Check that no other process is about to replace a directory around an output.

    Raises
    ------
    RequestError
        If one is; the message names it.
    """
    for directory in place.parents:
        _check_free(directory / LOCK_SUFFIX)
        _check_free(directory.parent / f".{directory.name}{LOCK_SUFFIX}")


def check_nobody_below(place: Path) -> None:
    """Check that no other process writes to something within an output.

    Raises
    ------
    RequestError
        If one does; the message names it.
    """
    for path in place.rglob(f"*{LOCK_SUFFIX}"):
        _check_free(path)


def _check_free(path: Path) -> None:
    if not path.is_file():
        return
    lock = FileLock(path, thread_local=False, is_singleton=True)
    try:
        with lock.acquire(timeout=0):
            pass
    except Timeout:
        raise RequestError(f"{path.parent}: {_told(path)}") from None
    except OSError:
        return


def _lock_path(place: Path) -> Path:
    if beside(place):
        return place.parent / f".{place.name}{LOCK_SUFFIX}"
    return place / LOCK_SUFFIX


def _told(path: Path) -> str:
    try:
        owner = path.read_text().strip()
    except (OSError, UnicodeDecodeError):
        owner = ""
    return (
        f"another command is at work in it ({owner or 'it has not said which'}); wait for it, or "
        "name another output"
    )
