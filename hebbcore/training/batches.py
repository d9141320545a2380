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
from hebbcore.pairs import images_of, labels_in
from hebbcore.training.array_batches import ArrayBatches, checksum
from hebbcore.training.batch import Batch, as_labels

BATCH_SIZE = 64  # images a step, unless one says otherwise


class Batches(Protocol):
    """Something that gives the batches of any epoch, from any batch on."""

    checked: bool  # the data are known to be finite, or need not be
    lends: bool  # a batch may be overwritten when the next one is read

    def images(self, first: int | None = None) -> int | None:
        """Return how many images an epoch has; None if that is unknown.

        first: the images of its first batch, by which it is estimated where it is unknown.
        """

    def missing(self, images: int) -> int:
        """Return how many of an epoch's images epoch 0 lacks, which may begin within it; images: of a batch."""

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]:
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
    """Batches that an iterable yields: arrays, or (images, labels) pairs, whose labels come along if labelled."""

    def __init__(self, function: str, source: Iterable[Any], check: bool, labelled: bool) -> None:
        self.function, self.source, self.checked, self.labelled = function, source, not check, labelled
        self.lends = not isinstance(source, Sequence)
        self._identity: dict[str, Any] | None = None

    def images(self, first: int | None = None) -> int | None:
        """See Batches."""
        return streams.epoch_images_of(self.source, first)

    def missing(self, images: int) -> int:
        """See Batches."""
        return 0

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]:
        """See Batches."""
        return self._batches(number, start, start)

    def _batches(self, number: int, start: int, skip: int) -> Generator[Batch, None, None]:
        """Yield the batches of an epoch, which begins at batch `start`, without the first `skip` of the source."""
        empty = True
        source = iter(self.source)
        try:
            for batch in islice(source, skip, None):
                empty = False
                yield self._batch(batch)
        finally:
            if hasattr(source, "close"):  # a generator, perhaps with threads to stop
                source.close()
        if empty and not start:
            again = "; it can be iterated once only" if number else ""
            raise checks.wrong(ValueError, self.function, "data", f"gave no batch in epoch {number + 1}{again}.")

    def _batch(self, batch: Any) -> Batch:
        """Return what the iterable gave as a batch. Raises ValueError if labels are wanted and missing."""
        images = images_of(batch)
        if not self.labelled:
            return Batch(images)
        labels = labels_in(batch)
        if labels is None:
            problem = "must be batches (images, labels): a layer learns from labels, and these have none."
            raise checks.wrong(ValueError, self.function, "data", problem)
        return Batch(images, as_labels(self.function, labels, len(images)))

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
                    found = checksum(backend.as_array(self.function, "data", images_of(batch)), found)
                    if self.labelled:
                        found = checksum(self._batch(batch).labels, found)
                self._identity["checksum"] = found
        return self._identity

    def rewind(self) -> None:
        """See Batches."""


class StreamBatches(IterableBatches):
    """Batches of a stream that can say where it is and go there, see streams.Resumable.

    Epoch 0 begins where the stream is. The stream may leave out batches, as a ShardStream does with those that are
    damaged as a whole, if its state moves on by as many.
    """

    def __init__(self, function: str, source: streams.Resumable, check: bool, labelled: bool) -> None:
        super().__init__(function, source, check, labelled)
        self._stream, self._state = source, streams.state_of(source)
        self._following: dict[int, int] = {}  # after so many batches of the latest epoch; of those not asked for yet

    @property
    def first(self) -> int:
        """The batch of the stream's epoch that epoch 0 begins with."""
        return int(self._state["batch"])

    def missing(self, images: int) -> int:
        """See Batches."""
        return self.first * int(streams.batching_of(self._stream).get("batch_size", images))

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]:
        """See Batches."""
        first = self._state["batch"] if number == 0 else 0
        self._stream.restore(streams.at(self._state, self._state["epoch"] + number, first + start))
        self._following = {}
        return self._noted(number, first, start)

    def _noted(self, number: int, first: int, start: int) -> Iterator[Batch]:
        """Yield the batches of an epoch that begins at batch `first` of the stream, and note where each one ends."""
        with closing(self._batches(number, start, 0)) as batches:
            for count, batch in enumerate(batches, 1):
                state, end = self._stream.state(), streams.batches_of(self._stream)
                ended = state["epoch"] != self._state["epoch"] + number
                reached = end if ended and end is not None else state["batch"]
                start = max(start + 1, reached - first)  # not every stream says where it is within a loop
                self._following[count] = start
                yield batch

    def following(self, start: int, count: int) -> int:
        """See Batches. Asked for batch after batch; those before are forgotten, as an epoch may have no end."""
        self._following.pop(count - 1, None)
        return self._following[count]

    def order(self, number: int) -> Array | None:
        """See Batches."""
        within = self._state["batch"]  # then epoch 0 lacks images
        return None if within else streams.order_of(self._stream, self._state["epoch"] + number)

    def identity(self) -> dict[str, Any]:
        """See Batches."""
        pixels = streams.pixels_of(self._stream)
        return streams.written_state(self._stream, self._state) | ({} if pixels is None else {"pixels": pixels})

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
    function: str, data: Any, batch_size: int, generator: np.random.Generator | None, epochs: int, check: bool,
    labels: Any = None, learner: str = "",
) -> Batches:  # fmt: skip
    """Return batches for an array, anything convertible to one, or a re-iterable of such batches.

    generator: shuffles arrays; None keeps their order. check: raise ValueError for NaN or infinity in an array.
    labels: of the images of an array. learner: what learns from labels, which must come along; "": nothing does.
    """
    _check_labels(function, data, labels, learner)
    if is_array(data):
        array = backend.as_array(function, "data", data)
        as_images(function, "data", array)  # checks rank, dtype and emptiness
        if check:
            require_finite(function, "data", array)
        own = as_labels(function, labels, len(array)) if learner else None
        return ArrayBatches(array, batch_size, generator, own)
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
        return StreamBatches(function, data, check, bool(learner))
    return IterableBatches(function, data, check, bool(learner))


def _check_labels(function: str, data: Any, labels: Any, learner: str) -> None:
    """Raise ValueError for labels that nothing learns from, and for an array without the labels that are needed."""
    if labels is not None and not learner:
        problem = (
            "have no effect: no layer learns from labels (Supervised, or those that a teacher names); leave them out."
        )
        raise checks.wrong(ValueError, function, "labels", problem)
    if labels is not None and not is_array(data):
        problem = "are for an array of images; batches bring theirs, as pairs (images, labels)."
        raise checks.wrong(ValueError, function, "labels", problem)
    if learner and labels is None and is_array(data):
        problem = f"are needed: {learner} learns from them; give one for each image, -1 for an image without one."
        raise checks.wrong(ValueError, function, "labels", problem)
