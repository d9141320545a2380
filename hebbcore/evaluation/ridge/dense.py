"""What LAPACK and BLAS do to one tile, on the device that it lies on."""

from scipy.linalg import lapack
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
