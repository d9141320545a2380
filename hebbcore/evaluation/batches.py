"""Streams of (features, labels) batches: their checks, and codes for labels that become known on the way."""

import logging
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from hebbcore.engine import backend, devices
from hebbcore.engine.backend import Array
from hebbcore.engine.finite import first_not_finite
from hebbcore.engine.frames import missing, of_numpy_types

Codes = npt.NDArray[np.int64]
Labels = npt.NDArray[Any]
Weights = npt.NDArray[np.float64]

CLASS_NUMBERS = "number the classes from 0"
_GAPS_AS_TEXTS = ("-1", "nan", "None", "<NA>")

_log = logging.getLogger("hebbcore")


def as_features(function: str, name: str, value: Any) -> Array:
    """Return features as a finite, non-empty (n, features) array."""
    array = backend.as_array(function, name, value)
    if array.ndim != 2 or 0 in array.shape:
        raise ValueError(
            f"{function}: {name} must be (n, features) with at least one of each, got shape {array.shape}; "
            "flatten maps with features.reshape(len(features), -1)."
        )
    row = first_not_finite(array)
    if row is not None:
        raise ValueError(f"{function}: {name} must be finite, but {name}[{row}] is not; clean it.")
    return array


def as_labels(function: str, name: str, value: Any, count: int, of: str) -> Labels:
    """Return class labels (count,) on the host: integers, booleans, text, or floats that are whole; no objects."""
    backend.require_unmasked(function, name, value)
    labels = np.asarray(
        devices.to_device(value, "cpu") if backend.on_cuda(value) else labels_given(function, name, value)
    )
    if labels.shape != (count,):
        raise ValueError(
            f"{function}: {name} must have one label for each of the {count} rows of {of}, got shape {labels.shape}."
        )
    if labels.dtype.kind == "O":
        labels = _of_one_kind(function, name, labels)
    if labels.dtype.kind == "f" and not (np.isfinite(labels) & (labels == np.floor(labels))).all():
        raise ValueError(
            f"{function}: Unknown label type: {name} must be classes, got fractions, infinity or NaN ({labels.dtype})."
        )
    if labels.dtype.kind not in "biufUS":
        raise TypeError(f"{function}: {name} must be integers or text, got {labels.dtype}.")
    return labels


def labels_given(function: str, name: str, value: Any) -> Any:
    """Return labels of pandas by NumPy's types, other things as they are. Raises ValueError if one is missing."""
    if lacking := missing(value):
        raise ValueError(
            f"{function}: {name} must be a class for each row, but {lacking} are missing (NaN, None or NA); leave "
            f"these rows out, or {CLASS_NUMBERS}, with -1 for none."
        )
    return of_numpy_types(value)


def _of_one_kind(function: str, name: str, labels: Labels) -> Labels:
    """Return labels (n,) that are objects as texts or numbers, since only numbers can be below 0, which is no label."""
    values = labels.tolist()
    for kind in (str, bytes, int | float | np.generic):
        if all(isinstance(value, kind) for value in values):
            return np.array(values)
    found = sorted({type(value).__name__ for value in values})
    raise TypeError(
        f"{function}: {name} must be all texts or all numbers, got {' and '.join(found)}; leave rows without a label "
        "out, or number the classes from 0, with -1 for none."
    )


def require_one_kind(function: str, name: str, labels: Labels, other: str, others: Labels) -> None:
    """Raise TypeError if some labels are texts and others numbers, none of which would ever be the same class."""
    if _are_texts(labels) != _are_texts(others):
        kinds = ("texts", "numbers") if _are_texts(labels) else ("numbers", "texts")
        raise TypeError(
            f"{function}: {name} are {kinds[0]}, but {other} {kinds[1]}, so that no class is in both; give both the "
            "same names of classes."
        )


def _are_texts(labels: Labels) -> bool:
    return labels.dtype.kind in "US" or any(isinstance(label, str) for label in labels[:1].tolist())


