"""Hebbian independent component analysis."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from hebbcore import checks
from hebbcore.engine import kernels
from hebbcore.engine.backend import Array, namespace
from hebbcore.engine.competition import Gate, Norms, Pair
from hebbcore.engine.moments import Moments
from hebbcore.engine.rule import Rule
from hebbcore.engine.teaching import Teacher
from hebbcore.rules.adaptive import adaptive_tanh, initial_statistics, next_statistics


@dataclass(frozen=True)
class ICA(Rule):
    """Hebbian ICA: the outputs of units become independent of each other.

    Δw_i = w_i − p_i,  p_i = (1/N) Σₙ y_ni Σ_k s_nk w_k,  s = W x, y = tanh(s); output y.

    Parameters
    ----------
    hierarchical : bool
        Unit i sees units 1…i alone: Σ_{k≤i} (the paper's HICA).
    normalized : bool
        Δw_i = (p_i·w_i) w_i − p_i, without the part of −p_i that lies along a w_i of norm 1; y is an adaptive tanh,
        σ tanh((s − μ) / σ + μ) with μ and σ² the running mean and variance of the unit's scores, which are the rule's
        state: 0 and 1 at first, moved to those of each batch by a tenth before it learns.

    Notes
    -----
    With a teacher T, y and s are T∘y and T∘s, and the first w_i of Δw_i is (Σₙ T_ni / N) w_i.

    Norms follow the scale of the patches, as those of Σₙ y s = N do; a normalized unit of a norm below 1 shrinks and
    one above 1 grows without end. A batch of one patch leaves the statistics as they are.

    The gate is a pair, Yᵀ S, without Gᵀ X: no kernel, but the matrix products of `hebbcore.engine.decay`; for
    `normalized` also the row program `tangent`. Oracle: tests/oracles/rules/ica.py.

    References
    ----------
    FastHebb (Lagani et al. 2022), ICA and HICA and their normalised variants, as published: the gate y_ni stands before
    the sum over units, and nothing is divided by √D, as a later version of its program does.
    """

    signed: ClassVar[bool] = True
    free_norms: ClassVar[bool] = True
    pairs: ClassVar[bool] = True

    hierarchical: bool = False
    normalized: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.boolean("ICA", "hierarchical", self.hierarchical)
        checks.boolean("ICA", "normalized", self.normalized)

    @property
    def whole_pairs(self) -> bool:
        return not self.hierarchical

    def initial_state(self) -> dict[str, float]:
        return initial_statistics() if self.normalized else {}

    def next_state(self, state: Mapping[str, Array], scores: Moments) -> dict[str, Array]:
        return next_statistics(state, scores)

    def gate(self, scores: Array, norms: Norms | None) -> Gate:
        outputs = self.activate(scores.copy(), None)
        rows = namespace(scores).full(scores.shape[1], len(scores), scores.dtype)
        return self._gate(outputs, scores, rows)

    def taught_gate(self, scores: Array, norms: Norms | None, teacher: Teacher) -> Gate:
        outputs = self.activate(scores.copy(), None)
        teacher.mask(outputs)
        teacher.mask(scores)
        return self._gate(outputs, scores, teacher.totals(scores))

    def _gate(self, outputs: Array, scores: Array, rows: Array) -> Gate:
        """Return the gate; rows (K,): from how many patches each unit learns."""
        return Gate(None, None if self.normalized else -rows, pair=Pair(outputs, scores, self.hierarchical))

    def adjust(self, delta: Array, weights: Array) -> None:
        """Take off what lies along the weights, as if they had norm 1, if `normalized`."""
        if self.normalized:
            kernels.for_array(delta).tangent(delta, weights)

    def activate(self, scores: Array, unit_norms: Array | None) -> Array:
        if self.normalized:
            return adaptive_tanh(scores, self.state)
        return namespace(scores).tanh(scores, out=scores)
