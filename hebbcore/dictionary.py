"""The preset "dictionary": two layers of dictionaries beside one of larger patches, derived from the images' shape."""

import math
from collections.abc import Sequence
from typing import Any

from hebbcore import checks
from hebbcore.layers import Branches, Conv, GaussianPool, Layer, Nystrom, Pool, Power, Scale, Shape, Split, Whiten
from hebbcore.layers.arguments import as_image_shape

IMAGE_SHAPE = (32, 32, 3)
UNITS = (128, 1024, 400)  # of layer 1 and layer 2 of the deep branch, and of the wide branch

# How fit trains it, where its call does not say
TRAINING: dict[str, Any] = {"mode": "layerwise", "epochs": 8, "batch_size": 200, "statistics_images": 10_000}

# What all its units have in common, and those of the deep branch alone
_LEARN: dict[str, Any] = {"learning_rate": 1.0, "initial_weights": "patches"}
_DEEP: dict[str, Any] = {**_LEARN}

_SMALLEST = 8  # side of images, in pixels
_SIDE = 32  # of images whose patches are as large, beside what they show, as they shall be
_MAP = 16  # side of the maps of layer 2 at that size
_CELLS = 3  # along each side of the output
_KERNEL = 6  # side of the wide branch's patches
_COMPONENTS = 192  # of layer 2's patches
_THRESHOLD = 0.25


def dictionary(image_shape: Sequence[int] = IMAGE_SHAPE, units: Sequence[int] = UNITS) -> tuple[list[Layer], Shape]:
    """Return the layers of the dictionary for images of a shape; see preset.

    Parameters
    ----------
    image_shape : sequence of int
        (height, width, channels), each side at least 8 pixels.
    units : sequence of int
        Of layer 1 and layer 2 of the deep branch, and of the wide branch.

    Returns
    -------
    list of Layer, tuple of int
        The layers, without names and weights, and image_shape.

    Raises
    ------
    ValueError
        For vectors, and for smaller images.
    """
    shape = as_image_shape("Network", image_shape)
    if len(shape) != 3 or min(shape[:2]) < _SMALLEST:
        problem = f"must be (height, width, channels) of {_SMALLEST} pixels a side or more, got {shape}."
        raise checks.wrong(ValueError, "preset", "image_shape", problem)
    factor = reduction(*shape[:2])
    sides = (shape[0] // factor, shape[1] // factor)
    layers: list[Layer] = [Pool(factor, kind="average", name="reduced")] if factor > 1 else []
    return [*layers, Branches(_deep(sides, units[0], units[1]), _wide(sides, units[2]))], shape


def _deep(sides: tuple[int, int], first: int, second: int) -> list[Layer]:
    stride = first_stride(*sides)
    components = min(_COMPONENTS, 9 * first)
    return [
        Whiten(3, padding=1, padding_mode="edge", contrast=None, epsilon=0.01, relative=True, centre=True),
        Conv(first, 3, "kwta", padding=1, response="cosine-exp", **_DEEP),
        GaussianPool(stride),
        Nystrom(),
        Whiten(3, padding=1, contrast=None, epsilon=0.01, relative=True, components=components),
        Conv(second, 1, "signedwta", response="cosine", **_DEEP),
        *_cells((-(-sides[0] // stride), -(-sides[1] // stride))),
    ]


def _wide(sides: tuple[int, int], units: int) -> list[Layer]:
    kernel = (wide_kernel(sides[0]), wide_kernel(sides[1]))
    return [
        Whiten(kernel, epsilon=0.3),
        Conv(units, 1, "signedwta", linear=True, **_LEARN),
        *_cells((sides[0] - kernel[0] + 1, sides[1] - kernel[1] + 1)),
    ]


def _cells(sides: tuple[int, int]) -> list[Layer]:
    """Return the layers from responses on maps of so many pixels to 3×3 cells."""
    strides = (-(-sides[0] // _CELLS), -(-sides[1] // _CELLS))
    return [Scale(), Split(_THRESHOLD), GaussianPool(strides), Power(0.5)]


def reduction(height: int, width: int) -> int:
    """Return the side of the squares of pixels that are averaged before anything else.

    So reduced, an image has the area of one of 32 to 63 pixels a side, as long as its shorter side keeps 8.
    """
    return max(1, min(math.isqrt(height * width) // _SIDE, min(height, width) // _SMALLEST))


def first_stride(height: int, width: int) -> int:
    """Return the stride of the pool behind layer 1: maps of layer 2 have about 16 pixels a side, and at least 5.

    Five or more along a side (or three) make three cells; four do not.
    """
    return max(1, min(round(math.sqrt(height * width) / _MAP), (min(height, width) - 1) // 4))


def wide_kernel(side: int) -> int:
    """Return the side of the wide branch's patches: 6 pixels, or what leaves five positions along a side."""
    return min(_KERNEL, side - 4)