def has_label(labels: Labels) -> npt.NDArray[np.bool_]:
    """Return which of labels (n,) are classes: numbers below 0 and empty texts, also of spaces, are none."""
    if labels.dtype.kind in "US":
        return np.char.str_len(np.char.strip(labels)) > 0
    return labels >= 0 if labels.dtype.kind in "if" else np.ones(len(labels), np.bool_)


def names_class(labels: Labels) -> npt.NDArray[np.bool_]:
    """Return which of all labels (n,) of an array are classes.

    Some are none, see has_label, unless the others are fewer than two classes: −1 and 1 both are.
    """
    labelled = has_label(labels)
    return labelled if len(np.unique(labels[labelled])) > 1 else np.ones(len(labels), np.bool_)


def labelled_rows(function: str, labels: Labels, what: str) -> npt.NDArray[np.bool_]:
    """Return names_class, and tell of labels that are none, and of classes that look so. what: has the labels."""
    labelled = names_class(labels)
    tell_left_out(function, int(labelled.sum()), len(labels), what, CLASS_NUMBERS)
    tell_like_none(function, "labels", labels[labelled])
    return labelled


def tell_like_none(function: str, name: str, labels: Labels, instead: str = '"", or leave these rows out') -> None:
    """Warn of texts that are classes, but what becomes of no label where all become texts, as in an array of NumPy, and
    of classes that else are no label, see names_class, but −1 beside 1.

    name: of the argument. instead: what to give.
    """
    none = np.unique(labels[~has_label(labels)]).tolist()
    if none and np.unique(labels).tolist() != [-1, 1]:
        _log.warning(
            "%s: %s holds %s, which else is no label, as a class, since the others are fewer than two; where it means "
            "that there is no label, leave these rows out", function, name, ", ".join(map(repr, none)),
        )  # fmt: skip
    found = np.unique(labels[np.isin(labels, _GAPS_AS_TEXTS)]).tolist() if labels.dtype.kind == "U" else []
    if found:
        _log.warning(
            "%s: %s holds the texts %s, which are classes; where they mean that there is no label, give %s", function,
            name, ", ".join(map(repr, found)), instead,
        )  # fmt: skip


def tell_left_out(function: str, labelled: int, rows: int, what: str, remedy: str) -> None:
    """Say how many rows have no label, if any. remedy: how to make a class of them."""
    if labelled < rows:
        _log.warning(
            "%s: %d of %d %s are left out: their labels are below 0 or empty, which means that they have none; if "
            "that is a class, %s", function, rows - labelled, rows, what, remedy,
        )  # fmt: skip


def as_weights(function: str, value: Any, count: int) -> Weights:
    """Return weights (count,) of rows, finite and not below 0: ones for None, a number for all rows."""
    if value is None:
        return np.ones(count)
    backend.require_unmasked(function, "sample_weight", value)
    weights = np.asarray(devices.to_device(value, "cpu") if backend.on_cuda(value) else value)
    if weights.dtype.kind not in "biuf" or weights.shape not in ((), (count,)):
        raise ValueError(
            f"{function}: sample_weight must be one number for each of the {count} rows, or 1D, got shape "
            f"{weights.shape} of {weights.dtype}."
        )
    weights = np.broadcast_to(weights.astype(np.float64), (count,))
    if not (np.isfinite(weights).all() and (weights >= 0).all()):
        raise ValueError(f"{function}: sample_weight must be finite and not below 0; weight 0 leaves a row out.")
    return weights


