"""Triangle. Source: Coates, Ng & Lee (AISTATS 2011); with a power: SoftHebb (Journé et al. 2023)."""

import numpy as np

EXAMPLES = [((2, 3, 5), {"power": 0.7}), ((7,), {})]


def output(x, arrays, power=1.0):
    """relu(u − mean of u over the channels)^power of u (…, C)."""
    return triangle(x, power)


def triangle(u, power=1.0):
    """relu(u − mean of u over the channels)^power of u (…, C).

    Source: Coates, Ng & Lee (AISTATS 2011); with a power: SoftHebb (Journé et al. 2023).
    """
    u = np.asarray(u, dtype=np.float64)
    out = np.zeros(u.shape)
    for place in np.ndindex(u.shape[:-1]):
        mean = sum(u[place]) / u.shape[-1]
        for c, value in enumerate(u[place]):
            if value > mean:
                out[(*place, c)] = (value - mean) ** power
    return out
