"""What a rule answers, by its shapes: NumPy would stretch many a wrong one, and numbers would be wrong without a word.

Each function returns the answer, and raises ValueError for another shape, naming the rule and its method.
"""

from typing import Any

import numpy as np

from hebbcore.engine.backend import Array
from hebbcore.engine.competition import Gate


def gate_of(rule: Any, gate: Any, rows: int, units: int) -> Gate:
    """Return a rule's gate for so many patches. Raises TypeError if it is none, or its winners are no int64.

    Which units they are, who adds patches up by them looks at (sums.add_by_winner).
    """
    if not isinstance(gate, Gate):
        raise TypeError(f"{type(rule).__name__}.gate must return a hebbcore.Gate, got {type(gate).__name__}.")
    values, decay, mass, winners, pair = gate
    scores, each = (rows, units), (units,)
    if values is not None and values.shape != scores:
        raise _wrong(rule, "gate", "values of the shape", scores, values)
    for name, sums in (("decay", decay), ("mass", mass)):
        if sums is not None and getattr(sums, "shape", None) != each:
            raise _wrong(rule, "gate", f"a {name} of the shape", each, sums)
    if winners is not None:
        if getattr(winners, "shape", None) != (rows,):
            raise _wrong(rule, "gate", "winners of the shape", (rows,), winners)
        if winners.dtype != np.int64:
            raise TypeError(f"{type(rule).__name__}.gate must return winners of int64, got {winners.dtype}.")
    if pair is not None and not pair.left.shape == pair.right.shape == scores:
        raise _wrong(rule, "gate", "a pair of the shapes", scores, pair.left)
    return gate


def factors_of(rule: Any, method: str, factors: Any, units: int) -> Any:
    """Return what a method says that each unit's change is multiplied by: a number, or (units, 1)."""
    if getattr(factors, "shape", ()) not in ((), (units, 1)):
        raise _wrong(rule, method, "a number, or", (units, 1), factors)
    return factors


def scores_of(rule: Any, method: str, made: Any, scores: Array) -> Array:
    """Return what a method made of scores (n, K): as many numbers."""
    if made.shape != scores.shape:
        raise _wrong(rule, method, "outputs of the shape", scores.shape, made)
    return made


def weights_of(rule: Any, method: str, made: Any, shape: tuple[int, ...]) -> Any:
    """Return the weights, or what scores are made by, that a method made: (units, size)."""
    if np.shape(made) != shape:
        raise _wrong(rule, method, "an array of the shape", shape, made)
    return made


def _wrong(rule: Any, method: str, what: str, shape: tuple[int, ...], found: Any) -> ValueError:
    return ValueError(f"{type(rule).__name__}.{method} must return {what} {shape}, got {np.shape(found)}.")
