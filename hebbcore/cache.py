"""Outputs of finished layers, kept in memory or in a file, in place of the images."""

import math
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from hebbcore import backend
from hebbcore.backend import Array
from hebbcore.data import Batches

PLACES = ("none", "memory", "disk")


class CachedBatches:
    """Batches of an array that holds what some layers make of each image of other batches, in the same order.

    folder: on whose disk the array lies, in a file without a name, which goes with the process; None: in memory.
    """

    def __init__(
        self, source: Batches, batch_size: int, shape: tuple[int, ...], dtype: np.dtype[Any], folder: Path | None
    ) -> None:
        order = source.order(0)
        assert order is not None
        self._source, self._batch_size, self._first_order, self.checked = source, batch_size, order, True
        full = (len(order), *shape)
        if folder is None:
            self._array: Array = np.empty(full, dtype)
        else:
            with tempfile.TemporaryFile(dir=folder) as file:
                # a disk that is full must be an error here, not a SIGBUS in the middle of the training
                os.posix_fallocate(file.fileno(), 0, math.prod(full) * dtype.itemsize)
                self._array = np.memmap(file, dtype, "r+", shape=full)

    def fill(self, first: int, outputs: Array) -> None:
        """Take the outputs of images first, first + 1, … of epoch 0."""
        self._array[self._first_order[first : first + len(outputs)]] = backend.to_device(outputs, "cpu")

    def images(self, first: Array) -> int | None:
        """See Batches."""
        return len(self._array)

    def epoch(self, number: int, start: int = 0) -> Iterator[Array]:
        """See Batches."""
        order = self._source.order(number)
        assert order is not None
        for first in range(start * self._batch_size, len(order), self._batch_size):
            yield np.asarray(self._array[order[first : first + self._batch_size]])

    def following(self, start: int, count: int) -> int:
        """See Batches."""
        return start + count

    def order(self, number: int) -> Array | None:
        """See Batches."""
        return self._source.order(number)

    def identity(self) -> dict[str, Any]:
        """See Batches."""
        return self._source.identity()

    def rewind(self) -> None:
        """See Batches."""
        self._source.rewind()
