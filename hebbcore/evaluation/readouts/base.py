"""What a readout is, and how it chooses its penalty: on rows that it holds out of those that it is fitted to, of few
rows one part after the other.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from sklearn import model_selection
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import check_random_state
from sklearn.utils.validation import column_or_1d

from hebbcore import checks
from hebbcore.evaluation.batches import (
    CLASS_NUMBERS,
    Codes,
    Labels,
    as_labels,
    labels_given,
    names_class,
    tell_like_none,
)
from hebbcore.evaluation.ridge.holdout import FRACTION, validation_rows

FEW = 1_000  # rows up to which each of five parts is held out in turn, which takes five times as long
_PARTS = 5


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
    few : int
        Rows up to which all of them are left out in turn to choose the penalty.
    singly : bool
        One by one, so that no class needs two.
    """

    make: Callable[[int], Any]
    least: int = 0
    reason: str = ""
    few: int = FEW
    singly: bool = False


def held_parts(codes: Codes, fraction: float | None, seed: int) -> list[npt.NDArray[np.bool_]]:
    """Return masks of rows that are held out one after the other, as ValidationSplit says; none if no class has two.

    codes: (n,) class numbers.
    """
    random = check_random_state(seed)
    if fraction is not None or len(codes) > FEW:
        parts = [validation_rows(codes, FRACTION if fraction is None else fraction, random)]
    else:
        part, first = np.full(len(codes), -1), 0
        for code in np.unique(codes):
            rows = random.permutation(np.flatnonzero(codes == code))
            if len(rows) > 1:
                part[rows] = (first + np.arange(len(rows))) % _PARTS
                first += len(rows)  # so that parts are of one size
        parts = [part == number for number in range(_PARTS)]
    return [held for held in parts if held.any()]


class ValidationSplit:
    """Seeded splits for scikit-learn's cv=: rows of each class are held out, but the only one of a class never is.

    Parameters
    ----------
    fraction : float or None
        Part of each class's rows, at least one row, that is held out. None: each class's rows are cut into five parts
        that are held out in turn if they are at most 1,000 in all; of more a fifth is held out.
    seed : int
        Draws them.
    """

    def __init__(self, fraction: float | None = None, seed: int = 0) -> None:
        self.fraction, self.seed = fraction, seed

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:
        """Return how many splits there are of rows with these labels, 1 for a fraction."""
        return 1 if self.fraction is not None else len(self._held(y))

    def split(
        self, X: Any, y: Any, groups: Any = None
    ) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
        """Yield the indices of rows that train and of rows held out, once for each split.

        Raises
        ------
        ValueError
            If no class has two rows, and for rows without a label (see RidgeReadout).
        """
        for held in self._held(y):
            yield np.flatnonzero(~held), np.flatnonzero(held)
        tell_like_none("make_readout", "y", _labels(y))

    def _held(self, y: Any) -> list[npt.NDArray[np.bool_]]:
        if self.fraction is not None and checks.positive("ValidationSplit", "fraction", self.fraction) >= 1:
            raise checks.wrong(ValueError, "ValidationSplit", "fraction", f"must be below 1, got {self.fraction}.")
        labels = _labels(y)
        labelled = names_class(labels)
        if not labelled.all():
            raise ValueError(
                f"make_readout: {len(labelled) - labelled.sum()} of {len(labelled)} labels are below 0 or empty, which "
                f"means that there is none; fit to labelled rows alone (y >= 0), or {CLASS_NUMBERS}."
            )
        parts = held_parts(np.unique(labels, return_inverse=True)[1], self.fraction, self.seed)
        if not parts:
            raise ValueError(
                "make_readout: to choose a penalty some class must have two labelled rows, got one a class; label more "
                "rows, or pass an estimator with its penalty set."
            )
        return parts


class GridSearchCV(model_selection.GridSearchCV):  # type: ignore[misc]  # called as that, by which files know it
    """A search whose classes are those of RidgeReadout in columns of pandas: scikit-learn makes floats of Int64."""

    def fit(self, X: Any, y: Any = None, **params: Any) -> Self:
        """Fit to features and labels."""
        super().fit(X, labels_given("make_readout", "y", y), **params)
        return self


def _labels(y: Any) -> Labels:
    return as_labels("make_readout", "y", column_or_1d(y), np.size(y), "y")


def searched(
    model: Any, seed: int, *, cv: ValidationSplit | None = None, **values: Sequence[Any] | npt.NDArray[Any]
) -> GridSearchCV:
    """Return a classifier of scaled features that chooses a parameter's value on held-out rows.

    model: a scikit-learn classifier. cv: holds rows out; None: as RidgeReadout does. values: for each parameter, those
    to choose from.
    """
    pipeline = Pipeline([("scaler", StandardScaler()), ("classifier", model)])
    choices = {f"classifier__{name}": some for name, some in values.items()}
    return GridSearchCV(pipeline, choices, cv=cv or ValidationSplit(seed=seed), error_score="raise")
