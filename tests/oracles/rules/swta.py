"""Soft winner-take-all. Source: FastHebb (Lagani et al. 2022)."""

import numpy as np

from oracles.parts import cosines, power_wta, projections, softmax_wta

VARIANTS = [{"temperature": 0.05}, {"temperature": 0.05, "competition": "power"}]


def output(X, W, temperature=0.02, competition="exp"):
    """relu(x·w / ‖w‖), (N, K); a zero norm replaced by 1."""
    return np.maximum(projections(X, W), 0)


def delta(X, W, temperature=0.02, competition="exp", bias=0.0):
    """Δw_i = Σ_n (z_ni / Σ_m z_mi) z_ni (x_n − w_i): a mean weighted by z of steps gated by z.

    z: shares of ((cos + bias + 1) / 2)². bias: (K,), of a conscience.
    """
    Y = ((cosines(X, W) + bias + 1) / 2) ** 2
    Z = {"exp": softmax_wta, "power": power_wta}[competition](Y, temperature)
    N, K = Z.shape
    change = np.zeros_like(W)
    for i in range(K):
        total = Z[:, i].sum()
        if total == 0:
            continue
        for n in range(N):
            change[i] += Z[n, i] / total * Z[n, i] * (X[n] - W[i])
    return change
