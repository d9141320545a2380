"""Hebbian PCA. Source: FastHebb (Lagani et al. 2022)."""

import numpy as np

from oracles.parts import dots

VARIANTS = [{}, {"activation": "tanh"}, {"activation": "identity"}]


def output(X, W, activation="relu"):
    """y = activation(x·w), (N, K)."""
    X, W = np.asarray(X, np.float64), np.asarray(W, np.float64)
    functions = {"relu": lambda u: np.maximum(u, 0), "tanh": np.tanh, "identity": lambda u: u}
    return np.array([functions[activation](dots(x, W)) for x in X])


def delta(X, W, activation="relu", teacher=None):
    """Δw_i = (1/N) Σ_n y_ni (x_n − Σ_{k≤i} y_nk w_k). teacher: (N, K), which multiplies y everywhere."""
    Y = output(X, W, activation) * (1 if teacher is None else teacher)
    N, K = Y.shape
    change = np.zeros_like(W)
    for n in range(N):
        reconstruction = np.zeros_like(X[n])
        for i in range(K):
            reconstruction += Y[n, i] * W[i]
            change[i] += Y[n, i] * (X[n] - reconstruction)
    return change / N
