"""The preset "dictionary": dictionaries in two or three layers beside one of larger patches, for any size of images."""

import math
from collections.abc import Sequence
from typing import Any

from hebbcore import checks
from hebbcore.layers import (
    Branches,
    Conv,
    GaussianPool,
    GridPool,
    Layer,
    Nystrom,
    Pool,
    Power,
    Scale,
    Shape,
    Split,
    Whiten,
)
from hebbcore.layers.arguments import as_image_shape
from hebbcore.rules import SignedWTA

IMAGE_SHAPE = (32, 32, 3)
UNITS = (128, 512, 512, 200)  # of layers 1, 2 and 3 of the deep branch, and of the wide branch

_LEARN: dict[str, Any] = {"learning_rate": 1.0, "initial_weights": "patches"}
_PATCHES_A_UNIT, _LEAST_PATCHES = 100, 100_000  # of a sample

SMALLEST = 8  # side of images, in pixels
_SIDE = 48  # least of images that were reduced, in pixels
_FIRST = (3, 5)  # side of layer 1's patches in smaller images, and from there on
_MAP = 16  # side of the maps of layer 2 at that size
_CELLS = 3  # along each side of the output
_KERNEL = 6  # side of the wide branch's patches
_CHANNELS = 128  # principal components of layer 2's codes
_COMPONENTS = 192  # of the patches of layers 2 and 3
_THRESHOLD, _EXPONENT = 0.25, 0.35


def training(units: Sequence[int] = UNITS) -> dict[str, Any]:
    """Return how fit trains the dictionary where its call does not say: arguments of fit.

    Parameters
    ----------
    units : sequence of int
        As below.

    Returns
    -------
    dict
        See Network.training.
    """
    sample = max(_LEAST_PATCHES, _PATCHES_A_UNIT * max(units))
    return {"mode": "layerwise", "epochs": 4, "batch_size": 200, "statistics_images": 2_000, "sample": sample}


