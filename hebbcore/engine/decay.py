"""The decay of HPCA, tril(Gᵀ G) W, in the order of products that takes fewer FLOPs."""

import numpy as np

from hebbcore.engine import backend, kernels, tuning
from hebbcore.engine.backend import Array
from hebbcore.engine.gemm import Gemm


def blocked_is_cheaper(rows: int, units: int, size: int, block: int) -> bool:
    """Return True if a decay tril(Gᵀ G) W takes fewer FLOPs in blocks of units; rows, units, size are N, K, D.

    Gram order: the lower half of Gᵀ G, N·K², and of its product with W, K²·D.
    Blocked: R ← R − G_I W_I, 2·N·K·D, and for each block its own Gram and product, 2·N·K·block + 2·K·block·D.
    """
    return 2 * (rows * units * size + rows * units * block + units * block * size) < units * units * (rows + size)


def subtract_gram_decay(product: Gemm, gram: Array, weights: Array, outer: Array) -> None:
    """outer ← outer − tril(gram) W. Block by block to skip the upper half."""
    xp, right = backend.namespace(weights), product.operand(weights)
    step = tuning.MEASURED.gram_rows[backend.device_of(weights)]
    if xp is np and len(weights) * weights.size <= tuning.MEASURED.lower_products:
        kernels.for_array(gram).subtract_lower(gram, weights, outer)
        return
    for i in range(0, len(weights), step):
        j = min(i + step, len(weights))
        left = product.operand(xp.tril(gram[i:j, :j], i))
        product.multiply(left, right[:j], outer[i:j], add=-1)


def add_blocked(product: Gemm, values: Array, residual: Array, weights: Array, outer: Array, add: bool) -> None:
    """For each block I of units: outer_I += G_Iᵀ R − tril(G_Iᵀ G_I) W_I; R ← R − G_I W_I, R being X at first."""
    xp, multiply, operand = backend.namespace(values), product.multiply, product.operand
    units = len(weights)
    block = tuning.MEASURED.block_units[backend.device_of(values)]
    for i in range(0, units, block):
        j = min(i + block, units)
        block_values, block_weights = xp.ascontiguousarray(values[:, i:j]), operand(weights[i:j])
        block_operand = operand(block_values)
        multiply(block_operand.T, operand(residual), outer[i:j], add)
        gram = xp.empty((j - i, j - i), values.dtype)
        multiply(block_operand.T, block_operand, gram)
        multiply(operand(xp.tril(gram)), block_weights, outer[i:j], add=-1)
        if j < units:
            multiply(block_operand, block_weights, residual, add=-1)


def gates_and_decays(values: Array, block: int, first: int, last: int, out: Array) -> None:
    """out (K, N + block) ← [G_Iᵀ, −tril(G_Iᵀ G_I)] for the blocks I first…last-1 of G (N, K)."""
    rows, units = values.shape
    lower = -np.tri(block, dtype=values.dtype)
    for i in range(first * block, min(last * block, units), block):
        j = min(i + block, units)
        gate, decay = out[i:j, :rows], out[i:j, rows : rows + j - i]
        gate[...] = values[:, i:j].T
        np.matmul(gate, gate.T, out=decay)
        decay *= lower[: j - i, : j - i]


def add_blocked_by_one(
    product: Gemm, left: Array, block: int, stacked: Array, weights: Array, outer: Array, add: bool
) -> None:
    """Do what add_blocked does by one product a block, [G_Iᵀ, −tril(G_Iᵀ G_I)] [R; W_I]: one that adds takes longer.

    left: of gates_and_decays. stacked (N + block, D): R, and beneath it room for W_I.
    """
    units, rows = len(left), len(stacked) - block
    residual = stacked[:rows]
    for i in range(0, units, block):
        j = min(i + block, units)
        both = rows + j - i
        stacked[rows:both] = weights[i:j]
        product.multiply(left[i:j, :both], stacked[:both], outer[i:j], add)
        if j < units:
            product.multiply(left[i:j, :rows].T, stacked[rows:both], residual, add=-1)
