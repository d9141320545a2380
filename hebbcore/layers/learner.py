"""Layers of units that learn by a rule."""

import math
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from hebbcore import checks
from hebbcore.engine import backend, devices
from hebbcore.engine.backend import Array
from hebbcore.engine.chunks import Plan
from hebbcore.engine.finite import require_finite
from hebbcore.engine.patches import Geometry
from hebbcore.engine.rivalry import Rivalry, check_rivalry, rivalry_arrays
from hebbcore.engine.soundness import as_rate
from hebbcore.engine.starting import STARTS, starting_weights
from hebbcore.engine.update import BatchedUpdate, add_scaled
from hebbcore.layers.base import Layer, Shape, Site, as_4d, require_images, rows_of
from hebbcore.layers.hebbian import HebbianLayer, project
from hebbcore.rules import Rule, as_rule

LATER = {"later": True}  # a field that came later: it is written only if it is not the default (tables.layer_table)


class Learner(Layer):
    """Units with weights (units, …) and a rule. See Conv and Dense."""

    reads_images: ClassVar[bool] = True
    settable: ClassVar[frozenset[str]] = frozenset({"rule", "learning_rate", "linear", "weights"})

    _rivalry: Rivalry | None = None  # with conscience or revival

    units: int
    rule: Rule | str
    learning_rate: float | str | None
    linear: bool
    initial_weights: str
    conscience: float
    revival: float
    weights: Array
    started: bool  # the weights are those to learn from

    def _check(self) -> None:
        function = type(self).__name__
        self.units = checks.integer(function, "units", self.units, 1)
        self.rule = as_rule(function, self.rule)
        self.rule.check_units(function, self.units)
        checks.boolean(function, "linear", self.linear)
        if self.learning_rate is not None:
            self.learning_rate = as_rate(function, "learning_rate", self.learning_rate)
        checks.choice(function, "initial_weights", self.initial_weights, STARTS)
        self.conscience, self.revival = check_rivalry(function, self.rule, self.conscience, self.revival)

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "weights" and not (value is None and self.weights is None):
            if self.weights is None:
                raise AttributeError(
                    f"{self.name or type(self).__name__}.weights cannot be set before the network is built; build it: "
                    "network.build(image_shape), or Network(…, image_shape=…)."
                )
            value = self._as_weights(value)
            self.__dict__["started"] = True  # from these
        super().__setattr__(name, value)

    def _as_weights(self, value: Any) -> Array:
        """Return weights to be set, as the layer keeps them: of its dtype, on its device, and its own."""
        given = backend.as_array(self.name, "weights", value)
        if given.shape != self.weights.shape:
            raise ValueError(f"{self.name}: weights must have the shape {self.weights.shape}, got {given.shape}.")
        require_finite(self.name, "weights", given, optional=False)
        return devices.to_device(given, self._site.device).astype(self._site.dtype, order="C", copy=True)

    def _geometry(self, shape: Shape) -> Geometry:
        raise NotImplementedError

    def _weights_shape(self, shape: Shape) -> tuple[int, ...]:
        raise NotImplementedError

    def build(self, site: Site, shape: Shape, generator: np.random.Generator) -> None:
        """Draw the weights by the rule."""
        assert isinstance(self.rule, Rule)
        self.place(site, shape, generator)
        full = self._weights_shape(shape)
        drawn = self.rule.initial_weights(generator, self.units, math.prod(full[1:])).reshape(full)
        self._use(devices.to_device(drawn.astype(site.dtype), site.device))
        self.started = self.initial_weights == "rule"

    def start(self, function: str, inputs: Callable[[], Generator[Array, None, None]]) -> None:
        """Start from patches, unless done; inputs: returns the layer's inputs of the first batches."""
        assert isinstance(self.rule, Rule)
        if self.started:
            return

        def images() -> Iterator[Array]:
            with closing(inputs()) as source:
                yield from map(self.as_input, source)

        drawn = devices.to_device(self._matrix, "cpu")
        weights = starting_weights(
            f"{function}: {self.name}", self.initial_weights, self.rule, drawn, self._sizes, images,
            np.random.default_rng(self._seed),
        )  # fmt: skip
        self._matrix[...] = devices.to_device(weights, self._site.device)
        self.started = True

    def place(self, site: Site, shape: Shape, generator: np.random.Generator) -> None:
        """Be made for inputs of this shape, all but the weights, which restore then brings."""
        self._site, self._sizes = site, self._geometry(shape)
        self._seed = int(generator.spawn(1)[0].integers(2**63))  # of the start from patches, and of revivals

    def _use(self, weights: Array) -> None:
        self.__dict__["weights"] = weights
        self._changed()

    def _changed(self) -> None:
        if self.weights is None:
            return
        assert isinstance(self.rule, Rule)
        site = self._site
        self._update = BatchedUpdate(
            self.rule, self._sizes, self.units, site.precision, site.workspace, self.name,
            linear=self.linear, memories=site.memories,
        )  # fmt: skip
        if self._rivalry is not None:
            self._rivalry.rule = self.rule
        elif self.conscience or self.revival:
            self._rivalry = Rivalry(self.rule, self._sizes, self._matrix, self.conscience, self.revival, self._seed)

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
        plan = Plan(self.name, self._sizes, self.units, site.precision, site.workspace, site.device)
        project(plan, self.as_input(x), self._matrix, self.rule, self.linear, rows_of(out))

    def learn(self, x: Array, out: Array | None, rate: float, measure: bool) -> float | None:
        """Change the weights by one batch; out ← the output by the weights from before.

        Returns ‖change‖ / ‖weights‖ (Frobenius norms) if measure, else None.
        """
        assert isinstance(self.rule, Rule)
        matrix, images, rivalry = self._matrix, self.as_input(x), self._rivalry
        bias = None
        if rivalry is not None:
            bias = rivalry.bias(matrix.dtype)
            rivalry.count(images, matrix)
        delta, scale = self._update.delta(images, matrix, None if out is None else rows_of(out), bias)
        factors = self.rule.rate(matrix, rate) * scale
        size = None
        if measure:
            xp = backend.namespace(matrix)
            per_unit = backend.row_norms(delta) * factors
            size = float(xp.linalg.norm(per_unit) / xp.linalg.norm(matrix))
        add_scaled(matrix, factors, delta)
        if rivalry is not None:
            rivalry.revive(matrix)
        return size

    def arrays(self) -> dict[str, Array]:
        """See Layer."""
        arrays = {"weights": self.weights}
        if self.initial_weights != "rule":
            arrays["started"] = np.array([self.started])
        return arrays if self._rivalry is None else arrays | self._rivalry.arrays()

    def arrays_for(self, site: Site, shape: Shape, observed: bool) -> dict[str, tuple[Shape, Any]]:
        """See Layer."""
        arrays: dict[str, tuple[Shape, Any]] = {"weights": (self._weights_shape(shape), site.dtype)}
        if self.initial_weights != "rule":
            arrays["started"] = ((1,), np.dtype(np.bool_))
        return arrays | rivalry_arrays(self.units) if self.conscience or self.revival else arrays

    def restore(self, arrays: dict[str, Array]) -> None:
        """See Layer."""
        self._use(arrays["weights"])
        self.started = bool(arrays["started"][0]) if "started" in arrays else True
        if self._rivalry is not None:
            self._rivalry.restore(arrays)

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
    initial_weights: "rule" (drawn by it), "patches" (different patches of the first data, as the layer sees them) or
    "k-means++" (patches far apart); both are taken before the first step of a training, and scaled as the rule expects.
    conscience: a bias, in units of a cosine, of the competition of SWTA, k-WTA and signed WTA against units that win
    more than their share, and for those that win less; 0.05, say. revival: a unit that won nothing while units won so
    many places each, on average, starts anew from a patch; 10, say. Both are no part of the published rules (see
    hebbcore.rivalry).
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
    initial_weights: str = field(default="rule", metadata=LATER)
    conscience: float = field(default=0.0, metadata=LATER)
    revival: float = field(default=0.0, metadata=LATER)
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
    linear, initial_weights, conscience, revival: see Conv. weights: after build, (units, features).
    Raises ValueError or TypeError for impossible parameters.
    """

    units: int
    rule: Rule | str = "hpca"
    learning_rate: float | str | None = None
    linear: bool = False
    name: str = ""
    initial_weights: str = field(default="rule", metadata=LATER)
    conscience: float = field(default=0.0, metadata=LATER)
    revival: float = field(default=0.0, metadata=LATER)
    weights: Array = field(init=False, repr=False, default=None)

    def _geometry(self, shape: Shape) -> Geometry:
        return Geometry.of(self.name, (1, 1, 1, math.prod(shape)), 1, 1, 0, "zeros")

    def _weights_shape(self, shape: Shape) -> tuple[int, ...]:
        return (self.units, math.prod(as_4d(shape)))

    def output_shape(self, shape: Shape) -> Shape:
        """See Layer."""
        return (self.units,)
