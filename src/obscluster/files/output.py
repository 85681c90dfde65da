"""The one way to write: whole or not at all, by one process at a time, and nothing else is touched.

`results_directory` is for a directory of results, `write_file` for a single file, and `reserved`
for what holds an output while it works: its lock, and a place beside it for what is not done yet.
Everything is written beside its place, in directories and files named
``.NAME.<8 digits>.obscluster``; what is left of those by writers that died is removed by the next.
"""

from __future__ import annotations

import re
import secrets
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from obscluster.exceptions import ArchiveError, RequestError
from obscluster.files.exchange import (
    LOCK_SUFFIX,
    NEW,
    beside,
    check_not_inside,
    completed,
    files_in,
    locked,
    may_write,
    move_in,
    publish,
    repair,
)
from obscluster.files.records import LIST_FILE, checksum, is_sealed, list_text, listed, sealed
from obscluster.files.yaml import read_yaml

__all__ = [
    "LEFT",
    "Output",
    "added_files",
    "check_file",
    "check_output",
    "check_outside",
    "recorded",
    "replaced_directory",
    "reserved",
    "results_directory",
    "write_file",
    "write_list",
]

_SUFFIX = ".obscluster"
LEFT = f".*{_SUFFIX}"
"""Pattern of what is beside an output while it is worked on, or was left when it was killed."""
_INDEX = ("hdu-index.fits.gz", "hdu-index.fits")
# Records of versions before that had no list of files: each names its own.
_OLD_RECORDS = {"group": "groups.yaml", "reduce": "reduction.yaml", "fit": "fit.yaml"}


@dataclass(eq=False)
class Output:
    """An output that this process alone may write, while it is `reserved`.

    Parameters
    ----------
    path : `~pathlib.Path`
        As the user named it.
    place : `~pathlib.Path`
        The same without links.
    is_owner : bool
        Whether the lock was taken for this; False within another of the same output.
    """

    path: Path
    place: Path
    is_owner: bool
    _container: Path | None = field(default=None, init=False)

    @property
    def container(self) -> Path:
        """Directory for what is not done yet; gone when the output is not reserved any more."""
        if self._container is None:
            self._container = _new_beside(self.place)
            self._container.mkdir()
        return self._container

    def staging(self) -> Path:
        """A new directory, for what `publish` puts in place."""
        path = self.container / NEW
        path.mkdir()
        return path

    def kept(self, name: str, fill: Callable[[Path], object] | None = None) -> Path:
        """Directory in the container that is that of an earlier writer, if it has left one.

        Otherwise it is new, and as ``fill`` has filled it.
        """
        target = self.container / name
        for other in _left(self.place):
            if not target.exists() and (other / name).is_dir():
                (other / name).rename(target)
        if not target.exists():
            draft = self.container / f".{name}"
            draft.mkdir()
            if fill is not None:
                fill(draft)
            draft.rename(target)
        return target

    def publish(self, ours: Collection[str], stale: Collection[str] = ()) -> None:
        """Put what is in `NEW` in the container in place, see `exchange.publish`."""
        publish(self.container, self.place, ours, stale)


def check_output(output: Path, overwrite: bool = False, archive: Path | None = None) -> None:
    """Check that results can go into a directory.

    Parameters
    ----------
    output : `~pathlib.Path`
        The directory.
    overwrite : bool
        Whether there may be results in it.
    archive : `~pathlib.Path`, optional
        Directory of the archive that is read; one at a URL is no matter.

    Raises
    ------
    RequestError
        If it is a file, cannot be written, is not empty and must not be overwritten, or is, holds,
        or lies in an archive.
    """
    if output.exists() and not output.is_dir():
        raise RequestError(f"output {output}: is a file; name a directory")
    _check_place(output)
    check_outside(output, archive)
    # A lock, and what a writer that died has left, are no content.
    if not overwrite and output.is_dir() and not all(map(_is_passing, output.iterdir())):
        raise RequestError(
            f"output {output}: is not empty; name a new directory, or pass --overwrite "
            "(overwrite=True) to replace the results in it"
        )


@contextmanager
def reserved(
    output: Path,
    overwrite: bool = False,
    archive: Path | None = None,
    keep: str | None = None,
) -> Iterator[Output]:
    """Hold the lock of a directory of results, and remove what writers that died have left.

    Parameters
    ----------
    output, overwrite, archive
        See `check_output`.
    keep : str, optional
        Directory in the `Output.container` that is left for the next writer unless all goes well.

    Yields
    ------
    output : `Output`
        The output.

    Raises
    ------
    RequestError
        As `check_output`, or if another process is at work in it.
    """
    with _reserved(output, partial(check_output, output, overwrite, archive), keep) as held:
        yield held


@contextmanager
def _reserved(output: Path, check: Callable[[], None], keep: str | None = None) -> Iterator[Output]:
    _checked(output, check, keep)
    with _held(output) as held:
        repair(held.place)
        # Things may have changed until the lock was there.
        check()
        if held.is_owner:
            _sweep(held.place, keep)
        try:
            yield held
        except BaseException:
            _discard(held, keep)
            raise
        _discard(held, None)


