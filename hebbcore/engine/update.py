"""The batched update: ΔW of a whole batch from a few matrix products, in bounded memory.

Gᵀ X, C and the normalisers are sums over rows, so a batch is cut into chunks whose patches and scores fit the
workspace, and on the CPU the chunks are shared among threads ("lanes"), each with sums of its own.
"""

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from hebbcore.engine import backend, gemm, kernels, parallel
from hebbcore.engine.backend import Array
from hebbcore.engine.chunks import share_chunks
from hebbcore.engine.competition import Gate, Norms, vector_norms
from hebbcore.engine.memory import Memory
from hebbcore.engine.patches import Chunk, Geometry, PatchReader
from hebbcore.engine.rule import Rule

# Measured with benchmarks/step.py on 2 cores of an AMD EPYC.
_BLOCK_UNITS = {"cpu": 64, "cuda": 256}  # units a block in the blocked order
_GRAM_ROWS = 256  # rows of tril(Gᵀ G) whose product with W is taken together in the Gram order


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


def blocked_is_cheaper(rows: int, units: int, size: int, block: int) -> bool:
    """Return True if a decay tril(Gᵀ G) W takes fewer FLOPs in blocks of units; rows, units, size are N, K, D.

    Gram order: the lower half of Gᵀ G, N·K², and of its product with W, K²·D.
    Blocked: R ← R − G_I W_I, 2·N·K·D, and for each block its own Gram and product, 2·N·K·block + 2·K·block·D.
    """
    return 2 * (rows * units * size + rows * units * block + units * block * size) < units * units * (rows + size)


def scatter_is_cheaper(winners: int, units: int, size: int) -> bool:
    """Return True if adding up patches by winner takes less time on the CPU than the GEMM Gᵀ X.

    Measured for a row: 1.5 ns an entry of G to look at, 0.6 ns a number to add; the GEMM 0.03 ns a multiplication.
    """
    return 1.5 * units + 0.6 * winners * size < 0.03 * units * size


class BatchedUpdate:
    """Computes ΔW of batches for one layer, in memories that it keeps, so that a step allocates nothing large.

    Arguments are trusted: images (n, H, W, C) and weights (K, D) on one device, the weights C-contiguous and of the
    precision's dtype. Work memory beside ΔW, scratch arrays (see Gemm) and, for a Gram decay, an array of K × K a lane:
    at most `workspace` bytes, whatever the batch.

    memories: one for each lane, more are added as needed; layers that take turns may share them.
    """

    def __init__(
        self, rule: Rule, geometry: Geometry, units: int, precision: str, workspace: int, function: str,
        linear: bool = False, memories: list[Memory] | None = None,
    ) -> None:  # fmt: skip
        self.rule, self.geometry, self.units, self.precision = rule, geometry, units, precision
        self.workspace, self.function, self.linear = workspace, function, linear
        self.dtype = gemm.dtype_of(precision)
        self._memories = [] if memories is None else memories

    def delta(
        self, images: Array, weights: Array, out: Array | None = None, bias: Array | None = None
    ) -> tuple[Array, Any]:
        """Return (Gᵀ X − C·W, scale), whose product is ΔW (K, D). The next use of the memories overwrites the array.

        out: (n·oh·ow, K) for the layer's output (if linear, its response), whose scores the update needs anyway.
        bias: (K,), see Rule.biased_gate.
        """
        device, g = backend.device_of(images), self.geometry
        rows = len(images) * g.positions
        shares = share_chunks(
            self.function, g, len(images), self.units, self.precision, self.workspace, device,
            sums_bytes=self.units * g.patch_size * self.dtype.itemsize,
        )  # fmt: skip
        threads = parallel.threads() if device == "cpu" else 1
        while len(self._memories) < len(shares):
            self._memories.append(Memory())
        outer = self._memories[0].grown("outer", (self.units, g.patch_size), self.dtype, device)
        unit_norms = vector_norms(weights) if self.rule.needs_norms or bias is not None else None
        projection = self.rule.projection(weights)
        blocked = blocked_is_cheaper(rows, self.units, g.patch_size, _BLOCK_UNITS[device])
        lanes = [
            _Lane(self, memory, device, threads if len(shares) == 1 else 1, None if i else outer)
            for i, memory in enumerate(self._memories[: len(shares)])
        ]
        tasks = [
            partial(lane.sums, images, weights, projection, unit_norms, chunks, blocked, out, bias)
            for lane, chunks in zip(lanes, shares, strict=True)
        ]
        sums, *others = parallel.run(tasks)
        for other in others:
            add_scaled(sums.outer, 1, other.outer)
            sums.add(other.decay, other.gram, other.mass)
        if sums.gram is not None:
            product = gemm.Gemm(self.precision, self._memories[0], threads)
            _subtract_gram_decay(product, sums.gram, weights, sums.outer)
        elif sums.decay is not None:
            add_scaled(sums.outer, -sums.decay, weights)
        return sums.outer, self.rule.scale(sums.outer, rows, sums.mass)


