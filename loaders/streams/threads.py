"""The threads of one loop over a stream."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager


@contextmanager
def pools(fillers: int, readers: int) -> Iterator[tuple[ThreadPoolExecutor, ThreadPoolExecutor]]:
    """Threads that fill batches, and some that read ahead for them; all are gone at the end."""
    filler, reader = ThreadPoolExecutor(fillers, "loaders-fill"), ThreadPoolExecutor(readers, "loaders-read")
    process = os.getpid()
    try:
        yield filler, reader
    finally:
        if os.getpid() == process:  # the child of a fork has no threads to wait for
            # first both stop taking new work, so that none waits for the other in vain
            filler.shutdown(wait=False, cancel_futures=True)
            reader.shutdown(wait=True, cancel_futures=True)
            filler.shutdown(wait=True)
