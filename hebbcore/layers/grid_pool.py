"""Pooling by the cells of a grid."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from hebbcore import checks
from hebbcore.engine.backend import Array
from hebbcore.layers.base import Layer, Shape, Site, require_images
from hebbcore.layers.windows import KINDS, Windows


@dataclass(eq=False)
class GridPool(Layer):
    """The average or the maximum of each cell of an even grid over an image, channel by channel.

    Parameters
    ----------
    cells : int or (int, int)
        How many down and across; cell i of a side begins at pixel ⌊i · side / cells⌋ and ends where the next begins.
    kind : {"average", "max"}
        What is taken of a cell. It can be set in a network.
    name : str
        The layer's name in its network; "": the network gives one.

    Raises
    ------
    ValueError, TypeError
        For impossible parameters.
    """

    by_image: ClassVar[bool] = True
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
        self._windows = Windows(site, edges, shares)

    def forward(self, x: Array, out: Array, training: bool) -> None:
        """See Layer."""
        self._windows.pool(x, out, self.kind)
