"""Symmetric matrices of which only the lower triangle is kept: sums of products, and factors.

A Cholesky factorisation, n³/3 operations at the speed of matrix products, serves one penalty and those near it, see
path. What would serve all together takes longer than eight of them: an eigendecomposition, 9 n³, took as long as 77
(n = 4,000), and alone the reduction to a tridiagonal matrix, 4 n³/3 of which half waits for memory, as long as 8. The
factor lives in the unused triangle: there is no second matrix.
"""

import contextlib
from collections.abc import Iterable, Iterator

import numpy as np
from scipy.linalg import lapack

from hebbcore.engine import backend, devices, parallel
from hebbcore.engine.backend import Array
from hebbcore.evaluation.ridge import tiled
from hebbcore.evaluation.ridge.meter import SILENT, Meter
from hebbcore.evaluation.ridge.tiled import Column, Factor

_TILE = 1024  # rows of products at a time: small beside the matrix, and large enough for BLAS
_TERMS = 1024  # of a sum in the rows' own precision: more would let float32 lose digits
# multiplications that threads share: beside fewer those of BLAS, which spin on for milliseconds after other products,
# take what is gained; and cut into few columns float32 sums of 12 features were worse by half a digit
_MANY = 2**34
_WHOLE = 8192  # rows that LAPACK factorises at once: OpenBLAS's parallel dpotrf has crashed with 25,632
_LARGE_TILE = 2048  # of larger matrices, and of what is solved
_CUDA_TILE = 4096
_COPIED = 128  # rows that are copied from one triangle to the other at a time, so as to stay in the cache


def _tiles(size: int, step: int) -> Iterator[tuple[int, int]]:
    return ((start, min(start + step, size)) for start in range(0, size, step))


def add_products(matrix: Array, rows: Array, most: int = _TILE, meter: Meter = SILENT) -> None:
    """Add rows · rowsᵀ to the lower triangle of a matrix.

    matrix: (n, n) float64; its upper triangle is undefined afterwards. rows: (n, m), which may be on a GPU while the
    matrix is on the host; multiplied in their own dtype.
    most: rows of the products at a time.
    """
    shared = float(len(rows)) ** 2 * rows.shape[1] > _MANY
    for start, end in _tiles(len(rows), min(_TILE, most)):
        add_cross_products(matrix[start:end, :end], rows[start:end], rows[:end], shared)
        meter.add(float(end**2 - start**2) * rows.shape[1])


def add_cross_products(matrix: Array, rows: Array, others: Array, shared: bool = True) -> None:
    """Add rows · othersᵀ, of (n, m) and (k, m) in their own dtype, to a matrix (n, k), float64.

    shared: on the CPU let threads take some of the numbers each, few enough to stay in a cache while they are added up.
    """
    if backend.device_of(matrix) != backend.device_of(rows):
        total = backend.namespace(rows).zeros(matrix.shape)
        _add_terms(total, rows, others)
        matrix += devices.to_device(total, backend.device_of(matrix))
        return
    if backend.on_cuda(rows) or not shared:
        _add_terms(matrix, rows, others)
        return

    def add(place: tuple[slice, slice]) -> None:
        _add_terms(matrix[place], rows[place[0]], others[place[1]])

    parts = tiled.even(0, len(others), _TILE)
    parallel.each(add, ((slice(*some), part) for some in _tiles(len(rows), _TILE) for part in parts))


def _add_terms(total: Array, rows: Array, others: Array) -> None:
    """Add rows · othersᵀ, the products in their own dtype."""
    product = backend.namespace(rows).empty(total.shape, rows.dtype)
    for first, last in _tiles(rows.shape[1], _TERMS):
        total += backend.namespace(rows).matmul(rows[:, first:last], others[:, first:last].T, out=product)


def solve_with_forms(
    matrix: Array,
    added: Array,
    right: Array,
    minus: Array | None,
    columns: Iterable[Column],
    tile: int,
    meter: Meter,
    least: float = 0.0,
) -> tuple[Array, Array]:
    """Return x of (matrix − minus · minusᵀ + diag(added)) x = right, (n, k), and cᵀ A⁻¹ c of each of some columns c,
    (m,), A being the sum. See factorised.

    columns: some of them at a time. least: of each row's number on the diagonal, that there must be beside the rows
    before it; with less, LinAlgError is raised too.
    """
    whole = matrix.diagonal() + devices.to_device(added, backend.device_of(matrix))
    with factorised(matrix, added, minus, tile, meter) as factor:
        if not bool((matrix.diagonal() ** 2 > least * whole).all()):  # the factor's, squared
            raise not_positive()
        found = factor.solve(right), factor.forms(columns, meter)
    if not bool(backend.namespace(right).isfinite(found[0]).all()):
        raise not_positive()
    return found


@contextlib.contextmanager
def factorised(matrix: Array, added: Array, minus: Array | None, tile: int, meter: Meter) -> Iterator[Factor]:
    """Give the factor of matrix − minus · minusᵀ + diag(added), as long as it is needed.

    matrix: (n, n) float64, C-ordered, its lower triangle; stays as it is, while the upper triangle is overwritten.
    added, minus: (n,) on the device that computes; the matrix may lie on the host. tile: at most the sides of tiles.
    Raises numpy.linalg.LinAlgError if the sum is not positive definite to rounding.
    """
    device, xp = backend.device_of(added), backend.namespace(matrix)
    diagonal, steps = matrix.diagonal().copy(), xp.arange(len(matrix))
    on_disk = isinstance(matrix, np.memmap)
    most = _CUDA_TILE if device == "cuda" else tile if on_disk else _LARGE_TILE
    factor = Factor(matrix, device, most, tile)
    try:
        if device == "cuda" or on_disk or len(matrix) > _WHOLE:
            done = factor.write(added, minus, meter)
        else:
            done = _write_whole(matrix, added, minus)
            meter.add(tiled.operations(len(matrix)))
        if not done:
            raise not_positive()
        yield factor
    finally:
        matrix[steps, steps] = diagonal


def _write_whole(matrix: Array, added: Array, minus: Array | None) -> bool:
    """Write the factor at once, in place; return False if there is none."""
    for start, end in _tiles(len(matrix), _COPIED):
        corner = matrix[start:end, start:end]
        upper = np.triu_indices(end - start)
        corner[upper] = corner.T[upper]
        matrix[start:end, end:] = matrix[end:, start:end].T
        if minus is not None:
            corner[upper] -= np.outer(minus[start:end], minus[start:end])[upper]
            matrix[start:end, end:] -= np.outer(minus[start:end], minus[end:])
    matrix.flat[:: len(matrix) + 1] += added
    # LAPACK's columns are NumPy's rows: the lower triangle of the transpose is the upper one here
    _, info = lapack.dpotrf(matrix.T, lower=1, clean=0, overwrite_a=1)
    return not info


def not_positive() -> np.linalg.LinAlgError:
    """Return the error of a sum that rounding leaves no factor, or one that it decides."""
    return np.linalg.LinAlgError("the matrix is not positive definite")
