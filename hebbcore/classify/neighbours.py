"""The exact nearest rows of each row, by matrix products of blocks, so that memory stays bounded."""

from typing import Any

import numpy as np
import numpy.typing as npt

from hebbcore.engine import backend, devices
from hebbcore.engine.backend import Array
from hebbcore.evaluation.ridge.meter import SILENT, Meter

_PRODUCTS = 2**24  # numbers of a block of products on the CPU
_MORE_ON_CUDA = 8  # times as many there, so that starting a kernel costs little beside its work
_REFERENCES = 2**16

Indices = npt.NDArray[np.int64]
Floats = npt.NDArray[Any]


def nearest(rows: Array, count: int, meter: Meter = SILENT) -> tuple[Indices, Floats]:
    """Return the nearest other rows (n, count) of each of rows (n, d), and the squares of their distances, rising.

    rows: float32, NumPy or CuPy; the answer is NumPy. Of rows at the same distance any may be taken.
    """
    n = len(rows)
    squares = backend.namespace(rows).einsum("ij,ij->i", rows, rows)
    products = _PRODUCTS * (_MORE_ON_CUDA if backend.on_cuda(rows) else 1)
    step = max(1, products // min(n, _REFERENCES))
    indices, distances = np.empty((n, count), np.int64), np.empty((n, count))
    for first in range(0, n, step):
        last = min(n, first + step)
        found = _candidates(rows, squares, first, last, count)
        exact = _distances(rows, first, last, found)  # products lose the digits of small distances
        order = np.argsort(exact, axis=1, kind="stable")
        indices[first:last] = np.take_along_axis(devices.to_device(found, "cpu"), order, axis=1)
        distances[first:last] = np.take_along_axis(exact, order, axis=1)
        meter.add(last - first)
    return indices, distances


def _candidates(rows: Array, squares: Array, first: int, last: int, count: int) -> Array:
    """Return the nearest other rows (last − first, count) of the rows first … last − 1, in any order."""
    xp = backend.namespace(rows)
    own = xp.arange(first, last)
    best: Any = None
    for start in range(0, len(rows), _REFERENCES):
        references = rows[start : start + _REFERENCES]
        # half of |b|² − 2ab: |a|² is the same for all b
        costs = squares[start : start + _REFERENCES] / 2 - rows[first:last] @ references.T
        inside = (own >= start) & (own < start + len(references))
        costs[xp.flatnonzero(inside), own[inside] - start] = np.inf  # itself
        kept = min(count, len(references))
        smallest, chosen = _smallest(costs, kept)
        found = (smallest, chosen + start)
        best = found if best is None else tuple(xp.concatenate(pair, axis=1) for pair in zip(best, found, strict=True))
        if best[0].shape[1] > count:
            smallest, chosen = _smallest(best[0], count)
            best = (smallest, xp.take_along_axis(best[1], chosen, axis=1))
    return best[1]


def _smallest(costs: Array, count: int) -> tuple[Array, Array]:
    """Return the smallest costs (n, count) of rows (n, m), which are overwritten, and their columns, in any order."""
    if backend.on_cuda(costs):
        return _smallest_in_turn(costs, count)
    chosen = np.argpartition(costs, count - 1, axis=1)[:, :count]
    return np.take_along_axis(costs, chosen, axis=1), chosen


def _smallest_in_turn(costs: Array, count: int) -> tuple[Array, Array]:
    """Do the same by passes: CuPy's argpartition sorts whole rows, and a pass over them takes far less."""
    xp = backend.namespace(costs)
    own = xp.arange(len(costs))
    smallest, chosen = xp.empty((len(costs), count), costs.dtype), xp.empty((len(costs), count), np.int64)
    for number in range(count):
        columns = costs.argmin(axis=1)
        smallest[:, number], chosen[:, number] = costs[own, columns], columns
        costs[own, columns] = np.inf
    return smallest, chosen


def _distances(rows: Array, first: int, last: int, found: Array) -> Floats:
    xp = backend.namespace(rows)
    out = xp.empty(found.shape, np.float64)
    for column in range(found.shape[1]):
        out[:, column] = ((rows[first:last] - rows[found[:, column]]) ** 2).sum(axis=1)
    exact: Floats = devices.to_device(out, "cpu")
    return exact
