"""Guesses: the likeliest class of each image, how sure it is, and the second choice."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Guesses:
    """The guesses of n images.

    Parameters
    ----------
    first : array (n,), int
        The likeliest class.
    confidence : array (n,), float
        Its probability.
    second : array (n,), int
        The class that comes after it.
    """

    first: Ints
    confidence: Floats
    second: Ints

    @classmethod
    def of(cls, probabilities: Any, labels: Ints | None = None) -> Self:
        """Return the guesses of probabilities (n, classes).

        labels: (n,) the labels that are known, which come first whatever the probabilities say; -1 for none.
        """
        ranked = np.array(probabilities, np.float64)
        rows = np.arange(len(ranked))
        first = ranked.argmax(axis=1)
        if labels is not None:
            first = np.where(labels >= 0, labels, first)
        confidence = ranked[rows, first]
        ranked[rows, first] = -1
        return cls(first, confidence, ranked.argmax(axis=1))

    def rows(self, names: Sequence[str], classes: Sequence[str]) -> "list[tuple[str, str, float, str]]":
        """Return (file, label, confidence, second choice) of every image."""
        return [
            (name, classes[first], float(confidence), classes[second])
            for name, first, confidence, second in zip(names, self.first, self.confidence, self.second, strict=True)
        ]
