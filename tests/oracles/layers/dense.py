"""A dense layer by a rule's oracle."""

import reference

from oracles.layers.conv import cosine_response

EXAMPLES = [
    ((2, 3, 2), {"units": 3, "rule": "krotov", "learning_rate": 0.5}),
    ((6,), {"units": 4, "rule": "swta", "initial_weights": "k-means++", "revival": 5.0}),
    ((5,), {"units": 4, "rule": "kwta", "response": "cosine-exp"}),
    ((5,), {"units": 4, "rule": "signedwta", "normalize_patches": True}),
]


def output(x, arrays, units, rule="hpca", response="rule", **learning):
    """What the rule puts out for each image or vector, (n, units)."""
    if response != "rule":
        return cosine_response(x.reshape(len(x), -1), arrays["weights"], response)
    return reference.output(x.reshape(len(x), -1), arrays["weights"], rule)
