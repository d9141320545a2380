"""Layers without weights: pools, Triangle, Flatten."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from hebbcore import backend, checks, kernels, parallel
from hebbcore.backend import Array
from hebbcore.layers.base import Layer, Shape, by_rows, require_images, rows_of

KINDS = ("max", "average")


@dataclass(eq=False)
class Pool(Layer):
    """The maximum or the average of windows of an image, channel by channel.

    window: an int or a (height, width) pair, in pixels. stride: the same; None: the window. padding: at most half the
    window; the maximum ignores padded pixels, the average counts them as 0.
    kind: "max" or "average".
    Raises ValueError or TypeError for impossible parameters.
    """

    window: Any
    stride: Any = None
    padding: Any = 0
    kind: str = "max"
    name: str = ""

    def __post_init__(self) -> None:
        self.window = checks.pair("Pool", "window", self.window, 1)
        self.stride = checks.pair("Pool", "stride", self.window if self.stride is None else self.stride, 1)
        self.padding = checks.pair("Pool", "padding", self.padding, 0)
        checks.choice("Pool", "kind", self.kind, KINDS)
        if any(2 * pad > side for pad, side in zip(self.padding, self.window, strict=True)):
            raise ValueError(
                f"Pool: padding must be at most half the window {self.window}, got {self.padding}; use less padding."
            )

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

    def forward(self, x: Array, out: Array, training: bool) -> None:
        """See Layer."""
        share = out.dtype.type(1 / math.prod(self.window))
        columns, average = out.shape[2], self.kind == "average"
        pool = kernels.for_array(x).pool

        def some(first: int, last: int) -> None:
            pool(
                rows_of(out[first:last]), x[first:last], columns, self.window, self.stride, self.padding, average, share
            )

        parts = parallel.cuts(len(x), 1 if backend.on_cuda(x) else parallel.threads())
        parallel.run([lambda i=i, j=j: some(i, j) for i, j in parts])  # type: ignore[misc]


@dataclass(eq=False)
class Triangle(Layer):
    """relu(u − mean of u over the channels)^power, in each place.

    power: > 0. Raises ValueError or TypeError for another.
    Source: Coates, Ng & Lee (AISTATS 2011); with a power: SoftHebb (Journé et al., ICLR 2023).
    """

    in_place: ClassVar[bool] = True

    power: float = 1.0
    name: str = ""

    def __post_init__(self) -> None:
        self.power = checks.positive("Triangle", "power", self.power)

    def forward(self, x: Array, out: Array, training: bool) -> None:
        """See Layer."""
        rows, number = rows_of(x), x.dtype.type
        by_rows(kernels.for_array(x).triangle, rows, number(1 / rows.shape[1]), number(self.power))


@dataclass(eq=False)
class Flatten(Layer):
    """Images as vectors, in the order (height, width, channels)."""

    in_place: ClassVar[bool] = True

    name: str = ""

    def output_shape(self, shape: Shape) -> Shape:
        """See Layer."""
        return (math.prod(shape),)

    def forward(self, x: Array, out: Array, training: bool) -> None:
        """See Layer; the network reshapes."""
