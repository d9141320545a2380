"""Layers with units as formulas."""

import math

from hebbcore.engine.output import Output
from hebbcore.formulas.operations import Operations, Value
from hebbcore.formulas.units import Windows, units
from hebbcore.layers import Conv, Dense, Learner, Shape
from hebbcore.layers.learner import WIDTH
from hebbcore.rules import Rule


def conv(ops: Operations, layer: Conv, x: Value, arrays: dict[str, Value], shape: Shape) -> Value:
    """See Conv."""
    windows = Windows(layer.stride, layer.padding, layer.padding_mode)
    return units(ops, x, arrays, _output(layer), windows)


def dense(ops: Operations, layer: Dense, x: Value, arrays: dict[str, Value], shape: Shape) -> Value:
    """See Dense."""
    weights = arrays["weights"]
    if len(shape) == 3:  # turn the weights, not the maps, to one order
        size = math.prod(shape)
        weights = ops.transpose(ops.reshape(weights, (-1, *shape)), (0, 3, 1, 2))
        weights, x = ops.reshape(weights, (-1, size)), ops.reshape(x, (-1, size))
    return units(ops, x, {**arrays, "weights": weights}, _output(layer), None)


def _output(layer: Learner) -> Output:
    """Return how a layer's scores become outputs."""
    assert isinstance(layer.rule, Rule)
    return Output(layer.rule, layer.linear, layer.response, WIDTH if layer.width is None else layer.width)
