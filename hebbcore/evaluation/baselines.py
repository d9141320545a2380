"""Banks of filters that were not learned by a Hebbian rule, to compare with those that were, in the same pipeline.

Every bank is (units, size) float32, a filter a row, size the numbers in a patch (im2col's order). Random filters and
patches have length 1, so that no unit speaks louder than another by chance.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
from sklearn.cluster import MiniBatchKMeans

from hebbcore import checks
from hebbcore.engine import backend, devices, parallel
from hebbcore.engine.backend import Array
from hebbcore.engine.finite import faint_is_zero
from hebbcore.evaluation.batches import as_features
from hebbcore.evaluation.ridge.sums import ClassSums, require_finite

_KMEANS_BATCH = 4096


@faint_is_zero
def random_filters(units: int, size: int, generator: np.random.Generator) -> Array:
    """Return filters of random directions, all equally likely.

    Parameters
    ----------
    units : int
        Number of filters.
    size : int
        Numbers in a filter.
    generator : numpy.random.Generator
        Draws them.

    Returns
    -------
    (units, size) float32
        Rows of length 1.

    Raises
    ------
    ValueError, TypeError
        For numbers below 1.
    """
    units = checks.integer("random_filters", "units", units, 1)
    size = checks.integer("random_filters", "size", size, 1)
    return _unit_rows(generator.standard_normal((units, size)))


@faint_is_zero
def random_patches(patches: Any, units: int, generator: np.random.Generator) -> Array:
    """Return different rows of patches, chosen at random among those that are not zero; whiten them before.

    Parameters
    ----------
    patches : (n, size)
        NumPy or CuPy.
    units : int
        Number of filters.
    generator : numpy.random.Generator
        Chooses.

    Returns
    -------
    (units, size) float32
        Rows of length 1, on the patches' device.

    Raises
    ------
    ValueError
        If fewer than units are not zero.

    References
    ----------
    Thiry et al. 2021, "The unreasonable effectiveness of patches in deep convolutional kernels methods".
    """
    rows = _rows("random_patches", patches)
    full = np.flatnonzero(devices.to_device((rows != 0).any(axis=1), "cpu"))
    _enough("random_patches", units, len(full), "patches that are not zero")
    chosen = backend.namespace(rows).asarray(generator.choice(full, units, replace=False))
    return _unit_rows(rows[chosen].astype(np.float64))


@faint_is_zero
def kmeans_centres(patches: Any, units: int, seed: int) -> Array:
    """Return the centres of clusters of patches, by scikit-learn's MiniBatchKMeans; whiten them before.

    The patches are visited on the CPU, several times, in random order.

    Parameters
    ----------
    patches : (n, size)
        NumPy or CuPy.
    units : int
        Number of centres.
    seed : int
        random_state of MiniBatchKMeans.

    Returns
    -------
    (units, size) float32
        On the patches' device.

    Raises
    ------
    ValueError
        If there are fewer patches than units.

    References
    ----------
    Coates, Ng & Lee 2011, "An analysis of single-layer networks in unsupervised feature learning".
    """
    rows = _rows("kmeans_centres", patches)
    _enough("kmeans_centres", units, len(rows), "patches")
    model = MiniBatchKMeans(units, batch_size=_KMEANS_BATCH, n_init=1, random_state=seed)
    centres = model.fit(devices.to_device(rows, "cpu")).cluster_centers_
    return backend.namespace(rows).asarray(centres.astype(np.float32))


@faint_is_zero
def principal_components(patch_batches: Iterable[Any], units: int) -> Array:
    """Return the directions of largest variance of all patches, the largest first, in one pass over batches.

    Exact, from the sums of products: for the size of patches that is both less work and memory than scikit-learn's
    IncrementalPCA, which forgets a little with each batch.

    Parameters
    ----------
    patch_batches : iterable of (n, size)
        NumPy or CuPy.
    units : int
        Number of directions.

    Returns
    -------
    (units, size) float32
        Rows of length 1, the largest number of each positive, on the patches' device.

    Raises
    ------
    ValueError, TypeError
        For batches that do not match each other, or units above size or the patches less one.
    """
    function = "principal_components"
    if backend.on_cuda(patch_batches) or not isinstance(patch_batches, Iterable):
        raise TypeError(f"{function}: patch_batches must be an iterable of arrays (n, size); write one as [patches].")
    sums: ClassSums | None = None
    for batch in patch_batches:
        rows = _rows(function, batch)
        sums = sums or ClassSums(rows, centred=True)
        if rows.shape[1] != len(sums.products):
            raise ValueError(f"{function}: patches changed from {len(sums.products)} to {rows.shape[1]} numbers.")
        sums.add(rows, np.zeros(len(rows), np.int64), np.ones(len(rows)))
    if sums is None:
        raise ValueError(f"{function}: patch_batches gave no batch; pass something that can be iterated again.")
    sums.flush()
    require_finite(function, sums.products)
    count = int(sums.counts[0])
    _enough(function, units, min(len(sums.products), count - 1), "directions in the patches")
    xp = backend.namespace(sums.products)
    # the lower triangle is all that eigh reads
    products = sums.products - xp.outer(sums.sums[0], sums.sums[0]) / count
    with parallel.one_blas_thread():  # as in Whiten
        directions = xp.linalg.eigh(products, "L")[1][:, ::-1][:, :units].T
    largest = xp.abs(directions).argmax(axis=1)
    signs = xp.sign(directions[xp.arange(units), largest])
    return (directions * signs[:, None]).astype(np.float32)


def _rows(function: str, patches: Any) -> Array:
    rows = as_features(function, "patches", patches)
    return rows if rows.dtype.kind == "f" else rows.astype(np.float32)


def _enough(function: str, units: Any, available: int, what: str) -> None:
    if checks.integer(function, "units", units, 1) > available:
        raise ValueError(f"{function}: units must be at most the number of {what} ({available}), got {units}.")


def _unit_rows(rows: Array) -> Array:
    xp = backend.namespace(rows)
    return (rows / xp.sqrt((rows * rows).sum(axis=1, keepdims=True))).astype(np.float32)
