"""Whitening of patches. Source: Coates, Ng & Lee (AISTATS 2011)."""

import numpy as np

from oracles.parts import patches, sides

EXAMPLES = [
    ((4, 5, 2), {"kernel_size": (2, 3)}),
    ((3, 4, 1), {"kernel_size": 2, "stride": (1, 2), "padding": 1, "padding_mode": "reflect", "contrast": None}),
    ((2, 3, 2), {"epsilon": 0.01}),
    ((5,), {"epsilon": None}),
    ((4, 5, 2), {"kernel_size": (2, 3), "components": 5, "contrast": None, "epsilon": 0.01, "relative": True}),
    ((2, 3, 2), {"components": 3}),
    (
        (4, 3, 2),
        {
            "kernel_size": (3, 5),
            "padding": (1, 2),
            "padding_mode": "edge",
            "centre": True,
            "relative": True,
            "contrast": None,
        },
    ),
]


def output(x, arrays, epsilon=0.1, relative=False, components=None, centre=False, **parameters):
    """(patch − mean) times the matrix that was learned (see whitening), one a position, or the image in its shape."""
    rows = rows_of(x, **parameters) - arrays["mean"]
    if epsilon is not None:
        rows = rows @ arrays["matrix"]
    if parameters.get("kernel_size") is None:
        return rows.reshape(x.shape if components is None else (len(x), components))
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


def whitening(X, channels=None, epsilon=0.1, relative=False, components=None, centre=False):
    """The mean (D,) of X (N, D), and what X minus it is multiplied by, (D, outputs).

    U diag((s + epsilon)^−½) Uᵀ, where U diag(s) Uᵀ is X's covariance (over N); relative: epsilon times the mean of s.
    centre: of that the columns of the centre pixel, for patches of pixels of so many channels.
    components: U diag((s + epsilon)^−½) of the largest s; of each column's entries the first that has at least 0.9 of
    the largest magnitude is positive.
    By the singular values of the centred patches, so no covariance is formed.
    Source: Coates, Ng & Lee (AISTATS 2011); PCA whitening: Hyvärinen, Karhunen & Oja (2001), ch. 6.
    """
    X = np.asarray(X, dtype=np.float64)
    mean = X.mean(axis=0)
    _, singular, directions = np.linalg.svd(X - mean, full_matrices=True)
    spectrum = [singular[i] ** 2 / len(X) if i < len(singular) else 0.0 for i in range(X.shape[1])]
    added = epsilon * sum(spectrum) / len(spectrum) if relative else epsilon
    factors = [1 / np.sqrt(s + added) for s in spectrum]
    if components is None:
        matrix = sum(np.outer(direction, direction) * f for direction, f in zip(directions, factors, strict=True))
        if centre:
            pixel = X.shape[1] // channels // 2
            matrix = matrix[:, pixel * channels : (pixel + 1) * channels]
        return mean, matrix
    columns = []
    for direction, f in list(zip(directions, factors, strict=True))[:components]:
        first = next(entry for entry in direction if abs(entry) >= 0.9 * abs(direction).max())
        columns.append(direction * f * (1 if first > 0 else -1))
    return mean, np.array(columns).T


def zca(X, epsilon):
    """The mean (D,) of X (N, D) and U diag((s + epsilon)^−½) Uᵀ (D, D); see whitening."""
    return whitening(X, epsilon=epsilon)
