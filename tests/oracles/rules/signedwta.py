"""Winner-take-all among directions. Sources: Oja (1982) for the winner alone; Mallat & Zhang (1993) for k > 1."""

import numpy as np

from oracles.parts import argmax_wta, norms_or_1, projections

VARIANTS = [{}, {"k": 3}, {"k": 8}]


def output(X, W, k=1):
    """y = x·w / ‖w‖, (N, K); a zero norm replaced by 1."""
    return projections(X, W)


def delta(X, W, k=1, bias=None):
    """Δw_i = Σ y (r − y w_i) / Σ y² over the turns that unit i won; 0 for a unit that won none.

    The winner of a turn has the largest |y|, y = r·w / ‖w‖, r being what the winners before it left of the patch. A y
    below 1/1024 of the first winner's, in later turns, is 0. bias: (K,), of a conscience, in units of a cosine of r;
    its smallest counts as 0.
    """
    lengths = norms_or_1(W)
    change, total = np.zeros_like(W), np.zeros(len(W))
    for x in X:
        r, first = x, None
        for _ in range(k):
            y = projections(r[None], W)[0]
            strength = abs(y) if bias is None else abs(y) + np.linalg.norm(r) * (bias - bias.min())
            i = int(argmax_wta(strength[None])[0].argmax())
            first = abs(y[i]) if first is None else first
            if abs(y[i]) >= first / 1024:
                change[i] += y[i] * (r - y[i] * W[i])
                total[i] += y[i] ** 2
                r = r - y[i] * W[i] / lengths[i]
    return change / np.where(total > 0, total, 1)[:, None]
