"""The hard winner-take-all of SoftHebb's program."""

from dataclasses import dataclass

from hebbcore.engine import competition
from hebbcore.engine.backend import Array
from hebbcore.engine.competition import Gate, Norms
from hebbcore.rules.norm_seeking import NormSeekingRule


@dataclass(frozen=True)
class HardWTA(NormSeekingRule):
    """Hard winner-take-all of SoftHebb's program: only the unit of the largest u learns.

    ΔW = (Gᵀ X − Σ(G∘u)·W) / max|·|, as SoftHebb with G one-hot at the row's largest u; of equal u the lowest index
    wins. Output u.

    Parameters
    ----------
    p : float
        2 to 200; the norm that tends to 1. Above about 25 only with precision="float64": the first weights, whose norm
        is 25, are taken to the power of p − 1.
    adaptive_power : float or None
        As SoftHebb's.

    Notes
    -----
    Gate: `hebbcore.engine.competition.hard_gate`, which runs the kernel `hard_wta` of `hebbcore.engine.kernels`.
    Oracle: tests/oracles/rules/hardwta.py.

    References
    ----------
    SoftHebb (Journé et al., ICLR 2023), hard-WTA: Δw_ik = η · y_k · (x_i − u_k · w_ik), y one-hot; its adaptive rate
    applies.
    """

    p: float = 2
    adaptive_power: float | None = 0.5

    def gate(self, scores: Array, norms: Norms | None) -> Gate:
        return competition.hard_gate(scores)

    def expected_winners(self) -> int:
        return 1
