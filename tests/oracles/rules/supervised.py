"""Class means, the supervised last layer. Source: FastHebb (Lagani et al. 2022)."""

import numpy as np

from oracles.parts import projections


def output(X, W):
    """x·w / ‖w‖, (N, K); a zero norm replaced by 1."""
    return projections(X, W)


def delta(X, W, teacher=None):
    """Δw_c = (mean of the patches of class c) − w_c, 0 for a class without any; teacher: (N, K), one-hot by class."""
    change = np.zeros_like(W)
    for c in range(0 if teacher is None else len(W)):
        own = [x for x, taught in zip(X, teacher[:, c], strict=True) if taught]
        if own:
            change[c] = sum(own) / len(own) - W[c]
    return change
