"""An interrupt is heard wherever it arrives."""

import subprocess
import sys

import pytest

# A command in the middle of which the user interrupts; what it does is filled in.
COMMAND = """
import signal, sys, time, weakref
from obscluster.cli import archives, main
from obscluster.parallel import interrupts

# A shell makes what runs in its background deaf to it.
signal.signal(signal.SIGINT, signal.default_int_handler)

class Thing:
    pass

def interrupt(*_):
    signal.raise_signal(signal.SIGINT)

def fail(*_):
    raise ValueError("not of the user's making")

class Finalized:
    def __del__(self):
        interrupt()

def run(arguments):
    {}
    return 0

archives.run_info = run
sys.exit(main(["info", "archive"]))
"""

IN_A_CALLBACK = "thing = Thing(); reference = weakref.ref(thing, interrupt); del thing"
IN_A_FINALIZER = "thing = Finalized(); del thing"
SWALLOWED = "try: interrupt()\n    except BaseException: pass\n    0"
WAITING = "; time.sleep(60)"
WORKING = "\n    end = time.monotonic() + 60\n    while time.monotonic() < end: pass"


def outcome(body):
    """What becomes of a command that does this, and what it says."""
    ended = subprocess.run(
        [sys.executable, "-c", COMMAND.format(body)],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    return ended.returncode, ended.stderr


@pytest.mark.parametrize("then", [WAITING, WORKING])
@pytest.mark.parametrize("where", ["interrupt()", IN_A_CALLBACK, IN_A_FINALIZER, SWALLOWED])
def test_is_heard(where, then):
    assert outcome(where + then) == (
        130,
        "obscluster: interrupted; results appear whole or not at all\n",
    )


def test_is_heard_where_it_becomes_another_error():
    """As numpy and compiled modules that are being loaded make of any other."""
    body = "try: interrupt()\n    except BaseException: pass\n    raise ImportError('failed')"
    code, error = outcome(body)
    assert (code, "Traceback" in error) == (130, False)


def test_is_heard_where_it_is_lost_twice():
    body = "for _ in range(2):\n        " + IN_A_CALLBACK
    assert outcome(body + "\n    time.sleep(60)")[0] == 130


def test_a_command_that_is_done_before_it_is_repeated_ends_as_interrupted():
    # So that it is too late on any machine. A loop of a shell must end, too.
    code, error = outcome("interrupts._PAUSE = 30; " + IN_A_CALLBACK)
    assert (code, error) == (130, "obscluster: interrupted; all was done already\n")


def test_other_errors_are_told_as_before():
    code, error = outcome(IN_A_CALLBACK.replace("interrupt", "fail"))
    assert code == 0
    assert "ValueError: not of the user's making" in error
