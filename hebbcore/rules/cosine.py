"""What the rules share whose units compete by cosines."""

from typing import Any, ClassVar

import numpy as np

from hebbcore.engine import competition, kernels
from hebbcore.engine.backend import Array
from hebbcore.engine.competition import Gate, Norms
from hebbcore.engine.rule import Rule


def one_over(rule: Rule, mass: Array | None) -> Array:
    """Return 1 / mass (K, 1), and 0 where the mass is too small to divide by. Raises ValueError for a gate without."""
    if mass is None:
        raise ValueError(f"{type(rule).__name__}.gate must return a mass, which its scale divides by.")
    shares = mass[None].copy()
    kernels.for_array(mass).reciprocals(shares, np.finfo(mass.dtype).tiny)
    return shares.reshape(-1, 1)


class CosineRule(Rule):
    """Base of the rules whose units compete with the cosine between patch and weights; output relu(x·w / ‖w‖)."""

    needs_norms: ClassVar[bool] = True
    competes: ClassVar[bool] = True

    def biased_gate(self, scores: Array, norms: Norms, bias: Array) -> Gate:
        return self.gate(competition.biased(scores, norms.patches, bias * norms.units), norms)

    def from_patches(self, patches: Array, lengths: Any) -> Array:
        """Return the patches: what units move towards."""
        return patches

    def scale(self, delta: Array, rows: int, mass: Array | None) -> Any:
        """Return 1 / mass, and 0 for units without a share, or one too small to divide by: they do not change."""
        return one_over(self, mass)

    def response(self, scores: Array, unit_norms: Array | None) -> Array:
        scores /= unit_norms
        return scores

    def activate(self, scores: Array, unit_norms: Array | None) -> Array:
        if type(self).response is not CosineRule.response:  # a rule derived from this one has its own
            return competition.relu(self.response(scores, unit_norms))
        kernels.for_array(scores).relu_over(scores, unit_norms)
        return scores
