"""Means and squared differences of columns, batch by batch or chunk by chunk, in float64."""

from functools import partial
from typing import Any, NamedTuple

import numpy as np

from hebbcore.engine import backend, kernels, parallel
from hebbcore.engine.backend import Array
from hebbcore.engine.group.portion import Portion
from hebbcore.engine.spread import spread_step

_SOME = 64  # rows, evenly spread, whose mean lies near that of all; of fewer than 512 an eighth


class Moments(NamedTuple):
    """What N rows say of their columns.

    Attributes
    ----------
    rows : int
        N.
    mean : Array
        (K,), float64, of each column.
    squares : Array
        (K,), float64: Σₙ (x − mean)².
    """

    rows: int
    mean: Array
    squares: Array


def column_moments(rows: Array) -> tuple[Any, Any]:
    """Return the mean and Σ (x − mean)² of each column of (n, C), float64; one pass over the rows.

    Sums are about the mean of some rows: about a single one, which may lie far from the others, float32 loses digits.
    """
    module, xp = kernels.for_array(rows), backend.namespace(rows)
    cells, columns = module.moment_cells(*rows.shape), rows.shape[1]
    most = min(_SOME, -(-len(rows) // 8))
    some = rows[:: spread_step(len(rows), most, len(rows))]  # of all positions of an image too, however many
    shift = rows[0] + (some - rows[0]).mean(axis=0)  # of equal rows it is exactly theirs
    both = xp.zeros((2, cells, columns), rows.dtype)
    sums, squares = both
    parts = parallel.cuts(cells, parallel.threads() if parallel.worth_splitting(rows) else 1)
    n = len(rows)
    parallel.run(
        [
            partial(module.moments, rows[i * n // cells : j * n // cells], shift, sums[i:j], squares[i:j])
            for i, j in parts
        ],
        blas=False,
    )
    total, square = both.sum(axis=1, dtype=np.float64)
    offset = total / len(rows)
    return shift + offset, xp.maximum(square - total * offset, 0)


def of_both(old: tuple[int, Any, Any], new: tuple[int, Any, Any]) -> Moments:
    """Return the count, the mean and Σ (x − mean)² of two samples together (Chan, Golub & LeVeque 1983)."""
    (count, old_mean, old_squares), (more, mean, squares) = old, new
    total, gap = count + more, mean - old_mean
    return Moments(total, old_mean + gap * (more / total), old_squares + squares + gap**2 * (count * more / total))


def of_all(here: Portion | None, seen: tuple[int, Any, Any] | None, shift: Array) -> Moments:
    """Return the moments of the samples of all processes that share a batch, in one message.

    seen: those of this process, None for no sample. shift: (K,) about the mean, the same in all processes. here: None:
    there is one.
    """
    if here is None:
        assert seen is not None
        return Moments(*seen)
    xp = backend.namespace(shift)
    rows, sums, squares = xp.zeros(1), xp.zeros_like(shift), xp.zeros_like(shift)
    if seen is not None and here.images:
        gap = seen[1] - shift
        rows, sums, squares = rows + seen[0], seen[0] * gap, seen[2] + seen[0] * gap * gap
    here.add_up(rows, sums, squares)
    total = int(rows[0])
    gap = sums / total
    return Moments(total, shift + gap, xp.maximum(squares - total * gap * gap, 0))
