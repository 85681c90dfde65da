"""Where the bytes of a FITS file come from: a plain file, or a gzipped one unpacked on demand."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO, Protocol

from isal import igzip_lib, isal_zlib

from obscluster.exceptions import FormatError, MissingDataError

__all__ = ["Source", "open_source"]

GZIP_MAGIC = b"\x1f\x8b"
UNPACK_STEP = 1 << 18
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
        Object with ``read(start, stop)`` and ``close()``.

    Raises
    ------
    MissingDataError
        If there is no such file or it cannot be opened.
    """
    try:
        file = path.open("rb")
        try:
            magic = file.read(2)
            if magic != GZIP_MAGIC:
                return PlainSource(file)
            file.seek(0)
            packed = file.read()
        except OSError:
            file.close()
            raise
    except FileNotFoundError:
        raise MissingDataError("no such file", path) from None
    except OSError as error:
        raise MissingDataError(f"cannot be read ({error.strerror or error})", path) from None
    file.close()
    return GzipSource(packed, path)


class PlainSource:
    """An unpacked file: only the wanted byte ranges are read.

    Parameters
    ----------
    file
        File opened for reading bytes.
    """

    def __init__(self, file: BinaryIO):
        self._file = file
        self._size = file.seek(0, 2)

    def read(self, start: int, stop: int) -> bytes:
        """Bytes from start to stop, fewer at the end of the file."""
        # A damaged header may announce exabytes; never ask for more than there is.
        stop = min(stop, self._size)
        if start >= stop:
            return b""
        self._file.seek(start)
        return self._file.read(stop - start)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class GzipSource:
    """A gzipped file, unpacked from its beginning as far as needed.

    Parameters
    ----------
    packed : bytes
        The file's content.
    path : `~pathlib.Path`
        The file, for messages.
    """

    def __init__(self, packed: bytes, path: Path):
        self._packed = packed
        self._path = path
        self._limit = min(MAX_UNPACKED_BYTES, max(SMALL_UNPACKED_BYTES, MAX_RATIO * len(packed)))
        self._buffer = bytearray()
        self._stream = isal_zlib.decompressobj(wbits=31)
        self._truncated = False

    def read(self, start: int, stop: int) -> bytes:
        """Bytes from start to stop, fewer at the end of the file.

        Raises
        ------
        FormatError
            If the packed data is damaged or ends too early.
        """
        while len(self._buffer) < stop and self._packed:
            self._unpack()
        if len(self._buffer) < stop and self._truncated:
            raise self._error("truncated gzip data")
        return bytes(memoryview(self._buffer)[start:stop])

    def _unpack(self) -> None:
        try:
            chunk = self._stream.decompress(self._packed, UNPACK_STEP)
        except igzip_lib.IsalError as error:  # type: ignore[misc]  # its stub is not a class
            raise self._error(f"damaged gzip data ({error})") from None
        self._buffer += chunk
        if len(self._buffer) > self._limit:
            raise self._error("too large for a run file: it unpacks further")
        if self._stream.eof:
            # Several gzip members in a row are one file; padding after the last is ignored.
            self._packed = self._stream.unused_data.lstrip(b"\0")
            self._stream = isal_zlib.decompressobj(wbits=31)
            return
        self._packed = self._stream.unconsumed_tail
        # What was unpacked so far may hold all that is wanted: see read.
        self._truncated = not self._packed and len(chunk) < UNPACK_STEP

    def _error(self, what: str) -> FormatError:
        done = len(self._buffer)
        return FormatError(f"{what} after {done} unpacked bytes; fetch the file again", self._path)

    def close(self) -> None:
        """Forget the data."""
        self._packed = b""
        self._buffer = bytearray()
