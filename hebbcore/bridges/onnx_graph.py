"""Formulas written down as nodes of an ONNX graph."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from hebbcore.formulas.operations import Pair, Value
from hebbcore.layers import Layer

_PAD_MODES = {"zeros": "constant", "reflect": "reflect", "edge": "edge"}


class Tensor:
    """What a node puts out."""

    __array_ufunc__ = None  # NumPy leaves arithmetic with arrays to this class

    def __init__(self, graph: "Graph", name: str) -> None:
        self._graph, self.name = graph, name

    def __add__(self, other: Value) -> "Tensor":
        return self._graph.node("Add", self, other)

    def __sub__(self, other: Value) -> "Tensor":
        return self._graph.node("Sub", self, other)

    def __mul__(self, other: Value) -> "Tensor":
        return self._graph.node("Mul", self, other)

    def __truediv__(self, other: Value) -> "Tensor":
        return self._graph.node("Div", self, other)


class Graph:
    """Operations (see hebbcore.formulas.operations) that add nodes; what depends on no image is computed at once.

    Values are tensors, or NumPy arrays that are known: float64 until a node needs them, which gets float32.

    Parameters
    ----------
    name_of : callable
        Makes a name that no other node or array has of one.
    """

    def __init__(self, name_of: Callable[[str], str]) -> None:
        self.nodes: list[Any] = []
        self.arrays: dict[str, Any] = {}  # NumPy arrays that nodes take, by name
        self._scope, self._name_of = "", name_of

    @contextlib.contextmanager
    def scope(self, name: str) -> Iterator[None]:
        """Put a name before those of nodes."""
        before, self._scope = self._scope, f"{name}/"
        yield
        self._scope = before

    def node(self, kind: str, *inputs: Value, **attributes: Any) -> Tensor:
        """Add a node of one output."""
        name = self._name_of(self._scope + kind)
        names = [value.name if isinstance(value, Tensor) else self._array(kind, value) for value in inputs]
        self.nodes.append(_made(kind, names, name, **attributes))
        return Tensor(self, name)

    def _array(self, kind: str, value: Any) -> str:
        """Return the name of an array, or number, that a node of a kind takes."""
        array = np.asarray(value)
        if array.dtype.kind == "f":
            array = array.astype(np.float32)
        name = self._name_of(f"{self._scope}{kind}.values")
        self.arrays[name] = np.ascontiguousarray(array) if array.ndim else array
        return name

    def name_output(self, name: str, value: Tensor) -> None:
        """Give a value the name of an output of the file."""
        self.nodes.append(_made("Identity", [value.name], name))

    def floating(self, x: Value) -> Value:
        """See Operations."""
        return self.node("Cast", x, to=1)  # float32

    def constant(self, array: Any) -> Value:
        """See Operations."""
        return array

    def statistics(self, layer: Layer, x: Value, arrays: dict[str, Value], axes: Sequence[int]) -> dict[str, Value]:
        """See Operations."""
        return arrays

    def conv(self, x: Value, kernels: Value, stride: Pair = (1, 1), padding: Pair = (0, 0)) -> Value:
        """See Operations."""
        return self.node("Conv", x, kernels, kernel_shape=kernels.shape[2:], strides=stride, pads=2 * padding)

    def matmul(self, a: Value, b: Value) -> Value:
        """See Operations."""
        return a @ b if _known(a, b) else self.node("MatMul", a, b)

    def relu(self, x: Value) -> Value:
        """See Operations."""
        return self.node("Relu", x)

    def exp(self, x: Value) -> Value:
        """See Operations."""
        return self.node("Exp", x)

    def tanh(self, x: Value) -> Value:
        """See Operations."""
        return self.node("Tanh", x)

    def sign(self, x: Value) -> Value:
        """See Operations."""
        return np.sign(x) if _known(x) else self.node("Sign", x)

    def abs(self, x: Value) -> Value:
        """See Operations."""
        return np.abs(x) if _known(x) else self.node("Abs", x)

    def power(self, x: Value, exponent: float) -> Value:
        """See Operations."""
        if _known(x):
            return x**exponent
        return self.node("Sqrt", x) if exponent == 0.5 else self.node("Pow", x, float(exponent))

    def at_least(self, x: Value, least: float) -> Value:
        """See Operations."""
        return np.maximum(x, least) if _known(x) else self.node("Max", x, least)

    def sum(self, x: Value, axes: Sequence[int]) -> Value:
        """See Operations."""
        if _known(x):
            return x.sum(axis=tuple(axes), keepdims=True)
        return self.node("ReduceSum", x, np.array(axes, np.int64), keepdims=1)

    def reshape(self, x: Value, shape: Sequence[int]) -> Value:
        """See Operations."""
        return x.reshape(shape) if _known(x) else self.node("Reshape", x, np.array(shape, np.int64))

    def transpose(self, x: Value, axes: Sequence[int]) -> Value:
        """See Operations."""
        return x.transpose(axes) if _known(x) else self.node("Transpose", x, perm=list(axes))

    def cut(self, x: Value, rows: slice, columns: slice) -> Value:
        """See Operations."""
        parts = np.array([[part.start, part.stop, part.step] for part in (rows, columns)], np.int64)
        return self.node("Slice", x, parts[:, 0], parts[:, 1], np.array([2, 3]), parts[:, 2])

    def concat(self, values: Sequence[Value], axis: int) -> Value:
        """See Operations."""
        return self.node("Concat", *values, axis=axis)

    def flip(self, x: Value) -> Value:
        """See Operations."""
        return self.node("Slice", x, *(np.array([number]) for number in (-1, np.iinfo(np.int64).min, 3, -1)))

    def pad(self, x: Value, padding: Pair, mode: str) -> Value:
        """See Operations."""
        return self.node("Pad", x, np.array(2 * (0, 0, *padding)), mode=_PAD_MODES[mode])

    def max_pool(self, x: Value, window: Pair, stride: Pair, padding: Pair = (0, 0)) -> Value:
        """See Operations."""
        return self.node("MaxPool", x, kernel_shape=window, strides=stride, pads=2 * padding)

    def average_pool(self, x: Value, window: Pair, stride: Pair, padding: Pair = (0, 0)) -> Value:
        """See Operations."""
        return self.node("AveragePool", x, kernel_shape=window, strides=stride, pads=2 * padding, count_include_pad=1)


def _made(kind: str, inputs: list[str], output: str, **attributes: Any) -> Any:
    """Return a node of one output, whose name it has."""
    from onnx import helper

    return helper.make_node(kind, inputs, [output], name=output, **attributes)


def _known(*values: Value) -> bool:
    """Return whether values are arrays that depend on no image."""
    return not any(isinstance(value, Tensor) for value in values)
