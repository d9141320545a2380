"""Training data as epochs of batches: shuffled slices of an array, or whatever an iterable yields."""

from collections.abc import Iterable, Iterator, Sized
from typing import Any, Protocol

import numpy as np

from hebbcore import backend
from hebbcore.backend import Array
from hebbcore.patches import as_images

_CHECK_BYTES = 16 * 2**20


class Batches(Protocol):
    """Something that gives the batches of an epoch."""

    checked: bool  # the data are known to be finite, or need not be

    def images(self, first: Array) -> int | None:
        """Return about how many images an epoch has, given its first batch; None if that is unknown."""

    def epoch(self, number: int) -> Iterator[Array]:
        """Return the batches of an epoch, each (n, H, W, C) or (n, features)."""


class ArrayBatches:
    """Batches of an array, in a new random order each epoch or in order."""

    def __init__(self, array: Array, batch_size: int, generator: np.random.Generator | None) -> None:
        self.array, self.batch_size, self.generator = array, batch_size, generator
        self.checked = True

    def images(self, first: Array) -> int | None:
        """See Batches."""
        return len(self.array)

    def epoch(self, number: int) -> Iterator[Array]:
        """See Batches."""
        order = None if self.generator is None else self.generator.permutation(len(self.array))
        for start in range(0, len(self.array), self.batch_size):
            if order is None:
                yield self.array[start : start + self.batch_size]
            else:
                chosen = order[start : start + self.batch_size]
                yield self.array[backend.to_device(chosen, backend.device_of(self.array))]


class IterableBatches:
    """Batches that an iterable yields: arrays, or (images, labels) pairs whose labels are left out."""

    def __init__(self, function: str, source: Iterable[Any], check: bool) -> None:
        self.function, self.source, self.checked = function, source, not check

    def images(self, first: Array) -> int | None:
        """See Batches."""
        return len(self.source) * len(first) if isinstance(self.source, Sized) else None

    def epoch(self, number: int) -> Iterator[Array]:
        """See Batches."""
        empty = True
        for batch in self.source:
            empty = False
            yield batch[0] if isinstance(batch, tuple) and batch else batch
        if empty:
            again = "; it can be iterated once only" if number else ""
            raise ValueError(f"{self.function}: data gave no batch in epoch {number + 1}{again}.")


def is_array(data: Any) -> bool:
    """Return True for arrays and objects that convert to one without iterating."""
    names = ("__array__", "__dlpack__", "__cuda_array_interface__")
    return isinstance(data, np.ndarray) or any(hasattr(data, name) for name in names)


def as_batches(
    function: str, data: Any, batch_size: int, generator: np.random.Generator | None, epochs: int, check: bool
) -> Batches:
    """Return batches for an array, anything convertible to one, or a re-iterable of such batches.

    generator: shuffles arrays; None keeps their order. check: raise ValueError for NaN or infinity in an array.
    """
    if is_array(data):
        array = backend.as_array(function, "data", data)
        as_images(function, "data", array)  # checks rank, dtype and emptiness
        if check:
            require_finite(function, "data", array)
        return ArrayBatches(array, batch_size, generator)
    if not isinstance(data, Iterable) or isinstance(data, str | bytes | dict):
        raise TypeError(
            f"{function}: data must be an array (n, height, width, channels) or (n, features), or a re-iterable of "
            f"such batches; got {type(data).__name__}."
        )
    if isinstance(data, Iterator) and epochs > 1:
        raise ValueError(
            f"{function}: data is an iterator, which can be read once, but epochs is {epochs}; "
            "pass something that can be iterated again (a list or a stream), or epochs=1."
        )
    return IterableBatches(function, data, check)


def require_finite(function: str, name: str, array: Array) -> None:
    """Raise ValueError if the array holds NaN or infinity; reads it in pieces of bounded size."""
    if array.dtype.kind != "f":
        return
    xp = backend.namespace(array)
    step = max(1, int(_CHECK_BYTES // max(1, array[:1].nbytes)))
    for start in range(0, len(array), step):
        finite = xp.isfinite(array[start : start + step])
        if not bool(finite.all()):
            row = start + int(xp.argmin(finite.reshape(len(finite), -1).all(axis=1)))
            raise ValueError(
                f"{function}: {name} must be finite, but {name}[{row}] holds NaN or infinity; "
                "clean the data, or pass check_finite=False if you mean it."
            )
