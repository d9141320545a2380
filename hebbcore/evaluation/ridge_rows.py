"""The labelled rows of a ridge fit, as an array or as what came in batches: those that train and those held out."""

import copy
from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

import numpy as np

from hebbcore import backend
from hebbcore.backend import Array
from hebbcore.evaluation.batches import ClassCodes, Codes, Labels
from hebbcore.evaluation.holdout import StreamHoldout, validation_rows
from hebbcore.evaluation.ridge_systems import RowsSystem, SumsSystem, System
from hebbcore.evaluation.sums import ClassSums

_BLOCK_BYTES = 32 * 2**20


class Options(NamedTuple):
    """centred: fit an intercept. held: fraction of each class to hold out, 0: none. random: draws the rows."""

    centred: bool
    standardize: bool
    held: float
    random: np.random.RandomState


class Rows(Protocol):
    """Rows of classes 0, 1, … in sorted order. Ask for training() before everything(), which joins the two parts."""

    def held(self) -> Iterator[tuple[Array, Codes]]:
        """Yield the held-out rows and their classes, in parts."""

    def training(self) -> System:
        """Return the system of the rows that are not held out."""

    def everything(self) -> System:
        """Return the system of all rows."""


def row_blocks(features: Array) -> Iterator[slice]:
    """Cut rows into blocks that take a bounded memory in float64."""
    step = max(1, _BLOCK_BYTES // (8 * features.shape[1]))
    return (slice(start, start + step) for start in range(0, len(features), step))


class ArrayRows:
    """Rows of an array (n, features) of classes codes (n,)."""

    def __init__(self, features: Array, codes: Codes, classes: int, options: Options) -> None:
        self._features, self._codes, self._classes, self._options = features, codes, classes, options
        mask = validation_rows(codes, options.held, options.random) if options.held else np.zeros(len(codes), np.bool_)
        self._held, self._rest = np.flatnonzero(mask), np.flatnonzero(~mask)
        self._sums: ClassSums | None = None

    def held(self) -> Iterator[tuple[Array, Codes]]:
        """See Rows."""
        return self._parts(self._held)

    def training(self) -> System:
        """See Rows."""
        return self._system(self._rest, self._rest)

    def everything(self) -> System:
        """See Rows."""
        return self._system(np.arange(len(self._codes)), self._held if self._sums is not None else None)

    def _system(self, rows: Codes, new: Codes | None) -> System:
        """Return the system of some rows, of which some are not in the sums yet; None: all of them."""
        centred, standardize = self._options.centred, self._options.standardize
        if len(self._features) < self._features.shape[1]:
            chosen = None if len(rows) == len(self._codes) else rows
            return RowsSystem(self._features, chosen, self._codes[rows], self._classes, centred, standardize)
        self._sums = self._sums or ClassSums(self._features, centred)
        for part, codes in self._parts(rows if new is None else new):
            self._sums.add(part, codes)
        return SumsSystem(self._sums, np.arange(self._classes), centred, standardize)

    def _parts(self, rows: Codes) -> Iterator[tuple[Array, Codes]]:
        xp = backend.namespace(self._features)
        for block in row_blocks(self._features[: len(rows)]):
            yield self._features[xp.asarray(rows[block])], self._codes[rows[block]]


class StreamRows:
    """Rows that came in batches. keep: more may come after everything(), which then costs a copy of the sums."""

    def __init__(self, first: Array, codes: ClassCodes, options: Options, keep: bool) -> None:
        self.codes, self._options, self._keep = codes, options, keep
        self._sums = ClassSums(first, options.centred)
        self._holdout = StreamHoldout(first, options.held, options.random) if options.held else None

    def add(self, features: Array, labels: Labels) -> None:
        """Add a batch, (n, features) and (n,)."""
        codes = self.codes.encode(labels)
        if self._holdout is not None:
            features, codes = self._holdout.split(features, codes)
        self._sums.add(features, codes)

    def held(self) -> Iterator[tuple[Array, Codes]]:
        """See Rows."""
        places = np.argsort(self.codes.ordered()[1])
        for features, codes in self._holdout.rows() if self._holdout is not None else []:
            yield features, places[codes]

    def training(self) -> System:
        """See Rows."""
        return self._system(self._sums)

    def everything(self) -> System:
        """See Rows."""
        sums: Any = copy.deepcopy(self._sums) if self._keep else self._sums
        for features, codes in self._holdout.rows() if self._holdout is not None else []:
            sums.add(features, codes)
        return self._system(sums)

    def _system(self, sums: ClassSums) -> System:
        return SumsSystem(sums, self.codes.ordered()[1], self._options.centred, self._options.standardize)
