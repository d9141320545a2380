"""Poisson learning on a graph: labels as sources and sinks, whose potential spreads over all nodes."""

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from scipy import sparse

from hebbcore.classify import sweeps
from hebbcore.classify.neighbours import Indices
from hebbcore.classify.solver import Matrix, solutions
from hebbcore.engine import backend

_RESIDUAL = 1e-3  # norm, of each class
_OF_A_LABEL = 1e-4  # norm; the potential of a class is a sum over its labels
_KEPT_A_CLASS = 16  # labels a class: of more, solving for the classes of a cross-validation anew takes less time
_KEPT_NUMBERS = 2**28  # of all responses: 1 GiB
_STACKED = 64  # responses that are added up at once
_UNLIKE = 3.0  # chosen among training images of CIFAR-10; 6 is alike, and takes half as much time again
_TOGETHER = 16  # classes, or labels, that are solved for at once

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
        roots = 1 / np.sqrt(degrees)
        scaled = sparse.diags_array(roots) @ graph @ sparse.diags_array(roots)
        self._take(Matrix.of((sparse.eye_array(graph.shape[0]) - scaled).tocsr()), roots, degrees / degrees.sum())

    def _take(self, laplacian: Matrix, roots: Floats, shares: Floats) -> None:
        """Take I − D^(−½) W D^(−½), D^(−½) (n,) and the shares (n,) of the degrees."""
        self._laplacian, self._roots, self._shares = laplacian, roots, shares
        self._responses: dict[int, Floats] = {}

    @classmethod
    def from_state(cls, arrays: Mapping[str, Any]) -> Self:
        """Return the one whose state it is."""
        found, count = cls.__new__(cls), len(arrays["roots"])
        parts = arrays["laplacian"], arrays["columns"], arrays["starts"]
        found._take(Matrix.of(sparse.csr_array(parts, (count, count))), arrays["roots"], arrays["shares"])
        return found

    def state(self) -> dict[str, Any]:
        """Return what is known of the graph, as NumPy arrays."""
        matrix = self._laplacian
        parts = {"laplacian": matrix.entries, "columns": matrix.columns, "starts": matrix.starts}
        return {"roots": self._roots, "shares": self._shares, **parts}

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_responses": {}}

    def potentials(self, where: Indices, codes: Indices, classes: int) -> Floats:
        """Return u (n, classes), float32: b is y − ȳ at the nodes `where`, of classes `codes`, and 0 elsewhere.

        (I − D^(−½) W D^(−½)) v = D^(−½) b is solved to a residual norm of 1e-3; u = D^(−½) v, whose mean is 0 where
        nodes weigh as much as their degrees. The potentials of a class lie one after another in memory.
        """
        sources = _sources(where, codes, classes)
        # what is kept must not decide: labels have the same potentials whatever was learned before
        if len(where) <= _KEPT_A_CLASS * classes and len(where) * len(self._roots) <= _KEPT_NUMBERS:
            return self._summed(where, sources).T
        return self._near(sources, where, None)

    def among_alike(self, where: Indices, codes: Indices, scores: Floats, before: Floats) -> Floats:
        """Return the potentials (n, classes) where links weigh less between nodes of unlike scores (n, classes).

        Weights are times exp(−3 (1 − c)), c: the cosine of what the scores of both ends are above the mean. before:
        potentials that the solutions are looked for from.
        """
        matrix, scores = self._laplacian, scores - scores.mean(axis=0)
        norms = backend.row_norms(scores)
        unit = (scores / np.where(norms > 0, norms, 1)).astype(np.float32)
        entries, degrees = np.empty(len(matrix.entries)), np.empty(len(unit))
        sweeps.set_alike(matrix, self._roots, unit, _UNLIKE, entries, degrees)
        roots = 1 / np.sqrt(degrees)
        sweeps.set_scaled(matrix, roots, entries)
        changed = Poisson.__new__(Poisson)
        changed._take(matrix._replace(entries=entries), roots, degrees / degrees.sum())
        return changed._near(_sources(where, codes, before.shape[1]), where, before)

    def _near(self, sources: Floats, where: Indices, before: Floats | None) -> Floats:
        """Return the potentials (n, classes), float32, some classes at a time. before: others near them."""
        out = np.empty((len(sources), len(self._roots)), np.float32)
        for first in range(0, len(sources), _TOGETHER):
            some = slice(first, first + _TOGETHER)
            right = np.zeros((len(self._roots), len(sources[some])))
            right[where] = sources[some].T
            out[some] = self._solved(right, None if before is None else before[:, some], _RESIDUAL).T
        return out.T

    def _summed(self, where: Indices, sources: Floats) -> Floats:
        """Return the potentials (classes, n) of sources (classes, m) at the nodes `where`."""
        if (len(self._responses) + len(where)) * len(self._roots) > 2 * _KEPT_NUMBERS:
            kept = set(where.tolist())
            self._responses = {node: found for node, found in self._responses.items() if node in kept}
        lacking = [node for node in where.tolist() if node not in self._responses]
        for first in range(0, len(lacking), _TOGETHER):
            self._respond(lacking[first : first + _TOGETHER])
        out = np.zeros((len(sources), len(self._roots)), np.float32)
        for first in range(0, len(where), _STACKED):
            responses = np.stack([self._responses[node] for node in where[first : first + _STACKED].tolist()])
            out += sources[:, first : first + _STACKED].astype(np.float32) @ responses
        return out

    def _respond(self, nodes: Sequence[int]) -> None:
        """Keep the potential (n,) of a source of 1 at each node, whose sinks are all nodes in proportion to degrees.

        Sources that sum to 0 leave nothing of the sinks.
        """
        right = np.repeat(-self._shares[:, None], len(nodes), axis=1)
        right[nodes, np.arange(len(nodes))] += 1
        found = self._solved(right, None, _OF_A_LABEL).T.astype(np.float32)
        self._responses.update(zip(nodes, found, strict=True))

    def _solved(self, sources: Floats, before: Floats | None, residual: float) -> Floats:
        """Return the potentials (n, m) of sources (n, m), which are overwritten."""
        roots = self._roots[:, None]
        sources *= roots
        found = solutions(self._laplacian, sources, None if before is None else before / roots, residual)
        sweeps.set_potentials(found, self._roots, self._shares)
        return found


def _sources(where: Indices, codes: Indices, classes: int) -> Floats:
    """Return y − ȳ (classes, m) of the labels."""
    sources = np.zeros((classes, len(where)))
    sources[codes, np.arange(len(where))] = 1
    return sources - sources.mean(axis=1, keepdims=True)  # type: ignore[no-any-return]
