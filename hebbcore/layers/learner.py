"""Layers of units that learn by a rule."""

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from hebbcore import backend, checks
from hebbcore.backend import Array
from hebbcore.data import require_finite
from hebbcore.layers.base import Layer, Shape, Site, as_4d, require_images, rows_of
from hebbcore.layers.hebbian import HebbianLayer, project
from hebbcore.patches import Geometry
from hebbcore.rules import Rule, as_rule
from hebbcore.soundness import as_rate
from hebbcore.update import BatchedUpdate, add_scaled


class Learner(Layer):
    """Units with weights (units, …) and a rule. See Conv and Dense."""

    reads_images: ClassVar[bool] = True
    settable: ClassVar[frozenset[str]] = frozenset({"rule", "learning_rate", "linear"})

    units: int
    rule: Rule | str
    learning_rate: float | str | None
    linear: bool
    weights: Array

    def _check(self) -> None:
        function = type(self).__name__
        self.units = checks.integer(function, "units", self.units, 1)
        self.rule = as_rule(function, self.rule)
        self.rule.check_units(function, self.units)
        checks.boolean(function, "linear", self.linear)
        if self.learning_rate is not None:
            self.learning_rate = as_rate(function, "learning_rate", self.learning_rate)

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "weights" and self.__dict__.get("weights") is not None:
            value = self._as_weights(value)
        super().__setattr__(name, value)

    def _as_weights(self, value: Any) -> Array:
        """Return weights to be set, as the layer keeps them: of its dtype, on its device, and its own."""
        given = backend.as_array(self.name, "weights", value)
        if given.shape != self.weights.shape:
            raise ValueError(f"{self.name}: weights must have the shape {self.weights.shape}, got {given.shape}.")
        require_finite(self.name, "weights", given)
        return backend.to_device(given, self._site.device).astype(self._site.dtype, order="C", copy=True)

    def _geometry(self, shape: Shape) -> Geometry:
        raise NotImplementedError

    def _weights_shape(self, shape: Shape) -> tuple[int, ...]:
        raise NotImplementedError

    def build(self, site: Site, shape: Shape, generator: np.random.Generator) -> None:
        """Draw the weights by the rule."""
        assert isinstance(self.rule, Rule)
        self.place(site, shape)
        full = self._weights_shape(shape)
        drawn = self.rule.initial_weights(generator, self.units, math.prod(full[1:])).reshape(full)
        self._use(backend.to_device(drawn.astype(site.dtype), site.device))

    def place(self, site: Site, shape: Shape) -> None:
        """Be made for inputs of this shape, all but the weights, which restore then brings."""
        self._site, self._sizes = site, self._geometry(shape)

    def _use(self, weights: Array) -> None:
        self.__dict__["weights"] = weights
        self._changed()

    def _changed(self) -> None:
        if self.weights is None:
            return
        assert isinstance(self.rule, Rule)
        site = self._site
        self._update = BatchedUpdate(
            self.rule, self._sizes, self.units, site.precision, site.workspace, self.name, self.linear, site.memories
        )

    @property
    def _matrix(self) -> Array:
        return self.weights.reshape(self.units, -1)

    @property
    def geometry(self) -> Geometry:
        """Sizes of the convolution, or of a dense layer as one."""
        return self._sizes

    def as_input(self, x: Array) -> Array:
        """Return an input of the layer as the images (n, H, W, C) of its geometry."""
        return x.reshape(len(x), *self._sizes.size, self._sizes.channels)

    def forward(self, x: Array, out: Array, training: bool) -> None:
        """See Layer."""
        assert isinstance(self.rule, Rule)
        site = self._site
        project(
            self.name, self.as_input(x), self._matrix, self.rule, self.linear, self._sizes, site.precision,
            site.workspace, rows_of(out),
        )  # fmt: skip

    def learn(self, x: Array, out: Array | None, rate: float, measure: bool) -> float | None:
        """Change the weights by one batch; out ← the output by the weights from before.

        Returns ‖change‖ / ‖weights‖ (Frobenius norms) if measure, else None.
        """
        assert isinstance(self.rule, Rule)
        matrix = self._matrix
        delta, scale = self._update.delta(self.as_input(x), matrix, None if out is None else rows_of(out))
        factors = self.rule.rate(matrix, rate) * scale
        size = None
        if measure:
            xp = backend.namespace(matrix)
            per_unit = backend.row_norms(delta) * factors
            size = float(xp.linalg.norm(per_unit) / xp.linalg.norm(matrix))
        add_scaled(matrix, factors, delta)
        return size

    def arrays(self) -> dict[str, Array]:
        """See Layer."""
        return {"weights": self.weights}

    def arrays_for(self, site: Site, shape: Shape, observed: bool) -> dict[str, tuple[Shape, Any]]:
        """See Layer."""
        return {"weights": (self._weights_shape(shape), site.dtype)}

    def restore(self, arrays: dict[str, Array]) -> None:
        """See Layer."""
        self._use(arrays["weights"])

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in vars(self).items() if key != "_update"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        if self.weights is not None:
            self._use(self.weights)

    def as_layer(self) -> HebbianLayer:
        """Return the trained layer alone, sharing the weights."""
        assert isinstance(self.rule, Rule)
        g = self._sizes
        return HebbianLayer(
            self.weights, self.rule, g.stride, g.padding, g.padding_mode, self._site.precision, self.linear
        )


