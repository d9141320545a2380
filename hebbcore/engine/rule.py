"""What a learning rule is: a frozen dataclass of its parameters that answers scores with a gate."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from hebbcore.engine.backend import Array, row_norms
from hebbcore.engine.competition import Gate, Norms


@dataclass(frozen=True)
class Rule:
    """Base of the learning rules. A batch of N patches X (N, D) changes the weights W (K, D) by

        ΔW = scale ∘ (Gᵀ X − C·W),    W ← W + rate ∘ ΔW

    A subclass says what G and C are (`gate`), and may change the other parts. It sees neither convolutions, chunks nor
    devices: arrays are NumPy or CuPy (`hebbcore.namespace(scores)`), and one batch can reach `gate` in several pieces,
    from several threads at once.
    """

    signed: ClassVar[bool] = False  # True: units win by |output|
    unit_norms: ClassVar[bool] = False  # True: learning holds the norms of weights at 1 or below
    # True: gate gets Norms, response and activate the units' norms; else they get None
    needs_norms: ClassVar[bool] = False
    # True: units compete for patches, so that patches are a start for them, one can win nothing, and a bias can help it
    competes: ClassVar[bool] = False

    def gate(self, scores: Array, norms: Norms | None) -> Gate:
        """Return G and the sums over rows for these scores (n, K); may overwrite scores."""
        raise NotImplementedError(f"{type(self).__name__} must define gate(scores, norms).")

    def biased_gate(self, scores: Array, norms: Norms, bias: Array) -> Gate:
        """Return the gate of a competition with a bias (K,), in units of a cosine; may overwrite scores.

        Unit i competes as if the cosine of its weights and the patch were larger by bias_i; what it learns if it wins
        stays the same.
        """
        raise NotImplementedError(f"{type(self).__name__} has no competition with a bias: it must define biased_gate.")

    @property
    def takes_bias(self) -> bool:
        """True if the rule has a competition with a bias. SoftHebb's, hard WTA's and Krotov's have none.

        Their units give way by themselves: those that win shrink, and those that shall shrink must win.
        """
        return type(self).biased_gate is not Rule.biased_gate

    def projection(self, weights: Array) -> Array:
        """Return the matrix V (K, D) of the scores X Vᵀ: the weights, unless the rule says otherwise."""
        return weights

    def scale(self, delta: Array, rows: int, mass: Array | None) -> Any:
        """Return what Gᵀ X − C·W (`delta`, K × D) is multiplied by: a number or (K, 1). Default 1 / N."""
        return 1 / rows

    def rate(self, weights: Array, learning_rate: float) -> Any:
        """Return the learning rate: a number or (K, 1) from the weights before the step. Default constant."""
        return learning_rate

    def stable_rate(self, eigenvalue: float) -> float | None:
        """Return the largest learning rate at which the rule is stable, None if the data do not tell. Default None.

        eigenvalue: the largest of XᵀX / N, above 0. learning_rate="auto" takes half of the rate.
        """
        return None

    def response(self, scores: Array, unit_norms: Array | None) -> Array:
        """Return the output of a linear layer for these scores (n, K); may overwrite scores. Default the scores."""
        return scores

    def activate(self, scores: Array, unit_norms: Array | None) -> Array:
        """Return the layer's output for these scores (n, K); may overwrite scores. Default the response."""
        return self.response(scores, unit_norms)

    def initial_weights(self, generator: np.random.Generator, units: int, size: int) -> np.ndarray[Any, Any]:
        """Return (units, size) float64 weights to start from. Default U(−1/√size, 1/√size)."""
        bound = 1 / np.sqrt(size)
        return generator.uniform(-bound, bound, (units, size))

    def lengths(self, weights: Array) -> Array:
        """Return the length of each unit's weights (K, 1) as the rule measures it. Default Euclidean."""
        return row_norms(weights)

    def from_patches(self, patches: Array, lengths: Any) -> Array:
        """Return weights (units, size) that start from these patches, none of them 0.

        lengths: (units, 1) or a number, of the weights that they replace. Default: the patches, made so long.
        """
        return patches * (lengths / self.lengths(patches))

    def expected_winners(self) -> int | None:
        """Return about how many entries of a row of G are not 0; None if most are not."""
        return None

    def check_units(self, function: str, units: int) -> None:
        """Raise ValueError if the rule cannot work with so many units."""
