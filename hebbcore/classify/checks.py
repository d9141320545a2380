"""What users give a FewLabelClassifier: labels with gaps, and shares of the classes."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.utils.validation import column_or_1d

from hebbcore import checks
from hebbcore.classify.linear import Floats
from hebbcore.classify.neighbours import Indices
from hebbcore.engine import backend, devices
from hebbcore.engine.frames import missing, of_numpy_types
from hebbcore.evaluation.batches import as_labels, has_label, tell_like_none

Labels = npt.NDArray[Any]


def labels_and_gaps(function: str, y: Any, count: int) -> tuple[Labels, npt.NDArray[np.bool_]]:
    """Return labels (count,), and which of them are labels: −1 among numbers is none, None, NaN or "" among texts.

    A missing value of a nullable column of pandas is none either. Texts that may be meant so are classes, and told.
    """
    if y is None:
        raise ValueError(f"{function}: it requires y to be passed, but the target y is None.")
    backend.require_unmasked(function, "y", y)
    labels = column_or_1d(devices.to_device(y, "cpu") if backend.on_cuda(y) else _unconverted(y), warn=True)
    if len(labels) != count:
        raise ValueError(
            f"{function}: y must have one label, or −1 or None, for each of {count} rows, got {len(labels)}."
        )
    if labels.dtype.kind == "O":
        # pandas.NA, which cannot be compared, is no label; pandas need not be installed
        labels = np.array([None if type(label).__name__ == "NAType" else label for label in labels], object)
        has_texts = any(isinstance(label, str | bytes) for label in labels)
        known = np.array([not _is_gap(label, has_texts) for label in labels], bool)
        texts = [isinstance(label, str | bytes) for label in labels[known]]
        if any(texts) and not all(texts):
            raise TypeError(f"{function}: y must be all texts or all numbers, with None or −1 for no label, got both.")
        gap = labels[known][0] if known.any() else -1  # any label, so that the others keep their type
        labels = np.array([label if has else gap for label, has in zip(labels, known, strict=True)])
    elif labels.dtype.kind in "US":
        known = has_label(labels)
    else:
        known = labels != -1 if labels.dtype.kind in "if" else np.ones(count, bool)
    if labels.dtype.kind == "f" and not np.isfinite(labels).all():
        raise ValueError(f"{function}: Input y contains infinity or NaN; −1 is no label.")
    labels = as_labels(function, "y", labels, count, "features")
    if labels.dtype.kind in "if" and labels.min() < -1:
        raise ValueError(
            f"{function}: y must be −1 for no label and numbers from 0 for classes, got {labels.min()}; number the "
            "classes from 0, or give their names."
        )
    tell_like_none(function, "y", labels[known], "None")
    return labels, known


def _unconverted(y: Any) -> Any:
    """Return as objects what would lose what is no label on the way to an array.

    Of a list of texts and numbers NumPy would make the text "-1", a class, of its −1; and scikit-learn makes NaN of a
    missing value of pandas' nullable numbers, and floats of others.
    """
    is_mixed = isinstance(y, list | tuple) and np.asarray(y).dtype.kind in "US"
    is_nullable = hasattr(getattr(y, "dtype", None), "numpy_dtype") and missing(y) > 0
    return np.array(y, object) if is_mixed or is_nullable else of_numpy_types(y)


def _is_gap(label: Any, among_texts: bool) -> bool:
    """Return whether a label is none; among texts NaN is, as pandas reads an empty cell, and so is an empty one."""
    if label is None or isinstance(label, str | bytes):
        return label is None or not label.strip()
    return bool(label == -1) or (among_texts and bool(label != label))


def class_shares(function: str, prior: Any, classes: Labels, labelled: Callable[[], Floats]) -> Floats:
    """Return the shares (classes,) that a prior means; labelled: gives those that follow from the labels.

    Raises ValueError or TypeError for a bad one.
    """
    if isinstance(prior, str):
        checks.choice(function, "prior", prior, ("labelled", "uniform"))
        return labelled() if prior == "labelled" else np.full(len(classes), 1 / len(classes))
    if isinstance(prior, Mapping):
        lacking = [label for label in classes.tolist() if label not in prior]
        if lacking:
            raise ValueError(f"{function}: prior must have a share for each class, but lacks {lacking}.")
        if without := [label for label in prior if label not in set(classes.tolist())]:
            raise ValueError(
                f"{function}: prior has shares for {without}, of which no image has a label: nothing can be guessed to "
                "be of these classes. Label one of each, or leave them out."
            )
        prior = [prior[label] for label in classes.tolist()]
    try:
        shares = np.asarray(prior, np.float64)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f'{function}: prior must be "labelled", "uniform", a dict or shares (classes,), got {prior!r}.'
        ) from error
    if shares.shape != (len(classes),) or not (np.isfinite(shares).all() and (shares > 0).all()):
        raise ValueError(
            f"{function}: prior must be {len(classes)} shares above 0, one for each of the classes {classes.tolist()}, "
            f"got {prior!r}."
        )
    return shares / math.fsum(shares)  # whatever their order


def columns(function: str, name: str, given: Any, count: int) -> Indices | None:
    """Return numbers (m,) of `count` features, or None. Raises ValueError if they are something else."""
    if given is None:
        return None
    found = np.asarray(given)
    if found.ndim != 1 or not len(found) or found.dtype.kind not in "iu" or found.min() < 0 or found.max() >= count:
        problem = f"must be None or numbers (m,) of features, from 0 to {count - 1}, got {given!r}."
        raise checks.wrong(ValueError, function, name, problem)
    return found.astype(np.int64)


def flags(function: str, skip: Any, count: int) -> npt.NDArray[np.bool_]:
    """Return `skip` as flags (count,). Raises ValueError if it is something else."""
    found = np.asarray(skip)
    if found.shape != (count,) or found.dtype != bool:
        raise ValueError(f"{function}: skip must be ({count},) of bool, got {found.shape} of {found.dtype}.")
    return found
