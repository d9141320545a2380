"""The sums over the rows of a batch that its update is made of, each thread's over its share."""

import math
from dataclasses import dataclass
from functools import partial

import numpy as np

from hebbcore.engine import gemm, kernels, parallel, tuning
from hebbcore.engine.answers import gate_of, must_be_finite, unknown_winners
from hebbcore.engine.backend import Array
from hebbcore.engine.chunks import Piece, Share
from hebbcore.engine.competition import Gate, Norms, Pair, vector_norms
from hebbcore.engine.decay import add_blocked, add_blocked_by_one, gates_and_decays, subtract_whole
from hebbcore.engine.moments import Moments
from hebbcore.engine.output import Target
from hebbcore.engine.patches import Chunk, Geometry
from hebbcore.engine.pursuit import Pursuit, one_hot, winner_parts
from hebbcore.engine.rule import Rule
from hebbcore.engine.scored import Scored
from hebbcore.engine.teaching import Teacher


@dataclass
class Sums:
    """What rows add up to: outer Gᵀ X (K, D), decay (K,) or gram (K, K), mass (K,). None: not needed.

    gram: Gᵀ G, or the product of pairs; lower: only its lower triangle counts.
    """

    outer: Array
    decay: Array | None = None
    gram: Array | None = None
    mass: Array | None = None
    lower: bool = True

    def add(self, decay: Array | None, gram: Array | None, mass: Array | None) -> None:
        """Add all but outer."""
        for name, more in (("decay", decay), ("gram", gram), ("mass", mass)):
            if more is not None and getattr(self, name) is None:
                setattr(self, name, more.copy())
            elif more is not None:
                mine = getattr(self, name)
                mine += more


def scatter_is_cheaper(winners: int, units: int, size: int, looked_at: int) -> bool:
    """Return True if adding up patches by winner takes less time on the CPU than the GEMM Gᵀ X.

    For a row: entries of G that are looked at, and numbers of the winners' patches to add, against the GEMM's
    multiplications.
    """
    t = tuning.MEASURED
    return t.entry_ns * looked_at + t.scatter_ns * winners * size < t.product_ns * units * size


def add_by_winner(rule: Rule, gate: Gate, patches: Array, outer: Array) -> None:
    """outer (K, D) ← outer + Gᵀ X on the CPU, for a gate with values: patches are added up by who won them.

    Raises ValueError for a winner that is no unit.
    """
    who = np.full(len(patches), -1) if gate.winners is None else gate.winners
    if not kernels.for_array(patches).scatter(gate.values, who, patches, outer):
        raise unknown_winners(rule, who, len(outer))


@dataclass(frozen=True)
class Step:
    """What the threads of an update share.

    blocked: take a Gram decay off on the way, in blocks of units. first: no batch of this shape was before. pursuit: of
    units that win in turn, in place of gate.
    """

    rule: Rule
    images: Array
    weights: Array
    projection: Array
    unit_norms: Array | None
    blocked: bool
    first: bool
    pursuit: Pursuit | None
    targets: tuple[Target, ...]
    bias: Array | None
    teacher: Array | None

    def gate(self, scores: Array, patches: Array, chunk: Chunk, g: Geometry) -> Gate:
        """Return the rule's gate for the scores of a chunk's patches."""
        norms = None if self.unit_norms is None else Norms(patches, self.unit_norms)
        finite = self.first and must_be_finite(self.rule, scores)
        if self.teacher is not None:
            masks = self.teacher[chunk.first : chunk.last]
            gate = self.rule.taught_gate(scores, norms, Teacher(masks, chunk.top * g.output[1], g.positions))
        elif norms is None or self.bias is None:
            gate = self.rule.gate(scores, norms)
        else:
            gate = self.rule.biased_gate(scores, norms, self.bias)
        return gate_of(self.rule, gate, scores, self.first, finite)


