"""Solutions for many penalties from few factorisations.

(K + λ D)⁻¹ y for a penalty λ near λ₀, whose factor is there: with B = D^½ (K + λ₀ D)⁻¹ D^½ it is
D^-½ B (1 + (λ − λ₀) B)⁻¹ D^-½ y. One space, of D^-½ y multiplied by B again and again, holds the solutions for all
penalties, a dozen blocks for each decade between them and λ₀, each for two solutions by triangles. What the space has
not reached to _PRECISION after some blocks gets a factorisation of its own.

Source: the spectral transformation Lanczos method, Ericsson & Ruhe 1980; shifted systems from one space, Frommer &
Glässner 1998. Differences: blocks, each made orthogonal to all before; residuals are computed, not estimated.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from hebbcore.engine import backend, devices, parallel
from hebbcore.engine.backend import Array
from hebbcore.evaluation.ridge import tiled
from hebbcore.evaluation.ridge.linear_system import factorised
from hebbcore.evaluation.ridge.meter import SILENT, Meter
from hebbcore.evaluation.ridge.tiled import Factor

_PRECISION = 1e-9  # norm of a residual, of that of its right side
_MOST, _LEAST = 96, 8  # blocks of a space; what may have fewer is too small to gain
# rows for each block: so many blocks took 0.8 times as long as a factorisation (10 targets, 4,000 and 8,000 rows)
_ROWS = 256
_ROUNDING = 1e-14  # of a block's norm, below which a direction is no new one
_TINY = np.finfo(np.float64).tiny
_LOOK = 4  # blocks between two looks at the residuals

Found = list[tuple[int, Array]]  # numbers of penalties, and (n, k)


class Equations(NamedTuple):
    """(matrix − minus · minusᵀ + penalty · diag(scale)) x = right, for many penalties.

    matrix: (n, n), see linear_system.factorised. scale, minus: (n,); right: (n, k). tile: sides of tiles. memory: bytes
    that spaces may take.
    """

    matrix: Array
    scale: Array
    right: Array
    minus: Array | None
    tile: int
    memory: int


def solutions(equations: Equations, penalties: Sequence[float], meter: Meter = SILENT) -> Iterator[Found]:
    """Yield solutions, some penalties at a time; penalties are left out for which rounding leaves none.

    meter: expects one factorisation for each penalty, and is told of what is spared.
    """
    groups = [sorted(range(len(penalties)), key=penalties.__getitem__)]
    while groups:
        group = groups.pop()
        at = len(group) // 2
        found = _around(equations, [penalties[i] for i in group], at, meter)
        smaller, larger = (
            [group[i] for i in part if i not in found] for part in (range(at), range(at + 1, len(group)))
        )
        if not found:  # nor would there be a factor for smaller ones
            meter.expect(-len(smaller) * tiled.operations(len(equations.right)))
            smaller = []
        groups += filter(None, (smaller, larger))
        if found:
            yield [(group[i], x) for i, x in found.items()]


def _around(equations: Equations, penalties: list[float], at: int, meter: Meter) -> dict[int, Array]:
    """Return solutions for the penalty `at`, and for others as far as a space reaches; none if rounding leaves none."""
    matrix, scale, right, minus, tile, _ = equations
    try:
        with factorised(matrix, penalties[at] * scale, minus, tile, meter) as factor:
            # reading the factor takes the time of what is solved, and threads share it; with those of BLAS, which NumPy
            # and SciPy have each, a block of 9,000 rows took 0.17 to 0.35 s in place of one thread's 0.095
            with parallel.one_blas_thread():
                found = {at: factor.solve(right)}
                if not bool(backend.namespace(right).isfinite(found[at]).all()):
                    return {}
                blocks = _blocks(equations)
                if len(penalties) > 1 and blocks >= _LEAST:
                    shifts = {i: penalty - penalties[at] for i, penalty in enumerate(penalties) if i != at}
                    found |= _Space(factor, scale, right, blocks).solutions(shifts, meter)
            return found
    except np.linalg.LinAlgError:
        return {}


def _blocks(equations: Equations) -> int:
    """Return how many blocks a space may have: of half a factorisation's operations, and an eighth of the memory."""
    size, columns = equations.right.shape
    blocks: int = min(_MOST, size // _ROWS, size // (12 * columns), equations.memory // (128 * size * columns))
    return blocks


class _Space:
    """Products of B with right sides, see above: orthonormal rows Q, and their images under B."""

    def __init__(self, factor: Factor, scale: Array, right: Array, blocks: int) -> None:
        xp = backend.namespace(right)
        self._factor, self._root = factor, (scale**0.5)[:, None]
        self._right = right / self._root
        self._limits = _PRECISION * _norms(self._right)
        size, columns = right.shape
        self._basis, self._images = xp.empty((2, blocks * columns, size))
        self._blocks, self._filled = blocks, 0
        self._projected = np.empty((blocks * columns,) * 2)  # Qᵀ B Q
        self._excess: dict[int, float] = {}  # of residuals over their limits, at the last look

    def solutions(self, shifts: dict[int, float], meter: Meter) -> dict[int, Array]:
        """Return the solutions for penalties that differ by so much, as far as they are reached."""
        found: dict[int, Array] = {}
        block = _orthonormal(self._right, float(_norms(self._right).max()))
        if not block.shape[1]:  # right sides of zeros
            return dict.fromkeys(shifts, self._right)
        start = _host(block.T @ self._right)
        for count in range(1, self._blocks + 1):
            work = 2.0 * len(block) ** 2 * block.shape[1]
            meter.expect(work)
            image = self._add(block)
            meter.add(work)
            block = self._following(image)
            last = count == self._blocks or not block.shape[1]
            if last or count % _LOOK == 0:
                before = self._excess
                new = self._reached({i: shift for i, shift in shifts.items() if i not in found}, start)
                meter.expect(-len(new) * tiled.operations(len(block)))
                found |= new
                if last or not any(self._may_reach(before.get(i), now, count) for i, now in self._excess.items()):
                    break
        return found

    def _may_reach(self, before: float | None, now: float, count: int) -> bool:
        """Return True if an excess may vanish in the blocks that are left; it falls the faster the smaller it is."""
        if before is None:
            return True
        looks = np.log(now) / np.log(before / now) if now < before else np.inf
        return bool(count + _LOOK * looks / 2 <= self._blocks)

    def _add(self, block: Array) -> Array:
        """Multiply a block by B, keep both, and return the product (n, k)."""
        old, new = slice(self._filled), slice(self._filled, self._filled + block.shape[1])
        self._filled = new.stop
        image = self._root * self._factor.solve(self._root * block)
        self._basis[new], self._images[new] = block.T, image.T
        self._projected[: new.stop, new] = _host(self._basis[: new.stop] @ image)
        self._projected[new, old] = self._projected[old, new].T
        return image

    def _following(self, image: Array) -> Array:
        """Return what a product has beside the space, orthonormal."""
        basis, norm = self._basis[: self._filled], float(_norms(image).max())
        for _ in range(2):
            image = image - basis.T @ (basis @ image)
        return _orthonormal(image, norm)

    def _reached(self, shifts: dict[int, float], start: npt.NDArray[np.float64]) -> dict[int, Array]:
        """Return the solutions within the space whose residuals are small, and note how far the others' are from it.

        start: right sides in the first block.
        """
        xp, filled = backend.namespace(self._right), slice(self._filled)
        values, vectors = np.linalg.eigh(self._projected[filled, filled])
        along, found = vectors[: len(start)].T @ start, {}
        self._excess = {}
        for i, shift in shifts.items():
            factors = 1 + shift * values
            if factors.min() <= 0:  # not positive definite with this penalty, to rounding
                self._excess[i] = np.inf
                continue
            shares = xp.asarray(vectors @ (along / factors[:, None]))
            x = self._images[filled].T @ shares
            rest = self._right - self._basis[filled].T @ shares - shift * x
            norms = _norms(rest)
            if (norms <= self._limits).all():
                found[i] = x / self._root
            else:
                self._excess[i] = float((norms / np.maximum(self._limits, _TINY)).max())
        return found


def _orthonormal(block: Array, norm: float) -> Array:
    """Return orthonormal columns that span those of a block (n, k); norm: below whose rounding there are none."""
    xp = backend.namespace(block)
    columns, rest = xp.linalg.qr(block)
    along, sizes, _ = np.linalg.svd(_host(rest))
    return columns @ xp.asarray(along[:, sizes > _ROUNDING * norm])


def _norms(block: Array) -> npt.NDArray[np.float64]:
    return _host(backend.namespace(block).linalg.norm(block, axis=0))


def _host(array: Array) -> npt.NDArray[np.float64]:
    return np.asarray(devices.to_device(array, "cpu"))
