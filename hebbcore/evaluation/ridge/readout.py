"""RidgeReadout: an exact ridge classifier for arrays and streams, its penalty chosen on rows that did not train."""

import copy
import numbers
import os
import threading
from collections.abc import Callable, Iterable, Sized
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted, column_or_1d

from hebbcore.dispatch import of_any_library
from hebbcore.engine import backend, devices
from hebbcore.engine.backend import Array
from hebbcore.engine.finite import faint_is_zero
from hebbcore.evaluation.batches import (
    ClassCodes,
    Labels,
    as_labels,
    as_weights,
    has_label,
    labelled_rows,
    taken,
    tell_left_out,
)
from hebbcore.evaluation.metrics import labelled_accuracy
from hebbcore.evaluation.ridge.calibration import probabilities
from hebbcore.evaluation.ridge.given import checked_features, checked_rows, learn_width
from hebbcore.evaluation.ridge.parameters import choice_of, factors_of, factors_of_stream, penalties, require_classes
from hebbcore.evaluation.ridge.room import Options, Room
from hebbcore.evaluation.ridge.rows import ArrayRows, Rows, StreamRows, rows_of_stream
from hebbcore.evaluation.ridge.solution import Solution, best_solution, scores_of, scores_of_classes, winners
from hebbcore.fitted import require_unchanged

# half a decade apart: with whole ones the best for 500 of CIFAR-10's labels was missed by half a point of accuracy
ALPHAS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1e3, 3e3, 1e4, 3e4, 1e5)


def _chooses(model: "RidgeReadout") -> bool:
    """Return True if there are several alphas. Raises AttributeError for a single one."""
    alphas = model.alphas
    if isinstance(alphas, numbers.Real) or (isinstance(alphas, Sized) and len(alphas) == 1):
        raise AttributeError(
            "RidgeReadout.predict_proba: probabilities are fitted to rows that did not train, and with a single one of "
            f"alphas, {alphas!r}, there are none; give several alphas."
        )
    return True


_solving = threading.Lock()  # a solution that threads ask for at once is computed once
# the sums are changed while they are solved: a forked process must not find them so
os.register_at_fork(before=_solving.acquire, after_in_parent=_solving.release, after_in_child=_solving.release)


