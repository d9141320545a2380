"""Splitting by sign. Source: Coates & Ng (ICML 2011)."""

import numpy as np

EXAMPLES = [((2, 3, 2), {}), ((5,), {"threshold": 0.25})]


def output(x, arrays, threshold=0.0):
    """max(u − threshold, 0) of every channel, then max(−u − threshold, 0) of every channel."""
    out = np.empty((*x.shape[:-1], 2 * x.shape[-1]))
    for place in np.ndindex(x.shape):
        *where, c = place
        out[(*where, c)] = max(x[place] - threshold, 0)
        out[(*where, x.shape[-1] + c)] = max(-x[place] - threshold, 0)
    return out
