"""Pools by Gaussian windows. Source: the definition in the layer's docstring."""

import math

import numpy as np

from oracles.parts import pair, pixels

EXAMPLES = [((5, 7, 3), {"stride": 2}), ((6, 4, 2), {"stride": (1, 3)}), ((1, 2, 1), {"stride": 5})]


def output(x, arrays, stride):
    """The weighted mean of each window of x (n, H, W, C)."""
    x, (down, right) = pixels(x), pair(stride)
    _, height, width, _ = x.shape
    rows, columns = weights(height, down), weights(width, right)
    out = np.zeros((len(x), len(rows), len(columns), x.shape[3]))
    for i, j, y, z in np.ndindex(len(rows), len(columns), height, width):
        if rows[i][y] and columns[j][z]:
            out[:, i, j] += rows[i][y] * columns[j][z] * x[:, y, z]
    return out


def weights(side, stride):
    """exp(−d²/s²) for |d| ≤ s, else 0, over their sum: a row for each of ⌈side / s⌉ centres, d from it."""
    count = math.ceil(side / stride)
    table = []
    for j in range(count):
        centre = (j - (count - 1) / 2) * stride + (side - 1) / 2
        row = [math.exp(-((y - centre) ** 2) / stride**2) if abs(y - centre) <= stride else 0 for y in range(side)]
        table.append([weight / sum(row) for weight in row])
    return table
