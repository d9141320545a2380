"""A convolution by a rule's oracle."""

import reference

from oracles.parts import patches, sides

EXAMPLES = [
    ((4, 5, 2), {"units": 3, "kernel_size": (2, 3), "stride": (1, 2), "padding": 1, "padding_mode": "reflect"}),
    ((4, 4, 1), {"units": 4, "kernel_size": 3, "rule": "kwta", "initial_weights": "patches", "conscience": 0.05}),
]


def output(x, arrays, *, units, kernel_size, rule="hpca", stride=1, padding=0, padding_mode="zeros", **learning):
    """What the rule puts out for each patch, (n, oh, ow, units)."""
    rows = patches(x, kernel_size, stride, padding, padding_mode)
    out = reference.output(rows, arrays["weights"].reshape(units, -1), rule)
    return out.reshape(len(x), *sides(x, kernel_size, stride, padding), units)
