"""Archives at URLs, through fsspec: ``https://``, ``s3://``, ``memory://`` and what else it knows.

A path at a URL is a ``UPath``, which has the interface of `pathlib.Path` without being one; local
files stay plain paths and never come here, and nothing is imported for them. Of a plain file only
the byte ranges that are asked for are fetched; a gzipped one is fetched whole, since it can only be
unpacked from its beginning.

Backends are an extra, and raise all sorts of errors. Here they become a `FileNotFoundError`, or an
`OSError` that says what went wrong.
"""

from __future__ import annotations

import os
import posixpath
import re
from pathlib import Path
from typing import Any, BinaryIO, cast

from obscluster.exceptions import MissingDataError, RequestError

__all__ = ["identity", "is_file", "is_remote", "is_url", "join", "make_path", "open_remote"]

GZIP_MAGIC = b"\x1f\x8b"
# What is fetched first, to see what a file is. Its first header is in it, too.
_FIRST = 1 << 14
# Of a server that does not answer, in seconds; a refused connection is known at once.
_CONNECT_TIMEOUT = 10
_READ_TIMEOUT = 120
# Missing, or hidden: stores that must not be listed say the latter of what is not there.
_NOT_THERE = (403, 404, 410)
_URL = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]+://")


def is_url(text: str) -> bool:
    """Whether a text is a URL rather than the name of a local file."""
    return "://" in text and _URL.match(text) is not None


def is_remote(path: object) -> bool:
    """Whether a path is at a URL, rather than a plain one or its name."""
    # The first is enough for nearly all, and fast.
    return not isinstance(path, Path) and not isinstance(path, str | os.PathLike)


def make_path(url: str) -> Path:
    """Path at a URL; of ``file://``, a plain path.

    Raises
    ------
    RequestError
        If what reaches it is not installed, or there is no such kind of URL.
    """
    if url.startswith("file://"):
        return Path(url.removeprefix("file://"))
    try:
        from upath import UPath
    except ImportError:
        raise RequestError(
            f"{url}: archives at URLs need fsspec and universal_pathlib; "
            'get them by: pip install "obscluster[scale]"'
        ) from None
    try:
        options = _http_options() if url.startswith(("http://", "https://")) else {}
        path = UPath(url.rstrip("/"), **options)
        # Only now is the backend loaded.
        _ = path.fs
    except ImportError as error:
        raise RequestError(f"{url}: what reaches it is not installed ({error})") from None
    except Exception as error:  # noqa: BLE001 each backend checks its URLs in its own way
        raise RequestError(f"{url}: not a usable URL ({error})") from None
    return cast(Path, path)


def _http_options() -> dict[str, Any]:
    import aiohttp

    timeout = aiohttp.ClientTimeout(
        total=None, sock_connect=_CONNECT_TIMEOUT, sock_read=_READ_TIMEOUT
    )
    return {"client_kwargs": {"timeout": timeout}}


def join(directory: Path, name: str) -> Path:
    """A file below a directory at a URL, or at a URL of its own."""
    if is_url(name):
        return make_path(name)
    # Stores of objects know no "..": their names are taken literally.
    return directory / posixpath.normpath(name) if ".." not in name else _up(directory, name)


def _up(directory: Path, name: str) -> Path:
    parts = posixpath.normpath(name).split("/")
    while parts and parts[0] == "..":
        directory, parts = directory.parent, parts[1:]
    return directory.joinpath(*parts)


def is_file(path: Path) -> bool:
    """Whether there is a file at a URL.

    Raises
    ------
    MissingDataError
        If its server cannot be reached.
    """
    try:
        return _info(path).get("type") == "file"
    except FileNotFoundError:
        return False
    except OSError as error:
        raise MissingDataError(f"cannot be reached ({error})", path) from None


def identity(path: Path) -> tuple[str, ...]:
    """What changes when a file at a URL does: its length, and what its server says of its content.

    Raises
    ------
    OSError
        If there is no such file, or its server cannot be reached.
    """
    info = _info(path)
    # Names that HTTP, S3, Google, Azure and the memory of this process use.
    keys = ("ETag", "etag", "Last-Modified", "LastModified", "last_modified", "mtime", "updated")
    marks = [f"{key}={info[key]}" for key in (*keys, "created", "md5Hash") if info.get(key)]
    return str(info.get("size")), *marks


def open_remote(path: Path) -> BinaryIO:
    """Open a file at a URL for reading; every read is a request for exactly that range.

    Raises
    ------
    OSError
        If there is no such file, or its server cannot be reached.
    """
    return cast(BinaryIO, _RangeFile(path))


def _filesystem(path: Any) -> Any:
    """What reaches a path."""
    fs = path.fs
    if getattr(fs, "_pid", None) in (None, os.getpid()):
        return fs
    # The connections of a process that has forked are of no use to its child. Of the same process
    # the same one is given each time.
    import fsspec  # type: ignore[import-untyped]

    return fsspec.filesystem(path.protocol, **path.storage_options)


def _info(path: Any) -> dict[str, Any]:
    try:
        return dict(_filesystem(path).info(path.path))
    except Exception as error:  # noqa: BLE001 see the module's text
        raise _as_os_error(error, path) from None


def _as_os_error(error: Exception, path: Path) -> OSError:
    # fsspec hides what happened to a HTTP request behind "not found".
    reason = error.__cause__ if isinstance(error, FileNotFoundError) else error
    status = getattr(reason, "status", None)
    if reason is None or isinstance(reason, FileNotFoundError) or status in _NOT_THERE:
        return FileNotFoundError(str(path))
    if isinstance(reason, PermissionError):
        return FileNotFoundError(f"{path} ({reason})")
    text = str(reason).strip() or type(reason).__name__
    return OSError(f"{text}" if status is None else f"the server answers {status}")


class _RangeFile:
    """A file at a URL with the part of the interface of a raw file that reading needs."""

    def __init__(self, path: Any):
        self._path = path
        self._position = 0
        info = _info(path)
        self._size = info.get("size")
        # A server that does not tell the length of a file, or knows no ranges, gives it whole.
        self._whole = b""
        if self._size is None or info.get("partial") is False:
            self._fetch_all()
        self._head = self._fetch(0, _FIRST)
        if self._head.startswith(GZIP_MAGIC):
            self._fetch_all()

    def _fetch_all(self) -> None:
        self._whole = self._fetch(None, None)
        self._size = len(self._whole)

    def _fetch(self, start: int | None, stop: int | None) -> bytes:
        if self._whole:
            return self._whole[start:stop]
        if self._size is not None and stop is not None:
            stop = min(stop, self._size)
        try:
            found = bytes(_filesystem(self._path).cat_file(self._path.path, start=start, end=stop))
        except Exception as error:  # noqa: BLE001 see the module's text
            raise _as_os_error(error, self._path) from None
        if start is not None and stop is not None and len(found) > stop - start:
            # The server knows no ranges and has sent everything.
            self._whole, self._size = found, len(found)
            return found[start:stop]
        return found

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go to a position."""
        self._position = offset + (0, self._position, self._size or 0)[whence]
        return self._position

    def read(self, size: int) -> bytes:
        """Bytes from the position on, fewer at the end of the file."""
        start, stop = self._position, min(self._position + size, self._size or 0)
        if start >= stop:
            return b""
        found = self._head[start:stop] if stop <= len(self._head) else self._fetch(start, stop)
        self._position += len(found)
        return found

    def close(self) -> None:
        """Forget what was fetched."""
        self._whole = self._head = b""
