"""Poisson learning on a graph: labels as sources and sinks, whose potential spreads over all nodes."""

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.sparse.linalg import cg

from hebbcore.classify.neighbours import Indices
from hebbcore.engine import backend

_RESIDUAL = 1e-3  # norm, of each class
_OF_A_LABEL = 1e-4  # norm; the potential of a class is a sum over its labels
_MOST_STEPS = 1000
_KEPT_A_CLASS = 16  # labels a class: of more, solving for the classes of a cross-validation anew takes less time
_KEPT_NUMBERS = 2**28  # of all responses: 1 GiB
_STACKED = 64  # responses that are added up at once
_UNLIKE = 3.0  # chosen among training images of CIFAR-10; 6 is alike, and takes half as much time again
_TOGETHER = 16  # classes that are solved for at once
_NUMBERS = 2**22  # of scores of both ends of links, at once

Floats = npt.NDArray[Any]


class Poisson:
    """Solves L u = b on a connected graph by conjugate gradients, for any labels.

    The solution is linear in b. Of few labels the response to each is solved for once and kept: other labels of the
    same nodes, parts of them in a cross-validation, and one more label then cost little.

    graph: symmetric weights (n, n), CSR.

    References
    ----------
    Calder, Cook, Thorpe, Slepčev 2020, "Poisson learning: graph based semi-supervised learning at very low label
    rates".
    """

    def __init__(self, graph: Any) -> None:
        degrees = graph.sum(axis=1)
        self._roots, self._shares = 1 / np.sqrt(degrees), degrees / degrees.sum()
        scaled = sparse.diags_array(self._roots) @ graph @ sparse.diags_array(self._roots)
        self._laplacian = (sparse.eye_array(graph.shape[0]) - scaled).tocsr()
        if self._laplacian.nnz < 2**31:  # half of what a product reads; SciPy took int64 from the neighbours
            self._laplacian.indices = self._laplacian.indices.astype(np.int32)
            self._laplacian.indptr = self._laplacian.indptr.astype(np.int32)
        self._responses: dict[int, Floats] = {}

    @classmethod
    def from_state(cls, arrays: Mapping[str, Any]) -> Self:
        """Return the one whose state it is."""
        found = cls.__new__(cls)
        found._roots, found._shares, found._responses = arrays["roots"], arrays["shares"], {}
        parts = arrays["laplacian"], arrays["columns"], arrays["starts"]
        found._laplacian = sparse.csr_array(parts, (len(found._roots), len(found._roots)))
        return found

    def state(self) -> dict[str, Any]:
        """Return what is known of the graph, as NumPy arrays."""
        graph = self._laplacian
        parts = {"laplacian": graph.data, "columns": graph.indices, "starts": graph.indptr}
        return {"roots": self._roots, "shares": self._shares, **parts}

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_responses": {}}

    def potentials(self, where: Indices, codes: Indices, classes: int) -> Floats:
        """Return u (n, classes), float32: b is y − ȳ at the nodes `where`, of classes `codes`, and 0 elsewhere.

        (I − D^(−½) W D^(−½)) v = D^(−½) b is solved to a residual norm of 1e-3; u = D^(−½) v. The potentials of a
        class lie one after another in memory.
        """
        sources = _sources(where, codes, classes)
        # what is kept must not decide: labels have the same potentials whatever was learned before
        if len(where) <= _KEPT_A_CLASS * classes and len(where) * len(self._roots) <= _KEPT_NUMBERS:
            return self._summed(where, sources).T
        out = np.empty((classes, len(self._roots)), np.float32)
        right = np.zeros(len(self._roots))
        for number in range(classes):
            right[where] = self._roots[where] * sources[number]
            out[number] = self._solution(right, _RESIDUAL)
        return out.T

    def among_alike(self, where: Indices, codes: Indices, scores: Floats, before: Floats) -> Floats:
        """Return the potentials (n, classes) where links weigh less between nodes of unlike scores (n, classes).

        Weights are times exp(−3 (1 − c)), c: the cosine of what the scores of both ends are above the mean. before:
        potentials that the solutions are looked for from.
        """
        graph, scores = self._laplacian, scores - scores.mean(axis=0)
        norms = backend.row_norms(scores)
        unit = (scores / np.where(norms > 0, norms, 1)).astype(np.float32)
        ends = np.repeat(np.arange(len(unit), dtype=graph.indices.dtype), np.diff(graph.indptr))
        weights = np.empty(len(ends))
        step = max(1, _NUMBERS // unit.shape[1])
        for first in range(0, len(ends), step):
            some = slice(first, first + step)
            own, others = ends[some], graph.indices[some]
            alike = np.einsum("ij,ij->i", unit[own], unit[others])
            former = -graph.data[some] / (self._roots[own] * self._roots[others])
            weights[some] = np.where(own == others, 0, former) * np.exp(_UNLIKE * (np.minimum(alike, 1) - 1))
        changed = Poisson(sparse.csr_array((weights, graph.indices, graph.indptr), graph.shape))
        return changed._near(_sources(where, codes, before.shape[1]), where, before)

    def _near(self, sources: Floats, where: Indices, before: Floats) -> Floats:
        """Return the potentials (n, classes), float32, found from others near them: some classes at a time."""
        laplacian, roots = self._laplacian.astype(np.float32), self._roots.astype(np.float32)[:, None]
        out = np.empty((len(sources), len(roots)), np.float32)
        for first in range(0, len(sources), _TOGETHER):
            some = slice(first, first + _TOGETHER)
            right = np.zeros((len(roots), len(sources[some])), np.float32)
            right[where] = roots[where] * sources[some].T
            out[some] = (roots * solutions(laplacian, right, before[:, some] / roots, _RESIDUAL)).T
        return out.T

    def _summed(self, where: Indices, sources: Floats) -> Floats:
        """Return the potentials (classes, n) of sources (classes, m) at the nodes `where`."""
        if (len(self._responses) + len(where)) * len(self._roots) > 2 * _KEPT_NUMBERS:
            kept = set(where.tolist())
            self._responses = {node: found for node, found in self._responses.items() if node in kept}
        out = np.zeros((len(sources), len(self._roots)), np.float32)
        for first in range(0, len(where), _STACKED):
            responses = np.stack([self._response(node) for node in where[first : first + _STACKED].tolist()])
            out += sources[:, first : first + _STACKED].astype(np.float32) @ responses
        return out

    def _response(self, node: int) -> Floats:
        """Return the potential (n,) of a source of 1 at a node, whose sinks are all nodes in proportion to degrees.

        Sources that sum to 0 leave nothing of the sinks.
        """
        if node not in self._responses:
            right = -self._shares * self._roots
            right[node] += self._roots[node]
            self._responses[node] = self._solution(right, _OF_A_LABEL).astype(np.float32)
        return self._responses[node]

    def _solution(self, right: Floats, residual: float) -> Floats:
        solution, _ = cg(self._laplacian, right, rtol=0, atol=residual, maxiter=_MOST_STEPS)
        found: Floats = self._roots * solution
        return found


def solutions(matrix: Any, right: Floats, start: Floats, residual: float) -> Floats:
    """Return X (n, m) of matrix X = right by conjugate gradients; a column stops once its residual's norm is so small.

    start: (n, m), where it begins, overwritten. One product with m columns takes a third of the time of m products.
    """
    solution, left = start, right - matrix @ start
    direction = left.copy()
    squares = np.einsum("ij,ij->j", left, left)
    for _ in range(_MOST_STEPS):
        if (squares <= residual**2).all():
            break
        product = matrix @ direction
        along = np.einsum("ij,ij->j", direction, product)
        # a column that is done stays
        length = np.where((squares > residual**2) & (along > 0), squares / np.where(along > 0, along, 1), 0)
        solution += length * direction
        left -= length * product
        before, squares = squares, np.einsum("ij,ij->j", left, left)
        direction *= squares / np.where(before > 0, before, 1)
        direction += left
    return solution


def _sources(where: Indices, codes: Indices, classes: int) -> Floats:
    """Return y − ȳ (classes, m) of the labels."""
    sources = np.zeros((classes, len(where)))
    sources[codes, np.arange(len(where))] = 1
    return sources - sources.mean(axis=1, keepdims=True)  # type: ignore[no-any-return]
