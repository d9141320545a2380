"""Principal components of standardised features, and the two spaces made of them: for neighbours and for the ridge."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.linalg

from hebbcore.classify.likeness import FEW, Likened, Likeness, standardised
from hebbcore.engine import backend, devices, parallel
from hebbcore.engine.backend import Array
from hebbcore.evaluation.ridge.meter import Meter

Floats = npt.NDArray[Any]

COMPONENTS = 800
_NUMBERS = 2**23  # of a block of features
_SMALLEST = 1e-7  # eigenvalues below so much of the largest are rounding
_MOST_EXACT = 10_000  # rows of a matrix whose eigenvectors are computed: of 25,000 they take hours and 15 GB
_SPARE, _PRODUCTS = 160, 3  # of the iteration: axes besides those that are kept, and products with the covariance


class Space(NamedTuple):
    """Principal components of standardised features, or where they are few, of their likeness; NumPy arrays.

    mean, scale: (d,) of the features; scale: 1 / standard deviation, 0 for a constant feature.
    axes: (p, d) unit vectors. eigenvalues: (p,) variances along them, falling.
    likeness: what makes the d features of f few ones; None: there are many, f = d.
    """

    mean: Floats
    scale: Floats
    axes: Floats
    eigenvalues: Floats
    likeness: Likeness | None = None

    @classmethod
    def of(cls, arrays: Mapping[str, Any]) -> "Space":
        """Return the space of arrays, such as those that `arrays` gives, among others."""
        mean, scale, axes, eigenvalues = (arrays[name] for name in ARRAYS)
        of_likeness = [arrays[name] for name in Likeness._fields if name in arrays]
        return cls(mean, scale, axes, eigenvalues, Likeness(*of_likeness) if of_likeness else None)

    @property
    def arrays(self) -> dict[str, Floats]:
        """Its arrays by name."""
        own = {name: getattr(self, name) for name in ARRAYS}
        return own if self.likeness is None else own | self.likeness._asdict()

    @property
    def features(self) -> int:
        """How many features f an image has."""
        return len(self.mean if self.likeness is None else self.likeness.feature_mean)

    def components(self, features: Array) -> Floats:
        """Return the components (n, p) of features (n, f), float32, on the host."""
        return self._of(features, lambda block: block)

    def ridge_rows(self, features: Array) -> Floats:
        """Return what the ridge sees of features (n, f): components times λ^(−1/4), rows of unit length."""
        return self._of(features, lambda block: scaled(block, self.eigenvalues, -1 / 4))

    def _of(self, features: Array, then: Callable[[Floats], Floats]) -> Floats:
        out = np.empty((len(features), len(self.axes)), np.float32)
        turned = backend.namespace(features[:0]).asarray(self.axes.T)
        for first, block in _blocks(features if self.likeness is None else Likened(features, self.likeness)):
            rows = standardised(block, self.mean, self.scale)
            out[first : first + len(block)] = then(devices.to_device(rows @ turned, "cpu"))
        return out

    def neighbour_rows(self, components: Floats) -> Floats:
        """Return the space of neighbours: components times λ^(−3/8), rows of unit length."""
        return scaled(components, self.eigenvalues, -3 / 8)


ARRAYS = Space._fields[:4]  # all but the likeness


def scaled(components: Floats, eigenvalues: Floats, power: float) -> Floats:
    """Return components times a power of their eigenvalues, rows of unit length; rows of zeros stay so."""
    rows = components * (eigenvalues**power).astype(components.dtype)
    norms = backend.row_norms(rows)
    rows /= np.where(norms > 0, norms, 1)
    return rows  # type: ignore[no-any-return]


class Columns:
    """Some columns of features (n, d), taken when rows of them are read, so that there is no copy of all."""

    def __init__(self, features: Array, columns: npt.NDArray[np.int64]) -> None:
        self._features, self._columns = features, backend.namespace(features).asarray(columns)
        self.shape = (len(features), len(columns))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> Array:
        return self._features[rows][:, self._columns]


def learned_space(features: Array, meter: Meter, most: int = COMPONENTS) -> Space:
    """Return the space of features (n, f): at most so many components, some rows at a time.

    The smaller of the matrices features × features and rows × rows gives them; a subspace iteration, if both are large.
    """
    mean, scale = _statistics(features)
    likeness = None
    if features.shape[1] <= FEW:
        likeness = Likeness.of(features, mean, scale)
        features = Likened(features, likeness)
        mean, scale = _statistics(features)
    if min(features.shape) > _MOST_EXACT:
        values, axes = _by_iteration(features, mean, scale, most, meter)
    elif len(features) < features.shape[1]:
        values, axes = _from_rows(features, mean, scale, most)
    else:
        values, axes = _from_features(features, mean, scale, most, meter)
    largest = np.abs(axes).argmax(axis=1)
    axes = axes * np.sign(axes[np.arange(len(axes)), largest])[:, None]  # whichever sign LAPACK gives
    return Space(mean, scale, axes.astype(np.float32), values, likeness)


def _statistics(features: Array) -> tuple[Floats, Floats]:
    """Return means and 1 / standard deviations, in two passes: the squares of differences lose no digits."""
    xp = backend.namespace(features[:0])
    with np.errstate(over="ignore", invalid="ignore"):
        total = sum(block.sum(axis=0, dtype=np.float64) for _, block in _blocks(features))
        mean = total / len(features)
        squares = sum(((block - mean) ** 2).sum(axis=0) for _, block in _blocks(features))
    std = xp.sqrt(squares / len(features))
    if not bool(xp.isfinite(std).all()):
        raise ValueError(
            "FewLabelClassifier.fit: X holds numbers so large that their squares leave the range of float64; scale "
            "them, to standard deviations of about 1."
        )
    mean, std = devices.to_device(mean, "cpu"), devices.to_device(std, "cpu")
    varies = std > 1e-12 * np.abs(mean)
    if not std.any() and any(bool((block != block[:1]).any()) for _, block in _blocks(features)):
        raise ValueError(
            "FewLabelClassifier.fit: the numbers of X differ by so little that squares of it are 0; scale "
            "them, to standard deviations of about 1."
        )
    return mean, np.where(varies, 1 / np.where(varies, std, 1), 0)


def _from_features(features: Array, mean: Floats, scale: Floats, most: int, meter: Meter) -> tuple[Floats, Floats]:
    total: Any = 0.0
    for _, block in _blocks(features):
        rows = standardised(block, mean, scale)
        total = total + (rows.T @ rows).astype(np.float64)
        meter.add(len(block))
    values, vectors = _largest(devices.to_device(total, "cpu") / len(features), most)
    return values, vectors.T


def _by_iteration(features: Array, mean: Floats, scale: Floats, most: int, meter: Meter) -> tuple[Floats, Floats]:
    """Return the largest components, found by products of all features with some random axes, again and again.

    Source: Halko, Martinsson, Tropp 2011, "Finding structure with randomness", randomised subspace iteration. On
    features of 20,000 images of CIFAR-10 two products and three make guesses of the same accuracy.
    """
    xp = backend.namespace(features[:0])
    random = np.random.default_rng(0).standard_normal((features.shape[1], most + _SPARE), np.float32)
    axes = found = xp.asarray(random)
    for _ in range(_PRODUCTS):
        axes = xp.linalg.qr(found)[0]
        found = xp.zeros_like(axes)
        for _, block in _blocks(features):
            rows = standardised(block, mean, scale)
            found += rows.T @ (rows @ axes)
            meter.add(len(block) / _PRODUCTS)
    among = devices.to_device(axes.T @ found, "cpu").astype(np.float64) / len(features)
    values, vectors = _largest((among + among.T) / 2, most)
    return values, devices.to_device(axes, "cpu").dot(vectors.astype(np.float32)).T


def _from_rows(features: Array, mean: Floats, scale: Floats, most: int) -> tuple[Floats, Floats]:
    rows = np.empty(features.shape, np.float32)
    for first, block in _blocks(features):
        rows[first : first + len(block)] = devices.to_device(standardised(block, mean, scale), "cpu")
    total: Any = 0.0
    for columns in _columns(rows):
        wide = columns.astype(np.float64)
        total = total + wide @ wide.T
    values, vectors = _largest(total / len(rows), most)
    axes = np.concatenate([vectors.T @ columns for columns in _columns(rows)], axis=1)
    lengths = np.linalg.norm(axes, axis=1, keepdims=True)
    return values, axes / np.where(lengths > 0, lengths, 1)  # 0: all rows are alike


def _columns(rows: Floats) -> Iterator[Floats]:
    """Yield columns of a bounded number of numbers."""
    step = max(1, _NUMBERS // len(rows))
    return (rows[:, first : first + step] for first in range(0, rows.shape[1], step))


def _largest(matrix: Floats, most: int) -> tuple[Floats, Floats]:
    """Return the largest eigenvalues, falling, and their eigenvectors in columns, without those that are rounding."""
    size = len(matrix)
    with parallel.one_blas_thread():  # as in Whiten
        values, vectors = scipy.linalg.eigh(matrix, subset_by_index=(max(0, size - most), size - 1))
    values, vectors = values[::-1], vectors[:, ::-1]
    kept = max(1, int((values > _SMALLEST * max(values[0], 0)).sum()))
    if not values[0] > 0:  # all rows are alike
        values = np.ones_like(values)
    return values[:kept].copy(), vectors[:, :kept]


def _blocks(features: Array) -> Iterator[tuple[int, Array]]:
    """Yield (first row, rows) of a bounded number of numbers, row by row in memory: sums round as they lie there."""
    step, xp = max(1, _NUMBERS // features.shape[1]), backend.namespace(features[:0])
    return ((first, xp.ascontiguousarray(features[first : first + step])) for first in range(0, len(features), step))
