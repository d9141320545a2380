"""Readout "knn": the nearest neighbours, by Euclidean distance."""

from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier

from hebbcore.evaluation.readouts.base import Readout, ValidationSplit, searched

_NEIGHBOURS = (1, 5, 20)
_REASON = "to choose the number of neighbours"


class _EnoughRows(ValidationSplit):
    """A ValidationSplit that raises ValueError where too few rows are left beside those held out."""

    def _held(self, y: Any) -> list[npt.NDArray[np.bool_]]:
        parts = super()._held(y)
        left = min(int((~held).sum()) for held in parts)
        if left < max(_NEIGHBOURS):
            raise ValueError(
                f"make_readout: knn needs {max(_NEIGHBOURS)} rows besides those held out {_REASON}, got {left}; label "
                "more rows, or pass a KNeighborsClassifier with its number set."
            )
        return parts


def _make(seed: int) -> GridSearchCV:
    return searched(KNeighborsClassifier(), seed, cv=_EnoughRows(seed=seed), n_neighbors=list(_NEIGHBOURS))


KNN = Readout(_make, least=max(_NEIGHBOURS), reason=_REASON)
