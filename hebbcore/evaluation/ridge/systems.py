"""Ridge regression onto targets of ±1 a class: from sums over any number of rows, or from fewer rows than features.

Minimises Σ v (F w + b − y)² + alpha ‖S w‖² for each class, over rows of weights v, y = 1 on the class's rows and −1
elsewhere; S is the standard deviation of each feature if features are standardised, and 1 if not: the same as
dividing the features by S. Two classes need one target.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from hebbcore.engine import backend, devices
from hebbcore.engine.backend import Array
from hebbcore.engine.soundness import without_warnings
from hebbcore.evaluation.batches import Codes, Weights
from hebbcore.evaluation.ridge import path, tiled
from hebbcore.evaluation.ridge.linear_system import (
    add_cross_products,
    add_products,
    not_positive,
    solve_with_forms,
)
from hebbcore.evaluation.ridge.meter import SILENT, Meter
from hebbcore.evaluation.ridge.path import Equations
from hebbcore.evaluation.ridge.room import Options, Room
from hebbcore.evaluation.ridge.sums import ClassSums, require_finite
from hebbcore.evaluation.ridge.tiled import Column

_BLOCK_BYTES = 16 * 2**20  # of rows at a time in float64
_COLUMNS = 64  # at least, of the unit matrix at a time
# roundings that a row has beside the others, at least. With less, rounding moves the log likelihood of left-out rows by
# more than 0.004, and took up to 8 points of accuracy where it chose the penalty; independent rows have 1e5
_SOUND = 64

Part = tuple[Array, Codes, Weights]  # some rows (n, features), their classes and weights


class Weighting(NamedTuple):
    """The solution for the penalty of this number: weights (targets, features) and intercepts (targets,)."""

    number: int
    coef: Array
    intercept: Array


class System(Protocol):
    """Something that knows the solution for every penalty."""

    size: int  # of the matrix that is factorised for each penalty
    vanished: int  # features that count as constant since their squares vanish, though they are to be standardised

    def solutions(self, alphas: Sequence[float], meter: Meter = SILENT) -> Iterator[list[Weighting]]:
        """Yield the solutions, some of the penalties at a time, but for those for which rounding leaves none."""

    def left_out(self, alpha: float, units: Weights, meter: Meter = SILENT) -> Array:
        """Return the scores (n, targets) of the rows, each from the solution for all rows but it; the scale S stays.

        units: (n,) how much of each row's weight is left out. Raises LinAlgError if rounding forbids it, or decides it.
        """

    def operations(self, left_out: bool) -> float:
        """Return about how many operations a solution or left_out takes."""


class SumsSystem:
    """The normal equations, features × features, from the sums of the classes with these codes.

    parts: gives the rows that were summed, once more each time, for left_out.
    """

    def __init__(
        self,
        sums: ClassSums,
        codes: Codes,
        centred: bool,
        standardize: bool,
        room: Room,
        parts: Callable[[], Iterable[Part]] = tuple,
    ) -> None:
        sums.flush()
        assert sums.shift is not None
        require_finite("RidgeReadout", sums.products)
        of_class, counts = sums.of_classes(codes)
        xp, rows = backend.namespace(of_class), float(counts.sum())
        self._parts, self._rows = parts, rows
        self._products, self._room, self.size = sums.products, room.beside(of_class), len(sums.products)
        total = of_class.sum(axis=0)
        mean = total / rows
        power = devices.to_device(sums.products.diagonal(), backend.device_of(mean)) / rows
        faint = (power < np.finfo(sums.dtype).tiny) & of_class.any(axis=0)
        self.vanished = int(faint.sum()) if standardize else 0
        self._least = _SOUND * float(np.finfo(sums.dtype).eps)
        self._penalty = _squared_scale(power - mean**2, power, mean + sums.shift, sums.dtype, standardize)
        used = slice(-1, None) if len(codes) == 2 else slice(None)
        self._used = np.arange(len(codes))[used]
        counts = xp.asarray(counts[used])[:, None]
        if centred:
            self._mean: Array | None = mean + sums.shift
            self._minus: Array | None = mean * rows**0.5
            self._right = 2 * (of_class[used] - counts * mean)
            self._target_mean = 2 * counts[:, 0] / rows - 1
        else:
            self._mean = self._minus = None
            self._right = 2 * of_class[used] - total
            self._target_mean = 0 * counts[:, 0]

    def solutions(self, alphas: Sequence[float], meter: Meter = SILENT) -> Iterator[list[Weighting]]:
        """See System."""
        equations = Equations(
            self._products, self._penalty, self._right.T, self._minus, self._room.tile, self._room.memory
        )
        for found in path.solutions(equations, alphas, meter):
            yield [Weighting(number, x.T, self._intercept(x.T)) for number, x in found]

    def left_out(self, alpha: float, units: Weights, meter: Meter = SILENT) -> Array:
        """See System. A row's error is its residual in the solution for all, divided by 1 − its leverage."""
        added, tile = alpha * self._penalty, self._room.tile
        columns = ((0, values.T) for values, _ in self._values())
        found, forms = solve_with_forms(
            self._products, added, self._right.T, self._minus, columns, tile, meter, self._least
        )
        coef, xp = found.T, backend.namespace(found)
        leverage = xp.asarray(units) * (forms + (0 if self._mean is None else 1 / self._rows))
        fitted = xp.concatenate([values @ coef.T + self._target_mean for values, _ in self._values()])
        targets = xp.concatenate([xp.asarray(_targets(codes, self._used)) for _, codes in self._values()])
        return targets - (targets - fitted) / (1 - leverage)[:, None]

    def operations(self, left_out: bool) -> float:
        """See System."""
        return tiled.operations(self.size) + left_out * self._rows * float(self.size) ** 2

    def _values(self) -> Iterator[tuple[Array, Codes]]:
        """Yield some rows at a time, centred, in float64, and their classes."""
        for features, codes, _ in self._parts():
            values = features.astype(np.float64)
            yield values if self._mean is None else values - self._mean, codes

    def _intercept(self, coef: Array) -> Array:
        return self._target_mean - (0 if self._mean is None else coef @ self._mean)


