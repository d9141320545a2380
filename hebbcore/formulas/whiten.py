"""Whitening as a formula."""

import math

import numpy as np

from hebbcore.formulas.operations import Operations, Value, root
from hebbcore.formulas.pointwise import channelwise, flat, turned
from hebbcore.formulas.units import Windows
from hebbcore.layers import Shape, Whiten


def whiten(ops: Operations, layer: Whiten, x: Value, arrays: dict[str, Value], shape: Shape) -> Value:
    """See Whiten."""
    if layer.kernel_size is None:
        return _of_wholes(ops, layer, flat(ops, x, shape), arrays, shape)
    windows = Windows(layer.stride, layer.padding, layer.padding_mode)
    if layer.contrast is None and layer.epsilon is not None:
        matrix = arrays["matrix"]
        kernels = ops.reshape(ops.transpose(matrix, (1, 0)), (matrix.shape[1], *layer.kernel_size, shape[2]))
        x, padding = windows.padded(ops, x)
        x = ops.conv(x, ops.transpose(kernels, (0, 3, 1, 2)), layer.stride, padding)
        return x - channelwise(ops, _offset(ops, layer, arrays), shape)
    patches = _patches(ops, layer, x, windows, shape)
    return _whitened(ops, layer, patches, arrays, (*shape[:2], layer.kernel_size[0] * layer.kernel_size[1] * shape[2]))


def _of_wholes(ops: Operations, layer: Whiten, x: Value, arrays: dict[str, Value], shape: Shape) -> Value:
    """Return whitened vectors, as maps if images come, and directions are not turned."""
    x = _whitened(ops, layer, x, arrays, (math.prod(shape),))
    if len(shape) == 1 or layer.components is not None:
        return x
    return ops.transpose(ops.reshape(x, (-1, *shape)), (0, 3, 1, 2))


def _patches(ops: Operations, layer: Whiten, x: Value, windows: Windows, shape: Shape) -> Value:
    """Return maps whose channels are the numbers of patches, as im2col orders them."""
    if layer.padding != (0, 0):
        x = ops.pad(x, layer.padding, layer.padding_mode)
    sides = [
        side + 2 * pad - kernel + 1
        for side, pad, kernel in zip(shape[:2], layer.padding, layer.kernel_size, strict=True)
    ]
    rows, columns = (
        [slice(first, first + side, stride) for first in range(kernel)]
        for side, stride, kernel in zip(sides, layer.stride, layer.kernel_size, strict=True)
    )
    return ops.concat([ops.cut(x, row, column) for row in rows for column in columns], 1)


def _whitened(ops: Operations, layer: Whiten, x: Value, arrays: dict[str, Value], shape: Shape) -> Value:
    """Return whitened patches, which are the channels of x; shape: of x."""
    if layer.contrast is not None:
        share = 1 / shape[-1]
        if layer.contrast == 0:  # what differs from the first number: of equal ones exactly zeros are left
            first = channelwise(ops, ops.constant(np.eye(1, shape[-1])[0]), shape)
            x = x - ops.sum(x * first, (1,))
        x = x - ops.sum(x, (1,)) * share
        x = x / root(ops, ops.sum(x * x, (1,)) * share + layer.contrast)
    offset = channelwise(ops, _offset(ops, layer, arrays), shape)
    return (x if layer.epsilon is None else turned(ops, x, arrays["matrix"], shape)) - offset


def _offset(ops: Operations, layer: Whiten, arrays: dict[str, Value]) -> Value:
    """Return the mean patch, whitened."""
    mean = arrays["mean"]
    if layer.epsilon is None:
        return mean
    return ops.matmul(ops.reshape(mean, (1, -1)), arrays["matrix"])
