"""The batched update: ΔW of a whole batch from a few matrix products, in bounded memory.

Gᵀ X, C and the normalisers are sums over rows, so a batch is cut into chunks whose patches and scores fit the
workspace, and on the CPU the chunks are shared among threads, each with sums of its own.
"""

import contextlib
import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from hebbcore.engine import backend, gemm, kernels, parallel, tuning
from hebbcore.engine.backend import Array
from hebbcore.engine.chunks import Piece, Plan, Share
from hebbcore.engine.competition import Gate, Norms, Pair, vector_norms
from hebbcore.engine.decay import (
    add_blocked,
    add_blocked_by_one,
    blocked_is_cheaper,
    subtract_gram_decay,
    subtract_whole,
)
from hebbcore.engine.group import portion
from hebbcore.engine.group.pack import Pack
from hebbcore.engine.memory import Memory
from hebbcore.engine.moments import Moments, of_all, of_both
from hebbcore.engine.output import Output
from hebbcore.engine.patches import Chunk, Geometry
from hebbcore.engine.pursuit import Pursuit, one_hot, winner_bytes, winner_parts
from hebbcore.engine.rule import Rule
from hebbcore.engine.scored import Scored
from hebbcore.engine.state import initial_state
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


class BatchedUpdate:
    """Computes ΔW of batches for one layer, in memories that it keeps, so that a step allocates nothing large.

    Arguments are trusted: images (n, H, W, C) and weights (K, D) on one device, the weights C-contiguous and of the
    precision's dtype. Work memory beside ΔW, scratch arrays (see Gemm), a block of the weights for a blocked decay and,
    for a Gram decay, an array of K × K a thread, or one for units that win in turn: at most `workspace` bytes, whatever
    the batch.

    memories: one for each thread, more are added as needed; layers that take turns may share them.
    """

    def __init__(
        self, rule: Rule, geometry: Geometry, units: int, precision: str, workspace: int, function: str, *,
        output: Output | None = None, memories: list[Memory] | None = None,
    ) -> None:  # fmt: skip
        self.rule, self.geometry, self.units = rule, geometry, units
        more = _more_bytes(rule, units, gemm.dtype_of(precision).itemsize)
        self._plan = partial(Plan, function, geometry, units, precision, workspace, more_bytes=more)
        self._output = Output(rule) if output is None else output
        self._memories = [] if memories is None else memories
        self._pack: Pack | None = None

    def delta(
        self, images: Array, weights: Array, out: Array | None = None, bias: Array | None = None,
        teacher: Array | None = None, state: Mapping[str, Array] | None = None,
    ) -> tuple[Array, Any]:  # fmt: skip
        """Return (Gᵀ X − C·W, scale), whose product is ΔW (K, D). The next use of the memories overwrites the array.

        out: (n·oh·ow, K) for the layer's output, whose scores the update needs anyway.
        bias: (K,), see Rule.biased_gate.
        teacher: (n, K), uint8, see Rule.taught_gate; not with a bias.
        state: the rule's, which is brought up to date; None: as it begins.
        """
        return self.begin(images, weights, out, bias, teacher, state)()

    def begin(
        self, images: Array, weights: Array, out: Array | None = None, bias: Array | None = None,
        teacher: Array | None = None, state: Mapping[str, Array] | None = None, counts: Array | None = None,
    ) -> Callable[[], tuple[Array, Any]]:  # fmt: skip
        """Write out, and return what returns what delta does. While processes share the batch, their sum is under way.

        counts: (K,), which become their sum over the processes too.
        """
        # one limit for all products: to set it takes as long as some of them
        is_cpu = backend.device_of(images) == "cpu"
        with parallel.one_blas_thread() if is_cpu else contextlib.nullcontext():
            outer, mass, rows = self._sums(images, weights, out, bias, teacher, state)
        here = portion.current()
        if here is None or self._pack is None:
            return lambda: self._scaled(outer, weights, rows, mass)
        pack = self._pack
        pack.begin(here, mass, counts)
        return lambda: self._scaled(outer, weights, rows, pack.end(counts))

    def _scaled(self, outer: Array, weights: Array, rows: int, mass: Array | None) -> tuple[Array, Any]:
        self.rule.adjust(outer, weights)
        return outer, self.rule.scale(outer, rows, mass)

    def _sums(
        self, images: Array, weights: Array, out: Array | None, bias: Array | None, teacher: Array | None,
        state: Mapping[str, Array] | None,
    ) -> tuple[Array, Array | None, int]:  # fmt: skip
        """Return Gᵀ X − C·W and the mass of this process's rows, and how many rows the batch has."""
        plan, g, here = self._plan(backend.device_of(images)), self.geometry, portion.current()
        rows = (len(images) if here is None else here.total) * g.positions
        shares = plan.shares(len(images), self._memories, self.units * g.patch_size * plan.dtype.itemsize)
        if here is None:
            outer = shares[0].memory.grown("outer", (self.units, g.patch_size), plan.dtype, plan.device)
        else:
            self._pack = self._pack or Pack(self.units, g.patch_size, plan.dtype, plan.device)
            outer = self._pack.outer
        projection = self.rule.projection(weights)
        unit_norms = vector_norms(weights) if self.rule.needs_norms or bias is not None else None
        product = gemm.Gemm(plan.precision, shares[0].memory, plan.threads)
        as_the_rule = out is None or self._output.response == "rule"
        step = _Step(
            self.rule, self._output, images, weights, projection,
            unit_norms=unit_norms,
            output_norms=unit_norms if as_the_rule else self._output.unit_norms(weights, projection),
            blocked=blocked_is_cheaper(
                rows, self.units, g.patch_size, tuning.MEASURED.block_units[plan.device], self.rule.pairs
            ),
            pursuit=Pursuit.of(self.rule, weights, bias, product, shares[0].memory),
            out=out, bias=bias, teacher=teacher,
        )  # fmt: skip
        threads = [_ThreadSums(share, step, None if i else outer) for i, share in enumerate(shares)]
        after = self._next_state(threads, state) if self.rule.initial_state() else {}
        sums, *others = parallel.run([thread.run for thread in threads], blas=plan.device == "cpu")
        for other in others:
            add_scaled(sums.outer, 1, other.outer)
            sums.add(other.decay, other.gram, other.mass)
        if sums.gram is not None:
            subtract_gram_decay(product, sums.gram, weights, sums.outer, sums.lower)
        if sums.decay is not None:
            add_scaled(sums.outer, -sums.decay, weights)
        for name, array in () if state is None else state.items():
            array[...] = after[name]
        return sums.outer, sums.mass, rows

    def _next_state(self, threads: "list[_ThreadSums]", state: Mapping[str, Array] | None) -> Mapping[str, Array]:
        """Return the rule's state after this batch, by which the threads then work."""
        step = threads[0].step
        before = initial_state(self.rule, self.units, backend.device_of(step.weights)) if state is None else state
        blas = backend.device_of(step.weights) == "cpu"
        moments = functools.reduce(of_both, parallel.run([thread.moments for thread in threads], blas=blas))
        here = portion.current()
        after = self.rule.next_state(before, of_all(here, moments, backend.namespace(moments.mean).zeros(self.units)))
        rule = self.rule.bound(after)
        for thread in threads:
            thread.step = replace(step, rule=rule, output=replace(step.output, rule=rule))
        return after


