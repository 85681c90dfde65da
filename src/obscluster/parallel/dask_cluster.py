"""Many items at once on a dask.distributed cluster."""

from __future__ import annotations

import asyncio
import pickle
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from typing import Any, TypeVar

from obscluster.exceptions import RequestError
from obscluster.version import __version__

__all__ = ["DaskCluster"]

# distributed has type information for a part of itself only.
Client = Any

_MAX_GREETING = 1 << 20

T = TypeVar("T")
R = TypeVar("R")


class DaskCluster:
    """Many items at once on a dask.distributed cluster.

    Items travel in chunks. What a worker had not handed over when it died is done by the others.
    Workers need the same version of obscluster, and reach files by the same paths: give archives
    by absolute paths that all machines share, or by URLs.

    Parameters
    ----------
    cluster : str or `distributed.Client`
        Address of the scheduler, ``tcp://host:8786``, or a client, which stays open.
    chunk_size : int
        Most items in a chunk; fewer where that keeps all workers busy.
    timeout : float
        How long to wait for the scheduler and its first worker, in seconds.
    """

    def __init__(self, cluster: str | Client, chunk_size: int = 64, timeout: float = 10):
        self.cluster = cluster
        self.chunk_size = chunk_size
        self.timeout = timeout

    def map(self, function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
        """Results in the order of the items.

        Raises
        ------
        RequestError
            If the cluster cannot be reached, or its workers cannot do the work.
        """
        try:
            from distributed import KilledWorker
            from distributed.comm.core import CommClosedError
        except ImportError:
            raise RequestError(
                'a scheduler needs dask.distributed; get it by: pip install "obscluster[scale]"'
            ) from None
        with self._client() as client:
            # Number of threads of all workers, once it is seen that they can do the work.
            def version() -> str:
                import obscluster

                return obscluster.__version__

            try:
                client.wait_for_workers(1, timeout=self.timeout)
            except TimeoutError:
                raise RequestError(
                    f"{self._name}: has no worker; start some by: dask worker ADDRESS"
                ) from None
            # A function within a function travels by value, so a worker need not have it.
            for worker, found in client.run(version, on_error="return").items():
                if isinstance(found, ImportError):
                    text = f"{self._name}: worker {worker} cannot import obscluster ({found})"
                    raise RequestError(f"{text}; install version {__version__} there") from None
                if not isinstance(found, Exception) and found != __version__:
                    text = f"{self._name}: worker {worker} has obscluster {found}, here is"
                    raise RequestError(f"{text} {__version__}; results could differ")
            n_threads = max(1, sum(client.nthreads().values()))
            try:
                yield from self._map(client, function, list(items), n_threads)
            except (CommClosedError, CancelledError) as error:
                raise RequestError(f"{self._name}: the scheduler was lost ({error})") from None
            except KilledWorker as error:
                raise RequestError(f"{self._name}: workers die of the work ({error})") from None

    def _map(
        self, client: Client, function: Callable[[T], R], items: list[T], n_threads: int
    ) -> Iterator[R]:
        packed = _pickled(function)
        size = max(1, min(self.chunk_size, len(items) // (4 * n_threads)))
        # What waits is held by the scheduler, so that it is not all sent at once.
        starts = iter(range(0, len(items), size))
        waiting: deque[Any] = deque()

        def submit(n_chunks: int) -> None:
            for start in islice(starts, n_chunks):
                chunk = pickle.dumps(items[start : start + size], protocol=5)
                # Not pure: else dask would compute a name from all of the bytes.
                waiting.append(client.submit(_do_chunk, packed, chunk, pure=False))

        submit(max(16, 3 * n_threads))
        try:
            while waiting:
                results = waiting.popleft().result()
                submit(1)
                yield from results
        finally:
            client.cancel(list(waiting))

    @contextmanager
    def _client(self) -> Iterator[Client]:
        import distributed

        if not isinstance(self.cluster, str):
            yield self.cluster
            return
        try:
            # A client that fails to connect lingers; and a notebook has a loop of its own.
            with ThreadPoolExecutor(1) as pool:
                pool.submit(asyncio.run, _connect(self.cluster, self.timeout)).result()
        except Exception as error:  # noqa: BLE001 anything may answer there
            text = str(error) or type(error).__name__
            raise RequestError(
                f"{self._name}: cannot be reached ({text}); "
                "write its address like tcp://host:8786, and start it by: dask scheduler"
            ) from None
        client: Client = distributed.Client(  # type: ignore[no-untyped-call]
            self.cluster, timeout=self.timeout, set_as_default=False
        )
        with client:
            yield client

    @property
    def _name(self) -> str:
        return f"scheduler {self.cluster if isinstance(self.cluster, str) else 'given'}"


def _do_chunk(function: bytes, items: bytes) -> list[Any]:
    """What a worker does."""
    return list(map(pickle.loads(function), pickle.loads(items)))  # noqa: S301 dask does the same


def _pickled(function: Callable[..., Any]) -> bytes:
    """A function with all that workers do not have.

    Modules that come from a file of the user say so by ``__pickle_by_value__``.
    """
    import cloudpickle  # type: ignore[import-untyped]

    modules = [m for m in list(sys.modules.values()) if "__pickle_by_value__" in vars(m)]
    for module in modules:
        cloudpickle.register_pickle_by_value(module)
    try:
        return bytes(cloudpickle.dumps(function))
    finally:
        for module in modules:
            cloudpickle.unregister_pickle_by_value(module)


async def _connect(address: str, timeout: float) -> None:
    """See that there is a scheduler at an address."""
    from distributed.comm.addressing import get_address_host_port

    # distributed would knock until the time is up where nobody is, and for ever where somebody
    # else is who says nothing.
    host, port = get_address_host_port(address)
    reader, writer = await asyncio.wait_for(asyncio.open_connection(host, port), timeout)
    try:
        if not address.startswith("tls://"):
            # A scheduler speaks first, and with the length of its greeting.
            first = await asyncio.wait_for(reader.readexactly(8), timeout)
            if int.from_bytes(first, "little") > _MAX_GREETING:
                raise OSError("what answers there is no scheduler")
    finally:
        writer.close()
