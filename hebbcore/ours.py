"""Whether hebbcore itself defines something, or a user does, whose own classes are looked at more closely."""

from typing import Any


def is_ours(thing: Any) -> bool:
    """Return whether a class, or a method of one, is hebbcore's own."""
    return str(getattr(thing, "__module__", "")).partition(".")[0] == __name__.partition(".")[0]
