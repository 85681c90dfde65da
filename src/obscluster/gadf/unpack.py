"""Where the bytes of a FITS file come from: a plain file, or a gzipped one unpacked on demand."""

from __future__ import annotations

import stat
from bisect import bisect_right
from pathlib import Path
from typing import BinaryIO, Protocol

from isal import igzip_lib, isal_zlib

from obscluster.exceptions import AbsentError, DamagedError, UnreadableError
from obscluster.gadf.remote import is_remote, open_remote

__all__ = ["Source", "file_kind", "open_source"]

GZIP_MAGIC = b"\x1f\x8b"
# Of packed data, unpacked in one go: no less than what a call is worth, and no more than what two
# workers share evenly.
MIN_STEP, MAX_STEP = 1 << 13, 1 << 20
# How much of a plain file is read around a header; the next header is often in it, too.
WINDOW = 1 << 14
# Unpacked size at which a gzipped file is taken for damaged (real run files: a few MB; the
# hdu-index of 100,000 runs: 90 MB). Small files are held to less: gzip packs zeros 1000 to 1, and
# index files, the most repetitive of real ones, not 100 to 1.
MAX_UNPACKED_BYTES = 192 << 20
SMALL_UNPACKED_BYTES = 32 << 20
MAX_RATIO = 250


class Source(Protocol):
    """Random access to the unpacked bytes of a file."""

    def read(self, start: int, stop: int) -> bytes:
        """Bytes from start to stop, fewer at the end of the file."""

    def view(self, start: int, stop: int) -> memoryview:
        """As `read`, for much data: without a copy where that can be."""

    def holds(self, stop: int) -> bool:
        """Whether there are bytes up to there."""

    def close(self) -> None:
        """Free what is held."""


def open_source(path: Path) -> Source:
    """Open a file; whether it is gzipped is seen from its first bytes, not from its name.

    Parameters
    ----------
    path : `~pathlib.Path`
        The file.

    Returns
    -------
    source
        See `Source`.

    Raises
    ------
    MissingDataError
        If there is no such file, it cannot be opened, or is no file but a directory, a pipe, a
        socket or a device: reading might never end.
    """
    if not is_remote(path) and (what := file_kind(path)):
        raise AbsentError(f"is {what}; expected a file", path)
    try:
        # Not buffered: what is read is either a header, of which the source keeps more, or long.
        file = open_remote(path) if is_remote(path) else path.open("rb", buffering=0)
        try:
            head = file.read(WINDOW)
            size = file.seek(0, 2)
        except OSError:
            file.close()
            raise
    except (FileNotFoundError, ValueError):
        # A name with a null character is no file's.
        raise AbsentError("no such file", path) from None
    except OSError as error:
        raise _unreadable(error, path) from None
    if head.startswith(GZIP_MAGIC):
        return GzipSource(file, size, path)
    return PlainSource(file, size, path, head)


