"""Powers that keep the sign. Source: the definition."""

import math

import numpy as np

EXAMPLES = [((2, 3, 2), {}), ((5,), {"exponent": 2.5})]


def output(x, arrays, exponent=0.5):
    """sign(u) |u|^exponent."""
    return np.array([math.copysign(abs(u) ** exponent, u) for u in np.ravel(x)]).reshape(np.shape(x))
