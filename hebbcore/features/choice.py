"""Which features of an image: the output of a layer, averaged over a grid, mirror images and shifted images or not."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

from hebbcore import checks
from hebbcore.engine import backend
from hebbcore.engine.backend import Array
from hebbcore.layers import GridPool
from hebbcore.network import Network

_DIRECTIONS = ((0, 0), (0, 1), (0, -1), (1, 0), (-1, 0))  # in which images are shifted


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
    shifts : int
        The output is averaged over the image and the same shifted by so many pixels left, right, up and down, its
        outermost pixels repeated; with mirror, each of the five and its mirror image. 0: it is not.
    """

    network: Network
    layer: str
    grid: int | None = None
    mirror: bool = False
    shifts: int = 0

    @classmethod
    def checked(
        cls, function: str, network: Network, layer: str | None, grid: int | None, mirror: bool, shifts: int = 0
    ) -> Self:
        """Return what a user chose; layer: None is the last.

        Raises ValueError or TypeError for what the network does not have; messages call the grid "pool", as the
        arguments of functions do.
        """
        name = network.names[-1] if layer is None else layer
        shape = network.shapes[network.index_of(function, name)]
        require_views(function, network, mirror, shifts)
        if grid is not None:
            grid = checks.integer(function, "pool", grid, 1)
            if len(shape) != 3 or grid > min(shape[:2]):
                raise ValueError(f"{function}: pool must be at most the sides of {name}'s output {shape}, got {grid}.")
        return cls(network, name, grid, bool(mirror), int(shifts))

    @classmethod
    def at_most(
        cls, function: str, network: Network, layer: str, most: int, mirror: bool = False, shifts: int = 0
    ) -> Self:
        """Return a layer's output over the finest grid that makes at most `most` features, a single cell at least."""
        shape = network.shapes[network.index_of(function, layer)]
        if len(shape) == 1 or math.prod(shape) <= most:
            return cls(network, layer, None, mirror, shifts)
        return cls(network, layer, max(1, min(*shape[:2], math.isqrt(most // shape[2]))), mirror, shifts)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of an image's features."""
        shape = self.network.shapes[self.network.names.index(self.layer)]
        return shape if self.grid is None else (self.grid, self.grid, shape[2])

    @property
    def size(self) -> int:
        """Number of an image's features."""
        return math.prod(self.shape)

    @property
    def gflop(self) -> float:
        """GFLOP that an image costs, see Network.gflop; mirror images and shifted images are included."""
        views = len(_DIRECTIONS) if self.shifts else 1
        return views * self.network.gflop(self.layer, mirror=self.mirror)

    def of(self, images: Array) -> Array:
        """Return the features (n, *shape) of images, in the network's dtype and the images' library."""
        return features_of([self], images)[0]

    def pooled(self, output: Array) -> Array:
        """Return the features that the layer's output is before it is averaged over the grid."""
        return output if self.grid is None else pool_to_grid(output, self.grid)


def require_views(function: str, network: Network, mirror: bool, shifts: int) -> None:
    """Raise ValueError or TypeError unless a network's images can be mirrored and shifted, where that is asked for."""
    if checks.boolean(function, "mirror", mirror):
        network.require_mirror(function)
    if checks.integer(function, "shifts", shifts, 0):
        shape = network.image_shape or ()
        if len(shape) != 3 or shifts >= min(shape[:2]):
            raise ValueError(
                f"{function}: shifts must be 0, or below the sides of images, got {shifts} for images of {shape}."
            )


def features_of(choices: Sequence[Features], images: Array) -> list[Array]:
    """Return the features of images for several layers of one network from one pass, or one for each shifted view.

    Their `mirror` and `shifts` are the same.
    """
    network, mirror, shifts = choices[0].network, choices[0].mirror, choices[0].shifts
    layers = [choice.layer for choice in choices]
    totals: list[Array] = []
    for view in _views(images, shifts):
        outputs = network.features(view, layers, mirror=mirror)
        found = [choice.pooled(outputs[choice.layer]) for choice in choices]
        totals = [total + more for total, more in zip(totals, found, strict=True)] if totals else found
    return [total / len(_DIRECTIONS) for total in totals] if shifts else totals


def _views(images: Array, shifts: int) -> Iterator[Array]:
    """Yield images (n, H, W, C), and for shifts above 0 those shifted by so many pixels, their edges repeated."""
    yield images
    xp = backend.namespace(images)
    for down, right in _DIRECTIONS[1:] if shifts else ():
        rows, columns = (
            xp.clip(xp.arange(side) + shifts * step, 0, side - 1)
            for side, step in zip(images.shape[1:3], (down, right), strict=True)
        )
        yield images[:, rows[:, None], columns]


def pool_to_grid(images: Array, grid: int) -> Array:
    """Return averages (n, grid, grid, C) of images (n, H, W, C), float32 or float64, over grid × grid even cells."""
    device, precision = backend.device_of(images), images.dtype.name
    return Network([GridPool(grid)], images.shape[1:], device=device, precision=precision).transform(images)
