"""A fit that fails leaves the estimator as it was: what it had learned, and the shape that goes with it."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

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
