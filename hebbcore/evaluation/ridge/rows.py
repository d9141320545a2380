"""The labelled rows of a ridge fit, as an array or as what came in batches: those that train and those held out."""

import copy
import numbers
from collections.abc import Iterator
from functools import partial
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from hebbcore import checks
from hebbcore.engine import backend
from hebbcore.engine.backend import Array
from hebbcore.engine.finite import faint_is_zero
from hebbcore.evaluation.batches import ClassCodes, Codes, Labels, Weights, labelled_batches
from hebbcore.evaluation.ridge.holdout import StreamHoldout, counts_units, units_held, validation_rows
from hebbcore.evaluation.ridge.room import Options, Room, RowFile
from hebbcore.evaluation.ridge.sums import ClassSums
from hebbcore.evaluation.ridge.systems import Part, RowsSystem, SumsSystem, System

_BLOCK_BYTES = 32 * 2**20


class Rows(Protocol):
    """Rows of classes 0, 1, … in sorted order. Ask for training() before everything(), which joins the two parts."""

    def settled(self) -> "Rows":
        """Return the rows, of which no more come for now, in the form of which the rest is asked."""

    def singly(self) -> tuple[Codes, Weights, Weights] | None:
        """Return the rows' classes and weights, and how much of the latter is one row, if each is left out in turn."""

    def held(self) -> Iterator[Part]:
        """Yield the held-out rows, their classes and weights, in parts."""

    @property
    def room(self) -> Room:
        """What the fit may hold in memory."""

    def training(self) -> System:
        """Return the system of the rows that are not held out."""

    def everything(self) -> System:
        """Return the system of all rows."""


