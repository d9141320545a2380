"""The batched update: ΔW of a whole batch from a few matrix products, in bounded memory.

Gᵀ X, C and the normalisers are sums over rows, so a batch is cut into chunks whose patches and scores fit the
workspace, and on the CPU the chunks are shared among threads, each with sums of its own.
"""

import contextlib
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from hebbcore.engine import backend, gemm, kernels, parallel, tuning
from hebbcore.engine.answers import adjusted, factors_of, projection_of, state_of
from hebbcore.engine.backend import Array
from hebbcore.engine.chunks import Plan, Share
from hebbcore.engine.competition import vector_norms
from hebbcore.engine.decay import blocked_is_cheaper, subtract_gram_decay
from hebbcore.engine.group import portion
from hebbcore.engine.group.pack import Pack
from hebbcore.engine.memory import Memory
from hebbcore.engine.moments import of_all, of_both
from hebbcore.engine.output import Output, Target
from hebbcore.engine.patches import Geometry
from hebbcore.engine.pursuit import Pursuit, winner_bytes
from hebbcore.engine.rule import Rule
from hebbcore.engine.single import SingleChunk
from hebbcore.engine.state import initial_state
from hebbcore.engine.sums import Step, Sums, ThreadSums, scatter_is_cheaper
from hebbcore.engine.winners import Tally


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
        more = _more_bytes(rule, units, precision)
        self._plan = partial(Plan, function, geometry, units, precision, workspace, more_bytes=more)
        self._output = Output(rule) if output is None else output
        self._memories = [] if memories is None else memories
        self._ready: _Ready | None = None  # for the batch of before
        self._pack: Pack | None = None

    def delta(
        self, images: Array, weights: Array, out: Array | None = None, bias: Array | None = None,
        teacher: Array | None = None,
    ) -> tuple[Array, Any]:  # fmt: skip
        """Return (Gᵀ X − C·W, scale), whose product is ΔW (K, D), of a rule whose state is as it begins.

        The next use of the memories overwrites the array.

        out: (n·oh·ow, K) for the layer's output, whose scores the update needs anyway.
        bias: (K,), see Rule.biased_gate.
        teacher: (n, K), uint8, see Rule.taught_gate; not with a bias.
        """
        return self.begin(images, weights, out, bias, teacher)()[:2]

    def begin(
        self, images: Array, weights: Array, out: Array | None = None, bias: Array | None = None,
        teacher: Array | None = None, state: Mapping[str, Array] | None = None, tally: Tally | None = None,
    ) -> Callable[[], tuple[Array, Any, Mapping[str, Array]]]:  # fmt: skip
        """Write out, and return what returns what delta does and the state after the batch, which is for the caller to
        keep with the new weights. While processes share the batch, their sum is under way.

        state: the rule's; None: as it begins. tally: counts who wins.
        """
        # one limit for all products: to set it takes as long as some of them
        free = backend.device_of(images) == "cuda" or self._is_for_one_thread(len(images))
        with contextlib.nullcontext() if free else parallel.one_blas_thread():
            threads = 1 if free else parallel.threads()
            outer, mass, rows, after = self._sums(images, weights, out, bias, teacher, state, tally, threads)
        here = portion.current()
        if here is None or self._pack is None:
            if tally is not None:
                tally.total = tally.counts.astype(np.float64)
            return lambda: (*self._scaled(outer, weights, rows, mass), after)
        pack = self._pack
        pack.begin(here, mass, None if tally is None else tally.counts)

        def end() -> tuple[Array, Any, Mapping[str, Array]]:
            mass, counts = pack.end()
            if tally is not None:
                tally.total = counts.astype(np.float64)
            return *self._scaled(outer, weights, rows, mass), after

        return end

    def _is_for_one_thread(self, images: int) -> bool:
        """Return whether BLAS takes one thread anyhow for every product of a step, N·K·D, N·K·K or K·K·D."""
        rows, units, size = images * self.geometry.positions, self.units, self.geometry.patch_size
        products = units * max(rows * size, rows * units, units * size)
        return parallel.is_for_one_thread(products, min(rows, units, size))

    def _scaled(self, outer: Array, weights: Array, rows: int, mass: Array | None) -> tuple[Array, Any]:
        adjusted(self.rule, outer, weights)
        return outer, factors_of(self.rule, "scale", self.rule.scale(outer, rows, mass), self.units, outer)

    def _sums(
        self, images: Array, weights: Array, out: Array | None, bias: Array | None, teacher: Array | None,
        state: Mapping[str, Array] | None, tally: Tally | None, threads: int,
    ) -> tuple[Array, Array | None, int, Mapping[str, Array]]:  # fmt: skip
        """Return Gᵀ X − C·W and the mass of this process's rows, how many the batch has, and the state after."""
        here = portion.current()
        ready = self._made_ready(images, len(images) if here is None else here.total, threads)
        plan, shares, product = ready.plan, ready.shares, ready.product
        if here is None:
            outer = shares[0].memory.grown("outer", weights.shape, plan.dtype, plan.device)
        else:
            if self._pack is None or self._pack.is_left:
                self._pack = Pack(self.units, self.geometry.patch_size, plan.dtype, plan.device)
            outer = self._pack.outer
        projection = projection_of(self.rule, weights)
        unit_norms = vector_norms(weights) if self.rule.needs_norms or bias is not None else None
        targets: tuple[Target, ...] = ()
        if out is not None:
            as_the_rule = self._output.response == "rule"
            output_norms = unit_norms if as_the_rule else self._output.unit_norms(weights, projection)
            targets = (Target(out, self._output, output_norms),)
        responses = None
        if tally is not None and tally.rows is not None:
            many = len(range(len(images) * self.geometry.positions)[tally.rows]), self.units
            responses = shares[0].memory.grown("responses", many, plan.dtype, plan.device)
            targets += (Target(responses, Output(self.rule, linear=True), unit_norms, tally.rows),)
        if ready.single is not None and bias is None and teacher is None:
            decay, gram, mass = ready.single.add(images, weights, projection, unit_norms, targets, outer)
            if tally is not None and responses is not None:
                tally.count(responses)
            return *self._with_decay(ready, weights, Sums(outer, decay, gram, mass)), {}
        step = Step(
            self.rule, images, weights, projection,
            unit_norms=unit_norms,
            blocked=ready.blocked,
            first=ready.first,
            pursuit=Pursuit.of(self.rule, weights, bias, product, shares[0].memory),
            targets=targets, bias=bias, teacher=teacher,
        )  # fmt: skip
        sharing = [ThreadSums(share, step, None if i else outer) for i, share in enumerate(shares)]
        after = self._next_state(sharing, state) if self.rule.initial_state() else {}
        sums, *others = parallel.run([thread.run for thread in sharing], blas=plan.device == "cpu")
        ready.first = False  # not after an error of what is looked at the first time
        if tally is not None and responses is not None:
            tally.count(responses)
        if others:
            add_scaled(sums.outer, 1, *(other.outer for other in others))
        for other in others:
            sums.add(other.decay, other.gram, other.mass)
        return *self._with_decay(ready, weights, sums), after

    def _with_decay(self, ready: "_Ready", weights: Array, sums: Sums) -> tuple[Array, Array | None, int]:
        """Return what _sums does, but for the state, from sums in which the decay is not taken off yet."""
        if sums.gram is not None:
            subtract_gram_decay(ready.product, sums.gram, weights, sums.outer, sums.lower)
        if sums.decay is not None:
            add_scaled(sums.outer, -sums.decay, weights)
        return sums.outer, sums.mass, ready.rows

    def _next_state(self, threads: list[ThreadSums], state: Mapping[str, Array] | None) -> Mapping[str, Array]:
        """Return the rule's state after this batch, by which the threads then work."""
        step = threads[0].step
        before = initial_state(self.rule, self.units, backend.device_of(step.weights)) if state is None else state
        blas = backend.device_of(step.weights) == "cpu"
        moments = functools.reduce(of_both, parallel.run([thread.moments for thread in threads], blas=blas))
        here = portion.current()
        scores = of_all(here, moments, backend.namespace(moments.mean).zeros(self.units))
        after = state_of(self.rule, self.rule.next_state(before, scores), before)
        rule = self.rule.bound(after)
        targets = tuple(replace(target, output=replace(target.output, rule=rule)) for target in step.targets)
        for thread in threads:
            thread.step = replace(step, rule=rule, targets=targets)
        return after

    def _made_ready(self, images: Array, total: int, threads: int) -> "_Ready":
        """Return what is the same for all batches like these images, of so many in all; made anew after another."""
        device = backend.device_of(images)
        key = total, images.shape, images.dtype, images.flags.c_contiguous, device, threads, tuning.MEASURED
        if self._ready is None or self._ready.key != key:
            self._ready = _Ready.of(key, self._plan(device), self.rule, images, total, self._memories)
        return self._ready


