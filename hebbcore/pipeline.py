"""The layers of a network at work, whose outputs take turns in two arrays."""

import math
from collections.abc import Callable, Sequence
from typing import Any

from hebbcore.engine import backend, devices
from hebbcore.engine.backend import Array
from hebbcore.engine.patches import convert
from hebbcore.layers import Layer, Learner, Shape, Site
from hebbcore.layers.base import as_4d

Learn = Callable[[int, Array, Array], None]  # (position of the layer, its input, where its output belongs)


class Pipeline:
    """The layers of a built network, and the two arrays in which their outputs lie. See Network.run.

    Parameters
    ----------
    layers : sequence of Layer
        In order.
    shapes : sequence of tuple of int
        The shape of an image, and of each layer's output.
    site : Site
        Where and how the network computes.
    """

    def __init__(self, layers: Sequence[Layer], shapes: Sequence[Shape], site: Site) -> None:
        self._layers, self._shapes, self._site = layers, shapes, site
        self._forget()

    def _forget(self) -> None:
        self._buffers: list[Array | None] = [None, None]
        self._last: tuple[Array | None, int | None] = (None, None)  # what run returned, and in which buffer it lies

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in vars(self).items() if key not in ("_buffers", "_last")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._forget()

    def image_bytes(self) -> int:
        """Return the bytes that the two arrays take for one image."""
        sizes = [0, 0]
        slot = None
        for layer, shape in zip(self._layers, self._shapes, strict=False):
            if slot is None and not layer.reads_images:
                slot = 0
                sizes[0] = math.prod(shape)
            if not layer.in_place:
                slot = _other(slot)
                sizes[slot] = max(sizes[slot], math.prod(layer.output_shape(shape)))
        return max(1, sum(sizes) * self._site.dtype.itemsize)

    def run(self, x: Array, first: int, last: int, *, training: bool, learn: Learn | None = None) -> Array:
        """See Network.run."""
        slot = self._last[1] if x is self._last[0] else None
        for i in range(first, last):
            layer, shape = self._layers[i], (len(x), *as_4d(self._shapes[i + 1]))
            if slot is None and not layer.reads_images:
                slot = 0
                own = self._buffer(slot, x.shape)
                convert(x, own)
                x = own
            if layer.in_place:
                layer.forward(x, x, training)
                x = x.reshape(shape)
                continue
            slot = _other(slot)
            out = self._buffer(slot, shape)
            if learn is not None and isinstance(layer, Learner):
                learn(i, x, out)
            else:
                layer.forward(x, out, training)
            x = out
        self._last = (x, slot)
        return x

    def write(self, x: Array, out: dict[int, Array], average: bool = False) -> None:
        """Write the output of each layer i for x to out[i], in order; average: write the mean with what is there."""
        done = 0
        for i, target in out.items():
            x = self.run(x, done, i + 1, training=False)
            done = i + 1
            found = devices.to_device(x.reshape(target.shape), backend.device_of(target))
            if average:
                target += found
                target *= 0.5
            else:
                target[...] = found

    def _buffer(self, slot: int, shape: tuple[int, ...]) -> Array:
        size = math.prod(shape)
        buffer = self._buffers[slot]
        if buffer is None or buffer.size < size:
            self._buffers[slot] = buffer = None  # before the larger one is made
            self._buffers[slot] = buffer = backend.module(self._site.device).empty(size, self._site.dtype)
        return buffer[:size].reshape(shape)


def _other(slot: int | None) -> int:
    """Return which of the two buffers takes the output of an input in `slot` (None: in neither)."""
    return 1 if slot == 0 else 0
