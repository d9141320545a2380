"""Accuracy, and what several seeds say about it."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from scipy.special import stdtrit
from sklearn.metrics import accuracy_score, confusion_matrix

from hebbcore import checks
from hebbcore.engine import devices
from hebbcore.engine.finite import faint_is_zero
from hebbcore.evaluation.batches import (
    Labels,
    as_features,
    as_labels,
    as_weights,
    has_label,
    require_one_kind,
    tell_left_out,
)

__all__ = ["Interval", "confusion_matrix", "mean_interval", "top_k_accuracy"]


class Interval(NamedTuple):
    """A mean and its confidence interval; prints as "76.1 ± 0.4".

    The interval is Student's, symmetric about the mean: of percentages near 0 or 100 and few runs it can reach beyond
    them, where no mean lies. It is not cut there, for its width tells how little so few runs say.

    Parameters
    ----------
    mean : float
        The runs' mean.
    half_width : float
        The interval is mean ± half_width; infinite for one run.
    """

    mean: float
    half_width: float

    def __str__(self) -> str:
        return f"{self.mean:.1f} ± {self.half_width:.1f}"


def labelled_accuracy(function: str, labels: Labels, predicted: Labels, labelled: Any, sample_weight: Any) -> float:
    """Return the accuracy on the rows that are labelled (n,), weighted if weights (n,) are given.

    Raises ValueError if there are none, TypeError if labels are texts and guesses numbers, or the other way round.
    """
    weights = as_weights(function, sample_weight, len(labels)) * labelled
    if not weights.any():
        raise ValueError(f"{function}: no row has a label, and a weight above 0.")
    require_one_kind(function, "y", labels, "the classes", predicted)
    return float(accuracy_score(labels[labelled], predicted[labelled], sample_weight=weights[labelled]))


def top_k_accuracy(scores: Any, labels: Any, k: int = 1, classes: Any = None) -> float:
    """Return the share of rows whose class is among the k largest scores; of equal scores the lower class comes first.

    scikit-learn's top_k_accuracy_score differs in ties, where it prefers the higher class, against its own predict.

    Parameters
    ----------
    scores : (n, classes)
        NumPy or CuPy, as decision_function or predict_proba give them for more than two classes.
    labels : (n,)
        Rows of numbers below 0 or empty texts that are no column's label have none and are left out.
    k : int
        At most the number of classes.
    classes : (classes,), optional
        Labels of the columns, as an estimator's classes_; None: 0, 1, ….

    Returns
    -------
    float
        Between 0 and 1.

    Raises
    ------
    ValueError, TypeError
        For arguments that do not match each other, a label without a column, or no label.
    """
    function = "top_k_accuracy"
    array = devices.to_device(as_features(function, "scores", scores), "cpu")
    truth = as_labels(function, "labels", labels, len(array), "scores")
    columns = array.shape[1]
    k = checks.integer(function, "k", k, 1)
    if k > columns:
        raise ValueError(f"{function}: k must be at most the number of classes ({columns}), got {k}.")
    names = np.arange(columns) if classes is None else np.asarray(classes)
    if names.shape != (columns,):
        raise ValueError(f"{function}: classes must name the {columns} columns of scores, got shape {names.shape}.")
    labelled = has_label(truth) | np.isin(truth, names)
    tell_left_out(function, int(labelled.sum()), len(truth), "rows", "name it among the classes")
    if not labelled.any():
        raise ValueError(f"{function}: no row has a label: all {len(truth)} are below 0 or empty.")
    array, truth = array[labelled], truth[labelled]
    order = np.argsort(names)
    own_columns = order[np.minimum(np.searchsorted(names, truth, sorter=order), columns - 1)]
    if not np.array_equal(names[own_columns], truth):
        missing = truth[names[own_columns] != truth][:1]
        raise ValueError(
            f"{function}: label {missing.item()!r} has no column of scores; pass the estimator's classes_ as classes=, "
            "and score labels that it was fitted to."
        )
    own = array[np.arange(len(array)), own_columns][:, None]
    lower = np.arange(columns) < own_columns[:, None]
    before = ((array > own) | ((array == own) & lower)).sum(axis=1)
    return float((before < k).mean())


@faint_is_zero
def mean_interval(values: Iterable[float], confidence: float = 0.95) -> Interval:
    """Return the mean of independent runs and the half width of Student's t interval around it.

    Parameters
    ----------
    values : iterable of float
        One figure for each seed. A single one says nothing of the spread: its half width is infinite.
    confidence : float
        Probability that such an interval holds the true mean, if the figures are normally distributed.

    Returns
    -------
    Interval
        Mean and half width, in the unit of the values.

    Raises
    ------
    ValueError, TypeError
        For no values, or any that is no finite number.
    """
    function = "mean_interval"
    figures = np.array([checks.real(function, "values", value) for value in values])
    if not len(figures):
        raise ValueError(f"{function}: values must hold at least one figure, got none.")
    if not 0 < checks.real(function, "confidence", confidence) < 1:
        raise ValueError(f"{function}: confidence must be between 0 and 1, got {confidence}.")
    if len(figures) == 1:
        return Interval(float(figures[0]), float("inf"))
    error = figures.std(ddof=1) / len(figures) ** 0.5
    return Interval(float(figures.mean()), float(stdtrit(len(figures) - 1, (1 + confidence) / 2) * error))
