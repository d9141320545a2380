"""Streams of (features, labels) batches: their checks, and codes for labels that become known on the way."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from hebbcore import backend
from hebbcore.backend import Array

Codes = npt.NDArray[np.int64]
Labels = npt.NDArray[Any]

_CHECK_BYTES = 4 * 2**20


def as_features(function: str, name: str, value: Any) -> Array:
    """Return features as a finite, non-empty (n, features) array."""
    array = backend.as_array(function, name, value)
    if array.ndim != 2 or 0 in array.shape:
        raise ValueError(
            f"{function}: {name} must be (n, features) with at least one of each, got shape {array.shape}; "
            "flatten maps with features.reshape(len(features), -1)."
        )
    if array.dtype.kind == "f":
        step = max(1, _CHECK_BYTES // (array.shape[1] * array.itemsize))
        for start in range(0, len(array), step):
            finite = backend.namespace(array).isfinite(array[start : start + step]).all(axis=1)
            if not bool(finite.all()):
                row = start + int(finite.argmin())
                raise ValueError(f"{function}: {name} must be finite, but {name}[{row}] is not; clean it.")
    return array


def as_labels(function: str, name: str, value: Any, count: int, of: str) -> Labels:
    """Return class labels (count,) on the host: integers, booleans, text, or floats that are whole."""
    labels = np.asarray(backend.to_device(value, "cpu") if backend.on_cuda(value) else value)
    if labels.shape != (count,):
        raise ValueError(
            f"{function}: {name} must have one label for each of the {count} rows of {of}, got shape {labels.shape}."
        )
    if labels.dtype.kind == "f" and not np.array_equal(labels, np.floor(labels)):
        raise ValueError(
            f"{function}: Unknown label type: {name} must be classes, got fractions or NaN ({labels.dtype})."
        )
    if labels.dtype.kind not in "biufUSO":
        raise TypeError(f"{function}: {name} must be integers or text, got {labels.dtype}.")
    return labels


def labelled_batches(function: str, batches: Any, features: int | None = None) -> Iterator[tuple[Array, Labels]]:
    """Yield the checked (features, labels) batches of an iterable.

    features: expected columns; None: those of the first batch.
    Raises TypeError or ValueError for what is no such batch, and if there is none.
    """
    if not isinstance(batches, Iterable) or isinstance(batches, np.ndarray | str | bytes | dict):
        raise TypeError(
            f"{function}: batches must be an iterable of (features, labels) pairs, got {type(batches).__name__}; "
            "wrap a single batch as [(features, labels)]."
        )
    number = -1
    for number, batch in enumerate(batches):
        if not isinstance(batch, tuple | list) or len(batch) != 2:
            raise TypeError(
                f"{function}: batches must yield (features, labels) pairs, but batch {number} is "
                f"{type(batch).__name__}{f' of length {len(batch)}' if isinstance(batch, tuple | list) else ''}."
            )
        rows = as_features(function, "features", batch[0])
        if features is not None and rows.shape[1] != features:
            raise ValueError(
                f"{function}: batch {number} has {rows.shape[1]} features, but {features} were expected "
                "from the batches before it; pass features of one layer."
            )
        features = rows.shape[1]
        yield rows, as_labels(function, "labels", batch[1], len(rows), "features")
    if number < 0:
        raise ValueError(f"{function}: batches gave no batch; pass something that can be iterated again, not used up.")


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

    def encode(self, labels: Labels) -> Codes:
        """Return the codes of labels (n,). Raises ValueError for one that is not among the classes given."""
        unique, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
        names = unique.tolist()
        for place in np.argsort(first):  # in order of appearance: codes must not depend on how a stream is cut
            if names[place] not in self._codes:
                if self._fixed:
                    raise ValueError(
                        f"{self._function}: label {names[place]!r} is not among the {len(self)} classes given "
                        "as classes=; list all of them, or leave classes out."
                    )
                self._codes[names[place]] = len(self._codes)
        return np.array([self._codes[name] for name in names], np.int64)[inverse]

    def ordered(self) -> tuple[Labels, Codes]:
        """Return the classes in sorted order, and the code of each."""
        labels = np.array(list(self._codes))
        order = np.argsort(labels)
        return labels[order], order.astype(np.int64)
