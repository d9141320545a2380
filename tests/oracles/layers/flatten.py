"""Images as vectors. Source: the definition."""

import numpy as np

EXAMPLES = [((2, 3, 2), {}), ((5,), {})]


def output(x, arrays):
    """The numbers of each image in the order (height, width, channels)."""
    return np.array([image.flatten() for image in x])
