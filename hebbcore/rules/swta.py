"""Soft winner-take-all on cosine similarities."""

from dataclasses import dataclass

from hebbcore import checks
from hebbcore.engine import competition
from hebbcore.engine.backend import Array
from hebbcore.engine.competition import Gate, Norms
from hebbcore.engine.finite import LARGEST
from hebbcore.engine.teaching import Teacher, taught_swta_gate
from hebbcore.rules.cosine import CosineRule

COMPETITIONS = ("exp", "power")


@dataclass(frozen=True)
class SWTA(CosineRule):
    """Soft winner-take-all: every unit moves towards the patches it is the most similar to.

    ΔW = (Gᵀ X − ΣG·W) / ΣZ, G = Z², Y = ((cos(x, w) + 1) / 2)²; competition "exp": Z = softmax(Y / temperature),
    "power": Z = Y^(1/temperature) / Σ. Norms of 0 count as 1; output relu(x·w / ‖w‖).

    Parameters
    ----------
    temperature : float
        Above 0 ("power": 1e-12 or more), in units of Y, which lies in 0…1. The paper's: 0.02 for exp, 0.05 for power.
    competition : {"exp", "power"}
        How similarities become shares.

    Notes
    -----
    Z is squared because both the step and the mean of the patches carry it. The row's maximum is subtracted before exp,
    which the paper's program omits: float32 overflows at low temperatures without it. Shares below 2⁻⁸⁰ of the row's
    largest count as 0, and so do squares of Z below 2⁻⁵⁵.

    With a conscience Y is of the cosine plus the unit's bias, at least −1: the lower that is, the smaller the share.

    With a teacher T the shares are of the units that may learn: Z = T∘e / Σ(T∘e).

    Gate: `hebbcore.engine.competition.swta_gate`, which runs the kernel `swta` of `hebbcore.engine.kernels`; with a
    teacher `hebbcore.engine.teaching.taught_swta_gate`, which runs `taught_similarities` and `taught_swta`.
    Oracle: tests/oracles/rules/swta.py.

    References
    ----------
    FastHebb (Lagani et al. 2022), soft-WTA: Δw_i = Σₙ (z_ni / Σₘ z_mi) z_ni (x_n − w_i).
    """

    temperature: float = 0.02
    competition: str = "exp"

    def __post_init__(self) -> None:
        super().__post_init__()
        temperature = checks.positive("SWTA", "temperature", self.temperature)
        checks.choice("SWTA", "competition", self.competition, COMPETITIONS)
        if self.competition == "power":
            checks.real("SWTA", "temperature", temperature, 1 / LARGEST)  # whose inverse float32 holds

    def gate(self, scores: Array, norms: Norms | None) -> Gate:
        assert norms is not None
        return competition.swta_gate(scores, norms, self.temperature, self.competition == "power")

    def taught_gate(self, scores: Array, norms: Norms | None, teacher: Teacher) -> Gate:
        assert norms is not None
        return taught_swta_gate(scores, norms, self.temperature, self.competition == "power", teacher)
