"""The batched update: ΔW of a whole batch from a few matrix products, in bounded memory.

Gᵀ X, C and the normalisers are sums over rows, so a batch is cut into chunks whose patches and scores fit the
workspace, and on the CPU the chunks are shared among threads, each with sums of its own.
"""

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from hebbcore.engine import backend, gemm, kernels, parallel, tuning
from hebbcore.engine.backend import Array
from hebbcore.engine.chunks import Plan, Share
from hebbcore.engine.competition import Gate, Norms, require_gate, vector_norms
from hebbcore.engine.decay import (
    add_blocked,
    add_blocked_by_one,
    blocked_is_cheaper,
    gates_and_decays,
    subtract_gram_decay,
)
from hebbcore.engine.memory import Memory
from hebbcore.engine.output import Output
from hebbcore.engine.patches import Geometry
from hebbcore.engine.pursuit import Pursuit, one_hot, winner_bytes, winner_parts
from hebbcore.engine.rule import Rule
from hebbcore.engine.single import SingleChunk


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
    precision's dtype. Work memory beside ΔW, scratch arrays (see Gemm) and, for a Gram decay, an array of K × K a
    thread, or one for units that win in turn: at most `workspace` bytes, whatever the batch.

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
        self._ready: _Ready | None = None  # for the batch of before

    def delta(
        self, images: Array, weights: Array, out: Array | None = None, bias: Array | None = None
    ) -> tuple[Array, Any]:
        """Return (Gᵀ X − C·W, scale), whose product is ΔW (K, D). The next use of the memories overwrites the array.

        out: (n·oh·ow, K) for the layer's output, whose scores the update needs anyway.
        bias: (K,), see Rule.biased_gate.
        """
        # one limit for all products: to set it takes as long as some of them
        free = backend.device_of(images) == "cuda" or self._is_for_one_thread(len(images))
        if free:
            return self._delta(images, weights, out, bias, 1)
        with parallel.one_blas_thread():
            return self._delta(images, weights, out, bias, parallel.threads())

    def _is_for_one_thread(self, images: int) -> bool:
        """Return whether BLAS takes one thread anyhow for every product of a step, N·K·D, N·K·K or K·K·D."""
        rows, units, size = images * self.geometry.positions, self.units, self.geometry.patch_size
        products = units * max(rows * size, rows * units, units * size)
        return parallel.is_for_one_thread(products, min(rows, units, size))

    def _delta(
        self, images: Array, weights: Array, out: Array | None, bias: Array | None, threads: int
    ) -> tuple[Array, Any]:
        ready = self._made_ready(images, threads)
        plan, shares, product = ready.plan, ready.shares, ready.product
        outer = shares[0].memory.grown("outer", weights.shape, plan.dtype, plan.device)
        if ready.single is not None and out is None and bias is None:
            decay, gram, mass = ready.single.add(images, weights, outer)
            return self._finished(ready, weights, Sums(outer, decay, gram, mass))
        projection = self.rule.projection(weights)
        unit_norms = vector_norms(weights) if self.rule.needs_norms or bias is not None else None
        as_the_rule = out is None or self._output.response == "rule"
        step = _Step(
            self.rule, self._output, images, weights, projection,
            unit_norms=unit_norms,
            output_norms=unit_norms if as_the_rule else self._output.unit_norms(weights, projection),
            blocked=ready.blocked,
            pursuit=Pursuit.of(self.rule, weights, bias, product, shares[0].memory),
            out=out, bias=bias,
        )  # fmt: skip
        tasks = [partial(_ThreadSums(share, step, None if i else outer).run) for i, share in enumerate(shares)]
        sums, *others = parallel.run(tasks, blas=plan.device == "cpu")
        for other in others:
            add_scaled(sums.outer, 1, other.outer)
            sums.add(other.decay, other.gram, other.mass)
        return self._finished(ready, weights, sums)

    def _finished(self, ready: "_Ready", weights: Array, sums: Sums) -> tuple[Array, Any]:
        """Return what delta returns, for the sums of all rows."""
        if sums.gram is not None:
            subtract_gram_decay(ready.product, sums.gram, weights, sums.outer)
        elif sums.decay is not None:
            add_scaled(sums.outer, -sums.decay, weights)
        return sums.outer, self.rule.scale(sums.outer, ready.rows, sums.mass)

    def _made_ready(self, images: Array, threads: int) -> "_Ready":
        """Return what is the same for all batches like these images; made anew after another batch."""
        device = backend.device_of(images)
        key = images.shape, images.dtype, images.flags.c_contiguous, device, threads, tuning.MEASURED
        if self._ready is None or self._ready.key != key:
            self._ready = _Ready.of(key, self._plan(device), self.rule, images, self._memories)
        return self._ready


