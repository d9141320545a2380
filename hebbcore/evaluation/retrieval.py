"""Retrieval: how many of a query's nearest neighbours in the database share its class."""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from hebbcore import checks
from hebbcore.engine import backend, devices
from hebbcore.engine.backend import Array
from hebbcore.engine.finite import LARGEST, SMALLEST, faint_is_zero
from hebbcore.evaluation.batches import (
    CLASS_NUMBERS,
    Labels,
    as_features,
    as_labels,
    has_label,
    labelled_rows,
    require_one_kind,
    tell_left_out,
)

METRICS = ("euclidean", "cosine", "hamming")
_QUERIES = 256  # at a time: enough for a matrix product, few enough for long blocks of the database


class Retrieval(NamedTuple):
    """Averages over the queries, between 0 and 1.

    Parameters
    ----------
    k : tuple of int
        Numbers of neighbours.
    precision : tuple of float
        precision@k, for each k.
    mean_average_precision : tuple of float
        mAP@k, for each k.
    """

    k: tuple[int, ...]
    precision: tuple[float, ...]
    mean_average_precision: tuple[float, ...]


@faint_is_zero
def retrieval_scores(
    database: Any,
    database_labels: Any,
    queries: Any,
    query_labels: Any,
    *,
    k: int | Iterable[int] | None = None,
    metric: str = "euclidean",
    workspace: int | str = "256 MiB",
) -> Retrieval:
    """Rank a database by distance to each query, and return precision@k and mAP@k of the shared classes.

    Neighbours are exact; of equal computed distances the lower index comes first. A query's average precision is
    Σ precision@i · relevant_i / max(1, relevant ones among the k).

    Parameters
    ----------
    database : (n, features)
        NumPy or CuPy; distances are computed in its precision, float32 or float64.
    database_labels : (n,)
        Rows of numbers below 0 and of empty texts have no label and are left out, unless the others are fewer than two
        classes.
    queries : (m, features)
        On the device of the database.
    query_labels : (m,)
        Such rows are left out where those of the database are.
    k : int or iterable of int, optional
        Numbers of neighbours, repeated ones once; None: 100 and the database's rows per class, or all its rows if it
        has fewer.
    metric : {"euclidean", "cosine", "hamming"}
        "hamming" compares the features' signs after the database's mean is subtracted (zero counts as negative), taken
        as a product of ±1, which is exact.
    workspace : int or str
        Bytes, or text like "256 MiB", of work memory; the result does not depend on it but for rounding.

    Returns
    -------
    Retrieval
        Averages over the queries, between 0 and 1.

    Raises
    ------
    ValueError, TypeError
        For arguments that do not match each other, or a workspace too small for one query.

    References
    ----------
    The evaluation of FastHebb (Lagani et al. 2022): database = training split, queries = test split.
    """
    function = "retrieval_scores"
    base, asked = as_features(function, "database", database), as_features(function, "queries", queries)
    backend.same_device(function, "queries", asked, "database", base)
    if base.shape[1] != asked.shape[1]:
        raise ValueError(
            f"{function}: queries must have the database's {base.shape[1]} features, got {asked.shape[1]}; "
            "use one layer for both."
        )
    classes = as_labels(function, "database_labels", database_labels, len(base), "database")
    wanted = as_labels(function, "query_labels", query_labels, len(asked), "queries")
    require_one_kind(function, "query_labels", wanted, "database_labels", classes)
    base, classes, asked, wanted = _labelled(function, base, classes, asked, wanted)
    ks = _neighbours_asked(function, k, classes)
    checks.choice(function, "metric", metric, METRICS)
    search = _Search(function, base, asked, max(ks), metric, checks.byte_size(function, "workspace", workspace))
    precision, average = np.zeros(len(ks)), np.zeros(len(ks))
    for rows, neighbours in search.blocks():
        relevant = classes[neighbours] == wanted[rows][:, None]
        found = relevant.cumsum(axis=1, dtype=np.int32)
        gain = np.cumsum(relevant * found / np.arange(1, relevant.shape[1] + 1), axis=1)
        for i, count in enumerate(ks):
            precision[i] += found[:, count - 1].sum() / count
            average[i] += (gain[:, count - 1] / np.maximum(1, found[:, count - 1])).sum()
    return Retrieval(ks, tuple((precision / len(asked)).tolist()), tuple((average / len(asked)).tolist()))


def _labelled(function: str, base: Array, classes: Labels, asked: Array, wanted: Labels) -> tuple[Any, ...]:
    """Return the rows that have a label, and their labels."""
    kept = labelled_rows(function, classes, "rows of the database")
    asks = has_label(wanted) | np.isin(wanted, classes[kept])
    tell_left_out(function, int(asks.sum()), len(asks), "queries", CLASS_NUMBERS)
    if not asks.any():
        raise ValueError(f"{function}: no query has a label: all {len(wanted)} are below 0 or empty.")
    if not kept.all():
        base, classes = base[backend.namespace(base).asarray(kept)], classes[kept]
    if not asks.all():
        asked, wanted = asked[backend.namespace(asked).asarray(asks)], wanted[asks]
    return base, classes, asked, wanted


