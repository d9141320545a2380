"""Nyström whitening of codes. Source: Williams & Seeger (NeurIPS 2000); Mairal (NeurIPS 2016)."""

import numpy as np

from oracles.parts import norms_or_1

BEFORE = [("conv", {"units": 4, "kernel_size": 2, "rule": "kwta", "response": "cosine-exp", "width": 0.5}),
          ("pool", {"window": 2, "stride": 1, "kind": "average"})]  # fmt: skip
EXAMPLES = [((4, 5, 2), {}), ((3, 4, 1), {"epsilon": 0.1})]


def output(x, arrays, epsilon=1e-3):
    """Each code times the layer's matrix."""
    return np.array([code @ arrays["matrix"] for code in x.reshape(-1, x.shape[-1])]).reshape(x.shape)


def kernel(W, width):
    """K_ij = exp((cos(w_i, w_j) − 1) / width) of units W (K, D)."""
    Z = np.asarray(W, np.float64)
    Z = Z / norms_or_1(Z)[:, None]
    return np.array([[np.exp((sum(a * b) - 1) / width) for b in Z] for a in Z])
