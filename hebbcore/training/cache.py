"""Outputs of finished layers, kept in memory or in a file, which then stand for the images."""

import logging
import math
import tempfile
from collections.abc import Callable, Collection, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from hebbcore import checks
from hebbcore.engine import devices
from hebbcore.engine.backend import Array
from hebbcore.files import cannot_write, reserve
from hebbcore.layers.base import as_4d
from hebbcore.network import Network
from hebbcore.training.ahead import ahead
from hebbcore.training.batch import Batch, Labels, labels_at
from hebbcore.training.batches import Batches

CACHES = ("none", "memory", "disk")

_log = logging.getLogger("hebbcore")


class CachedBatches:
    """Batches of an array that holds what some layers make of each image of other batches, in the same order.

    Parameters
    ----------
    source : Batches
        The other batches, which say the order.
    batch_size : int
        Images a batch.
    shape, dtype
        Of what the layers make of an image.
    folder : Path or None
        On whose disk the array lies, in a file without a name, which goes with the process; None: in memory.
    """

    def __init__(
        self, source: Batches, batch_size: int, shape: tuple[int, ...], dtype: np.dtype[Any], folder: Path | None
    ) -> None:
        order = source.order(0)
        assert order is not None
        self._source, self._batch_size, self._first_order = source, batch_size, order
        self.checked, self.lends = True, False
        self._labels: Labels | None = None
        full = (len(order), *shape)
        if folder is None:
            self._array: Array = np.empty(full, dtype)
        else:
            with tempfile.TemporaryFile(dir=folder) as file:
                try:
                    reserve(file, math.prod(full) * dtype.itemsize)
                except OSError as error:
                    raise cannot_write(folder, error) from error
                self._array = np.memmap(file, dtype, "r+", shape=full)

    def fill(self, first: int, outputs: Array) -> None:
        """Take the outputs of images first, first + 1, … of epoch 0."""
        self._array[self._first_order[first : first + len(outputs)]] = devices.to_device(outputs, "cpu")

    def note(self, first: int, labels: Labels | None) -> None:
        """Take the labels of images first, first + 1, … of epoch 0, if there are any."""
        if labels is not None:
            if self._labels is None:
                self._labels = np.empty(len(self._array), np.int64)
            self._labels[self._first_order[first : first + len(labels)]] = labels

    def images(self, first: int | None = None) -> int | None:
        """See Batches."""
        return len(self._array)

    def missing(self, images: int) -> int:
        """See Batches."""
        return 0

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]:
        """See Batches."""
        order = self._source.order(number)
        assert order is not None
        for first in range(start * self._batch_size, len(order), self._batch_size):
            chosen = order[first : first + self._batch_size]
            yield Batch(np.asarray(self._array[chosen]), labels_at(self._labels, chosen))

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


class Inputs:
    """Where the batches of a training come from: its images, or what finished layers made of them.

    Parameters
    ----------
    network : Network
        Whose layers make it.
    images : Batches
        The images.
    prepare : callable
        Checks a batch of images and brings it to the network's device.
    most : int
        Bytes that a cache may take.
    folder : Path or None
        See CachedBatches.
    pause : callable
        Called after each batch that goes into a cache.

    Attributes
    ----------
    layer : int
        The index of the layer whose inputs the batches are; the first of them, where branches begin.
    batches : Batches
        Those inputs.
    prepare : callable
        Brings one of the batches to the network's device.
    """

    def __init__(
        self,
        network: Network,
        images: Batches,
        prepare: Callable[[Batch], Batch],
        most: int,
        folder: Path | None,
        pause: Callable[[], None],
    ) -> None:
        self._network, self._images, self._prepare_images = network, images, prepare
        self._most, self._folder, self._pause = most, folder, pause
        self._too_large: set[int] = set()  # layers whose inputs do not fit
        self.release()

    def release(self) -> None:
        """Let go of what is cached."""
        self.batches, self.layer, self.prepare = self._images, 0, self._prepare_images

    def advance(self, layers: Collection[int]) -> None:
        """Cache the input of the last of these layers, by index, that is not too large.

        What is cached goes if it is of none of them: it is of a branch that has learned.
        """
        if self.layer not in layers:
            self.release()
        layer = next((layer for layer in sorted(layers, reverse=True) if layer <= self.layer or self._fits(layer)), 0)
        if layer > self.layer:
            self._fill(layer)

    def _fits(self, layer: int) -> bool:
        network, order = self._network, self._images.order(0)
        assert order is not None
        size = len(order) * math.prod(network.shapes[layer - 1]) * network.site.dtype.itemsize
        if size > self._most and layer not in self._too_large:
            self._too_large.add(layer)
            _log.warning(
                "fit: the inputs of %s take %s, more than cache_bytes (%s); they are computed again in each step",
                network.names[layer], checks.byte_text(size), checks.byte_text(self._most),
            )  # fmt: skip
        return size <= self._most

    def _fill(self, layer: int) -> None:
        network, done = self._network, 0
        cache: CachedBatches | None = None
        with closing(ahead(self.batches.epoch(0), self.prepare)) as batches:
            for x in batches:
                if cache is None:
                    shape = as_4d(network.shapes[layer - 1])
                    cache = CachedBatches(self._images, len(x), shape, network.site.dtype, self._folder)
                with network.lock:
                    cache.fill(done, network.run(x.images, self.layer, layer))
                cache.note(done, x.labels)
                done += len(x)
                self._pause()
        assert cache is not None
        self.batches, self.layer = cache, layer
        self.prepare = lambda batch: Batch(devices.to_device(batch.images, network.site.device), batch.labels)
