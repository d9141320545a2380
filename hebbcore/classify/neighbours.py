"""The nearest rows of each row: exact, by matrix products of blocks, so that memory stays bounded, or approximate."""

from typing import Any

import numpy as np
import numpy.typing as npt

from hebbcore import checks
from hebbcore.engine import backend, devices
from hebbcore.engine.backend import Array
from hebbcore.evaluation.ridge.meter import SILENT, Meter

SEARCHES = ("auto", "exact", "approximate")
MOST_EXACT = 200_000  # rows on the CPU: time grows with their square
_PRODUCTS = 2**24  # numbers of a block of products on the CPU
_MORE_ON_CUDA = 8  # times as many there, so that starting a kernel costs little beside its work
_REFERENCES = 2**16

Indices = npt.NDArray[np.int64]
Floats = npt.NDArray[Any]


def search_for(function: str, given: str, n: int, device: str) -> str:
    """Return "exact" or "approximate" for n rows on a device. Raises ValueError unless `given` is one of SEARCHES."""
    checks.choice(function, "neighbours", given, SEARCHES)
    if given != "auto":
        return given
    return "exact" if n <= MOST_EXACT or device == "cuda" else "approximate"


def nearest(rows: Array, count: int, meter: Meter = SILENT, of: Indices | None = None) -> tuple[Indices, Floats]:
    """Return the nearest other rows (m, count) of some of rows (n, d), and the squares of their distances, rising.

    rows: float32, NumPy or CuPy; the answer is NumPy. Of rows at the same distance any may be taken.
    of: (m,) whose nearest are looked for; None: all.
    """
    n = len(rows)
    of = np.arange(n) if of is None else of
    squares = backend.namespace(rows).einsum("ij,ij->i", rows, rows)
    products = _PRODUCTS * (_MORE_ON_CUDA if backend.on_cuda(rows) else 1)
    step = max(1, products // min(n, _REFERENCES))
    indices, distances = np.empty((len(of), count), np.int64), np.empty((len(of), count))
    for first in range(0, len(of), step):
        block = slice(first, first + step)
        found = _candidates(rows, squares, of[block], count)
        indices[block], distances[block] = by_distance(rows, of[block], found)
        meter.add(len(found))
    return indices, distances


def _candidates(rows: Array, squares: Array, of: Indices, count: int) -> Array:
    """Return the nearest other rows (m, count) of the rows `of` (m,), in any order."""
    xp = backend.namespace(rows)
    own = xp.asarray(of)
    looked_for = rows[own]
    best: Any = None
    for start in range(0, len(rows), _REFERENCES):
        references = rows[start : start + _REFERENCES]
        # half of |b|² − 2ab: |a|² is the same for all b
        costs = squares[start : start + _REFERENCES] / 2 - looked_for @ references.T
        inside = (own >= start) & (own < start + len(references))
        costs[xp.flatnonzero(inside), own[inside] - start] = np.inf  # itself
        smallest, chosen = _smallest(costs, min(count, len(references)))
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


def by_distance(rows: Array, of: Indices, found: Array) -> tuple[Indices, Floats]:
    """Return rows found (m, count) near the rows `of` (m,), the nearest first, and the squares of their distances.

    From differences: products lose the digits of small distances. The answer is NumPy.
    """
    xp = backend.namespace(rows)
    own, out = rows[xp.asarray(of)], xp.empty(found.shape, np.float64)
    for column in range(found.shape[1]):
        out[:, column] = ((own - rows[found[:, column]]) ** 2).sum(axis=1)
    exact, found = devices.to_device(out, "cpu"), devices.to_device(found, "cpu")
    order = np.argsort(exact, axis=1, kind="stable")
    return np.take_along_axis(found, order, axis=1), np.take_along_axis(exact, order, axis=1)
