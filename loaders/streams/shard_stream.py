"""ShardStream: batches of images out of a set of shards, epoch after epoch."""

import inspect
import operator
import os
import threading
import weakref
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt

from loaders.images.decode import CenterCrop, RandomResizedCrop, Transform
from loaders.shards.format import Ints
from loaders.shards.index import Index
from loaders.shards.names import Names
from loaders.shards.read import WINDOWS, ShardSet, Window, Windows
from loaders.streams.fill import Bad, Filler, Normalization, scaling
from loaders.streams.order import block_length, choose, epoch_order, part_of
from loaders.streams.threads import pools
from loaders.workers import available_cores

Array = npt.NDArray[Any]
Batch = tuple[Array, Ints] | Array

CHUNK = 16  # records a thread takes at a time

_beginning = threading.Lock()  # held while a loop takes its epoch or notes its position


def _after_fork() -> None:
    global _beginning
    _beginning = threading.Lock()  # another thread may have held it


os.register_at_fork(after_in_child=_after_fork)


class ShardStream:
    """Batches of (images, labels) from a folder of shards; every `for` loop over it is the next epoch.

    path: a folder written by build_shards or write_shards.
    batch_size: images a batch; the last one of an epoch may be smaller, drop_last leaves it out.
    image_size: pixels; short for transform=CenterCrop(image_size). None keeps the stored size.
    transform: CenterCrop or RandomResizedCrop. Its random numbers depend on seed, epoch and record only.
    shuffle: another order each epoch, the same for the same seed and epoch. Blocks of half a megabyte are read in a
    random order over the whole set, and records are shuffled within shuffle_buffer bytes (of memory, in all).
    subset: an int takes the first n records of a shuffle by subset_seed (None: 0), a float that fraction of every
    class, and of the images without a label.
    part: (rank, world): this process's share; the shares of one epoch have no overlap and leave nothing out.
    dtype: "uint8", or "float32" for pixels / 255. normalize (float32 only): (mean, std) per channel in units of 255,
    or "stored" for those in the index; pixels become (pixels / 255 - mean) / std.
    labels: False yields images alone.
    threads: that decode; None: one for each core. prefetch: batches prepared ahead. Neither changes what comes out.
    on_error: "raise" stops at a damaged record, "skip" leaves it out of its batch and adds it, by shard and number, to
    `skipped`, with its name and the reason.

    Batches: images (n, H, W, C) uint8 or float32, labels (n,) int64, -1 for an image without one.
    len() is the number of batches of an epoch.
    Batches are the consumer's to keep or change. One of shuffled raw images is a part of the shuffle's memory.
    Leaving a loop early stops its threads, at the latest when the iterator is collected; `with` or close() do it now.

    Threads may use one stream side by side: each of their loops is an epoch of its own, and state() is of the loop that
    began last; one loop is for one thread at a time. After a fork both processes may begin loops, but only the parent
    goes on with those under way. A stream pickles: the copy's next loop is the stream's, or goes on where the stream is
    if it is in a loop.

    Raises ValueError or TypeError for bad arguments, FileNotFoundError, OSError or ValueError for missing, truncated
    or foreign files, and while iterating ValueError for a damaged record, with the shard and the record named.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        batch_size: int = 64,
        image_size: int | None = None,
        transform: Transform | None = None,
        shuffle: bool = False,
        seed: int = 0,
        drop_last: bool = False,
        subset: int | float | None = None,
        subset_seed: int | None = None,
        part: tuple[int, int] = (0, 1),
        dtype: Literal["uint8", "float32"] = "uint8",
        normalize: Normalization | None = None,
        labels: bool = True,
        threads: int | None = None,
        prefetch: int = 2,
        shuffle_buffer: int = 2**28,
        on_error: Literal["raise", "skip"] = "raise",
    ) -> None:
        for name, value, least in [
            ("batch_size", batch_size, 1),
            ("seed", seed, 0),
            ("subset_seed", 0 if subset_seed is None else subset_seed, 0),
            ("threads", 1 if threads is None else threads, 1),
            ("prefetch", prefetch, 1),
            ("shuffle_buffer", shuffle_buffer, 1),
        ]:
            if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
                raise ValueError(f"ShardStream: {name} must be an integer >= {least}, got {value!r}")
        try:
            rank, world = map(operator.index, part)
        except (TypeError, ValueError):
            rank, world = 0, 0
        if not 0 <= rank < world:
            raise ValueError(f"ShardStream: part must be (rank, world) with 0 <= rank < world, got {part!r}")
        if subset_seed is not None and subset is None:
            raise ValueError(f"ShardStream: subset_seed {subset_seed} chooses nothing without subset; give both")
        subset_seed = subset_seed or 0
        if on_error not in ("raise", "skip"):
            raise ValueError(f'ShardStream: on_error must be "raise" or "skip", got {on_error!r}')
        if image_size is not None:
            if transform is not None:
                raise ValueError("ShardStream: give image_size or transform, not both; a transform has its own size")
            transform = CenterCrop(image_size)
        if transform is not None and not isinstance(transform, (CenterCrop, RandomResizedCrop)):
            raise TypeError(f"ShardStream: transform must be CenterCrop or RandomResizedCrop, got {transform!r}")
        shards = ShardSet(path)
        self.index: Index = shards.index
        self.batch_size, self.threads, self.prefetch = batch_size, threads or available_cores(), prefetch
        self.shuffle = bool(shuffle)
        self.skipped: dict[tuple[str, int], str] = {}
        self._shards, self._labels = shards, labels
        scale = scaling(shards.index, dtype, normalize)
        self._filler = Filler(shards, transform, scale, seed, on_error == "skip")
        subset = _subset(subset, len(shards))
        self._records = choose(shards.labels, subset, subset_seed)
        count = len(self._records[part_of(len(self._records), rank, world)])
        self._batches = count // batch_size if drop_last else -(-count // batch_size)
        self._images = min(count, self._batches * batch_size)
        # each window is a whole number of batches
        window = int(shuffle_buffer / WINDOWS / max(1.0, shards.mean_bytes))
        self._window = max(1, window // batch_size)
        self._block = block_length(len(self._records), shards.mean_bytes)
        self._seed, self._part = seed, (rank, world)
        unchanged = self._filler.copies and transform is not None and not transform.flip
        self._settings = {
            "identity": shards.index.identity,
            "batch_size": int(batch_size),
            "shuffle": self.shuffle,
            "shuffle_buffer": int(shuffle_buffer),
            "seed": int(seed),
            "subset": subset,
            "subset_seed": int(subset_seed),
            "part": [rank, world],
            "drop_last": bool(drop_last),
            "transform": None if transform is None or unchanged else repr(transform),
            "dtype": self._filler.dtype.name,
            "scaling": None if scale is None else [factors.tolist() for factors in scale],  # of pixels: × and +
        }
        self._next = (0, 0)  # epoch and batch that the next loop begins with
        self._position = (0, 0)
        self._latest: object = None  # what stands for the loop that began last, whose position it is
        self._running: weakref.WeakSet[Generator[Batch, None, None]] = weakref.WeakSet()
        self._closed = False

    def __len__(self) -> int:
        return self._batches

    @property
    def images(self) -> int:
        """Number of images of an epoch."""
        return self._images

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(H, W, C) of the images in a batch."""
        return self._filler.shape

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes that labels 0, 1, … mean."""
        return self.index.class_names

    @cached_property
    def names(self) -> Names:
        """Where the images of the first epoch came from, in its order, as `labels`; read when they are asked for."""
        return Names(self._shards, self._order(0)[: self._images])

    @property
    def labels(self) -> Ints:
        """Labels (n,) of the images of the first epoch, in its order; with those of damaged records."""
        return self._shards.labels[self._order(0)[: self._images]]

    def __iter__(self) -> Iterator[Batch]:
        if self._closed:
            raise ValueError("ShardStream: the stream is closed; make a new one")
        loop = object()
        with _beginning:
            epoch, first = self._position = self._next
            self._next, self._latest = (epoch + 1, 0), loop
        batches = self._epoch(epoch, first, loop)
        self._running.add(batches)
        return batches

    def __getstate__(self) -> dict[str, Any]:
        state = {**self.__dict__, "_latest": None}
        del state["_running"]
        if any(inspect.getgeneratorstate(loop) != inspect.GEN_CLOSED for loop in list(self._running)):
            position = self.state()
            state["_next"] = state["_position"] = position["epoch"], position["batch"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._running = weakref.WeakSet()

    def order(self, epoch: int) -> Ints | None:
        """Return which image of the stream comes when in an epoch, counted from 0 in the order of the records.

        None if the images of two epochs differ: by a random transform, a share of several, or records left out.
        """
        partial = self._part[1] > 1 or self._batches * self.batch_size < len(self._records)
        if partial or not self._filler.is_repeatable:
            return None
        return np.searchsorted(np.sort(self._records), self._order(epoch))

    def state(self) -> dict[str, Any]:
        """Where the latest loop is, as JSON types: the next batch to come and what decides the order and the pixels."""
        epoch, batch = self._position
        if batch and batch >= self._batches:
            epoch, batch = epoch + 1, 0
        return {**self._settings, "epoch": epoch, "batch": batch}

    def restore(self, state: dict[str, Any]) -> None:
        """Let the next loop continue where state was taken, then go on with the epochs after it.

        Raises TypeError if it is not a state, ValueError if it is of another set of shards or other settings.
        """
        if not isinstance(state, dict):
            raise TypeError(f"ShardStream.restore: state must be a dict from state(), got {type(state).__name__}")
        differences = [
            f"{key} {state.get(key)!r} there and {value!r} here"
            for key, value in self._settings.items()
            if state.get(key) != value
        ]
        if differences:
            raise ValueError(f"ShardStream.restore: the state belongs to another stream: {', '.join(differences)}")
        epoch, batch = state.get("epoch"), state.get("batch")
        if not isinstance(epoch, int) or not isinstance(batch, int) or epoch < 0 or not 0 <= batch <= self._batches:
            raise ValueError(f"ShardStream.restore: epoch and batch must be positions of this stream, got {state}")
        with _beginning:
            self._next = self._position = (epoch, batch)
            self._latest = None

    def close(self) -> None:
        """Stop the threads of loops that were left early. The stream cannot be used any more.

        For the end of all loops: one in another thread stops here, without an error if it is between two batches.
        """
        self._closed = True
        for batches in list(self._running):
            with suppress(ValueError):  # another thread is just waiting for its next batch: it finds the stream closed
                batches.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _order(self, epoch: int) -> Ints:
        return epoch_order(
            self._records, self._part, self._block, self._window * self.batch_size, self._seed, epoch, self.shuffle
        )

    def _epoch(self, epoch: int, first: int, loop: object) -> Generator[Batch, None, None]:
        order = self._order(epoch)
        pending: deque[_Pending] = deque()
        with pools(self.threads, WINDOWS - 1) as (workers, reader):
            windows = Windows(self._shards, order, self.batch_size, self._window, reader) if self.shuffle else None
            for number in range(first, self._batches):
                window = windows.of_batch(number, number - len(pending)) if windows is not None else None
                pending.append(self._submit(workers, epoch, order, number, window))
                if len(pending) > self.prefetch:
                    yield from self._deliver(epoch, pending.popleft(), loop)
            while pending:
                yield from self._deliver(epoch, pending.popleft(), loop)

    def _submit(
        self, workers: ThreadPoolExecutor, epoch: int, order: Ints, number: int, window: Window | None
    ) -> "_Pending":
        """Let the threads fill batch `number`."""
        start = number * self.batch_size
        records = order[start : start + self.batch_size]
        images: Array | None = None
        if window is None or not self._filler.stays_in_place:
            images = np.empty((len(records), *self._filler.shape), self._filler.dtype)
        # a copy is one call for the whole batch; decoding is shared among the threads
        chunk = len(records) if self._filler.copies else CHUNK
        futures = [
            workers.submit(
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
            return out, self._filler.fill(epoch, records, out, None, 0)
        block, row = window.block.result(), start - window.start
        if out is None:
            out = self._filler.images_of(block)[row : row + len(records)]
        return out, self._filler.fill(epoch, records, out, block, row)

    def _deliver(self, epoch: int, batch: "_Pending", loop: object) -> Iterator[Batch]:
        """Wait for a batch and yield it, without its damaged records; nothing if none is left."""
        process = os.getpid()
        parts = [future.result() for future in batch.futures]
        records, images = batch.records, parts[0][0] if batch.images is None else batch.images
        bad = {at * batch.chunk + i: reason for at, (_, part) in enumerate(parts) for i, reason in part}
        if bad:
            for i, reason in bad.items():
                record = int(records[i])
                self.skipped[self._shards.place(record)] = f"{self._shards.name_of(record)}: {reason}"
            keep = np.setdiff1d(np.arange(len(records)), list(bad))
            images, records = images[keep], records[keep]
        if self._closed:
            raise ValueError("ShardStream: the stream was closed during this loop")
        with _beginning:
            if self._latest is loop:
                self._position = (epoch, batch.number + 1)
        if len(records):
            yield (images, self._shards.labels[records]) if self._labels else images
            if os.getpid() != process:
                raise RuntimeError(
                    "ShardStream: this loop began before a fork, which its threads do not come along with; begin a new "
                    "loop in the child process"
                )


@dataclass(frozen=True)
class _Pending:
    """A batch that threads are filling, chunk records a future; images None: they are a part of the window."""

    number: int
    records: Ints
    images: Array | None
    futures: list[Future[tuple[Array, Bad]]]
    chunk: int


def _subset(subset: int | float | None, records: int) -> int | float | None:
    if subset is None or (isinstance(subset, float) and 0 < subset <= 1):
        return subset
    if isinstance(subset, (int, np.integer)) and not isinstance(subset, bool) and 1 <= subset <= records:
        return int(subset)
    raise ValueError(
        f"ShardStream: subset must be an int between 1 and the number of records ({records}), or a float fraction "
        f"of every class, 0 < fraction <= 1, got {subset!r}"
    )
