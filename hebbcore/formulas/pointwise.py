"""Layers as formulas that change numbers where they are."""

import math

from hebbcore.formulas.operations import Operations, Value, root
from hebbcore.layers import BatchNorm, Flatten, Nystrom, Power, Relu, Scale, Shape, Split, Triangle


def channelwise(ops: Operations, values: Value, shape: Shape) -> Value:
    """Return a number for each channel, in a shape that goes with maps, or with vectors."""
    return ops.reshape(values, (1, -1, 1, 1) if len(shape) == 3 else (1, -1))


def batch_norm(ops: Operations, layer: BatchNorm, x: Value, arrays: dict[str, Value], shape: Shape) -> Value:
    """See BatchNorm."""
    now = ops.statistics(layer, x, arrays, (0, 2, 3) if len(shape) == 3 else (0,))
    factors = 1.0 / root(ops, now["variance"] + layer.epsilon)
    if layer.modified:
        variance = arrays["variance"]
        mean = ops.sum(variance, (0,)) / float(shape[-1])
        factors = factors * root(ops, (variance + layer.epsilon) / (mean + layer.epsilon))
    return (x - channelwise(ops, now["mean"], shape)) * channelwise(ops, factors, shape)


def scale(ops: Operations, layer: Scale, x: Value, arrays: dict[str, Value], shape: Shape) -> Value:
    """See Scale."""
    variance = ops.statistics(layer, x, arrays, (0, 1, 2, 3) if len(shape) == 3 else (0, 1))["variance"]
    variance = variance + (1.0 - ops.sign(variance))  # 1 in the place of 0
    return x * (1.0 / root(ops, variance))


def triangle(ops: Operations, layer: Triangle, x: Value, arrays: dict[str, Value], shape: Shape) -> Value:
    """See Triangle."""
    return _raised(ops, ops.relu(x - ops.sum(x, (1,)) * (1 / shape[-1])), layer.power)


def relu(ops: Operations, layer: Relu, x: Value, arrays: dict[str, Value], shape: Shape) -> Value:
    """See Relu."""
    return _raised(ops, ops.relu(x), layer.power)


def _raised(ops: Operations, x: Value, exponent: float) -> Value:
    return x if exponent == 1 else ops.power(x, exponent)


def split(ops: Operations, layer: Split, x: Value, arrays: dict[str, Value], shape: Shape) -> Value:
    """See Split."""
    return ops.relu(ops.concat([x, x * -1.0], 1) - layer.threshold)


def power(ops: Operations, layer: Power, x: Value, arrays: dict[str, Value], shape: Shape) -> Value:
    """See Power."""
    return ops.sign(x) * ops.power(ops.abs(x), layer.exponent)


def flatten(ops: Operations, layer: Flatten, x: Value, arrays: dict[str, Value], shape: Shape) -> Value:
    """See Flatten."""
    return flat(ops, x, shape)


def flat(ops: Operations, x: Value, shape: Shape) -> Value:
    """Return maps as vectors in the order (height, width, channels); vectors as they are."""
    if len(shape) == 1:
        return x
    return ops.reshape(ops.transpose(x, (0, 2, 3, 1)), (-1, math.prod(shape)))


def nystrom(ops: Operations, layer: Nystrom, x: Value, arrays: dict[str, Value], shape: Shape) -> Value:
    """See Nystrom."""
    return turned(ops, x, arrays["matrix"], shape)


def turned(ops: Operations, x: Value, matrix: Value, shape: Shape) -> Value:
    """Return the channels of x times a matrix (channels, channels out)."""
    if len(shape) == 1:
        return ops.matmul(x, matrix)
    return ops.conv(x, ops.reshape(ops.transpose(matrix, (1, 0)), (matrix.shape[1], matrix.shape[0], 1, 1)))