class ThreadSums:
    """One thread's share of an update. outer (K, D): where it adds up Gᵀ X; None: in its memory."""

    def __init__(self, share: Share, step: Step, outer: Array | None) -> None:
        self.share, self.step, self.outer = share, step, outer
        self.gemm, self.memory, self.plan = share.gemm, share.memory, share.plan
        self._scored: Scored | None = None

    def moments(self) -> Moments:
        """Return the moments of the scores of this share."""
        return self._scores().moments()

    def run(self) -> Sums:
        """Return the sums over the chunks."""
        images, scored = self.step.images, self._scores()
        step, normalized = self.step, self.plan.geometry.normalized
        assert self.outer is not None
        sums = Sums(self.outer)
        for i, (piece, operand, scores) in enumerate(scored):
            patches = piece.patches
            for target in step.targets:
                target.put(scores, patches, piece.rows)
            if normalized:  # after the output, which is of the patches as they are
                kernels.for_array(patches).directions(patches, scores)
                operand = self.gemm.operand(patches)
            if step.pursuit is not None:
                residual = patches if normalized else self.share.owned(images, piece)
                self._add_in_turn(step.pursuit, sums, scores, residual, add=i > 0)
                continue
            gate = step.gate(scores, patches, piece.chunk, self.plan.geometry)
            if gate.pair is None and gate.decay is None and step.blocked:
                is_own = normalized or self.plan.block  # the CPU copies them
                residual = patches if is_own else self.share.owned(images, piece)
                self._add_blocked(sums, gate.values, gate.values, residual, add=i > 0)
            else:
                self._add_outer(sums, gate, patches, operand, add=i > 0)
            if gate.pair is not None:
                self._add_pair(sums, gate.pair, piece)
            sums.add(gate.decay, None, gate.mass)
            del gate  # its pair, before the next one is made
        return sums

    def _scores(self) -> Scored:
        """Return the scores, for which memory is set aside the first time."""
        if self._scored is None:
            self.outer = self._lay_out()
            self._scored = Scored(self.share, self.step.images, self.step.projection)
        return self._scored

    def _lay_out(self) -> Array:
        """Set memory aside for the chunks; return where Gᵀ X is added up."""
        shape, item = self.step.weights.shape, self.plan.dtype.itemsize
        parts = {"scores": self.share.most_rows * self.plan.units * item}
        if self.outer is None:
            parts["outer"] = math.prod(shape) * item
        parts |= winner_parts(self.step.rule, self.share.most_rows, item)
        if self.plan.block:
            rows = self.share.most_rows + self.plan.block
            parts |= {"stacked": rows * shape[1] * item, "left": rows * shape[0] * item}
        copy = (
            (self.step.blocked and (self.step.rule.pairs or not self.plan.block))
            or self.step.pursuit is not None
            or self.plan.geometry.normalized
        )
        self.share.lay_out(self.step.images, parts, copy=copy)
        return self.memory.part("outer", shape, self.plan.dtype) if self.outer is None else self.outer

    def _add_outer(self, sums: Sums, gate: Gate, patches: Array, operand: Array, add: bool) -> None:
        """Add Gᵀ X, and Gᵀ G if the decay needs it."""
        units, winners = self.plan.units, self.step.rule.expected_winners()
        looked_at = units if gate.winners is None else 0
        scattered = self.plan.device == "cpu" and winners is not None
        scattered = scattered and scatter_is_cheaper(winners or 0, units, patches.shape[1], looked_at)
        if not add and (scattered or gate.values is None):
            sums.outer[...] = 0
        if gate.values is None:
            return
        values = self.gemm.operand(gate.values)
        if scattered:
            add_by_winner(self.step.rule, gate, patches, sums.outer)
        else:
            self.gemm.multiply(values.T, operand, sums.outer, add)
        if gate.decay is None and gate.pair is None:
            self._add_gram(sums, values, values)

    def _add_gram(self, sums: Sums, left: Array, right: Array) -> None:
        """Add leftᵀ right, two operands."""
        add, units = sums.gram is not None, self.plan.units
        if sums.gram is None:
            sums.gram = self.memory.grown("gram", (units, units), self.plan.dtype, self.plan.device)
        self.gemm.multiply(left.T, right, sums.gram, add)

    def _add_pair(self, sums: Sums, pair: Pair, piece: Piece) -> None:
        """Add the product of a pair to the Gram matrix, or take off at once what it makes of the weights."""
        as_said = pair.lower != self.step.rule.whole_pairs
        if not (self.step.blocked and as_said):
            sums.lower = pair.lower
            self._add_gram(sums, self.gemm.operand(pair.left), self.gemm.operand(pair.right))
            return
        room = self.share.room(piece.chunk)
        if not pair.lower:
            subtract_whole(self.gemm, pair, room, self.step.weights, sums.outer)
            return
        room[...] = 0
        self._add_blocked(sums, pair.left, pair.right, room, add=True)

    def _add_in_turn(self, pursuit: Pursuit, sums: Sums, scores: Array, patches: Array, add: bool) -> None:
        """Add Gᵀ R for each turn of a pursuit, R being what the winners of the turns before left of the patches."""
        scattered = self.plan.device == "cpu" and scatter_is_cheaper(1, self.plan.units, patches.shape[1], 0)
        scores /= pursuit.norms
        won = pursuit.won(scores, vector_norms(patches), self.memory)
        if scattered and not add:
            sums.outer[...] = 0
        for turn, (units, values) in enumerate(zip(won.units, won.values, strict=True)):
            if scattered:
                kernels.for_array(patches).scatter_winners(units, values, patches, sums.outer)
            else:
                gate = self.gemm.operand(one_hot(scores, units, values))
                self.gemm.multiply(gate.T, self.gemm.operand(patches), sums.outer, add or turn > 0)
            if turn + 1 < pursuit.turns:
                pursuit.deflate(patches, units, values)
        sums.add(won.squares, None, won.squares)

    def _add_blocked(self, sums: Sums, values: Array, right: Array, residual: Array, add: bool) -> None:
        """Add Gᵀ R − tril(Gᵀ S) W in blocks of units; threads share the blocks, then the columns of R, W and outer."""
        weights = self.step.weights
        if self.plan.device == "cuda":
            add_blocked(self.gemm, values, right, residual, weights, sums.outer, add)
            return
        block, products, (units, size) = self.plan.block, self.gemm.split(), weights.shape
        rows = len(residual) + block
        left = self.memory.part("left", (units, rows), self.plan.dtype)
        cuts = parallel.cuts(-(-units // block), len(products))
        parallel.run([partial(gates_and_decays, values, right, block, *cut, left) for cut in cuts], blas=False)
        stacked = self.memory.part("stacked", (rows * size,), self.plan.dtype)

        def add_columns(product: gemm.Gemm, i: int, j: int) -> None:
            both = stacked[rows * i : rows * j].reshape(rows, j - i)
            both[: len(residual)] = residual[:, i:j]
            other = None if right is values else right
            add_blocked_by_one(product, left, other, block, both, weights[:, i:j], sums.outer[:, i:j], add)

        columns = zip(products, parallel.cuts(size, len(products)), strict=False)
        parallel.run([partial(add_columns, product, *cut) for product, cut in columns], blas=False)
