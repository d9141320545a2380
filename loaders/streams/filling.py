"""One epoch of a stream: threads fill its batches, some ahead of the one that is waited for."""

from collections import deque
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from loaders.shards.format import Ints
from loaders.shards.read import WINDOWS, ShardSet, Window, Windows
from loaders.streams.fill import Bad, Filler
from loaders.streams.threads import pools

Array = npt.NDArray[Any]

CHUNK = 16  # records a thread takes at a time


@dataclass(frozen=True)
class Filled:
    """A batch: its number in the epoch, its records, their images, and by position why some are damaged."""

    number: int
    records: Ints
    images: Array
    bad: dict[int, str]


@dataclass(frozen=True)
class Filling:
    """How batches come about.

    edges: where each batch begins in an epoch's order, and where the last one ends. window: batches whose records are
    read together; None: each batch reads its own.
    """

    shards: ShardSet
    filler: Filler
    edges: Ints
    window: int | None

    def batches(
        self, epoch: int, order: Ints, first: int, threads: int, prefetch: int
    ) -> Generator[Filled, None, None]:
        """The batches of an epoch's order of records, from the first wanted on; close it to end the threads."""
        pending: deque[_Pending] = deque()
        with pools(threads, WINDOWS - 1) as (filler, reader):
            ahead = Windows(self.shards, order, self.edges, self.window, reader) if self.window else None
            for number in range(first, len(self.edges) - 1):
                window = ahead.of_batch(number, number - len(pending)) if ahead else None
                pending.append(self._submit(filler, epoch, order, number, window))
                if len(pending) > prefetch:
                    yield pending.popleft().filled()
            while pending:
                yield pending.popleft().filled()

    def _submit(
        self, threads: ThreadPoolExecutor, epoch: int, order: Ints, number: int, window: Window | None
    ) -> "_Pending":
        """Let the threads fill batch `number`."""
        start = int(self.edges[number])
        records = order[start : self.edges[number + 1]]
        images: Array | None = None
        if window is None or not self.filler.stays_in_place or not len(records):
            images = np.empty((len(records), *self.filler.shape), self.filler.dtype)
        # a copy is one call for the whole batch; decoding is shared among the threads
        chunk = max(1, len(records)) if self.filler.copies else CHUNK
        futures = [
            threads.submit(
                self._fill,
                epoch,
                records[at : at + chunk],
                None if images is None else images[at : at + chunk],
                window,
                start + at,
            )
            for at in range(0, len(records), chunk)
        ]
        return _Pending(number, records, images, futures, chunk)

    def _fill(
        self, epoch: int, records: Ints, out: Array | None, window: Window | None, start: int
    ) -> tuple[Array, Bad]:
        """Fill a part of a batch, from `start` of the epoch's order on; out None: it is a part of the window."""
        if window is None:
            assert out is not None
            return out, self.filler.fill(epoch, records, out, None, 0)
        block, row = window.block.result(), start - window.start
        if out is None:
            out = self.filler.images_of(block)[row : row + len(records)]
        return out, self.filler.fill(epoch, records, out, block, row)


@dataclass(frozen=True)
class _Pending:
    """A batch that threads are filling, chunk records a future; images None: they are a part of the window."""

    number: int
    records: Ints
    images: Array | None
    futures: list[Future[tuple[Array, Bad]]]
    chunk: int

    def filled(self) -> Filled:
        """Wait for the threads."""
        parts = [future.result() for future in self.futures]
        bad = {at * self.chunk + i: reason for at, (_, part) in enumerate(parts) for i, reason in part}
        return Filled(self.number, self.records, parts[0][0] if self.images is None else self.images, bad)
