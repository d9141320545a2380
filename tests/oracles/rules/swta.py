"""Soft winner-take-all. Source: FastHebb (Lagani et al. 2022)."""

import numpy as np

from oracles.parts import cosines, power_wta, projections, softmax_wta

VARIANTS = [{"temperature": 0.05}, {"temperature": 0.05, "competition": "power"}]


def output(X, W, temperature=0.02, competition="exp"):
    """relu(x·w / ‖w‖), (N, K); a zero norm replaced by 1."""
    return np.maximum(projections(X, W), 0)


def delta(X, W, temperature=0.02, competition="exp", bias=0.0, teacher=None):
    """Δw_i = Σ_n (z_ni / Σ_m z_mi) z_ni (x_n − w_i): a mean weighted by z of steps gated by z.

    z: shares of ((cos + bias + 1) / 2)², 0 where cos + bias is below −1. bias: (K,), of a conscience. teacher: (N, K),
    1 for units that get a share.
    """
    Y = (np.maximum(cosines(X, W) + bias + 1, 0) / 2) ** 2
    shares = {"exp": softmax_wta, "power": power_wta}[competition]
    Z = shares(Y, temperature) if teacher is None else np.zeros_like(Y)
    for n, allowed in enumerate([] if teacher is None else np.asarray(teacher, bool)):
        if allowed.any():
            Z[n, allowed] = shares(Y[n : n + 1, allowed], temperature)[0]
    N, K = Z.shape
    change = np.zeros_like(W)
    for i in range(K):
        total = Z[:, i].sum()
        if total == 0:
            continue
        for n in range(N):
            change[i] += Z[n, i] / total * Z[n, i] * (X[n] - W[i])
    return change
