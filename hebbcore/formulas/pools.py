"""Pools as formulas."""

from typing import Any

import numpy as np

from hebbcore.formulas.operations import Operations, Value
from hebbcore.layers import GaussianPool, GridPool, Pool, Shape
from hebbcore.layers.gaussian_pool import windows_of


def pool(ops: Operations, layer: Pool, x: Value, arrays: dict[str, Value], shape: Shape) -> Value:
    """See Pool."""
    return (ops.max_pool if layer.kind == "max" else ops.average_pool)(x, layer.window, layer.stride, layer.padding)


def grid_pool(ops: Operations, layer: GridPool, x: Value, arrays: dict[str, Value], shape: Shape) -> Value:
    """See GridPool."""
    (height, width), (down, across) = shape[:2], layer.cells
    if height % down == 0 and width % across == 0:
        cell = (height // down, width // across)
        return (ops.max_pool if layer.kind == "max" else ops.average_pool)(x, cell, cell)
    edges = [np.arange(count + 1) * side // count for side, count in ((height, down), (width, across))]
    if layer.kind == "max":
        return _largest(ops, x, *(np.stack([cuts[:-1], cuts[1:]], axis=1).tolist() for cuts in edges))
    weights = []
    for cuts in edges:
        pixels = np.arange(cuts[-1])
        inside = (cuts[:-1, None] <= pixels) & (pixels < cuts[1:, None])
        weights.append(inside / inside.sum(axis=1, keepdims=True))
    return _blend(ops, x, *weights)


def gaussian_pool(ops: Operations, layer: GaussianPool, x: Value, arrays: dict[str, Value], shape: Shape) -> Value:
    """See GaussianPool."""
    weights = []
    for side, stride in zip(shape[:2], layer.stride, strict=True):
        firsts, lasts, given = windows_of(side, stride)
        whole = np.zeros((len(firsts), side))
        for row, first, last, some in zip(whole, firsts, lasts, given, strict=True):
            row[first:last] = some[: last - first]
        weights.append(whole)
    return _blend(ops, x, *weights)


def _blend(ops: Operations, x: Value, down: Any, across: Any) -> Value:
    """Return sums of x weighted along both axes; weights: (height or width out, in)."""
    return ops.matmul(ops.constant(down), ops.matmul(x, ops.constant(across.T)))


def _largest(ops: Operations, x: Value, rows: list[list[int]], columns: list[list[int]]) -> Value:
    """Return the maxima of cells between rows (first, behind the last) and columns."""
    whole = slice(0, columns[-1][1], 1)
    bands = []
    for top, bottom in rows:
        bands.append(ops.max_pool(ops.cut(x, slice(top, bottom, 1), whole), (bottom - top, 1), (1, 1)))
    x, whole = ops.concat(bands, 2), slice(0, len(rows), 1)
    bands = []
    for left, right in columns:
        bands.append(ops.max_pool(ops.cut(x, whole, slice(left, right, 1)), (1, right - left), (1, 1)))
    return ops.concat(bands, 3)
