"""What users give an estimator as X: arrays of images of any kind, and tables of nullable or Arrow numbers."""

from typing import Any

import numpy as np

_MAPS = 4  # dimensions of images (n, height, width, channels)


def as_given(X: Any) -> Any:
    """Return images (n, H, W, C) as an array that reshapes, tables of numbers by NumPy's types, other things as is.

    scikit-learn reads every table of nullable or Arrow numbers as float64, so uint8 would no longer be read as 0…1.
    """
    if hasattr(X, "columns") and hasattr(X, "dtypes"):
        return _of_numpy_types(X)
    shape = getattr(X, "shape", None)
    if shape is None and isinstance(X, list | tuple):
        shape = _shape(X)
    if shape is not None and len(shape) == _MAPS and not hasattr(X, "reshape"):
        return np.asarray(X)  # a dataset of h5py, an array of xarray, a list of images
    return X


def _of_numpy_types(table: Any) -> Any:
    """Return a table of pandas with its columns' types as NumPy's, unless a number is missing or one is no number."""
    types = list(table.dtypes)
    known = [getattr(kind, "numpy_dtype", kind) for kind in types]
    if all(isinstance(kind, np.dtype) for kind in types) or not all(
        isinstance(kind, np.dtype) and kind.kind in "biuf" for kind in known
    ):
        return table
    return table if table.isna().to_numpy().any() else table.astype(np.result_type(*known))


def _shape(images: Any) -> tuple[int, ...] | None:
    """Return the shape of nested lists, or of a list of arrays; None if it has none."""
    try:
        shape: tuple[int, ...] = np.shape(images)
        return shape
    except ValueError:  # ragged
        return None
