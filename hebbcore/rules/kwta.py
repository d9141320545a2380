"""k-winners-take-all on cosine similarities."""

from dataclasses import dataclass

from hebbcore import checks
from hebbcore.engine import competition
from hebbcore.engine.backend import Array
from hebbcore.engine.competition import Gate, Norms
from hebbcore.engine.teaching import Teacher, taught_kwta_gate
from hebbcore.rules.cosine import CosineRule


@dataclass(frozen=True)
class KWTA(CosineRule):
    """k-winners-take-all: the k units most similar to a patch move towards it.

    Δw_i = mean of the patches that unit i won − w_i, 0 for a unit that won none. All that tie with the k-th win.
    Norms of 0 count as 1; output relu(x·w / ‖w‖).

    Parameters
    ----------
    k : int
        Winners a patch, 1 … units.

    Notes
    -----
    With a teacher the k most similar of the units that may learn win; all of them, if they are fewer.

    Gate: `hebbcore.engine.competition.kwta_gate`, which runs the kernel `kwta` of `hebbcore.engine.kernels`, for
    one winner `cosine_wta`; with a teacher `hebbcore.engine.teaching.taught_kwta_gate`. Oracle:
    tests/oracles/rules/kwta.py.

    References
    ----------
    FastHebb (Lagani et al. 2022), k-WTA: the step of soft-WTA with z one for each winner, else 0.
    """

    k: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.integer("KWTA", "k", self.k, 1)

    def gate(self, scores: Array, norms: Norms | None) -> Gate:
        assert norms is not None
        return competition.kwta_gate(scores, norms.units, self.k)

    def taught_gate(self, scores: Array, norms: Norms | None, teacher: Teacher) -> Gate:
        assert norms is not None
        return taught_kwta_gate(scores, norms.units, self.k, teacher)

    def expected_winners(self) -> int:
        return self.k

    def winners_at_once(self) -> int:
        return self.k

    def check_units(self, function: str, units: int) -> None:
        competition.check_k(function, self.k, units)
