"""The batched update: ΔW of a whole batch from a few matrix products, in bounded memory.

Gᵀ X, C and the normalisers are sums over rows, so a batch is cut into chunks whose patches and scores fit the
workspace, and on the CPU the chunks are shared among threads ("lanes"), each with sums of its own.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from hebbcore import backend, gemm, kernels, parallel
from hebbcore.backend import Array
from hebbcore.competition import Gate, Norms, vector_norms
from hebbcore.patches import Chunk, Geometry, PatchReader
from hebbcore.plan import share_chunks
from hebbcore.rules import Rule

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
    """Computes ΔW of batches for one layer; keeps its buffers, so that a step allocates nothing large.

    Arguments are trusted: images (n, H, W, C) and weights (K, D) on one device, the weights C-contiguous and of the
    precision's dtype. Work memory beside ΔW and, for a Gram decay, arrays of K × K: at most `workspace` bytes, whatever
    the batch.
    """

    def __init__(
        self, rule: Rule, geometry: Geometry, units: int, precision: str, workspace: int, function: str,
        linear: bool = False,
    ) -> None:  # fmt: skip
        self.rule, self.geometry, self.units, self.precision = rule, geometry, units, precision
        self.workspace, self.function, self.linear = workspace, function, linear
        self.dtype = gemm.dtype_of(precision)
        self._lanes: list[_Lane] = []

    def delta(self, images: Array, weights: Array, out: Array | None = None) -> tuple[Array, Any]:
        """Return (Gᵀ X − C·W, scale), whose product is ΔW (K, D). The next call overwrites the array.

        out: (n·oh·ow, K) for the layer's output (if linear, its response), whose scores the update needs anyway.
        """
        device, g = backend.device_of(images), self.geometry
        rows = len(images) * g.positions
        shares = share_chunks(
            self.function, g, len(images), self.units, self.precision, self.workspace, device,
            sums_bytes=self.units * g.patch_size * self.dtype.itemsize,
        )  # fmt: skip
        if len(self._lanes) != len(shares):
            threads = parallel.threads() if device == "cpu" else 1
            self._gemm = gemm.Gemm(self.precision, threads)
            self._lanes = [_Lane(self, device, threads if len(shares) == 1 else 1) for _ in shares]
        unit_norms = vector_norms(weights) if self.rule.needs_norms else None
        projection = self.rule.projection(weights)
        blocked = blocked_is_cheaper(rows, self.units, g.patch_size, _BLOCK_UNITS[device])
        tasks = [
            partial(lane.sums, images, weights, projection, unit_norms, chunks, blocked, out)
            for lane, chunks in zip(self._lanes, shares, strict=False)
        ]
        sums, *others = parallel.run(tasks)
        for other in others:
            add_scaled(sums.outer, 1, other.outer)
            sums.add(other.decay, other.gram, other.mass)
        if sums.gram is not None:
            self._subtract_gram_decay(sums, weights)
        elif sums.decay is not None:
            add_scaled(sums.outer, -sums.decay, weights)
        return sums.outer, self.rule.scale(sums.outer, rows, sums.mass)

    def _subtract_gram_decay(self, sums: Sums, weights: Array) -> None:
        """outer ← outer − tril(gram) W, block by block to skip the upper half."""
        xp, product = backend.namespace(weights), self._gemm
        lower, right = -xp.tril(sums.gram), product.operand(weights)
        for i in range(0, self.units, _GRAM_ROWS):
            j = min(i + _GRAM_ROWS, self.units)
            left = product.operand(xp.ascontiguousarray(lower[i:j, :j]))
            product.multiply(left, right[:j], sums.outer[i:j], add=True)


class _Lane:
    """One thread's buffers and sums."""

    def __init__(self, update: BatchedUpdate, device: str, threads: int) -> None:
        self.rule, self.geometry, self.units, self.dtype = update.rule, update.geometry, update.units, update.dtype
        self.activate = update.rule.response if update.linear else update.rule.activate
        self.device = device
        self.reader = PatchReader(update.geometry, update.dtype)
        self.gemm = gemm.Gemm(update.precision, threads)
        self.column_gemms = [gemm.Gemm(update.precision) for _ in range(threads)]
        self.outer = backend.module(device).empty((self.units, self.geometry.patch_size), self.dtype)

    def sums(
        self,
        images: Array,
        weights: Array,
        projection: Array,
        unit_norms: Array | None,
        chunks: list[Chunk],
        blocked: bool,
        out: Array | None,
    ) -> Sums:
        """Return the sums over the chunks; blocked: take a Gram decay off on the way, in blocks of units."""
        sums = Sums(self.outer)
        columns = self.gemm.operand(projection).T
        self.reader.reserve(images, chunks)
        self.reader.buffer("scores", images, (max(map(self.geometry.rows, chunks)), self.units))
        for i, chunk in enumerate(chunks):
            patches = self.reader.read(images, chunk)
            operand = self.gemm.operand(patches)
            scores = self.reader.buffer("scores", images, (len(patches), self.units))
            self.gemm.multiply(operand, columns, scores)
            if out is not None:
                self._activate(scores, unit_norms, chunk, out)
            norms = None if unit_norms is None else Norms(vector_norms(patches), unit_norms)
            gate = self.rule.gate(scores, norms)
            if gate.decay is None and blocked:
                self._add_blocked(gate.values, self._residual(images, chunk, patches), weights, add=i > 0)
                sums.add(None, None, gate.mass)
            else:
                gram = self._add_outer(gate, patches, operand, add=i > 0)
                sums.add(gate.decay, gram, gate.mass)
        return sums

    def _activate(self, scores: Array, unit_norms: Array | None, chunk: Chunk, out: Array) -> None:
        g = self.geometry
        start = chunk.first * g.positions + chunk.top * g.output[1]
        target = out[start : start + len(scores)]
        target[...] = scores
        features = self.activate(target, unit_norms)
        if features is not target:
            target[...] = features

    def _add_outer(self, gate: Gate, patches: Array, operand: Array, add: bool) -> Array | None:
        """Add Gᵀ X to outer; return Gᵀ G if the decay needs it."""
        winners = self.rule.expected_winners()
        if self.device == "cpu" and winners and scatter_is_cheaper(winners, self.units, self.geometry.patch_size):
            if not add:
                self.outer[...] = 0
            kernels.for_array(patches).scatter(gate.values, patches, self.outer)
            return None
        values = self.gemm.operand(gate.values)
        self.gemm.multiply(values.T, operand, self.outer, add)
        if gate.decay is not None:
            return None
        gram = backend.namespace(patches).empty((self.units, self.units), self.dtype)
        self.gemm.multiply(values.T, values, gram)
        return gram

    def _residual(self, images: Array, chunk: Chunk, patches: Array) -> Array:
        """Return the patches in memory that may be overwritten."""
        if self.geometry.is_reshape:  # perhaps a view of the user's images
            return self.reader.read(images, chunk, self.reader.buffer("patches", images, patches.shape))
        return patches

    def _add_blocked(self, values: Array, residual: Array, weights: Array, add: bool) -> None:
        """Add Gᵀ X − tril(Gᵀ G) W to outer in blocks of units; threads share the columns of X, W and outer."""
        parts = zip(self.column_gemms, parallel.cuts(self.geometry.patch_size, len(self.column_gemms)), strict=False)
        parallel.run(
            [
                partial(_add_blocked, part, values, residual[:, i:j], weights[:, i:j], self.outer[:, i:j], add)
                for part, (i, j) in parts
            ]
        )


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
