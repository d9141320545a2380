"""A dense layer whose units learn."""

import math
from dataclasses import dataclass, field

from hebbcore.engine.backend import Array
from hebbcore.engine.patches import Geometry
from hebbcore.layers.base import Shape, as_4d
from hebbcore.layers.learner import LATER, Learner
from hebbcore.rules import Rule


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
