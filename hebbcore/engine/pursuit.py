"""Units that win a patch one after the other: each sees, and learns from, what those before left of it.

ΔW then needs no scores of what is left: the overlaps of the units, W Wᵀ, tell how they change. A winner costs K
multiplications a patch, in place of the K · D of a matrix product.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from hebbcore.engine import backend, kernels
from hebbcore.engine.backend import Array
from hebbcore.engine.competition import cells, column_sums, vector_norms
from hebbcore.engine.gemm import Gemm
from hebbcore.engine.memory import Memory
from hebbcore.engine.rule import Rule

_INDEX = np.dtype(np.int64)


class Won(NamedTuple):
    """The winners of N patches in turns: units and their y (turns, N), and Σ y² of each unit (K,)."""

    units: Array
    values: Array
    squares: Array


@dataclass(frozen=True)
class Pursuit:
    """Matching pursuit with the units of a step.

    turns: winners a patch. weights (K, D), their norms (K,) and overlaps (K, K), the cosines of units. bias (K,): of a
    conscience, in units of a cosine, the smallest 0.
    """

    turns: int
    weights: Array
    norms: Array
    overlaps: Array
    bias: Array

    @classmethod
    def of(cls, rule: Rule, weights: Array, bias: Array | None, product: Gemm, memory: Memory) -> "Pursuit | None":
        """Return the pursuit of a rule; None if nobody wins in turn. memory: holds the overlaps."""
        turns, xp, units = rule.winners_in_turn(), backend.namespace(weights), len(weights)
        if turns == 1:
            return None
        norms, operand = vector_norms(weights), product.operand(weights)
        overlaps = memory.grown("overlaps", (units, units), weights.dtype, backend.device_of(weights))
        product.multiply(operand, operand.T, overlaps)
        overlaps /= norms
        overlaps /= norms[:, None]
        bias = xp.zeros(units, weights.dtype) if bias is None else bias - bias.min()
        return cls(turns, weights, norms, overlaps, bias)

    def won(self, y: Array, norms: Array, memory: Memory) -> Won:
        """Return who wins patches of these norms (n,) and y = x·w / ‖w‖ (n, K), which is overwritten."""
        shape = (self.turns, len(y))
        units, values = memory.part("winners", shape, _INDEX), memory.part("values", shape, y.dtype)
        decay = cells(y)
        kernels.for_array(y).pursuit(y, norms, self.overlaps, self.bias, units, values, decay)
        return Won(units, values, column_sums(decay))

    def deflate(self, patches: Array, units: Array, values: Array) -> None:
        """Take off the patches (n, D), in place, what the winners of a turn explain."""
        kernels.for_array(patches).deflate(patches, units, values / self.norms[units], self.weights)


def one_hot(out: Array, units: Array, values: Array) -> Array:
    """out (n, K) ← values (n,) at some units (n,), one a row, and 0 elsewhere; return it."""
    out[...] = 0
    out[backend.namespace(out).arange(len(out)), units] = values
    return out


def winner_bytes(rule: Rule, itemsize: int) -> int:
    """Return the bytes of a patch's winners, in turn or of its only one; 0 if they are not known one by one."""
    turns = rule.winners_in_turn()
    return turns * (_INDEX.itemsize + itemsize) if turns > 1 or rule.expected_winners() == 1 else 0


def winner_parts(rule: Rule, rows: int, itemsize: int) -> dict[str, int]:
    """Return the bytes of the parts of a memory in which Pursuit.won puts the winners of so many patches."""
    turns = rule.winners_in_turn()
    return {"winners": turns * rows * _INDEX.itemsize, "values": turns * rows * itemsize} if turns > 1 else {}
