"""Division by a common standard deviation. Source: the definition."""

import numpy as np

from oracles.parts import pixels

EXAMPLES = [((2, 3, 2), {}), ((5,), {"momentum": 0.3})]


def output(x, arrays, **parameters):
    """x by the running variance."""
    return scale(x, arrays["variance"][0], training=False, **parameters)[0]


def scale(x, variance, *, training, momentum=0.1):
    """x / √variance, given the running variance; training: by x's own, to which the running one moves by momentum.

    The variance is that of all numbers of x, over their count and about their mean. 0: they stay as they are.

    Returns (out, variance), the latter as it is afterwards.
    """
    x = pixels(x)
    own = variance
    if training:
        mean = sum(x.flat) / x.size
        own = sum((number - mean) ** 2 for number in x.flat) / x.size
        variance = (1 - momentum) * variance + momentum * own
    return x / np.sqrt(own) if own > 0 else x, variance
