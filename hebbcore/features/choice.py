"""Which features of an image: the output of a layer, averaged over a grid or not, over mirror images or not."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from hebbcore import checks
from hebbcore.engine import backend
from hebbcore.engine.backend import Array
from hebbcore.layers import GridPool
from hebbcore.network import Network


@dataclass(frozen=True)
class Features:
    """The output of a layer for each image.

    Parameters
    ----------
    network : Network
        Built; computes the output.
    layer : str
        One of `network.names`.
    grid : int or None
        The output is averaged over grid × grid even cells; None: it is not.
    mirror : bool
        The output is averaged with the one for the mirror image, see Network.transform.
    """

    network: Network
    layer: str
    grid: int | None = None
    mirror: bool = False

    @classmethod
    def checked(cls, function: str, network: Network, layer: str | None, grid: int | None, mirror: bool) -> Self:
        """Return what a user chose; layer: None is the last.

        Raises ValueError or TypeError for what the network does not have; messages call the grid "pool", as the
        arguments of functions do.
        """
        name = network.names[-1] if layer is None else layer
        shape = network.shapes[network.index_of(function, name)]
        if checks.boolean(function, "mirror", mirror):
            network.require_mirror(function)
        if grid is not None:
            checks.integer(function, "pool", grid, 1)
            if len(shape) != 3 or grid > min(shape[:2]):
                raise ValueError(f"{function}: pool must be at most the sides of {name}'s output {shape}, got {grid}.")
        return cls(network, name, grid, mirror)

    @classmethod
    def at_most(cls, function: str, network: Network, layer: str, most: int, mirror: bool = False) -> Self:
        """Return a layer's output over the finest grid that makes at most `most` features, a single cell at least."""
        shape = network.shapes[network.index_of(function, layer)]
        if len(shape) == 1 or math.prod(shape) <= most:
            return cls(network, layer, None, mirror)
        return cls(network, layer, max(1, min(*shape[:2], math.isqrt(most // shape[2]))), mirror)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of an image's features."""
        shape = self.network.shapes[self.network.names.index(self.layer)]
        return shape if self.grid is None else (self.grid, self.grid, shape[2])

    @property
    def size(self) -> int:
        """Number of an image's features."""
        return math.prod(self.shape)

    def of(self, images: Array) -> Array:
        """Return the features (n, *shape) of images, in the network's dtype and the images' library."""
        return self.pooled(self.network.transform(images, self.layer, mirror=self.mirror))

    def pooled(self, output: Array) -> Array:
        """Return the features that the layer's output is before it is averaged over the grid."""
        return output if self.grid is None else pool_to_grid(output, self.grid)


def features_of(choices: Sequence[Features], images: Array) -> list[Array]:
    """Return the features of images for several layers of one network, whose `mirror` is the same, from one pass."""
    layers = [choice.layer for choice in choices]
    outputs = choices[0].network.features(images, layers, mirror=choices[0].mirror)
    return [choice.pooled(outputs[choice.layer]) for choice in choices]


def pool_to_grid(images: Array, grid: int) -> Array:
    """Return averages (n, grid, grid, C) of images (n, H, W, C), float32 or float64, over grid × grid even cells."""
    device, precision = backend.device_of(images), images.dtype.name
    return Network([GridPool(grid)], images.shape[1:], device=device, precision=precision).transform(images)
