"""What images are guessed by, as one object: a thread that predicts sees all of it, whatever another one learns."""

from typing import Any, NamedTuple

import numpy.typing as npt

from hebbcore.classify.linear import Floats, Predictor, scores_of
from hebbcore.classify.space import Space
from hebbcore.engine.backend import Array
from hebbcore.engine.finite import first_not_finite
from hebbcore.evaluation.ridge.calibration import probabilities


class Answers(NamedTuple):
    """What a classifier has learned from labels; another one takes its place as a whole.

    space: of the images. classes: (classes,) sorted labels. coef, intercept: (p, classes) and (classes,), for the rows
    of a ridge. sharpness: by which scores are multiplied in probabilities.
    """

    space: Space
    classes: npt.NDArray[Any]
    coef: Floats
    intercept: Floats
    sharpness: float = 1.0

    @property
    def predictor(self) -> Predictor:
        """Coefficients and intercepts."""
        return self.coef, self.intercept

    def scores(self, function: str, features: Array) -> Floats:
        """Return the scores (n, classes) of features (n, f). Raises ValueError without classes or room."""
        if not len(self.classes):
            raise ValueError(f"{function}: no image has a label yet; give relearn, or fit, at least one.")
        scores = scores_of(self.space.ridge_rows(features), self.predictor)
        row = first_not_finite(scores)
        if row is not None:
            raise ValueError(f"{function}: X[{row}] holds numbers that are too large for float32; clean it.")
        return scores

    def labels(self, scores: Floats) -> npt.NDArray[Any]:
        """Return the most likely label (n,) for each row of scores."""
        labels: npt.NDArray[Any] = self.classes[scores.argmax(axis=1)]
        return labels

    def likely(self, scores: Floats) -> Floats:
        """Return the probability of each class (n, classes)."""
        likely: Floats = probabilities(scores, self.sharpness)
        return likely
