"""Pooling by Gaussian windows."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from hebbcore import checks
from hebbcore.engine import backend, devices, kernels, parallel, tuning
from hebbcore.engine.backend import Array
from hebbcore.engine.memory import Memory
from hebbcore.layers.base import Layer, Shape, Site, require_images, worth_splitting


@dataclass(eq=False)
class GaussianPool(Layer):
    """Averages weighted by the distance from the centres of an even grid, channel by channel.

    A side of H pixels has n = ⌈H / s⌉ centres, at (j − (n − 1)/2) · s + (H − 1)/2 for j = 0 … n − 1, where s is the
    stride along it. The weights along each axis are exp(−d²/s²), |d| ≤ s, normalised to 1, where d is the distance to
    the centre: the weight of a pixel is the product of its two, so that windows are squares, not round (rectangles if
    the strides differ). They overlap. Only pixels of the image count and are normalised over, so that maps may have
    any size, down to 1×1.

    Parameters
    ----------
    stride : int or (int, int)
        From centre to centre down and across, in pixels.
    name : str
        The layer's name in its network; "": the network gives one.

    Raises
    ------
    ValueError, TypeError
        For impossible parameters.
    """

    stride: Any
    name: str = ""

    def _check(self) -> None:
        self.stride = checks.pair("GaussianPool", "stride", self.stride, 1)

    def output_shape(self, shape: Shape) -> Shape:
        """See Layer."""
        require_images(self.name, shape)
        sides = (-(-side // stride) for side, stride in zip(shape[:2], self.stride, strict=True))
        return (*sides, shape[2])

    def build(self, site: Site, shape: Shape, generator: np.random.Generator) -> None:
        """Work out the weights."""
        self._site = site
        self._down, self._across = (
            _Axis(site, side, stride) for side, stride in zip(shape[:2], self.stride, strict=True)
        )

    def forward(self, x: Array, out: Array, training: bool) -> None:
        """See Layer."""
        parts = parallel.cuts(len(x), parallel.threads() if worth_splitting(x) else 1)
        memories, size = self._site.memories, self._site.workspace // len(parts)
        memories += [Memory() for _ in range(len(parts) - len(memories))]
        if not backend.on_cuda(x):
            size = min(size, tuning.MEASURED.cache_bytes)
        parallel.run(
            [
                partial(self._pool, x[i:j], out[i:j], memory, size)
                for (i, j), memory in zip(parts, memories, strict=False)
            ],
            blas=False,
        )

    def _pool(self, x: Array, out: Array, memory: Memory, size: int) -> None:
        """out ← x pooled: down, then across; what lies between takes so many bytes, or one line of an image."""
        blend, (_, height, width, channels), count = kernels.for_array(x).blend, x.shape, out.shape[1]
        lines = max(1, size // (width * channels * x.itemsize))
        images, lines = min(len(x), max(1, lines // count)), min(lines, count)
        memory.lay_out(self._site.device, {"lines": images * lines * width * channels * x.itemsize})
        for first in range(0, len(x), images):
            some = x[first : first + images].reshape(-1, width * channels)
            for top in range(0, count, lines):
                target = out[first : first + images, top : top + lines]
                between = memory.part("lines", (target.shape[0] * target.shape[1], some.shape[1]), x.dtype)
                blend(between, some, height, *self._down.part(top, top + lines))
                across = self._across.part(0, out.shape[2])
                blend(target.reshape(-1, channels), between.reshape(-1, channels), width, *across)


class _Axis:
    """The windows along one side of a map, on the device."""

    def __init__(self, site: Site, side: int, stride: int) -> None:
        count = -(-side // stride)
        centres = (np.arange(count) - (count - 1) / 2) * stride + (side - 1) / 2
        firsts = np.maximum(np.ceil(centres - stride), 0).astype(np.int64)
        lasts = np.minimum(np.floor(centres + stride) + 1, side).astype(np.int64)
        pixels = firsts[:, None] + np.arange((lasts - firsts).max())  # the widest window's number of each
        weights = np.exp(-(((pixels - centres[:, None]) / stride) ** 2)) * (pixels < lasts[:, None])
        weights /= weights.sum(axis=1, keepdims=True)
        self._width = weights.shape[1]
        self._firsts, self._lasts, self._weights = (
            devices.to_device(array, site.device) for array in (firsts, lasts, weights.astype(site.dtype).ravel())
        )

    def part(self, first: int, last: int) -> tuple[Array, Array, Array]:
        """Return the first pixels, the ones behind the last, and the weights of windows first…last-1."""
        weights = self._weights[first * self._width : last * self._width]
        return self._firsts[first:last], self._lasts[first:last], weights