def row_blocks(features: Array, columns: int = 0, most: int = _BLOCK_BYTES) -> Iterator[slice]:
    """Cut rows into blocks that take a bounded memory in float64, at most so many bytes.

    columns: of what is made of them.
    """
    step = max(1, min(_BLOCK_BYTES, most) // (8 * max(columns, features.shape[1])))
    return (slice(start, start + step) for start in range(0, len(features), step))


def fit_block(numbers: int) -> bool:
    """Return True if so many numbers of float64 take no more memory than a block of rows."""
    return 8 * numbers <= _BLOCK_BYTES


def _count_of(weights: Weights) -> float:
    """Return for how many rows some of these weights (n,) count: a weight above 1 is so many, as if repeated."""
    return float(np.maximum(weights, 1).sum())


class ArrayRows:
    """Rows `where` (n,) of an array, of classes codes (n,) and weights (n,) above 0.

    factors: (classes,) by which the weights of each class's rows are multiplied.
    """

    @faint_is_zero
    def __init__(
        self, features: Array, where: Codes, codes: Codes, weights: Weights, factors: Weights, options: Options
    ) -> None:
        self._features, self._where, self._codes, self._options = features, where, codes, options
        self._classes = len(factors)
        whole, rows = bool((weights == np.floor(weights)).all()), _count_of(weights)
        held = self._held_of(weights, options.choice.held(rows)) if options.choice.held(rows) else np.zeros(len(codes))
        factor = factors[codes]
        self._held, self._rest, self._all = held * factor, (weights - held) * factor, weights * factor
        self._units = (factor if whole else self._all) if options.choice.singly(rows) else None
        self._sums: ClassSums | None = None

    @property
    def room(self) -> Room:
        """See Rows."""
        return self._options.room

    def settled(self) -> "ArrayRows":
        """See Rows."""
        return self

    def singly(self) -> tuple[Codes, Weights, Weights] | None:
        """See Rows."""
        return None if self._units is None else (self._codes, self._all, self._units)

    def held(self) -> Iterator[Part]:
        """See Rows."""
        return self._parts(self._held)

    def training(self) -> System:
        """See Rows."""
        return self._system(self._rest, self._rest)

    def everything(self) -> System:
        """See Rows."""
        return self._system(self._all, self._all if self._sums is None else self._held)

    def _held_of(self, weights: Weights, fraction: float) -> Weights:
        random = self._options.random
        if counts_units(self._features, self._where, self._codes, weights):
            return units_held(self._features, self._where, self._codes, weights, fraction, random)
        return weights * validation_rows(self._codes, fraction, random)

    def _system(self, weights: Weights, new: Weights) -> System:
        """Return the system of rows of these weights (n,); new: what of them is not in the sums yet."""
        options = self._options
        if len(self._codes) < self._features.shape[1]:
            rows = np.flatnonzero(weights)
            chosen = None if len(rows) == len(self._features) else self._where[rows]
            return RowsSystem(self._features, chosen, self._codes[rows], weights[rows], self._classes, options)
        self._sums = self._sums or ClassSums(self._features, options.centred, options.room)
        meter = options.room.meter("sums of rows", float(np.count_nonzero(new)), "rows")
        for features, codes, some in self._parts(new):
            self._sums.add(features, codes, some)
            meter.add(len(codes))
        parts = partial(self._parts, weights)
        return SumsSystem(
            self._sums, np.arange(self._classes), options.centred, options.standardize, options.room, parts
        )

    def _parts(self, weights: Weights) -> Iterator[Part]:
        xp, rows = backend.namespace(self._features), np.flatnonzero(weights)
        for block in row_blocks(self._features[: len(rows)], most=self.room.memory // 16):
            some = rows[block]
            yield self._features[xp.asarray(self._where[some])], self._codes[some], weights[some]


class StreamRows:
    """Rows that came in batches. keep: more may come after everything(), which then costs a copy of the sums.

    factors: by which the weights of rows with these labels are multiplied. expected: how many rows, if that is known.

    Rows that may turn out to be few are kept, see settled, as long as an eighth of the memory holds them.
    If memory has no room for a matrix features × features, the rows go to a file as long as they are no more than the
    features: then the matrix rows × rows is the smaller one. Raises ValueError if such are to be kept.
    """

    def __init__(
        self,
        function: str,
        first: Array,
        codes: ClassCodes,
        factors: dict[Any, float],
        options: Options,
        keep: bool,
        expected: int | None = None,
    ) -> None:
        self._function, self.codes, self._factors, self._options, self._keep = function, codes, factors, options, keep
        self.features: int = first.shape[1]
        self._first = first[:1].copy()
        room, features = options.room, first.shape[1]
        self._file: RowFile | None = None
        self._sums: ClassSums | None = None
        if not (backend.on_cuda(first) or room.fits(features)):
            if keep:
                raise ValueError(
                    f"{function}: the sums of {features:,} features take {checks.byte_text(8 * features**2)}, more "
                    f'than three quarters of memory="{checks.byte_text(room.memory)}"; raise it, or use fit_stream, '
                    "which keeps them on disk."
                )
            self._file = RowFile(room, features, np.result_type(first.dtype, np.float32))
        self._few: list[Part] | None = [] if options.choice.singly(0) else None
        self._count = 0.0
        self._holdout = None
        fraction = options.choice.held(np.inf)
        if fraction:
            self._holdout = StreamHoldout(first, fraction, options.random, max(_BLOCK_BYTES, room.memory // 8))
        self._meter = room.meter("rows of the stream", expected, "rows")

    @faint_is_zero
    def add(self, features: Array, labels: Labels, weights: Weights) -> None:
        """Add a batch, (n, features), (n,) and (n,)."""
        self.codes.encode(labels)
        if self._few is None:
            self._sum(features, labels, weights)
        else:
            self._keep_few(self._few, features, labels, weights)
        self._meter.add(len(labels))

    def _keep_few(self, few: list[Part], features: Array, labels: Labels, weights: Weights) -> None:
        """Keep a batch beside the others, or give up all of them, when they are no longer few."""
        few.append((features.copy(), labels.copy(), weights))
        self._count += _count_of(weights)
        kept = sum(part.nbytes for part, _, _ in few)
        if not self._options.choice.singly(self._count) or kept > self.room.memory // 8:
            self._few = None
            few.reverse()
            while few:
                self._sum(*few.pop())

    def settled(self) -> Rows:
        """See Rows: few ones are those of an array, of which each can be left out in turn."""
        if not self._few:
            return self
        features, labels, weights = zip(*self._few, strict=True)
        names, numbers = self.codes.ordered()
        codes = np.argsort(numbers)[self.codes.encode(np.concatenate(labels))]
        factors = np.array([self._factors.get(name, 1.0) for name in names.tolist()])
        together = backend.namespace(features[0]).concatenate(features)
        return ArrayRows(together, np.arange(len(codes)), codes, np.concatenate(weights), factors, self._options)

    def _sum(self, features: Array, labels: Labels, weights: Weights) -> None:
        """Give a batch to the held-out rows, and what they leave to the sums or the file."""
        codes = self.codes.encode(labels)
        if self._factors:
            weights = weights * [self._factors.get(label, 1.0) for label in labels.tolist()]
        if self._holdout is not None:
            features, codes, weights = self._holdout.split(features, codes, weights)
        if self._file is not None and self._file.count + len(codes) > features.shape[1]:
            self._sum_up(self._file)
        elif self._file is None and self._sums is None:
            self._sums = ClassSums(self._first, self._options.centred, self.room)
        to: Any = self._sums or self._file
        to.add(features, codes, weights)

    def held_of(self, codes: Codes) -> npt.NDArray[np.bool_]:
        """Return which rows (n,) would be held out, given the classes of all that come."""
        return np.zeros(len(codes), np.bool_) if self._holdout is None else self._holdout.chosen(codes)

    def take(self, sums: ClassSums, held: list[Part]) -> None:
        """Take, in the place of rows, the sums of those that train, and those that held_of has chosen."""
        self._few, self._sums = None, sums
        for part in held:
            assert self._holdout is not None
            self._holdout.keep(*part)

    def count(self, rows: int) -> None:
        """Tell of rows that are summed elsewhere."""
        self._meter.add(rows)

    @property
    def room(self) -> Room:
        """See Rows."""
        return self._options.room

    def singly(self) -> None:
        """See Rows."""

    def held(self) -> Iterator[Part]:
        """See Rows. Raises ValueError if there was one penalty when the first rows came."""
        if not self._options.choice.several:
            raise ValueError(
                f"{self._function}: alphas was set to several numbers after the first batch, when there was one, so "
                "that no rows were held out to choose by; set one number, or call fit, which begins anew."
            )
        for features, codes, weights in self._holdout.rows() if self._holdout is not None else []:
            yield features, self._sorted(codes), weights

    def training(self) -> System:
        """See Rows."""
        return self._system(self._sums)

    def everything(self) -> System:
        """See Rows."""
        sums = copy.deepcopy(self._sums) if self._keep else self._sums
        to: Any = sums or self._file
        for part in self._holdout.rows() if self._holdout is not None else []:
            to.add(*part)
        return self._system(sums)

    def _sum_up(self, file: RowFile) -> None:
        """Make sums of the rows in the file, and go on with these."""
        self._file, self._sums = None, ClassSums(self._first, self._options.centred, self.room)
        if not file.count:
            return
        features, codes, weights = file.read()
        for block in row_blocks(features, most=self.room.memory // 16):
            self._sums.add(features[block], codes[block], weights[block])

    def _sorted(self, codes: Codes) -> Codes:
        """Return the positions among the sorted classes of codes."""
        return np.argsort(self.codes.ordered()[1])[codes]

    def _system(self, sums: ClassSums | None) -> System:
        options = self._options
        if sums is not None:
            return SumsSystem(sums, self.codes.ordered()[1], options.centred, options.standardize, options.room)
        assert self._file is not None
        features, codes, weights = self._file.read()
        return RowsSystem(features, None, self._sorted(codes), weights, len(self.codes), options)


def rows_of_stream(
    function: str, batches: Any, classes: Any, codes: ClassCodes, factors: dict[Any, float], options: Options
) -> StreamRows | None:
    """Return the rows of one pass over batches; None: there are none.

    Batches may have `summed`, which makes them of the first rows' kind where that is better done elsewhere.
    """

    def begun(first: Array) -> StreamRows:
        said = getattr(batches, "images", None)
        expected = int(said) if isinstance(said, numbers.Integral) else None  # in others it may be images
        return StreamRows(function, first, codes, factors, options, keep=False, expected=expected)

    rows: StreamRows | None = batches.summed(begun, options) if hasattr(batches, "summed") and not factors else None
    if rows is None:
        for features, labels, weights in labelled_batches(function, batches, classes=classes):
            rows = rows or begun(features)
            rows.add(features, labels, weights)
    return rows
