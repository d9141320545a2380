"""Worker processes whose results come back in order, and which do not outlive the process that started them."""

import multiprocessing
import os
import signal
import threading
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def available_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def map_ordered(function: Callable[[T], R], tasks: Iterable[T], workers: int) -> Iterator[R]:
    """map(function, tasks) on worker processes; at most four tasks a worker are read ahead.

    workers 1 starts no process. RuntimeError if a worker is killed; its own exceptions come back as they are.
    """
    if workers == 1:
        yield from map(function, tasks)
        return
    # forkserver: forking this process would copy its threads' locks in whatever state they are
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["loaders.encode"])
    pending: deque[Future[R]] = deque()
    with ProcessPoolExecutor(workers, context, _start_worker) as pool:
        try:
            for task in tasks:
                pending.append(pool.submit(function, task))
                if len(pending) >= 4 * workers:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        except BrokenProcessPool as error:
            raise RuntimeError(
                "a worker process ended abruptly: it was killed (out of memory?), or the script that called "
                'build_shards lacks `if __name__ == "__main__":`; run the same command again to go on, '
                "with fewer workers if memory is short"
            ) from error
        finally:
            for future in pending:
                future.cancel()


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    warnings.simplefilter("ignore")  # Pillow warns about metadata; what cannot be decoded raises
    threading.Thread(target=_leave_with_parent, daemon=True).start()


def _leave_with_parent() -> None:
    """A worker waiting for its next task would not notice that its parent was killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