@dataclass(eq=False)
class Conv(Learner):
    """A convolution whose units learn by a rule. Output: the rule's (see Rule.activate), (oh, ow, units).

    units: number of kernels. kernel_size, stride, padding: an int or a (height, width) pair. rule: a Rule or its name.
    padding_mode: "zeros" or "reflect". learning_rate: None takes that of the training; "auto": see fit.
    linear: put out the rule's response, of both signs, without its activation (see Rule.response): what Split and
    Triangle need of rules that put out relu.
    weights: after build, (units, kernel height, kernel width, channels); they can be set to others of that shape.
    rule, learning_rate and linear can be set too, and take effect with the next step or output.
    Raises ValueError or TypeError for impossible parameters.
    """

    units: int
    kernel_size: Any
    rule: Rule | str = "hpca"
    stride: Any = 1
    padding: Any = 0
    padding_mode: str = "zeros"
    learning_rate: float | str | None = None
    linear: bool = False
    name: str = ""
    weights: Array = field(init=False, repr=False, default=None)

    def _check(self) -> None:
        super()._check()
        self.kernel_size = checks.pair("Conv", "kernel_size", self.kernel_size, 1)
        self.stride = checks.pair("Conv", "stride", self.stride, 1)
        self.padding = checks.pair("Conv", "padding", self.padding, 0)
        checks.choice("Conv", "padding_mode", self.padding_mode, ("zeros", "reflect"))

    def _geometry(self, shape: Shape) -> Geometry:
        require_images(self.name, shape)
        return Geometry.of(self.name, (1, *shape), self.kernel_size, self.stride, self.padding, self.padding_mode)

    def _weights_shape(self, shape: Shape) -> tuple[int, ...]:
        return (self.units, *self.kernel_size, shape[2])

    def output_shape(self, shape: Shape) -> Shape:
        """See Layer."""
        return (*self._geometry(shape).output, self.units)


@dataclass(eq=False)
class Dense(Learner):
    """A dense layer whose units learn by a rule; images are flattened. Output: the rule's, (units,).

    units: number of units. rule: a Rule or its name. learning_rate: None takes that of the training.
    linear: see Conv. weights: after build, (units, features).
    Raises ValueError or TypeError for impossible parameters.
    """

    units: int
    rule: Rule | str = "hpca"
    learning_rate: float | str | None = None
    linear: bool = False
    name: str = ""
    weights: Array = field(init=False, repr=False, default=None)

    def _geometry(self, shape: Shape) -> Geometry:
        return Geometry.of(self.name, (1, 1, 1, math.prod(shape)), 1, 1, 0, "zeros")

    def _weights_shape(self, shape: Shape) -> tuple[int, ...]:
        return (self.units, math.prod(as_4d(shape)))

    def output_shape(self, shape: Shape) -> Shape:
        """See Layer."""
        return (self.units,)
