"""SoftHebb and its hard winner-take-all."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from hebbcore import checks
from hebbcore.engine import competition
from hebbcore.engine.backend import Array, largest_magnitude, namespace, row_norms
from hebbcore.engine.competition import Gate, Norms
from hebbcore.engine.rule import Rule

INITIAL_RADIUS = 25.0  # expected p-norm of a unit's first weights: learning brings it down to 1


class _NormSeekingRule(Rule):
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


@dataclass(frozen=True)
class SoftHebb(_NormSeekingRule):
    """SoftHebb: soft winner-take-all whose losers may learn the opposite.

    ΔW = (Gᵀ X − Σ(G∘u)·W) / max|·|, u = X (sign(W)|W|^(p−1))ᵀ, G = softmax(u / temperature), every entry of a row
    but the largest u's negated if anti_hebbian. Output u (a Triangle usually follows).
    Rate of unit i: learning_rate · (|‖w_i‖_p − 1| + 1e-10)^adaptive_power; adaptive_power None: constant.

    temperature: > 0, in units of u; 1/t of the authors' program. p: ≥ 2.
    Source: SoftHebb (Journé et al., ICLR 2023).
    """

    temperature: float = 1.0
    p: float = 2
    anti_hebbian: bool = True
    adaptive_power: float | None = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.positive("SoftHebb", "temperature", self.temperature)
        checks.boolean("SoftHebb", "anti_hebbian", self.anti_hebbian)

    def gate(self, scores: Array, norms: Norms | None) -> Gate:
        return competition.soft_hebb_gate(scores, self.temperature, self.anti_hebbian)


@dataclass(frozen=True)
class HardWTA(_NormSeekingRule):
    """Hard winner-take-all of SoftHebb's program: only the unit of the largest u learns.

    As SoftHebb with G one-hot at the row's largest u; of equal u the lowest index wins.

    Source: SoftHebb (Journé et al., ICLR 2023), hard-WTA; its adaptive rate applies.
    """

    p: float = 2
    adaptive_power: float | None = 0.5

    def gate(self, scores: Array, norms: Norms | None) -> Gate:
        return competition.ranked_gate(scores, 1, 0.0)

    def expected_winners(self) -> int:
        return 1


def signed_power(weights: Array, p: float) -> Array:
    """Return sign(W) |W|^(p−1): the weights of the scores under a general p."""
    if p == 2:
        return weights
    xp = namespace(weights)
    return xp.sign(weights) * xp.abs(weights) ** (p - 1)


def check_exponent(function: str, p: float) -> None:
    """Raise unless p is a number of at least 2."""
    checks.real(function, "p", p, 2)