def dictionary(image_shape: Sequence[int] = IMAGE_SHAPE, units: Sequence[int] = UNITS) -> tuple[list[Layer], Shape]:
    """Return the layers of the dictionary for images of a shape; see preset.

    Parameters
    ----------
    image_shape : sequence of int
        (height, width, channels), each side at least 8 pixels.
    units : sequence of int
        Of the two or three layers of the deep branch, and of the wide branch.

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
    if len(shape) != 3 or min(shape[:2]) < SMALLEST:
        problem = f"must be (height, width, channels) of {SMALLEST} pixels a side or more, got {shape}."
        raise checks.wrong(ValueError, "preset", "image_shape", problem)
    factor = reduction(*shape[:2])
    sides = (shape[0] // factor, shape[1] // factor)
    if factor == 1:
        deep = [*_first(sides, units[0]), *_rest(sides, *units[:-1])]
        return [Branches(deep, _wide(sides, units[-1]))], shape
    twice, fine, coarse = (2 * sides[0], 2 * sides[1]), units[0] // 2 or 1, -(-units[0] // 2)
    layers: list[Layer] = [GridPool(twice, name="reduced")] if twice != shape[:2] else []
    first = Branches([_half(), *_first(sides, coarse)], _first(twice, fine, times=2))
    deep = [first, *_rest(sides, coarse + fine, *units[1:-1])]
    return [*layers, Branches(deep, [_half(), *_wide(sides, units[-1])])], shape


def _half() -> Layer:
    """Return what halves the sides of images."""
    return Pool(2, kind="average")


def _first(sides: tuple[int, int], units: int, times: int = 1) -> list[Layer]:
    """Return the layers from pixels to layer 1's codes, on maps as large as those of images so many times smaller."""
    reduced = (sides[0] // times, sides[1] // times)
    kernel, stride = first_kernel(*reduced), times * first_stride(*reduced)
    return [
        Whiten(
            kernel, padding=kernel // 2, padding_mode="edge", contrast=None, epsilon=0.01, relative=True, centre=True
        ),
        Conv(units, kernel, "kwta", padding=kernel // 2, response="cosine-exp", normalize_patches=True, **_LEARN),
        GaussianPool(stride),
        Nystrom(),
    ]


def _rest(sides: tuple[int, int], first: int, second: int, third: int | None = None) -> list[Layer]:
    """Return the layers of the deep branch from layer 1's codes of images of so many pixels to the cells."""
    stride = first_stride(*sides)
    maps = (-(-sides[0] // stride), -(-sides[1] // stride))
    return [
        *_codes(second, first, epsilon=3.0),
        *(_cells(maps) if third is None else [Branches(_cells(maps), _third(maps, second, third))]),
    ]


def _third(sides: tuple[int, int], second: int, units: int) -> list[Layer]:
    """Return the layers from layer 2's codes, on maps of so many pixels, to the cells of layer 3."""
    strides = (third_stride(sides[0]), third_stride(sides[1]))
    channels = min(_CHANNELS, 2 * second)
    return [
        GaussianPool(strides),
        Power(0.5),
        # so large an epsilon turns the codes to their principal components, and leaves their scale
        Whiten(1, contrast=None, epsilon=1e4, relative=True, components=channels),
        *_codes(units, channels, epsilon=4.0),
        *_cells((-(-sides[0] // strides[0]), -(-sides[1] // strides[1]))),
    ]


def _codes(units: int, channels: int, epsilon: float) -> list[Layer]:
    """Return the layers from maps to split responses of units that learn whitened 3×3 patches."""
    components = min(_COMPONENTS, 9 * channels)
    return [
        Whiten(3, padding=1, contrast=None, epsilon=epsilon, relative=True, components=components),
        Conv(units, 1, SignedWTA(winners(units)), response="cosine", **_LEARN),
        Scale(),
        Split(_THRESHOLD),
    ]


def _wide(sides: tuple[int, int], units: int) -> list[Layer]:
    kernel = (wide_kernel(sides[0]), wide_kernel(sides[1]))
    return [
        Whiten(kernel, epsilon=0.3),
        Conv(units, 1, SignedWTA(winners(units)), linear=True, **_LEARN),
        Scale(),
        Split(_THRESHOLD),
        *_cells((sides[0] - kernel[0] + 1, sides[1] - kernel[1] + 1)),
    ]


def _cells(sides: tuple[int, int]) -> list[Layer]:
    """Return the layers from codes on maps of so many pixels to 3×3 cells."""
    return [GaussianPool((-(-sides[0] // _CELLS), -(-sides[1] // _CELLS))), Power(_EXPONENT)]


def reduction(height: int, width: int) -> int:
    """Return the side of the squares of pixels that are averaged before anything but a half of layer 1: 1, or even.

    So reduced, an image has the area of one of 48 to 95 pixels a side, as long as its shorter side keeps 8.
    """
    return max(1, 2 * min(math.isqrt(height * width) // (2 * _SIDE), min(height, width) // (2 * SMALLEST)))


def first_kernel(height: int, width: int) -> int:
    """Return the side of layer 1's patches: 3 pixels, 5 in images of the area of 48 pixels a side or more."""
    return _FIRST[math.isqrt(height * width) >= _SIDE]


def first_stride(height: int, width: int) -> int:
    """Return the stride of the pool behind layer 1: maps of layer 2 have about 16 pixels a side, and at least 5.

    Five or more along a side (or three) make three cells; four do not.
    """
    return max(1, min(round(math.sqrt(height * width) / _MAP), (min(height, width) - 1) // 4))


def winners(units: int) -> int:
    """Return how many of a layer's units win a patch one after the other: a sixteenth of them, but 4 to 32.

    What they learn from has its length, so that patches with more contrast count more.
    """
    return max(4, min(units // 16, 32))


def wide_kernel(side: int) -> int:
    """Return the side of the wide branch's patches: 6 pixels, or what leaves five positions along a side."""
    return min(_KERNEL, side - 4)


def third_stride(side: int) -> int:
    """Return the stride of the pool behind layer 2 along a side of its map: 2, or 1 where 2 would leave four pixels."""
    return 1 if (side + 1) // 2 == 4 else 2
