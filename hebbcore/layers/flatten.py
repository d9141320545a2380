"""Images as vectors."""

import math
from dataclasses import dataclass
from typing import ClassVar

from hebbcore.engine.backend import Array
from hebbcore.layers.base import Layer, Shape


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
