"""What a rule answers, by its shapes and dtypes: NumPy would stretch many a wrong one, and wrong numbers say no word.

Each function returns the answer, in the dtype that the products of a step need. It raises ValueError for another shape,
and TypeError for what is no array of real numbers, naming the rule and its method.
"""

import functools
import math
import numbers
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from hebbcore.engine.backend import Array, namespace
from hebbcore.engine.competition import Gate
from hebbcore.ours import is_ours

_REAL = "biuf"  # kinds of dtypes
_FLOATS = "fd"  # float32 and float64, which kernels add up
_INDEX = np.dtype(np.int64)  # of winners
_is_ours = functools.cache(is_ours)  # to ask again takes a twentieth of the smallest steps


def must_be_finite(rule: Any, scores: Array) -> bool:
    """Return whether a gate, which may overwrite the scores (n, K), must be finite: of finite ones, by a method of
    one's own.
    """
    return bool(own_methods(rule, "gate", "biased_gate", "taught_gate")) and _is_finite(scores)


def gate_of(rule: Any, gate: Any, scores: Array, first: bool = False, finite: bool = False) -> Gate:
    """Return a rule's gate for some scores (n, K). Raises TypeError if it is none, or has a pair that `pairs` denies.

    G and a pair get the scores' dtype: a product of two arrays of bool is no sum, and one of small integers overflows.
    first: of a batch of this shape, of which it is looked at whether winners are those of G. Whether they are units is
    looked at each time by who adds patches up by them (sums.add_by_winner). finite: see must_be_finite.
    """
    if not isinstance(gate, Gate):
        raise TypeError(f"{type(rule).__name__}.gate must return a hebbcore.Gate, got {type(gate).__name__}.")
    (values, decay, mass, winners, pair), shape = gate, scores.shape
    for what, part in {"values": values, "decay": decay, "mass": mass}.items() if finite else ():
        if part is not None and hasattr(part, "dtype") and part.dtype.kind in _REAL and not _is_finite(part):
            raise _not_finite(rule, "gate", what)
    if values is scores and pair is None and _are_plain(decay, mass, winners, shape):
        if first:
            _require_winners(rule, gate)
        return gate  # as most rules answer; the smallest steps would feel a look at each part
    if values is not None:
        values = _as(rule, "gate", "values", values, shape, scores.dtype)
    elif pair is None:
        raise TypeError(f"{type(rule).__name__}.gate must return values, which may be None with a pair alone.")
    if pair is not None:
        if not rule.pairs:
            raise TypeError(f"{type(rule).__name__}.gate returned a pair, so that its class must say pairs = True.")
        left, right = (_as(rule, "gate", "a pair", each, shape, scores.dtype) for each in pair[:2])
        if left is not pair.left or right is not pair.right:
            pair = pair._replace(left=left, right=right)
    if decay is not None:
        decay = _sums(rule, "decay", decay, shape[1])
    if mass is not None:
        mass = _sums(rule, "mass", mass, shape[1])
    if winners is not None:
        winners = _indices(rule, winners, shape[:1])
    answer = Gate(values, decay, mass, winners, pair)
    if first:
        _require_winners(rule, answer)
    return answer


def unknown_winners(rule: Any, winners: Array, units: int) -> ValueError:
    """Return the error for winners some of which are no units."""
    return ValueError(
        f"{type(rule).__name__}.gate must return winners from 0 to {units - 1}, or −1 where more than one unit may "
        f"learn, got {winners.min()} to {winners.max()}."
    )


def _require_winners(rule: Any, gate: Gate) -> None:
    """Raise ValueError if winners of a rule of one's own are no units, or not the only ones with an entry of G.

    Where patches are added up by winner, the other entries would not count.
    """
    winners, values = gate.winners, gate.values
    if winners is None or values is None or not isinstance(values, np.ndarray) or _is_ours(type(rule).gate):
        return
    if winners.min() < -1 or winners.max() >= values.shape[1]:
        raise unknown_winners(rule, winners, values.shape[1])
    rows = np.flatnonzero(winners >= 0)
    others = np.count_nonzero(values[rows], axis=1) - (values[rows, winners[rows]] != 0)
    if others.any():
        row = rows[others.argmax()]
        raise ValueError(
            f"{type(rule).__name__}.gate returned the winner {winners[row]} for a patch, but values that are not 0 for "
            "others too; return −1 for such patches, or no winners."
        )


def factors_of(rule: Any, method: str, factors: Any, units: int, given: Array) -> Any:
    """Return what a method says that each unit's change is multiplied by: a number, or (units, 1).

    Raises ValueError for NaN and infinity of a method of one's own that was given finite numbers.
    """
    if isinstance(factors, float) and math.isfinite(factors):
        return factors
    shape = getattr(factors, "shape", () if isinstance(factors, numbers.Real) else None)
    if shape not in ((), (units, 1)):
        raise _wrong(rule, method, "a number, or", (units, 1), factors)
    if hasattr(factors, "dtype") and factors.dtype.kind not in _REAL:
        raise _unreal(rule, method, "an array", factors)
    if not _is_ours(getattr(type(rule), method)) and not _is_finite(factors) and _is_finite(given):
        raise _not_finite(rule, method, "numbers")
    return factors


