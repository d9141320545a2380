"""The labelled rows of a ridge fit, as an array or as what came in batches: those that train and those held out."""

import copy
from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

import numpy as np

from hebbcore.engine import backend
from hebbcore.engine.backend import Array
from hebbcore.evaluation.batches import ClassCodes, Codes, Labels, Weights
from hebbcore.evaluation.ridge.holdout import StreamHoldout, counts_units, units_held, validation_rows
from hebbcore.evaluation.ridge.sums import ClassSums
from hebbcore.evaluation.ridge.systems import RowsSystem, SumsSystem, System

_BLOCK_BYTES = 32 * 2**20


class Options(NamedTuple):
    """centred: fit an intercept. held: fraction of each class to hold out, 0: none. random: draws the rows."""

    centred: bool
    standardize: bool
    held: float
    random: np.random.RandomState


class Rows(Protocol):
    """Rows of classes 0, 1, … in sorted order. Ask for training() before everything(), which joins the two parts."""

    def held(self) -> Iterator[tuple[Array, Codes, Weights]]:
        """Yield the held-out rows, their classes and weights, in parts."""

    def training(self) -> System:
        """Return the system of the rows that are not held out."""

    def everything(self) -> System:
        """Return the system of all rows."""


def row_blocks(features: Array, columns: int = 0) -> Iterator[slice]:
    """Cut rows into blocks that take a bounded memory in float64; columns: of what is made of them."""
    step = max(1, _BLOCK_BYTES // (8 * max(columns, features.shape[1])))
    return (slice(start, start + step) for start in range(0, len(features), step))


class ArrayRows:
    """Rows `where` (n,) of an array, of classes codes (n,) and weights (n,) above 0.

    factors: (classes,) by which the weights of each class's rows are multiplied.
    """

    def __init__(
        self, features: Array, where: Codes, codes: Codes, weights: Weights, factors: Weights, options: Options
    ) -> None:
        self._features, self._where, self._codes, self._options = features, where, codes, options
        self._classes = len(factors)
        held = self._held_of(weights) if options.held else np.zeros(len(codes))
        factor = factors[codes]
        self._held, self._rest, self._all = held * factor, (weights - held) * factor, weights * factor
        self._sums: ClassSums | None = None

    def held(self) -> Iterator[tuple[Array, Codes, Weights]]:
        """See Rows."""
        return self._parts(self._held)

    def training(self) -> System:
        """See Rows."""
        return self._system(self._rest, self._rest)

    def everything(self) -> System:
        """See Rows."""
        return self._system(self._all, self._all if self._sums is None else self._held)

    def _held_of(self, weights: Weights) -> Weights:
        fraction, random = self._options.held, self._options.random
        if counts_units(self._features, self._where, self._codes, weights):
            return units_held(self._features, self._where, self._codes, weights, fraction, random)
        return weights * validation_rows(self._codes, fraction, random)

    def _system(self, weights: Weights, new: Weights) -> System:
        """Return the system of rows of these weights (n,); new: what of them is not in the sums yet."""
        centred, standardize = self._options.centred, self._options.standardize
        if len(self._codes) < self._features.shape[1]:
            rows = np.flatnonzero(weights)
            chosen = None if len(rows) == len(self._features) else self._where[rows]
            return RowsSystem(
                self._features, chosen, self._codes[rows], weights[rows], self._classes, centred, standardize
            )
        self._sums = self._sums or ClassSums(self._features, centred)
        for part in self._parts(new):
            self._sums.add(*part)
        return SumsSystem(self._sums, np.arange(self._classes), centred, standardize)

    def _parts(self, weights: Weights) -> Iterator[tuple[Array, Codes, Weights]]:
        xp, rows = backend.namespace(self._features), np.flatnonzero(weights)
        for block in row_blocks(self._features[: len(rows)]):
            some = rows[block]
            yield self._features[xp.asarray(self._where[some])], self._codes[some], weights[some]


class StreamRows:
    """Rows that came in batches. keep: more may come after everything(), which then costs a copy of the sums.

    factors: by which the weights of rows with these labels are multiplied.
    """

    def __init__(
        self, first: Array, codes: ClassCodes, factors: dict[Any, float], options: Options, keep: bool
    ) -> None:
        self.codes, self._factors, self._options, self._keep = codes, factors, options, keep
        self._sums = ClassSums(first, options.centred)
        self._holdout = StreamHoldout(first, options.held, options.random) if options.held else None

    def add(self, features: Array, labels: Labels, weights: Weights) -> None:
        """Add a batch, (n, features), (n,) and (n,)."""
        codes = self.codes.encode(labels)
        if self._factors:
            weights = weights * [self._factors.get(label, 1.0) for label in labels.tolist()]
        if self._holdout is not None:
            features, codes, weights = self._holdout.split(features, codes, weights)
        self._sums.add(features, codes, weights)

    def held(self) -> Iterator[tuple[Array, Codes, Weights]]:
        """See Rows."""
        sorted_codes = np.argsort(self.codes.ordered()[1])
        for features, codes, weights in self._holdout.rows() if self._holdout is not None else []:
            yield features, sorted_codes[codes], weights

    def training(self) -> System:
        """See Rows."""
        return self._system(self._sums)

    def everything(self) -> System:
        """See Rows."""
        sums: Any = copy.deepcopy(self._sums) if self._keep else self._sums
        for part in self._holdout.rows() if self._holdout is not None else []:
            sums.add(*part)
        return self._system(sums)

    def _system(self, sums: ClassSums) -> System:
        return SumsSystem(sums, self.codes.ordered()[1], self._options.centred, self._options.standardize)
