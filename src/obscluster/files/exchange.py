"""A directory of results takes the place of another as a whole.

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
import sys
from collections.abc import Collection
from contextlib import suppress
from functools import partial
from pathlib import Path, PurePosixPath

from obscluster.exceptions import ArchiveError, RequestError
from obscluster.files.locks import beside, check_nobody_below, completed, locked

__all__ = ["NEW", "carry", "files_in", "link_or_copy", "move_in", "publish", "repair"]

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
    _check_conflicts(place, new, there, set(ours))
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


def _check_conflicts(place: Path, new: set[str], there: set[str], ours: set[str]) -> None:
    others = there - ours
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
