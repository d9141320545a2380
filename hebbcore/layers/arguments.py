"""What layers, and what trains them, check of images and weights."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from hebbcore import checks
from hebbcore.engine import backend
from hebbcore.engine.backend import Array
from hebbcore.engine.patches import Geometry, as_images
from hebbcore.layers.base import Layer, as_4d


def check_layers(function: str, layers: Sequence[Any]) -> None:
    """Check what a network is to be made of.

    Parameters
    ----------
    function : str
        Who asks, for messages.
    layers : sequence of Any
        They should be layers, each another one.

    Raises
    ------
    ValueError, TypeError
        Unless they are.
    """
    if not layers:
        raise checks.wrong(ValueError, function, "layers", "must not be empty.")
    for layer in layers:
        if not isinstance(layer, Layer):
            problem = f"must be hebbcore layers such as Conv(…), got {layer!r}."
            raise checks.wrong(TypeError, function, "layers", problem)
        if layer.reads_images and layer.in_place:  # of the user's own images nothing would be left
            problem = f"must not say both reads_images and in_place, as {type(layer).__name__} does: leave one out."
            raise checks.wrong(TypeError, function, "layers", problem)
        if any(vars(kind).get("__slots__") for kind in type(layer).__mro__):
            problem = f"must not be declared with slots, as {type(layer).__name__} is, since copies need __dict__."
            raise checks.wrong(TypeError, function, "layers", problem)
    if len({id(layer) for layer in layers}) < len(layers):
        raise checks.wrong(ValueError, function, None, "a layer appears twice; make a new one for each place.")


def check_images(function: str, images: Any, weights_shape: tuple[int, ...], name: str = "images") -> Array:
    """Return images as an array, if they fit weights.

    Parameters
    ----------
    function, name : str
        Who asks, and how it calls the images, for messages.
    images : Any
        (n, H, W, C) or (n, features).
    weights_shape : tuple of int
        (units, kernel height, kernel width, channels) or (units, features).

    Returns
    -------
    Array
        (n, H, W, C); for dense weights (n, 1, 1, features).

    Raises
    ------
    ValueError
        If the features or channels differ.
    """
    given = backend.as_array(function, name, images)
    array = as_images(function, name, given)
    if len(weights_shape) == 2:
        array = array.reshape(len(array), 1, 1, -1)
        if array.shape[3] != weights_shape[1]:
            raise ValueError(
                f"{function}: {name} have {array.shape[3]} features but the weights {weights_shape[1]} "
                f"(shape {weights_shape})."
            )
    elif given.ndim == 2:
        raise ValueError(
            f"{function}: {name} must be (n, height, width, channels) for a convolution by kernels of "
            f"{weights_shape[1]}×{weights_shape[2]}, got shape {given.shape}."
        )
    elif array.shape[3] != weights_shape[3]:
        raise ValueError(
            f"{function}: {name} have {array.shape[3]} channels but the weights {weights_shape[3]} (shape "
            f"{weights_shape}); images are channels-last: np.moveaxis(images, 1, -1) turns channels-first ones."
        )
    return array


def check_images_of_shape(function: str, images: Any, shape: tuple[int, ...], advice: str = "") -> Array:
    """Return images as an array, if they have the shape of a network's images.

    Parameters
    ----------
    function : str
        Who asks, for the message.
    images : Any
        (n, H, W, C) or (n, features).
    shape : tuple of int
        (height, width, channels) or (features,).
    advice : str
        The end of the message.

    Returns
    -------
    Array
        (n, H, W, C); vectors as (n, 1, 1, features).

    Raises
    ------
    ValueError
        Unless they have it.
    """
    given = backend.as_array(function, "images", images)
    array = as_images(function, "images", given)
    if array.shape[1:] == as_4d(shape) and given.ndim == len(shape) + 1:
        return array
    if given.ndim == 4 and given.shape[1:] == (shape[-1], *shape[:-1]):
        advice = " np.moveaxis(images, 1, -1) turns channels-first ones."
    raise ValueError(
        f"{function}: images must be (n, {', '.join(map(str, shape))}), as the network was made for, got shape "
        f"{given.shape}; images are channels-last.{advice}"
    )


def flat(weights: Array, dtype: Any) -> Array:
    """Return weights as a C-contiguous (units, features) array of the dtype, without a copy if they are."""
    return backend.namespace(weights).ascontiguousarray(weights.reshape(len(weights), -1), dtype)


def as_image_shape(function: str, value: Sequence[int]) -> tuple[int, ...]:
    """Return an image_shape as a tuple. Raises ValueError or TypeError unless it is one."""
    problem, sides = "must be (height, width, channels) or (features,), got", checks.sequence(value)
    if sides is None:
        raise checks.wrong(TypeError, function, "image_shape", f"{problem} {value!r}.")
    try:
        shape = tuple(checks.integer(function, "image_shape", side, 1) for side in sides)
    except TypeError as error:
        raise checks.wrong(TypeError, function, "image_shape", f"{problem} {value!r}.") from error
    if len(shape) not in (1, 3):
        raise checks.wrong(ValueError, function, "image_shape", f"{problem} {shape}.")
    return shape


def as_weights(function: str, name: str, value: Any) -> Array:
    """Return weights (units, kernel height, kernel width, channels) or (units, features) as an array.


    Raises
    ------
    TypeError
        Unless they are float32 or float64.
    ValueError
        For another number of dimensions.
    """
    array = backend.as_array(function, name, value)
    if array.dtype not in (np.float32, np.float64):
        raise TypeError(f"{function}: {name} must be float32 or float64, got {array.dtype}; convert them.")
    if array.ndim not in (2, 4) or array.size == 0:
        raise ValueError(
            f"{function}: {name} must be (units, kernel height, kernel width, channels) or (units, features), "
            f"got shape {array.shape}."
        )
    return array


def check_no_steps(function: str, stride: Any, padding: Any) -> None:
    """Raise ValueError if a dense layer is given a stride or padding."""
    steps, pad = checks.pair(function, "stride", stride, 1), checks.pair(function, "padding", padding, 0)
    if steps != (1, 1) or pad != (0, 0):
        raise ValueError(f"{function}: stride and padding are for convolutions; a dense layer has neither.")


def geometry_of(
    function: str, images: Array, weights_shape: tuple[int, ...], stride: Any, padding: Any, padding_mode: str
) -> Geometry:
    """Return the sizes of the convolution of images by weights of a shape; a dense layer is one by 1 × 1."""
    kernel = (1, 1) if len(weights_shape) == 2 else weights_shape[1:3]
    return Geometry.of(function, images.shape, kernel, stride, padding, padding_mode)