def _neighbours_asked(function: str, k: Any, classes: npt.NDArray[Any]) -> tuple[int, ...]:
    if k is None:
        k = (min(count, len(classes)) for count in (100, round(len(classes) / len(np.unique(classes)))))
    ks = tuple(
        dict.fromkeys(checks.integer(function, "k", value, 1) for value in (k if isinstance(k, Iterable) else (k,)))
    )
    if not ks or max(ks) > len(classes):
        raise ValueError(f"{function}: k must be between 1 and the rows of the database ({len(classes)}), got {k!r}.")
    return ks


class _Search:
    """Exact nearest neighbours: blocks of queries against blocks of the database, the best so far kept."""

    def __init__(self, function: str, base: Array, queries: Array, k: int, metric: str, workspace: int) -> None:
        self._base, self._queries, self._k, self._metric = base, queries, k, metric
        self._dtype = np.result_type(base.dtype, queries.dtype, np.float32)
        item, self._factor = self._dtype.itemsize, _factor(self._dtype, base, queries)
        self._mean = np.zeros(0) if metric == "cosine" else _mean(base).astype(self._dtype)
        row = base.shape[1] * item * 2  # a prepared row and what preparing it takes
        entry = 3 * item + 24  # a distance, its copies, its index and what chooses among them
        self._rows, self._length = min(_QUERIES, len(queries)), 0
        while self._rows:
            fixed = self._rows * (row + 2 * k * entry)
            self._length = min(len(base), (workspace - fixed) // (row + self._rows * entry))
            if self._length >= min(len(base), max(1, self._rows)):
                return
            self._rows //= 2
        least = row + 2 * k * entry + row + entry
        raise ValueError(
            f'{function}: workspace must be at least "{checks.byte_text(least)}" for one query with k = {k}, '
            f'got "{checks.byte_text(workspace)}".'
        )

    def blocks(self) -> Iterator[tuple[slice, npt.NDArray[np.int64]]]:
        """Yield some queries and the indices (queries, k) of their neighbours, the nearest first, on the host."""
        for start in range(0, len(self._queries), self._rows):
            rows = slice(start, start + self._rows)
            yield rows, devices.to_device(self._nearest(self._prepared(self._queries[rows])), "cpu")

    def _nearest(self, queries: Array) -> Array:
        xp = backend.namespace(queries)
        distances = xp.empty((len(queries), 0), self._dtype)
        indices = xp.empty((len(queries), 0), np.int64)
        for start in range(0, len(self._base), self._length):
            block = self._prepared(self._base[start : start + self._length])
            fresh = queries @ block.T
            fresh *= -1
            if self._metric == "euclidean":  # half of the squared distance, less what the query alone adds
                fresh += (block * block).sum(axis=1) / 2
            numbers = xp.broadcast_to(xp.arange(start, start + len(block)), fresh.shape)
            distances, indices = self._best(
                xp.concatenate([distances, fresh], axis=1), xp.concatenate([indices, numbers], axis=1)
            )
        order = xp.argsort(distances, axis=1, kind="stable")  # indices ascend, so equal distances stay in their order
        return xp.take_along_axis(indices, order, axis=1)

    def _best(self, distances: Array, indices: Array) -> tuple[Array, Array]:
        """Return the k smallest distances of each row and their indices, in the order of the indices."""
        k, (rows, columns) = self._k, distances.shape
        if columns <= k:
            return distances, indices
        xp = backend.namespace(distances)
        limit = xp.partition(distances, k - 1, axis=1)[:, k - 1 : k]
        below, equal = distances < limit, distances == limit
        missing = k - below.sum(axis=1, keepdims=True)
        chosen = below | (equal & (xp.cumsum(equal, axis=1, dtype=np.int32) <= missing))
        where = xp.nonzero(chosen)
        return distances[where].reshape(rows, k), indices[where].reshape(rows, k)

    def _prepared(self, rows: Array) -> Array:
        """Return rows such that their products rank as the metric does."""
        xp = backend.namespace(rows)
        if self._metric == "hamming":
            return xp.where(rows > self._mean, self._dtype.type(1), self._dtype.type(-1))
        rows = xp.ascontiguousarray(rows, self._dtype)  # products and sums round as numbers lie in memory
        if self._factor != 1:
            rows = rows * self._factor
        if self._metric == "euclidean":
            return rows - self._mean * self._factor  # smaller numbers lose fewer digits
        length = xp.sqrt((rows * rows).sum(axis=1, keepdims=True))
        return rows / xp.where(length > 0, length, 1)


def _mean(array: Array) -> Array:
    """Return the mean of each column, float64, the same however the array lies in memory."""
    xp = backend.namespace(array)
    return sum(xp.ascontiguousarray(rows).sum(axis=0, dtype=np.float64) for rows in backend.pieces(array)) / len(array)


def _factor(dtype: np.dtype[Any], *arrays: Array) -> Any:
    """Return a power of 2 by which numbers have squares of their dtype, 1 if they have them anyway: no rank changes."""
    pieces = (rows for array in arrays if array.dtype.kind == "f" for rows in backend.pieces(array))
    largest = max((float(backend.largest_magnitude(rows)) for rows in pieces), default=0.0)
    if not largest or SMALLEST <= largest <= LARGEST:
        return dtype.type(1)
    return dtype.type(2.0 ** -np.clip(np.frexp(largest)[1], -126, 126))
