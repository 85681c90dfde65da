"""Where work on many observations is done: here, by local workers, or on a dask cluster.

An engine is anything with ``map(function, items)`` that yields the results in the order of the
items; results do not depend on which engine is used.

Features are short stretches of numpy between reads, so that threads wait for the interpreter's lock
more than they work: two of them are no faster than one. Processes are, and where the system can
fork they start within milliseconds and need nothing to be pickled but results.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import pickle
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from math import ceil
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from struct import Struct
from typing import Any, Protocol, TypeVar

from obscluster.exceptions import RequestError

__all__ = [
    "Engine",
    "LocalWorkers",
    "Progress",
    "Serial",
    "get_engine",
    "interrupts_later",
    "leave_interrupts_to_parent",
]

T = TypeVar("T")
R = TypeVar("R")

# Items that a worker does before it hands over: not so many that nothing is seen of them for long.
_LARGEST_CHUNK = 64
# Chunks that wait for their turn before this process waits, too.
_MOST_WAITING = 32
# The number of a chunk in a pipe, which on any system holds as many.
_NUMBER = Struct("<i")
_MOST_CHUNKS = 1000
_Done = tuple[int, list[Any], BaseException | None]


class LocalWorkers:
    """Several items at once on this machine, in processes, or in threads where it cannot fork.

    Parameters
    ----------
    n_workers : int
        Number of workers.
    """

    def __init__(self, n_workers: int):
        self.n_workers = n_workers

    def map(self, function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
        """Results in the order of the items.

        Raises
        ------
        RequestError
            If a worker dies.
        """
        items = list(items)
        n_workers = min(self.n_workers, len(items))
        if n_workers <= 1:
            yield from map(function, items)
        elif _can_fork():
            yield from _map_in_processes(function, items, n_workers)
        else:
            with ThreadPoolExecutor(n_workers) as pool:
                yield from pool.map(function, items)


def _can_fork() -> bool:
    # A daemonic process may have no children.
    daemonic = multiprocessing.current_process().daemon
    return "fork" in multiprocessing.get_all_start_methods() and not daemonic


def _map_in_processes(
    function: Callable[[T], R], items: Sequence[T], n_workers: int
) -> Iterator[R]:
    """Results in order; this process is one of the workers.

    Whoever is free takes the next chunk: its number comes out of a pipe that all read from.
    """
    context = multiprocessing.get_context("fork")
    chunks = _chunks(len(items), n_workers)
    workers: dict[Connection, BaseProcess] = {}
    numbers, entry = os.pipe()
    try:
        os.write(entry, b"".join(map(_NUMBER.pack, range(len(chunks)))))
        os.close(entry)
        do_next = partial(_do_next, function, items, chunks, numbers)
        for _ in range(1, n_workers):
            ours, theirs = context.Pipe(duplex=False)
            # Daemonic, so that none outlives this process when it ends in the middle.
            new = context.Process(
                target=_work, args=(do_next, theirs, [*workers, ours]), daemon=True
            )
            with interrupts_later():
                new.start()
                workers[ours] = new
            theirs.close()
        yield from _in_order(do_next, len(chunks), workers)
    except BaseException:
        for process in workers.values():
            process.terminate()
        for process in workers.values():
            process.join()
        raise
    finally:
        # Workers that are done end by themselves, which takes longer than it is worth waiting for.
        os.close(numbers)
        for connection in workers:
            connection.close()


@contextmanager
def interrupts_later() -> Iterator[None]:
    """Within it, interrupts and SIGTERM wait, also for a process that starts in it.

    A process that is interrupted between its first breath and its first instruction would say so
    with a traceback, and one that its parent does not know yet would be left behind.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def leave_interrupts_to_parent() -> None:
    """In a worker: an interrupt is for the parent, which ends its workers by SIGTERM."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if hasattr(signal, "pthread_sigmask"):
        # Blocked while it started, see `interrupts_later`.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})


def _chunks(n_items: int, n_workers: int) -> list[range]:
    """Items of each chunk, the last ones small, so that all workers end at about the same time."""
    smallest = ceil(n_items / _MOST_CHUNKS)
    chunks: list[range] = []
    start = 0
    while start < n_items:
        size = max(min(ceil((n_items - start) / (2 * n_workers)), _LARGEST_CHUNK), smallest)
        chunks.append(range(start, min(start + size, n_items)))
        start += size
    return chunks


def _do_next(
    function: Callable[[T], R], items: Sequence[T], chunks: Sequence[range], numbers: int
) -> _Done | None:
    """Do the next chunk that nobody has taken, None if there is none."""
    found = os.read(numbers, _NUMBER.size)
    if not found:
        return None
    (number,) = _NUMBER.unpack(found)
    results: list[Any] = []
    try:
        for i in chunks[number]:
            results.append(function(items[i]))  # noqa: PERF401 what an error follows is kept
    except Exception as error:  # noqa: BLE001 it is raised when its turn comes
        return number, results, error
    return number, results, None


def _in_order(
    do_next: Callable[[], _Done | None], n_chunks: int, workers: dict[Connection, BaseProcess]
) -> Iterator[Any]:
    """Results of all chunks, of which this process does those that it gets hold of."""
    busy = dict(workers)
    done: dict[int, tuple[list[Any], BaseException | None]] = {}
    some_are_left = True
    for number in range(n_chunks):
        while number not in done:
            # Rather than wait for the others, this process goes on, but not too far.
            goes_on = some_are_left and len(done) < _MOST_WAITING
            ready = wait(list(busy), timeout=0 if goes_on else None)
            for connection in [each for each in busy if each in ready]:
                received = _receive(busy[connection], connection)
                if received is None:
                    del busy[connection]
                else:
                    done[received[0]] = received[1:]
            if goes_on and number not in done:
                own = do_next()
                some_are_left = own is not None
                if own is not None:
                    done[own[0]] = own[1:]
        results, error = done.pop(number)
        yield from results
        if error is not None:
            raise error


def _receive(process: BaseProcess, connection: Connection) -> _Done | None:
    """What a worker has done, None if it has ended."""
    try:
        received: _Done | None = connection.recv()
    except (EOFError, OSError):
        # Between two messages, or in the middle of one.
        process.join()
        raise RequestError(
            f"a worker died (exit code {process.exitcode}); if memory was short, use fewer workers"
        ) from None
    return received


def _work(
    do_next: Callable[[], _Done | None], connection: Connection, others: Sequence[Connection]
) -> None:
    """What a worker does: one chunk after the other, until there are no more."""
    # What the parent has is not the worker's to collect: to look through it all would copy it.
    gc.freeze()
    leave_interrupts_to_parent()
    for other in others:
        other.close()
    # The parent may have all that it wanted, or be no more.
    with suppress(BrokenPipeError):
        while (done := do_next()) is not None:
            connection.send_bytes(_packed(done))
        connection.send_bytes(pickle.dumps(None))


def _packed(done: _Done) -> bytes:
    """What a worker has done, as bytes; an error in its place where it cannot be packed."""
    number, _, error = done
    try:
        content = pickle.dumps(done, pickle.HIGHEST_PROTOCOL)
        if error is not None:
            # Some errors can be packed, but not unpacked.
            pickle.loads(content)  # noqa: S301 our own
    except Exception as caught:  # noqa: BLE001 anything may be wrong with what is not ours
        text = f"{error or 'a result'!r} cannot leave its process: {caught}"
        return pickle.dumps((number, [], RuntimeError(text)))
    return content


Progress = Callable[[Iterable[Any], int, str], Iterable[Any]]
"""``progress(iterable, total, what)`` wraps a long loop."""


class Engine(Protocol):
    """Anything with ``map``."""

    def map(self, function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
        """Results in the order of the items."""


class Serial:
    """One item after the other."""

    def map(self, function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
        """Results in the order of the items."""
        return map(function, items)


def get_engine(n_workers: int | None = 1, scheduler: str | None = None) -> Engine:
    """Engine with a number of workers, or that of a scheduler.

    Parameters
    ----------
    n_workers : int or None
        None for as many as there are processors.
    scheduler : str, optional
        Address of a dask.distributed scheduler, whose workers are taken instead.

    Raises
    ------
    RequestError
        If it is not a positive number.
    """
    # One worker does without the rest.
    if scheduler is not None:
        from obscluster.parallel.dask_cluster import DaskCluster

        return DaskCluster(scheduler)
    if n_workers is None:
        n_workers = os.cpu_count() or 1
    if n_workers < 1:
        raise RequestError(f"{n_workers} workers; expected at least 1")
    if n_workers == 1:
        return Serial()

    return LocalWorkers(n_workers)
