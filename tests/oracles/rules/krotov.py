"""The rule of Krotov and Hopfield. Source: Krotov & Hopfield 2019."""

import numpy as np

from oracles.parts import delta_gated, descending, p_scores

VARIANTS = [{}, {"p": 3, "rank": 3, "strength": 0.2}]


def output(X, W, p=2, rank=2, strength=0.4):
    """u = x · sign(w)|w|^(p−1), (N, K)."""
    return p_scores(X, W, p)


def delta(X, W, p=2, rank=2, strength=0.4):
    """Δw_i = Σ_n g_ni (x_n − u_ni w_i), over the layer's largest entry.

    g: 1 for the largest u of a row, −strength for the rank-th largest; with fewer units than rank nobody is.
    """
    U = p_scores(X, W, p)
    gate = np.zeros_like(U)
    for n, row in enumerate(U):
        order = descending(row)
        gate[n, order[0]] = 1
        if rank <= len(order):
            gate[n, order[rank - 1]] = -strength
    change = delta_gated(X, W, U, gate)
    return change / max(np.abs(change).max(), 1e-30)
