"""Cholesky's factorisation of a large symmetric matrix by tiles, of which few are in memory beside one in a file.

A GPU works on tiles alike: of its own memory, so that nothing else of the matrix's size is made, or of the host's.
"""

from collections.abc import Iterable
from functools import partial

import numpy as np

from hebbcore.engine import backend, devices, parallel
from hebbcore.engine.backend import Array
from hebbcore.evaluation.ridge import dense
from hebbcore.evaluation.ridge.meter import Meter

Column = tuple[int, Array]  # the first row that is not zero, and the rows from there on of some columns (n − first, m)

_WIDE = 1024  # columns that a thread of the CPU takes at a time, at most
_LITTLE = 2**23  # multiplications for which waking a thread takes too long
_SOLVED = 256  # rows at a time of what is solved on the CPU: the fewer, the less is copied beside the diagonal
_COPIED = 128  # rows that are copied from one triangle to the other at a time, so as to stay in the cache


def operations(size: int) -> float:
    """Return the floating point operations of a factorisation."""
    return size**3 / 3


class Factor:
    """An upper factor on the diagonal of a matrix (n, n), float64, and above it.

    device: which computes; the matrix may lie on the host. tile: sides of what is copied at a time. room: sides of what
    all threads together may copy about four times.
    """

    def __init__(self, matrix: Array, device: str, tile: int, room: int) -> None:
        self._matrix, self._device, self._tile = matrix, device, min(tile, room)
        self._wide = max(1, min(_WIDE, room**2 // self._tile // parallel.threads()))

    def write(self, added: Array, minus: Array | None, meter: Meter) -> bool:
        """Write the factor of matrix − minus · minusᵀ + diag(added), which is read below the diagonal and on it.

        added, minus: (n,) on the device. Returns False if the sum is not positive definite to rounding.
        """
        size = len(self._matrix)
        for rows in self._parts(0):
            if not (self._write_rows_on_cuda if self._device == "cuda" else self._write_rows)(rows, added, minus):
                return False
            meter.add(_operations_until(rows.stop, size) - _operations_until(rows.start, size))
        return True

    def solve(self, right: Array) -> Array:
        """Return A⁻¹ right, (n, k), A being what was factorised."""
        x = self._forward(right, 0)
        for rows in reversed(self._steps(0)):
            parallel.each(partial(self._gather, x, rows.stop), self._shares(rows, x[rows.stop :].size))
            x[rows] = dense.solve_triangular(self._corner(rows), x[rows], transposed=True)
        return x

    def forms(self, columns: Iterable[Column], meter: Meter) -> Array:
        """Return cᵀ A⁻¹ c of columns c, (m,)."""
        xp = backend.module(self._device)
        found = [xp.empty(0)]
        for first, part in columns:
            found.append((self._forward(part, first) ** 2).sum(axis=0))
            meter.add(float(len(part)) ** 2 * part.shape[1])
        return xp.concatenate(found)

    def _write_rows(self, rows: slice, added: Array, minus: Array | None) -> bool:
        """Write some rows; those before are there. Threads take some columns each."""
        count, size = rows.stop - rows.start, len(self._matrix)
        head = np.empty((count, count), order="F")

        def reduce(columns: slice) -> None:
            start, stop = columns.start - rows.start, columns.stop - rows.start
            head[start:stop, :stop] = self._reduced(slice(rows.start, columns.stop), columns, minus).T

        parallel.each(reduce, even(rows.start, rows.stop, min(self._wide, _SOLVED)))
        head.flat[:: count + 1] += added[rows]
        factor = dense.cholesky(head)
        if factor is None:
            return False
        write_upper(self._matrix[rows, rows], factor)

        def write(columns: slice) -> None:
            part = self._reduced(rows, columns, minus)
            _solve_by_blocks(factor, part)
            self._matrix[rows, columns] = part

        parallel.each(write, even(rows.stop, size, self._wide))
        return True

    def _reduced(self, rows: slice, columns: slice, minus: Array | None) -> Array:
        """Return a part (rows, columns), in Fortran's order, less products of the factor's rows before, and of minus.

        NumPy's products take parts of matrices as they lie, which SciPy's BLAS copies.
        """
        part = self._matrix[columns, rows].copy()
        part -= self._matrix[: rows.start, columns].T @ self._matrix[: rows.start, rows]
        if minus is not None:
            part -= np.outer(minus[columns], minus[rows])
        return part.T

    def _write_rows_on_cuda(self, rows: slice, added: Array, minus: Array | None) -> bool:
        """Write some rows; those before are there."""
        xp = backend.module(self._device)
        head = xp.array(self._take(rows, rows), order="F")
        diagonal = xp.arange(len(head))
        head[diagonal, diagonal] += added[rows]
        self._subtract(head, minus, rows, rows)
        factor = dense.cholesky(head)
        if factor is None:
            return False
        write_upper(self._matrix[rows, rows], self._there(factor))
        for columns in self._parts(rows.stop):
            part = xp.array(self._take(columns, rows).T, order="F")
            self._subtract(part, minus, rows, columns)
            self._matrix[rows, columns] = self._there(dense.solve_triangular(factor, part, overwrite=True))
        return True

    def _subtract(self, part: Array, minus: Array | None, rows: slice, columns: slice) -> None:
        """Take off a part, Fortran-ordered, products of the factor's rows before it, and of minus."""
        for above in self._parts(0, rows.start):
            part -= self._take(above, rows).T @ self._take(above, columns)
        if minus is not None:
            part -= backend.namespace(part).outer(minus[rows], minus[columns])

    def _forward(self, right: Array, first: int) -> Array:
        """Solve for the transpose of the factor's rows and columns from the first on."""
        x = right.copy()
        for rows in self._steps(first):
            mine = x[rows.start - first : rows.stop - first]
            mine[...] = dense.solve_triangular(self._corner(rows), mine)
            rest = slice(rows.stop, len(self._matrix))
            parallel.each(partial(self._spread, x[rows.stop - first :], rows, mine), self._shares(rest, mine.size))
        return x

    def _gather(self, x: Array, first: int, rows: slice) -> None:
        """Take off some rows of x what those from the first on say of them."""
        for columns in self._parts(first):
            x[rows] -= self._take(rows, columns) @ x[columns]

    def _spread(self, rest: Array, rows: slice, mine: Array, columns: slice) -> None:
        """Take off some of the rest of x, behind rows, what the latter say of them."""
        for some in _cut(columns.start, columns.stop, self._tile):
            rest[some.start - rows.stop : some.stop - rows.stop] -= self._take(rows, some).T @ mine

    def _shares(self, some: slice, numbers: int) -> list[slice]:
        """Cut rows or columns for threads: into one part where multiplying so many numbers by each is little."""
        little = self._device == "cuda" or (some.stop - some.start) * numbers < _LITTLE
        return _cut(some.start, some.stop, len(self._matrix)) if little else even(some.start, some.stop, self._tile)

    def _parts(self, first: int, end: int | None = None) -> list[slice]:
        return _cut(first, len(self._matrix) if end is None else end, self._tile)

    def _steps(self, first: int) -> list[slice]:
        step = self._tile if self._device == "cuda" else min(self._tile, _SOLVED)
        return _cut(first, len(self._matrix), step)

    def _corner(self, rows: slice) -> Array:
        """Return the transpose of one tile on the diagonal, of which the lower triangle is the factor's."""
        return self._take(rows, rows).T

    def _take(self, rows: slice, columns: slice) -> Array:
        return devices.to_device(self._matrix[rows, columns], self._device)

    def _there(self, tile: Array) -> Array:
        return devices.to_device(tile, backend.device_of(self._matrix))


def _cut(first: int, end: int, step: int) -> list[slice]:
    return [slice(start, min(start + step, end)) for start in range(first, end, step)]


def _solve_by_blocks(factor: Array, right: Array) -> None:
    """Replace right (m, k), in Fortran's order, by x of factor · x = right, of a lower factor (m, m).

    NumPy's products do most of it: SciPy's functions let no other thread of Python work beside them.
    """
    for rows in _cut(0, len(factor), _SOLVED):
        right[rows].T[...] -= right[: rows.start].T @ factor[rows, : rows.start].T
        right[rows] = dense.solve_triangular(factor[rows, rows], right[rows])


def even(first: int, end: int, most: int) -> list[slice]:
    """Cut first…end evenly into as many parts, of at most so many, as all threads can take alike."""
    threads = parallel.threads()
    parts = parallel.cuts(end - first, threads * -(-(end - first) // (threads * most)))
    return [slice(first + start, first + stop) for start, stop in parts if stop > start]


def _operations_until(rows: int, size: int) -> float:
    return size * rows**2 - 2 * rows**3 / 3


def write_upper(square: Array, lower: Array) -> None:
    """Write the transpose of a lower triangle (m, m) into the upper one of a square (m, m), the diagonal included."""
    xp = backend.namespace(square)
    for start in range(0, len(square), _COPIED):
        end = min(start + _COPIED, len(square))
        corner, upper = square[start:end, start:end], xp.triu_indices(end - start)
        corner[upper] = lower[start:end, start:end].T[upper]
        square[start:end, end:] = lower[end:, start:end].T