@contextmanager
def results_directory(
    output: Path,
    kind: str,
    overwrite: bool = False,
    archive: Path | None = None,
    with_kinds: Collection[str] = (),
    drop: Collection[str] = (),
) -> Iterator[Path]:
    """Directory to write into, which takes the place of the output when all went well.

    Parameters
    ----------
    output : `~pathlib.Path`
        Where the files are to be. Results of the same kind in it are replaced, also those of which
        there is no new one; other files in it stay.
    kind : str
        What is written: the name of the command.
    overwrite, archive
        See `check_output`.
    with_kinds : collection of str
        Other kinds of results that go with the old ones.
    drop : collection of str
        Other files that go, by relative name.

    Yields
    ------
    staging : `~pathlib.Path`
        A new directory. It is removed if an error occurs.

    Raises
    ------
    RequestError
        As `reserved`, or if a file is in the way that is not recorded as ours.
    """
    with reserved(output, overwrite, archive) as held:
        staging = held.staging()
        yield staging
        kinds = listed(held.place) or _recorded_before(held.place)
        ours = recorded(held.place) | set(drop)
        stale = {name for old in (kind, *with_kinds) for name in kinds.pop(old, {})} | set(drop)
        new = {name: checksum(staging / name) for name in files_in(staging)}
        write_list(staging, held.place, {kind: new}, with_kinds)
        held.publish(ours, stale)


@contextmanager
def replaced_directory(output: Path, check: Callable[[], None]) -> Iterator[Path]:
    """Directory to write into, which takes the place of the output and of all that is in it.

    Parameters
    ----------
    output : `~pathlib.Path`
        Where the files are to be.
    check : callable
        Raises unless all that is there may go. It is called before the work and after it.

    Yields
    ------
    staging : `~pathlib.Path`
        A new directory. It is removed if an error occurs.
    """
    with _reserved(output, check) as held:
        staging = held.staging()
        yield staging
        check()
        there = files_in(held.place) if held.place.is_dir() else set()
        held.publish(there, there)


@contextmanager
def added_files(
    directory: Path, check: Callable[[], None], stale: Collection[str] = ()
) -> Iterator[Path]:
    """Directory to write into, whose files come into another one, all or none.

    Parameters
    ----------
    directory : `~pathlib.Path`
        Where the files are to be; files of the same name are replaced.
    check : callable
        Raises unless they may be. It is called before the work and after it.
    stale : collection of str
        Files that go.

    Yields
    ------
    staging : `~pathlib.Path`
        A new directory. It is removed if an error occurs.
    """
    with _reserved(directory, check) as held:
        staging = held.staging()
        yield staging
        check()
        held.place.mkdir(exist_ok=True)
        move_in(held.container, held.place, files_in(staging), set(stale))


def write_file(
    path: Path,
    content: bytes | str,
    overwrite: bool = False,
    force: bool = False,
    archive: Path | None = None,
) -> None:
    """Write a single file, whole or not at all.

    Parameters
    ----------
    path : `~pathlib.Path`
        The file.
    content : bytes or str
        What goes into it, with `checksums.UNSEALED` somewhere.
    overwrite : bool
        Replace one that is there, if it is as it was written.
    force : bool
        Replace any file.
    archive
        See `check_output`.

    Raises
    ------
    RequestError
        If it cannot be written, or another one is there that must not be replaced.
    """
    _checked(path, partial(check_file, path, overwrite, force, archive))
    data = content.encode() if isinstance(content, str) else content
    with _held(path) as held:
        check_file(path, overwrite, force, archive)
        if held.is_owner:
            _sweep(held.place, None)
        new = _new_beside(held.place)
        try:
            new.write_bytes(sealed(data))
            new.replace(held.place)
        except OSError as error:
            raise RequestError(f"output {path}: cannot be written ({error.strerror})") from None
        finally:
            completed(partial(new.unlink, missing_ok=True))


def check_file(
    path: Path, overwrite: bool = False, force: bool = False, archive: Path | None = None
) -> None:
    """Check that a single file can be written; see `write_file`."""
    if path.is_dir():
        raise RequestError(f"output {path}: is a directory; name a file")
    _check_place(path.parent)
    check_outside(path, archive)
    if force or not path.exists():
        return
    if not overwrite:
        raise RequestError(f"output {path}: is there already; name another, or pass --overwrite")
    try:
        is_ours = is_sealed(path.read_bytes())
    except OSError as error:
        raise RequestError(f"output {path}: cannot be read ({error.strerror})") from None
    if not is_ours:
        raise RequestError(
            f"output {path}: was changed since obscluster wrote it, or is not of obscluster; name "
            "another, or pass --force (force=True) to replace it"
        )


@contextmanager
def _held(output: Path) -> Iterator[Output]:
    """Hold the lock of a file or a directory; parents are made, and go again if nothing comes."""
    place = output.absolute().resolve()
    missing = [parent for parent in place.parents if not parent.exists()]
    with ExitStack() as stack:
        for parent in reversed(missing):
            stack.callback(_remove_if_empty, parent)
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            check_not_inside(place)
            is_owner = stack.enter_context(locked(place))
        except OSError as error:
            raise RequestError(
                f"output {output}: cannot be written ({error.strerror or error})"
            ) from None
        yield Output(output, place, is_owner)


