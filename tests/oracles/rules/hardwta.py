"""The hard winner-take-all of SoftHebb's program. Source: Journé et al. 2023."""

import numpy as np

from oracles.parts import argmax_wta, delta_gated, norm_rates, p_scores

VARIANTS = [{}, {"adaptive_power": None}, {"p": 3, "adaptive_power": None}]


def output(X, W, p=2, adaptive_power=0.5):
    """u = x · sign(w)|w|^(p−1), (N, K), before the Triangle."""
    return p_scores(X, W, p)


def delta(X, W, p=2, adaptive_power=0.5):
    """Δw_i = Σ_n (x_n − u_ni w_i) over the patches whose largest u is unit i's, over the layer's largest entry."""
    U = p_scores(X, W, p)
    change = delta_gated(X, W, U, argmax_wta(U))
    return change / (np.abs(change).max() + 1e-30)


def rates(W, learning_rate, p=2, adaptive_power=0.5):
    """learning_rate · (|‖w_i‖_p − 1| + 1e-10)^adaptive_power of each unit (K,)."""
    return norm_rates(W, learning_rate, p, adaptive_power)
