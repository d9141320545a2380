"""Classifiers on frozen features, by name or by object, each choosing its penalty within the labelled rows."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import clone, is_classifier
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from sklearn.utils import check_random_state

from hebbcore import checks
from hebbcore.engine import devices
from hebbcore.evaluation.batches import CLASS_NUMBERS, ClassCodes, Weights, labelled_batches, names_class
from hebbcore.evaluation.ridge.holdout import validation_rows
from hebbcore.evaluation.ridge.readout import RidgeReadout

VALIDATION_FRACTION = 0.2
_NEIGHBOURS = (1, 5, 20)
READOUTS = ("ridge", "logistic", "svm", "sgd", "knn")


class ValidationSplit:
    """One seeded split for scikit-learn's cv=: a fraction of each class, at least one row, is held out."""

    def __init__(self, fraction: float = VALIDATION_FRACTION, seed: int = 0) -> None:
        self.fraction, self.seed = fraction, seed

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:
        """Return 1."""
        return 1

    def split(
        self, X: Any, y: Any, groups: Any = None
    ) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
        """Yield the indices of rows that train and of rows held out.

        Raises ValueError if no class has two rows, and for rows without a label, see batches.names_class.
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


def make_readout(readout: Any, seed: int = 0) -> Any:
    """Return a new scikit-learn classifier for features (n, features).

    readout: "ridge" (RidgeReadout), "logistic", "svm" (LinearSVC), "sgd" (linear SVM by stochastic gradient descent),
    "knn" (Euclidean); each scales features by their deviations and chooses its penalty, or number of neighbours, on a
    fraction of the rows that it is fitted to, and of no others. Or any scikit-learn classifier: an unfitted clone.
    seed: every random_state; in a clone those that are None.

    Raises ValueError for an unknown name, TypeError for an object that is no classifier.
    """
    function = "make_readout"
    seed = checks.integer(function, "seed", seed, 0)
    if not isinstance(readout, str):
        return _seeded_clone(function, readout, seed)
    checks.choice(function, "readout", readout, READOUTS)
    if readout == "ridge":
        return RidgeReadout(standardize=True, validation_fraction=VALIDATION_FRACTION, random_state=seed)
    models: dict[str, tuple[Any, dict[str, Any]]] = {
        "logistic": (LogisticRegression(max_iter=1000), {"C": np.logspace(-4, 1, 6)}),
        "svm": (LinearSVC(dual="auto", random_state=seed), {"C": np.logspace(-5, 0, 6)}),
        "sgd": (SGDClassifier(random_state=seed), {"alpha": np.logspace(-5, 0, 6)}),
        "knn": (KNeighborsClassifier(), {"n_neighbors": list(_NEIGHBOURS)}),
    }
    model, grid = models[readout]
    pipeline = Pipeline([("scaler", StandardScaler()), ("classifier", model)])
    choices = {f"classifier__{name}": values for name, values in grid.items()}
    return GridSearchCV(pipeline, choices, cv=ValidationSplit(seed=seed), error_score="raise")


def why_unfit(readout: Any, labels: Any) -> str:
    """Return why a readout, as of make_readout, cannot be fitted to rows of these labels (n,); "" if it can."""
    _, codes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    if len(counts) < 2:
        return "all of one class" if len(counts) else "none"
    if not isinstance(readout, str):
        return ""
    if counts.max() < 2:
        return "no class has two, of which one is held out to choose the readout's penalty"
    held = validation_rows(codes, VALIDATION_FRACTION, check_random_state(0)).sum()
    if readout == "knn" and len(codes) - held < max(_NEIGHBOURS):
        return f"knn needs {max(_NEIGHBOURS)} besides those held out to choose the number of neighbours"
    return ""


def sgd_stream(
    batches: Iterable[Any], *, epochs: int = 1, alpha: float = 1e-4, classes: Any = None, seed: int = 0
) -> Pipeline:
    """Return a linear SVM trained by stochastic gradient descent on a stream that does not fit in memory.

    batches: re-iterable of (features, labels), (n, features) and (n,), or (features, labels, weights): read once for
    the features' means and deviations and for the classes, then once an epoch. Rows should come shuffled: each is one
    step.
    alpha: penalty of scikit-learn's SGDClassifier. classes: all labels there are; None: those that come, but for
    numbers below 0, which mean that there is no label: such rows are left out, and the log says how many.

    Returns a fitted Pipeline of StandardScaler and SGDClassifier.
    Raises ValueError or TypeError for batches that do not fit each other, or that can be read only once.
    """
    function = "sgd_stream"
    epochs = checks.integer(function, "epochs", epochs, 1)
    alpha = checks.positive(function, "alpha", alpha)
    if isinstance(batches, Iterator):
        raise ValueError(
            f"{function}: batches is an iterator, which can be read once, but {epochs + 1} passes are needed; pass "
            "something that can be iterated again (a list or a stream)."
        )
    codes, scaler = ClassCodes(function, classes), StandardScaler()
    features = None
    for rows, labels, weights in labelled_batches(function, batches, classes=classes):
        with np.errstate(invalid="ignore"):  # of a constant feature, whose weighted variance rounding makes negative
            scaler.partial_fit(devices.to_device(rows, "cpu"), sample_weight=_unless_ones(weights))
        codes.encode(labels)
        features = rows.shape[1]
    names = codes.ordered()[0]
    if len(names) < 2:
        listed = ", ".join(map(repr, names.tolist()))
        raise ValueError(
            f"{function}: labels must have at least 2 classes, got {len(names)} ({listed}); "
            "add rows of others. Numbers below 0 mean that there is no label, unless classes lists them."
        )
    model = SGDClassifier(alpha=alpha, random_state=seed)
    for _ in range(epochs):
        for rows, labels, weights in labelled_batches(function, batches, features, classes):
            scaled = scaler.transform(devices.to_device(rows, "cpu"))
            model.partial_fit(scaled, labels, classes=names, sample_weight=_unless_ones(weights))
    return Pipeline([("scaler", scaler), ("classifier", model)])


def _unless_ones(weights: Weights) -> Weights | None:
    """Return weights, None if all are one: scikit-learn's sums without weights are those of earlier versions."""
    return None if (weights == 1).all() else weights


def _seeded_clone(function: str, estimator: Any, seed: int) -> Any:
    if isinstance(estimator, type) or not hasattr(estimator, "__sklearn_tags__") or not is_classifier(estimator):
        raise TypeError(
            f"{function}: readout must be a scikit-learn classifier or one of {', '.join(map(repr, READOUTS))}; "
            f"got {estimator!r}."
        )
    copy = clone(estimator)
    states = [name for name in copy.get_params() if name == "random_state" or name.endswith("__random_state")]
    return copy.set_params(**{name: seed for name in states if copy.get_params()[name] is None})
