"""The rule of Krotov and Hopfield."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from hebbcore import checks
from hebbcore.engine import competition, kernels
from hebbcore.engine.backend import Array, namespace, row_norms
from hebbcore.engine.competition import Gate, Norms
from hebbcore.engine.finite import LARGEST
from hebbcore.engine.rule import Rule
from hebbcore.rules.p_norm import check_exponent, near_one, signed_power


@dataclass(frozen=True)
class Krotov(Rule):
    """Competing hidden units: the winner learns a patch, the rank-th unlearns it.

    ΔW = (Gᵀ X − Σ(G∘u)·W) / max(max|·|, 1e-30), u = X (sign(W)|W|^(p−1))ᵀ; G is 1 at a row's largest u, −strength at
    its rank-th largest, else 0. Equal u rank by index, the lowest first. Weights start as N(0, 1). Output u.

    Parameters
    ----------
    p : float
        2 to 200; the p of the paper. Above about 60 only with precision="float64", since weights are taken to the power
        of p − 1.
    rank : int
        At least 2, at most the number of units. A single unit has no rival, so nothing is unlearned.
    strength : float
        0 to 1e12; δ of the paper. At 0 nothing is unlearned, whatever the rank.

    Notes
    -----
    Gate: `hebbcore.engine.competition.ranked_gate`, which runs the kernel `ranked` of `hebbcore.engine.kernels`.
    Oracle: tests/oracles/rules/krotov.py.

    References
    ----------
    Krotov & Hopfield (PNAS 2019): τ dw/dt = g(Q) (R^p v − ⟨W, v⟩ W), here as in the authors' program, by batches.
    """

    competes: ClassVar[bool] = True

    p: float = 2
    rank: int = 2
    strength: float = 0.4

    def __post_init__(self) -> None:
        super().__post_init__()
        check_exponent("Krotov", self.p)
        checks.integer("Krotov", "rank", self.rank, 2)
        checks.real("Krotov", "strength", self.strength, 0, LARGEST)

    def gate(self, scores: Array, norms: Norms | None) -> Gate:
        return competition.ranked_gate(scores, self.rank, self.strength)

    def lengths(self, weights: Array) -> Array:
        return row_norms(weights, self.p)

    def from_patches(self, patches: Array, lengths: Any) -> Array:
        return super().from_patches(near_one(patches, self.p), lengths)

    def projection(self, weights: Array) -> Array:
        return signed_power(weights, self.p)

    def scale(self, delta: Array, rows: int, mass: Array | None) -> Any:
        return 1 / namespace(delta).maximum(kernels.for_array(delta).largest_magnitude(delta), 1e-30)

    def initial_weights(self, generator: np.random.Generator, units: int, size: int) -> np.ndarray[Any, Any]:
        return generator.normal(0, 1, (units, size))

    def expected_winners(self) -> int:
        return 2

    def check_units(self, function: str, units: int) -> None:
        if self.rank > units > 1:
            problem = f"must be at most the number of units ({units}), got {self.rank}."
            raise checks.wrong(ValueError, function, "Krotov's rank", problem)
