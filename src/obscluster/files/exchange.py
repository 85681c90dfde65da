"""A directory of results takes the place of another as a whole, under a lock.

The lock of an output is a file beside it that its owner holds locked. The system gives it up when
the owner ends, however it ends, so that what is found under a lock that one has just got belongs
to nobody.

Where the system can swap two directories at once (Linux: ``renameat2``), it does. Elsewhere (mount
points, places whose parent cannot be written, other systems, or where the environment variable
``OBSCLUSTER_EXCHANGE`` is ``never``), the files are moved one by one after a journal was written
that says which: whoever comes next, reader or writer, finishes what a dead writer has begun. Until
the journal is there all is old, and with it all is new.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import shutil
import socket
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import partial
from pathlib import Path, PurePosixPath

from filelock import BaseFileLock, FileLock, Timeout

from obscluster.exceptions import ArchiveError, RequestError

__all__ = [
    "LOCK_SUFFIX",
    "NEW",
    "beside",
    "carry",
    "check_nobody_below",
    "check_not_inside",
    "completed",
    "files_in",
    "link_or_copy",
    "locked",
    "may_write",
    "move_in",
    "publish",
    "repair",
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
    held = lock.lock_counter > 0
    is_owner = False
    try:
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
        is_owner = not held
        if is_owner:
            now = datetime.now().astimezone().isoformat(timespec="seconds")
            path.write_text(f"{socket.gethostname()} process {os.getpid()} since {now}\n")
        yield is_owner
    finally:
        if not held:
            # An interrupt may arrive while the file is there and not yet held.
            completed(partial(_give_up, lock, path))
        elif lock.lock_counter > 1:
            lock.release()


def _give_up(lock: BaseFileLock, path: Path) -> None:
    with suppress(Timeout, OSError):
        if not lock.is_locked and path.is_file():
            lock.acquire(timeout=0)
        if lock.is_locked:
            # While it is held: whoever waits for this file sees that it is gone, and makes another.
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


JOURNAL = ".obscluster.journal"
# Where the new files wait, in the directory of what belongs to a writer.
NEW = "new"
SWITCH = "OBSCLUSTER_EXCHANGE"
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2
# What a system says that cannot do it here.
_CANNOT = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EXDEV, errno.EBUSY, errno.EACCES)
_CANNOT_LINK = (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOSYS, errno.EOPNOTSUPP)
# For how long a reader waits for a writer that is moving its files, in seconds.
_PATIENCE = 10


def publish(
    container: Path, place: Path, ours: Collection[str], stale: Collection[str] = ()
) -> None:
    """Put new files in place of the old ones, as a whole.

    Parameters
    ----------
    container : `~pathlib.Path`
        Directory whose directory `NEW` has the new files. What is left in it is waste.
    place : `~pathlib.Path`
        Where they go. Its lock is held.
    ours : collection of str
        Files there that may be replaced, by relative name.
    stale : collection of str
        Those of them that go. All others stay.

    Raises
    ------
    RequestError
        If a file that is not ours is in the way, another process works in the directory, or there
        is no space for what is carried.
    """
    staging = container / NEW
    if not os.path.lexists(place):
        staging.rename(place)
        return
    new, there = files_in(staging), files_in(place)
    others = there - set(ours)
    directories = {parent.as_posix() for name in there for parent in PurePosixPath(name).parents}
    for name in sorted(new):
        wrong = [name] if name in others | directories else []
        parents = {parent.as_posix() for parent in PurePosixPath(name).parents}
        wrong += [parent for parent in parents & others if not (place / parent).is_dir()]
        if wrong:
            raise RequestError(
                f"output {place}: {wrong[0]} is there and is not recorded as a result of "
                "obscluster, so it is not replaced; move it away, or name another output"
            )
    check_nobody_below(place)
    if _may_swap(place):
        carry(place, staging, there - set(new) - set(stale))
        if _swap(staging, place):
            return
    move_in(container, place, new, there & set(stale) - new)


def files_in(directory: Path) -> set[str]:
    """Relative names of all that is in a directory and below it, but directories that hold more."""
    found: set[str] = set()
    for path, directories, files in os.walk(directory):
        here = Path(path).relative_to(directory)
        links = [name for name in directories if (Path(path) / name).is_symlink()]
        found |= {(here / name).as_posix() for name in (*files, *links)}
        if here.parts and not (directories or files):
            found.add(here.as_posix())
    return found


def carry(source: Path, target: Path, names: Collection[str]) -> None:
    """Make files of a directory appear in another, too: by hard links, else as copies.

    Raises
    ------
    RequestError
        If copies are needed for which there is no space.
    """
    todo = sorted(names)
    for i, name in enumerate(todo):
        old, new = source / name, target / name
        new.parent.mkdir(parents=True, exist_ok=True)
        if old.is_dir() and not old.is_symlink():
            new.mkdir(exist_ok=True)
        elif not link_or_copy(old, new, copy=False):
            _check_space(source, target, todo[i:])
            link_or_copy(old, new)
    for directory in {parent for name in todo for parent in PurePosixPath(name).parents}:
        if (source / directory).is_dir():
            shutil.copystat(source / directory, target / directory)


def link_or_copy(source: Path, target: Path, copy: bool = True) -> bool:
    """A file under a second name; whether that was done.

    What is there under the new name is replaced. Unless ``copy``, it is not copied where it cannot
    be linked.
    """
    target.unlink(missing_ok=True)
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _CANNOT_LINK:
            raise
        if not copy:
            return False
        shutil.copy2(source, target, follow_symlinks=False)
    return True


def repair(place: Path) -> None:
    """Finish what a writer had begun that died while it moved its files.

    Parameters
    ----------
    place : `~pathlib.Path`
        A directory of results, of an archive, or anything else.

    Raises
    ------
    ArchiveError
        If that is needed and not possible.
    RequestError
        If the writer is still at work.
    """
    if not (place / JOURNAL).is_file():
        return
    place = place.resolve()
    try:
        with locked(place, wait=_PATIENCE):
            if (place / JOURNAL).is_file():
                _finish(place)
    except OSError as error:
        raise ArchiveError(
            f"{place}: its writer died while it replaced files, and they cannot be put in place "
            f"here ({error.strerror or error}); read it once with the right to write there"
        ) from None


def _may_swap(place: Path) -> bool:
    if os.environ.get(SWITCH) == "never" or not beside(place):
        return False
    try:
        here = Path.cwd()
    except OSError:
        return True
    # Whoever stands in a directory would find himself in one that is gone.
    return here != place and place not in here.parents


def _swap(first: Path, second: Path) -> bool:
    """Swap two directories; False where that cannot be done."""
    if not sys.platform.startswith("linux"):
        return False
    function = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if function is None:
        return False
    shutil.copystat(second, first)
    names = os.fsencode(first), os.fsencode(second)
    if function(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in _CANNOT:
        return False
    raise OSError(code, os.strerror(code), str(second))


def move_in(container: Path, place: Path, new: set[str], stale: set[str]) -> None:
    """Put files in place one by one; from the journal on, whatever happens.

    Parameters
    ----------
    container : `~pathlib.Path`
        Directory whose directory `NEW` has the new files.
    place : `~pathlib.Path`
        Where they go. Its lock is held.
    new, stale : set of str
        Files that come and go, by relative name.
    """
    content = {
        "files": sorted(new),
        "stale": sorted(stale),
        "container": container.name,
        "beside": container.parent != place,
    }
    draft = container / "journal"
    draft.write_text(json.dumps(content), encoding="utf-8")
    draft.rename(place / JOURNAL)
    completed(partial(_finish, place))


def _finish(place: Path) -> None:
    """Do what the journal says, as far as it is not done."""
    path = place / JOURNAL
    if not path.is_file():
        return
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        new, stale = content["files"], content["stale"]
        container = place.parent if content["beside"] else place
        container /= PurePosixPath(content["container"]).name
        names = [PurePosixPath(name) for name in (*new, *stale)]
        if any(name.is_absolute() or ".." in name.parts for name in names):
            raise ValueError("a name leads out of the directory")
    except (ValueError, KeyError, TypeError) as error:
        raise ArchiveError(
            f"{path}: not a journal of obscluster ({error}); if no command is at work there, "
            "remove it"
        ) from None
    for name in new:
        source, target = container / NEW / name, place / name
        if os.path.lexists(source):
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir() and not source.is_symlink():
                target.mkdir(exist_ok=True)
            else:
                source.replace(target)
    for name in stale:
        (place / name).unlink(missing_ok=True)
        for parent in (place / name).parents:
            with suppress(OSError):
                if parent != place and place in parent.parents:
                    parent.rmdir()
    shutil.rmtree(container, ignore_errors=True)
    path.unlink()


def _check_space(source: Path, target: Path, names: Collection[str]) -> None:
    needed = sum((source / name).lstat().st_size for name in names)
    free = shutil.disk_usage(target).free
    if needed > free:
        raise RequestError(
            f"{target.parent}: {needed / 1e6:.0f} MB are needed to keep what is in {source}, and "
            f"{free / 1e6:.0f} MB are free; make room, or name an output on another disk"
        )
