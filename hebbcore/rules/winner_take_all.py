"""Winner-take-all rules on cosine similarities: soft, hard, and of both signs."""

from dataclasses import dataclass
from typing import Any, ClassVar

from hebbcore import checks
from hebbcore.engine import competition
from hebbcore.engine.backend import Array, namespace
from hebbcore.engine.competition import Gate, Norms
from hebbcore.engine.rule import Rule

COMPETITIONS = ("exp", "power")


class _CosineRule(Rule):
    """Rules whose units compete with the cosine between patch and weights; output relu(x·w / ‖w‖)."""

    needs_norms: ClassVar[bool] = True
    competes: ClassVar[bool] = True

    def biased_gate(self, scores: Array, norms: Norms, bias: Array) -> Gate:
        return self.gate(competition.biased(scores, norms.patches, bias * norms.units), norms)

    def from_patches(self, patches: Array, lengths: Any) -> Array:
        """Return the patches: what units move towards."""
        return patches

    def scale(self, delta: Array, rows: int, mass: Array | None) -> Any:
        """Return 1 / mass, and 0 for units without a share, or one too small to divide by: they do not change."""
        assert mass is not None
        xp = namespace(mass)
        shares = mass >= xp.finfo(mass.dtype).tiny
        return xp.where(shares, 1 / xp.where(shares, mass, 1), 0)[:, None]

    def response(self, scores: Array, unit_norms: Array | None) -> Array:
        scores /= unit_norms
        return scores

    def activate(self, scores: Array, unit_norms: Array | None) -> Array:
        return namespace(scores).maximum(self.response(scores, unit_norms), 0, out=scores)


@dataclass(frozen=True)
class SWTA(_CosineRule):
    """Soft winner-take-all: every unit moves towards the patches it is the most similar to.

    ΔW = (Gᵀ X − ΣG·W) / ΣZ, G = Z², Y = ((cos(x, w) + 1) / 2)²; competition "exp": Z = softmax(Y / temperature),
    "power": Z = Y^(1/temperature) / Σ. Norms of 0 count as 1; output relu(x·w / ‖w‖).

    temperature: > 0, in units of Y, which lies in 0…1. The paper's: 0.02 for exp, 0.05 for power.
    Source: FastHebb (Lagani et al. 2022). Z is squared because both the step and the mean of the patches carry it.
    Deviation: the row's maximum is subtracted before exp, without which float32 overflows at low temperatures.
    """

    temperature: float = 0.02
    competition: str = "exp"

    def __post_init__(self) -> None:
        checks.positive("SWTA", "temperature", self.temperature)
        checks.choice("SWTA", "competition", self.competition, COMPETITIONS)

    def gate(self, scores: Array, norms: Norms | None) -> Gate:
        assert norms is not None
        return competition.swta_gate(scores, norms, self.temperature, self.competition == "power")


@dataclass(frozen=True)
class KWTA(_CosineRule):
    """k-winners-take-all: the k units most similar to a patch move towards it.

    Δw_i = mean of the patches that unit i won − w_i, 0 for a unit that won none. All that tie with the k-th win.
    Norms of 0 count as 1; output relu(x·w / ‖w‖).

    k: winners a patch, 1 … units.
    Source: FastHebb (Lagani et al. 2022).
    """

    k: int = 1

    def __post_init__(self) -> None:
        checks.integer("KWTA", "k", self.k, 1)

    def gate(self, scores: Array, norms: Norms | None) -> Gate:
        assert norms is not None
        return competition.kwta_gate(scores, norms.units, self.k)

    def expected_winners(self) -> int:
        return self.k

    def check_units(self, function: str, units: int) -> None:
        competition.check_k(function, self.k, units)


@dataclass(frozen=True)
class SignedWTA(_CosineRule):
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
