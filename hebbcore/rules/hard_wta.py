"""The hard winner-take-all of SoftHebb's program."""

from dataclasses import dataclass

from hebbcore.engine import competition
from hebbcore.engine.backend import Array
from hebbcore.engine.competition import Gate, Norms
from hebbcore.rules.norm_seeking import NormSeekingRule


@dataclass(frozen=True)
class HardWTA(NormSeekingRule):
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
