"""Whitening of patches. Source: Coates, Ng & Lee (AISTATS 2011)."""

import numpy as np

from oracles.parts import patches, sides

EXAMPLES = [
    ((4, 5, 2), {"kernel_size": (2, 3)}),
    ((3, 4, 1), {"kernel_size": 2, "stride": (1, 2), "padding": 1, "padding_mode": "reflect", "contrast": None}),
    ((2, 3, 2), {"epsilon": 0.01}),
    ((5,), {"epsilon": None}),
]


def output(x, arrays, epsilon=0.1, **parameters):
    """(patch − mean) U diag((s + epsilon)^−½) Uᵀ by what was learned, a patch a position, or the image in its shape."""
    rows = rows_of(x, **parameters) - arrays["mean"]
    if epsilon is not None:
        rows = rows @ arrays["matrix"]
    if parameters.get("kernel_size") is None:
        return rows.reshape(x.shape)
    convolution = {key: value for key, value in parameters.items() if key in ("kernel_size", "stride", "padding")}
    return rows.reshape(len(x), *sides(x, **convolution), rows.shape[1])


def rows_of(images, kernel_size=None, stride=1, padding=0, padding_mode="zeros", contrast=10 / 255**2):
    """The patches, one a row, contrast normalised, before whitening."""
    if kernel_size is None:
        rows = patches(images.reshape(len(images), 1, 1, -1), 1)
    else:
        rows = patches(images, kernel_size, stride, padding, padding_mode)
    return rows if contrast is None else contrast_normalised(rows, contrast)


def contrast_normalised(X, floor):
    """Each patch minus its mean, over √(its biased variance + floor); 0 where that is 0.

    Source: Coates, Ng & Lee (AISTATS 2011).
    """
    out = np.zeros(np.shape(X))
    for n, x in enumerate(np.asarray(X, dtype=np.float64)):
        centred = x - sum(x) / len(x)
        spread = np.sqrt(sum(centred**2) / len(x) + floor)
        if spread > 0:
            out[n] = centred / spread
    return out


def zca(X, epsilon):
    """The mean (D,) of X (N, D) and U diag((s + epsilon)^−½) Uᵀ (D, D), where U diag(s) Uᵀ is X's covariance (over N).

    By the singular values of the centred patches, so no covariance is formed.
    Source: Coates, Ng & Lee (AISTATS 2011).
    """
    X = np.asarray(X, dtype=np.float64)
    mean = X.mean(axis=0)
    _, singular, directions = np.linalg.svd(X - mean, full_matrices=True)
    matrix = np.zeros((X.shape[1], X.shape[1]))
    for i, direction in enumerate(directions):
        s = singular[i] ** 2 / len(X) if i < len(singular) else 0.0
        matrix += np.outer(direction, direction) / np.sqrt(s + epsilon)
    return mean, matrix