class RidgeReadout(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Linear classifier: ridge regression onto ±1 for each class against the rest, as scikit-learn's RidgeClassifier.

    fit takes arrays; fit_stream and partial_fit take batches, in one pass. A whole weight is the same as so many equal
    rows one after the other, weight 0 as no row; held-out rows count by their weights too. Only for a
    stream does the choice of held-out rows ignore the weights.

    The penalty is chosen within the rows. Up to 5,000 of them, where a weight above 1 counts as so many, are left out
    in turn, which takes one solution for each penalty: under the best one's scores of left-out rows their labels are
    most likely. Of more rows a fifth of each class is held out, and accuracy chooses.

    Numbers below 0 and empty texts among the labels mean that there is none: these rows are left out of fits and
    scores, and a line of the log says how many. If the others are fewer than two classes, fit takes all for classes, so
    that −1 and 1 are two. For streams, and for other such labels, list them in `classes`, or number classes from 0.

    Any number of threads may use a fitted object at once, but for fit, fit_stream, partial_fit and set_params.

    There may be more features than rows, and more of both than memory holds: of the matrices features × features and
    rows × rows, which give the same solution, it makes the smaller one, in a file if `memory` is too little; 50,000
    rows of 100,000 features need 20 GB of disk. Features in a file are read a part at a time: X may be a numpy.memmap,
    or a dataset of h5py as `hebbcore extract` writes it. Products are of the features' precision, sums and solutions
    are float64. What was fitted to CuPy arrays stays on their device, whatever `memory` is, and predicts for CuPy
    arrays; labels are NumPy. Only a matrix that takes more than three quarters of what is free on the device lies on
    the host, by `memory` and `folder`, and a warning in the log says so.

    Parameters
    ----------
    alphas : float or iterable of float
        Penalties to choose from (the largest of equals; the log warns if the best is at their end), or one number: then
        validation_fraction and random_state have no effect. By default half a decade apart, 0.01 to 1e5.
    fit_intercept : bool
        Centre features and targets.
    standardize : bool
        Penalise as if features were divided by their standard deviations. The log warns of features so small that their
        squares vanish (below 1e-19 in float32), which count as constant.
    validation_fraction : float or None
        Part of each class's rows that is held out to choose the penalty, however many rows there are; the final fit has
        them too. None: by the rule above; a stream's rows are left out in turn if an eighth of the memory holds them.
    random_state : int, RandomState or None
        Draws held-out rows, where rows are not left out one after the other.
    class_weight : dict, "balanced" or None
        A dict gives each label a number that multiplies the weights of its rows (1 if the label is not there).
        "balanced", not for streams: n / (classes · the class's rows), whatever these weigh. Rows of weight 0 are no
        rows there either; scikit-learn's RidgeClassifier counts them.
    memory : int or str
        Bytes, or text like "4 GiB", that a fit may take beside the data and the solution. An eighth of it is for the
        rows of a stream while they are few, or, between 32 and 512 MiB, for its held-out ones.
    folder : str or path, optional
        On whose disk lies what memory has no room for, in files without names that go with the fit; None: that of
        temporary files. A stream's rows lie there too, as long as they are no more than its features, if a matrix
        features × features does not fit the memory.
    progress : callable, optional
        Called with a line of text every ten seconds of the long parts: how much is done, the rate and the time left.

    Attributes
    ----------
    classes_ : (classes,)
        Sorted labels.
    n_features_in_ : int
        Features of a row.
    coef_ : (targets, features)
        Weights; one target for two classes.
    intercept_ : (targets,)
        Zeros without fit_intercept.
    alpha_ : float
        The penalty that was chosen.
    validation_scores_ : (alphas,) or None
        What chose among the alphas: the mean log likelihood of the labels of rows that are left out in turn, or the
        accuracy on held-out rows; NaN where rounding left no solution, or would decide the likelihood: such alphas are
        not chosen. None for one alpha. With several there is predict_proba.

    References
    ----------
    scikit-learn's RidgeClassifier, which solves the same problem for one penalty.
    """

    classes_: Labels
    _solution: Solution | None

    def __init__(
        self,
        alphas: Any = ALPHAS,
        *,
        fit_intercept: bool = True,
        standardize: bool = False,
        validation_fraction: float | None = None,
        random_state: Any = 0,
        class_weight: Any = None,
        memory: int | str = "4 GiB",
        folder: str | os.PathLike[str] | None = None,
        progress: Callable[[str], None] | None = None,
    ) -> None:
        self.alphas = alphas
        self.fit_intercept = fit_intercept
        self.standardize = standardize
        self.validation_fraction = validation_fraction
        self.random_state = random_state
        self.class_weight = class_weight
        self.memory = memory
        self.folder = folder
        self.progress = progress

    @of_any_library
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Fit to arrays.

        Parameters
        ----------
        X : (n, features)
            Numbers, NumPy or CuPy.
        y : (n,)
            Labels.
        sample_weight : (n,), optional
            Weights of the rows, not below 0.

        Returns
        -------
        RidgeReadout
            Itself.

        Raises
        ------
        ValueError, TypeError
            For bad arguments or parameters.
        """
        function = "RidgeReadout.fit"
        options = self._options(function)
        self._reset()
        features, labels = checked_rows(function, self, X, y, reset=True, least=2)
        weights = as_weights(function, sample_weight, len(labels))
        labelled = labelled_rows(function, labels, "rows")
        where = np.flatnonzero(labelled & (weights > 0))
        if not len(where):
            raise ValueError(f"{function}: sample_weight is zero for every labelled row; no class is left to learn.")
        self.classes_, codes = np.unique(labels[where], return_inverse=True)
        factors = factors_of(function, self.class_weight, self.classes_, np.bincount(codes))
        rows = ArrayRows(features, where, codes, weights[where], factors, options)
        self._solution = self._solve(function, rows)
        return self

    def fit_stream(self, batches: Iterable[Any], classes: Any = None) -> Self:
        """Fit to one pass over batches.

        Rows should come in a random order: held-out ones of each class are taken evenly from the stream, by their
        number, not their weight. How rows are cut into batches does not matter.

        Parameters
        ----------
        batches : iterable
            (features, labels), (n, features) and (n,), or (features, labels, weights). If it has an attribute `images`,
            the number of rows, progress knows the time left.
        classes : array-like, optional
            All labels there are; None: those that come, but for numbers below 0 and empty texts.

        Returns
        -------
        RidgeReadout
            Itself.

        Raises
        ------
        TypeError, ValueError
            For batches that do not match each other, and for bad parameters.
        """
        function = "RidgeReadout.fit_stream"
        options = self._options(function)
        given = factors_of_stream(function, self.class_weight)
        self._reset()
        codes = ClassCodes(function, classes)
        rows = rows_of_stream(function, batches, classes, codes, given, options)
        if rows is None:
            raise ValueError(f"{function}: no row of batches has a label, and a weight above 0; add some.")
        self.classes_ = codes.ordered()[0]
        learn_width(self, rows.features)
        require_classes(function, given, self.classes_)
        self._solution = self._solve(function, rows)
        return self

    @of_any_library
    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Self:
        """Add a batch; the first use of the classifier after it solves for the weights.

        After fit or fit_stream, which keep no sums to add to, it starts anew. Between batches, alphas may be set:
        others to choose from, or a single one.

        Parameters
        ----------
        X : (n, features)
            Numbers.
        y : (n,)
            Labels.
        classes : array-like, optional
            All labels there are, in the first call; None: those that come, but for numbers below 0 and empty texts.
        sample_weight : (n,), optional
            Weights of the rows, not below 0.

        Returns
        -------
        RidgeReadout
            Itself.

        Raises
        ------
        ValueError, TypeError
            For a bad batch or parameters, for one that was set since the first batch and would have no effect, and for
            so many features that `memory` has no room for their sums.
        """
        function = "RidgeReadout.partial_fit"
        options = self._options(function)
        given = factors_of_stream(function, self.class_weight)
        rows: StreamRows | None = getattr(self, "_rows", None)
        if rows is not None:
            require_unchanged(function, "sum of rows", getattr(self, "_made_with", {}), self.get_params())
        features, labels = checked_rows(function, self, X, y, reset=rows is None, least=1)
        weights = as_weights(function, sample_weight, len(labels))
        if rows is None:
            if classes is not None:
                require_classes(function, given, np.asarray(classes))
            rows = StreamRows(function, features, ClassCodes(function, classes), given, options, keep=True)
            others = {name: value for name, value in self.get_params().items() if name != "alphas"}
            self._made_with = {**others, "class_weight": copy.copy(self.class_weight)}
        elif classes is not None and not np.array_equal(np.sort(classes), self.classes_):
            raise ValueError(f"{function}: classes must stay those of the first call, {self.classes_}, got {classes}.")
        labelled = has_label(labels) | rows.codes.lists(labels)
        tell_left_out(function, int(labelled.sum()), len(labels), "rows", "list it in classes")
        for part in taken(features, labels, weights, labelled & (weights > 0)):
            rows.add(*part)
        self._rows, self._solution, self.classes_ = rows, None, rows.codes.ordered()[0]
        return self

    @of_any_library
    def decision_function(self, X: Any) -> Array:
        """Return the score of each class (n, classes), or of the second of two (n,), on the device of X."""
        solution = self._solved()
        features = checked_features("RidgeReadout.decision_function", self, X)
        backend.same_device("RidgeReadout.decision_function", "features", features, "weights", solution.coef)
        scores = scores_of(features, solution.coef, solution.intercept)
        return scores[:, 0] if len(solution.coef) == 1 else scores

    @of_any_library
    def predict(self, X: Any) -> Labels:
        """Return the most likely labels (n,), NumPy; of equal scores the first class."""
        scores = self.decision_function(X)  # first: it knows whether there is a fit
        predicted: Labels = self.classes_[winners(scores)]
        return predicted

    @available_if(_chooses)  # type: ignore[untyped-decorator]
    @of_any_library
    def predict_proba(self, X: Any) -> Array:
        """Return the probability of each class (n, classes), on the device of X: the softmax of scores times a factor.

        The factor makes the labels of rows most likely under the scores of fits without these rows, so there must be
        several alphas to choose from; with a single one no row is held or left out, and there is no such method.
        """
        scores = self.decision_function(X)
        factor = self._solved().sharpness
        if factor is None:
            raise ValueError("RidgeReadout.predict_proba: it was fitted with a single alpha; fit it again.")
        return probabilities(scores_of_classes(scores), factor)

    @of_any_library
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
        return labelled_accuracy(function, labels, predicted, labelled, sample_weight)

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
        tags.array_api_support = True
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
        """What each of alphas was chosen by; None if there was nothing to choose."""
        return self._solved().scores

    def _solved(self) -> Solution:
        check_is_fitted(self, "classes_")
        solution = self._solution
        if solution is None:
            with _solving:  # whichever thread comes first; the others find its solution
                solution = self._solution = self._solution or self._solve("RidgeReadout.partial_fit", self._rows)
        return solution

    def _reset(self) -> None:
        """Forget an earlier fit, so that its sums do not take memory beside the new ones."""
        for name in ("classes_", "_rows", "_solution", "_made_with"):
            self.__dict__.pop(name, None)

    def _options(self, function: str) -> Options:
        choice = choice_of(function, self.validation_fraction, self.alphas)
        random = check_random_state(self.random_state)
        room = Room.checked(function, self.memory, self.folder, self.progress)
        return Options.checked(function, self.fit_intercept, self.standardize, choice, random, room)

    @faint_is_zero
    def _solve(self, function: str, rows: Rows) -> Solution:
        if len(self.classes_) < 2:
            only = f" ({self.classes_.tolist()[0]!r})" if len(self.classes_) else ""
            raise ValueError(
                f"{function}: labels must have at least 2 classes, got {len(self.classes_)} class{only}; add rows of "
                "others. Numbers below 0 and empty texts mean that there is no label, unless classes lists them."
            )
        return best_solution(function, rows.settled(), penalties(function, self.alphas))
