"""ShardStream: batches of images out of a set of shards, epoch after epoch."""

import copy
import inspect
import os
import threading
import weakref
from collections.abc import Generator, Iterator
from contextlib import closing, suppress
from functools import cached_property
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np

from loaders.checks import require_flags
from loaders.images.transforms import Transform
from loaders.shards.format import Ints
from loaders.shards.index import Index
from loaders.shards.names import Names
from loaders.shards.read import WINDOWS, ShardSet
from loaders.streams.arguments import (
    SHUFFLE_BUFFER,
    Normalization,
    check_choices,
    check_integers,
    checked_part,
    checked_subset,
    checked_transform,
    scaling,
    without_effect,
)
from loaders.streams.fill import Filler
from loaders.streams.filling import Array, Filled, Filling
from loaders.streams.order import block_length, choose, epoch_order, part_of, shares_of
from loaders.workers import available_cores

Batch = tuple[Array, Ints] | Array

_beginning = threading.Lock()  # held while a loop takes its epoch or notes its position


def _after_fork() -> None:
    global _beginning
    _beginning = threading.Lock()  # another thread may have held it


os.register_at_fork(after_in_child=_after_fork)


class ShardStream:
    """Batches of (images, labels) from a folder of shards; every `for` loop over it is the next epoch.

    Batches: images (n, H, W, C) uint8, float32 or as stored, labels (n,) int64, -1 for an image without one. len() is
    the number of batches of an epoch. Batches are the consumer's to keep or change; one of shuffled raw images is a
    part of the shuffle's memory. Leaving a loop early stops its threads, at the latest when the iterator is collected;
    `with` or close() do it now.

    Threads may use one stream side by side: each of their loops is an epoch of its own, and state() tells where the
    loop is that began last; one loop is for one thread at a time. After a fork both processes may begin loops, but only
    the parent goes on with those under way. A stream pickles: the copy's next loop is the stream's, or goes on where
    the stream is if it is in a loop.

    Parameters
    ----------
    path : str or path
        A folder written by build_shards or write_shards.
    batch_size : int
        Images of a batch; the last one of an epoch may be smaller.
    image_size : int, optional
        In pixels; short for transform=CenterCrop(image_size). None keeps the stored size.
    transform : CenterCrop or RandomResizedCrop, optional
        What is cut out of each image. Its random numbers depend on seed, epoch and record only.
    shuffle : bool
        Another order each epoch, the same for the same seed and epoch. Blocks of half a megabyte are read in a random
        order over the whole set, and records are shuffled within shuffle_buffer bytes.
    seed : int
        Seed of the order and of the transform's random numbers; refused where nothing is drawn.
    drop_last : bool
        Leave out the last batch of an epoch if it is smaller than the others.
    subset : int or float, optional
        An int takes the first so many records of a shuffle by subset_seed; a float that fraction of every class, and
        of the images without a label.
    subset_seed : int, optional
        None: 0. It draws nothing where the subset is all records.
    part : (rank, world)
        This process's share; the shares of one epoch have no overlap and leave nothing out.
    dtype : str, optional
        "uint8", or "float32" for pixels / 255; of images of other numbers than uint8, pixels divided by the largest
        value of their type or by the index's range, and floats as they are. "stored": numbers as they are stored. None:
        "uint8" if they are, otherwise "float32".
    normalize : (mean, std) or "stored", optional
        For float32 only: pixels become (pixels / 255 - mean) / std, with mean and standard deviation per channel in
        units of 255 (or of what else they are divided by); "stored" takes those in the index.
    labels : bool
        False yields images alone.
    threads : int, optional
        CPU threads that decode; None: one for each core. It does not change what comes out.
    prefetch : int
        Batches prepared ahead. It does not change what comes out.
    shuffle_buffer : int
        Bytes of memory of the shuffle, in all; for shuffle=True.
    on_error : str
        "raise" stops at a damaged record; "skip" leaves it out of its batch and adds it, by shard and number, to
        `skipped`, with its name and the reason.

    Raises
    ------
    ValueError, TypeError
        For bad arguments, and for those that would have no effect.
    FileNotFoundError, OSError, ValueError
        For missing, truncated or foreign files; and while iterating ValueError for a damaged record, with the shard
        and the record named.
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
        dtype: Literal["uint8", "float32", "stored"] | None = None,
        normalize: Normalization | None = None,
        labels: bool = True,
        threads: int | None = None,
        prefetch: int = 2,
        shuffle_buffer: int = SHUFFLE_BUFFER,
        on_error: Literal["raise", "skip"] = "raise",
    ) -> None:
        check_integers(1, batch_size=batch_size, prefetch=prefetch, shuffle_buffer=shuffle_buffer)
        check_integers(1, threads=1 if threads is None else threads)
        check_integers(0, seed=seed, subset_seed=0 if subset_seed is None else subset_seed)
        require_flags("ShardStream", shuffle=shuffle, drop_last=drop_last, labels=labels)
        check_choices(subset, subset_seed, on_error)
        self._part = checked_part(part)
        transform = checked_transform(transform, image_size)
        self._idle = without_effect(bool(shuffle), transform, seed, shuffle_buffer)  # earlier versions took any value
        self._shards = shards = ShardSet(path)
        self.index: Index = shards.index
        self.batch_size, self.threads, self.prefetch = batch_size, threads or available_cores(), prefetch
        self.shuffle = bool(shuffle)
        self.skipped: dict[tuple[str, int], str] = {}
        self._labels, self._seed = labels, seed
        scale = scaling(shards.index, dtype, normalize)
        self.skips = on_error == "skip"
        self._filler = Filler(shards, transform, scale, seed, self.skips)
        subset = checked_subset(subset, len(shards))
        self._records = choose(shards.labels, subset, subset_seed or 0)
        self._cut(drop_last, shuffle_buffer)
        unchanged = self._filler.copies and transform is not None and not transform.flip
        self._settings = {
            "identity": shards.index.identity,
            "batch_size": int(batch_size),
            "shuffle": self.shuffle,
            "shuffle_buffer": int(shuffle_buffer),
            "seed": int(seed),
            "subset": subset,
            "subset_seed": int(subset_seed or 0),
            "part": list(self._part),
            "drop_last": bool(drop_last),
            "transform": None if transform is None or unchanged else repr(transform),
            "dtype": self._filler.dtype.name,
            "scaling": None if scale is None else [factors.tolist() for factors in scale],  # of pixels: × and +
        }
        self._next = self._position = (0, 0)  # epoch and batch: that the next loop begins with, and of the latest
        self._latest: object = None  # what stands for the loop that began last, whose position it is
        self._running: weakref.WeakSet[Generator[Batch, None, None]] = weakref.WeakSet()
        self._closed = False

    def _cut(self, drop_last: bool, shuffle_buffer: int) -> None:
        """Note how many batches an epoch has, and how many records of the shuffle are in memory."""
        count = len(self._records[part_of(len(self._records), *self._part)])
        self._batches = count // self.batch_size if drop_last else -(-count // self.batch_size)
        self._images = min(count, self._batches * self.batch_size)
        # each window is a whole number of batches
        window = int(shuffle_buffer / WINDOWS / max(1.0, self._shards.mean_bytes))
        self._window = max(1, window // self.batch_size)
        self._block = block_length(len(self._records), self._shards.mean_bytes)
        self._take_share(0, 1)

    def _take_share(self, rank: int, world: int) -> None:
        """Let batches be shares of the whole ones."""
        count, together = len(self._records[part_of(len(self._records), *self._part)]), self._window
        self._shared = world > 1
        self._mine, edges = shares_of(count, self.batch_size, self._batches, rank, world)
        self._filling = Filling(self._shards, self._filler, edges, together if self.shuffle else None)

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

    def share(self, rank: int, world: int) -> "ShardStream":
        """Return a stream of the same batches, of which it gives a rank's even share and reads no other records.

        Unlike with `part`, the batches, their order and the state are those of the whole stream, whatever the number of
        ranks. A share may be empty; it is given all the same, so that all ranks go through the same batches.

        Parameters
        ----------
        rank, world : int
            Which of how many.

        Returns
        -------
        ShardStream
            Beside this one, at the same position.
        """
        other = copy.copy(self)
        other.skipped = {}
        other._take_share(*checked_part((rank, world)))
        return other

    def order(self, epoch: int) -> Ints | None:
        """Return which image of the stream comes when in an epoch.

        Parameters
        ----------
        epoch : int
            Which one, from 0.

        Returns
        -------
        array (n,), int64
            Numbers of images, counted from 0 in the order of the records. None if the images of two epochs differ: by
            a random transform, a share of several, or records left out.
        """
        partial = self._part[1] > 1 or self._batches * self.batch_size < len(self._records)
        if partial or not self._filler.is_repeatable:
            return None
        return np.searchsorted(np.sort(self._records), self._order(epoch))

    def state(self) -> dict[str, Any]:
        """Return where the latest loop is, in JSON types.

        It holds the epoch and batch that come next, and what decides the order and the pixels.
        """
        epoch, batch = self._position
        if batch and batch >= self._batches:
            epoch, batch = epoch + 1, 0
        return {**self._settings, "epoch": epoch, "batch": batch}

    def restore(self, state: dict[str, Any]) -> None:
        """Let the next loop continue where a state was taken, then go on with the epochs after it.

        Parameters
        ----------
        state : dict
            What state() returned.

        Raises
        ------
        TypeError
            If it is not a state.
        ValueError
            If it belongs to another set of shards or other settings.
        """
        if not isinstance(state, dict):
            raise TypeError(f"ShardStream.restore: state must be a dict from state(), got {type(state).__name__}")
        differences = [
            f"{key} {repr(state[key]) if key in state else 'not set'} there and {value!r} here"
            for key, value in self._settings.items()
            if key not in state or (state[key] != value and key not in self._idle)
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
        order = self._order(epoch)[self._mine] if self._shared else self._order(epoch)
        filled = self._filling.batches(epoch, order, first, self.threads, self.prefetch)
        with closing(filled):
            for batch in filled:
                yield from self._deliver(epoch, batch, loop)
                del batch  # its memory, before the next one is waited for

    def _deliver(self, epoch: int, batch: Filled, loop: object) -> Iterator[Batch]:
        """Yield a batch without its damaged records; nothing if none is left."""
        process = os.getpid()
        records, images = batch.records, batch.images
        if batch.bad:
            for i, reason in batch.bad.items():
                record = int(records[i])
                self.skipped[self._shards.location(record)] = f"{self._shards.name_of(record)}: {reason}"
            keep = np.setdiff1d(np.arange(len(records)), list(batch.bad))
            images, records = images[keep], records[keep]
        if self._closed:
            raise ValueError("ShardStream: the stream was closed during this loop")
        with _beginning:
            if self._latest is loop:
                self._position = (epoch, batch.number + 1)
        if len(records) or self._shared:
            yield (images, self._shards.labels[records]) if self._labels else images
            if os.getpid() != process:
                raise RuntimeError(
                    "ShardStream: this loop began before a fork, which its threads do not come along with; begin a new "
                    "loop in the child process"
                )