def require_counts(function: str, rule: Any, units: int) -> None:
    """Raise ValueError or TypeError if a rule cannot work with so many units, or lets more of them win than there are.

    function: who asks, for what the rule says of the units itself.
    """
    rule.check_units(function, units)
    for method, most, bound in (
        ("winners_in_turn", math.inf, "on"),
        ("winners_at_once", units, f"to the {units} units"),
    ):
        count = getattr(rule, method)()
        if not isinstance(count, int | np.integer) or not 1 <= count <= most:  # in turn a unit may win again
            name = f"{type(rule).__name__}.{method}"
            raise _said(f"{name} must return an integer from 1 {bound}, got {count!r}.", count)
    if rule.winners_in_turn() > 1 and own_methods(rule, "gate") and not own_methods(rule, "winners_in_turn"):
        problem = "has no effect where units win in turn, which is matching pursuit; leave it out, or let one unit win."
        raise ValueError(f"{type(rule).__name__}.gate {problem}")
    expected = rule.expected_winners()
    if expected is not None and not isinstance(expected, numbers.Real):
        name = f"{type(rule).__name__}.expected_winners"
        raise TypeError(f"{name} must return a number or None, got {expected!r}.")


def divisor_of(rule: Any, size: int) -> float:
    """Return what a rule divides its change by, of patches of so many numbers: finite, and above 0."""
    divisor: Any = rule.divisor(size)
    if not isinstance(divisor, int | float | np.number) or not 0 < divisor < math.inf:
        name = f"{type(rule).__name__}.divisor"
        raise _said(f"{name} must return a finite number above 0, got {divisor!r}.", divisor)
    return float(divisor)


def stable_rate_of(rule: Any, eigenvalue: float) -> float | None:
    """Return the largest stable rate that a rule says, above 0; None if the data do not tell."""
    rate: Any = rule.stable_rate(eigenvalue)
    if rate is None:
        return None
    if not isinstance(rate, int | float | np.number) or not 0 < rate < math.inf:
        name = f"{type(rule).__name__}.stable_rate"
        raise _said(f"{name} must return a finite number above 0, or None, got {rate!r}.", rate)
    return float(rate)


def first_numbers(rule: Any) -> Mapping[str, float]:
    """Return what a rule's state begins with, by name: numbers, which may be infinite or NaN."""
    found: Any = rule.initial_state()
    name = f"{type(rule).__name__}.initial_state"
    if not isinstance(found, Mapping):
        raise TypeError(f"{name} must return a dict of numbers by name, got {type(found).__name__}.")
    for key, value in found.items():
        if not isinstance(key, str) or np.shape(value) != () or np.asarray(value).dtype.kind not in _REAL:
            raise TypeError(f"{name} must return numbers by name, one for all units, got {key!r}: {value!r}.")
    return found


def require_untouched(rule: Any, weights: Array) -> None:
    """Raise ValueError if a method of a rule of one's own writes into the weights (K, D) that it is given to read.

    They would change with each output and each look at who wins. The methods are tried on a copy.
    """
    tried: dict[str, Callable[[Array], Any]] = {
        "projection": lambda some: rule.projection(some),
        "lengths": lambda some: rule.lengths(some),
        "rate": lambda some: rule.rate(some, 1.0),
        "adjust": lambda some: rule.adjust(weights.copy(), some),
    }
    for method, call in tried.items():
        if _is_ours(getattr(type(rule), method)):
            continue
        copy = weights.copy()
        with np.errstate(all="ignore"):
            call(copy)
        if not bool(namespace(weights).array_equal(copy, weights, equal_nan=True)):
            raise ValueError(
                f"{type(rule).__name__}.{method} must not write into the weights that it is given (no weights *= …, no "
                "out=weights): copy them first."
            )


def adjusted(rule: Any, delta: Array, weights: Array) -> None:
    """Let a rule adjust a summed change. Raises TypeError if it answers with another one."""
    if rule.adjust(delta, weights) is not None:
        raise TypeError(f"{type(rule).__name__}.adjust must change delta in place (delta[...] = …) and return nothing.")


def scores_of(rule: Any, method: str, made: Any, scores: Array) -> Array:
    """Return what a method made of scores (n, K): as many numbers, of their dtype."""
    return _as(rule, method, "outputs", made, scores.shape, scores.dtype)


def weights_of(rule: Any, method: str, made: Any, shape: tuple[int, ...], given: Array = None) -> Any:
    """Return the weights (units, size) that a method made, or their lengths (units, 1).

    given: None, or finite numbers of which it has made them, so that they are finite too.
    """
    if getattr(made, "shape", None) != shape:
        raise _wrong(rule, method, "an array of the shape", shape, made)
    if made.dtype.kind not in _REAL:
        raise _unreal(rule, method, "an array", made)
    if given is not None and not _is_finite(made) and _is_finite(given):
        raise _not_finite(rule, method, "numbers")
    return made


