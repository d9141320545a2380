"""Conjugate gradients on a graph's Laplacian, for many right sides at once, by symmetric Gauss–Seidel sweeps."""

import warnings
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt
from sklearn.exceptions import ConvergenceWarning

from hebbcore.classify import sweeps

_MOST_STEPS = 1000

Floats = npt.NDArray[Any]


class Matrix(NamedTuple):
    """A symmetric matrix (n, n) whose diagonal is 1, as CSR.

    entries, columns: (entries,), those of a row by their columns. starts: (n + 1,) of rows. middles: (n,) where the
    diagonal is.
    """

    entries: Floats
    columns: npt.NDArray[Any]
    starts: npt.NDArray[Any]
    middles: npt.NDArray[Any]

    @classmethod
    def of(cls, given: Any) -> Self:
        """Return a CSR array of SciPy, with its diagonal, as one."""
        matrix = given.sorted_indices()
        kind = np.int32 if matrix.nnz < 2**31 else np.int64  # half of what a product reads
        rows = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
        parts = (matrix.indices, matrix.indptr, np.flatnonzero(matrix.indices == rows))
        return cls(matrix.data, *(part.astype(kind) for part in parts))


def solutions(matrix: Matrix, right: Floats, start: Floats | None, residual: float) -> Floats:
    """Return X (n, m) of matrix X = right, both float64, by conjugate gradients.

    A column stops once the norm of its residual, solved for with the lower triangle, is as small as `residual`; it is
    the same whatever the others are. start: (n, m), where it begins, overwritten; None: at 0. right is overwritten.

    The preconditioner is (I + L)(I + Lᵀ), L the strict lower triangle: a step costs what a product with the matrix
    costs, and less than half as many are needed.

    References
    ----------
    Eisenstat 1981, "Efficient implementation of a class of preconditioned conjugate gradient methods".
    """
    solution, left = np.zeros_like(right) if start is None else start, right
    if start is not None:
        sweeps.subtract_product(matrix, solution, left)
    squares = np.empty(left.shape[1])
    sweeps.solve_lower(matrix, left, squares)
    direction, turned, product = np.zeros_like(left), np.empty_like(left), np.empty_like(left)
    along, share = np.empty_like(squares), np.zeros_like(squares)
    for _ in range(_MOST_STEPS):
        going = squares > residual**2
        if not going.any():
            break
        sweeps.multiply(matrix, left, share, direction, turned, product, along)
        length = np.where(going & (along > 0), squares / np.where(along > 0, along, 1), 0)  # one that is done stays
        before, squares = squares, np.empty_like(squares)
        sweeps.advance(solution, left, turned, product, length, squares)
        share = squares / np.where(before > 0, before, 1)
    else:
        warnings.warn(
            f"FewLabelClassifier: Poisson learning has not converged in {_MOST_STEPS} steps, so labels have not "
            "spread over all images; are there long chains of images, or many duplicates?",
            ConvergenceWarning, stacklevel=3,
        )  # fmt: skip
    return solution
