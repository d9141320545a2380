"""Soft winner-take-all on cosine similarities."""

from dataclasses import dataclass

from hebbcore import checks
from hebbcore.engine import competition
from hebbcore.engine.backend import Array
from hebbcore.engine.competition import Gate, Norms
from hebbcore.rules.cosine import CosineRule

COMPETITIONS = ("exp", "power")


@dataclass(frozen=True)
class SWTA(CosineRule):
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
