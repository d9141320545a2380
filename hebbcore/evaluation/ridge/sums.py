"""Sums over rows of features, from which ridge regression and PCA follow: one pass, memory that knows no row count."""

from typing import Any

import numpy as np

from hebbcore.engine import backend
from hebbcore.engine.backend import Array
from hebbcore.engine.group.team import Team
from hebbcore.engine.soundness import without_warnings
from hebbcore.evaluation.batches import Codes, Weights
from hebbcore.evaluation.ridge.linear_system import add_products
from hebbcore.evaluation.ridge.room import Room

_BLOCK_BYTES = 64 * 2**20  # where no room is given
_BLOCK_ROWS = 1024  # more would let the float32 sums within a block lose digits


def require_finite(function: str, products: Array) -> None:
    """Raise ValueError if sums of products (n, n) have left the range of the numbers that they are made of."""
    if not bool(backend.namespace(products).isfinite(products.diagonal()).all()):
        raise ValueError(
            f"{function}: numbers are so large that their squares leave the range of float32; scale them, to standard "
            "deviations of about 1, or give float64."
        )


class ClassSums:
    """FᵀWF and the weighted sum of each class's rows, in float64; counts are sums of weights.

    Rows are gathered into blocks, so that the sums do not depend on how a stream was cut, and multiplied in their own
    precision (float32, or float64 for float64 and wide integers). centred: subtract the mean of the first block from
    all rows, since a mean that is large beside the standard deviations would drown them in float32; all sums are of
    such rows. room: where FᵀWF is kept; None: in memory.
    """

    def __init__(self, first: Array, centred: bool, room: Room | None = None) -> None:
        xp, features = backend.namespace(first), first.shape[1]
        self.dtype: np.dtype[Any] = np.result_type(first.dtype, np.float32)
        # FᵀF, the lower triangle
        self.products = xp.zeros((features, features)) if room is None else room.square(first, features)
        self.sums = xp.zeros((1, features))  # of each class
        self.counts = np.zeros(1)
        self.shift: Array | None = None if centred else xp.zeros(features)
        row_bytes = features * self.dtype.itemsize
        rows, self._most = min(_BLOCK_ROWS, _BLOCK_BYTES // row_bytes), _BLOCK_ROWS
        if room is not None:
            room, on_disk = room.beside(first), isinstance(self.products, np.memmap)
            self._most = room.rows(row_bytes, 16)
            # the products are read and written once a block
            rows = room.rows(row_bytes, 3) if on_disk else min(_BLOCK_ROWS, self._most)
        rows = max(1, rows)
        self._block, self._codes = xp.empty((rows, features), self.dtype), np.empty(rows, np.int64)
        self._weights = np.empty(rows)
        self._filled = 0

    def add(self, features: Array, codes: Codes, weights: Weights) -> None:
        """Add rows (n, features) of classes (n,) and weights (n,)."""
        start = 0
        while start < len(features):
            taken = min(len(features) - start, len(self._block) - self._filled)
            end = self._filled + taken
            self._block[self._filled : end] = features[start : start + taken]
            self._codes[self._filled : end] = codes[start : start + taken]
            self._weights[self._filled : end] = weights[start : start + taken]
            self._filled, start = end, start + taken
            if self._filled == len(self._block):
                self.flush()

    def flush(self) -> None:
        """Bring the sums up to date with the rows."""
        if not self._filled:
            return
        block, codes = self._block[: self._filled], self._codes[: self._filled]
        weights = self._weights[: self._filled]
        self._filled = 0
        with without_warnings():  # whoever takes the sums looks whether they are finite
            self._add_block(block, codes, weights)

    def _add_block(self, block: Array, codes: Codes, weights: Weights) -> None:
        """Add rows (n, features), which are overwritten."""
        xp = backend.namespace(block)
        if self.shift is None:
            # a number of the rows' own precision, so that subtracting it from equal numbers leaves nothing
            self.shift = block.mean(axis=0, dtype=np.float64).astype(self.dtype).astype(np.float64)
        block -= self.shift.astype(self.dtype)
        self._grow(int(codes.max()) + 1)
        for start in range(0, len(block), _BLOCK_ROWS):
            part = slice(start, start + _BLOCK_ROWS)
            present, inverse = np.unique(codes[part], return_inverse=True)
            members = np.equal.outer(np.arange(len(present)), inverse) * weights[part]
            self.sums[xp.asarray(present)] += xp.asarray(members.astype(self.dtype)) @ block[part]
        self.counts += np.bincount(codes, weights, len(self.counts))
        if (weights != 1).any():
            block *= xp.asarray((weights**0.5).astype(self.dtype))[:, None]
        add_products(self.products, block.T, self._most)

    def of_classes(self, codes: Codes) -> tuple[Array, Array]:
        """Return the sums (classes, features) and counts (classes,) of chosen classes; zeros for one without rows."""
        self._grow(int(codes.max()) + 1)
        xp = backend.namespace(self.sums)
        return self.sums[xp.asarray(codes)], self.counts[codes]

    def merge(self, team: Team, classes: int) -> None:
        """Become the sums of the rows of all processes, each of which has some of them, of so many classes."""
        self.flush()
        self._grow(classes)
        self.sums, self.counts = self.sums[:classes], self.counts[:classes]
        shift = next((each for each in team.gather(self.shift) if each is not None), None)
        if shift is None:
            return
        if self.shift is not None:
            self._move(self.shift - shift)
        self.shift = shift
        for array in (self.products, self.sums, self.counts):
            team.sum(array)

    def _move(self, by: Array) -> None:
        """Let the sums be those of the rows plus a vector."""
        if not by.any():
            return
        total, count = self.sums.sum(axis=0), self.counts.sum()
        for start in range(0, len(self.products), _BLOCK_ROWS):
            part = slice(start, start + _BLOCK_ROWS)
            self.products[part] += np.outer(total[part] + count * by[part], by)
            self.products[part] += np.outer(by[part], total)
        self.sums += self.counts[:, None] * by

    def __setstate__(self, state: dict[str, Any]) -> None:
        own = {name: backend.writable(value) for name, value in state.items() if isinstance(value, np.ndarray)}
        vars(self).update(state | own)

    def _grow(self, classes: int) -> None:
        missing = classes - len(self.counts)
        if missing > 0:
            missing = max(missing, len(self.counts))  # doubling: few copies while classes turn up one by one
            xp = backend.namespace(self.sums)
            self.sums = xp.concatenate([self.sums, xp.zeros((missing, self.sums.shape[1]))])
            self.counts = np.concatenate([self.counts, np.zeros(missing)])
