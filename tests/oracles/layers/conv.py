"""A convolution by a rule's oracle."""

import numpy as np
import reference

from oracles.parts import cosines, patches, sides

EXAMPLES = [
    ((4, 5, 2), {"units": 3, "kernel_size": (2, 3), "stride": (1, 2), "padding": 1, "padding_mode": "reflect"}),
    ((4, 4, 1), {"units": 4, "kernel_size": 3, "rule": "kwta", "initial_weights": "patches", "conscience": 0.05}),
    ((4, 4, 2), {"units": 3, "kernel_size": 3, "padding": 1, "rule": "signedwta", "response": "cosine"}),
    ((4, 3, 2), {"units": 3, "kernel_size": 2, "rule": "kwta", "response": "cosine-exp", "width": 0.5}),
    ((4, 4, 2), {"units": 3, "kernel_size": 3, "rule": "kwta", "normalize_patches": True}),
]


def output(
    x,
    arrays,
    *,
    units,
    kernel_size,
    rule="hpca",
    stride=1,
    padding=0,
    padding_mode="zeros",
    response="rule",
    width=0.36,
    **learning,
):
    """What the rule puts out for each patch, or another response, (n, oh, ow, units)."""
    rows = patches(x, kernel_size, stride, padding, padding_mode)
    weights = arrays["weights"].reshape(units, -1)
    out = (
        reference.output(rows, weights, rule) if response == "rule" else cosine_response(rows, weights, response, width)
    )
    return out.reshape(len(x), *sides(x, kernel_size, stride, padding), units)


def cosine_response(X, W, response, width=0.36):
    """cos(x, w), 0 for zeros, or ‖x‖ exp((cos − 1) / width), (N, K).

    Source: Mairal (NeurIPS 2016), the kernel of patches by their lengths and directions.
    """
    similar = cosines(X, W)
    if response == "cosine":
        return similar
    lengths = np.sqrt((np.asarray(X, np.float64) ** 2).sum(axis=1))
    return np.array(
        [[length * np.exp((c - 1) / width) for c in row] for length, row in zip(lengths, similar, strict=True)]
    )
