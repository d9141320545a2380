"""What units that learn put out, by the methods of their rules.

A rule's output is known by the methods that make it, not by its class: a rule of one's own that changes none of them
has a formula, and one that does has none until the method is entered here.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

import numpy as np

from hebbcore.engine.output import Output
from hebbcore.engine.rule import Rule
from hebbcore.engine.state import state_in
from hebbcore.formulas.operations import Operations, Pair, Value, norms, root
from hebbcore.rules import HPCA, ICA, Krotov, SignedWTA, Supervised
from hebbcore.rules.adaptive import EPSILON
from hebbcore.rules.cosine import CosineRule
from hebbcore.rules.norm_seeking import NormSeekingRule

OfRule = Callable[[Operations, Any, Value], Value]
OfScores = Callable[[Operations, Value, Value], Value]  # of what the scores are made by, and the weights
F = TypeVar("F", OfRule, OfScores)


class Windows(NamedTuple):
    """Where the patches of maps lie."""

    stride: Pair
    padding: Pair
    padding_mode: str

    def padded(self, ops: Operations, x: Value) -> tuple[Value, Pair]:
        """Return maps with what lies beyond them, unless it is zeros, and the padding that is left."""
        if self.padding_mode == "zeros" or self.padding == (0, 0):
            return x, self.padding
        return ops.pad(x, self.padding, self.padding_mode), (0, 0)


def _same(ops: Operations, rule: Any, x: Value) -> Value:
    return x


def _signed_power(ops: Operations, rule: Any, weights: Value) -> Value:
    return weights if rule.p == 2 else ops.sign(weights) * ops.power(ops.abs(weights), rule.p - 1)


def _unchanged(ops: Operations, matrix: Value, weights: Value) -> Value:
    return matrix


def _over_norms(ops: Operations, matrix: Value, weights: Value) -> Value:
    return matrix / norms(ops, weights, range(1, len(weights.shape)))


def _relu(ops: Operations, rule: Any, x: Value) -> Value:
    return ops.relu(x)


def _adaptive_tanh(ops: Operations, rule: Any, x: Value) -> Value:
    """See hebbcore.rules.adaptive."""
    mean, std = rule.state["mean"], ops.power(rule.state["variance"] + EPSILON, 0.5)
    return ops.tanh((x - mean) / std + mean) * std


def _hpca(ops: Operations, rule: Any, x: Value) -> Value:
    if rule.activation == "adaptive_tanh":
        return _adaptive_tanh(ops, rule, x)
    return x if rule.activation == "identity" else {"relu": ops.relu, "tanh": ops.tanh}[rule.activation](x)


def _ica(ops: Operations, rule: Any, x: Value) -> Value:
    return _adaptive_tanh(ops, rule, x) if rule.normalized else ops.tanh(x)


# by the rule's method: what its scores are made by, for weights (units, …)
PROJECTIONS: dict[Any, OfRule] = {
    Rule.projection: _same,
    NormSeekingRule.projection: _signed_power,
    Krotov.projection: _signed_power,
}
# that again, so that scores are responses; norms are those of the weights, whatever the scores are made by
RESPONSES: dict[Any, OfScores] = {
    Rule.response: _unchanged,
    CosineRule.response: _over_norms,
    Supervised.response: _over_norms,
}
# what responses become
ACTIVATIONS: dict[Any, OfRule] = {
    Rule.activate: _same,
    SignedWTA.activate: _same,
    CosineRule.activate: _relu,
    HPCA.activate: _hpca,
    ICA.activate: _ica,
}


def units(
    ops: Operations, x: Value, arrays: Mapping[str, Value], output: Output, windows: Windows | None
) -> Value:  # fmt: skip
    """Return what units put out for maps, or, without windows, for vectors.

    arrays: weights (units, height, width, channels), or (units, features), and the state of the rule (units,).
    """
    weights, sides = arrays["weights"], () if windows is None else (1, 1)
    state = {name: ops.reshape(array, (-1, *sides)) for name, array in (state_in(output.rule, arrays) or {}).items()}
    rule, by_cosine = output.rule.bound(state), output.response != "rule"
    matrix = _of(PROJECTIONS, rule, "projection")(ops, rule, weights)
    over = _over_norms if by_cosine else _of(RESPONSES, rule, "response")
    matrix = over(ops, matrix, matrix if by_cosine else weights)
    if windows is None:
        scores, squares = ops.matmul(x, ops.transpose(matrix, (1, 0))), ops.sum(x * x, (1,)) if by_cosine else None
    else:
        x, padding = windows.padded(ops, x)
        scores = ops.conv(x, ops.transpose(matrix, (0, 3, 1, 2)), windows.stride, padding)
        if by_cosine:
            ones = ops.constant(np.ones((1, 1, *matrix.shape[1:3])))
            squares = ops.conv(ops.sum(x * x, (1,)), ones, windows.stride, padding)
    if not by_cosine:
        return scores if output.linear else _of(ACTIVATIONS, rule, "activate")(ops, rule, scores)
    cosines = scores / root(ops, squares)
    if output.response == "cosine":
        return cosines
    # exactly 0 of zeros: what follows may magnify what is close to it; some libraries' sums of squares can be below 0
    lengths = ops.power(ops.relu(squares), 0.5)
    return ops.exp((cosines - 1.0) * (1 / output.width)) * lengths


def _of(table: Mapping[Any, F], rule: Rule, method: str) -> F:
    """Return the formula of a rule's method. Raises ValueError if there is none."""
    found = table.get(getattr(type(rule), method))
    if found is None:
        raise ValueError(
            f"what the rule {type(rule).__name__} puts out has no formula: its {method} is its own; enter one in "
            "hebbcore.formulas.units."
        )
    return found