class _Lane:
    """One lane's share of an update, in its memory. outer (K, D): where it adds up Gᵀ X; None: there too."""

    def __init__(self, update: BatchedUpdate, memory: Memory, device: str, threads: int, outer: Array | None) -> None:
        self.rule, self.geometry, self.units, self.dtype = update.rule, update.geometry, update.units, update.dtype
        self.activate = update.rule.response if update.linear else update.rule.activate
        self.device, self.memory = device, memory
        self.reader = PatchReader(update.geometry, update.dtype, memory)
        self.gemm = gemm.Gemm(update.precision, memory, threads)
        self.outer = outer

    def sums(
        self,
        images: Array,
        weights: Array,
        projection: Array,
        unit_norms: Array | None,
        chunks: list[Chunk],
        blocked: bool,
        out: Array | None,
        bias: Array | None,
    ) -> Sums:
        """Return the sums over the chunks; blocked: take a Gram decay off on the way, in blocks of units."""
        sums = Sums(self._lay_out(images, chunks, blocked))
        columns = self.gemm.operand(projection).T
        for i, chunk in enumerate(chunks):
            patches = self.reader.read(images, chunk)
            operand = self.gemm.operand(patches)
            scores = self.memory.part("scores", (len(patches), self.units), self.dtype)
            self.gemm.multiply(operand, columns, scores)
            if out is not None:
                self._activate(scores, unit_norms, chunk, out)
            norms = None if unit_norms is None else Norms(vector_norms(patches), unit_norms)
            if norms is None or bias is None:
                gate = _require_gate(self.rule, self.rule.gate(scores, norms))
            else:
                gate = _require_gate(self.rule, self.rule.biased_gate(scores, norms, bias))
            if gate.decay is None and blocked:
                self._add_blocked(sums, gate.values, self._residual(images, chunk, patches), weights, add=i > 0)
            else:
                self._add_outer(sums, gate, patches, operand, add=i > 0)
            sums.add(gate.decay, None, gate.mass)
        return sums

    def _lay_out(self, images: Array, chunks: list[Chunk], blocked: bool) -> Array:
        """Set memory aside for these chunks; return where Gᵀ X is added up."""
        shape, item = (self.units, self.geometry.patch_size), self.dtype.itemsize
        sizes = self.reader.sizes(images, chunks, self.device, copy=blocked)
        sizes["scores"] = max(map(self.geometry.rows, chunks)) * self.units * item
        if self.outer is None:
            sizes["outer"] = math.prod(shape) * item
        self.memory.lay_out(self.device, sizes)
        return self.memory.part("outer", shape, self.dtype) if self.outer is None else self.outer

    def _activate(self, scores: Array, unit_norms: Array | None, chunk: Chunk, out: Array) -> None:
        g = self.geometry
        start = chunk.first * g.positions + chunk.top * g.output[1]
        target = out[start : start + len(scores)]
        target[...] = scores
        features = self.activate(target, unit_norms)
        if features is not target:
            target[...] = features

    def _add_outer(self, sums: Sums, gate: Gate, patches: Array, operand: Array, add: bool) -> None:
        """Add Gᵀ X, and Gᵀ G if the decay needs it."""
        winners = self.rule.expected_winners()
        if self.device == "cpu" and winners and scatter_is_cheaper(winners, self.units, self.geometry.patch_size):
            if not add:
                sums.outer[...] = 0
            kernels.for_array(patches).scatter(gate.values, patches, sums.outer)
            return
        values = self.gemm.operand(gate.values)
        self.gemm.multiply(values.T, operand, sums.outer, add)
        if gate.decay is None:
            if sums.gram is None:
                sums.gram = self.memory.grown("gram", (self.units, self.units), self.dtype, self.device)
            self.gemm.multiply(values.T, values, sums.gram, add)

    def _residual(self, images: Array, chunk: Chunk, patches: Array) -> Array:
        """Return the patches in memory that may be overwritten."""
        if self.geometry.is_reshape:  # perhaps a view of the user's images
            return self.reader.read(images, chunk, self.memory.part("patches", patches.shape, self.dtype))
        return patches

    def _add_blocked(self, sums: Sums, values: Array, residual: Array, weights: Array, add: bool) -> None:
        """Add Gᵀ X − tril(Gᵀ G) W in blocks of units; threads share the columns of X, W and outer."""
        products = self.gemm.split()
        columns = parallel.cuts(self.geometry.patch_size, len(products))
        parallel.run(
            [
                partial(_add_blocked, product, values, residual[:, i:j], weights[:, i:j], sums.outer[:, i:j], add)
                for product, (i, j) in zip(products, columns, strict=False)
            ]
        )


