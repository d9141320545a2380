"""Networks as formulas of plain array operations, from which ONNX, PyTorch and JAX have theirs.

A layer kind has one formula, in FORMULAS, which is written for any library that has the operations of
hebbcore.formulas.operations. It takes the operations, the layer, the value of its input, its arrays by name and the
shape of an input, and returns the value of its output.
"""

import contextlib
import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np

from hebbcore import checkpoint, checks
from hebbcore.engine import devices
from hebbcore.engine.output import Output
from hebbcore.formulas import learners, pointwise, pools
from hebbcore.formulas.operations import Operations, Value
from hebbcore.formulas.units import Windows, units
from hebbcore.formulas.whiten import whiten
from hebbcore.layers import (
    BatchNorm,
    Branches,
    Conv,
    Dense,
    Flatten,
    GaussianPool,
    GridPool,
    HebbianLayer,
    Layer,
    Nystrom,
    Pool,
    Power,
    Relu,
    Scale,
    Shape,
    Split,
    Triangle,
    Whiten,
)
from hebbcore.network import Network
from hebbcore.ours import is_ours

__all__ = ["FORMULAS", "Formula"]

LayerFormula = Callable[[Operations, Any, Value, dict[str, Value], Shape], Value]


def _joined(ops: Operations, layer: Branches, x: Value, arrays: dict[str, Value], shape: Shape) -> Value:
    """See Branches; x: the ends of all."""
    return ops.concat(x, 1)


FORMULAS: dict[type[Layer], LayerFormula] = {
    Conv: learners.conv,
    Dense: learners.dense,
    Pool: pools.pool,
    GridPool: pools.grid_pool,
    GaussianPool: pools.gaussian_pool,
    BatchNorm: pointwise.batch_norm,
    Scale: pointwise.scale,
    Triangle: pointwise.triangle,
    Relu: pointwise.relu,
    Split: pointwise.split,
    Power: pointwise.power,
    Whiten: whiten,
    Nystrom: pointwise.nystrom,
    Flatten: pointwise.flatten,
    Branches: _joined,
}


@dataclass(frozen=True)
class Formula:
    """A network, or a layer alone, as a formula.

    Parameters
    ----------
    function : str
        Who asks, for messages.
    model : Network or HebbianLayer
        Built.
    last : int
        The network's layer whose output is wanted.
    mirror : bool
        Whether the outputs of images and of their mirror images are averaged.
    """

    function: str
    model: Network | HebbianLayer
    last: int
    mirror: bool

    @classmethod
    def checked(cls, function: str, model: Any, layer: str | None, mirror: bool) -> Self:
        """Return the formula that a user chose; layer: None is the last.

        Raises ValueError or TypeError for what has none, and for what the model does not have.
        """
        if isinstance(model, HebbianLayer):
            if layer is not None or checks.boolean(function, "mirror", mirror):
                raise ValueError(f"{function}: layer and mirror are for networks; leave them out for a layer alone.")
            return cls(function, model, 0, False)
        if not isinstance(model, Network):
            raise TypeError(f"{function}: model must be a Network or a HebbianLayer, got {type(model).__name__}.")
        if checks.boolean(function, "mirror", mirror):
            model.require_mirror(function)
        if model.image_shape is None:
            raise ValueError(f"{function}: the network has no weights yet; build or train it first.")
        last = len(model) - 1 if layer is None else model.index_of(function, layer)
        for i in model.graph.needed(0, [last + 1]):
            if type(model.layers[i]) not in FORMULAS:
                raise ValueError(
                    f"{function}: {model.names[i]} is a {type(model.layers[i]).__name__}, which has no formula; enter "
                    "one in hebbcore.formulas.FORMULAS, or end at a layer before it."
                )
        return cls(function, model, last, bool(mirror))

    def of_a_copy(self) -> Self:
        """Return the formula of a copy of the model, which knows nothing of what is set in the model later."""
        with self._whole():
            return replace(self, model=copy.deepcopy(self.model))

    def _whole(self) -> contextlib.AbstractContextManager[Any]:
        """Return what to hold while the model is read: it is then not between halves of a step."""
        return self.model.lock if isinstance(self.model, Network) else contextlib.nullcontext()

    @property
    def arrays(self) -> dict[str, Any]:
        """Copies of the arrays of the layers that lead to the output, floating, on the host, by "layer/name".

        Of hebbcore's own layers without those that no formula needs: whole numbers, and what is observed in a pass.
        """
        model, whole = self.model, set[str]()  # names of layers of which every array may be needed
        needed = {""}
        if isinstance(model, Network):
            needed = {model.names[i] for i in model.graph.needed(0, [self.last + 1])}
            whole = {name for name in needed if not is_ours(type(model[name]))}
        found = {}
        with self._whole():
            for key, array in checkpoint.arrays_of(model).items():
                layer, _, name = key.rpartition("/")
                floating = array.dtype.kind == "f"
                if layer in whole or (layer in needed and floating and not name.startswith("observed_")):
                    found[key] = np.array(devices.to_device(array, "cpu"), None if floating else np.float64)
        return found

    @property
    def precision(self) -> str:
        """In which the model computes."""
        return self.model.site.precision if isinstance(self.model, Network) else self.model.precision

    @property
    def input_shape(self) -> tuple[int | None, ...]:
        """Shape (height, width, channels) or (features,) of what it takes; None: any."""
        model = self.model
        if isinstance(model, Network):
            assert model.image_shape is not None
            return model.image_shape
        return model.weights.shape[1:] if model.weights.ndim == 2 else (None, None, model.weights.shape[3])

    @property
    def shape(self) -> tuple[int | None, ...]:
        """Shape of what it puts out, in the same form."""
        model = self.model
        if isinstance(model, Network):
            return model.shapes[self.last]
        return (model.units,) if model.weights.ndim == 2 else (None, None, model.units)

    def __call__(self, ops: Operations, arrays: Mapping[str, Value], x: Value) -> Value:
        """Return the output for maps (n, channels, height, width) or vectors (n, features) of floating numbers."""
        if not self.mirror:
            return self._once(ops, arrays, x)
        both = self._once(ops, arrays, ops.concat([x, ops.flip(x)], 0))
        shape = self.model.shapes[self.last]  # type: ignore[union-attr]  # of a network
        sides = (shape[2], *shape[:2]) if len(shape) == 3 else shape
        halves = ops.sum(ops.reshape(both, (2, -1, *sides)), (0,))
        return ops.reshape(halves * 0.5, (-1, *sides))

    def _once(self, ops: Operations, arrays: Mapping[str, Value], x: Value) -> Value:
        model = self.model
        if isinstance(model, HebbianLayer):
            windows = Windows(model.stride, model.padding, model.padding_mode)
            try:
                output = Output(model.rule, model.linear)
                return units(ops, x, arrays, output, None if model.weights.ndim == 2 else windows)
            except ValueError as error:
                raise ValueError(f"{self.function}: {error}") from None
        graph, values = model.graph, {0: x}
        shapes = [model.image_shape or (), *model.shapes]
        for i in graph.needed(0, [self.last + 1]):
            layer, name = graph.layers[i], model.names[i]
            own = {key.partition("/")[2]: value for key, value in arrays.items() if key.startswith(f"{name}/")}
            given = [values[value] for value in graph.reads[i]]
            with ops.scope(name):
                try:
                    values[i + 1] = FORMULAS[type(layer)](
                        ops, layer, given if isinstance(layer, Branches) else given[0], own, shapes[graph.entries[i]]
                    )
                except ValueError as error:
                    raise ValueError(f"{self.function}: {name}: {error}") from None
        return values[self.last + 1]
