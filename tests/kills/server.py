"""A process that has loaded what commands load, and forks one for each command.

    python server.py LIBRARY

A start of Python and astropy takes seconds, a fork takes milliseconds. A request is a line of JSON,
and so is the answer. No thread runs here, and nothing of a command is left in this process but
loaded modules.

The clocks that results record stand still: Gammapy writes into each file when that was, and a fit
is recorded with its seconds. All else of two runs is the same to the byte.
"""

import ctypes
import importlib
import json
import os
import signal
import sys
import time
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

from astropy.time import Time


def wait(request: dict[str, Any], child: int, tracer: ctypes.CDLL) -> int:
    """Let the command run; how it ended."""
    if "log" in request:
        root, log = (os.fsencode(request[name]) for name in ("box", "log"))
        return tracer.watch(child, root, request["at"], request["signal"], log)
    if "delay" in request:
        time.sleep(request["delay"])
        # It leads a group of its own. It is not reaped yet, so that the number is still its own.
        os.kill(child, request["signal"])
        if request["signal"] == signal.SIGKILL:
            with suppress(ProcessLookupError):
                os.killpg(child, signal.SIGKILL)
    return os.waitpid(child, 0)[1]


def run(request: dict[str, Any], tracer: ctypes.CDLL) -> int:
    """In the child: what a new process would do."""
    os.setsid()
    os.chdir(request["box"])
    os.environ.update(request["environment"])
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    said = os.open(request["said"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(said, 1)
    os.dup2(said, 2)
    sys.argv = ["obscluster", *request["argv"]]
    if "log" in request and (error := tracer.be_traced()):
        raise OSError(error, os.strerror(error))
    if request["argv"][0] == "-c":
        exec(request["argv"][1], {"__name__": "__main__"})  # noqa: S102
        return 0
    from obscluster.cli import main

    return main(request["argv"])


def load(names: list[str]) -> None:
    """Load what a command has loaded, for those that follow."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in names:
            if name not in sys.modules and name != "__main__":
                try:
                    importlib.import_module(name)
                except Exception:  # noqa: BLE001, S112
                    continue


def serve(tracer: ctypes.CDLL) -> dict[str, Any] | None:
    """Answer requests; in a child, return its request."""
    answers = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        request: dict[str, Any] = json.loads(line)
        begin = time.monotonic()
        child = os.fork()
        if child == 0:
            return request
        status = wait(request, child, tracer)
        seconds = time.monotonic() - begin
        modules = Path(request["said"] + ".modules")
        if modules.exists():
            load(json.loads(modules.read_text()))
            modules.unlink()
        code = os.waitstatus_to_exitcode(status)
        answers.write(json.dumps({"code": code, "seconds": seconds}) + "\n")
        answers.flush()
    return None


if __name__ == "__main__":
    Time.now = classmethod(lambda cls: cls("2026-01-01"))
    time.perf_counter = lambda: 0.0
    asked = serve(library := ctypes.CDLL(sys.argv[1]))
    if asked is not None:
        code = run(asked, library)
        if asked["learn"]:
            Path(asked["said"] + ".modules").write_text(json.dumps(list(sys.modules)))
        sys.exit(code)
