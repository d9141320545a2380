"""Linear predictors: a ridge on guesses for all images, solved anew in an instant, and one on the labelled alone."""

from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.linalg
from scipy import sparse

from hebbcore.classify.neighbours import Indices
from hebbcore.engine import backend, parallel

_PENALTY = 0.03  # of the mean eigenvalue, at least
_FREEDOM = 0.2  # degrees of freedom for a row at most: with more, a row's score is its guess, however doubtful that is
_PENALTIES = np.logspace(-4, 2, 13)  # of the mean eigenvalue, for the labelled alone
_LEAST_SCALE = 1e-100  # of rows that are all alike
_ROUNDING = 1e-13  # of the largest eigenvalue

Floats = npt.NDArray[Any]
Predictor = tuple[Floats, Floats]  # coefficients (p, classes) and intercepts (classes,)


def scores_of(rows: Floats, predictor: Predictor) -> Floats:
    """Return the scores (n, classes), float64, of rows (n, p), float32, which are widened a piece at a time."""
    coef, intercept = predictor
    out = np.empty((len(rows), len(intercept)))
    first = 0
    for block in backend.pieces(rows):
        np.matmul(block, coef, out=out[first : first + len(block)])
        first += len(block)
    out += intercept
    return out


class AllRows:
    """Ridge of classes on all rows (n, p): the matrix is factorised once, and serves any labels."""

    def __init__(self, rows: Floats) -> None:
        self._rows = rows
        self._mean = rows.mean(axis=0, dtype=np.float64)
        self._products = np.zeros((rows.shape[1], rows.shape[1]))  # of rows without their mean
        for block in backend.pieces(rows):
            centred = block - self._mean
            self._products += centred.T @ centred
        penalty = self._penalty()
        self._factor = scipy.linalg.cho_factor(self._products + penalty * np.eye(rows.shape[1]))

    def _penalty(self) -> float:
        """Return the penalty of the ridge: the least, or one that leaves few degrees of freedom."""
        products, (rows, size) = self._products, self._rows.shape
        least = _PENALTY * max(np.trace(products) / size, np.finfo(float).tiny)
        most = _FREEDOM * rows
        if size <= most:
            return float(least)
        if rows < size:  # other eigenvalues are 0
            centred = self._rows - self._mean
            products = centred @ centred.T
        with parallel.one_blas_thread():  # as in Whiten
            eigenvalues = np.maximum(scipy.linalg.eigvalsh(products), 0)

        def freedom(penalty: float) -> float:
            return float((eigenvalues / (eigenvalues + penalty)).sum())

        low, high = least, max(least, eigenvalues.sum() / most)  # at the latter, it is no more
        if freedom(low) <= most:
            return float(low)
        for _ in range(50):
            middle = (low * high) ** 0.5
            low, high = (low, middle) if freedom(middle) <= most else (middle, high)
        return float(high)

    def predictor(self, codes: Indices, classes: int) -> Predictor:
        """Return the predictor of 1 for a row's own class (n,) and 0 for the others."""
        counts = np.bincount(codes, minlength=classes)
        sums = np.zeros((classes, self._rows.shape[1]))
        first = 0
        for block in backend.pieces(self._rows):
            places = (codes[first : first + len(block)], np.arange(len(block)))
            sums += sparse.csc_array((np.ones(len(block), block.dtype), places), (classes, len(block))) @ block
            first += len(block)
        coef = scipy.linalg.cho_solve(self._factor, sums.T - np.outer(self._mean, counts))
        return coef, counts / len(codes) - self._mean @ coef

    def mean_and_spread(self, predictor: Predictor) -> tuple[Floats, float]:
        """Return the mean (classes,) of the scores of all rows, and the mean square of their distance from it."""
        coef, intercept = predictor
        return self._mean @ coef + intercept, float((coef * (self._products @ coef)).sum()) / len(self._rows)

    def unseen_scores(self, predictor: Predictor, where: Indices, codes: Indices) -> Floats:
        """Return the scores (m, classes) of rows `where`, of classes `codes`, each as if it had not been there."""
        coef, intercept = predictor
        rows = self._rows[where]
        centred = rows - self._mean
        own = (centred * scipy.linalg.cho_solve(self._factor, centred.T).T).sum(axis=1) + 1 / len(self._rows)
        targets = np.eye(len(intercept))[codes]
        return (rows @ coef + intercept - own[:, None] * targets) / (1 - own[:, None])  # type: ignore[no-any-return]


def labelled_predictor(rows: Floats, codes: Indices, classes: int, least: float = 0) -> Predictor:
    """Return the ridge of 1 for the own class on labelled rows alone, its penalty of least leave-one-out error.

    least: of the penalties that are tried, against the mean eigenvalue.
    """
    rows = rows.astype(np.float64)
    targets = np.eye(classes)[codes]
    mean, shares = rows.mean(axis=0), targets.mean(axis=0)
    centred, targets = rows - mean, targets - shares
    scale = max((centred**2).sum() / rows.shape[1], _LEAST_SCALE)
    eigenvalues, left, axes = _decomposed(centred)
    turned, squares = left.T @ targets, left**2
    errors = []
    penalties = scale * _PENALTIES[least <= _PENALTIES]
    for penalty in penalties:
        kept = eigenvalues / (eigenvalues + penalty)
        unseen = 1 - 1 / len(rows) - squares @ kept  # by which leaving a row out divides its error
        errors.append((((targets - left @ (kept[:, None] * turned)) / unseen[:, None]) ** 2).sum())
    penalty = penalties[int(np.argmin(errors))]
    coef = axes @ ((np.sqrt(eigenvalues) / (eigenvalues + penalty))[:, None] * turned)
    return coef, shares - mean @ coef


def _decomposed(centred: Floats) -> tuple[Floats, Floats, Floats]:
    """Return squares s² (k,) of singular values, and vectors U (n, k) and V (p, k), of rows U s Vᵀ (n, p).

    From the smaller of the matrices rows × rows and columns × columns, without what is rounding.
    """
    wide = len(centred) <= centred.shape[1]
    products = centred @ centred.T if wide else centred.T @ centred
    with parallel.one_blas_thread():  # as in Whiten
        values, vectors = scipy.linalg.eigh(products)
    kept = values > max(_ROUNDING * values[-1], np.finfo(float).tiny)
    values, vectors = values[kept], vectors[:, kept]
    others = (centred.T if wide else centred) @ (vectors / np.sqrt(values))
    return (values, vectors, others) if wide else (values, others, vectors)
