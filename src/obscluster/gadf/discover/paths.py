"""Which files are meant: by path, list, pattern or directory."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from obscluster.exceptions import ArchiveError, RequestError
from obscluster.gadf.index import HDU_INDEX, OBS_INDEX, expand_path
from obscluster.gadf.unpack import file_kind

__all__ = ["Paths", "common_directory", "find_files", "is_file", "relative_directory"]

Paths = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]
"""A path, a pattern, a directory, or several of them."""

_SUFFIXES = (".fits", ".fits.gz", ".fit", ".fit.gz")
_INDEX_NAMES = tuple(f"{kind}{suffix}" for kind in (OBS_INDEX, HDU_INDEX) for suffix in _SUFFIXES)


def find_files(paths: Paths) -> list[Path]:
    """Files for what a user names, each once.

    Parameters
    ----------
    paths : path, pattern, directory, or several of them
        ``~`` and environment variables are expanded; a pattern may hold ``**``. Of a directory,
        the FITS files in it and below it; hidden files and index files are left out.

    Returns
    -------
    files : list of `~pathlib.Path`
        In the order asked; those of a pattern or directory are sorted.

    Raises
    ------
    ArchiveError
        If a path leads to no file.
    RequestError
        If there is no path, or an environment variable is not set.
    """
    several = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    if not several:
        raise RequestError("no files named; name files, a pattern or a directory")
    files: dict[str, Path] = {}
    for path in several:
        for file in _expand(expand_path(path)):
            files.setdefault(os.path.realpath(file), file)
    return list(files.values())


def _expand(path: Path) -> list[Path]:
    if path.is_dir():
        found = sorted(_walk(path, set()))
        if not found:
            raise ArchiveError(f"{path}: no file {', '.join(_SUFFIXES)} in it or below it")
        return found
    if is_file(path):
        return [path]
    if glob.has_magic(str(path)):
        # Path.glob takes no absolute pattern.
        names = glob.glob(str(path), recursive=True)  # noqa: PTH207
        found = sorted(file for name in names if is_file(file := Path(name)))
        if not found:
            raise ArchiveError(f"{path}: no file matches the pattern")
        return found
    if what := file_kind(path):
        raise ArchiveError(f"{path}: is {what}; expected a file, a pattern or a directory")
    raise ArchiveError(f"{path}: no such file or directory; check the path")


def _walk(directory: Path, seen: set[str]) -> Iterator[Path]:
    """FITS files below a directory; links to directories are followed, in circles only once."""
    real = os.path.realpath(directory)
    if real in seen:
        return
    seen.add(real)
    try:
        entries = list(directory.iterdir())
    except OSError as error:
        raise ArchiveError(f"{directory}: cannot be read ({error.strerror})") from None
    for path in entries:
        if path.name.startswith("."):
            continue
        if path.is_dir():
            yield from _walk(path, seen)
        elif path.name.lower().endswith(_SUFFIXES) and path.name not in _INDEX_NAMES:
            yield path


def is_file(path: Path) -> bool:
    """Whether this is a file; a name that no file can have is none."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def common_directory(files: Iterable[Path]) -> Path:
    """Deepest directory that holds all files."""
    return Path(os.path.commonpath([file.parent.absolute() for file in files]))


def relative_directory(file: Path, base: Path) -> str:
    """Directory of a file as FILE_DIR: relative to the base directory, in POSIX notation."""
    directory, base = file.parent.absolute(), base.absolute()
    if ".." not in (*directory.parts, *base.parts) and directory.is_relative_to(base):
        return directory.relative_to(base).as_posix()
    # A ".." means the parent of where a link leads to, so the way goes over the real directories.
    return Path(os.path.relpath(os.path.realpath(directory), os.path.realpath(base))).as_posix()
