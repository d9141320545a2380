"""Winner-take-all among directions of both signs."""

from dataclasses import dataclass, field
from typing import Any, ClassVar

from hebbcore import checks
from hebbcore.engine import competition
from hebbcore.engine.answers import own_methods
from hebbcore.engine.backend import Array
from hebbcore.engine.competition import Gate, Norms
from hebbcore.rules.cosine import CosineRule


@dataclass(frozen=True)
class SignedWTA(CosineRule):
    """Winner-take-all among directions: the unit most similar to a patch or to its negative learns by Oja's rule.

    Δw_i = Σ y (x − y w_i) / Σ y² over the patches that unit i won by the largest |y|, y = x·w / ‖w‖; 0 for a unit
    that won none. Of equal |y| the lowest index wins. Norms tend to 1; those of 0 count as 1. The output is y with its
    sign, which Split makes features from.

    With k > 1 units win a patch one after the other (matching pursuit), and units learn sparse codes: r₁ = x, and
    r_(j+1) = r_j − y_j w / ‖w‖ for the winner of turn j, whose y_j = r_j·w / ‖w‖ is the largest |y|. Each learns from
    what is left when it wins: Δw_i = Σ y_j (r_j − y_j w_i) / Σ y_j² over the turns that unit i won. The output stays
    y = x·w / ‖w‖ of the whole patch.

    Parameters
    ----------
    k : int
        Winners a patch, at least 1; a unit may win a patch again, so that k may exceed the number of units.

    Notes
    -----
    Gate: `hebbcore.engine.competition.signed_gate`, which runs the kernel `signed_wta` of `hebbcore.engine.kernels`;
    with a conscience `biased_signed_gate`, which runs `biased_signed_wta`; with k > 1 hebbcore.engine.pursuit, which
    runs the kernel of that name. From the second turn on, a y below 1/1024 of the first winner's counts as 0: it is
    rounding, which a unit that won nothing else would learn at full size. Oracle: tests/oracles/rules/signedwta.py.

    References
    ----------
    Oja (1982), Δw = y (x − y w), for the winner alone. At rate 1 and unit norms it is the least-squares step of
    gain-shape vector quantisation (Coates & Ng 2012, "Learning feature representations with k-means").
    k > 1: Mallat & Zhang (IEEE Transactions on Signal Processing 1993), matching pursuit; Sanger (1989), learning from
    residuals, there in a fixed order of units. Coates & Ng (ICML 2011) learn dictionaries by orthogonal matching
    pursuit, which fits the values of all winners anew in each turn; here those of before stay.
    """

    k: int = field(default=1, metadata={"later": True})

    signed: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.integer("SignedWTA", "k", self.k, 1)

    def gate(self, scores: Array, norms: Norms | None) -> Gate:
        assert norms is not None
        return competition.signed_gate(scores, norms.units)

    @property
    def takes_bias(self) -> bool:
        """Whether the rule has a competition with a bias: this one does not call a gate of a class derived from it."""
        return not own_methods(self, "gate") or bool(own_methods(self, "biased_gate"))

    def biased_gate(self, scores: Array, norms: Norms, bias: Array) -> Gate:
        return competition.biased_signed_gate(scores, norms, bias)

    def from_patches(self, patches: Array, lengths: Any) -> Array:
        """Return the patches' directions: the length to which norms tend is 1."""
        return patches / self.lengths(patches)

    def activate(self, scores: Array, unit_norms: Array | None) -> Array:
        return self.response(scores, unit_norms)

    def expected_winners(self) -> int:
        return self.k

    def winners_in_turn(self) -> int:
        return self.k
