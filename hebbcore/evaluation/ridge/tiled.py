"""Cholesky's factorisation of a large symmetric matrix by tiles, of which four are in memory beside one in a file."""

from collections.abc import Iterable

import numpy as np
from scipy.linalg import blas, lapack, solve_triangular

from hebbcore.engine.backend import Array
from hebbcore.evaluation.ridge.meter import Meter

Column = tuple[int, Array]  # the first row that is not zero, and the rows from there on of some columns (n − first, m)


def operations(size: int) -> float:
    """Return the floating point operations of a factorisation."""
    return size**3 / 3


def solve(
    matrix: Array,
    added: Array,
    right: Array,
    minus: Array | None,
    columns: Iterable[Column],
    tile: int,
    meter: Meter,
) -> tuple[Array, Array] | None:
    """Return what linear_system.solve_with_forms does, None if the sum is not positive definite.

    tile: sides of what is in memory at a time, about four times.
    """
    diagonal = matrix.diagonal().copy()
    try:
        for start in range(0, len(matrix), tile):
            if not _factor(matrix, added, minus, start, min(start + tile, len(matrix)), meter):
                return None
        found = forms(matrix, columns, tile, meter)
        return _backward(matrix, _forward(matrix, right, tile), tile), found
    finally:
        matrix.flat[:: len(matrix) + 1] = diagonal


def forms(matrix: Array, columns: Iterable[Column], tile: int, meter: Meter) -> Array:
    """Return cᵀ A⁻¹ c of columns c, (m,), where the matrix holds the upper factor of A."""
    found = [np.empty(0)]
    for first, part in columns:
        found.append((_forward(matrix[first:, first:], part, tile) ** 2).sum(axis=0))
        meter.add(float(len(part)) ** 2 * part.shape[1])
    return np.concatenate(found)


def _factor(matrix: Array, added: Array, minus: Array | None, start: int, end: int, meter: Meter) -> bool:
    """Write rows start…end of the upper factor over those of the matrix; those before are there. False: impossible."""
    head = np.array(matrix[start:end, start:end].T, order="F")  # the upper triangle counts
    head.flat[:: len(head) + 1] += added[start:end]
    _subtract(head, matrix, minus, start, slice(start, end), slice(start, end))
    # LAPACK's columns are NumPy's rows: the upper triangle here is the lower one of the transpose
    factor, info = lapack.dpotrf(head.T, lower=1, clean=0, overwrite_a=1)
    if info:
        return False
    for row in range(start, end):
        matrix[row, row:end] = factor[row - start :, row - start]
    for first in range(end, len(matrix), end - start):
        columns = slice(first, min(first + end - start, len(matrix)))
        part = np.array(matrix[columns, start:end].T, order="F")
        _subtract(part, matrix, minus, start, slice(start, end), columns)
        matrix[start:end, columns] = solve_triangular(factor, part, lower=True, overwrite_b=True, check_finite=False)
    meter.add(_operations_until(end, len(matrix)) - _operations_until(start, len(matrix)))
    return True


def _operations_until(rows: int, size: int) -> float:
    return size * rows**2 - 2 * rows**3 / 3


def _subtract(part: Array, matrix: Array, minus: Array | None, done: int, rows: slice, columns: slice) -> None:
    """Take off a part, Fortran-ordered, products of the factor's rows before `done`, a piece at a time, and of minus.

    By SciPy's BLAS, as the factorisations: the threads of NumPy's would spin on while those work.
    """
    for first in range(0, done, len(part)):
        above = matrix[first : min(first + len(part), done)]
        blas.dgemm(-1.0, above[:, rows].T, above[:, columns].T, 1.0, part, trans_b=1, overwrite_c=1)
    if minus is not None:
        part -= np.outer(minus[rows], minus[columns])


def _forward(matrix: Array, right: Array, tile: int) -> Array:
    """Solve for the transpose of the upper factor, which the matrix holds."""
    x = np.array(right)
    for start in range(0, len(matrix), tile):
        end = min(start + tile, len(matrix))
        corner = np.array(matrix[start:end, start:end])
        x[start:end] = solve_triangular(corner, x[start:end], trans="T", check_finite=False)
        x[end:] -= matrix[start:end, end:].T @ x[start:end]
    return x


def _backward(matrix: Array, x: Array, tile: int) -> Array:
    """Solve for the upper factor, in place."""
    for start in reversed(range(0, len(matrix), tile)):
        end = min(start + tile, len(matrix))
        x[start:end] -= matrix[start:end, end:] @ x[end:]
        x[start:end] = solve_triangular(np.array(matrix[start:end, start:end]), x[start:end], check_finite=False)
    return x