@dataclass(frozen=True)
class _Step:
    """What the threads of an update share.

    blocked: take a Gram decay off on the way, in blocks of units. pursuit: of units that win in turn, in place of gate.
    """

    rule: Rule
    output: Output
    images: Array
    weights: Array
    projection: Array
    unit_norms: Array | None
    output_norms: Array | None
    blocked: bool
    pursuit: Pursuit | None
    out: Array | None
    bias: Array | None
    teacher: Array | None

    def gate(self, scores: Array, patches: Array, chunk: Chunk, g: Geometry) -> Gate:
        """Return the rule's gate for the scores of a chunk's patches."""
        norms = None if self.unit_norms is None else Norms(vector_norms(patches), self.unit_norms)
        if self.teacher is not None:
            masks = self.teacher[chunk.first : chunk.last]
            taught = self.rule.taught_gate(scores, norms, Teacher(masks, chunk.top * g.output[1], g.positions))
            return _require_gate(self.rule, taught)
        if norms is None or self.bias is None:
            return _require_gate(self.rule, self.rule.gate(scores, norms))
        return _require_gate(self.rule, self.rule.biased_gate(scores, norms, self.bias))

    def put_out(self, scores: Array, patches: Array, rows: slice) -> None:
        """Put the layer's output for some rows of scores and their patches out, if it is asked for."""
        if self.out is None:
            return
        target = self.out[rows]
        target[...] = scores
        features = self.output(target, patches, self.output_norms)
        if features is not target:
            target[...] = features


