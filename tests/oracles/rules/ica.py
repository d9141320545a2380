"""Hebbian ICA. Source: FastHebb (Lagani et al. 2022)."""

import numpy as np

from oracles.parts import adaptive_statistics, adaptive_tanh, dots

VARIANTS = [{}, {"hierarchical": True}, {"normalized": True}, {"hierarchical": True, "normalized": True}]


def next_state(X, W, state=None, hierarchical=False, normalized=False):
    """The running mean and variance after a batch, if normalized."""
    return adaptive_statistics(np.array([dots(x, W) for x in X]), state) if normalized else None


def output(X, W, hierarchical=False, normalized=False, state=None):
    """y = tanh(x·w), or the adaptive tanh by the statistics as they are, (N, K)."""
    S = np.array([dots(x, W) for x in X])
    return adaptive_tanh(S, state) if normalized else np.tanh(S)


def delta(X, W, hierarchical=False, normalized=False, teacher=None, state=None):
    """Δw_i = w_i − p_i, p_i = (1/N) Σ_n y_ni Σ_k s_nk w_k; hierarchical: k ≤ i; normalized: (p_i·w_i) w_i − p_i.

    teacher: (N, K), which multiplies y and s everywhere, and by its mean the first w_i.
    """
    S = np.array([dots(x, W) for x in X])
    Y = output(X, W, hierarchical, normalized, next_state(X, W, state, hierarchical, normalized))
    T = np.ones_like(S) if teacher is None else teacher
    N, K = S.shape
    change = np.zeros_like(W)
    for i in range(K):
        p = np.zeros_like(W[i])
        for n in range(N):
            for k in range(i + 1 if hierarchical else K):
                p += T[n, i] * Y[n, i] * T[n, k] * S[n, k] * W[k] / N
        change[i] = (p @ W[i]) * W[i] - p if normalized else T[:, i].mean() * W[i] - p
    return change
