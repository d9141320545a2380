"""Which rows of a training split have labels: the protocol of few labels."""

import numbers
from typing import Any

import numpy as np
import numpy.typing as npt

from hebbcore import checks
from hebbcore.evaluation.batches import Labels, as_labels, labelled_rows

FRACTIONS = (0.01, 0.02, 0.03, 0.04, 0.05, 0.1, 0.25, 1.0)  # of the published protocol (FastHebb, Lagani et al. 2022)


def labelled_subset(
    labels: Any, size: int | float, seed: int | np.random.Generator = 0, how: str = "published"
) -> npt.NDArray[np.int64]:
    """Return the indices of the rows that may keep their labels, in the order of a seeded shuffle.

    Parameters
    ----------
    labels : (n,)
        Labels of the whole training split. Rows of numbers below 0 and of empty texts have no label and are never among
        the chosen (see RidgeReadout).
    size : int or float
        An int counts rows, a float is a fraction of the labelled ones, above 0, at most 1.
    seed : int or Generator
        Shuffles the rows.
    how : {"published", "stratified"}
        "published" takes the first of the shuffle, whatever their classes: with one seed, smaller subsets are parts of
        larger ones. "stratified" takes the first of each class, as many as its share of the rows asks, at least one.

    Returns
    -------
    (rows,) int64
        Indices.

    Raises
    ------
    ValueError
        If a class would be left without a row, or for a size that the rows do not have.

    References
    ----------
    "published": the protocol of FastHebb (Lagani et al. 2022), whose fractions FRACTIONS are.
    """
    function = "labelled_subset"
    names = as_labels(function, "labels", labels, np.size(labels), "labels")
    labelled = labelled_rows(function, names, "rows")
    indices, names = np.flatnonzero(labelled), names[labelled]
    checks.choice(function, "how", how, ("published", "stratified"))
    count = _count(function, size, len(names))
    classes, codes = np.unique(names, return_inverse=True)
    if count < len(classes):
        raise ValueError(
            f"{function}: {count} of {len(names)} rows cannot cover {len(classes)} classes; ask for more rows."
        )
    chosen = drawn(names, count, seed, how)
    _require_all(function, classes, codes[chosen], count)
    return indices[chosen]


def drawn(labels: Labels, count: int, seed: int | np.random.Generator, how: str) -> npt.NDArray[np.int64]:
    """Return the rows that labelled_subset does, but of the published selection whatever classes it has.

    labels: (n,), all of them classes. count: how many rows; for "stratified" at least as many as classes.
    """
    order = np.random.default_rng(seed).permutation(len(labels))
    if how == "published":
        return order[:count]
    classes, codes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    quotas = _quotas(counts, count)
    rank = np.empty(len(labels), np.int64)  # of a row among its class's, in the shuffle
    for code in range(len(classes)):
        of_class = order[codes[order] == code]
        rank[of_class] = np.arange(len(of_class))
    return order[rank[order] < quotas[codes[order]]]


def rows_of(fraction: float, rows: int) -> int:
    """Return how many rows a fraction of them is."""
    return round(fraction * rows)


def _count(function: str, size: Any, rows: int) -> int:
    if isinstance(size, numbers.Integral):
        count = checks.integer(function, "size", size, 1)
        if count > rows:
            raise ValueError(f"{function}: size must be at most the number of rows ({rows}), got {count}.")
        return count
    fraction = checks.positive(function, "size", size)
    if fraction > 1:
        raise ValueError(f"{function}: size as a fraction must be at most 1, got {fraction}; write rows as an int.")
    return rows_of(fraction, rows)


def _quotas(counts: npt.NDArray[np.int64], total: int) -> npt.NDArray[np.int64]:
    """Return how many rows each class gives: its share rounded, at least 1, that sum to total."""
    ideal = counts * (total / counts.sum())
    quotas: npt.NDArray[np.int64] = np.maximum(1, np.floor(ideal + 1e-9)).astype(np.int64)
    while quotas.sum() < total:
        quotas[np.argmax(np.where(quotas < counts, ideal - quotas, -np.inf))] += 1
    while quotas.sum() > total:
        quotas[np.argmax(np.where(quotas > 1, quotas - ideal, -np.inf))] -= 1
    return quotas


def _require_all(function: str, classes: Labels, codes: npt.NDArray[np.int64], count: int) -> None:
    absent = np.setdiff1d(np.arange(len(classes)), codes)
    if len(absent):
        raise ValueError(
            f"{function}: {len(absent)} of {len(classes)} classes have no row among the {count}, the first is "
            f'{classes[absent[:1]].item()!r}; take more rows, another seed, or how="stratified".'
        )
