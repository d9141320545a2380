"""Values out of JSON that somebody else may have written: each function returns one, or raises ValueError."""

import math
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


def require(holds: bool, expected: str, value: Any) -> None:
    """Raise ValueError unless what is expected of a value holds."""
    if not holds:
        raise ValueError(f"evaluate: a value of the results must be {expected}, got {str(value)[:80]!r}.")


def as_list(take: Callable[[Any], T], values: Any) -> list[T]:
    """Return what `take` makes of each of a list of values."""
    require(isinstance(values, list), "a list", values)
    return [take(value) for value in values]


def as_count(value: Any) -> int:
    """Return a whole number from 0 on."""
    require(_is_whole(value) and value >= 0, "a whole number from 0 on", value)
    return int(value)


def as_number(value: Any) -> float:
    """Return a finite number as it is: a whole one stays so."""
    require(_is_whole(value) or (isinstance(value, float) and math.isfinite(value)), "a finite number", value)
    found: float = value
    return found


def as_percent(value: Any) -> float:
    """Return a number from 0 to 100."""
    found = as_number(value)
    require(0 <= found <= 100, "from 0 to 100", value)
    return found


def as_text(value: Any) -> str:
    """Return text."""
    require(isinstance(value, str), "text", value)
    return str(value)


def as_title(value: Any) -> str | int:
    """Return the name of a class, or its number."""
    require(isinstance(value, str) or _is_whole(value), "a name or a whole number", value)
    found: str | int = value
    return found


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
