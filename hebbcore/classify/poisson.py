"""Poisson learning on a graph: labels as sources and sinks, whose potential spreads over all nodes."""

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.sparse.linalg import cg

from hebbcore.classify.neighbours import Indices

_RESIDUAL = 1e-3  # norm, of each class
_MOST_STEPS = 1000

Floats = npt.NDArray[Any]


class Poisson:
    """Solves L u = b on a connected graph by conjugate gradients, for any labels.

    graph: symmetric weights (n, n), CSR.

    References
    ----------
    Calder, Cook, Thorpe, Slepčev 2020, "Poisson learning: graph based semi-supervised learning at very low label
    rates".
    """

    def __init__(self, graph: Any) -> None:
        self._roots = 1 / np.sqrt(graph.sum(axis=1))
        scaled = sparse.diags_array(self._roots) @ graph @ sparse.diags_array(self._roots)
        self._laplacian = (sparse.eye_array(graph.shape[0]) - scaled).tocsr()

    def potentials(self, where: Indices, codes: Indices, classes: int) -> Floats:
        """Return u (n, classes): b is y − ȳ at the labelled nodes `where`, of classes `codes`, and 0 elsewhere.

        (I − D^(−½) W D^(−½)) v = D^(−½) b is solved to a residual norm of 1e-3; u = D^(−½) v.
        """
        sources = np.zeros((len(where), classes))
        sources[np.arange(len(where)), codes] = 1
        sources -= sources.mean(axis=0)
        out = np.empty((len(self._roots), classes))
        right = np.zeros(len(self._roots))
        for number in range(classes):
            right[where] = self._roots[where] * sources[:, number]
            solution, _ = cg(self._laplacian, right, rtol=0, atol=_RESIDUAL, maxiter=_MOST_STEPS)
            out[:, number] = self._roots * solution
        return out