@dataclass
class _Ready:
    """What the steps on batches of one shape share.

    key: what it holds for. blocked, first: see Step. single: what adds up a batch of one chunk, unless decays could be
    blocked.
    """

    key: tuple[Any, ...]
    plan: Plan
    shares: list[Share]
    product: gemm.Gemm
    rows: int
    blocked: bool
    single: SingleChunk | None
    first: bool = True

    @classmethod
    def of(
        cls, key: tuple[Any, ...], plan: Plan, rule: Rule, images: Array, total: int, memories: list[Memory]
    ) -> "_Ready":
        """Return what is needed for batches like these images; memories: of all threads, more are added.

        total: images of the batch in all processes, which decides the order of products.
        """
        units, size, rows = plan.units, plan.geometry.patch_size, total * plan.geometry.positions
        whole = rule.pairs and rule.whole_pairs
        in_blocks = plan.device == "cpu" and not whole
        with_room = plan.blocked() if in_blocks else plan
        block = with_room.block if in_blocks else tuning.MEASURED.block_units[plan.device]
        blocked = block > 0 and blocked_is_cheaper(rows, units, size, block, rule.pairs, whole)
        plan = with_room if blocked else plan
        shares = plan.shares(len(images), memories, units * size * plan.dtype.itemsize)
        product = gemm.Gemm(plan.precision, shares[0].memory, plan.threads)
        single, winners = None, rule.expected_winners()
        is_one = len(shares) == 1 and len(shares[0].chunks) == 1 and plan.device == "cpu"
        plain = not (rule.pairs or rule.initial_state() or rule.winners_in_turn() > 1)
        if is_one and plain and not (blocked or plan.geometry.normalized):
            scatter = winners is not None and scatter_is_cheaper(winners, units, size, units if winners > 1 else 0)
            single = SingleChunk(rule, shares[0], scatter)
        return cls(key, plan, shares, product, rows, blocked, single)


