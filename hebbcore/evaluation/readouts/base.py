"""What a readout is, and how it chooses its penalty: on rows that it holds out of those that it is fitted to."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import check_random_state

from hebbcore.evaluation.batches import CLASS_NUMBERS, names_class
from hebbcore.evaluation.ridge.holdout import validation_rows

VALIDATION_FRACTION = 0.2


@dataclass(frozen=True)
class Readout:
    """A kind of classifier.

    Parameters
    ----------
    make : callable
        Returns a new scikit-learn classifier for a seed. With a method `fit_stream` it is also fitted to features for
        which there is no room in memory.
    least : int
        Rows that it needs besides those held out.
    reason : str
        Why, to go on after the readout's name in an error.
    """

    make: Callable[[int], Any]
    least: int = 0
    reason: str = ""


class ValidationSplit:
    """One seeded split for scikit-learn's cv=: a fraction of each class, at least one row, is held out.

    Parameters
    ----------
    fraction : float
        Part of each class's rows.
    seed : int
        Draws them.
    """

    def __init__(self, fraction: float = VALIDATION_FRACTION, seed: int = 0) -> None:
        self.fraction, self.seed = fraction, seed

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:
        """Return 1."""
        return 1

    def split(
        self, X: Any, y: Any, groups: Any = None
    ) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
        """Yield the indices of rows that train and of rows held out.

        Raises
        ------
        ValueError
            If no class has two rows, and for rows without a label (see RidgeReadout).
        """
        labelled = names_class(np.asarray(y))
        if not labelled.all():
            raise ValueError(
                f"make_readout: {len(labelled) - labelled.sum()} of {len(labelled)} labels are below 0, which means "
                f"that there is none; fit to labelled rows alone (y >= 0), or {CLASS_NUMBERS}."
            )
        codes = np.unique(y, return_inverse=True)[1]
        held = validation_rows(codes, self.fraction, check_random_state(self.seed))
        if not held.any():
            raise ValueError(
                "make_readout: to choose a penalty some class must have two labelled rows, got one a class; label more "
                "rows, or pass an estimator with its penalty set."
            )
        yield np.flatnonzero(~held), np.flatnonzero(held)


def searched(model: Any, seed: int, **values: Sequence[Any] | npt.NDArray[Any]) -> GridSearchCV:
    """Return a classifier of scaled features that chooses a parameter's value on held-out rows.

    model: a scikit-learn classifier. values: for each parameter, those to choose from.
    """
    pipeline = Pipeline([("scaler", StandardScaler()), ("classifier", model)])
    choices = {f"classifier__{name}": some for name, some in values.items()}
    return GridSearchCV(pipeline, choices, cv=ValidationSplit(seed=seed), error_score="raise")
