"""What LAPACK and BLAS do to one tile, on the device that it lies on."""

from scipy.linalg import blas, lapack
from scipy.linalg import solve_triangular as on_the_host

from hebbcore.engine import backend
from hebbcore.engine.backend import Array


def cholesky(tile: Array) -> Array | None:
    """Return the lower factor of a symmetric tile, of which only the lower triangle counts; None: there is none.

    tile: (m, m) float64, in Fortran's order; overwritten.
    """
    if backend.on_cuda(tile):
        return _cholesky_on_cuda(tile)
    factor, info = lapack.dpotrf(tile, lower=1, clean=0, overwrite_a=1)
    return None if info else factor


def subtract(part: Array, rows: Array, columns: Array) -> None:
    """Take rowsᵀ · columns, of (p, m) and (p, k), off a part (m, k) in Fortran's order.

    By SciPy's BLAS, as the factorisations: the threads of NumPy's would spin on while those work.
    """
    if backend.on_cuda(part):
        part -= rows.T @ columns
    else:
        blas.dgemm(-1.0, rows.T, columns.T, 1.0, part, trans_b=1, overwrite_c=1)


def solve_triangular(factor: Array, right: Array, transposed: bool = False, overwrite: bool = False) -> Array:
    """Return x of factor · x = right, or of its transpose; factor: (m, m), its lower triangle; right: (m, k)."""
    trans = "T" if transposed else "N"
    if not backend.on_cuda(right):
        found: Array = on_the_host(factor, right, trans, lower=True, overwrite_b=overwrite, check_finite=False)
        return found
    from cupyx.scipy.linalg import solve_triangular as on_cuda

    return on_cuda(factor, right, trans, lower=True, overwrite_b=overwrite)


def _cholesky_on_cuda(tile: Array) -> Array | None:
    from cupyx import errstate

    xp = backend.namespace(tile)
    try:
        with errstate(linalg="raise"):  # else cuSOLVER's failure goes unnoticed
            return xp.linalg.cholesky(tile)
    except xp.linalg.LinAlgError:
        return None