def file_kind(path: Path) -> str:
    """What a path leads to, where it is there but not a file: empty for a file, or nothing."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return ""
    kinds = {
        stat.S_IFREG: "",
        stat.S_IFDIR: "a directory",
        stat.S_IFIFO: "a named pipe",
        stat.S_IFSOCK: "a socket",
    }
    return kinds.get(stat.S_IFMT(mode), "a device")


def _unreadable(error: OSError, path: Path) -> UnreadableError:
    # A server may deny access to what is not there.
    denied = is_remote(path) and isinstance(error, PermissionError)
    kind = AbsentError if denied else UnreadableError
    return kind(f"cannot be read ({error.strerror or error})", path)


def _read(file: BinaryIO, start: int, size: int, path: Path) -> bytes:
    """Bytes from a position on, fewer at the end of the file."""
    try:
        file.seek(start)
        found = file.read(size)
        # One call may give less than there is.
        while len(found) < size and (more := file.read(size - len(found))):
            found += more
    except OSError as error:
        raise _unreadable(error, path) from None
    return found


class PlainSource:
    """An unpacked file: only the wanted byte ranges are read.

    Parameters
    ----------
    file
        File opened for reading bytes.
    size : int
        Its length.
    path : `~pathlib.Path`
        The file, for messages.
    head : bytes
        What was read of its beginning.
    """

    def __init__(self, file: BinaryIO, size: int, path: Path, head: bytes = b""):
        self._file = file
        self._size = size
        self._path = path
        self._window_start = 0
        self._window = head

    def read(self, start: int, stop: int) -> bytes:
        """Bytes from start to stop, fewer at the end of the file."""
        # A damaged header may announce exabytes; never ask for more than there is.
        stop = min(stop, self._size)
        if start >= stop:
            return b""
        first = start - self._window_start
        if not 0 <= first <= stop - self._window_start <= len(self._window):
            self._window_start, first = start, 0
            self._window = _read(self._file, start, max(stop - start, WINDOW), self._path)
        return self._window[first : stop - self._window_start]

    def view(self, start: int, stop: int) -> memoryview:
        """Bytes from start to stop, fewer at the end of the file."""
        stop = min(stop, self._size)
        if start - self._window_start >= 0 and stop - self._window_start <= len(self._window):
            return memoryview(self.read(start, stop))
        return memoryview(_read(self._file, start, max(stop - start, 0), self._path))

    def holds(self, stop: int) -> bool:
        """Whether the file is at least as long."""
        return stop <= self._size

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class GzipSource:
    """A gzipped file, unpacked from its beginning as far as needed.

    Parameters
    ----------
    file
        File opened for reading bytes.
    size : int
        Its length.
    path : `~pathlib.Path`
        The file, for messages.
    """

    def __init__(self, file: BinaryIO, size: int, path: Path):
        self._file = file
        self._packed_size = size
        self._path = path
        self._limit = min(MAX_UNPACKED_BYTES, max(SMALL_UNPACKED_BYTES, MAX_RATIO * size))
        self._used = 0
        # What was unpacked so far, in pieces as they came, and where each begins.
        self._pieces: list[bytes] = []
        self._starts: list[int] = []
        self._size = 0
        self._stream = isal_zlib.decompressobj(wbits=31)
        self._between = self._truncated = False

    def read(self, start: int, stop: int) -> bytes:
        """Bytes from start to stop, fewer at the end of the file.

        Raises
        ------
        FormatError
            If the packed data is damaged or ends too early.
        """
        return bytes(self.view(start, stop))

    def view(self, start: int, stop: int) -> memoryview:
        """As `read`, without a copy where what is wanted was unpacked in one go.

        Raises
        ------
        FormatError
            If the packed data is damaged or ends too early.
        """
        while self._size < stop and self._used < self._packed_size:
            self._unpack(stop)
        if self._size < stop and self._truncated:
            raise self._error("truncated gzip data")
        stop = min(stop, self._size)
        if start >= stop:
            return memoryview(b"")
        first = bisect_right(self._starts, start) - 1
        parts = []
        for piece, begin in zip(self._pieces[first:], self._starts[first:], strict=True):
            if begin >= stop:
                break
            parts.append(memoryview(piece)[max(start - begin, 0) : stop - begin])
        return parts[0] if len(parts) == 1 else memoryview(b"".join(parts))

    def holds(self, stop: int) -> bool:
        """Whether the file is at least as long; it is unpacked up to there.

        Raises
        ------
        FormatError
            If the packed data is damaged or ends too early.
        """
        return len(self.view(stop - 1, stop)) > 0

    def _unpack(self, stop: int) -> None:
        """Unpack about as far as is wanted: the file so far tells how much its data shrank."""
        ratio = max(self._size / self._used, 1.0) if self._used else 1.0
        step = min(max(int(1.02 * (stop - self._size) / ratio), MIN_STEP), MAX_STEP)
        packed = _read(self._file, self._used, step, self._path)
        if not packed:
            # The file was cut while it was read.
            self._packed_size = self._used
        if self._between:
            # Padding after a member is ignored.
            self._used += len(packed)
            packed = packed.lstrip(b"\0")
            self._used -= len(packed)
            if not packed:
                return
            self._between = False
        try:
            piece = self._stream.decompress(packed, self._limit + 1 - self._size)
        except igzip_lib.IsalError as error:  # type: ignore[misc]  # its stub is not a class
            raise self._error(f"damaged gzip data ({error})") from None
        self._used += len(packed)
        if piece:
            self._starts.append(self._size)
            self._pieces.append(piece)
            self._size += len(piece)
        if self._size > self._limit:
            raise self._error("too large for a run file: it unpacks further")
        if self._stream.eof:
            # Several gzip members in a row are one file.
            self._used -= len(self._stream.unused_data)
            self._stream = isal_zlib.decompressobj(wbits=31)
            self._between, self._truncated = True, False
            return
        # What was unpacked so far may hold all that is wanted: see view.
        self._truncated = self._used >= self._packed_size

    def _error(self, what: str) -> DamagedError:
        text = f"{what} after {self._size} unpacked bytes; fetch the file again"
        return DamagedError(text, self._path)

    def close(self) -> None:
        """Close the file and forget the data."""
        self._file.close()
        self._used = self._packed_size
        self._pieces, self._starts, self._size = [], [], 0
