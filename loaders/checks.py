"""Checks of arguments that many functions have."""

from typing import Any

import numpy as np


def require_flags(function: str, **values: Any) -> None:
    """Raise ValueError unless each of the values is true or false, as Python or NumPy has it; "no" is not."""
    for name, value in values.items():
        if not isinstance(value, bool | np.bool_):
            raise ValueError(f"{function}: {name} must be True or False, got {value!r}")


def require_callback(function: str, name: str, value: Any) -> None:
    """Raise TypeError for what cannot be called and is not None."""
    if value is not None and not callable(value):
        raise TypeError(f"{function}: {name} must be a function that is called, or None, got {value!r}")
