"""Ridge regression onto targets of ±1 a class: from sums over any number of rows, or from fewer rows than features.

Minimises Σ v (F w + b − y)² + alpha ‖S w‖² for each class, over rows of weights v, y = 1 on the class's rows and −1
elsewhere; S is the standard deviation of each feature if features are standardised, and 1 if not: the same as
dividing the features by S. Two classes need one target.
"""

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from hebbcore.engine import backend
from hebbcore.engine.backend import Array
from hebbcore.evaluation.batches import Codes, Weights
from hebbcore.evaluation.ridge.linear_system import add_products, solve
from hebbcore.evaluation.ridge.sums import ClassSums

_COLUMNS = 512  # features at a time, where rows are fewer than features


class System(Protocol):
    """Something that knows the solution for every penalty."""

    def solve(self, alpha: float) -> tuple[Array, Array]:
        """Return weights (targets, features) and intercepts (targets,). Raises LinAlgError if rounding forbids it."""


class SumsSystem:
    """The normal equations, features × features, from the sums of the classes with these codes."""

    def __init__(self, sums: ClassSums, codes: Codes, centred: bool, standardize: bool) -> None:
        sums.flush()
        assert sums.shift is not None
        of_class, counts = sums.of_classes(codes)
        xp, rows = backend.namespace(of_class), float(counts.sum())
        self._products = sums.products
        total = of_class.sum(axis=0)
        mean = total / rows
        power = sums.products.diagonal() / rows
        self._penalty = _squared_scale(power - mean**2, power, mean + sums.shift, sums.dtype, standardize)
        used = slice(-1, None) if len(codes) == 2 else slice(None)
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

    def solve(self, alpha: float) -> tuple[Array, Array]:
        """See System."""
        weights = solve(self._products, alpha * self._penalty, self._right.T, self._minus).T
        return weights, self._target_mean - (0 if self._mean is None else weights @ self._mean)


class RowsSystem:
    """The same solution from a system rows × rows, which is the smaller one where labels are few.

    features: (n, features). chosen: rows to use, None: all. codes: (rows,) classes 0 … classes − 1; weights: (rows,).
    """

    def __init__(
        self,
        features: Array,
        chosen: npt.NDArray[np.int64] | None,
        codes: Codes,
        weights: Weights,
        classes: int,
        centred: bool,
        standardize: bool,
    ) -> None:
        xp = backend.namespace(features)
        self._features, self._codes = features, codes
        weighing = xp.asarray(weights)
        self._shares, self._roots = weighing / weighing.sum(), weighing[:, None] ** 0.5
        self._chosen = slice(None) if chosen is None else xp.asarray(chosen)
        self._centred, self._standardize = centred, standardize
        self._products = xp.zeros((len(codes), len(codes)))
        dtype: np.dtype[Any] = np.result_type(features.dtype, np.float32)
        for _, scaled, _, _ in self._columns():
            add_products(self._products, scaled.astype(dtype, copy=False))
        used = np.array([1]) if classes == 2 else np.arange(classes)
        targets = xp.asarray(np.where(np.equal.outer(codes, used), 1.0, -1.0))
        self._target_mean = self._shares @ targets * centred
        self._targets = (targets - self._target_mean) * self._roots

    def solve(self, alpha: float) -> tuple[Array, Array]:
        """See System."""
        xp = backend.namespace(self._features)
        shares = solve(self._products, xp.full(len(self._products), alpha), self._targets)
        weights = xp.empty((shares.shape[1], self._features.shape[1]))
        intercept = self._target_mean.copy()
        for columns, scaled, mean, scale in self._columns():
            weights[:, columns] = shares.T @ scaled / scale
            intercept -= weights[:, columns] @ mean
        return weights, intercept

    def _columns(self) -> Iterator[tuple[slice, Array, Array, Array]]:
        """Yield some columns at a time: where, their values centred, scaled and weighted, means and scales, float64."""
        for start in range(0, self._features.shape[1], _COLUMNS):
            columns = slice(start, start + _COLUMNS)
            values = self._features[self._chosen, columns].astype(np.float64)
            mean, power = self._shares @ values, self._shares @ values**2
            variance = self._shares @ (values - mean) ** 2
            scale = _squared_scale(variance, power, mean, values.dtype, self._standardize) ** 0.5
            mean = mean * self._centred
            values -= mean
            values /= scale
            values *= self._roots
            yield columns, values, mean, scale


def _squared_scale(variance: Array, power: Array, mean: Array, dtype: Any, standardize: bool) -> Array:
    """Return what each feature's penalty is multiplied by: its variance, or 1 if that is rounding alone.

    power: mean square of the numbers that the variance was computed from, in rounding of dtype.
    """
    xp = backend.namespace(variance)
    if not standardize:
        return xp.ones_like(variance)
    rounding = float(np.finfo(dtype).eps)
    return xp.where(variance <= 16 * rounding * power + (4 * rounding * mean) ** 2, 1.0, variance)