def _checked(output: Path, check: Callable[[], None], keep: str | None = None) -> None:
    """Check an output; also where that fails, what dead writers have left of it goes."""
    try:
        check()
    except RequestError:
        place = output.absolute().resolve()
        if _left(place) or (place.parent / f".{place.name}{LOCK_SUFFIX}").exists():
            with suppress(RequestError), _held(output) as held:
                if held.is_owner:
                    _sweep(held.place, keep)
        raise


def _remove_if_empty(directory: Path) -> None:
    with suppress(OSError):
        directory.rmdir()


def _check_place(directory: Path) -> None:
    place = next(path for path in (directory, *directory.absolute().parents) if path.exists())
    if not place.is_dir():
        raise RequestError(f"output {directory}: cannot be written, {place} is a file")
    if not may_write(place):
        raise RequestError(f"output {directory}: {place} is read-only; name another directory")


def check_outside(output: Path, archive: Path | None = None, what: str = "output") -> None:
    """Check that an output is no directory of an archive, holds none and lies in none.

    Parameters
    ----------
    output : `~pathlib.Path`
        The output.
    archive : `~pathlib.Path`, optional
        An archive beside those that have index files in or above the output.
    what : str
        How the message names it.

    Raises
    ------
    RequestError
        If it does.
    """
    place = output.absolute().resolve()
    known = [archive.resolve()] if isinstance(archive, Path) and archive.is_dir() else []
    around = [path for path in (place, *place.parents) if any((path / n).exists() for n in _INDEX)]
    for directory in (*known, *around):
        if directory == place:
            how = "is the directory of an archive"
        elif directory in place.parents:
            how = f"lies in the archive {directory}"
        elif place in directory.parents:
            how = f"holds the archive {directory}"
        else:
            continue
        raise RequestError(f"{what} {output}: {how}, where nothing is written; name another place")


def write_list(
    staging: Path,
    place: Path,
    new: Mapping[str, Mapping[str, str]],
    gone: Collection[str] = (),
) -> None:
    """Write the list of files of results that are about to replace others.

    Parameters
    ----------
    staging, place : `~pathlib.Path`
        Where they are, and where they go.
    new : mapping
        Kind of result to its files, each with its checksum.
    gone : collection of str
        Kinds that will be no more. All others stay in the list.
    """
    names = {name for files in new.values() for name in files}
    kept = {
        kind: {name: value for name, value in files.items() if name not in names}
        for kind, files in listed(place).items()
        if kind not in gone
    }
    # Not into the file itself, which may be that of earlier results, too.
    draft = staging / f".{LIST_FILE}"
    draft.write_text(list_text({**kept, **new}), encoding="utf-8")
    draft.replace(staging / LIST_FILE)


def recorded(directory: Path) -> set[str]:
    """Files that are recorded as results of obscluster, and their list, by relative name."""
    kinds = listed(directory)
    own_list = {LIST_FILE} if kinds else set()
    kinds = kinds or _recorded_before(directory)
    return {name for files in kinds.values() for name in files} | own_list


def _recorded_before(directory: Path) -> dict[str, dict[str, str]]:
    """Files that results of versions before say are theirs, by kind and plain name."""
    found: dict[str, dict[str, str]] = {}
    for kind, record in _OLD_RECORDS.items():
        try:
            files = read_yaml(directory / record).get("files")
        except ArchiveError:
            continue
        names = files if isinstance(files, list) else []
        plain = {name for name in names if isinstance(name, str) and Path(name).name == name}
        found[kind] = dict.fromkeys({*plain, record}, "")
    return found


def _is_passing(path: Path) -> bool:
    return path.name.startswith(".") and path.name.endswith((LOCK_SUFFIX, _SUFFIX))


def _new_beside(place: Path) -> Path:
    digits = secrets.token_hex(4)
    if beside(place):
        return place.parent / f".{place.name}.{digits}{_SUFFIX}"
    return place / f".{digits}{_SUFFIX}"


def _left(place: Path) -> list[Path]:
    """What writers of an output have made for the time of their work."""
    digits = r"\.[0-9a-f]{8}" + re.escape(_SUFFIX)
    patterns = {place.parent: re.escape(f".{place.name}") + digits}
    if place.is_dir():
        patterns[place] = digits
    found = []
    for directory, pattern in patterns.items():
        with suppress(OSError):
            found += [path for path in directory.iterdir() if re.fullmatch(pattern, path.name)]
    return sorted(found)


def _sweep(place: Path, keep: str | None) -> None:
    """Remove what is left of writers that are dead, but for a directory that goes on being used."""
    for path in _left(place):
        if keep is not None and (path / keep).is_dir() and any((path / keep).iterdir()):
            for other in path.iterdir():
                if other.name != keep:
                    _remove(other)
        else:
            _remove(path)


def _discard(held: Output, keep: str | None) -> None:
    if held.is_owner:
        completed(partial(_sweep, held.place, keep))
    elif held._container is not None:
        completed(partial(_remove, held._container))


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
