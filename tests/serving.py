"""A server of files over HTTP, which fails as it is told to."""

import functools
import threading
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Handler(SimpleHTTPRequestHandler):
    """Files with ranges, as real servers have them; notes what it serves."""

    ranges = True

    def do_GET(self):
        path = Path(self.translate_path(self.path))
        if self.fails(path.name):
            return
        if not path.is_file():
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        content = path.read_bytes()
        asked = self.headers.get("Range") if self.ranges else None
        start, stop = 0, len(content)
        if asked:
            first, _, last = asked.removeprefix("bytes=").partition("-")
            start, stop = int(first), min(int(last) + 1 if last else stop, stop)
        if self.command == "GET":
            self.server.served.append((path.name, start, stop))
        self.send_response(HTTPStatus.PARTIAL_CONTENT if asked else HTTPStatus.OK)
        self.send_header("Content-Length", str(stop - start))
        self.send_header("Last-Modified", self.date_time_string(path.stat().st_mtime))
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{len(content)}")
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content[start:stop])

    def do_HEAD(self):
        self.do_GET()

    def fails(self, name):
        """Do what is told instead of sending the file; whether there was anything to do."""
        faults = self.server.faults.get((self.command, name), self.server.faults.get(name))
        fault = None if faults is None else next(faults, None)
        if fault is None:
            return False
        self.server.n_failed += 1
        if callable(fault):
            fault(self)
            return True
        status, headers = fault if isinstance(fault, tuple) else (fault, {})
        self.send_response(status)
        for key, value in {"Content-Length": "0", **headers}.items():
            self.send_header(key, value)
        self.end_headers()
        return True

    def log_message(self, *arguments):
        pass


def announce(handler):
    """More than comes."""
    handler.send_response(HTTPStatus.PARTIAL_CONTENT)
    handler.send_header("Content-Length", "1000000")
    handler.end_headers()
    handler.wfile.write(b"SIMPLE  = ")


def hang(handler):
    """Announce much, send little, and then nothing."""
    announce(handler)
    handler.server.released.wait(60)


def trickle(handler):
    """Announce much, and send it byte by byte."""
    announce(handler)
    for _ in range(600):
        if handler.server.released.wait(0.1):
            break
        try:
            handler.wfile.write(b".")
        except OSError:
            break


def drop(handler):
    """Announce much, send little, and hang up."""
    announce(handler)
    handler.close_connection = True


class WithoutRanges(Handler):
    """A server that always sends the whole file."""

    ranges = False


class Server(ThreadingHTTPServer):
    """Serves a directory.

    ``served`` has name, first byte and end of each answer. ``faults`` has names of files, or pairs
    of command and name, to an iterator of what to do instead of sending them: a status, a status
    and headers, or a function of the handler; None, or its end, is to send the file.
    """

    daemon_threads = True

    def __init__(self, directory, handler=Handler):
        super().__init__(("127.0.0.1", 0), functools.partial(handler, directory=str(directory)))
        self.served = []
        self.faults = {}
        self.n_failed = 0
        self.released = threading.Event()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"

    def n_bytes(self, name=""):
        return sum(stop - start for file, start, stop in self.served if name in file)

    def end(self):
        self.released.set()
        self.shutdown()
        self.server_close()