@dataclass
class _Ready:
    """What the steps on batches of one shape share.

    key: what it holds for. blocked: see _Step. single: what adds up a batch that is one chunk, unless decays could be
    blocked.
    """

    key: tuple[Any, ...]
    plan: Plan
    shares: list[Share]
    product: gemm.Gemm
    rows: int
    blocked: bool
    single: SingleChunk | None

    @classmethod
    def of(cls, key: tuple[Any, ...], plan: Plan, rule: Rule, images: Array, memories: list[Memory]) -> "_Ready":
        """Return what is needed for batches like these images; memories: of all threads, more are added."""
        units, size, rows = plan.units, plan.geometry.patch_size, len(images) * plan.geometry.positions
        with_room = plan.blocked() if plan.device == "cpu" else plan
        block = with_room.block if plan.device == "cpu" else tuning.MEASURED.block_units["cuda"]
        blocked = block > 0 and blocked_is_cheaper(rows, units, size, block)
        plan = with_room if blocked else plan
        shares = plan.shares(len(images), memories, units * size * plan.dtype.itemsize)
        product = gemm.Gemm(plan.precision, shares[0].memory, plan.threads)
        single, winners = None, rule.expected_winners()
        is_one = len(shares) == 1 and len(shares[0].chunks) == 1 and plan.device == "cpu"
        if is_one and not (blocked or plan.geometry.normalized or rule.winners_in_turn() > 1):
            scatter = winners is not None and scatter_is_cheaper(winners, units, size, units if winners > 1 else 0)
            single = SingleChunk(rule, shares[0], scatter)
        return cls(key, plan, shares, product, rows, blocked, single)


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
            return require_gate(self.rule, self.rule.gate(scores, norms))
        return require_gate(self.rule, self.rule.biased_gate(scores, norms, self.bias))

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
                is_own = normalized or self.plan.block  # the CPU copies them
                residual = patches if is_own else self.share.owned(images, piece)
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
        if self.plan.block:
            rows = self.share.most_rows + self.plan.block
            parts |= {"stacked": rows * shape[1] * item, "left": rows * shape[0] * item}
        copy = (
            (self.step.blocked and not self.plan.block)
            or self.step.pursuit is not None
            or self.plan.geometry.normalized
        )
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
        """Add Gᵀ X − tril(Gᵀ G) W in blocks of units; threads share the blocks, then the columns of X, W and outer."""
        weights = self.step.weights
        if self.plan.device == "cuda":
            add_blocked(self.gemm, values, residual, weights, sums.outer, add)
            return
        block, products, (units, size) = self.plan.block, self.gemm.split(), weights.shape
        rows = len(residual) + block
        left = self.memory.part("left", (units, rows), self.plan.dtype)
        cuts = parallel.cuts(-(-units // block), len(products))
        parallel.run([partial(gates_and_decays, values, block, *cut, left) for cut in cuts], blas=False)
        stacked = self.memory.part("stacked", (rows * size,), self.plan.dtype)

        def add_columns(product: gemm.Gemm, i: int, j: int) -> None:
            both = stacked[rows * i : rows * j].reshape(rows, j - i)
            both[: len(residual)] = residual[:, i:j]
            add_blocked_by_one(product, left, block, both, weights[:, i:j], sums.outer[:, i:j], add)

        columns = zip(products, parallel.cuts(size, len(products)), strict=False)
        parallel.run([partial(add_columns, product, *cut) for product, cut in columns], blas=False)


def add_scaled(target: Array, factors: Any, source: Array) -> None:
    """target (K, D) ← target + factors ∘ source, in place; factors: a number, (K,) or (K, 1)."""
    xp = backend.namespace(target)
    if getattr(factors, "ndim", 0) and factors.size == len(target):
        column = xp.ascontiguousarray(factors.reshape(-1), target.dtype)
    else:
        column = xp.empty(len(target), target.dtype)
        column[...] = factors.reshape(-1) if getattr(factors, "ndim", 0) else factors
    add = kernels.for_array(target).add_scaled
    if xp is not np or target.size <= tuning.MEASURED.add_numbers:
        add(target, column, source)
        return
    cuts = parallel.cuts(len(target), parallel.threads())
    parallel.run([partial(add, target[i:j], column[i:j], source[i:j]) for i, j in cuts], blas=False)
