"""Hebbian PCA. Source: FastHebb (Lagani et al. 2022)."""

import numpy as np

from oracles.parts import adaptive_statistics, adaptive_tanh, dots

VARIANTS = [
    {}, {"activation": "tanh"}, {"activation": "identity"}, {"activation": "adaptive_tanh"}, {"scale_by_fan_in": True},
]  # fmt: skip


def next_state(X, W, state=None, activation="relu", scale_by_fan_in=False):
    """The running mean and variance after a batch, of the adaptive tanh."""
    if activation != "adaptive_tanh":
        return None
    return adaptive_statistics(np.array([dots(x, W) for x in X]), state)


def output(X, W, activation="relu", scale_by_fan_in=False, state=None):
    """y = activation(x·w), (N, K); that of the adaptive tanh by the statistics as they are."""
    X, W = np.asarray(X, np.float64), np.asarray(W, np.float64)
    S = np.array([dots(x, W) for x in X])
    if activation == "adaptive_tanh":
        return adaptive_tanh(S, state)
    functions = {"relu": lambda u: np.maximum(u, 0), "tanh": np.tanh, "identity": lambda u: u}
    return functions[activation](S)


def delta(X, W, activation="relu", scale_by_fan_in=False, teacher=None, state=None):
    """Δw_i = (1/N) Σ_n y_ni (x_n − Σ_{k≤i} y_nk w_k), over √D if scaled by the fan-in.

    teacher: (N, K), which multiplies y everywhere.
    """
    Y = output(X, W, activation, scale_by_fan_in, next_state(X, W, state, activation))
    Y = Y * (1 if teacher is None else teacher)
    N, K = Y.shape
    change = np.zeros_like(W)
    for n in range(N):
        reconstruction = np.zeros_like(X[n])
        for i in range(K):
            reconstruction += Y[n, i] * W[i]
            change[i] += Y[n, i] * (X[n] - reconstruction)
    return change / N / (np.sqrt(W.shape[1]) if scale_by_fan_in else 1)
