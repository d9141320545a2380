"""Winner-take-all among directions. Source: Oja (1982) for the winner alone."""

import numpy as np

from oracles.parts import argmax_wta, cosines, projections


def output(X, W):
    """y = x·w / ‖w‖, (N, K); a zero norm replaced by 1."""
    return projections(X, W)


def delta(X, W, bias=None):
    """Δw_i = Σ y (x − y w_i) / Σ y² over the patches whose largest |y| is unit i's; 0 for a unit that won none.

    bias: (K,), of a conscience, in units of a cosine; its smallest counts as 0.
    """
    Y = projections(X, W)
    scores = np.abs(Y) if bias is None else np.abs(cosines(X, W)) + bias - bias.min()
    winners = argmax_wta(scores)
    change = np.zeros_like(W)
    for i in range(len(W)):
        won = [n for n in range(len(X)) if winners[n, i] == 1]
        total = sum(Y[n, i] ** 2 for n in won)
        if total > 0:
            change[i] = sum(Y[n, i] * (X[n] - Y[n, i] * W[i]) for n in won) / total
    return change
