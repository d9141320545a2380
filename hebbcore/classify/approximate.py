"""Nearly all of the nearest rows of each row, in time that grows little faster than their number: by faiss's HNSW."""

from collections.abc import Callable
from typing import Any

import numpy as np

from hebbcore.classify.neighbours import Floats, Indices, by_distance, nearest
from hebbcore.engine import parallel
from hebbcore.evaluation.ridge.meter import Meter

_LINKS = 16  # of a row, on each side
_BUILDING, _SEARCHING = 80, 64  # candidates that are kept: more find more of the nearest, and take longer
_ROWS = 4096  # added, or looked for, between two looks at the clock


def library(function: str) -> Any:
    """Return the module faiss. Raises ModuleNotFoundError, with what to do, if it is not installed."""
    try:
        import faiss
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f'{function}: approximate neighbours need faiss: python -m pip install faiss-cpu (the extra "neighbours" '
            'of hebbcore). FewLabelClassifier(neighbours="exact") does without, in a time that grows with the square '
            "of the images."
        ) from error
    return faiss


def nearest_approximately(
    rows: Floats, count: int, progress: Callable[[str], None] | None = None
) -> tuple[Indices, Floats]:
    """Return near other rows (n, count) of each of rows (n, d), and the squares of their distances, rising.

    The same each time: one thread builds the index, as several would do so in an order of their own; all search it.

    References
    ----------
    Malkov and Yashunin 2018, "Efficient and robust approximate nearest neighbor search using hierarchical navigable
    small world graphs".
    """
    faiss, n = library("FewLabelClassifier.fit"), len(rows)
    index = faiss.IndexHNSWFlat(rows.shape[1], _LINKS)
    index.hnsw.efConstruction, index.hnsw.efSearch = _BUILDING, max(_SEARCHING, count + 1)
    indices, distances = np.empty((n, count), np.int64), np.empty((n, count))
    lacking: list[Indices] = []
    before = faiss.omp_get_max_threads()
    try:
        faiss.omp_set_num_threads(1)
        meter = Meter(progress, "index of neighbours", n, "images")
        for first in range(0, n, _ROWS):
            index.add(rows[first : first + _ROWS])
            meter.add(min(_ROWS, n - first))
        faiss.omp_set_num_threads(parallel.threads())
        meter = Meter(progress, "neighbours", n, "images")
        for first in range(0, n, _ROWS):
            own = np.arange(first, min(n, first + _ROWS))
            _, found = index.search(rows[own], count + 1)
            others = _others(own, found)
            indices[own], distances[own] = by_distance(rows, own, others)
            lacking.append(own[(others < 0).any(axis=1)])
            meter.add(len(own))
    finally:
        faiss.omp_set_num_threads(before)
    few = np.concatenate(lacking)  # the index does not lead to enough others, as among many duplicates
    if len(few):
        indices[few], distances[few] = nearest(rows, count, Meter(progress, "neighbours", len(few), "images"), few)
    return indices, distances


def _others(own: Indices, found: Indices) -> Indices:
    """Return what was found (m, count + 1) near the rows `own`, without these; −1 stays where too few were found."""
    itself = found == own[:, None]
    itself[~itself.any(axis=1), -1] = True  # the farthest goes instead
    others: Indices = found[~itself].reshape(len(own), -1)
    return others
