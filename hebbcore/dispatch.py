"""Arrays of any library in estimators, where scikit-learn is told array_api_dispatch: results are of X's library.

What computes is hebbcore on NumPy or CuPy arrays, which take those of other libraries by DLPack, without a copy where
it goes. Fitted arrays stay NumPy's.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from sklearn import get_config
from sklearn.utils._array_api import get_namespace_and_device

from hebbcore.engine import backend

Method = TypeVar("Method", bound=Callable[..., Any])


def of_any_library(method: Method) -> Method:
    """Return a method of X, and perhaps other arrays, that takes those of any library, and answers in that of X.

    It refuses masked arrays, whose mask scikit-learn would drop.
    """
    parameters = list(inspect.signature(method).parameters)[1:]

    @functools.wraps(method)
    def wrapped(self: Any, X: Any, *others: Any, **named: Any) -> Any:
        function = f"{type(self).__name__}.{method.__name__}"
        for name, value in (*zip(parameters, (X, *others), strict=False), *named.items()):
            backend.require_unmasked(function, name, value)
        if not get_config().get("array_api_dispatch"):
            return method(self, X, *others, **named)
        result = method(
            self,
            _taken(function, "X", X),
            *(_taken(function, "arguments", other) for other in others),
            **{name: _taken(function, name, other) for name, other in named.items()},
        )
        is_array = isinstance(result, np.ndarray) or backend.on_cuda(result)
        if not is_array or not _is_of_another(X) or result.dtype.kind not in "biuf":
            return result
        xp, _, device = get_namespace_and_device(X)
        return xp.asarray(result, device=device)

    return wrapped  # type: ignore[return-value]


def _is_of_another(value: Any) -> bool:
    """Return whether a value is an array of a library besides NumPy and CuPy."""
    if isinstance(value, np.ndarray | np.generic) or backend.on_cuda(value):
        return False
    return hasattr(value, "__array_namespace__") or type(value).__module__.partition(".")[0] == "torch"


def _taken(function: str, name: str, value: Any) -> Any:
    """Return an array of any library as NumPy's or CuPy's; other things as they are."""
    return backend.as_array(function, name, value) if _is_of_another(value) else value
