"""Where work on many observations is done: here, by local workers, or on a dask cluster.

An engine is anything with ``map(function, items)`` that yields the results in the order of the
items; results do not depend on which engine is used.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol, TypeVar

from obscluster.exceptions import RequestError

__all__ = ["Engine", "Progress", "Serial", "get_engine"]

T = TypeVar("T")
R = TypeVar("R")

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
        from obscluster.dask_cluster import DaskCluster

        return DaskCluster(scheduler)
    if n_workers is None:
        n_workers = os.cpu_count() or 1
    if n_workers < 1:
        raise RequestError(f"{n_workers} workers; expected at least 1")
    if n_workers == 1:
        return Serial()
    from obscluster.workers import LocalWorkers

    return LocalWorkers(n_workers)
