"""k-winners-take-all. Source: FastHebb (Lagani et al. 2022)."""

import numpy as np

from oracles.parts import cosines, k_wta, projections

VARIANTS = [{}, {"k": 3}]


def output(X, W, k=1):
    """relu(x·w / ‖w‖), (N, K); a zero norm replaced by 1."""
    return np.maximum(projections(X, W), 0)


def delta(X, W, k=1, bias=0.0, teacher=None):
    """Δw_i = (mean of the patches that unit i won) − w_i; 0 for a unit that won none.

    The k units of the largest cosines + bias win; bias: (K,), of a conscience. teacher: (N, K), T: 1 where T∘Y, Y =
    ((cos + 1) / 2)², is at least its k-th largest, and T is 1.
    """
    if teacher is None:
        winners = k_wta(cosines(X, W) + bias, k)
    else:
        winners = k_wta(teacher * ((cosines(X, W) + 1) / 2) ** 2, k) * teacher
    change = np.zeros_like(W)
    for i in range(len(W)):
        won = [x for x, wins in zip(X, winners[:, i], strict=True) if wins == 1]
        if won:
            change[i] = sum(won) / len(won) - W[i]
    return change
