"""Kill a writer at its operations on files, look at what is left, and start it again."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

__all__ = ["SCHEMES", "Campaign", "Kill", "NotPossibleError", "Server", "Writer", "summary"]

HERE = Path(__file__).parent
# How directories take each other's place: by one operation of the system, or with a journal that
# the next reader or writer completes.
SCHEMES = {"exchange": {}, "journal": {"OBSCLUSTER_EXCHANGE": "never"}}
# What a shell would show; the number of the signal where Python did not handle it.
ENDED = {
    signal.SIGKILL: {-signal.SIGKILL},
    signal.SIGTERM: {143, -signal.SIGTERM},
    signal.SIGINT: {130, -signal.SIGINT},
}
# Files of the user in an output, which stay. None lies in an archive that is simulated.
OWN = {"notes.txt": "by hand", "mine/of-mine.txt": "by hand, too"}
TOO_LONG = 300.0


class NotPossibleError(Exception):
    """This machine does not allow it; the text says why."""


@dataclass(frozen=True)
class Writer:
    """A command that writes.

    Parameters
    ----------
    name : str
        Its name in tables.
    argv : tuple of str
        Arguments of obscluster, or ``-c`` and Python code, run in the box.
    outputs : tuple of str
        Files and directories that are written, relative to the box. All else stays as it is.
    before : tuple of tuple of str
        Commands that prepare the box, such as those that make the old output.
    loose : tuple of str
        What may be in any state after a kill, as long as the next start makes it right.
    reader : tuple of str
        Command that reads the output; it may complete a journal.
    own : str
        Directory into which files of the user are put before the kill.
    needs : str
        Module without which the command cannot run.
    journal : bool
        Whether files are put in place one by one under either scheme.
    steps : bool
        Whether a signal that can be handled may end it between steps: those that are complete are
        put in place, and the next start makes the others.
    parts : bool
        Whether what is complete when a signal ends it may stay beside the output, for the next
        start.
    deaf : tuple of signal
        Signals that end it at once, as they do any Python code that has not asked for them.
    """

    name: str
    argv: tuple[str, ...]
    outputs: tuple[str, ...]
    before: tuple[tuple[str, ...], ...] = ()
    loose: tuple[str, ...] = ()
    reader: tuple[str, ...] = ()
    own: str = ""
    needs: str = "obscluster"
    journal: bool = False
    steps: bool = False
    parts: bool = False
    deaf: tuple[signal.Signals, ...] = ()


@dataclass
class Kill:
    """What came of one."""

    where: str
    code: int = 0
    state: str = "bad"
    # What should be gone: right after a signal that can be handled, else after the next start.
    leftovers: set[str] = field(default_factory=set)
    problems: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return f"{self.where}: {'; '.join(self.problems) or self.state}"


class Server:
    """Commands in forks of one process, see ``server.py``."""

    def __init__(self, directory: Path):
        self.directory = directory
        # Boxes by the commands that made them, see `Campaign`.
        self.prepared: dict[tuple[tuple[str, ...], ...], Path] = {}
        directory.mkdir(parents=True, exist_ok=True)
        library = directory / "tracer.so"
        compiler = shutil.which("cc") or shutil.which("gcc")
        if compiler is None or not sys.platform.startswith("linux"):
            raise NotPossibleError("needs Linux and a C compiler")
        build = [compiler, "-O1", "-shared", "-fPIC", str(HERE / "tracer.c"), "-o", str(library)]
        built = subprocess.run(build, capture_output=True, text=True, check=False)
        if built.returncode:
            raise NotPossibleError(
                f"the tracer cannot be compiled: {built.stderr.splitlines()[:1]}"
            )
        home = directory / "home"
        for name in ("matplotlib", ".astropy", ".cache", ".config"):
            (home / name).mkdir(parents=True, exist_ok=True)
        # The same number of operations each time, on one core.
        threads = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
        environment = os.environ | dict.fromkeys(threads, "1")
        environment |= {"HOME": str(home), "MPLCONFIGDIR": str(home / "matplotlib")}
        environment |= {"PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1", "MPLBACKEND": "Agg"}
        environment |= {"XDG_CACHE_HOME": str(home / ".cache")}
        environment |= {"XDG_CONFIG_HOME": str(home / ".config")}
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "server.py"), str(library)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        )
        try:
            self._check()
        except BaseException:
            self.close()
            raise

    def _check(self) -> None:
        """That processes can be traced here: a file is not made by a process killed before."""
        box = self.directory / "check"
        box.mkdir(exist_ok=True)
        code = "open('made', 'w').close()"
        ended, events = self.traced(box, ("-c", code), at=1)
        if ended["code"] != -signal.SIGKILL or len(events) != 1 or (box / "made").exists():
            said = (self.directory / "said").read_text(errors="replace").strip().splitlines()
            raise NotPossibleError(f"processes cannot be traced: {said[-1:] or ended['code']}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def run(self, box: Path, argv: Iterable[str], **options: Any) -> dict[str, Any]:
        """Exit code (negative for a signal) and seconds of a command."""
        request = {"box": str(box), "argv": list(argv), "said": str(self.directory / "said")}
        request |= {"environment": {}, "learn": False, "signal": int(signal.SIGKILL)} | options
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        timer = threading.Timer(TOO_LONG, self._process.kill)
        timer.start()
        try:
            stdin.write(json.dumps(request) + "\n")
            stdin.flush()
            answer = stdout.readline()
        finally:
            timer.cancel()
        if not answer:
            raise TimeoutError(f"{' '.join(argv)}: did not end within {TOO_LONG:.0f} s")
        return json.loads(answer)

    def traced(
        self, box: Path, argv: Iterable[str], at: int = 0, **options: Any
    ) -> tuple[dict[str, Any], list[str]]:
        """The same, with the operations up to its end; the signal comes before number ``at``."""
        log = self.directory / "operations"
        ended = self.run(box, argv, at=at, log=str(log), **options)
        return ended, log.read_text(errors="replace").splitlines()


Tree = Mapping[str, str]


def tree(directory: Path) -> dict[str, str]:
    """What is in a directory: kind, or checksum of the content, by relative path."""
    found = {}
    for path in sorted(directory.rglob("*")):
        if path.is_symlink():
            value = f"link to {path.readlink()}"
        elif path.is_dir():
            value = "directory"
        elif path.is_file():
            value = hashlib.sha256(path.read_bytes()).hexdigest()
        else:
            value = "other"
        found[path.relative_to(directory).as_posix()] = value
    return found


def _part(found: Tree, places: Iterable[str]) -> dict[str, str]:
    roots = tuple(places)
    return {
        name: value
        for name, value in found.items()
        if any(name == root or name.startswith(root + "/") for root in roots)
    }


def _differences(found: Tree, expected: Tree) -> str:
    names = sorted(
        name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name)
    )
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


class Campaign:
    """All kills of one writer.

    The command is run undisturbed first, for what is old and new.

    Parameters
    ----------
    server : Server
        What runs commands.
    writer : Writer
        What is killed.
    between : callable, optional
        What else happens to the box before the next start.
    """

    def __init__(
        self, server: Server, writer: Writer, between: Callable[[Path], object] = lambda _: None
    ):
        self.server, self.writer, self.between = server, writer, between
        # The place is always the same, since results record paths.
        self.box = server.directory / "box"
        self.template = Path(tempfile.mkdtemp(prefix="template-", dir=server.directory)) / "box"
        self._prepare(writer.before)
        if writer.own:
            for name, text in OWN.items():
                path = self.box / writer.own / name
                path.parent.mkdir(exist_ok=True)
                path.write_text(text)
        shutil.copytree(self.box, self.template, symlinks=True)
        self.old = tree(self.box)
        self.code = self._undisturbed(writer.argv, "undisturbed run")
        self.new = tree(self.box)
        # Started again where all is done, it may refuse.
        self.code_again = server.run(self.box, writer.argv)["code"]
        self.new_again = tree(self.box)
        self._operations: dict[str, list[str]] = {}
        self._spans: dict[str, tuple[float, float]] = {}
        self.flaws = list(self._flaws())

    def _flaws(self) -> Iterator[str]:
        """What is wrong without any kill."""
        if self._outside(self.old) != self._outside(self.new):
            different = _differences(self._outside(self.old), self._outside(self.new))
            yield f"an undisturbed run changes {different}"
        if self._inside(self.old) == self._inside(self.new):
            yield "old and new are the same, so that nothing is tested"
        if self.writer.own:
            own = [f"{self.writer.own}/{name}" for name in OWN]
            if lost := [name for name in own if self.old.get(name) != self.new.get(name)]:
                yield f"files of the user are changed: {lost}"

    def operations(self, scheme: str = "exchange") -> list[str]:
        """The operations on files of an undisturbed run: call, and paths in the box."""
        if scheme not in self._operations:
            self._fresh()
            options = {"environment": SCHEMES[scheme]}
            ended, lines = self.server.traced(self.box, self.writer.argv, **options)
            self._operations[scheme] = [line.split(" ", 1)[1] for line in lines]
            first = float(lines[0].split()[0]) if lines else 0.0
            self._spans[scheme] = (0.9 * first, ended["seconds"])
            if different := _differences(tree(self.box), self.new):
                self.flaws.append(f"two undisturbed runs ({scheme}) differ in {different}")
            if not lines:
                self.flaws.append("changes no files")
        return self._operations[scheme]

    def _prepare(self, commands: tuple[tuple[str, ...], ...]) -> None:
        """Run commands in an empty box; what others have prepared in the same way is copied."""
        prepared = self.server.prepared.get(commands)
        if prepared is None and commands:
            self._prepare(commands[:-1])
            self._undisturbed(commands[-1], "preparation")
            prepared = Path(tempfile.mkdtemp(prefix="prepared-", dir=self.server.directory)) / "box"
            shutil.copytree(self.box, prepared, symlinks=True)
            self.server.prepared[commands] = prepared
            return
        shutil.rmtree(self.box, ignore_errors=True)
        if prepared is None:
            self.box.mkdir()
        else:
            shutil.copytree(prepared, self.box, symlinks=True)

    def _undisturbed(self, argv: Iterable[str], what: str) -> int:
        argv = tuple(argv)
        ended = self.server.run(self.box, argv, learn=True)
        if ended["code"] not in (0, 1):
            said = (self.server.directory / "said").read_text(errors="replace")[-2000:]
            raise RuntimeError(f"{what} of {' '.join(argv)} ended with {ended['code']}: {said}")
        return ended["code"]

    def _fresh(self) -> None:
        shutil.rmtree(self.box)
        shutil.copytree(self.template, self.box, symlinks=True)

    def _inside(self, found: Tree) -> Tree:
        return _part(found, self.writer.outputs)

    def _outside(self, found: Tree) -> Tree:
        known = _part(found, (*self.writer.outputs, *self.writer.loose))
        return {name: value for name, value in found.items() if name not in known}

    def points(self, scheme: str = "exchange", limit: int | None = None) -> list[int]:
        """Numbers of operations; with a limit, the ends of each kind of call, and some evenly."""
        kinds = [operation.split()[0] for operation in self.operations(scheme)]
        everything = range(1, len(kinds) + 1)
        if limit is None or limit >= len(kinds):
            return list(everything)
        lasts = {kind: at for at, kind in zip(everything, kinds, strict=True)}
        firsts = {kind: at for at, kind in reversed(list(zip(everything, kinds, strict=True)))}
        ends = sorted({*firsts.values(), *lasts.values()})
        ends = ends[:: -(-len(ends) // max(limit // 2, 1))]
        n = max(limit - len(ends), 1)
        return sorted({*ends, *(1 + (2 * i + 1) * len(kinds) // (2 * n) for i in range(n))})

    def kill(
        self, at: int, scheme: str = "exchange", signum: signal.Signals = signal.SIGKILL
    ) -> Kill:
        """Send the signal before an operation, and judge."""
        self._fresh()
        options = {"environment": SCHEMES[scheme], "signal": int(signum)}
        ended, lines = self.server.traced(self.box, self.writer.argv, at=at, **options)
        where = lines[at - 1].split(" ", 1)[1] if len(lines) >= at else "not reached"
        kill = Kill(f"{signum.name} at {at}, {where}", ended["code"])
        if at <= self._before_output(scheme) and kill.code not in ENDED[signum]:
            kill.problems.append(f"is not heard: ended with code {kill.code}")
        return self._judge(kill, scheme, signum)

    def _before_output(self, scheme: str) -> int:
        """Number of operations before the first that names an output; up to there, nothing may be
        too late to be heard."""
        roots = [f"/{root}" for root in self.writer.outputs]
        for before, operation in enumerate(self.operations(scheme)):
            call, *paths = operation.split()
            named = any(
                path == root or path.startswith(f"{root}/") for path in paths for root in roots
            )
            if named and call != "flock":
                return before
        return 0

    def kill_at_random(self, generator: random.Random, scheme: str = "exchange") -> Kill:
        """Kill at any moment from shortly before the first operation to the end, and judge."""
        self.operations(scheme)
        self._fresh()
        delay = generator.uniform(*self._spans[scheme])
        options = {"environment": SCHEMES[scheme], "delay": delay}
        ended = self.server.run(self.box, self.writer.argv, **options)
        kill = Kill(f"SIGKILL after {delay:.3f} s", ended["code"])
        return self._judge(kill, scheme, signal.SIGKILL)

    def _judge(self, kill: Kill, scheme: str, signum: signal.Signals) -> Kill:
        if signum not in (signal.SIGKILL, *self.writer.deaf) and not self.writer.parts:
            self._note_leftovers(kill)
        environment = SCHEMES[scheme]
        reads = scheme == "journal" and self._inside(self.old)
        if self.writer.reader and (reads or self.writer.journal):
            read = self.server.run(self.box, self.writer.reader, environment=environment)
            if read["code"]:
                kill.problems.append(f"cannot be read (code {read['code']})")
        found = tree(self.box)
        inside, outside = self._inside(found), self._outside(found)
        if inside == self._inside(self.new):
            kill.state = "new"
        elif inside == self._inside(self.old):
            kill.state = "old"
        elif self.writer.steps and signum not in (signal.SIGKILL, *self.writer.deaf):
            kill.state = "new"
        else:
            different = _differences(inside, self._inside(self.old))
            kill.problems.append(f"neither old nor new: {different} are not the old ones")
        before = self._outside(self.old)
        if changed := [name for name in before if outside.get(name) != before[name]]:
            kill.problems.append(f"other files are changed: {changed[:4]}")
        # What is done before the signal is heard is done.
        done = kill.state == "new" and kill.code == self.code
        if kill.code not in ENDED[signum] and not done:
            kill.problems.append(f"ended with code {kill.code}")
        if kill.leftovers:
            kill.problems.append(f"leftovers: {sorted(kill.leftovers)[:4]}")
        self._start_again(kill, environment)
        return kill

    def _note_leftovers(self, kill: Kill) -> None:
        names = self._outside(tree(self.box)).keys() - self._outside(self.old).keys()
        kill.leftovers |= {name for name in names if str(Path(name).parent) not in names}

    def _start_again(self, kill: Kill, environment: Mapping[str, str]) -> None:
        self.between(self.box)
        ended = self.server.run(self.box, self.writer.argv, environment=environment)
        code, expected = self.code, self.new
        if kill.state == "new":
            code, expected = self.code_again, self.new_again
        found = tree(self.box)
        self._note_leftovers(kill)
        if ended["code"] != code:
            said = (self.server.directory / "said").read_text(errors="replace").strip()
            kill.problems.append(f"next start ends with {ended['code']}: {said[-200:]}")
        if different := _differences(found, expected):
            kill.problems.append(f"after the next start, different: {different}")


def summary(kills: list[Kill]) -> dict[str, int]:
    """Counts for a line of a table."""
    states = Counter("bad" if kill.problems else kill.state for kill in kills)
    return {
        "kills": sum(kill.code < 0 or kill.code in (130, 143) for kill in kills),
        "old-whole": states["old"],
        "new-whole": states["new"],
        "bad": states["bad"],
        "leftovers": sum(bool(kill.leftovers) for kill in kills),
    }
