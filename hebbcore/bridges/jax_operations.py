"""Operations of JAX for formulas. It is imported where JAX is."""

import contextlib
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from hebbcore.formulas.operations import TINY, Pair
from hebbcore.layers import Layer

_PAD_MODES = {"zeros": "constant", "reflect": "reflect", "edge": "edge"}
_EXACT = lax.Precision.HIGHEST  # not that of tensor cores
Array = Any


class JaxOperations:
    """Operations (see hebbcore.formulas.operations) on arrays of JAX.

    Parameters
    ----------
    dtype : dtype
        Of floating numbers.
    """

    def __init__(self, dtype: Any) -> None:
        self._dtype = dtype

    def scope(self, name: str) -> contextlib.AbstractContextManager[Any]:
        """See Operations."""
        scope: contextlib.AbstractContextManager[Any] = jax.named_scope(name)
        return scope

    def floating(self, x: Array) -> Array:
        """See Operations."""
        return x.astype(self._dtype)

    def constant(self, array: Any) -> Array:
        """See Operations."""
        return jnp.asarray(array, self._dtype)

    def statistics(self, layer: Layer, x: Array, arrays: dict[str, Array], axes: Sequence[int]) -> dict[str, Array]:
        """See Operations."""
        return arrays

    def conv(self, x: Array, kernels: Array, stride: Pair = (1, 1), padding: Pair = (0, 0)) -> Array:
        """See Operations."""
        sides = [(side, side) for side in padding]
        return lax.conv_general_dilated(x, kernels, stride, sides, precision=_EXACT)

    def matmul(self, a: Array, b: Array) -> Array:
        """See Operations."""
        return jnp.matmul(a, b, precision=_EXACT)

    def relu(self, x: Array) -> Array:
        """See Operations."""
        return jax.nn.relu(x)

    def exp(self, x: Array) -> Array:
        """See Operations."""
        return jnp.exp(x)

    def tanh(self, x: Array) -> Array:
        """See Operations."""
        return jnp.tanh(x)

    def sign(self, x: Array) -> Array:
        """See Operations."""
        return jnp.sign(x)

    def abs(self, x: Array) -> Array:
        """See Operations."""
        return jnp.abs(x)

    def power(self, x: Array, exponent: float) -> Array:
        """See Operations."""
        return x**exponent if exponent >= 1 else jnp.where(x == 0, 0, jnp.maximum(x, TINY) ** exponent)

    def at_least(self, x: Array, least: float) -> Array:
        """See Operations."""
        return jnp.maximum(x, least)

    def sum(self, x: Array, axes: Sequence[int]) -> Array:
        """See Operations."""
        return x.sum(tuple(axes), keepdims=True)

    def reshape(self, x: Array, shape: Sequence[int]) -> Array:
        """See Operations."""
        return x.reshape(tuple(shape))

    def transpose(self, x: Array, axes: Sequence[int]) -> Array:
        """See Operations."""
        return x.transpose(tuple(axes))

    def cut(self, x: Array, rows: slice, columns: slice) -> Array:
        """See Operations."""
        return x[:, :, rows, columns]

    def concat(self, values: Sequence[Array], axis: int) -> Array:
        """See Operations."""
        return jnp.concatenate(values, axis)

    def flip(self, x: Array) -> Array:
        """See Operations."""
        return jnp.flip(x, 3)

    def pad(self, x: Array, padding: Pair, mode: str) -> Array:
        """See Operations."""
        return jnp.pad(x, ((0, 0), (0, 0), *((side, side) for side in padding)), _PAD_MODES[mode])

    def max_pool(self, x: Array, window: Pair, stride: Pair, padding: Pair = (0, 0)) -> Array:
        """See Operations."""
        return _windows(x, -jnp.inf, lax.max, window, stride, padding)

    def average_pool(self, x: Array, window: Pair, stride: Pair, padding: Pair = (0, 0)) -> Array:
        """See Operations."""
        return _windows(x, 0.0, lax.add, window, stride, padding) / math.prod(window)


def _windows(x: Array, start: float, of: Any, window: Pair, stride: Pair, padding: Pair) -> Array:
    sides = [(0, 0), (0, 0), *((side, side) for side in padding)]
    return lax.reduce_window(x, start, of, (1, 1, *window), (1, 1, *stride), sides)
