"""RidgeReadout: an exact ridge classifier for arrays and streams, its penalty chosen on held-out rows."""

import copy
import numbers
import os
import threading
from collections.abc import Iterable, Iterator, Mapping, Sized
from typing import Any, NamedTuple, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.metrics import accuracy_score
from sklearn.utils import check_random_state
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data

from hebbcore import checks
from hebbcore.engine import backend, devices
from hebbcore.engine.backend import Array
from hebbcore.evaluation.batches import (
    CLASS_NUMBERS,
    ClassCodes,
    Codes,
    Labels,
    Weights,
    as_features,
    as_labels,
    as_weights,
    has_label,
    labelled_batches,
    names_class,
    taken,
    tell_left_out,
)
from hebbcore.evaluation.ridge.calibration import probabilities, sharpness
from hebbcore.evaluation.ridge.rows import ArrayRows, Options, Rows, StreamRows, row_blocks


class _Solution(NamedTuple):
    coef: Array
    intercept: Array
    alpha: float
    scores: Array | None
    sharpness: float | None


def _holds_out(model: "RidgeReadout") -> bool:
    """Return True if there are several alphas. Raises AttributeError for a single one."""
    alphas = model.alphas
    if isinstance(alphas, numbers.Real) or (isinstance(alphas, Sized) and len(alphas) == 1):
        raise AttributeError(
            "RidgeReadout.predict_proba: probabilities are fitted to held-out rows, and with a single one of alphas, "
            f"{alphas!r}, none are held out; give several alphas."
        )
    return True


_solving = threading.Lock()  # a solution that threads ask for at once is computed once
# the sums are changed while they are solved: a forked process must not find them so
os.register_at_fork(before=_solving.acquire, after_in_parent=_solving.release, after_in_child=_solving.release)


