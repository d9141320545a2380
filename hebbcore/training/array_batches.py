"""Batches of an array: slices of it, in a new random order each epoch or as they lie."""

import copy
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from hebbcore.engine import backend, devices
from hebbcore.engine.backend import Array
from hebbcore.engine.group.cuts import cut
from hebbcore.training.batch import Batch, Labels, labels_at


class ArrayBatches:
    """Batches of an array, in a new random order each epoch or in order; labels: of its images, if asked for."""

    def __init__(
        self, array: Array, batch_size: int, generator: np.random.Generator | None, labels: Labels | None = None
    ) -> None:
        self.array, self.batch_size, self.labels = array, batch_size, labels
        self.checked, self.lends = True, False
        self._start, self._generator, self._next = generator, copy.deepcopy(generator), 0
        self._order = np.arange(0)
        self._checksum: int | None = None

    def images(self, first: int | None = None) -> int | None:
        """See Batches."""
        return len(self.array)

    def missing(self, images: int) -> int:
        """See Batches."""
        return 0

    def epoch(self, number: int, start: int = 0, part: tuple[int, int] = (0, 1)) -> Iterator[Batch]:
        """See Batches. part: (rank, size) of who gets a share of each batch."""
        order = None if self._start is None else self.order(number)
        for first in range(start * self.batch_size, len(self.array), self.batch_size):
            begin, end = cut(min(self.batch_size, len(self.array) - first), *part)
            if order is None:
                chosen = slice(first + begin, first + end)
                yield Batch(self.array[chosen], labels_at(self.labels, chosen))
            else:
                chosen = order[first + begin : first + end]
                images = self.array[devices.to_device(chosen, backend.device_of(self.array))]
                yield Batch(images, labels_at(self.labels, chosen))

    def following(self, start: int, count: int) -> int:
        """See Batches."""
        return start + count

    def order(self, number: int) -> Array:
        """See Batches."""
        if self._start is None:
            return np.arange(len(self.array))
        if number < self._next - 1:
            self._generator, self._next = copy.deepcopy(self._start), 0
        while self._next <= number:
            assert self._generator is not None
            self._order = self._generator.permutation(len(self.array))
            self._next += 1
        return self._order

    def identity(self) -> dict[str, Any]:
        """See Batches."""
        if self._checksum is None:
            self._checksum = checksum(self.array, 0)
        identity = {
            "shape": list(self.array.shape),
            "dtype": str(self.array.dtype),
            "checksum": self._checksum,
            "batch_size": self.batch_size,
            "shuffle": self._start is not None,
        }
        return identity if self.labels is None else {**identity, "labels": checksum(self.labels, 0)}

    def rewind(self) -> None:
        """See Batches."""


def is_of_an_array(identity: dict[str, Any]) -> bool:
    """Return True for what ArrayBatches.identity returned."""
    return {"shape", "dtype", "checksum"} <= identity.keys()


def checksum(array: Array, start: int) -> int:
    """Return the CRC-32 of an array's bytes after those that gave `start`; reads it in pieces of bounded size."""
    for piece in backend.pieces(array):
        start = zlib.crc32(np.ascontiguousarray(devices.to_device(piece, "cpu")).data, start)
    return start
