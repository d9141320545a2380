"""Sweeps over the links of a graph, compiled: those of the solver, and those that make its matrix.

matrix: a hebbcore.classify.solver.Matrix, A = (I + L) + (I + Lᵀ) − I. Columns of an array (n, m) are summed up row
after row, so that each is the same whatever the others are.
"""

import numpy as np

from hebbcore.engine.kernels.compiled import kernel


@kernel()
def subtract_product(matrix, given, out):
    """Subtract matrix · given from out."""
    for i in range(len(out)):
        for k in range(matrix.starts[i], matrix.starts[i + 1]):
            entry, j = matrix.entries[k], matrix.columns[k]
            for c in range(out.shape[1]):
                out[i, c] -= entry * given[j, c]


@kernel()
def solve_lower(matrix, out, squares):
    """Replace out by the solution of (I + L) X = out; sets the squares of its columns."""
    squares[:] = 0
    for i in range(len(out)):
        for k in range(matrix.starts[i], matrix.middles[i]):
            entry, j = matrix.entries[k], matrix.columns[k]
            for c in range(out.shape[1]):
                out[i, c] -= entry * out[j, c]
        for c in range(out.shape[1]):
            squares[c] += out[i, c] * out[i, c]


@kernel()
def multiply(matrix, left, share, direction, turned, product, along):
    """Turn the direction p into what is left and a share of p, and multiply it.

    turned: (I + Lᵀ)⁻¹ p. product: (I + L)⁻¹ (p − turned); with turned it is (I + L)⁻¹ A turned, as A is (I + L) +
    (I + Lᵀ) − I. along: p · (product + turned) of each column.
    """
    n, width = direction.shape
    for i in range(n - 1, -1, -1):
        for c in range(width):
            direction[i, c] = left[i, c] + share[c] * direction[i, c]
            turned[i, c] = direction[i, c]
        for k in range(matrix.middles[i] + 1, matrix.starts[i + 1]):
            entry, j = matrix.entries[k], matrix.columns[k]
            for c in range(width):
                turned[i, c] -= entry * turned[j, c]
    along[:] = 0
    for i in range(n):
        for c in range(width):
            product[i, c] = direction[i, c] - turned[i, c]
        for k in range(matrix.starts[i], matrix.middles[i]):
            entry, j = matrix.entries[k], matrix.columns[k]
            for c in range(width):
                product[i, c] -= entry * product[j, c]
        for c in range(width):
            along[c] += direction[i, c] * (product[i, c] + turned[i, c])


@kernel()
def advance(solution, left, turned, product, length, squares):
    """Go `length` of each column along the direction; sets the squares of what is left."""
    squares[:] = 0
    for i in range(len(left)):
        for c in range(left.shape[1]):
            solution[i, c] += length[c] * turned[i, c]
            left[i, c] -= length[c] * (product[i, c] + turned[i, c])
            squares[c] += left[i, c] * left[i, c]


@kernel()
def set_potentials(solution, roots, shares):
    """Replace v by u = D^(−½) v, whose mean is 0; a column is the same whatever the others are."""
    means = np.zeros(solution.shape[1])
    for i in range(len(solution)):
        for c in range(solution.shape[1]):
            solution[i, c] *= roots[i]
            means[c] += shares[i] * solution[i, c]
    for i in range(len(solution)):
        for c in range(solution.shape[1]):
            solution[i, c] -= means[c]


@kernel()
def set_alike(matrix, roots, unit, unlike, weights, degrees):
    """Set the weights of links times exp(−unlike (1 − cosine of both ends' scores)), and their sums."""
    degrees[:] = 0
    for i in range(len(unit)):
        for k in range(matrix.starts[i], matrix.starts[i + 1]):
            j, cosine = matrix.columns[k], 0.0
            for c in range(unit.shape[1]):
                cosine += unit[i, c] * unit[j, c]
            factor = np.exp(unlike * (min(cosine, 1.0) - 1))
            weights[k] = 0 if k == matrix.middles[i] else -matrix.entries[k] / (roots[i] * roots[j]) * factor
            degrees[i] += weights[k]


@kernel()
def set_scaled(matrix, roots, weights):
    """Replace weights W by I − D^(−½) W D^(−½)."""
    for i in range(len(roots)):
        for k in range(matrix.starts[i], matrix.starts[i + 1]):
            weights[k] *= -roots[i] * roots[matrix.columns[k]]
        weights[matrix.middles[i]] = 1
