"""Training data as epochs of batches: shuffled slices of an array, or whatever an iterable yields."""

from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from itertools import islice
from typing import Any, Protocol

import numpy as np

from hebbcore import checks, streams
from hebbcore.engine import backend
from hebbcore.engine.backend import Array
from hebbcore.engine.finite import require_finite
from hebbcore.engine.patches import as_images
from hebbcore.training.array_batches import ArrayBatches, checksum

BATCH_SIZE = 64  # images a step, unless one says otherwise


class Batches(Protocol):
    """Something that gives the batches of any epoch, from any batch on."""

    checked: bool  # the data are known to be finite, or need not be

    def images(self, first: Array) -> int | None:
        """Return about how many images an epoch has, given its first batch; None if that is unknown."""

    def epoch(self, number: int, start: int = 0) -> Iterator[Array]:
        """Return the batches of an epoch from batch `start` on, each (n, H, W, C) or (n, features)."""

    def following(self, start: int, count: int) -> int:
        """Return the `start` of what follows the first `count` batches of the latest epoch(number, start)."""

    def order(self, number: int) -> Array | None:
        """Return which image of the data is which of an epoch, each exactly once; None if that is unknown."""

    def identity(self) -> dict[str, Any]:
        """Return what tells these data and their order from others, as JSON types."""

    def rewind(self) -> None:
        """Leave the source as it was before the first epoch."""


class IterableBatches:
    """Batches that an iterable yields: arrays, or (images, labels) pairs whose labels are left out."""

    def __init__(self, function: str, source: Iterable[Any], check: bool) -> None:
        self.function, self.source, self.checked = function, source, not check
        self._identity: dict[str, Any] | None = None

    def images(self, first: Array) -> int | None:
        """See Batches."""
        batches = streams.batches_of(self.source)
        return None if batches is None else batches * len(first)

    def epoch(self, number: int, start: int = 0) -> Iterator[Array]:
        """See Batches."""
        return self._batches(number, start, start)

    def _batches(self, number: int, start: int, skip: int) -> Generator[Array, None, None]:
        """Yield the batches of an epoch, which begins at batch `start`, without the first `skip` of the source."""
        empty = True
        source = iter(self.source)
        try:
            for batch in islice(source, skip, None):
                empty = False
                yield streams.images_of(batch)
        finally:
            if hasattr(source, "close"):  # a generator, perhaps with threads to stop
                source.close()
        if empty and not start:
            again = "; it can be iterated once only" if number else ""
            raise checks.wrong(ValueError, self.function, "data", f"gave no batch in epoch {number + 1}{again}.")

    def following(self, start: int, count: int) -> int:
        """See Batches."""
        return start + count

    def order(self, number: int) -> Array | None:
        """See Batches."""
        return None

    def identity(self) -> dict[str, Any]:
        """See Batches."""
        if self._identity is None:
            self._identity = {"batches": streams.batches_of(self.source)}
            if isinstance(self.source, Sequence):  # others may give new arrays each time
                found = 0
                for batch in self.source:
                    found = checksum(backend.as_array(self.function, "data", streams.images_of(batch)), found)
                self._identity["checksum"] = found
        return self._identity

    def rewind(self) -> None:
        """See Batches."""


class StreamBatches(IterableBatches):
    """Batches of a stream that can say where it is and go there, see streams.Resumable.

    Epoch 0 begins where the stream is. The stream may leave out batches, as a ShardStream does with those that are
    damaged as a whole, if its state moves on by as many.
    """

    def __init__(self, function: str, source: streams.Resumable, check: bool) -> None:
        super().__init__(function, source, check)
        self._stream, self._state = source, source.state()
        self._following: list[int] = []  # after each batch of the latest epoch

    @property
    def first(self) -> int:
        """The batch of the stream's epoch that epoch 0 begins with."""
        return int(self._state["batch"])

    def epoch(self, number: int, start: int = 0) -> Iterator[Array]:
        """See Batches."""
        first = self._state["batch"] if number == 0 else 0
        self._stream.restore(streams.at(self._state, self._state["epoch"] + number, first + start))
        self._following = []
        return self._noted(number, first, start)

    def _noted(self, number: int, first: int, start: int) -> Iterator[Array]:
        """Yield the batches of an epoch that begins at batch `first` of the stream, and note where each one ends."""
        with closing(self._batches(number, start, 0)) as batches:
            for batch in batches:
                state, end = self._stream.state(), streams.batches_of(self._stream)
                ended = state["epoch"] != self._state["epoch"] + number
                reached = end if ended and end is not None else state["batch"]
                start = max(start + 1, reached - first)  # not every stream says where it is within a loop
                self._following.append(start)
                yield batch

    def following(self, start: int, count: int) -> int:
        """See Batches."""
        return self._following[count - 1]

    def order(self, number: int) -> Array | None:
        """See Batches."""
        within = self._state["batch"]  # then epoch 0 lacks images
        return None if within else streams.order_of(self._stream, self._state["epoch"] + number)

    def identity(self) -> dict[str, Any]:
        """See Batches."""
        return dict(self._state)

    def rewind(self) -> None:
        """See Batches."""
        self._stream.restore(self._state)


def is_array(data: Any) -> bool:
    """Return True for arrays and objects that convert to one without iterating."""
    names = ("__array__", "__dlpack__", "__cuda_array_interface__")
    return isinstance(data, np.ndarray) or any(hasattr(data, name) for name in names)


def batching(function: str, data: Any, batch_size: int | None, shuffle: bool | None) -> tuple[int, bool]:
    """Return the size of batches, and whether arrays are shuffled; None: 64 and True.

    Raises ValueError for what does not agree with data that come in batches of their own.
    """
    size = BATCH_SIZE if batch_size is None else checks.integer(function, "batch_size", batch_size, 1)
    mixed = True if shuffle is None else checks.boolean(function, "shuffle", shuffle)
    if is_array(data):
        return size, mixed
    if not _is_iterable(data):
        return size, False  # as_batches refuses it
    theirs = {"batch_size": None, "shuffle": False, **streams.batching_of(data)}
    for name, value in (("batch_size", batch_size), ("shuffle", shuffle)):
        if value is not None and value != theirs[name]:
            raise ValueError(
                f"{function}: {name}={value!r} has no effect on data that come in batches; leave it out, and give it "
                "to the stream, or pass one array."
            )
    return size, False


def _is_iterable(data: Any) -> bool:
    return isinstance(data, Iterable) and not isinstance(data, str | bytes | dict)


def as_batches(
    function: str, data: Any, batch_size: int, generator: np.random.Generator | None, epochs: int, check: bool
) -> Batches:
    """Return batches for an array, anything convertible to one, or a re-iterable of such batches.

    generator: shuffles arrays; None keeps their order. check: raise ValueError for NaN or infinity in an array.
    """
    if is_array(data):
        array = backend.as_array(function, "data", data)
        as_images(function, "data", array)  # checks rank, dtype and emptiness
        if check:
            require_finite(function, "data", array)
        return ArrayBatches(array, batch_size, generator)
    if not _is_iterable(data):
        raise TypeError(
            f"{function}: data must be an array (n, height, width, channels) or (n, features), or a re-iterable of "
            f"such batches; got {type(data).__name__}."
        )
    if isinstance(data, Iterator) and epochs > 1:
        raise ValueError(
            f"{function}: data is an iterator, which can be read once, but epochs is {epochs}; "
            "pass something that can be iterated again (a list or a stream), or epochs=1."
        )
    if streams.is_resumable(data):
        return StreamBatches(function, data, check)
    return IterableBatches(function, data, check)
