"""Decays that are matrices, [tril](leftᵀ right) W, in the order of products that takes fewer FLOPs.

HPCA's is tril(Gᵀ G) W: left and right are both its gate.
"""

from functools import partial

import numpy as np

from hebbcore.engine import backend, kernels, parallel, tuning
from hebbcore.engine.backend import Array
from hebbcore.engine.competition import Pair
from hebbcore.engine.gemm import Gemm


def blocked_is_cheaper(rows: int, units: int, size: int, block: int, pair: bool = False, whole: bool = False) -> bool:
    """Return True if a decay [tril](leftᵀ right) W takes fewer FLOPs in blocks, without a Gram matrix.

    rows, units, size are N, K, D.

    Gram order: the lower half of Gᵀ G, N·K², and of its product with W, K²·D.
    Blocked: R ← R − G_I W_I, 2·N·K·D, and for each block its own Gram and product, 2·N·K·block + 2·K·block·D.
    A pair's Gram has no symmetry, which takes N·K² more; and there is no Gᵀ X, which both orders of HPCA have, so that
    the product leftᵀ R of the blocks counts too, 2·N·K·D.
    A pair that counts as a whole takes no blocks: leftᵀ (right W), 4·N·K·D, against 2·N·K² + 2·K²·D.
    """
    if whole:
        return 2 * rows * size < units * (rows + size)
    blocked = (1 + pair) * rows * units * size + rows * units * block + units * block * size
    return 2 * blocked < units * units * ((1 + pair) * rows + size)


def subtract_gram_decay(product: Gemm, gram: Array, weights: Array, outer: Array, lower: bool = True) -> None:
    """outer ← outer − tril(gram) W, block by block to skip the upper half; not lower: outer − gram W.

    Threads share the columns of W and outer.
    """
    units, size = weights.shape
    if not lower:
        product.multiply(product.operand(gram), product.operand(weights), outer, add=-1)
        return
    if backend.namespace(weights) is np and units * units * size <= tuning.MEASURED.lower_products:
        kernels.for_array(gram).subtract_lower(gram, weights, outer)
        return
    products = product.split() if product.splits(units * units * size // 2) else [product]
    columns = zip(products, parallel.cuts(size, len(products)), strict=False)
    tasks = [partial(_subtract_lower, one, gram, weights[:, i:j], outer[:, i:j]) for one, (i, j) in columns]
    parallel.run(tasks, blas=False)  # it is limited already


def _subtract_lower(product: Gemm, gram: Array, weights: Array, outer: Array) -> None:
    xp, right = backend.namespace(weights), product.operand(weights)
    step = tuning.MEASURED.gram_rows[backend.device_of(weights)]
    for i in range(0, len(weights), step):
        j = min(i + step, len(weights))
        left = product.operand(xp.tril(gram[i:j, :j], i))
        product.multiply(left, right[:j], outer[i:j], add=-1)


def outer_less_decay(product: Gemm, gram: Array, values: Array, patches: Array, weights: Array, outer: Array) -> None:
    """outer ← Gᵀ X − tril(Gᵀ G) W in the Gram order on the CPU, by threads that wait for each other at the end alone.

    They share the units. Later ones take longer, so that a thread gets two parts, one from either end.
    gram (K, K): room.
    """
    products = product.split()
    parts = parallel.cuts(len(weights), 2 * len(products))
    pairs = [{parts[i], parts[-1 - i]} for i in range((len(parts) + 1) // 2)]
    tasks = [
        partial(_outer_less_decay, one, gram, values, patches, weights, outer, sorted(pair))
        for one, pair in zip(products, pairs, strict=False)
    ]
    parallel.run(tasks, blas=False)  # it is limited already


def _outer_less_decay(
    product: Gemm, gram: Array, values: Array, patches: Array, weights: Array, outer: Array,
    parts: list[tuple[int, int]],
) -> None:  # fmt: skip
    step = tuning.MEASURED.gram_rows["cpu"]
    for first, last in parts:
        for i in range(first, last, step):
            j = min(i + step, last)
            gate, rows = values[:, i:j].T, gram[i:j, :j]
            product.multiply(gate, patches, outer[i:j])
            product.multiply(gate, values[:, :j], rows)
            rows[:, i:] = np.tril(rows[:, i:])
            product.multiply(rows, weights[:j], outer[i:j], add=-1)


def subtract_whole(product: Gemm, pair: Pair, residual: Array, weights: Array, outer: Array) -> None:
    """outer ← outer − leftᵀ (right W), without the Gram matrix; residual (N, D): room."""
    product.multiply(product.operand(pair.right), product.operand(weights), residual)
    product.multiply(product.operand(pair.left).T, product.operand(residual), outer, add=-1)


def add_blocked(
    product: Gemm, values: Array, right: Array, residual: Array, weights: Array, outer: Array, add: bool
) -> None:
    """For each block I of units: outer_I += G_Iᵀ R − tril(G_Iᵀ S_I) W_I; R ← R − S_I W_I, R being X or 0 at first.

    values, right: G and S, which is G itself for HPCA.
    """
    xp, multiply, operand = backend.namespace(values), product.multiply, product.operand
    units = len(weights)
    block = tuning.MEASURED.block_units[backend.device_of(values)]
    for i in range(0, units, block):
        j = min(i + block, units)
        block_weights = operand(weights[i:j])
        block_operand = operand(xp.ascontiguousarray(values[:, i:j]))
        block_right = block_operand if right is values else operand(xp.ascontiguousarray(right[:, i:j]))
        multiply(block_operand.T, operand(residual), outer[i:j], add)
        gram = xp.empty((j - i, j - i), values.dtype)
        multiply(block_operand.T, block_right, gram)
        multiply(operand(xp.tril(gram)), block_weights, outer[i:j], add=-1)
        if j < units:
            multiply(block_right, block_weights, residual, add=-1)


def gates_and_decays(values: Array, right: Array, block: int, first: int, last: int, out: Array) -> None:
    """out (K, N + block) ← [G_Iᵀ, −tril(G_Iᵀ S_I)] for the blocks I first…last-1 of G and S (N, K)."""
    rows, units = values.shape
    lower = -np.tri(block, dtype=values.dtype)
    for i in range(first * block, min(last * block, units), block):
        j = min(i + block, units)
        gate, decay = out[i:j, :rows], out[i:j, rows : rows + j - i]
        gate[...] = values[:, i:j].T
        np.matmul(gate, gate.T if right is values else right[:, i:j], out=decay)
        decay *= lower[: j - i, : j - i]


def add_blocked_by_one(
    product: Gemm, left: Array, right: Array | None, block: int, stacked: Array, weights: Array, outer: Array, add: bool
) -> None:
    """Do what add_blocked does by one product a block, [G_Iᵀ, −tril(G_Iᵀ S_I)] [R; W_I]: one that adds takes longer.

    left: of gates_and_decays. right: S (N, K), None: G. stacked (N + block, D): R, and beneath it room for W_I.
    """
    units, rows = len(left), len(stacked) - block
    residual = stacked[:rows]
    for i in range(0, units, block):
        j = min(i + block, units)
        both = rows + j - i
        stacked[rows:both] = weights[i:j]
        product.multiply(left[i:j, :both], stacked[:both], outer[i:j], add)
        if j < units:
            product.multiply(
                left[i:j, :rows].T if right is None else right[:, i:j], stacked[rows:both], residual, add=-1
            )