def initial_weights_of(rule: Any, generator: np.random.Generator, shape: tuple[int, int]) -> Any:
    """Return the weights (units, size) that a rule draws. Raises ValueError for what is infinite in float32 too."""
    made = weights_of(rule, "initial_weights", rule.initial_weights(generator, *shape), shape)
    largest = float(np.abs(made).max())
    if not largest <= float(np.finfo(np.float32).max):
        found = f"{largest:.1e}, which float32 does not hold" if math.isfinite(largest) else "NaN or infinity"
        raise ValueError(f"{type(rule).__name__}.initial_weights must return finite numbers, got {found}.")
    return made


def projection_of(rule: Any, weights: Array) -> Array:
    """Return what a rule makes the scores by, of weights (K, D): an array of their shape and dtype."""
    made = weights_of(rule, "projection", rule.projection(weights), weights.shape)
    return made.astype(weights.dtype, copy=False)


def state_of(rule: Any, after: Any, before: Mapping[str, Array]) -> dict[str, Array]:
    """Return the state that a rule makes of one before: (K,), float64, of the same names, in arrays of its own."""
    name = f"{type(rule).__name__}.next_state"
    wanted = ", ".join(before)
    if not isinstance(after, Mapping):
        raise TypeError(f"{name} must return a dict of {wanted}, got {type(after).__name__}.")
    if after.keys() != before.keys():
        raise ValueError(f"{name} must return {wanted}, got {', '.join(map(str, after)) or 'nothing'}.")
    found = {key: _as(rule, "next_state", key, after[key], old.shape, old.dtype) for key, old in before.items()}
    return {key: array.copy() for key, array in found.items()}  # one may be another's from before


def own_methods(rule: Any, *methods: str) -> list[str]:
    """Return which of some methods of a rule hebbcore itself does not define, as "Rule.method"."""
    kind = type(rule)
    return [f"{kind.__name__}.{method}" for method in methods if not _is_ours(getattr(kind, method))]


def _is_finite(array: Any) -> bool:
    array = array if hasattr(array, "dtype") else float(array)
    return bool(namespace(array).isfinite(array).all())


def _not_finite(rule: Any, method: str, what: str) -> ValueError:
    name = f"{type(rule).__name__}.{method}"
    return ValueError(f"{name} must return finite {what}, got NaN or infinity, though what it was given is finite.")


def _as(rule: Any, method: str, what: str, array: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
    if getattr(array, "shape", None) != shape:
        raise _wrong(rule, method, f"{what} of the shape", shape, array)
    if array.dtype is dtype or array.dtype == dtype:
        return array
    if array.dtype.kind not in _REAL:
        raise _unreal(rule, method, what, array)
    return array.astype(dtype)


def _are_plain(decay: Any, mass: Any, winners: Any, shape: tuple[int, int]) -> bool:
    """Return whether a gate's parts for scores of this shape are None, or what they become in any case."""
    for sums in (decay,) if mass is None or mass is decay else (decay, mass):
        if sums is not None and not (getattr(sums, "shape", None) == shape[1:] and sums.dtype.char in _FLOATS):
            return False
    return winners is None or (getattr(winners, "shape", None) == shape[:1] and winners.dtype is _INDEX)


def _indices(rule: Any, winners: Any, shape: tuple[int, ...]) -> Any:
    if getattr(winners, "shape", None) != shape:
        raise _wrong(rule, "gate", "winners of the shape", shape, winners)
    if winners.dtype.kind not in "iu":
        raise TypeError(f"{type(rule).__name__}.gate must return winners of integers, got {winners.dtype}.")
    return winners.astype(_INDEX, copy=False)


def _sums(rule: Any, what: str, sums: Any, units: int) -> Any:
    """Return sums over rows (K,), float32 or float64: minus an unsigned integer is huge, and float16 overflows."""
    if getattr(sums, "shape", None) != (units,):
        raise _wrong(rule, "gate", f"a {what} of the shape", (units,), sums)
    return sums if sums.dtype.char in _FLOATS else _as(rule, "gate", f"a {what}", sums, (units,), np.dtype(np.float64))


def _wrong(rule: Any, method: str, what: str, shape: tuple[int, ...], found: Any) -> ValueError:
    got = np.shape(found) if hasattr(found, "shape") else type(found).__name__
    return ValueError(f"{type(rule).__name__}.{method} must return {what} {shape}, got {got}.")


def _said(problem: str, found: Any) -> ValueError | TypeError:
    return ValueError(problem) if isinstance(found, numbers.Real) else TypeError(problem)


def _unreal(rule: Any, method: str, what: str, found: Any) -> TypeError:
    return TypeError(f"{type(rule).__name__}.{method} must return {what} of real numbers, got {found.dtype}.")
