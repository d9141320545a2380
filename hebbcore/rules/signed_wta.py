"""Winner-take-all among directions of both signs."""

from dataclasses import dataclass
from typing import Any, ClassVar

from hebbcore.engine import competition
from hebbcore.engine.backend import Array
from hebbcore.engine.competition import Gate, Norms
from hebbcore.rules.cosine import CosineRule


@dataclass(frozen=True)
class SignedWTA(CosineRule):
    """Winner-take-all among directions: the unit most similar to a patch or to its negative learns by Oja's rule.

    Δw_i = Σ y (x − y w_i) / Σ y² over the patches that unit i won by the largest |y|, y = x·w / ‖w‖; 0 for a unit
    that won none. Of equal |y| the lowest index wins. Norms tend to 1; those of 0 count as 1. Output y, with its sign,
    of which Split makes features.
    Source: Oja's rule (1982) for the winner alone. At rate 1 and unit norms the least-squares step of gain-shape
    vector quantisation (Coates & Ng 2012, "Learning feature representations with k-means").
    """

    signed: ClassVar[bool] = True

    def gate(self, scores: Array, norms: Norms | None) -> Gate:
        assert norms is not None
        return competition.signed_gate(scores, norms.units)

    def biased_gate(self, scores: Array, norms: Norms, bias: Array) -> Gate:
        return competition.biased_signed_gate(scores, norms, bias)

    def from_patches(self, patches: Array, lengths: Any) -> Array:
        """Return the patches' directions: the length to which norms tend is 1."""
        return patches / self.lengths(patches)

    def activate(self, scores: Array, unit_norms: Array | None) -> Array:
        return self.response(scores, unit_norms)

    def expected_winners(self) -> int:
        return 1
