"""What a fit leaves: all of it or what was before, and parameters that must stay as it found them."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np

Method = TypeVar("Method", bound=Callable[..., Any])


def whole_or_not_at_all(fit: Method) -> Method:
    """Return a method that gives the object its attributes of before if it fails, or is interrupted."""

    @functools.wraps(fit)
    def wrapped(self: Any, *given: Any, **named: Any) -> Any:
        before = dict(vars(self))
        try:
            return fit(self, *given, **named)
        except BaseException:
            for name in vars(self).keys() - before.keys():
                delattr(self, name)
            vars(self).update(before)
            raise

    return wrapped  # type: ignore[return-value]


def require_unchanged(function: str, made: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raise ValueError for a parameter that is not what it was before, when something was made; made: what."""
    for name, value in before.items():
        if now[name] is not value and not _are_equal(now[name], value):
            raise ValueError(
                f"{function}: {name} was set from {value!r} to {now[name]!r} after the {made} was made, and would have "
                "no effect; set it back, or call fit, which begins anew."
            )


def _are_equal(one: Any, other: Any) -> bool:
    """Return whether two values of a parameter are the same, be they arrays."""
    return np.shape(one) == np.shape(other) and bool(np.all(one == other))
