"""SoftHebb. Source: Journé et al. 2023, whose softmax(t·u) has t = 1 / temperature."""

import numpy as np

from oracles.parts import delta_gated, descending, norm_rates, p_scores, softmax_wta

VARIANTS = [{}, {"temperature": 0.5, "p": 3, "anti_hebbian": False}, {"adaptive_power": None}]


def output(X, W, temperature=1.0, p=2, anti_hebbian=True, adaptive_power=0.5):
    """u = x · sign(w)|w|^(p−1), (N, K), before the Triangle."""
    return p_scores(X, W, p)


def delta(X, W, temperature=1.0, p=2, anti_hebbian=True, adaptive_power=0.5):
    """Δw_i = Σ_n g_ni (x_n − u_ni w_i), over the layer's largest entry.

    g: the softmax's shares of u; anti-Hebbian: every unit of a row but the winner counts negatively.
    """
    U = p_scores(X, W, p)
    gate = softmax_wta(U, temperature)
    if anti_hebbian:
        for n, row in enumerate(U):
            for loser in descending(row)[1:]:
                gate[n, loser] = -gate[n, loser]
    change = delta_gated(X, W, U, gate)
    return change / (np.abs(change).max() + 1e-30)


def rates(W, learning_rate, temperature=1.0, p=2, anti_hebbian=True, adaptive_power=0.5):
    """learning_rate · (|‖w_i‖_p − 1| + 1e-10)^adaptive_power of each unit (K,)."""
    return norm_rates(W, learning_rate, p, adaptive_power)
