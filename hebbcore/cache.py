"""Outputs of finished layers, kept in memory or in a file, in place of the images."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from hebbcore import backend
from hebbcore.backend import Array
from hebbcore.data import Batches

PLACES = ("none", "memory", "disk")


class CachedBatches:
    """Batches of an array that holds what some layers make of each image of other batches, in the same order."""

    def __init__(self, source: Batches, batch_size: int, shape: tuple[int, ...], dtype: Any, path: Path | None) -> None:
        order = source.order(0)
        assert order is not None
        self._source, self._batch_size, self.checked = source, batch_size, True
        self._file: Any = None
        if path is None:
            self._array: Any = np.empty((len(order), *shape), dtype)
        else:
            import h5py

            self._file = h5py.File(path, "w")
            self._array = self._file.create_dataset("outputs", (len(order), *shape), dtype)

    def fill(self, first: int, outputs: Array) -> None:
        """Take the outputs of images first, first + 1, … of epoch 0."""
        order = self._source.order(0)
        assert order is not None
        for place, output in zip(order[first : first + len(outputs)], backend.to_device(outputs, "cpu"), strict=True):
            self._array[int(place)] = output

    def images(self, first: Array) -> int | None:
        """See Batches."""
        return len(self._array)

    def epoch(self, number: int, start: int = 0) -> Iterator[Array]:
        """See Batches."""
        order = self._source.order(number)
        assert order is not None
        for first in range(start * self._batch_size, len(order), self._batch_size):
            chosen = order[first : first + self._batch_size]
            batch = np.empty((len(chosen), *self._array.shape[1:]), self._array.dtype)
            for row, place in enumerate(chosen.tolist()):
                batch[row] = self._array[place]
            yield batch

    def order(self, number: int) -> Array | None:
        """See Batches."""
        return self._source.order(number)

    def identity(self) -> dict[str, Any]:
        """See Batches."""
        return self._source.identity()

    def close(self) -> None:
        """Remove the file, if there is one."""
        if self._file is not None:
            path = Path(self._file.filename)
            self._file.close()
            path.unlink()
