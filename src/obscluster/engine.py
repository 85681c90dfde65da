"""Where work on many observations is done: here, or by local workers.

An engine is anything with ``map(function, items)`` that yields the results in the order of the
items; results do not depend on which engine is used.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

from obscluster.exceptions import RequestError

__all__ = ["Engine", "LocalWorkers", "Serial", "get_engine"]

T = TypeVar("T")
R = TypeVar("R")


class Engine(Protocol):
    """Anything with ``map``."""

    def map(self, function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
        """Results in the order of the items."""


class Serial:
    """One item after the other."""

    def map(self, function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
        """Results in the order of the items."""
        return map(function, items)


class LocalWorkers:
    """Several items at once on this machine.

    Threads, since unpacking and array work run outside the interpreter's lock.

    Parameters
    ----------
    n_workers : int
        Number of workers.
    """

    def __init__(self, n_workers: int):
        self.n_workers = n_workers

    def map(self, function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
        """Results in the order of the items."""
        with ThreadPoolExecutor(self.n_workers) as pool:
            yield from pool.map(function, items)


def get_engine(n_workers: int | None = 1) -> Engine:
    """Engine with a number of workers.

    Parameters
    ----------
    n_workers : int or None
        None for as many as there are processors.

    Raises
    ------
    RequestError
        If it is not a positive number.
    """
    if n_workers is None:
        n_workers = os.cpu_count() or 1
    if n_workers < 1:
        raise RequestError(f"{n_workers} workers; expected at least 1")
    return Serial() if n_workers == 1 else LocalWorkers(n_workers)
