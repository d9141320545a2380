"""Layers of units that learn by a rule."""

import dataclasses
import math
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing, contextmanager
from functools import partial
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np

from hebbcore import checks
from hebbcore.engine import backend, devices
from hebbcore.engine.answers import factors_of, initial_weights_of, projection_of, require_counts, require_untouched
from hebbcore.engine.backend import Array
from hebbcore.engine.chunks import Plan
from hebbcore.engine.output import RESPONSES, Output
from hebbcore.engine.patches import Geometry
from hebbcore.engine.rivalry import Rivalry, check_rivalry, rivalry_arrays
from hebbcore.engine.soundness import as_rate
from hebbcore.engine.starting import STARTS, starting_weights
from hebbcore.engine.state import initial_state, move_on, same_names, state_arrays, state_in, state_shapes
from hebbcore.engine.update import BatchedUpdate, add_scaled
from hebbcore.engine.winners import Tally, spread
from hebbcore.layers.base import Layer, Shape, Site, rows_of
from hebbcore.layers.hebbian import HebbianLayer, project
from hebbcore.layers.kept import own_array
from hebbcore.rules import Rule, as_rule

WIDTH = 0.36  # of the response "cosine-exp"
Scoring = tuple[Output, Array, Array | None]  # what scores are made by: a projection (K, D), and norms of the units
LATER = {"later": True}  # a field that came later: it is written only if it is not the default (serialize.layer_table)


