"""RidgeReadout: an exact ridge classifier for arrays and streams, its penalty chosen on held-out rows."""

import numbers
from collections.abc import Iterable
from typing import Any, NamedTuple, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data

from hebbcore import backend, checks
from hebbcore.backend import Array
from hebbcore.evaluation.batches import ClassCodes, Labels, as_features, as_labels, labelled_batches
from hebbcore.evaluation.ridge_rows import ArrayRows, Options, Rows, StreamRows, row_blocks


class _Solution(NamedTuple):
    coef: Array
    intercept: Array
    alpha: float
    scores: Array | None


class RidgeReadout(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Linear classifier: ridge regression onto ±1 for each class against the rest, as scikit-learn's RidgeClassifier.

    alphas: penalties to choose from by accuracy on held-out training rows (the largest of equals), or one number.
    fit_intercept: centre features and targets. standardize: penalise as if features were divided by their deviations.
    validation_fraction: of each class's rows, to choose the penalty; the final fit has them too.
    random_state: draws those rows; an int, RandomState or None.

    fit takes arrays; fit_stream and partial_fit take batches, in one pass. Memory beside the data: one float64 matrix
    of features × features and, of streams, the held-out rows up to holdout.HELD_BYTES; for arrays of fewer rows than
    features one matrix of rows × rows. Products are of the features' precision, sums and solutions are float64.
    What was fitted to CuPy arrays stays on their device and predicts for such; labels are NumPy.

    Fitted: classes_, n_features_in_, coef_ (targets, features), intercept_ (targets,) with one target for two classes,
    alpha_, validation_scores_ (accuracies of alphas, NaN where rounding left no solution; None for one alpha).
    """

    classes_: Labels
    _solution: _Solution | None

    def __init__(
        self,
        alphas: Any = (0.01, 0.1, 1.0, 10.0, 100.0, 1e3, 1e4, 1e5),
        *,
        fit_intercept: bool = True,
        standardize: bool = False,
        validation_fraction: float = 0.1,
        random_state: Any = 0,
    ) -> None:
        self.alphas = alphas
        self.fit_intercept = fit_intercept
        self.standardize = standardize
        self.validation_fraction = validation_fraction
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> Self:
        """Fit to features X (n, features) and labels y (n,). Raises ValueError or TypeError for bad ones."""
        function = "RidgeReadout.fit"
        options = self._options(function)
        self._reset()
        features, labels = self._checked(function, X, y, reset=True, least=2)
        self.classes_, codes = np.unique(labels, return_inverse=True)
        self._solution = self._solve(function, ArrayRows(features, codes, len(self.classes_), options))
        return self

    def fit_stream(self, batches: Iterable[Any], classes: Any = None) -> Self:
        """Fit to one pass over (features, labels) batches, (n, features) and (n,).

        classes: all labels there are; None: those that come. Rows should come in a random order: of each class, the
        held-out ones are taken evenly from the stream. How rows are cut into batches does not matter.

        Raises TypeError or ValueError for batches that do not fit each other.
        """
        function = "RidgeReadout.fit_stream"
        options = self._options(function)
        self._reset()
        codes, rows = ClassCodes(function, classes), None
        for features, labels in labelled_batches(function, batches):
            rows = rows or StreamRows(features, codes, options, keep=False)
            rows.add(features, labels)
            self.n_features_in_ = features.shape[1]
        assert rows is not None  # labelled_batches refuses an empty stream
        self.classes_ = codes.ordered()[0]
        self._solution = self._solve(function, rows)
        return self

    def partial_fit(self, X: Any, y: Any, classes: Any = None) -> Self:
        """Add a batch, (n, features) and (n,); the first use of the classifier after it solves for the weights.

        classes: all labels there are, in the first call; None: those that come. After fit or fit_stream, which keep no
        sums to add to, it starts anew. Raises ValueError or TypeError for a bad batch.
        """
        function = "RidgeReadout.partial_fit"
        options = self._options(function)
        rows: StreamRows | None = getattr(self, "_rows", None)
        features, labels = self._checked(function, X, y, reset=rows is None, least=1)
        if rows is None:
            rows = self._rows = StreamRows(features, ClassCodes(function, classes), options, keep=True)
        elif classes is not None and not np.array_equal(np.sort(classes), self.classes_):
            raise ValueError(f"{function}: classes must stay those of the first call, {self.classes_}, got {classes}.")
        rows.add(features, labels)
        self.classes_ = rows.codes.ordered()[0]
        self._solution = None
        return self

    def decision_function(self, X: Any) -> Array:
        """Return the score of each class (n, classes), or of the second of two (n,), on the device of X."""
        solution = self._solved()
        features = self._checked_features("RidgeReadout.decision_function", X)
        backend.same_device("RidgeReadout.decision_function", "features", features, "weights", solution.coef)
        scores = _scores(features, solution.coef, solution.intercept)
        return scores[:, 0] if len(solution.coef) == 1 else scores

    def predict(self, X: Any) -> Labels:
        """Return the most likely labels (n,), NumPy; of equal scores the first class."""
        scores = self.decision_function(X)  # first: it knows whether there is a fit
        predicted: Labels = self.classes_[_winners(scores)]
        return predicted

    @property
    def coef_(self) -> Array:
        """Weights (targets, features)."""
        return self._solved().coef

    @property
    def intercept_(self) -> Array:
        """Intercepts (targets,); zeros without fit_intercept."""
        return self._solved().intercept

    @property
    def alpha_(self) -> float:
        """The penalty that was chosen."""
        return self._solved().alpha

    @property
    def validation_scores_(self) -> Array | None:
        """Accuracy on the held-out rows for each of alphas; None if there was nothing to choose."""
        return self._solved().scores

    def _solved(self) -> _Solution:
        check_is_fitted(self, "classes_")
        if self._solution is None:
            self._solution = self._solve("RidgeReadout.partial_fit", self._rows)
        return self._solution

    def _reset(self) -> None:
        """Forget an earlier fit, so that its sums do not take memory beside the new ones."""
        for name in ("classes_", "_rows", "_solution"):
            self.__dict__.pop(name, None)

    def _options(self, function: str) -> Options:
        several = len(_penalties(function, self.alphas)) > 1
        fraction = checks.positive(function, "validation_fraction", self.validation_fraction)
        if fraction >= 1:
            raise ValueError(f"{function}: validation_fraction must be below 1, got {fraction}.")
        random = check_random_state(self.random_state)
        return Options(bool(self.fit_intercept), bool(self.standardize), fraction if several else 0.0, random)

    def _checked(self, function: str, X: Any, y: Any, reset: bool, least: int) -> tuple[Array, Labels]:
        if y is not None and backend.on_cuda(X):
            features = self._checked_features(function, X, reset)
            labels = column_or_1d(backend.to_device(y, "cpu") if backend.on_cuda(y) else y, warn=True)
        else:
            features, labels = validate_data(self, X, y, reset=reset, dtype="numeric", ensure_min_samples=least)
        return features, as_labels(function, "labels", labels, len(features), "features")

    def _checked_features(self, function: str, X: Any, reset: bool = False) -> Array:
        if not backend.on_cuda(X):
            return validate_data(self, X, reset=reset, dtype="numeric")
        features = as_features(function, "features", X)
        if reset:
            self.n_features_in_ = features.shape[1]
        if features.shape[1] != self.n_features_in_:
            raise ValueError(f"{function}: X has {features.shape[1]} features, but {self.n_features_in_} are expected.")
        return features

    def _solve(self, function: str, rows: Rows) -> _Solution:
        alphas = _penalties(function, self.alphas)
        if len(self.classes_) < 2:
            raise ValueError(
                f"{function}: labels must have at least 2 classes, got 1 class ({self.classes_.tolist()[0]!r}); "
                "add rows of others."
            )
        best, scores = alphas[0], None
        if len(alphas) > 1:
            scores = _validate(function, rows, alphas)
            best = max(alpha for alpha, score in zip(alphas, scores, strict=True) if score == np.nanmax(scores))
        try:
            coef, intercept = rows.everything().solve(best)
        except np.linalg.LinAlgError as error:
            raise ValueError(f"{function}: alpha={best:g} is too small for rounding ({error}); raise it.") from error
        return _Solution(coef, intercept, best, scores)


def _penalties(function: str, alphas: Any) -> list[float]:
    if isinstance(alphas, numbers.Real):
        return [checks.positive(function, "alphas", alphas)]
    if isinstance(alphas, str) or not isinstance(alphas, Iterable):
        raise TypeError(f"{function}: alphas must be a number or some numbers, got {alphas!r}.")
    penalties = [checks.positive(function, "alphas", alpha) for alpha in alphas]
    if not penalties:
        raise ValueError(f"{function}: alphas must name at least one penalty, got none.")
    return penalties


def _validate(function: str, rows: Rows, alphas: list[float]) -> Array:
    """Return the accuracy on the held-out rows for each penalty; NaN where rounding left no solution."""
    count = sum(len(codes) for _, codes in rows.held())
    if not count:
        raise ValueError(
            f"{function}: to choose among {len(alphas)} alphas some rows must be held out, but classes have too few; "
            "add rows, raise validation_fraction, or give one number as alphas."
        )
    system, scores = rows.training(), np.full(len(alphas), np.nan)
    for i, alpha in enumerate(alphas):
        try:
            coef, intercept = system.solve(alpha)
        except np.linalg.LinAlgError:
            continue
        right = sum(int((_winners(_scores(part, coef, intercept)) == codes).sum()) for part, codes in rows.held())
        scores[i] = right / count
    if np.isnan(scores).all():
        raise ValueError(f"{function}: all alphas up to {max(alphas):g} are too small for rounding; add larger ones.")
    return scores


def _scores(features: Array, coef: Array, intercept: Array) -> Array:
    """Return scores (n, targets) in float64, a block of rows at a time: only a block is converted."""
    scores = backend.namespace(features).empty((len(features), len(coef)))
    for block in row_blocks(features):
        scores[block] = features[block].astype(np.float64, copy=False) @ coef.T + intercept
    return scores


def _winners(scores: Array) -> Any:
    """Return the places (n,), on the host, of the largest of scores (n, classes), or of (n,) and (n, 1): above 0."""
    one = scores.ndim == 1 or scores.shape[1] == 1
    places = (scores.reshape(-1) > 0).astype(np.int64) if one else scores.argmax(axis=1)
    return backend.to_device(places, "cpu")
