"""Archives at URLs, through fsspec: ``https://``, ``s3://``, ``memory://`` and what else it knows.

A path at a URL is a ``UPath``, which has the interface of `pathlib.Path` without being one; local
files stay plain paths and never come here, and nothing is imported for them. Of a plain file only
the byte ranges that are asked for are fetched; a gzipped one is fetched whole, since it can only be
unpacked from its beginning.

What may pass is tried again: an answer 429 or 5xx, and a connection that breaks. The waiting
doubles each time, or is as long as the server says, if that is not long. A server that goes silent
is given up after a time: 60 s, or as many as the environment variable
``OBSCLUSTER_READ_TIMEOUT`` says.

Backends are an extra, and raise all sorts of errors. Here they become a `FileNotFoundError`, a
`PermissionError`, or an `OSError` that says what went wrong.
"""

from __future__ import annotations

import errno
import math
import os
import posixpath
import re
import time
from collections.abc import Callable, Iterator, Mapping
from itertools import count
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, cast

from obscluster.exceptions import RequestError, UnreadableError

__all__ = [
    "identity",
    "is_file",
    "is_remote",
    "is_url",
    "join",
    "make_path",
    "open_remote",
    "read_remote",
]

T = TypeVar("T")

GZIP_MAGIC = b"\x1f\x8b"
# What is fetched first, to see what a file is. Its first header is in it, too.
_FIRST = 1 << 14
# Of a server that does not answer, in seconds; a refused connection is known at once.
_CONNECT_TIMEOUT = 10.0
_READ_TIMEOUT = 60.0
_TIMEOUT_VARIABLE = "OBSCLUSTER_READ_TIMEOUT"
# A request whose answer comes drop by drop ends after as many times that.
_WHOLE = 15
# How often a request is sent, seconds before the second time, and seconds after which none is.
_TRIES, _FIRST_DELAY, _LAST_DELAY = 5, 0.5, 30.0
_NOT_THERE, _DENIED = (404, 410), (401, 403)
# What breaks while it is used, by the names that aiohttp, botocore and urllib3 give it. What cannot
# be connected at all, such as a host that does not exist, is not among it.
_BROKEN = frozenset(
    (
        *("ClientOSError", "ClientPayloadError", "ServerDisconnectedError", "ConnectionResetError"),
        *("ConnectionClosedError", "ResponseStreamingError", "IncompleteRead"),
    )
)
_PUBLIC = "Of a bucket that is public set FSSPEC_S3_ANON=true"
_NO_CONNECTION = frozenset(("ConnectionTimeoutError", "ConnectTimeoutError"))
_SILENT = frozenset(("ReadTimeoutError", "AioReadTimeoutError"))
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
    timeout = _read_timeout()
    try:
        path = UPath(url.rstrip("/"), **_options(url, timeout))
        # Only now is the backend loaded.
        _ = path.fs
    except ImportError as error:
        raise RequestError(f"{url}: what reaches it is not installed ({error})") from None
    except Exception as error:  # noqa: BLE001 each backend checks its URLs in its own way
        raise RequestError(f"{url}: not a usable URL ({error})") from None
    return cast(Path, path)


def _read_timeout() -> float:
    """Seconds after which a silent server is given up."""
    text = os.environ.get(_TIMEOUT_VARIABLE, "")
    try:
        seconds = float(text) if text else _READ_TIMEOUT
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise RequestError(f"{_TIMEOUT_VARIABLE}={text}: expected a number of seconds")
    return seconds


