"""What a library must offer so that formulas can be computed, or written down, by it."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from hebbcore.layers import Layer

Value = Any  # an array, or what stands for one; values have + − * / among themselves and with numbers
Pair = tuple[int, int]

TINY = 1e-37  # below it squares are rounding: what is divided by is at least so large


class Operations(Protocol):
    """Operations on values. Maps of images are (n, channels, height, width), vectors (n, features)."""

    def scope(self, name: str) -> AbstractContextManager[Any]:
        """Mark what is computed inside as a layer's."""

    def floating(self, x: Value) -> Value:
        """Return whole numbers as floating ones."""

    def constant(self, array: Any) -> Value:
        """Return a NumPy array as a value."""

    def statistics(self, layer: Layer, x: Value, arrays: dict[str, Value], axes: Sequence[int]) -> dict[str, Value]:
        """Return the mean and the variance to normalise by: the layer's arrays, or in training those of x over axes."""

    def conv(self, x: Value, kernels: Value, stride: Pair = (1, 1), padding: Pair = (0, 0)) -> Value:
        """Return the products of patches and kernels (units, channels, height, width); padding: zeros."""

    def matmul(self, a: Value, b: Value) -> Value:
        """Return the products of matrices in the last two axes."""

    def relu(self, x: Value) -> Value:
        """Return max(x, 0)."""

    def exp(self, x: Value) -> Value:
        """Return e^x."""

    def tanh(self, x: Value) -> Value:
        """Return tanh x."""

    def sign(self, x: Value) -> Value:
        """Return −1, 0 or 1."""

    def abs(self, x: Value) -> Value:
        """Return |x|."""

    def power(self, x: Value, exponent: float) -> Value:
        """Return x^exponent of x of at least 0, exponent above 0; where there are gradients, that at 0 is 0."""

    def at_least(self, x: Value, least: float) -> Value:
        """Return max(x, least)."""

    def sum(self, x: Value, axes: Sequence[int]) -> Value:
        """Return sums over axes, which stay with length 1."""

    def reshape(self, x: Value, shape: Sequence[int]) -> Value:
        """Return x in another shape; one side may be −1."""

    def transpose(self, x: Value, axes: Sequence[int]) -> Value:
        """Return x with its axes in this order."""

    def cut(self, x: Value, rows: slice, columns: slice) -> Value:
        """Return some rows and columns of maps; slices have all three numbers."""

    def concat(self, values: Sequence[Value], axis: int) -> Value:
        """Return values one behind the other."""

    def flip(self, x: Value) -> Value:
        """Return maps with left and right exchanged."""

    def pad(self, x: Value, padding: Pair, mode: str) -> Value:
        """Return maps with more rows and columns on all sides, by a padding mode of hebbcore."""

    def max_pool(self, x: Value, window: Pair, stride: Pair, padding: Pair = (0, 0)) -> Value:
        """Return the largest of windows; padded pixels are never it."""

    def average_pool(self, x: Value, window: Pair, stride: Pair, padding: Pair = (0, 0)) -> Value:
        """Return the means of windows; padded pixels count as 0."""


def norms(ops: Operations, x: Value, axes: Sequence[int]) -> Value:
    """Return Euclidean norms over axes, which stay with length 1; those of zeros are so small a number instead."""
    return root(ops, ops.sum(x * x, axes))


def root(ops: Operations, x: Value) -> Value:
    """Return √x, of at least √TINY, to divide by."""
    return ops.power(ops.at_least(x, TINY), 0.5)
