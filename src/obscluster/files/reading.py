"""Text files that somebody names: read up to a limit, and none that would never end."""

from __future__ import annotations

import stat
from pathlib import Path

from obscluster.exceptions import ArchiveError

__all__ = ["megabytes", "read_text", "require_file"]

# What the shell hands over: `<(...)` and standard input. Reading these ends, as they are written by
# a process that the user has started for it; a FIFO in a directory may never have a writer.
_HANDED_OVER = ("/dev/fd/", "/dev/stdin", "/proc/self/fd/")
_KINDS = {
    stat.S_ISDIR: "a directory",
    stat.S_ISFIFO: "a FIFO",
    stat.S_ISSOCK: "a socket",
    stat.S_ISCHR: "a device",
    stat.S_ISBLK: "a device",
}


def require_file(path: Path, name: str = "") -> int:
    """Check that a path leads to a file, or to what the shell hands over in place of one.

    Parameters
    ----------
    path : `~pathlib.Path`
        The file.
    name : str
        What to call it in messages; the path unless told.

    Returns
    -------
    size : int
        Its size in bytes, 0 for what is no regular file.

    Raises
    ------
    ArchiveError
        If it is not there, or is something else.
    """
    name = name or str(path)
    if "\0" in str(path):
        raise ArchiveError(f"{name!r}: holds a NUL character, which no path has")
    try:
        status = path.stat()
    except OSError as error:
        raise ArchiveError(f"{name}: cannot be read ({error.strerror})") from None
    if stat.S_ISREG(status.st_mode):
        return status.st_size
    kind = next((text for test, text in _KINDS.items() if test(status.st_mode)), "no file")
    if kind == "a directory" or not str(path.absolute()).startswith(_HANDED_OVER):
        raise ArchiveError(f"{name}: cannot be read (is {kind}; name a file)")
    return 0


def read_text(path: Path, most: int, name: str = "", what: str = "such a file") -> str:
    """Content of a text file in UTF-8, without a byte order mark.

    Parameters
    ----------
    path : `~pathlib.Path`
        The file; a FIFO or a device only if the shell hands it over.
    most : int
        Largest number of bytes.
    name : str
        What to call the file in messages; the path unless told.
    what : str
        What kind of file it is, for the message on its size.

    Raises
    ------
    ArchiveError
        If it cannot be read, is larger, or is no text; the message says where.
    """
    name = name or str(path)
    size = require_file(path, name)
    try:
        with path.open("rb") as file:
            content = b"" if size > most else file.read(most + 1)
    except OSError as error:
        raise ArchiveError(f"{name}: cannot be read ({error.strerror})") from None
    if max(size, len(content)) > most:
        given = megabytes(size) if size else f"more than {megabytes(most)}"
        raise ArchiveError(
            f"{name}: has {given}, {what} may have {megabytes(most)}; is it the right file?"
        )
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise ArchiveError(f"{name}: not a text file in UTF-8 but in UTF-16; save it as UTF-8")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ArchiveError(
            f"{name}, line {line}: not a text file in UTF-8 (byte 0x{content[error.start]:02x}); "
            "save it as UTF-8"
        ) from None


def megabytes(size: int) -> str:
    """A number of bytes in words; whole ones below a thousand, else with four digits."""
    return f"{size} bytes" if size < 1000 else f"{size / 1e6:.4g} MB"
