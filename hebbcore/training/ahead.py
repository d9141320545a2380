"""Reading ahead: the next batch is read while the present one is learned."""

import contextvars
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from hebbcore.engine import devices

Given = TypeVar("Given")
Made = TypeVar("Made")


def ahead(batches: Iterator[Given], prepare: Callable[[Given], Made]) -> Generator[Made, None, None]:
    """Yield prepare(batch) of each batch, while a thread reads and prepares the next one.

    The thread works on the caller's CUDA stream: on another, a batch could be used before it is there, and its memory
    used again while it is still read. And it works in the caller's context, which holds NumPy's errstate.
    """
    same_stream, here = devices.here(), contextvars.copy_context()

    def fetch() -> Made | None:
        with same_stream():
            batch = next(batches, None)
            return None if batch is None else prepare(batch)

    with ThreadPoolExecutor(1, "hebbcore-data") as pool:
        future = pool.submit(here.run, fetch)
        try:
            while (batch := future.result()) is not None:
                future = pool.submit(here.run, fetch)
                yield batch
        finally:
            future.cancel()
            future.exception() if not future.cancelled() else None
            if hasattr(batches, "close"):
                batches.close()
