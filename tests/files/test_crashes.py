"""Writers that are killed at some of their operations; `benchmarks/crashes.py` takes all.

    python benchmarks/crashes.py --random 300

The kills come from outside, see `kills`. Where no process can be traced, these tests are skipped.
"""

import importlib.util
import os
import random
import shutil
import signal
import subprocess
import sys

import pytest

from kills.campaign import Campaign, NotPossibleError, Server, Writer
from kills.writers import WRITERS

# For each writer: scheme, signal, and how many operations; half of them where one takes seconds.
SAMPLES = [
    ("exchange", signal.SIGKILL, 4),
    ("journal", signal.SIGKILL, 2),
    ("exchange", signal.SIGTERM, 1),
    ("exchange", signal.SIGINT, 1),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    try:
        with Server(tmp_path_factory.mktemp("crashes")) as running:
            yield running
    except NotPossibleError as error:
        pytest.skip(str(error))


def attack(campaign):
    """A sample of kills of each kind."""
    share = 2 if campaign.writer.needs == "gammapy" else 1
    return [
        campaign.kill(at, scheme, signum)
        for scheme, signum, limit in SAMPLES
        # Over nothing, a directory is renamed under either scheme.
        if scheme == "exchange" or campaign.writer.own
        for at in campaign.points(scheme, -(-limit // share))
    ]


@pytest.mark.parametrize("writer", WRITERS, ids=lambda writer: writer.name)
def test_old_or_new_and_nothing_left(server, writer):
    if importlib.util.find_spec(writer.needs) is None:
        pytest.skip(f"needs {writer.needs}")
    campaign = Campaign(server, writer)
    bad = [str(kill) for kill in attack(campaign) if kill.problems]
    assert not [*campaign.flaws, *bad]


def test_leftovers_of_the_future(server):
    """The clock goes back between the kill and the next start."""

    def in_future(box):
        # The archive is not touched: a cache knows its files by their dates.
        for path in (one for one in box.rglob("*") if box / "archive" not in (one, *one.parents)):
            os.utime(path, (2**32 - 1,) * 2, follow_symlinks=False)

    (writer,) = (writer for writer in WRITERS if writer.name == "group with a cache")
    campaign = Campaign(server, writer, in_future)
    kills = [campaign.kill(at) for at in campaign.points(limit=3)]
    assert not [str(kill) for kill in kills if kill.problems]


# Writers that are no commands of ours, each with a fault or without.
WRITE = "import os\ndef write(name, text):\n    with open(name, 'w') as file: file.write(text)\n"
OLD = ("-c", WRITE + "os.mkdir('out'); write('out/a', 'old'); write('out/b', 'old')")
IN_PLACE = "write('out/a', 'new'); write('out/b', 'new')"
BESIDE = "write('.out.partial', 'new'); os.replace('.out.partial', 'out/a')"
SWEPT = "if os.path.exists('.out.partial'): os.remove('.out.partial')\n" + BESIDE
CREATED = "write('out/c', 'new') if not os.path.exists('out/c') else os._exit(2)"
ELSEWHERE = SWEPT + "; write('log', '1')"


def kills_of(server, body, signum=signal.SIGKILL):
    writer = Writer("", ("-c", WRITE + body), ("out",), (OLD,), own="out")
    campaign = Campaign(server, writer)
    return campaign, [campaign.kill(at, signum=signum) for at in campaign.points()]


class TestWouldFail:
    def test_for_files_written_in_place(self, server):
        campaign, kills = kills_of(server, IN_PLACE)
        calls = [operation.split()[0] for operation in campaign.operations()]
        assert [call.replace("openat", "open") for call in calls] == ["open", "write"] * 2
        # Before the first it is old; in between it is neither, though the next start mends it.
        assert [kill.state for kill in kills] == ["old", "bad", "bad", "bad"]
        assert all("out/a" in kill.problems[0] for kill in kills[1:])

    def test_for_leftovers_that_stay(self, server):
        body = BESIDE.replace("'.out.partial", "f'.out.{os.getpid()}")
        _, kills = kills_of(server, body)
        assert [kill.state for kill in kills] == ["old"] * 3
        assert [bool(kill.problems) for kill in kills] == [False, True, True]
        assert [len(kill.leftovers) for kill in kills] == [0, 1, 1]

    def test_for_a_next_start_that_refuses(self, server):
        _, kills = kills_of(server, CREATED)
        assert "next start ends with 2" in str(kills[1])

    def test_for_other_files_that_change(self, server):
        campaign, _ = kills_of(server, ELSEWHERE)
        assert campaign.flaws == ["an undisturbed run changes log"]

    def test_for_a_signal_that_leaves_files(self, server):
        _, kills = kills_of(server, SWEPT, signal.SIGTERM)
        assert [kill.code for kill in kills] == [-signal.SIGTERM] * 3
        assert "leftovers: ['.out.partial']" in str(kills[1])

    def test_for_a_signal_that_is_not_heard(self, server):
        deaf = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n" + SWEPT
        _, kills = kills_of(server, deaf, signal.SIGINT)
        # It ends as if undisturbed; before the file is in place, it must not.
        assert [(kill.code, kill.state) for kill in kills] == [(0, "new")] * 3
        assert [bool(kill.problems) for kill in kills] == [True, True, False]


def test_would_pass(server):
    campaign, kills = kills_of(server, SWEPT)
    assert [str(kill) for kill in kills if kill.problems] == campaign.flaws == []
    generator = random.Random(1)  # noqa: S311
    assert not any(campaign.kill_at_random(generator).problems for _ in range(3))


def test_where_nothing_can_be_traced_it_is_said(tmp_path):
    """As where this test itself is traced, or in a container that does not allow it."""
    script = (
        "import sys; from pathlib import Path; from kills.campaign import *\n"
        "try: Server(Path(sys.argv[1]))\nexcept NotPossibleError as error: print(error)"
    )
    if shutil.which("strace") is None:
        pytest.skip("needs strace")
    command = ["strace", "-f", "-qq", "-e", "trace=none", "-e", "signal=none"]
    done = subprocess.run(
        [*command, sys.executable, "-c", script, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert "cannot be traced" in done.stdout, done.stderr


def test_processes_that_a_command_starts_are_counted_and_killed(server):
    body = (
        "import subprocess, sys, time\n"
        "subprocess.run([sys.executable, '-c', '''open(\"out/a\", \"w\").write(\"new\")''' ])\n"
    )
    campaign, kills = kills_of(server, body)
    assert [operation.split()[-1] for operation in campaign.operations()] == ["/out/a"] * 2
    assert [kill.code for kill in kills] == [-signal.SIGKILL] * 2
