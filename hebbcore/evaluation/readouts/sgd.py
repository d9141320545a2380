"""Readout "sgd": a linear support vector machine by stochastic gradient descent, for arrays and for streams."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from sklearn.linear_model import SGDClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from hebbcore import checks
from hebbcore.engine import devices
from hebbcore.engine.finite import faint_is_zero
from hebbcore.evaluation.batches import ClassCodes, Weights, labelled_batches
from hebbcore.evaluation.readouts.base import Readout, searched

SGD = Readout(lambda seed: searched(SGDClassifier(random_state=seed), seed, alpha=np.logspace(-5, 0, 6)))


@faint_is_zero
def sgd_stream(
    batches: Iterable[Any], *, epochs: int = 1, alpha: float = 1e-4, classes: Any = None, seed: int = 0
) -> Pipeline:
    """Return a linear SVM trained by stochastic gradient descent on a stream, for which memory has no room.

    Parameters
    ----------
    batches : re-iterable
        (features, labels), (n, features) and (n,), or (features, labels, weights): read once for the features' means
        and standard deviations and for the classes, then once an epoch. Rows should come shuffled: each is one step.
    epochs : int
        Passes that train.
    alpha : float
        Penalty of scikit-learn's SGDClassifier.
    classes : array-like, optional
        All labels there are; None: those that come, but for numbers below 0 and empty texts, which mean that there is
        no label: such rows are left out, and the log says how many.
    seed : int
        random_state of SGDClassifier.

    Returns
    -------
    sklearn.pipeline.Pipeline
        StandardScaler and SGDClassifier, fitted.

    Raises
    ------
    ValueError, TypeError
        For batches that do not match each other, or that can be read only once.
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
            "add rows of others. Numbers below 0 and empty texts are no label, unless classes lists them."
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
