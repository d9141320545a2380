"""The batched update: ΔW of a whole batch from a few matrix products, in bounded memory.

Gᵀ X, C and the normalisers are sums over rows, so a batch is cut into chunks whose patches and scores fit the
workspace, and on the CPU the chunks are shared among threads, each with sums of its own.
"""

import contextlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from hebbcore.engine import backend, gemm, kernels, parallel, tuning
from hebbcore.engine.backend import Array
from hebbcore.engine.chunks import Plan, Share
from hebbcore.engine.competition import Gate, Norms, vector_norms
from hebbcore.engine.decay import add_blocked, add_blocked_by_one, blocked_is_cheaper, subtract_gram_decay
from hebbcore.engine.group import portion
from hebbcore.engine.group.pack import Pack
from hebbcore.engine.memory import Memory
from hebbcore.engine.output import Output
from hebbcore.engine.patches import Geometry
from hebbcore.engine.pursuit import Pursuit, one_hot, winner_bytes, winner_parts
from hebbcore.engine.rule import Rule


@dataclass
class Sums:
    """What rows add up to: outer Gᵀ X (K, D), decay (K,) or gram Gᵀ G (K, K), mass (K,). None: not needed."""

    outer: Array
    decay: Array | None = None
    gram: Array | None = None
    mass: Array | None = None

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
        more = winner_bytes(rule, gemm.dtype_of(precision).itemsize)
        self._plan = partial(Plan, function, geometry, units, precision, workspace, more_bytes=more)
        self._output = Output(rule) if output is None else output
        self._memories = [] if memories is None else memories
        self._pack: Pack | None = None

    def delta(
        self, images: Array, weights: Array, out: Array | None = None, bias: Array | None = None
    ) -> tuple[Array, Any]:
        """Return (Gᵀ X − C·W, scale), whose product is ΔW (K, D). The next use of the memories overwrites the array.

        out: (n·oh·ow, K) for the layer's output, whose scores the update needs anyway.
        bias: (K,), see Rule.biased_gate.
        """
        return self.begin(images, weights, out, bias)()

    def begin(
        self, images: Array, weights: Array, out: Array | None = None, bias: Array | None = None,
        counts: Array | None = None,
    ) -> Callable[[], tuple[Array, Any]]:  # fmt: skip
        """Write out, and return what returns what delta does. While processes share the batch, their sum is under way.

        counts: (K,), which become their sum over the processes too.
        """
        # one limit for all products: to set it takes as long as some of them
        is_cpu = backend.device_of(images) == "cpu"
        with parallel.one_blas_thread() if is_cpu else contextlib.nullcontext():
            outer, mass, rows = self._sums(images, weights, out, bias)
        here = portion.current()
        if here is None or self._pack is None:
            return lambda: (outer, self.rule.scale(outer, rows, mass))
        pack = self._pack
        pack.begin(here, mass, counts)

        def end() -> tuple[Array, Any]:
            mass = pack.end(counts)
            return outer, self.rule.scale(outer, rows, mass)

        return end

    def _sums(
        self, images: Array, weights: Array, out: Array | None, bias: Array | None
    ) -> tuple[Array, Array | None, int]:
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
                rows, self.units, g.patch_size, tuning.MEASURED.block_units[plan.device]
            ),
            pursuit=Pursuit.of(self.rule, weights, bias, product, shares[0].memory),
            out=out, bias=bias,
        )  # fmt: skip
        tasks = [partial(_ThreadSums(share, step, None if i else outer).run) for i, share in enumerate(shares)]
        sums, *others = parallel.run(tasks, blas=plan.device == "cpu")
        for other in others:
            add_scaled(sums.outer, 1, other.outer)
            sums.add(other.decay, other.gram, other.mass)
        if sums.gram is not None:
            subtract_gram_decay(product, sums.gram, weights, sums.outer)
        elif sums.decay is not None:
            add_scaled(sums.outer, -sums.decay, weights)
        return sums.outer, sums.mass, rows


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

    def gate(self, scores: Array, patches: Array) -> Gate:
        """Return the rule's gate for the scores of some patches."""
        norms = None if self.unit_norms is None else Norms(vector_norms(patches), self.unit_norms)
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

    def run(self) -> Sums:
        """Return the sums over the chunks."""
        step, images = self.step, self.step.images
        sums = Sums(self._lay_out())
        columns = self.gemm.operand(step.projection).T
        normalized = self.plan.geometry.normalized
        for i, piece in enumerate(self.share.pieces(images, own=normalized)):
            patches = piece.patches
            operand = self.gemm.operand(patches)
            scores = self.memory.part("scores", (len(patches), self.plan.units), self.plan.dtype)
            self.gemm.multiply(operand, columns, scores)
            step.put_out(scores, patches, piece.rows)
            if normalized:  # after the output, which is of the patches as they are
                kernels.for_array(patches).directions(patches, scores)
                operand = self.gemm.operand(patches)
            if step.pursuit is not None:
                residual = patches if normalized else self.share.owned(images, piece)
                self._add_in_turn(step.pursuit, sums, scores, residual, add=i > 0)
                continue
            gate = step.gate(scores, patches)
            if gate.decay is None and step.blocked:
                residual = patches if normalized else self.share.owned(images, piece)
                self._add_blocked(sums, gate.values, residual, add=i > 0)
            else:
                self._add_outer(sums, gate, patches, operand, add=i > 0)
            sums.add(gate.decay, None, gate.mass)
        return sums

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
        if self.plan.device == "cpu" and winners and scatter_is_cheaper(winners, units, patches.shape[1], looked_at):
            if not add:
                sums.outer[...] = 0
            who = np.full(len(patches), -1) if gate.winners is None else gate.winners
            kernels.for_array(patches).scatter(gate.values, who, patches, sums.outer)
            return
        values = self.gemm.operand(gate.values)
        self.gemm.multiply(values.T, operand, sums.outer, add)
        if gate.decay is None:
            if sums.gram is None:
                sums.gram = self.memory.grown("gram", (units, units), self.plan.dtype, self.plan.device)
            self.gemm.multiply(values.T, values, sums.gram, add)

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

    def _add_blocked(self, sums: Sums, values: Array, residual: Array, add: bool) -> None:
        """Add Gᵀ X − tril(Gᵀ G) W in blocks of units; threads share the columns of X, W and outer."""
        weights = self.step.weights
        if self.plan.device == "cuda":
            add_blocked(self.gemm, values, residual, weights, sums.outer, add)
            return
        rows, products = len(residual) + self._block, self.gemm.split()
        stacked = self.memory.part("patches", (rows, residual.shape[1]), self.plan.dtype)  # the residual, and room
        parallel.run(
            [
                partial(add_blocked_by_one, product, values, stacked[:, i:j], weights[:, i:j], sums.outer[:, i:j], add)
                for product, (i, j) in zip(products, parallel.cuts(weights.shape[1], len(products)), strict=False)
            ]
        )

    @property
    def _block(self) -> int:
        """How many units are taken together in the blocked order."""
        return min(self.plan.units, tuning.MEASURED.block_units[self.plan.device])


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
