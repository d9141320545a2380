"""What SoftHebb and its hard winner-take-all share."""

import math
from typing import Any, ClassVar

import numpy as np

from hebbcore import checks
from hebbcore.engine import kernels
from hebbcore.engine.backend import Array, namespace, row_norms
from hebbcore.engine.rule import Rule
from hebbcore.rules.p_norm import MOST_POWER, check_exponent, near_one, signed_power

INITIAL_RADIUS = 25.0  # expected p-norm of a unit's first weights: learning brings it down to 1
LEAST_DISTANCE = 1e-10  # of a norm from 1, so that no rate is 0


class NormSeekingRule(Rule):
    """Base of the rules with decay Σ G∘u, under which the units' p-norms tend to 1; divided by the largest change."""

    competes: ClassVar[bool] = True

    p: float
    adaptive_power: float | None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_exponent(type(self).__name__, self.p)
        if self.adaptive_power is not None:
            checks.positive(type(self).__name__, "adaptive_power", self.adaptive_power, MOST_POWER)

    def lengths(self, weights: Array) -> Array:
        return row_norms(weights, self.p)

    def from_patches(self, patches: Array, lengths: Any) -> Array:
        return super().from_patches(near_one(patches, self.p), lengths)

    def projection(self, weights: Array) -> Array:
        return signed_power(weights, self.p)

    def scale(self, delta: Array, rows: int, mass: Array | None) -> Any:
        return 1 / (kernels.for_array(delta).largest_magnitude(delta) + 1e-30)

    def rate(self, weights: Array, learning_rate: float) -> Any:
        if self.adaptive_power is None:
            return learning_rate
        xp, power = namespace(weights), self.adaptive_power
        if self.p != 2:
            return learning_rate * (xp.abs(row_norms(weights, self.p) - 1) + LEAST_DISTANCE) ** power
        rates, number = xp.empty((len(weights), 1), weights.dtype), weights.dtype.type
        numbers = number(learning_rate), number(LEAST_DISTANCE), number(power)
        kernels.for_array(weights).norm_rates(weights, *numbers, rates[:, 0])
        return rates

    def initial_weights(self, generator: np.random.Generator, units: int, size: int) -> np.ndarray[Any, Any]:
        """Return normal weights whose p-norm is about 25."""
        p = self.p
        moment = 2 ** (p / 2) * math.gamma((p + 1) / 2) / math.sqrt(math.pi)  # E|z|^p for z ~ N(0, 1)
        return generator.normal(0, (INITIAL_RADIUS**p / (size * moment)) ** (1 / p), (units, size))
