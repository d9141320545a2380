"""Weights that start from patches of the first data."""

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from hebbcore.engine import devices, parallel, tuning
from hebbcore.engine.answers import weights_of
from hebbcore.engine.backend import Array
from hebbcore.engine.finite import rows_with_a_norm
from hebbcore.engine.patches import Geometry, patches_at
from hebbcore.engine.rule import Rule

STARTS = ("rule", "patches", "k-means++")

_PER_IMAGE = 8  # patches taken of an image, unless there are too few images
_MORE = 1024  # patches taken of a batch, at least, once few of those that were taken differ
_CANDIDATES = 10  # a unit, of which k-means++ chooses
_STEP = 1 / 16  # directions that differ by less, in each number, relative to the root mean square, are the same


def starting_weights(
    function: str,
    how: str,
    rule: Rule,
    drawn: np.ndarray[Any, Any],
    g: Geometry,
    batches: Callable[[], Iterator[Array]],
    generator: np.random.Generator,
) -> np.ndarray[Any, Any]:
    """Return weights from patches of the first of the data that differ and are not 0.

    Parameters
    ----------
    function : str
        What trains, for messages.
    how : {"patches", "k-means++"}
        "k-means++" is the seeding of k-means: each patch is drawn from about ten times as many with a probability that
        grows with its squared distance from those drawn before (between directions, for units that compete).
    rule : Rule
        The layer's, which says how long the weights are (Rule.from_patches).
    drawn : numpy.ndarray
        (units, D), weights by the rule. They stay, with a warning, where there are too few patches.
    g : Geometry
        The layer's sizes.
    batches : callable
        Returns the inputs (n, H, W, C) of the layer, from the first. At most eight patches an image are taken, unless
        there are too few images, so that no more are read than needed, and no more patches are held than `drawn`, or
        64 MiB, have numbers.
    generator : numpy.random.Generator
        To draw from.

    Returns
    -------
    numpy.ndarray
        (units, D).

    References
    ----------
    k-means++: Arthur & Vassilvitskii (SODA 2007), by scikit-learn.
    """
    units, size = drawn.shape
    wanted = units
    if how == "k-means++":
        wanted = max(units, min(_CANDIDATES * units, tuning.MEASURED.candidate_bytes // (size * drawn.dtype.itemsize)))
    patches = _different(rule, g, batches, wanted, drawn.dtype, generator)
    if len(patches) > units:
        patches = _far_apart(rule, patches, units, generator)
    if len(patches) < units:
        warnings.warn(
            f"{function}: the data have only {len(patches)} different patches that are not 0, fewer than the {units} "
            "units; the other units start from weights drawn by the rule. Give more data, or make fewer units.",
            stacklevel=2,
        )
    weights = drawn.copy()
    if len(patches):
        first = drawn[: len(patches)]
        lengths = weights_of(rule, "lengths", rule.lengths(first), (len(patches), 1), first)
        begun = rule.from_patches(patches, lengths)
        weights[: len(patches)] = weights_of(rule, "from_patches", begun, patches.shape, patches)
    return weights


def _different(
    rule: Rule,
    g: Geometry,
    batches: Callable[[], Iterator[Array]],
    wanted: int,
    dtype: np.dtype[Any],
    generator: np.random.Generator,
) -> np.ndarray[Any, Any]:
    """Return up to so many patches that differ in direction (up to the sign, for rules of both), in random order."""
    found: list[np.ndarray[Any, Any]] = []
    known: set[bytes] = set()
    per_image, least = _PER_IMAGE, 0
    while True:
        more = cut = False  # more could be taken of an image; of a batch
        images, before = 0, len(found)
        source = batches()
        try:
            for x in source:
                places = len(x) * g.positions
                images += len(x)
                most = min(places, len(x) * per_image)
                count = min(most, max(least, 2 * (wanted - len(found))))
                more |= most < places
                cut |= count < most
                chosen = generator.choice(places, count, replace=False)
                rows = devices.to_device(patches_at(x, g, chosen, dtype), "cpu")
                for row, key in zip(rows, _keys(rule, rows), strict=True):
                    if key is not None and key not in known and len(found) < wanted:
                        known.add(key)
                        found.append(row.copy())
                if len(found) == wanted:
                    return np.array(found)
        finally:
            if hasattr(source, "close"):
                source.close()
        if more:
            per_image = max(8 * per_image, -(-2 * wanted // images))
        elif cut and (not least or len(found) > before):
            least = _MORE
        else:
            return np.array(found)


def _keys(rule: Rule, rows: np.ndarray[Any, Any]) -> list[bytes | None]:
    """Return a key for the direction of each row, None for rows without one, such as zeros."""
    roots = np.sqrt((rows.astype(np.float64) ** 2).mean(axis=1, keepdims=True))
    sound = np.isfinite(roots) & rows_with_a_norm(rows)[:, None]
    steps = np.rint(np.where(sound, rows, 0) / np.where(sound, roots * _STEP, 1)).astype(np.int32)
    if rule.signed:
        steps *= np.sign(np.take_along_axis(steps, np.abs(steps).argmax(axis=1)[:, None], axis=1))
    return [row.tobytes() if good else None for row, good in zip(steps, sound[:, 0], strict=True)]


def _far_apart(
    rule: Rule, patches: np.ndarray[Any, Any], units: int, generator: np.random.Generator
) -> np.ndarray[Any, Any]:
    """Return the patches that k-means++ draws."""
    from sklearn.cluster import kmeans_plusplus

    points = patches
    if rule.competes:
        points = patches / np.linalg.norm(patches, axis=1, keepdims=True)
    if rule.signed:  # one of x and −x
        points = points * np.sign(points[np.arange(len(points)), np.abs(points).argmax(axis=1)])[:, None]
    with parallel.one_blas_thread():
        _, chosen = kmeans_plusplus(points, units, random_state=int(generator.integers(2**32)))
    found: np.ndarray[Any, Any] = patches[chosen]
    return found
