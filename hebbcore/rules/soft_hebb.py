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
    Rate of unit i: learning_rate · (|‖w_i‖_p − 1| + 1e-10)^adaptive_power.

    Parameters
    ----------
    temperature : float
        Above 0, in units of u; 1/t of the authors' program.
    p : float
        2 to 200; the norm that tends to 1. Above about 25 only with precision="float64": the first weights, whose norm
        is 25, are taken to the power of p − 1.
    anti_hebbian : bool
        Whether the losers learn the opposite.
    adaptive_power : float or None
        Power of a unit's distance from norm 1 in its rate, above 0, at most 200; None: the rate is constant. The first
        weights, whose norm is 25, learn 24 to this power times as fast: large ones need a tiny learning rate.

    Notes
    -----
    Entries of G below 2⁻⁸⁰ of the row's largest count as 0: in float32 many would be too small to be normal numbers,
    with which CPUs compute up to a hundred times more slowly.

    Gate: `hebbcore.engine.competition.soft_hebb_gate`, which runs the kernel `soft_hebb` of `hebbcore.engine.kernels`.
    Oracle: tests/oracles/rules/softhebb.py.

    References
    ----------
    SoftHebb (Journé et al., ICLR 2023): Δw_ik = η · y_k · (x_i − u_k · w_ik), y the softmax of u, summed over a batch.
    """

    temperature: float = 1.0
    p: float = 2
    anti_hebbian: bool = True
    adaptive_power: float | None = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.positive("SoftHebb", "temperature", self.temperature)
        checks.boolean("SoftHebb", "anti_hebbian", self.anti_hebbian)

    def gate(self, scores: Array, norms: Norms | None) -> Gate:
        return competition.soft_hebb_gate(scores, self.temperature, self.anti_hebbian)
