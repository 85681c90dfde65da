"""Local workers: the same results in the same order, and nothing is lost when something breaks."""

import copyreg
import multiprocessing
import os
import signal
import subprocess
import sys
import time

import pytest

from obscluster.exceptions import FormatError, RequestError
from obscluster.parallel import engine
from obscluster.parallel.engine import LocalWorkers


def square(number):
    return number * number


def pid(_):
    time.sleep(0.001)
    return os.getpid()


@pytest.fixture(autouse=True)
def no_process_is_left():
    yield
    # Those that are done are not waited for.
    for process in multiprocessing.active_children():
        process.join(10)
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("forks", [True, False])
@pytest.mark.parametrize("n_workers", [1, 2, 3, 7])
@pytest.mark.parametrize("n_items", [0, 1, 2, 17, 1000])
def test_results_come_in_the_order_of_the_items(n_workers, n_items, forks, monkeypatch):
    monkeypatch.setattr(engine, "_can_fork", lambda: forks)
    found = LocalWorkers(n_workers).map(square, iter(range(n_items)))
    assert list(found) == [square(i) for i in range(n_items)]


def test_one_slow_item_does_not_stop_the_others():
    """Whoever is free goes on, and no chunk is done twice."""

    def work(number):
        time.sleep(0.3 if number == 0 else 0.001)
        return number, os.getpid()

    found = list(LocalWorkers(2).map(work, range(100)))
    assert [number for number, _ in found] == list(range(100))
    slow = found[0][1]
    assert sum(pid != slow for _, pid in found) > 70


def test_the_first_error_in_order_counts():
    def fail(number):
        time.sleep(0.05 if number == 3 else 0.001)
        if number in (3, 60):
            raise FormatError(f"run {number}")
        return number

    found = LocalWorkers(2).map(fail, range(100))
    assert [next(found) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(FormatError, match=r"run 3$"):
        list(found)


def test_more_items_than_a_pipe_can_number():
    assert sum(LocalWorkers(2).map(square, range(70_000))) == sum(i * i for i in range(70_000))


def test_several_processes_work_and_this_one_is_among_them():
    pids = set(LocalWorkers(3).map(pid, range(300)))
    assert len(pids) == 3
    assert os.getpid() in pids


@pytest.mark.parametrize("bad", [0, 7, 99])
def test_an_error_is_raised_as_it_is(bad):
    def fail(number):
        if number == bad:
            raise FormatError("odd", "run.fits", "EVENTS")
        return number

    with pytest.raises(FormatError, match=r"run.fits, HDU EVENTS: odd"):
        list(LocalWorkers(2).map(fail, range(100)))


def test_what_cannot_leave_a_process_is_named():
    here = os.getpid()

    def odd(_):
        time.sleep(0.01)
        return 1 if os.getpid() == here else (lambda: None)

    with pytest.raises(RuntimeError, match="cannot leave its process"):
        list(LocalWorkers(2).map(odd, range(20)))


def test_a_killed_worker_is_told_and_not_waited_for():
    here = os.getpid()

    def die(number):
        time.sleep(0.001)
        if os.getpid() != here and number > 10:
            os.kill(os.getpid(), signal.SIGKILL)
        return number

    with pytest.raises(RequestError, match=r"a worker died \(exit code -9\).*fewer workers"):
        list(LocalWorkers(2).map(die, range(100)))


def test_who_stops_early_leaves_no_worker_behind():
    found = LocalWorkers(2).map(square, range(100_000))
    assert next(found) == 0
    assert multiprocessing.active_children()
    found.close()
    assert not multiprocessing.active_children()


def test_a_large_result_does_not_block():
    sizes = [len(text) for text in LocalWorkers(2).map(lambda i: bytes(i * 20_000), range(40))]
    assert sizes == [i * 20_000 for i in range(40)]


def test_a_daemonic_process_uses_threads():
    def work(connection):
        connection.send(list(LocalWorkers(2).map(square, range(10))))

    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=work, args=(theirs,), daemon=True)
    process.start()
    assert ours.recv() == [square(i) for i in range(10)]
    process.join()


class OddError(Exception):
    """Cannot be unpacked: its arguments are not those of its constructor."""

    def __init__(self, first, second):
        super().__init__(f"{first} and {second}")


class Endless:
    def __reduce__(self):
        raise RecursionError("too deep")


def not_here(here, action):
    """What happens in other processes only, once in a while."""

    def work(number):
        time.sleep(0.002)
        return number if os.getpid() == here else action()

    return work


def raise_odd():
    raise OddError("this", "that")


@pytest.mark.parametrize(
    ("action", "message"),
    [(raise_odd, "this and that.* cannot leave its process"), (Endless, "process: too deep")],
)
def test_what_is_wrong_with_results_and_errors_is_told(action, message, monkeypatch):
    # What dask loads teaches all errors that are known by then to be unpacked.
    monkeypatch.delitem(copyreg.dispatch_table, OddError, raising=False)
    with pytest.raises(RuntimeError, match=message):
        list(LocalWorkers(2).map(not_here(os.getpid(), action), range(100)))


def test_a_worker_that_ends_in_the_middle_of_a_message_is_told():
    ours, theirs = multiprocessing.Pipe(duplex=False)
    os.write(theirs.fileno(), (1000).to_bytes(4, "big") + b"the beginning")
    theirs.close()
    process = multiprocessing.get_context("fork").Process(target=int)
    process.start()
    with pytest.raises(RequestError, match=r"a worker died \(exit code 0\)"):
        engine._receive(process, ours)


SCRIPT = """
import os, sys, time
from pathlib import Path
from obscluster.parallel.engine import LocalWorkers

def work(number):
    Path(sys.argv[1], str(number)).touch()
    time.sleep(0.02)
    return bytes(200_000)

results = LocalWorkers(3).map(work, range(3000))
next(results)
print("ready", flush=True)
if sys.argv[2] == "waits":
    time.sleep(60)
"""


@pytest.fixture
def script(tmp_path):
    """Function that starts a process with workers, and waits until they work."""
    done = tmp_path / "done"
    done.mkdir()

    def start(what):
        process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, done, what], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout.readline() == "ready\n"
        return process

    return start, lambda: len(list(done.iterdir()))


def test_workers_end_when_their_parent_is_killed(script):
    start, n_done = script
    process = start("waits")
    process.kill()
    process.communicate()
    time.sleep(0.5)
    after = n_done()
    time.sleep(0.5)
    assert n_done() == after < 1000


def test_results_that_nobody_waits_for_do_not_keep_the_process(script):
    start, _ = script
    process = start("ends")
    assert process.communicate(timeout=20)[0] == ""
    assert process.returncode == 0


INTERRUPTED = """
import os, signal, time
from obscluster.parallel.engine import LocalWorkers

# A shell makes what runs in its background deaf to it.
signal.signal(signal.SIGINT, signal.default_int_handler)

def interrupt():
    os.kill(os.getpid(), signal.SIGINT)
    # In which it would be heard, if it could.
    sum(range(1000))

# As a terminal does it: to all of them.
os.register_at_fork(after_in_parent=interrupt, after_in_child=interrupt)
try:
    list(LocalWorkers(2).map(lambda _: time.sleep(60), range(10)))
except KeyboardInterrupt:
    print("interrupted")
"""


def test_an_interrupt_while_a_worker_starts():
    process = subprocess.run(
        [sys.executable, "-c", INTERRUPTED],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (process.returncode, process.stdout, process.stderr) == (0, "interrupted\n", "")
