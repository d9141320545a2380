"""Classifiers on frozen features, by name or by object, each choosing its penalty within the labelled rows."""

import hashlib
import re
import sys
from typing import Any

import numpy as np
from sklearn.base import clone, is_classifier

from hebbcore import checks
from hebbcore.evaluation.readouts.base import Readout, ValidationSplit, held_parts
from hebbcore.evaluation.readouts.knn import KNN
from hebbcore.evaluation.readouts.logistic import LOGISTIC
from hebbcore.evaluation.readouts.ridge import RIDGE
from hebbcore.evaluation.readouts.sgd import SGD, sgd_stream
from hebbcore.evaluation.readouts.svm import SVM
from hebbcore.evaluation.ridge.readout import ALPHAS, RidgeReadout

__all__ = ["KINDS", "READOUTS", "Readout", "ValidationSplit", "make_readout", "sgd_stream", "why_unfit"]

KINDS: dict[str, Readout] = {
    "ridge": RIDGE,
    "logistic": LOGISTIC,
    "svm": SVM,
    "sgd": SGD,
    "knn": KNN,
}
READOUTS = tuple(KINDS)
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")  # of a function in memory


def make_readout(readout: Any, seed: int = 0) -> Any:
    """Return a new scikit-learn classifier for features (n, features).

    Parameters
    ----------
    readout : str or classifier
        "ridge" (RidgeReadout), "logistic", "svm" (LinearSVC), "sgd" (linear SVM by stochastic gradient descent), "knn"
        (Euclidean): each divides features by their standard deviations and chooses its penalty, or number of
        neighbours, within the rows that it is fitted to, see RidgeReadout and ValidationSplit. Of those that are right
        as often "logistic" and "svm" take the largest penalty, "sgd" the smallest, "knn" the fewest neighbours. Or any
        scikit-learn classifier: an unfitted clone.
    seed : int
        Every random_state; in a clone those that are None.

    Returns
    -------
    classifier
        Unfitted.

    Raises
    ------
    ValueError
        For an unknown name.
    TypeError
        For an object that is no classifier.
    """
    function = "make_readout"
    seed = checks.integer(function, "seed", seed, 0)
    if not isinstance(readout, str):
        return _seeded_clone(function, readout, seed)
    return KINDS[checks.choice(function, "readout", readout, KINDS)].make(seed)


def few_labels(readout: Any) -> int:
    """Return up to how many labels all of them are left out in turn to choose the readout's penalty.

    Parameters
    ----------
    readout : str or classifier
        What make_readout takes.

    Returns
    -------
    int
        0 for a classifier of one's own, unless it is or holds a RidgeReadout (a pipeline, a search).
    """
    return KINDS[readout].few if isinstance(readout, str) else RIDGE.few * bool(_ridges(readout))


def chooses_finely(readout: Any) -> bool:
    """Return whether a readout, which make_readout takes, chooses among the penalties of RidgeReadout's own list."""
    made = KINDS[readout].make(0) if isinstance(readout, str) else readout
    return any(isinstance(ridge.alphas, tuple) and ridge.alphas == ALPHAS for ridge in _ridges(made))


def _ridges(readout: Any) -> list[RidgeReadout]:
    """Return the RidgeReadouts that a classifier is or holds (a pipeline, a search)."""
    parts = [readout, *readout.get_params().values()] if hasattr(readout, "get_params") else [readout]
    return [part for part in parts if isinstance(part, RidgeReadout)]


def described(readout: Any) -> str:
    """Return a readout, which make_readout takes, as text that tells it from others, the same in each process.

    scikit-learn leaves out the middle of long texts, lists and arrays: then a digest of all parameters follows.
    """
    text = _ADDRESS.sub("", str(readout))
    if isinstance(readout, str) or "..." not in text:
        return text
    with np.printoptions(threshold=sys.maxsize):
        parameters = {
            name: type(value).__name__ if hasattr(value, "get_params") else repr(value)  # its own follow, one by one
            for name, value in sorted(readout.get_params().items())
        }
    whole = _ADDRESS.sub("", repr(parameters))
    return f"{text} ({hashlib.blake2b(whole.encode(), digest_size=8).hexdigest()})"


def why_unfit(readout: Any, labels: Any) -> str:
    """Return why a readout cannot be fitted to rows of these labels.

    Parameters
    ----------
    readout : str or classifier
        What make_readout takes; a classifier of one's own needs no more than two classes.
    labels : (n,)
        The labels of the rows.

    Returns
    -------
    str
        The reason, such as "all of one class"; "" if it can be fitted.
    """
    _, codes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    if len(counts) < 2:
        return "all of one class" if len(counts) else "none"
    if not isinstance(readout, str):
        return ""
    kind = KINDS[readout]
    if kind.singly and len(codes) <= kind.few:
        return ""
    if counts.max() < 2:
        return "no class has two, of which one is held out to choose the readout's penalty"
    held = max(part.sum() for part in held_parts(codes, None, 0))
    if len(codes) - held < kind.least:
        return f"{readout} needs {kind.least} besides those held out {kind.reason}"
    return ""


def _seeded_clone(function: str, estimator: Any, seed: int) -> Any:
    if isinstance(estimator, type) or not hasattr(estimator, "__sklearn_tags__") or not is_classifier(estimator):
        raise TypeError(
            f"{function}: readout must be a scikit-learn classifier or one of {', '.join(map(repr, KINDS))}; "
            f"got {estimator!r}."
        )
    copy = clone(estimator)
    states = [name for name in copy.get_params() if name == "random_state" or name.endswith("__random_state")]
    return copy.set_params(**{name: seed for name in states if copy.get_params()[name] is None})
