"""The state of a rule: numbers of each unit that lie with the layer and go from step to step (see Rule)."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from hebbcore import checks
from hebbcore.engine import backend, devices
from hebbcore.engine.answers import first_numbers
from hebbcore.engine.backend import Array
from hebbcore.engine.rule import Rule

State = dict[str, Array]  # (K,), float64, by the names of Rule.initial_state; the arrays are changed in place

_PREFIX = "state_"  # of the arrays' names in files


def initial_state(rule: Rule, units: int, device: str) -> State:
    """Return the state that a rule begins with; empty for rules without one."""
    xp = backend.module(device)
    return {name: xp.full(units, value, np.float64) for name, value in first_numbers(rule).items()}


def move_on(state: Mapping[str, Array], after: Mapping[str, Array]) -> None:
    """Bring the arrays of a state up to date, as the weights are that were learned with it."""
    for name, array in state.items():
        array[...] = after[name]


def same_names(rule: Rule, state: Mapping[str, Array]) -> bool:
    """Return whether a state has the names of a rule's."""
    return state.keys() == first_numbers(rule).keys()


def as_state(function: str, rule: Rule, units: int, device: str, value: Any) -> State:
    """Return a state that was given as the layer keeps it; None: the one that the rule begins with.

    Arrays that are float64 and on the device stay themselves.

    Raises
    ------
    TypeError
        If it is no mapping, or its arrays are not floating.
    ValueError
        For other names than the rule's, another shape than (units,), and NaN and infinity where it begins with a finite
        number.
    """
    if value is None:
        return initial_state(rule, units, device)
    if not isinstance(value, Mapping):
        raise checks.wrong(TypeError, function, "state", f"must be a dict of arrays, got {type(value).__name__}.")
    first = first_numbers(rule)
    if value.keys() != first.keys():
        wanted = ", ".join(first) or "nothing"
        problem = f"must hold {wanted} for {type(rule).__name__}, got {', '.join(map(str, value)) or 'nothing'}."
        raise checks.wrong(ValueError, function, "state", problem)
    state = {}
    for name, given in value.items():
        array = backend.as_array(function, f"state {name}", given)
        if array.dtype.kind != "f":
            raise checks.wrong(TypeError, function, "state", f"{name} must be floating, got {array.dtype}.")
        if array.shape != (units,):
            raise checks.wrong(ValueError, function, "state", f"{name} must be ({units},), got {array.shape}.")
        if math.isfinite(first[name]) and not bool(backend.namespace(array).isfinite(array).all()):
            raise checks.wrong(ValueError, function, "state", f"{name} must be finite, got NaN or infinity.")
        state[name] = devices.to_device(array, device).astype(np.float64, copy=False)
    return state


def state_arrays(state: Mapping[str, Array]) -> dict[str, Array]:
    """Return what a file must hold of a state, by name."""
    return {_PREFIX + name: array for name, array in state.items()}


def state_shapes(rule: Rule, units: int) -> dict[str, tuple[tuple[int, ...], Any]]:
    """Return shape and dtype of what state_arrays holds, by name."""
    return {_PREFIX + name: ((units,), np.dtype(np.float64)) for name in first_numbers(rule)}


def require_state(rule: Rule, arrays: Mapping[str, Array]) -> None:
    """Raise ValueError if the state that arrays of a file hold has other names than the rule's."""
    held = sorted(name.removeprefix(_PREFIX) for name in arrays if name.startswith(_PREFIX))
    if held != sorted(first_numbers(rule)):
        said = ", ".join(first_numbers(rule)) or "none"
        raise ValueError(
            f"it holds the state {', '.join(held) or 'none'} of the rule, and {type(rule).__name__} has {said}: the "
            "class has changed since; read it by the class of then, or train anew."
        )


def state_in(rule: Rule, arrays: Mapping[str, Array]) -> State | None:
    """Return the state that arrays of a file hold; None if they lack one of its names."""
    names = first_numbers(rule)
    if not all(_PREFIX + name in arrays for name in names):
        return None
    return {name: arrays[_PREFIX + name] for name in names}
