"""Several items at once on this machine.

Features are short stretches of numpy between reads, so that threads wait for the interpreter's lock
more than they work: two of them are no faster than one. Processes are, and where the system can
fork they start within milliseconds and need nothing to be pickled but results.
"""

from __future__ import annotations

import gc
import multiprocessing
import pickle
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from math import ceil
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

from obscluster.exceptions import RequestError

__all__ = ["LocalWorkers"]

T = TypeVar("T")
R = TypeVar("R")

# Items that a worker does before it hands over: enough of them that handing over takes no time,
# and enough hand-overs that all workers end at about the same time.
_MOST_IN_A_CHUNK = 64
_CHUNKS_PER_WORKER = 8
_MOST_AHEAD = 4


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
    """Results in order.

    All take chunks in turns, so that no one has to hand them out; this process is one of the
    workers.
    """
    context = multiprocessing.get_context("fork")
    # As many chunks for each worker.
    n_turns = max(_CHUNKS_PER_WORKER, ceil(len(items) / (n_workers * _MOST_IN_A_CHUNK)))
    n_chunks = min(n_turns * n_workers, len(items))
    ends = [len(items) * i // n_chunks for i in range(n_chunks + 1)]
    chunks = [range(start, end) for start, end in pairwise(ends)]
    workers: list[tuple[BaseProcess, Connection]] = []
    try:
        for rank in range(1, n_workers):
            ours, theirs = context.Pipe(duplex=False)
            others = [connection for _, connection in workers] + [ours]
            process = context.Process(
                target=_work, args=(function, items, chunks[rank::n_workers], theirs, others)
            )
            process.start()
            theirs.close()
            workers.append((process, ours))
        # Rather than wait for a worker, this process does some of its own chunks ahead.
        own = ([function(items[i]) for i in chunk] for chunk in chunks[::n_workers])
        ahead: deque[list[R]] = deque()
        for number in range(len(chunks)):
            rank = number % n_workers
            if rank == 0:
                yield from ahead.popleft() if ahead else next(own)
                continue
            worker, connection = workers[rank - 1]
            while not connection.poll() and len(ahead) < _MOST_AHEAD:
                results = next(own, None)
                if results is None:
                    break
                ahead.append(results)
            yield from _received(worker, connection)
    except BaseException:
        for worker, _ in workers:
            worker.terminate()
        for worker, _ in workers:
            worker.join()
        raise
    finally:
        # Workers that are done end by themselves, which takes longer than it is worth waiting for.
        for _, connection in workers:
            connection.close()


def _received(process: BaseProcess, connection: Connection) -> list[Any]:
    """Results of a chunk."""
    try:
        results, error = connection.recv()
    except EOFError:
        process.join()
        raise RequestError(
            f"a worker died (exit code {process.exitcode}); if memory was short, use fewer workers"
        ) from None
    if error is not None:
        raise error
    found: list[Any] = results
    return found


def _work(
    function: Callable[[T], R],
    items: Sequence[T],
    chunks: Sequence[range],
    connection: Connection,
    others: Sequence[Connection],
) -> None:
    """What a worker does: its chunks, one after the other."""
    # What the parent has is not the worker's to collect: to look through it all would copy it.
    gc.freeze()
    # An interrupt is for the parent, which ends its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for other in others:
        other.close()
    for chunk in chunks:
        error: BaseException | None = None
        results: list[R] = []
        try:
            results = [function(items[i]) for i in chunk]
        except Exception as caught:  # noqa: BLE001 it is raised by the parent
            error = caught
        try:
            connection.send_bytes(pickle.dumps((results, error), pickle.HIGHEST_PROTOCOL))
        except (pickle.PicklingError, AttributeError, TypeError) as caught:
            error = RuntimeError(f"{error or 'a result'!r} cannot leave its process: {caught}")
            connection.send((None, error))
        if error is not None:
            return
