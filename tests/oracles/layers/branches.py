"""Branches by the oracles of their layers, one after the other."""

import numpy as np
import reference

EXAMPLES = [
    ((2, 3, 2), {"branches": [
        [{"type": "split", "threshold": 0.25}],
        [{"type": "relu"}, {"type": "power", "exponent": 0.5}],
    ]}),
    ((4, 3, 2), {"branches": [
        [{"type": "gridpool", "cells": 2}],
        [
            {"type": "branches", "branches": [[{"type": "relu"}], [{"type": "split"}]]},
            {"type": "pool", "window": [2, 1]},
            {"type": "gridpool", "cells": 2, "kind": "max"},
        ],
    ]}),
    ((5,), {"branches": [[{"type": "relu"}], [{"type": "relu", "power": 2.0}], [{"type": "split"}]]}),
]  # fmt: skip


def output(x, arrays, branches):
    """The outputs of all branches, concatenated along the channels."""
    ends = []
    for branch in branches:
        end = x
        for table in branch:
            parameters = {key: value for key, value in table.items() if key != "type"}
            end = reference.oracle("layers", table["type"]).output(end.copy(), {}, **parameters)
        ends.append(end)
    return np.concatenate(ends, axis=-1)
