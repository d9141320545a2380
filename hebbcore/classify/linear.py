"""Linear predictors: a ridge on guesses for all images, solved anew in an instant, and one on the labelled alone."""

from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.linalg
from sklearn.linear_model import RidgeCV

from hebbcore.classify.neighbours import Indices
from hebbcore.engine import backend

_PENALTY = 0.03  # of the mean eigenvalue
_PENALTIES = np.logspace(-4, 2, 13)  # of the mean eigenvalue, for the labelled alone

Floats = npt.NDArray[Any]
Predictor = tuple[Floats, Floats]  # coefficients (p, classes) and intercepts (classes,)


class AllRows:
    """Ridge of classes on all rows (n, p): the matrix is factorised once, and serves any labels."""

    def __init__(self, rows: Floats) -> None:
        self._rows = rows
        self._mean = rows.mean(axis=0, dtype=np.float64)
        gram: Any = 0.0
        for block in backend.pieces(rows):
            centred = block - self._mean
            gram = gram + centred.T @ centred
        penalty = _PENALTY * max(np.trace(gram) / len(gram), np.finfo(float).tiny)
        self._factor = scipy.linalg.cho_factor(gram + penalty * np.eye(len(gram)))

    def predictor(self, codes: Indices, classes: int) -> Predictor:
        """Return the predictor of 1 for a row's own class (n,) and 0 for the others."""
        counts = np.bincount(codes, minlength=classes)
        sums = np.zeros((classes, self._rows.shape[1]))
        for number in np.flatnonzero(counts):
            sums[number] = self._rows[codes == number].sum(axis=0, dtype=np.float64)
        coef = scipy.linalg.cho_solve(self._factor, sums.T - np.outer(self._mean, counts))
        return coef, counts / len(codes) - self._mean @ coef

    def unseen_scores(self, predictor: Predictor, where: Indices, codes: Indices) -> Floats:
        """Return the scores (m, classes) of rows `where`, of classes `codes`, each as if it had not been there."""
        coef, intercept = predictor
        rows = self._rows[where]
        centred = rows - self._mean
        own = (centred * scipy.linalg.cho_solve(self._factor, centred.T).T).sum(axis=1) + 1 / len(self._rows)
        targets = np.eye(len(intercept))[codes]
        return (rows @ coef + intercept - own[:, None] * targets) / (1 - own[:, None])  # type: ignore[no-any-return]


def labelled_predictor(rows: Floats, codes: Indices, classes: int) -> Predictor:
    """Return the ridge of 1 for the own class on labelled rows alone, its penalty of least leave-one-out error."""
    rows = rows.astype(np.float64)
    scale = max(rows.var(axis=0).sum() * len(rows) / rows.shape[1], np.finfo(float).tiny)
    model = RidgeCV(alphas=scale * _PENALTIES).fit(rows, np.eye(classes)[codes])
    return model.coef_.T, model.intercept_