def _options(url: str, timeout: float) -> dict[str, Any]:
    """What a backend is told: to end at some time, and to leave it to us to try again."""
    if url.startswith(("http://", "https://")):
        import aiohttp

        limits = aiohttp.ClientTimeout(
            total=_WHOLE * timeout, sock_connect=_CONNECT_TIMEOUT, sock_read=timeout
        )
        return {"client_kwargs": {"timeout": limits}}
    if url.startswith(("s3://", "s3a://")):
        config = {
            "connect_timeout": _CONNECT_TIMEOUT,
            "read_timeout": timeout,
            "retries": {"mode": "standard", "total_max_attempts": 1},
        }
        # A listing that is kept would hide that a file has changed.
        return {"config_kwargs": config, "use_listings_cache": False}
    return {}


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
    PermissionError
        If access is denied, which stores that must not be listed also say of what is not there.
    UnreadableError
        If its server cannot be reached.
    """
    try:
        return _info(path).get("type") == "file"
    except FileNotFoundError:
        return False
    except PermissionError:
        raise
    except OSError as error:
        raise UnreadableError(f"cannot be reached ({error})", path) from None


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


def read_remote(path: Path) -> bytes:
    """All bytes of a file at a URL.

    Raises
    ------
    OSError
        If there is no such file, or its server cannot be reached.
    """
    return bytes(_persistently(lambda fs, name: fs.cat_file(name), path))


def _info(path: Any) -> dict[str, Any]:
    return dict(_persistently(lambda fs, name: fs.info(name), path))


def _persistently(request: Callable[[Any, str], T], path: Any) -> T:
    """Answer of a backend, which is asked again as long as what goes wrong may pass."""
    start = time.monotonic()
    for n_tries in count(1):
        try:
            # What reaches a path.
            fs = path.fs
            if getattr(fs, "_pid", None) not in (None, os.getpid()):
                # The connections of a process that has forked are of no use to its child. Of the
                # same
                # process the same one is given each time.
                import fsspec  # type: ignore[import-untyped]

                fs = fsspec.filesystem(path.protocol, **path.storage_options)
            if path.protocol in ("s3", "s3a"):
                # It would try each of our tries several times.
                fs.retries = 1
            return request(fs, path.path)
        except Exception as error:  # noqa: BLE001 see the module's text
            delay = _delay(error, n_tries)
            late = time.monotonic() - start + delay > _LAST_DELAY
            if n_tries == _TRIES or late:
                raise _as_os_error(error, path, n_tries) from None
        time.sleep(delay)
    raise AssertionError  # pragma: no cover


def _delay(error: BaseException, n_tries: int) -> float:
    """Seconds to wait before the same request may do better; infinite if it will not."""
    status, headers = _answer(error)
    if status is None:
        if _is_timeout(error) or not _names(error) & _BROKEN:
            return math.inf
    elif status != 429 and status < 500:
        return math.inf
    asked = headers.get("Retry-After", headers.get("retry-after", ""))
    # It may also be a date, of servers that are down for long.
    return float(asked) if re.fullmatch("[0-9]{1,9}", asked) else _FIRST_DELAY * 2 ** (n_tries - 1)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error, and what has led to it."""
    while error is not None:
        yield error
        error = error.__cause__


def _names(error: BaseException) -> set[str]:
    return {type(one).__name__ for one in _chain(error)}


def _answer(error: BaseException) -> tuple[int | None, Mapping[str, str]]:
    """Status and headers that a server has answered, if it has: of aiohttp, or of botocore."""
    for one in _chain(error):
        if isinstance(status := getattr(one, "status", None), int):
            return status, getattr(one, "headers", None) or {}
        response = getattr(one, "response", None)
        if isinstance(response, dict) and "ResponseMetadata" in response:
            found = response["ResponseMetadata"]
            return found.get("HTTPStatusCode"), found.get("HTTPHeaders", {})
    return None, {}


def _is_timeout(error: BaseException) -> bool:
    known = any(isinstance(one, TimeoutError) for one in _chain(error))
    return known or bool(_names(error) & (_SILENT | _NO_CONNECTION))


def _as_os_error(error: Exception, path: Any, n_tries: int) -> OSError:
    """What went wrong in words, without commas: it is one reason of a note."""
    status, _ = _answer(error)
    after = "" if n_tries == 1 else f" after {n_tries} tries"
    *_, first = _chain(error)
    if status in _NOT_THERE or (status is None and isinstance(first, FileNotFoundError)):
        return FileNotFoundError(errno.ENOENT, "no such file", str(path))
    if status in _DENIED:
        text = f"access denied as the server answers {status}"
        return PermissionError(errno.EACCES, text, str(path))
    if isinstance(first, PermissionError):
        return PermissionError(errno.EACCES, f"access denied as {first}", str(path))
    if status is not None:
        return OSError(f"the server answers {status}{after}")
    if _is_timeout(error):
        return OSError(_timeout_text(error))
    if _names(error) & _BROKEN:
        return OSError(f"the connection breaks{after}")
    if "NoCredentialsError" in _names(error):
        return OSError(f"no credentials for {path.protocol}. {_PUBLIC}")
    # fsspec hides what happened to a HTTP request behind "not found".
    shown = error.__cause__ or error if isinstance(error, FileNotFoundError) else error
    return OSError(str(shown).strip() or type(shown).__name__)


def _timeout_text(error: BaseException) -> str:
    if _names(error) & _NO_CONNECTION:
        return f"no connection within {_CONNECT_TIMEOUT:g} s"
    seconds = _read_timeout()
    if _names(error) & (_SILENT | {"SocketTimeoutError", "ServerTimeoutError"}):
        return f"the server has sent nothing more for {seconds:g} s"
    return f"the answer is not complete after {_WHOLE * seconds:g} s"


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
        found = bytes(
            _persistently(lambda fs, name: fs.cat_file(name, start=start, end=stop), self._path)
        )
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
