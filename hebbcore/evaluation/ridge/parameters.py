"""What the parameters of a RidgeReadout say, checked when a fit begins."""

import numbers
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from hebbcore import checks
from hebbcore.evaluation.batches import Labels, Weights
from hebbcore.evaluation.ridge.holdout import Choice


def penalties(function: str, alphas: Any) -> list[float]:
    """Return `alphas` as a list of numbers above 0."""
    if isinstance(alphas, numbers.Real):
        return [checks.positive(function, "alphas", alphas)]
    if isinstance(alphas, str | Iterator) or not isinstance(alphas, Iterable) or getattr(alphas, "ndim", 1) != 1:
        raise TypeError(
            f"{function}: alphas must be a number or some numbers, got {alphas!r}; a list can be read more than once."
        )
    found = [checks.positive(function, "alphas", alpha) for alpha in alphas]
    if not found:
        raise ValueError(f"{function}: alphas must name at least one penalty, got none.")
    return found


def choice_of(function: str, fraction: Any, alphas: Any) -> Choice:
    """Return how one of the penalties is chosen, from `validation_fraction`."""
    several = len(penalties(function, alphas)) > 1
    if fraction is None:
        return Choice(several, None)
    checked = checks.positive(function, "validation_fraction", fraction)
    if checked >= 1:
        raise ValueError(f"{function}: validation_fraction must be below 1, got {checked}.")
    return Choice(several, checked)


def factors_of_stream(function: str, given: Any) -> dict[Any, float]:
    """Return `class_weight` as a dict. Raises ValueError for "balanced", which a stream cannot be."""
    if isinstance(given, str):
        raise ValueError(
            f"{function}: class_weight must be a dict or None, got {given!r}: how many rows a class "
            "has is known at a stream's end only; count them before, and give the weights."
        )
    return _factors(function, given)


def factors_of(function: str, given: Any, classes: Labels, counts: Any) -> Weights:
    """Return by what the weights of each class's rows (classes,) are multiplied; counts: of its rows."""
    if isinstance(given, str) and given == "balanced":
        balanced: Weights = counts.sum() / (len(counts) * counts)
        return balanced
    factors = _factors(function, given)
    require_classes(function, factors, classes)
    return np.array([factors.get(label, 1.0) for label in classes.tolist()])


def require_classes(function: str, factors: dict[Any, float], classes: Labels) -> None:
    """Raise ValueError if `class_weight` names a class that there is not."""
    unknown = [label for label in factors if label not in classes.tolist()]
    if unknown:
        raise ValueError(f"{function}: class_weight has {unknown[0]!r}, which is no class; they are {classes}.")


def _factors(function: str, given: Any) -> dict[Any, float]:
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise ValueError(f'{function}: class_weight must be a dict, "balanced" or None, got {given!r}.')
    return {label: checks.positive(function, f"class_weight of {label!r}", weight) for label, weight in given.items()}
