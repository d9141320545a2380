"""What SoftHebb and its hard winner-take-all share."""

import math
from typing import Any, ClassVar

import numpy as np

from hebbcore import checks
from hebbcore.engine.backend import Array, largest_magnitude, namespace, row_norms
from hebbcore.engine.rule import Rule
from hebbcore.rules.p_norm import check_exponent, signed_power

INITIAL_RADIUS = 25.0  # expected p-norm of a unit's first weights: learning brings it down to 1


class NormSeekingRule(Rule):
    """Rules with decay Σ G∘u, under which the units' p-norms tend to 1; divided by the layer's largest change."""

    competes: ClassVar[bool] = True

    p: float
    adaptive_power: float | None

    def __post_init__(self) -> None:
        check_exponent(type(self).__name__, self.p)
        if self.adaptive_power is not None:
            checks.positive(type(self).__name__, "adaptive_power", self.adaptive_power)

    def lengths(self, weights: Array) -> Array:
        return row_norms(weights, self.p)

    def projection(self, weights: Array) -> Array:
        return signed_power(weights, self.p)

    def scale(self, delta: Array, rows: int, mass: Array | None) -> Any:
        return 1 / (largest_magnitude(delta) + 1e-30)

    def rate(self, weights: Array, learning_rate: float) -> Any:
        if self.adaptive_power is None:
            return learning_rate
        xp = namespace(weights)
        return learning_rate * (xp.abs(row_norms(weights, self.p) - 1) + 1e-10) ** self.adaptive_power

    def initial_weights(self, generator: np.random.Generator, units: int, size: int) -> np.ndarray[Any, Any]:
        """Return normal weights whose p-norm is about 25."""
        p = self.p
        moment = 2 ** (p / 2) * math.gamma((p + 1) / 2) / math.sqrt(math.pi)  # E|z|^p for z ~ N(0, 1)
        return generator.normal(0, (INITIAL_RADIUS**p / (size * moment)) ** (1 / p), (units, size))