class _ThreadSums:
    """One thread's share of an update. outer (K, D): where it adds up Gᵀ X; None: in its memory."""

    def __init__(self, share: Share, step: _Step, outer: Array | None) -> None:
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
            step.put_out(scores, patches, piece.rows)
            if normalized:  # after the output, which is of the patches as they are
                kernels.for_array(patches).directions(patches, scores)
                operand = self.gemm.operand(patches)
            if step.pursuit is not None:
                residual = patches if normalized else self.share.owned(images, piece)
                self._add_in_turn(step.pursuit, sums, scores, residual, add=i > 0)
                continue
            gate = step.gate(scores, patches, piece.chunk, self.plan.geometry)
            if gate.pair is None and gate.decay is None and step.blocked:
                residual = patches if normalized else self.share.owned(images, piece)
                self._add_blocked(sums, gate.values, gate.values, residual, add=i > 0)
            else:
                self._add_outer(sums, gate, patches, operand, add=i > 0)
            if gate.pair is not None:
                self._add_pair(sums, gate.pair, piece)
            sums.add(gate.decay, None, gate.mass)
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
        if self.step.blocked and self.plan.device == "cpu":
            parts["patches"] = (self.share.most_rows + self._block) * shape[1] * item
        copy = self.step.blocked or self.step.pursuit is not None or self.plan.geometry.normalized
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
        if scattered:
            who = np.full(len(patches), -1) if gate.winners is None else gate.winners
            kernels.for_array(patches).scatter(gate.values, who, patches, sums.outer)
            return
        values = self.gemm.operand(gate.values)
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
        if not self.step.blocked:
            sums.lower = pair.lower
            self._add_gram(sums, self.gemm.operand(pair.left), self.gemm.operand(pair.right))
            return
        room = self.share.room(piece.chunk)
        if pair.lower:
            room[...] = 0
            self._add_blocked(sums, pair.left, pair.right, room, add=True)
        else:
            subtract_whole(self.gemm, pair, room, self.step.weights, sums.outer)

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
        """Add Gᵀ R − tril(Gᵀ S) W in blocks of units; threads share the columns of R, W and outer."""
        weights = self.step.weights
        if self.plan.device == "cuda":
            add_blocked(self.gemm, values, right, residual, weights, sums.outer, add)
            return
        rows, products = len(residual) + self._block, self.gemm.split()
        stacked = self.memory.part("patches", (rows, residual.shape[1]), self.plan.dtype)  # the residual, and room
        tasks = [
            partial(
                add_blocked_by_one, product, values, right, stacked[:, i:j], weights[:, i:j], sums.outer[:, i:j], add
            )
            for product, (i, j) in zip(products, parallel.cuts(weights.shape[1], len(products)), strict=False)
        ]
        parallel.run(tasks)

    @property
    def _block(self) -> int:
        """How many units are taken together in the blocked order."""
        return min(self.plan.units, tuning.MEASURED.block_units[self.plan.device])


def _more_bytes(rule: Rule, units: int, itemsize: int) -> int:
    """Return what a patch needs besides itself and its scores: its winners, or a second array of scores and a block."""
    return winner_bytes(rule, itemsize) + rule.pairs * 2 * units * itemsize


def _require_gate(rule: Rule, gate: Any) -> Gate:
    if not isinstance(gate, Gate):
        raise TypeError(f"{type(rule).__name__}.gate must return a hebbcore.Gate, got {type(gate).__name__}.")
    return gate


def add_scaled(target: Array, factors: Any, source: Array) -> None:
    """target (K, D) ← target + factors ∘ source, in place; factors: a number, (K,) or (K, 1)."""
    xp = backend.namespace(target)
    if getattr(factors, "ndim", 0) and factors.size == len(target):
        column = xp.ascontiguousarray(factors.reshape(-1), target.dtype)
    else:
        column = xp.empty(len(target), target.dtype)
        column[...] = factors.reshape(-1) if getattr(factors, "ndim", 0) else factors
    add = kernels.for_array(target).add_scaled
    threads = parallel.threads() if xp is np and target.size > tuning.MEASURED.split_numbers else 1
    cuts = parallel.cuts(len(target), threads)
    parallel.run([partial(add, target[i:j], column[i:j], source[i:j]) for i, j in cuts], blas=False)