class Learner(Layer):
    """Units with weights (units, …) and a rule. See Conv and Dense."""

    reads_images: ClassVar[bool] = True
    settable: ClassVar[frozenset[str]] = frozenset({"rule", "learning_rate", "linear", "weights", "width"})

    _rivalry: Rivalry | None = None  # with conscience or revival
    _state: Mapping[str, Array] = MappingProxyType({})  # of the rule, once the layer is built

    units: int
    rule: Rule | str
    learning_rate: float | str | None
    linear: bool
    initial_weights: str
    conscience: float
    revival: float
    response: str
    width: float | None
    normalize_patches: bool
    weights: Array
    started: bool  # the weights are those to learn from

    def _check(self) -> None:
        function = type(self).__name__
        self.units = checks.integer(function, "units", self.units, 1)
        self.rule = as_rule(function, self.rule)
        require_counts(function, self.rule, self.units)
        self.linear = checks.boolean(function, "linear", self.linear)
        if self.learning_rate is not None:
            self.learning_rate = as_rate(function, "learning_rate", self.learning_rate)
        checks.choice(function, "initial_weights", self.initial_weights, STARTS)
        self._check_response(function)
        self.normalize_patches = checks.boolean(function, "normalize_patches", self.normalize_patches)
        if self.normalize_patches and self.rule.initial_state():
            problem = f"is not for a rule with a state, such as {self.rule!r}: its scores are those of the output."
            raise checks.wrong(ValueError, function, "normalize_patches", problem)
        self.conscience, self.revival = check_rivalry(function, self.rule, self.conscience, self.revival)

    def _check_response(self, function: str) -> None:
        checks.choice(function, "response", self.response, RESPONSES)
        if self.linear and self.response != "rule":
            problem = f'has no effect with response="{self.response}", which has no activation; leave it out.'
            raise checks.wrong(ValueError, function, "linear", problem)
        if self.width is not None:
            self.width = checks.positive(function, "width", self.width)
            if self.response != "cosine-exp":
                problem = 'has no effect without response="cosine-exp"; leave it out.'
                raise checks.wrong(ValueError, function, "width", problem)

    @property
    def _output(self) -> Output:
        """How scores become outputs."""
        return Output(self.bound_rule, self.linear, self.response, WIDTH if self.width is None else self.width)

    @property
    def state(self) -> Mapping[str, Array]:
        """What the rule remembers of each unit, (units,), float64, by name; learning changes the arrays."""
        return MappingProxyType(self._state)

    @property
    def bound_rule(self) -> Rule:
        """The rule with its state (see Rule.bound)."""
        assert isinstance(self.rule, Rule)
        return self.rule.bound(self._state)

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "weights" and not (value is None and self.weights is None):
            value = own_array(self, name, value)
            self.__dict__["started"] = True  # from these
        super().__setattr__(name, value)

    def _geometry(self, shape: Shape) -> Geometry:
        raise NotImplementedError

    def _weights_shape(self, shape: Shape) -> tuple[int, ...]:
        raise NotImplementedError

    def build(self, site: Site, shape: Shape, generator: np.random.Generator) -> None:
        """Draw the weights by the rule."""
        assert isinstance(self.rule, Rule)
        self.place(site, shape, generator)
        full = self._weights_shape(shape)
        what = f"{self.name}: the weights {' × '.join(map(str, full))} take"
        devices.require_room("Network", "cpu", 8 * math.prod(full), what, "use fewer units or smaller kernels")
        flat = self.units, math.prod(full[1:])
        drawn = initial_weights_of(self.rule, generator, flat)
        self._use(devices.to_device(drawn.astype(site.dtype).reshape(full), site.device))
        self.started = self.initial_weights == "rule"

    def start(self, function: str, inputs: Callable[[], Generator[Array, None, None]]) -> None:
        """Let the weights start from patches, unless they have started.

        Parameters
        ----------
        function : str
            What trains, for messages.
        inputs : callable
            Returns the layer's inputs of the first batches.
        """
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

    def multiplications(self, shape: Shape) -> int:
        """See Layer."""
        g = self._geometry(shape)
        return g.positions * g.patch_size * self.units

    def place(self, site: Site, shape: Shape, generator: np.random.Generator) -> None:
        """Be made for inputs of this shape, all but the weights, which restore then brings."""
        self._site = site
        self._sizes = dataclasses.replace(self._geometry(shape), normalized=self.normalize_patches)
        self._seed = int(generator.spawn(1)[0].integers(2**63))  # of the start from patches, and of revivals

    def _use(self, weights: Array) -> None:
        self.__dict__["weights"] = weights
        self._changed()

    def _changed(self) -> None:
        if self.weights is None:
            return
        assert isinstance(self.rule, Rule)
        site = self._site
        if not same_names(self.rule, self._state):
            self._state = initial_state(self.rule, self.units, site.device)
        require_untouched(self.bound_rule, self._matrix)
        self._update = BatchedUpdate(
            self.rule, self._sizes, self.units, site.precision, site.workspace, self.name,
            output=self._output, memories=site.memories,
        )  # fmt: skip
        if self._rivalry is not None:
            self._rivalry.rule, self._rivalry.geometry = self.rule, self._sizes
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

    @contextmanager
    def taking_patches(self) -> Iterator[None]:
        """Start and learn from patches (n, kernel height, kernel width, channels) in place of inputs."""
        whole = self._sizes
        self._sizes = whole.of_patches
        self._changed()
        try:
            yield
        finally:
            self._sizes = whole
            self._changed()

    def forward(self, x: Array, out: Array, training: bool) -> None:
        """See Layer."""
        project(self.plan(), self.as_input(x), self._matrix, self._output, rows_of(out))

    def scoring(self) -> Scoring:
        """Return how scores become outputs, and what they are made by."""
        output, matrix = self._output, self._matrix
        projection = projection_of(output.rule, matrix)
        return output, projection, output.unit_norms(matrix, projection)

    def plan(self, beside: int | None = None) -> Plan:
        """Return how a batch is cut; beside: into whole images, with so many more bytes for each patch."""
        site = self._site
        return Plan(self.name, self._sizes, self.units, site.precision, site.workspace, site.device, beside=beside)

    def learn(
        self, x: Array, out: Array | None, rate: float, measure: bool, tally: Tally | None = None,
        teacher: Array | None = None,
    ) -> float | None:  # fmt: skip
        """Change the weights by one batch.

        Parameters
        ----------
        x : Array
            (n, H, W, C), the layer's input.
        out : Array or None
            Where the output by the weights from before is written to.
        rate : float
            The learning rate.
        measure : bool
            Whether to measure the change.
        tally : Tally or None
            Counts who wins; None: only for conscience and revival.
        teacher : Array or None
            (n, units), uint8: which units may learn from which image; None: all from all. Not with conscience.

        Returns
        -------
        float or None
            ‖change‖ / ‖weights‖ (Frobenius norms) if measured.
        """
        return self.begin(x, out, rate, measure, tally, teacher)()

    def begin(
        self,
        x: Array,
        out: Array | None,
        rate: float,
        measure: bool,
        tally: Tally | None = None,
        teacher: Array | None = None,
    ) -> Callable[[], float | None]:
        """Do what learn does in two parts: write the output now, and change the weights in the function returned.

        While processes share the batch, the sum over them is under way until then.
        """
        matrix, images, rivalry = self._matrix, self.as_input(x), self._rivalry
        bias = None
        if rivalry is not None:
            bias, rivalry.rule = rivalry.bias(matrix.dtype), self.bound_rule
            rivalry.take(images, matrix.dtype)
            if tally is None:
                positions = self._sizes.positions
                tally = Tally(self.bound_rule, matrix, spread(len(images) * positions, positions))
        rows = None if out is None else rows_of(out)
        change = self._update.begin(images, matrix, rows, bias, teacher, self._state, tally)
        return partial(self._change, change, rate, measure, tally)

    def _change(
        self,
        change: Callable[[], tuple[Array, Any, Mapping[str, Array]]],
        rate: float,
        measure: bool,
        tally: Tally | None,
    ) -> float | None:
        assert isinstance(self.rule, Rule)
        matrix, rivalry = self._matrix, self._rivalry
        delta, scale, after = change()
        factors = factors_of(self.rule, "rate", self.rule.rate(matrix, rate), self.units, matrix) * scale
        size = None
        if measure:
            xp = backend.namespace(matrix)
            per_unit = backend.row_norms(delta) * factors
            size = float(xp.linalg.norm(per_unit) / xp.linalg.norm(matrix))
        add_scaled(matrix, factors, delta)
        move_on(self._state, after)
        if rivalry is not None and tally is not None:
            rivalry.count(tally.total)
            rivalry.revive(matrix)
        return size

    def arrays(self) -> dict[str, Array]:
        """See Layer."""
        arrays = {"weights": self.weights, **state_arrays(self._state)}
        if self.initial_weights != "rule":
            arrays["started"] = np.array([self.started])
        return arrays if self._rivalry is None else arrays | self._rivalry.arrays()

    def arrays_for(self, site: Site, shape: Shape, observed: bool) -> dict[str, tuple[Shape, Any]]:
        """See Layer."""
        assert isinstance(self.rule, Rule)
        arrays: dict[str, tuple[Shape, Any]] = {"weights": (self._weights_shape(shape), site.dtype)}
        arrays |= state_shapes(self.rule, self.units)
        if self.initial_weights != "rule":
            arrays["started"] = ((1,), np.dtype(np.bool_))
        return arrays | rivalry_arrays(self.units) if self.conscience or self.revival else arrays

    def restore(self, arrays: dict[str, Array]) -> None:
        """See Layer. Without the arrays of a state it begins anew."""
        assert isinstance(self.rule, Rule)
        self._state = state_in(self.rule, arrays) or {}
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
        """Return the trained layer alone, sharing the weights and the rule's state.

        Raises
        ------
        ValueError
            If its response is not the rule's.
        """
        assert isinstance(self.rule, Rule)
        if self.response != "rule":
            raise ValueError(
                f'{self.name}: a layer alone has the response of its rule, but this one has "{self.response}"; use a '
                "network of this layer."
            )
        g = self._sizes
        return HebbianLayer(
            self.weights, self.rule, g.stride, g.padding, g.padding_mode, self._site.precision, self.linear, self._state
        )
