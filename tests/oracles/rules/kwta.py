"""k-winners-take-all. Source: FastHebb (Lagani et al. 2022)."""

import numpy as np

from oracles.parts import cosines, k_wta, projections

VARIANTS = [{}, {"k": 3}]


def output(X, W, k=1):
    """relu(x·w / ‖w‖), (N, K); a zero norm replaced by 1."""
    return np.maximum(projections(X, W), 0)


def delta(X, W, k=1, bias=0.0):
    """Δw_i = (mean of the patches that unit i won) − w_i; 0 for a unit that won none.

    The k units of the largest cosines + bias win; bias: (K,), of a conscience.
    """
    winners = k_wta(cosines(X, W) + bias, k)
    change = np.zeros_like(W)
    for i in range(len(W)):
        won = [x for x, wins in zip(X, winners[:, i], strict=True) if wins == 1]
        if won:
            change[i] = sum(won) / len(won) - W[i]
    return change
