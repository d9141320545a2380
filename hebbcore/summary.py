"""A network in words: the table of its layers."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from hebbcore.graph import Graph
from hebbcore.layers import Learner, Shape


def summary_of(graph: Graph, shapes: Sequence[Shape], training: Mapping[str, Any]) -> str:
    """Return a table of layers, and how fit trains them where its call does not say.

    Parameters
    ----------
    graph : Graph
        The layers, which have names.
    shapes : sequence of tuple of int
        The shape of each one's output.
    training : mapping of str to Any
        See Network.
    """
    lines = [f"{'layer':<12}{'output':>18}{'weights':>14}"]
    total = 0
    for layer, shape, depth in zip(graph.layers, shapes, graph.depths, strict=True):
        count = math.prod(layer.weights.shape) if isinstance(layer, Learner) else 0
        total += count
        lines.append(f"{'  ' * depth + layer.name:<12}{' × '.join(map(str, shape)):>18}{count or '':>14}")
    lines.append(f"{'':<12}{'':>18}{total:>14}")
    if training:
        defaults = ", ".join(f"{key}={value!r}" for key, value in training.items())
        lines.append(f"fit trains it by default with {defaults}")
    return "\n".join(lines)