class RowsSystem:
    """The same solution from a system rows × rows, which is the smaller one where labels are few.

    features: (n, features), which may lie in a file. chosen: rows to use, None: all. codes: (rows,) classes 0 … classes
    − 1; weights: (rows,). room: where the matrix is kept.
    """

    def __init__(
        self,
        features: Array,
        chosen: npt.NDArray[np.int64] | None,
        codes: Codes,
        weights: Weights,
        classes: int,
        options: Options,
    ) -> None:
        xp = backend.namespace(features)
        self._features, self._room, self.size = features, options.room.beside(features), len(codes)
        self._chosen = np.arange(len(codes)) if chosen is None else chosen
        weighing = xp.asarray(weights)
        self._shares, self._roots = weighing / weighing.sum(), weighing[:, None] ** 0.5
        self._centred, self.vanished = options.centred, 0  # squares here are of float64
        self._measure(options.centred, options.standardize)
        self._products = options.room.square(features, self.size)
        self._room = options.room.beside(features)  # what the matrix left
        dtype: np.dtype[Any] = np.result_type(features.dtype, np.float32)
        self._least = _SOUND * float(np.finfo(dtype).eps)
        with without_warnings():
            self._multiply(dtype)
        require_finite("RidgeReadout", self._products)
        used = np.array([1]) if classes == 2 else np.arange(classes)
        targets = xp.asarray(_targets(codes, used))
        self._target_mean = self._shares @ targets * options.centred
        self._targets = (targets - self._target_mean) * self._roots

    def solutions(self, alphas: Sequence[float], meter: Meter = SILENT) -> Iterator[list[Weighting]]:
        """See System: the rows are read once for some penalties together."""
        xp, room = backend.namespace(self._features), self._room
        equations = Equations(self._products, xp.ones(self.size), self._targets, None, room.tile, room.memory)
        for found in path.solutions(equations, alphas, meter):
            shares = xp.concatenate([x for _, x in found], axis=1)
            weights = xp.zeros((shares.shape[1], self._features.shape[1]))
            for block, values in self._scaled(0, self.size):
                weights += shares[block].T @ values
            weights /= self._scale
            targets = self._targets.shape[1]
            some = (weights[i * targets : (i + 1) * targets] for i in range(len(found)))
            yield [
                Weighting(number, coef, self._target_mean - coef @ self._mean)
                for (number, _), coef in zip(found, some, strict=True)
            ]

    def left_out(self, alpha: float, units: Weights, meter: Meter = SILENT) -> Array:
        """See System: with the matrix bordered for the intercept, an error is a share over an element of the inverse's
        diagonal, if the whole row is left out.
        """
        xp, roots = backend.namespace(self._features), self._roots
        added = xp.full(self.size, alpha)
        right = xp.concatenate([self._targets, roots], axis=1)
        columns, tile = self._columns(), self._room.tile
        found, forms = solve_with_forms(self._products, added, right, None, columns, tile, meter)
        shares, border = found[:, :-1], found[:, -1:]
        if self._centred:
            total = float((roots * border).sum())
            shares = shares - border * (roots * shares).sum(axis=0) / total
            forms = forms - border[:, 0] ** 2 / total
        whole = devices.to_device(self._products.diagonal(), backend.device_of(forms)) + alpha
        if not bool((self._least * whole * forms < 1).all()):  # beside the others a row has 1 / its form
            raise not_positive()
        part = xp.asarray(units) / roots[:, 0] ** 2
        errors = alpha * shares / roots / (1 - part + part * alpha * forms)[:, None]
        return self._targets / roots + self._target_mean - errors

    def operations(self, left_out: bool) -> float:
        """See System."""
        more = sum((self.size - start) ** 2 * width for start, width in self._spans()) if left_out else 0
        return tiled.operations(self.size) + float(more)

    def _columns(self) -> Iterator[Column]:
        """Yield the columns of the unit matrix, some at a time."""
        eye = backend.namespace(self._features).eye
        return ((start, eye(self.size - start, width)) for start, width in self._spans())

    def _spans(self) -> Iterator[tuple[int, int]]:
        """Yield where some columns start and how many they are: few enough to gain from the zeros above them."""
        step = min(self._room.rows(8 * self.size, 16), max(_COLUMNS, self.size // 8))
        return ((start, min(step, self.size - start)) for start in range(0, self.size, step))

    def _measure(self, centred: bool, standardize: bool) -> None:
        """Find the means and scales (features,) of the features, in two passes."""
        xp = backend.namespace(self._features)
        mean, power, variance = xp.zeros((3, self._features.shape[1]))
        for block, values in self._values(0, self.size):
            mean += self._shares[block] @ values
            values *= values
            power += self._shares[block] @ values
        for block, values in self._values(0, self.size):
            values -= mean
            values *= values
            variance += self._shares[block] @ values
        self._scale = _squared_scale(variance, power, mean, mean.dtype, standardize) ** 0.5
        self._mean = mean * centred

    def _multiply(self, dtype: np.dtype[Any]) -> None:
        """Fill the matrix: some rows against those before them, read once more, and against each other."""
        features = self._features.shape[1]
        row_bytes = features * dtype.itemsize
        meter = self._room.meter(
            f"products of {self.size:,} rows of {features:,} features", float(self.size) ** 2 * features
        )
        on_disk = isinstance(self._products, np.memmap)  # which leaves the memory to rows: fewer are read again
        empty = backend.namespace(self._features).empty
        panel, piece = (
            empty((min(self.size, self._room.rows(row_bytes, part)), features), dtype)
            for part in (3 if on_disk else 8, 16)
        )
        most = self._room.rows(4 * len(panel), 16)
        for start in range(0, self.size, len(panel)):
            rows = self._fill(panel, start, self.size)
            end = start + len(rows)
            add_products(self._products[start:end, start:end], rows, most, meter)
            for first in range(0, start, len(piece)):
                others = self._fill(piece, first, start)
                add_cross_products(self._products[start:end, first : first + len(others)], rows, others)
                meter.add(2.0 * len(rows) * len(others) * features)

    def _fill(self, out: Array, start: int, end: int) -> Array:
        """Write the rows start…end, as many as there is room for, as _scaled yields them; return those."""
        end = min(end, start + len(out))
        for block, values in self._scaled(start, end):
            out[block.start - start : block.stop - start] = values
        return out[: end - start]

    def _scaled(self, start: int, end: int) -> Iterator[tuple[slice, Array]]:
        """Yield some rows at a time: where, and their values centred, scaled and weighted, in float64."""
        for block, values in self._values(start, end):
            values -= self._mean
            values /= self._scale
            values *= self._roots[block]
            yield block, values

    def _values(self, start: int, end: int) -> Iterator[tuple[slice, Array]]:
        """Yield some of the chosen rows start…end at a time: where, and a copy in float64."""
        xp = backend.namespace(self._features)
        step = min(
            max(1, _BLOCK_BYTES // (8 * self._features.shape[1])), self._room.rows(8 * self._features.shape[1], 16)
        )
        for first in range(start, end, step):
            block = slice(first, min(first + step, end))
            yield block, self._features[xp.asarray(self._chosen[block])].astype(np.float64, copy=False)


def _targets(codes: Codes, used: Codes) -> Weights:
    """Return 1 where rows are of the classes used, −1 elsewhere, (n, used)."""
    return np.where(np.equal.outer(codes, used), 1.0, -1.0)


def _squared_scale(variance: Array, power: Array, mean: Array, dtype: Any, standardize: bool) -> Array:
    """Return what each feature's penalty is multiplied by: its variance, or 1 if that is rounding alone.

    power: mean square of the numbers that the variance was computed from, in rounding of dtype.
    """
    xp = backend.namespace(variance)
    if not standardize:
        return xp.ones_like(variance)
    rounding = float(np.finfo(dtype).eps)
    return xp.where(variance <= 16 * rounding * power + (4 * rounding * mean) ** 2, 1.0, variance)
