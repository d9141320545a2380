"""The graph of neighbours: weights that fall with the distance, and links between parts that nothing else joins."""

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from hebbcore.classify.neighbours import Indices

CANDIDATES = 30  # nearest images of each, among which its links are chosen
_LINKS, _COMPARED = 10, 15
_JOINT = np.exp(-4.0)  # weight of a link between parts
_PRODUCTS = 2**26  # numbers of a block of products
_REFERENCES = 2**16
_ROWS = 1024  # whose shared neighbours are counted at once
_ROUNDING = 1e-5  # of a square of a distance that is made of products, in the squares of the rows

Floats = npt.NDArray[Any]


def neighbour_graph(indices: Indices) -> Any:
    """Return the symmetric weights W (n, n), CSR, of links between images that share neighbours.

    indices: (n, k) nearest neighbours, the nearest first. Two images are as alike as the sets of their 15 nearest and
    themselves: shared ones / all of both (Jaccard). Each image has links to the 10 most alike of its k; of equal ones
    the nearest. They weigh the square of that; then W ← (W + Wᵀ)/2.

    References
    ----------
    Jarvis and Patrick 1973, "Clustering using a similarity measure based on shared near neighbors".
    """
    n, candidates = indices.shape
    compared, links = min(_COMPARED, candidates), min(_LINKS, candidates)
    sets = np.hstack([np.arange(n)[:, None], indices[:, :compared]])
    flags = sparse.csr_array(
        (np.ones(sets.size, np.float32), sets.ravel().astype(np.int32), np.arange(0, sets.size + 1, compared + 1)),
        (n, n),
    )
    transposed = flags.T.tocsr()
    chosen, weights = np.empty((n, links), np.int32), np.empty((n, links))
    for first in range(0, n, _ROWS):
        own = indices[first : first + _ROWS]
        shared = (flags[first : first + _ROWS] @ transposed)[np.arange(len(own))[:, None], own].toarray()
        alike = shared / (2 * (compared + 1) - shared)
        order = np.argsort(-alike, axis=1, kind="stable")[:, :links]
        chosen[first : first + _ROWS] = np.take_along_axis(own, order, axis=1)
        weights[first : first + _ROWS] = np.take_along_axis(alike, order, axis=1) ** 2
    graph = sparse.csr_array((weights.ravel(), (np.repeat(np.arange(n), links), chosen.ravel())), (n, n))
    return ((graph + graph.T) / 2).tocsr()


def joined(graph: Any, rows: Floats) -> Any:
    """Return the graph with its parts joined: all but the largest get a link to the row nearest to them.

    Poisson learning has no solution on a part whose labels do not sum to those of the whole, and says nothing on one
    without labels. A link weighs as much as one between images that share a quarter of their neighbours.
    rows: (n, d), in which neighbours were looked for.
    """
    squares = np.einsum("ij,ij->i", rows, rows)
    while True:
        count, parts = connected_components(graph, directed=False)
        if count == 1:
            return graph
        largest = np.bincount(parts).argmax()
        order = np.argsort(parts, kind="stable")
        groups = np.split(order, np.cumsum(np.bincount(parts))[:-1])
        pairs = np.array(_links(rows, squares, [group for part, group in enumerate(groups) if part != largest]))
        weights = np.full(len(pairs), _JOINT)
        links = sparse.csr_array((weights, (pairs[:, 0], pairs[:, 1])), graph.shape)
        graph = graph.maximum(links).maximum(links.T).tocsr()


def _links(rows: Floats, squares: Floats, groups: list[Indices]) -> list[tuple[int, int]]:
    """Return (row of the group, row outside it) that are nearest to each other, for each group.

    A row that is nearest to some row of a group is no farther from its middle than the row nearest to that, and two
    radii: few need a look where rows of a group are alike, such as duplicates.
    """
    found = []
    step = max(1, min(256, _PRODUCTS // len(rows)))
    for start in range(0, len(groups), step):
        block = groups[start : start + step]
        middles = np.stack([rows[group].mean(axis=0) for group in block])
        own = np.einsum("ij,ij->i", middles, middles)
        costs = squares - 2 * middles @ rows.T + own[:, None]
        slack = _ROUNDING * (own + squares.max())
        for group, middle, cost, more in zip(block, middles, costs, slack, strict=True):
            cost[group] = np.inf
            radius = np.sqrt(((rows[group] - middle) ** 2).sum(axis=1).max())
            farthest = (np.sqrt(max(cost.min() + more, 0)) + 2 * radius) ** 2 + more
            found.append(_link(rows, squares, group, np.flatnonzero(cost <= farthest)))
    return found


def _link(rows: Floats, squares: Floats, group: Indices, others: Indices) -> tuple[int, int]:
    """Return (row of the group, one of the others) that are nearest to each other."""
    best = (np.inf, 0, 0)
    for first in range(0, len(others), _REFERENCES):
        some = others[first : first + _REFERENCES]
        references, step = rows[some], max(1, min(256, _PRODUCTS // len(some)))
        for start in range(0, len(group), step):
            own = group[start : start + step]
            costs = squares[some] - 2 * rows[own] @ references.T + squares[own, None]
            row, column = np.unravel_index(costs.argmin(), costs.shape)
            best = min(best, (float(costs[row, column]), int(own[row]), int(some[column])))
    return best[1:]
