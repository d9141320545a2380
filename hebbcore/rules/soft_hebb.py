"""SoftHebb."""

from dataclasses import dataclass

from hebbcore import checks
from hebbcore.engine import competition
from hebbcore.engine.backend import Array
from hebbcore.engine.competition import Gate, Norms
from hebbcore.rules.norm_seeking import NormSeekingRule


@dataclass(frozen=True)
class SoftHebb(NormSeekingRule):
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

    def gate(self, scores: Array, norms: Norms | None) -> Gate:
        return competition.soft_hebb_gate(scores, self.temperature, self.anti_hebbian)