def _require_gate(rule: Rule, gate: Any) -> Gate:
    if not isinstance(gate, Gate):
        raise TypeError(f"{type(rule).__name__}.gate must return a hebbcore.Gate, got {type(gate).__name__}.")
    return gate


def _subtract_gram_decay(product: gemm.Gemm, gram: Array, weights: Array, outer: Array) -> None:
    """outer ← outer − tril(gram) W, block by block to skip the upper half."""
    xp, right = backend.namespace(weights), product.operand(weights)
    for i in range(0, len(weights), _GRAM_ROWS):
        j = min(i + _GRAM_ROWS, len(weights))
        left = product.operand(-xp.tril(gram[i:j, :j], i))
        product.multiply(left, right[:j], outer[i:j], add=True)


def _add_blocked(product: gemm.Gemm, values: Array, residual: Array, weights: Array, outer: Array, add: bool) -> None:
    """For each block I of units: outer_I += G_Iᵀ R − tril(G_Iᵀ G_I) W_I; R ← R − G_I W_I, R being X at first."""
    xp, multiply, operand = backend.namespace(values), product.multiply, product.operand
    units = len(weights)
    block = _BLOCK_UNITS[backend.device_of(values)]
    for i in range(0, units, block):
        j = min(i + block, units)
        block_values, block_weights = xp.ascontiguousarray(values[:, i:j]), operand(weights[i:j])
        block_operand = operand(block_values)
        multiply(block_operand.T, operand(residual), outer[i:j], add)
        gram = xp.empty((j - i, j - i), values.dtype)
        multiply(block_operand.T, block_operand, gram)
        multiply(operand(-xp.tril(gram)), block_weights, outer[i:j], add=True)
        if j < units:
            multiply(operand(-block_values), block_weights, residual, add=True)


def add_scaled(target: Array, factors: Any, source: Array) -> None:
    """target (K, D) ← target + factors ∘ source, in place; factors: a number, (K,) or (K, 1)."""
    xp = backend.namespace(target)
    column = xp.empty(len(target), target.dtype)
    column[...] = factors.reshape(-1) if getattr(factors, "ndim", 0) else factors
    add = kernels.for_array(target).add_scaled
    lanes = parallel.threads() if xp is np and target.size > 2**18 else 1
    parallel.run([partial(add, target[i:j], column[i:j], source[i:j]) for i, j in parallel.cuts(len(target), lanes)])
