"""Layers without weights: pools, Triangle, Flatten."""

import math
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np

from hebbcore import checks
from hebbcore.engine import backend, devices, kernels, parallel
from hebbcore.engine.backend import Array
from hebbcore.layers.base import Layer, Shape, Site, by_rows, require_images, rows_of, worth_splitting

KINDS = ("max", "average")


@dataclass(eq=False)
class Pool(Layer):
    """The maximum or the average of windows of an image, channel by channel.

    window: an int or a (height, width) pair, in pixels. stride: the same; None: the window. padding: at most half the
    window; the maximum ignores padded pixels, the average counts them as 0.
    kind: "max" or "average".
    Raises ValueError or TypeError for impossible parameters.
    """

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
        self._windows = _Windows(site, edges, shares)

    def forward(self, x: Array, out: Array, training: bool) -> None:
        """See Layer."""
        self._windows.pool(x, out, self.kind)


@dataclass(eq=False)
class GridPool(Layer):
    """The average or the maximum of each cell of an even grid over an image, channel by channel.

    cells: an int or a (height, width) pair: so many cells; cell i of a side covers ⌊i · side / cells⌋ … the next.
    kind: "average" or "max".
    Raises ValueError or TypeError for impossible parameters.
    """

    settable: ClassVar[frozenset[str]] = frozenset({"kind"})

    cells: Any
    kind: str = "average"
    name: str = ""

    def _check(self) -> None:
        self.cells = checks.pair("GridPool", "cells", self.cells, 1)
        checks.choice("GridPool", "kind", self.kind, KINDS)

    def output_shape(self, shape: Shape) -> Shape:
        """See Layer."""
        require_images(self.name, shape)
        if self.cells[0] > shape[0] or self.cells[1] > shape[1]:
            raise ValueError(
                f"{self.name}: cells {self.cells} are more than the image {shape[:2]} has pixels; use fewer."
            )
        return (*self.cells, shape[2])

    def build(self, site: Site, shape: Shape, generator: np.random.Generator) -> None:
        """Work out the cells."""
        edges, shares = [], []
        for side, count in zip(shape[:2], self.cells, strict=True):
            cuts = np.arange(count + 1) * side // count
            edges.append((cuts[:-1], cuts[1:]))
            shares.append(1 / (cuts[1:] - cuts[:-1]))
        self._windows = _Windows(site, edges, shares)

    def forward(self, x: Array, out: Array, training: bool) -> None:
        """See Layer."""
        self._windows.pool(x, out, self.kind)


class _Windows:
    """Rows and columns of the windows of a pool, on the device."""

    def __init__(self, site: Site, edges: list[tuple[Any, Any]], shares: list[Any]) -> None:
        self._edges = [devices.to_device(edge.astype(np.int64), site.device) for pair in edges for edge in pair]
        self._shares = [devices.to_device(share.astype(site.dtype), site.device) for share in shares]

    def pool(self, x: Array, out: Array, kind: str) -> None:
        """out (n, oh, ow, C) ← the windows of x (n, H, W, C)."""
        kernel = kernels.for_array(x).pool
        parts = parallel.cuts(len(x), parallel.threads() if worth_splitting(x) else 1)
        parallel.run(
            [
                partial(kernel, rows_of(out[i:j]), x[i:j], *self._edges, kind == "average", *self._shares)
                for i, j in parts
            ]
        )


@dataclass(eq=False)
class Split(Layer):
    """relu(u − threshold) and relu(−u − threshold): twice the channels, the positive ones first.

    threshold: ≥ 0, in units of the input. Raises ValueError or TypeError for others.
    Source: Coates & Ng (ICML 2011), soft threshold with polarity splitting.
    """

    settable: ClassVar[frozenset[str]] = frozenset({"threshold"})

    threshold: float = 0.0
    name: str = ""

    def _check(self) -> None:
        self.threshold = checks.real("Split", "threshold", self.threshold, 0)

    def output_shape(self, shape: Shape) -> Shape:
        """See Layer."""
        return (*shape[:-1], 2 * shape[-1])

    def forward(self, x: Array, out: Array, training: bool) -> None:
        """See Layer."""
        source, target = rows_of(x), rows_of(out)
        kernel, threshold = kernels.for_array(x).split, x.dtype.type(self.threshold)
        parts = parallel.cuts(len(source), parallel.threads() if worth_splitting(source) else 1)
        parallel.run([partial(kernel, target[i:j], source[i:j], threshold) for i, j in parts])


@dataclass(eq=False)
class Power(Layer):
    """sign(u) |u|^exponent: a square root lessens the weight of the largest features.

    exponent: > 0. Raises ValueError or TypeError for another.
    """

    in_place: ClassVar[bool] = True
    settable: ClassVar[frozenset[str]] = frozenset({"exponent"})

    exponent: float = 0.5
    name: str = ""

    def _check(self) -> None:
        self.exponent = checks.positive("Power", "exponent", self.exponent)

    def forward(self, x: Array, out: Array, training: bool) -> None:
        """See Layer."""
        xp = backend.namespace(x)
        xp.copysign(xp.abs(x) ** self.exponent, x, out=x)


@dataclass(eq=False)
class Relu(Layer):
    """relu(u)^power.

    power: > 0. Raises ValueError or TypeError for another.
    Source: of a power, Krotov & Hopfield (PNAS 2019).
    """

    in_place: ClassVar[bool] = True
    settable: ClassVar[frozenset[str]] = frozenset({"power"})

    power: float = 1.0
    name: str = ""

    def _check(self) -> None:
        self.power = checks.positive("Relu", "power", self.power)

    def forward(self, x: Array, out: Array, training: bool) -> None:
        """See Layer."""
        backend.namespace(x).maximum(x, 0, out=x)
        if self.power != 1:
            x **= x.dtype.type(self.power)


@dataclass(eq=False)
class Triangle(Layer):
    """relu(u − mean of u over the channels)^power, in each place.

    power: > 0. Raises ValueError or TypeError for another.
    Source: Coates, Ng & Lee (AISTATS 2011); with a power: SoftHebb (Journé et al., ICLR 2023).
    """

    in_place: ClassVar[bool] = True
    settable: ClassVar[frozenset[str]] = frozenset({"power"})

    power: float = 1.0
    name: str = ""

    def _check(self) -> None:
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
