"""Symmetric matrices of which only the lower triangle is kept: sums of products, and solutions for many penalties.

One Cholesky factorisation for each penalty, n³/3 operations at the speed of matrix products. What would serve all
penalties together takes longer than eight of them: an eigendecomposition, 9 n³, took as long as 77 (n = 4,000), and
alone the reduction to a tridiagonal matrix, 4 n³/3 of which half waits for memory, as long as 8. The factor lives in
the unused triangle: there is no second matrix.
"""

from collections.abc import Iterable, Iterator

import numpy as np
from scipy.linalg import lapack

from hebbcore.engine import backend
from hebbcore.engine.backend import Array
from hebbcore.evaluation.ridge import tiled
from hebbcore.evaluation.ridge.meter import SILENT, Meter
from hebbcore.evaluation.ridge.tiled import Column

_TILE = 1024  # rows of products at a time: small beside the matrix, and large enough for BLAS
_TERMS = 1024  # of a sum in the rows' own precision: more would let float32 lose digits
_WHOLE = 8192  # rows that LAPACK factorises at once: OpenBLAS's parallel dpotrf has crashed with 25,632
_LARGE_TILE = 1024  # of larger matrices
_COPIED = 128  # rows that are copied from one triangle to the other at a time, so as to stay in the cache


def _tiles(size: int, step: int) -> Iterator[tuple[int, int]]:
    return ((start, min(start + step, size)) for start in range(0, size, step))


def add_products(matrix: Array, rows: Array, most: int = _TILE, meter: Meter = SILENT) -> None:
    """Add rows · rowsᵀ to the lower triangle of a matrix.

    matrix: (n, n) float64; its upper triangle is undefined afterwards. rows: (n, m); multiplied in their own dtype.
    most: rows of the products at a time.
    """
    xp, tile = backend.namespace(matrix), min(_TILE, most)
    scratch = xp.empty(min(tile, len(rows)) * len(rows), rows.dtype)
    for start, end in _tiles(len(rows), tile):
        product = scratch[: (end - start) * end].reshape(end - start, end)
        for first, last in _tiles(rows.shape[1], _TERMS):
            xp.matmul(rows[start:end, first:last], rows[:end, first:last].T, out=product)
            matrix[start:end, :end] += product
        meter.add(float(end**2 - start**2) * rows.shape[1])


def add_cross_products(matrix: Array, rows: Array, others: Array) -> None:
    """Add rows · othersᵀ, of (n, m) and (k, m) in their own dtype, to a matrix (n, k), float64."""
    total = backend.namespace(rows).zeros((len(rows), len(others)))
    for first, last in _tiles(rows.shape[1], _TERMS):
        total += rows[:, first:last] @ others[:, first:last].T
    matrix += total


def solve(
    matrix: Array, added: Array, right: Array, minus: Array | None = None, tile: int = 1, meter: Meter = SILENT
) -> Array:
    """Return x of (matrix − minus · minusᵀ + diag(added)) x = right.

    matrix: (n, n) float64, C-ordered, its lower triangle; stays as it is, while the upper triangle is overwritten.
    added, minus: (n,). right: (n, k). tile: of a matrix on disk, see tiled.
    Raises numpy.linalg.LinAlgError if the sum is not positive definite to rounding.
    """
    return solve_with_forms(matrix, added, right, minus, (), tile, meter)[0]


def solve_with_forms(
    matrix: Array, added: Array, right: Array, minus: Array | None, columns: Iterable[Column], tile: int, meter: Meter
) -> tuple[Array, Array]:
    """Return x, see solve, and cᵀ A⁻¹ c of each of some columns c, (m,), A being the sum.

    columns: some of them at a time.
    """
    found: tuple[Array, Array] | None
    if backend.on_cuda(matrix):
        found = _solve_whole(matrix, added, right, minus, columns)
        meter.add(tiled.operations(len(matrix)))
    elif isinstance(matrix, np.memmap) or len(matrix) > _WHOLE:
        step = tile if isinstance(matrix, np.memmap) else _LARGE_TILE
        found = tiled.solve(matrix, added, right, minus, columns, step, meter)
    else:
        found = _solve_in_place(matrix, added, right, minus, columns, min(tile, _LARGE_TILE), meter)
    if found is None or not bool(backend.namespace(matrix).isfinite(found[0]).all()):
        raise np.linalg.LinAlgError("the matrix is not positive definite")
    return found


def _solve_in_place(
    matrix: Array, added: Array, right: Array, minus: Array | None, columns: Iterable[Column], tile: int, meter: Meter
) -> tuple[Array, Array] | None:
    """Solve by Cholesky, None if that fails."""
    diagonal = matrix.diagonal().copy()
    try:
        _fill_upper(matrix, minus)
        matrix.flat[:: len(matrix) + 1] += added
        # LAPACK's columns are NumPy's rows: the lower triangle of the transpose is the upper one here
        factor, info = lapack.dpotrf(matrix.T, lower=1, clean=0, overwrite_a=1)
        if info:
            return None
        meter.add(tiled.operations(len(matrix)))
        return lapack.dpotrs(factor, right, lower=1)[0], tiled.forms(matrix, columns, tile, meter)
    finally:
        matrix.flat[:: len(matrix) + 1] = diagonal


def _fill_upper(matrix: Array, minus: Array | None) -> None:
    """Write the lower triangle, less minus · minusᵀ, into the upper one and the diagonal."""
    for start, end in _tiles(len(matrix), _COPIED):
        corner = matrix[start:end, start:end]
        upper = np.triu_indices(end - start)
        corner[upper] = corner.T[upper]
        matrix[start:end, end:] = matrix[end:, start:end].T
        if minus is not None:
            corner[upper] -= np.outer(minus[start:end], minus[start:end])[upper]
            matrix[start:end, end:] -= np.outer(minus[start:end], minus[end:])


def _solve_whole(
    matrix: Array, added: Array, right: Array, minus: Array | None, columns: Iterable[Column] = ()
) -> tuple[Array, Array]:
    """Solve on CUDA, where CuPy has no Cholesky that works in place: in a copy. Raises LinAlgError if that fails."""
    from cupyx import errstate, lapack

    xp = backend.namespace(matrix)
    count = right.shape[1]
    whole = matrix.copy() if minus is None else matrix - xp.outer(minus, minus)
    whole[xp.arange(len(whole)), xp.arange(len(whole))] += added
    right = xp.concatenate([right, *[xp.pad(part, ((first, 0), (0, 0))) for first, part in columns]], axis=1)
    with errstate(linalg="raise"):  # else cuSOLVER's failure goes unnoticed
        found = lapack.posv(whole, right)  # reads the lower triangle
    return found[:, :count], (right[:, count:] * found[:, count:]).sum(axis=0)