class RidgeReadout(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Linear classifier: ridge regression onto ±1 for each class against the rest, as scikit-learn's RidgeClassifier.

    alphas: penalties to choose from by accuracy on held-out training rows (the largest of equals), or one number.
    fit_intercept: centre features and targets. standardize: penalise as if features were divided by their deviations.
    validation_fraction: of each class's rows, to choose the penalty; the final fit has them too.
    random_state: draws those rows; an int, RandomState or None.
    class_weight: of each label in a dict, which multiplies the weights of its rows (1 if it is not there); "balanced",
        not for streams: n / (classes · the class's rows), whatever these weigh; or None.

    fit takes arrays; fit_stream and partial_fit take batches, in one pass. A whole weight is the same as so many equal
    rows one after the other, weight 0 as no row; held-out rows count by their weights too. Only in a stream the choice
    of the held-out rows does not know of weights.

    Numbers below 0 among the labels mean that there is none: these rows are left out of fits and scores, and a line of
    the log says how many. So that −1 and 1 are two classes, fit takes all numbers for classes where those from 0 on are
    fewer than two; for streams, and for other such numbers, list them in `classes`, or number the classes from 0.

    Any number of threads may use a fitted object at once, but for fit, fit_stream, partial_fit and set_params.

    Memory beside the data: one float64 matrix of features × features and, of streams, the held-out rows up to
    holdout.HELD_BYTES; for arrays of fewer rows than features one matrix of rows × rows. Products are of the features'
    precision, sums and solutions are float64. What was fitted to CuPy arrays stays on their device and predicts for
    such; labels are NumPy.

    Fitted: classes_, n_features_in_, coef_ (targets, features), intercept_ (targets,) with one target for two classes,
    alpha_, validation_scores_ (accuracies of alphas, NaN where rounding left no solution; None for one alpha), and with
    several alphas predict_proba.
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
        class_weight: Any = None,
    ) -> None:
        self.alphas = alphas
        self.fit_intercept = fit_intercept
        self.standardize = standardize
        self.validation_fraction = validation_fraction
        self.random_state = random_state
        self.class_weight = class_weight

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Fit to features X (n, features) and labels y (n,), with weights (n,) not below 0 if they are given.

        Raises ValueError or TypeError for bad ones.
        """
        function = "RidgeReadout.fit"
        options = self._options(function)
        self._reset()
        features, labels = self._checked(function, X, y, reset=True, least=2)
        weights = as_weights(function, sample_weight, len(labels))
        labelled = names_class(labels)
        tell_left_out(function, int(labelled.sum()), len(labels), "rows", CLASS_NUMBERS)
        where = np.flatnonzero(labelled & (weights > 0))
        if not len(where):
            raise ValueError(f"{function}: sample_weight is zero for every labelled row; no class is left to learn.")
        self.classes_, codes = np.unique(labels[where], return_inverse=True)
        factors = self._factors(function, np.bincount(codes))
        rows = ArrayRows(features, where, codes, weights[where], factors, options)
        self._solution = self._solve(function, rows)
        return self

    def fit_stream(self, batches: Iterable[Any], classes: Any = None) -> Self:
        """Fit to one pass over (features, labels) batches, (n, features) and (n,), or (features, labels, weights).

        classes: all labels there are; None: those that come, but for numbers below 0. Rows should come in a random
        order: of each class, the held-out ones are taken evenly from the stream, by their number, not their weight. How
        rows are cut into batches does not matter.

        Raises TypeError or ValueError for batches that do not fit each other.
        """
        function = "RidgeReadout.fit_stream"
        options = self._options(function)
        given = self._given_factors(function)
        self._reset()
        codes, rows = ClassCodes(function, classes), None
        for features, labels, weights in labelled_batches(function, batches, classes=classes):
            rows = rows or StreamRows(features, codes, given, options, keep=False)
            rows.add(features, labels, weights)
            self.n_features_in_ = features.shape[1]
        if rows is None:
            raise ValueError(f"{function}: no row of batches has a label, and a weight above 0; add some.")
        self.classes_ = codes.ordered()[0]
        self._require_classes(function, given)
        self._solution = self._solve(function, rows)
        return self

    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Self:
        """Add a batch, (n, features) and (n,); the first use of the classifier after it solves for the weights.

        classes: all labels there are, in the first call; None: those that come, but for numbers below 0. After fit or
        fit_stream, which keep no sums to add to, it starts anew. Raises ValueError or TypeError for a bad batch.
        """
        function = "RidgeReadout.partial_fit"
        options = self._options(function)
        given = self._given_factors(function)
        rows: StreamRows | None = getattr(self, "_rows", None)
        features, labels = self._checked(function, X, y, reset=rows is None, least=1)
        weights = as_weights(function, sample_weight, len(labels))
        if rows is None:
            rows = StreamRows(features, ClassCodes(function, classes), given, options, keep=True)
        elif classes is not None and not np.array_equal(np.sort(classes), self.classes_):
            raise ValueError(f"{function}: classes must stay those of the first call, {self.classes_}, got {classes}.")
        labelled = has_label(labels) | rows.codes.lists(labels)
        tell_left_out(function, int(labelled.sum()), len(labels), "rows", "list it in classes")
        for part in taken(features, labels, weights, labelled & (weights > 0)):
            rows.add(*part)
        self._rows, self._solution, self.classes_ = rows, None, rows.codes.ordered()[0]
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

    @available_if(_holds_out)  # type: ignore[untyped-decorator]
    def predict_proba(self, X: Any) -> Array:
        """Return the probability of each class (n, classes), on the device of X: the softmax of scores times a factor.

        The factor makes the labels of the held-out rows most likely under the scores of a fit without these rows, so
        there must be several alphas to choose from; with a single one nothing is held out, and there is no such method.
        """
        scores = self.decision_function(X)
        factor = self._solved().sharpness
        if factor is None:
            raise ValueError("RidgeReadout.predict_proba: it was fitted with a single alpha; fit it again.")
        return probabilities(_of_classes(scores), factor)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the accuracy on X, weighted if weights (n,) are given; rows without a label count for nothing."""
        function = "RidgeReadout.score"
        predicted = self.predict(X)
        labels = as_labels(
            function,
            "labels",
            column_or_1d(devices.to_device(y, "cpu") if backend.on_cuda(y) else y),
            len(predicted),
            "features",
        )
        labelled = has_label(labels) | np.isin(labels, self.classes_)
        tell_left_out(function, int(labelled.sum()), len(labels), "rows", "fit to rows of it")
        weights = as_weights(function, sample_weight, len(labels)) * labelled
        if not weights.any():
            raise ValueError(f"{function}: no row has a label, and a weight above 0.")
        return float(accuracy_score(labels[labelled], predicted[labelled], sample_weight=weights[labelled]))

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = super().__getstate__()
        if state.get("_solution") is None and "_rows" in state:
            with _solving:  # else a copy may be of sums that another thread is solving
                state["_rows"] = copy.deepcopy(self._rows)
        return state

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        # through the origin alone, no weight of a class makes all rows its own
        tags.classifier_tags.poor_score = not self.fit_intercept
        return tags

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
        solution = self._solution
        if solution is None:
            with _solving:  # whichever thread comes first; the others find its solution
                solution = self._solution = self._solution or self._solve("RidgeReadout.partial_fit", self._rows)
        return solution

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

    def _given_factors(self, function: str) -> dict[Any, float]:
        """Return class_weight as a dict. Raises ValueError for "balanced", which a stream cannot be."""
        if isinstance(self.class_weight, str):
            raise ValueError(
                f"{function}: class_weight must be a dict or None, got {self.class_weight!r}: how many rows a class "
                "has is known at a stream's end only; count them before, and give the weights."
            )
        return _class_weights(function, self.class_weight)

    def _factors(self, function: str, counts: Any) -> Weights:
        """Return by what the weights of each class's rows (classes,) are multiplied; counts: of its rows."""
        if self.class_weight == "balanced":
            factors: Weights = counts.sum() / (len(counts) * counts)
            return factors
        given = _class_weights(function, self.class_weight)
        self._require_classes(function, given)
        return np.array([given.get(label, 1.0) for label in self.classes_.tolist()])

    def _require_classes(self, function: str, given: dict[Any, float]) -> None:
        unknown = [label for label in given if label not in self.classes_.tolist()]
        if unknown:
            raise ValueError(
                f"{function}: class_weight has {unknown[0]!r}, which is no class; they are {self.classes_}."
            )

    def _checked(self, function: str, X: Any, y: Any, reset: bool, least: int) -> tuple[Array, Labels]:
        if y is not None and backend.on_cuda(X):
            features = self._checked_features(function, X, reset)
            labels = column_or_1d(devices.to_device(y, "cpu") if backend.on_cuda(y) else y, warn=True)
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
            only = f" ({self.classes_.tolist()[0]!r})" if len(self.classes_) else ""
            raise ValueError(
                f"{function}: labels must have at least 2 classes, got {len(self.classes_)} class{only}; add rows of "
                "others. Numbers below 0 mean that there is no label, unless classes lists them."
            )
        best, scores, factor = alphas[0], None, None
        if len(alphas) > 1:
            best, scores, factor = _validate(function, rows, alphas)
        try:
            coef, intercept = rows.everything().solve(best)
        except np.linalg.LinAlgError as error:
            raise ValueError(f"{function}: alpha={best:g} is too small for rounding ({error}); raise it.") from error
        return _Solution(coef, intercept, best, scores, factor)


def _penalties(function: str, alphas: Any) -> list[float]:
    if isinstance(alphas, numbers.Real):
        return [checks.positive(function, "alphas", alphas)]
    if isinstance(alphas, str) or not isinstance(alphas, Iterable):
        raise TypeError(f"{function}: alphas must be a number or some numbers, got {alphas!r}.")
    penalties = [checks.positive(function, "alphas", alpha) for alpha in alphas]
    if not penalties:
        raise ValueError(f"{function}: alphas must name at least one penalty, got none.")
    return penalties


def _class_weights(function: str, given: Any) -> dict[Any, float]:
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise ValueError(f'{function}: class_weight must be a dict, "balanced" or None, got {given!r}.')
    return {label: checks.positive(function, f"class_weight of {label!r}", weight) for label, weight in given.items()}


def _validate(function: str, rows: Rows, alphas: list[float]) -> tuple[float, Array, float]:
    """Return the best penalty, the accuracy on the held-out rows for each (NaN where rounding left no solution), and
    the sharpness of the probabilities that the best one's scores of the held-out rows make most likely.
    """
    total = sum(float(weights.sum()) for _, _, weights in rows.held())
    if not total:
        raise ValueError(
            f"{function}: to choose among {len(alphas)} alphas some rows must be held out, but classes have too few; "
            "add rows, raise validation_fraction, or give one number as alphas."
        )
    system, scores = rows.training(), np.full(len(alphas), np.nan)
    best: tuple[float, float, Array, Array] | None = None
    for i, alpha in enumerate(alphas):
        try:
            coef, intercept = system.solve(alpha)
        except np.linalg.LinAlgError:
            continue
        right = sum(
            float(weights[_winners(found) == codes].sum()) for found, codes, weights in _held(rows, coef, intercept)
        )
        scores[i] = right / total
        if best is None or (scores[i], alpha) > best[:2]:
            best = float(scores[i]), alpha, coef, intercept
    if best is None:
        raise ValueError(f"{function}: all alphas up to {max(alphas):g} are too small for rounding; add larger ones.")
    _, alpha, coef, intercept = best
    factor = sharpness(
        lambda: ((_of_classes(found), codes, weights) for found, codes, weights in _held(rows, coef, intercept))
    )
    return alpha, scores, factor


def _held(rows: Rows, coef: Array, intercept: Array) -> Iterator[tuple[Array, Codes, Weights]]:
    """Yield the scores (n, targets) of the held-out rows, their classes and weights, in parts of a bounded memory."""
    for features, codes, weights in rows.held():
        for block in row_blocks(features, len(coef)):
            yield _scores(features[block], coef, intercept), codes[block], weights[block]


def _of_classes(scores: Array) -> Array:
    """Return scores (n, classes) of such, or of those of the second of two classes, (n,) or (n, 1)."""
    if scores.ndim > 1 and scores.shape[1] > 1:
        return scores
    column = scores.reshape(-1, 1)
    return backend.namespace(scores).concatenate([-column, column], axis=1)


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
    return devices.to_device(places, "cpu")
