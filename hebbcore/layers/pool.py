"""Pooling by windows."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from hebbcore import checks
from hebbcore.engine.backend import Array
from hebbcore.layers.base import Layer, Shape, Site, require_images
from hebbcore.layers.windows import KINDS, Windows


@dataclass(eq=False)
class Pool(Layer):
    """The maximum or the average of windows of an image, channel by channel.

    Parameters
    ----------
    window : int or (int, int)
        Height and width, in pixels.
    stride : int or (int, int) or None
        Height and width, in pixels; None: the window.
    padding : int or (int, int)
        Pixels on both sides, at most half the window; the maximum ignores padded pixels, the average counts them as 0.
    kind : {"max", "average"}
        What is taken of a window. It can be set in a network.
    name : str
        The layer's name in its network; "": the network gives one.

    Raises
    ------
    ValueError, TypeError
        For impossible parameters.
    """

    by_image: ClassVar[bool] = True
    settable: ClassVar[frozenset[str]] = frozenset({"kind"})

    window: Any
    stride: Any = None
    padding: Any = 0
    kind: str = "max"
    name: str = ""

    def _check(self) -> None:
        self.window = checks.pair("Pool", "window", self.window, 1)
        self.stride = checks.pair("Pool", "stride", self.window if self.stride is None else self.stride, 1)
        self.padding = checks.pair("Pool", "padding", self.padding, 0)
        checks.choice("Pool", "kind", self.kind, KINDS)
        if any(2 * pad > side for pad, side in zip(self.padding, self.window, strict=True)):
            problem = f"must be at most half the window {self.window}, got {self.padding}; use less padding."
            raise checks.wrong(ValueError, "Pool", "padding", problem)

    def output_shape(self, shape: Shape) -> Shape:
        """See Layer."""
        require_images(self.name, shape)
        padded = [side + 2 * pad for side, pad in zip(shape[:2], self.padding, strict=True)]
        if any(window > side for window, side in zip(self.window, padded, strict=True)):
            raise ValueError(
                f"{self.name}: window {self.window} is larger than the padded image {tuple(padded)}; use a smaller one."
            )
        sides = ((p - w) // s + 1 for p, w, s in zip(padded, self.window, self.stride, strict=True))
        return (*sides, shape[2])

    def build(self, site: Site, shape: Shape, generator: np.random.Generator) -> None:
        """Work out the windows."""
        edges, shares = [], []
        sides = zip(shape[:2], self.output_shape(shape)[:2], self.window, self.stride, self.padding, strict=True)
        for side, count, window, stride, padding in sides:
            starts = np.arange(count) * stride - padding
            edges.append((np.maximum(starts, 0), np.minimum(starts + window, side)))
            shares.append(np.full(count, 1 / window))
        self._windows = Windows(site, edges, shares)

    def forward(self, x: Array, out: Array, training: bool) -> None:
        """See Layer."""
        self._windows.pool(x, out, self.kind)
