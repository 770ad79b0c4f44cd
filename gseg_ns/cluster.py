"""Work shared with the machines of a Dask cluster: results are those of one process, in the order of their items."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any, TypeVar

from gseg_ns.errors import GsegError

LOCAL = "local"
"""In place of an address: a cluster of processes on this machine, a core each."""
_PATIENCE = 60
"""Seconds that a scheduler has to answer, and its first worker to come."""
_AHEAD = 2
"""Items that are sent out for each thread of the workers: the next one is there when one is done."""

Result = TypeVar("Result")


class Cluster:
    """A Dask cluster, connected."""

    def __init__(self, client: Any) -> None:
        """Wrap a `distributed.Client`."""
        self._client = client

    def in_order(
        self, function: Callable[..., Result], items: Iterable[tuple[Any, ...]], common: Any = None
    ) -> Iterator[Result]:
        """Call a function with each item, on the workers.

        Few items are on their way at once, so that memory does not grow with their number.

        Args:
            function: of a module that workers can import; called as `function(common, *item)`.
            items: arguments of each call.
            common: what all calls need; sent to each worker once.

        Raises:
            GsegError: the function raised one, or workers were lost.
        """
        shared = self._client.scatter(common, broadcast=True, hash=False)
        waiting: deque[Any] = deque()
        try:
            for item in items:
                waiting.append(self._client.submit(function, shared, *item, pure=False))
                if len(waiting) >= _AHEAD * max(sum(self._client.nthreads().values()), 1):
                    yield self._result(waiting.popleft())
            while waiting:
                yield self._result(waiting.popleft())
        finally:
            self._client.cancel(list(waiting))

    def _result(self, future: Any) -> Any:
        from distributed import KilledWorker

        try:
            return future.result()
        except KilledWorker as error:
            raise GsegError(f"A part of the work ended each worker that took it: out of memory? ({error})") from error


@contextmanager
def connected(address: str) -> Iterator[Cluster]:
    """Connect to a cluster.

    Args:
        address: of a Dask scheduler, as `tcp://host:8786`, or `local`.

    Raises:
        GsegError: Dask is not installed, nothing answers, there is no worker, or workers have another version.
    """
    try:
        from distributed import Client, LocalCluster
    except ImportError as error:
        raise GsegError("--dask needs Dask: pip install -e '.[dask]'") from error
    from gseg_ns.rendering.threads import available_cores

    made = None
    try:
        if address == LOCAL:
            made = LocalCluster(n_workers=available_cores(), threads_per_worker=1, dashboard_address=None)
        with Client(made or address, timeout=_PATIENCE, set_as_default=False) as client:
            client.wait_for_workers(1, timeout=_PATIENCE)
            _check_versions(client)
            yield Cluster(client)
    except (OSError, TimeoutError, ValueError) as error:
        raise GsegError(
            f"No Dask scheduler with workers answers at {address} ({str(error)[:200] or type(error).__name__}). Start "
            "`dask scheduler` and `dask worker`, or give --dask local."
        ) from error
    finally:
        if made is not None:
            made.close()


def _check_versions(client: Any) -> None:
    ours = own_version()
    for worker, theirs in client.run(own_version, on_error="return").items():
        if theirs != ours:
            raise GsegError(
                f"The Dask worker {worker} has gseg-ns {theirs}, and this machine {ours}: install the same everywhere."
            )


def own_version() -> str:
    """Of what must be the same everywhere."""
    return version("gseg-ns")
