"""Batches of which each process of a team gets its share."""

import socket
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeVar

import numpy as np

from hebbcore.engine import backend, devices
from hebbcore.engine.backend import Array
from hebbcore.engine.group.cuts import cut
from hebbcore.engine.group.portion import Portion
from hebbcore.engine.group.team import Team
from hebbcore.training.array_batches import ArrayBatches
from hebbcore.training.batch import Batch, labels_at
from hebbcore.training.batches import Batches, IterableBatches, StreamBatches

T = TypeVar("T")

_ROUNDING = 1e-5  # of a batch's mean squares, by which unlike processors may make it differ


class Share(NamedTuple):
    """A process's share of a batch: its images from `first` on of `total`; None: others must be asked."""

    batch: Batch
    first: int
    total: int | None

    def portion(self, team: Team) -> tuple[Batch, Portion]:
        """Return the images, one of zeros for none, and which part of the batch they are. All processes call this."""
        count, first, total = len(self.batch), self.first, self.total
        if total is None:
            counts = team.gather(count)
            first, total = sum(counts[: team.rank]), sum(counts)
        return _never_empty(self.batch), Portion(team, first, count, total)


class Shares:
    """Batches of which each process gets its share; they have the same order and the same positions as whole ones.

    Of an array, and of streams that can serve shares (see streams.Described.share), only the process's own images are
    read; of other iterables every process reads all.

    Parameters
    ----------
    function : str
        What trains, for messages.
    whole : Batches
        The whole batches, which stay usable.
    team : Team
        The processes.
    """

    def __init__(self, function: str, whole: Batches, team: Team) -> None:
        self.whole, self.checked, self.lends = whole, whole.checked, whole.lends
        self._function, self._team, self._mine = function, team, (team.rank, team.size)
        self._first: list[float] | None = None  # of the first batch read: see _told_by
        self._own: IterableBatches | None = None
        if isinstance(whole, StreamBatches) and hasattr(whole.source, "share"):
            self._own = StreamBatches(function, whole.source.share(*self._mine), not whole.checked, whole.labelled)

    def by_first(self, make: Callable[[], T]) -> T | None:
        """Return what make makes of the whole batches in rank 0, and None in the others.

        These make it too, without a warning, of data in which one loop may decide the order of the next, such as a
        DataLoader with a generator: all processes must have read as much.
        """
        if self._team.rank == 0:
            return make()
        if not isinstance(self.whole, ArrayBatches | StreamBatches):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                make()
        return None

    def epoch(self, number: int, start: int = 0) -> Iterator[Share]:
        """Return this process's shares of the batches of an epoch; see Batches."""
        whole = self.whole
        if isinstance(whole, ArrayBatches):
            return self._sized(whole.epoch(number, start, self._mine), start, len(whole.array), whole.batch_size)
        if self._own is not None:
            own: Any = self._own
            first = start + (own.first if number == 0 else 0)
            size = None if own.source.skips else own.source.batch_size
            return self._sized(own.epoch(number, start), first, own.source.images, size)
        return self._cut(whole.epoch(number, start))

    def _sized(self, source: Iterator[Batch], batch: int, images: int, size: int | None) -> Iterator[Share]:
        """Yield shares that a source gives, of batches of one size from number `batch` on; None: they may lack some."""
        for images_here in source:
            total = None if size is None else min(size, images - batch * size)
            yield Share(images_here, 0 if total is None else cut(total, *self._mine)[0], total)
            batch += 1

    def _cut(self, source: Iterator[Batch]) -> Iterator[Share]:
        for batch in source:
            array = backend.as_array(self._function, "data", batch.images)
            if self._first is None and array.size:
                self._first = _told_by(array)
            first, end = cut(len(array), *self._mine)
            yield Share(Batch(array[first:end], labels_at(batch.labels, slice(first, end))), first, len(array))

    def require_same_first(self) -> None:
        """Raise ValueError if the first batch, of data of which each process reads all, is not that of rank 0.

        It may differ by the rounding of unlike processors. All processes call this, after a batch was read.
        """
        mine, theirs = self._first, self._team.broadcast(self._first)
        if mine is not None and theirs is not None and not np.allclose(mine, theirs, _ROUNDING, 0, equal_nan=True):
            raise ValueError(
                f"{self._function}: rank {self._team.rank} on {socket.gethostname()} differs from rank 0: its first "
                "batch is another one. Each process takes its part of the same batches: give all the same data, or a "
                "stream that has share (see hebbcore.streams)."
            )
        self._team.gather(None)  # nobody begins before all have compared

    def images(self, first: int | None = None) -> int | None:
        """See Batches. first: of the whole batch, not of a share."""
        return self.whole.images(first)

    def following(self, start: int, count: int) -> int:
        """See Batches."""
        return (self._own or self.whole).following(start, count)

    def order(self, number: int) -> Array | None:
        """See Batches."""
        return self.whole.order(number)

    def identity(self) -> dict[str, Any]:
        """See Batches."""
        return self.whole.identity()

    def rewind(self) -> None:
        """See Batches."""
        self.whole.rewind()


def _told_by(array: Array) -> list[float]:
    """Return what tells a batch from others: its images, its mean square, and how far its first image is from 1."""
    square = sum(
        float(np.square(devices.to_device(piece, "cpu"), dtype=np.float64).sum()) for piece in backend.pieces(array)
    )
    first = devices.to_device(array[:1], "cpu").astype(np.float64)
    return [len(array), square / array.size, float(((first - 1) ** 2).mean())]


def _never_empty(batch: Batch) -> Batch:
    images = batch.images
    if len(images):
        return batch
    zeros = backend.namespace(images).zeros((1, *images.shape[1:]), images.dtype)
    return Batch(zeros, None if batch.labels is None else np.full(1, -1))


def portion_of(team: Team) -> Portion:
    """Return a part that stands for what a process saw of many batches."""
    return Portion(team, 0, 1, 1)


def here_of(batch: Any, team: Team | None) -> tuple[Batch, Portion | None]:
    """Return what this process has of a batch, and which part that is; None: the whole, of a process alone."""
    found: tuple[Batch, Portion | None] = (batch, None) if team is None else batch.portion(team)
    return found