def labelled_batches(
    function: str, batches: Any, features: int | None = None, classes: Any = None
) -> Iterator[tuple[Array, Labels, Weights]]:
    """Yield the checked (features, labels, weights) of an iterable of (features, labels[, weights]) batches.

    Rows without a label are left out, and those of weight 0. features: expected columns, of a later pass; None: those
    of the first batch of the first pass, which says at its end how many rows had no label. classes: labels that are
    classes even if they are below 0 or empty.
    Raises TypeError or ValueError for what is no such batch, and if there is no row.
    """
    if not isinstance(batches, Iterable) or isinstance(batches, np.ndarray | str | bytes | dict):
        raise TypeError(
            f"{function}: batches must be an iterable of (features, labels) pairs, got {type(batches).__name__}; "
            "wrap a single batch as [(features, labels)]."
        )
    number, first, kept, seen = -1, features is None, 0, 0
    for number, batch in enumerate(batches):
        if not isinstance(batch, tuple | list) or len(batch) not in (2, 3):
            length = f" of length {len(batch)}" if isinstance(batch, tuple | list) else ""
            raise TypeError(
                f"{function}: batches must yield (features, labels) pairs, but batch {number} is "
                f"{type(batch).__name__}{length}; weights may come third."
            )
        rows = as_features(function, "features", batch[0])
        if features is not None and rows.shape[1] != features:
            raise ValueError(
                f"{function}: batch {number} has {rows.shape[1]} features, but {features} were expected "
                "from the batches before it; pass features of one layer."
            )
        features = rows.shape[1]
        labels = as_labels(function, "labels", batch[1], len(rows), "features")
        weights = as_weights(function, batch[2] if len(batch) == 3 else None, len(rows))
        labelled = has_label(labels) if classes is None else has_label(labels) | np.isin(labels, classes)
        kept, seen = kept + int(labelled.sum()), seen + len(labelled)
        yield from taken(rows, labels, weights, labelled & (weights > 0))
    if number < 0:
        raise ValueError(f"{function}: batches gave no batch; pass something that can be iterated again, not used up.")
    if first:
        tell_left_out(function, kept, seen, "rows", "list it in classes")


def taken(
    features: Array, labels: Labels, weights: Weights, keep: npt.NDArray[np.bool_]
) -> Iterator[tuple[Array, Labels, Weights]]:
    """Yield the rows where keep is set, if there are any."""
    if keep.all():
        yield features, labels, weights
    elif keep.any():
        yield features[backend.namespace(features).asarray(np.flatnonzero(keep))], labels[keep], weights[keep]


class ClassCodes:
    """Numbers 0, 1, … for classes, in the order in which they first appear.

    classes: all classes there are, None: any that come.
    """

    def __init__(self, function: str, classes: Any = None) -> None:
        self._function, self._codes, self._fixed = function, dict[Any, int](), classes is not None
        if classes is not None:
            listed = np.asarray(classes)
            if listed.ndim != 1 or len(np.unique(listed)) != len(listed) or len(listed) < 2:
                raise ValueError(f"{function}: classes must be 2 or more different labels, got {classes!r}.")
            self._codes = {label: code for code, label in enumerate(listed.tolist())}

    def __len__(self) -> int:
        return len(self._codes)

    def lists(self, labels: Labels) -> npt.NDArray[np.bool_]:
        """Return which of labels (n,) are among the classes given."""
        return np.isin(labels, list(self._codes)) if self._fixed else np.zeros(len(labels), np.bool_)

    def encode(self, labels: Labels) -> Codes:
        """Return the codes of labels (n,).

        Raises ValueError for one that is not among the classes given, TypeError for texts after numbers.
        """
        if self._codes and not self._fixed:
            before = np.array(list(self._codes)[:1])
            require_one_kind(self._function, "labels", labels, "those of the batches before", before)
        unique, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
        names = unique.tolist()
        for i in np.argsort(first):  # in order of appearance: codes must not depend on how a stream is cut
            if names[i] not in self._codes:
                if self._fixed:
                    raise ValueError(
                        f"{self._function}: label {names[i]!r} is not among the {len(self)} classes given "
                        "as classes=; list all of them, or leave classes out."
                    )
                self._codes[names[i]] = len(self._codes)
                tell_like_none(self._function, "labels", unique[i : i + 1])
        return np.array([self._codes[name] for name in names], np.int64)[inverse]

    def ordered(self) -> tuple[Labels, Codes]:
        """Return the classes in sorted order, and the code of each."""
        labels = np.array(list(self._codes))
        order = np.argsort(labels)
        return labels[order], order.astype(np.int64)
