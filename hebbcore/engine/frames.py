"""Tables and columns of pandas whose types are not NumPy's: nullable and Arrow numbers. pandas need not be there."""

from typing import Any

import numpy as np


def of_numpy_types(value: Any) -> Any:
    """Return a table or column of nullable or Arrow numbers with NumPy's types, other things as they are.

    So are those that lack a number. NumPy makes objects of such tables, and scikit-learn float64, also of uint8.
    """
    kinds = _types(value)
    known = [getattr(kind, "numpy_dtype", kind) for kind in kinds]
    if all(isinstance(kind, np.dtype) for kind in kinds) or not all(
        isinstance(kind, np.dtype) and kind.kind in "biuf" for kind in known
    ):
        return value
    return value if missing(value) else value.astype(np.result_type(*known))


def missing(value: Any) -> int:
    """Return how many values a table or column of pandas lacks: NaN, None or NA; 0 for other things."""
    return int(np.count_nonzero(value.isna())) if _types(value) else 0


def _types(value: Any) -> list[Any]:
    """Return the types of the columns of pandas' objects; none for other things."""
    if not hasattr(value, "isna"):
        return []
    return list(value.dtypes) if hasattr(value, "columns") else [value.dtype] if hasattr(value, "dtype") else []