def _more_bytes(rule: Rule, units: int, precision: str) -> int:
    """Return what a patch needs besides itself and its scores: its winners, or of a pair a second array of scores."""
    item = gemm.dtype_of(precision).itemsize
    of_a_pair = item + 2 if precision == "bf16" else item  # and that as an operand
    return winner_bytes(rule, item) + rule.pairs * units * of_a_pair


def add_scaled(target: Array, factors: Any, *sources: Array) -> None:
    """target (K, D) ← target + factors ∘ each source, in place; factors: a number, (K,) or (K, 1)."""
    xp, add = backend.namespace(target), kernels.for_array(target).add_scaled
    if getattr(factors, "size", 1) == len(target) > 1:
        column = xp.ascontiguousarray(factors.reshape(-1), target.dtype)
    else:
        column = xp.empty(len(target), target.dtype)
        column[...] = factors.reshape(-1) if getattr(factors, "ndim", 0) else factors
    if xp is not np or target.size * len(sources) <= tuning.MEASURED.add_numbers:
        for source in sources:
            add(target, column, source)
        return

    def rows(i: int, j: int) -> None:
        for source in sources:
            add(target[i:j], column[i:j], source[i:j])

    parallel.run([partial(rows, *cut) for cut in parallel.cuts(len(target), parallel.threads())], blas=False)
