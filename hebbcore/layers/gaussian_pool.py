"""Pooling by Gaussian windows."""

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np

from hebbcore import checks
from hebbcore.engine import devices, kernels, parallel, tuning
from hebbcore.engine.backend import Array
from hebbcore.engine.memory import Memory
from hebbcore.layers.base import Layer, Shape, Site, require_images


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

    by_image: ClassVar[bool] = True

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
        parts = parallel.cuts(len(x), parallel.threads() if parallel.worth_splitting(x) else 1)
        memories, size = self._site.memories, self._site.workspace // len(parts)
        memories += [Memory() for _ in range(len(parts) - len(memories))]

        def of_a_thread(x: Array, out: Array, memory: Memory) -> None:
            most = self.lines_bytes(out.shape, size)
            memory.lay_out(self._site.device, {"lines": most})
            self.pool(x, out, memory.part("lines", (most // x.itemsize,), x.dtype))

        parallel.run(
            [partial(of_a_thread, x[i:j], out[i:j], memory) for (i, j), memory in zip(parts, memories, strict=False)],
            blas=False,
        )

    def lines_bytes(self, shape: tuple[int, ...], size: int) -> int:
        """Return the bytes of the lines between pooling down and across, at least one; size: the most that are wanted.

        shape: that of the output (n, H', W', C). On the CPU the lines stay in the cache.
        """
        if self._site.device == "cpu":
            size = min(size, tuning.MEASURED.cache_bytes)
        line = self._across.length * shape[3] * self._site.dtype.itemsize
        return line * max(1, min(size // line, shape[0] * shape[1]))

    def pool(self, x: Array, out: Array, space: Array, threshold: Any = None, factor: Any = None) -> None:
        """out ← x pooled: down, then across. space: for the lines between (`lines_bytes`).

        threshold: what is pooled is not x but what Split makes of it. factor: pooled numbers are multiplied by it.
        """
        firsts, lasts, weights = self._across.part(0, out.shape[2])
        across = firsts, lasts, weights if factor is None else weights * factor
        kernel, width, channels, count = kernels.for_array(x), x.shape[2], out.shape[3], out.shape[1]
        lines = space.size // (width * channels)
        images, lines = min(len(x), max(1, lines // count)), min(lines, count)
        for first in range(0, len(x), images):
            some = x[first : first + images]
            for top in range(0, count, lines):
                target = out[first : first + images, top : top + lines]
                rows = target.shape[0] * target.shape[1]
                between = space[: rows * width * channels].reshape(rows * width, channels)
                down = self._down.part(top, top + lines)
                if threshold is None:
                    flat = some.reshape(-1, width * channels)
                    kernel.blend(between.reshape(rows, -1), flat, self._down.length, *down)
                else:
                    kernel.blend_split(between, some, *down, threshold)
                kernel.blend(target.reshape(-1, channels), between, width, *across)


class _Axis:
    """The windows along one side of a map, on the device."""

    def __init__(self, site: Site, side: int, stride: int) -> None:
        self.length, count = side, -(-side // stride)
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
