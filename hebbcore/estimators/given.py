"""What users give an estimator as X: arrays of images of any kind, and tables of nullable or Arrow numbers."""

from typing import Any

import numpy as np

from hebbcore.engine import backend
from hebbcore.engine.frames import of_numpy_types

_MAPS = 4  # dimensions of images (n, height, width, channels)


def as_given(function: str, X: Any) -> Any:
    """Return images (n, H, W, C) as an array that reshapes, tables of numbers by NumPy's types, other things as is."""
    shape = getattr(X, "shape", None)
    if shape is None and isinstance(X, list | tuple):
        shape = _shape(X)
    if shape is not None and len(shape) == _MAPS and not hasattr(X, "reshape"):
        return backend.as_array(function, "X", X)  # a dataset of h5py, an array of xarray, a list of images
    return of_numpy_types(X)


def _shape(images: Any) -> tuple[int, ...] | None:
    """Return the shape of nested lists, or of a list of arrays; None if it has none."""
    try:
        shape: tuple[int, ...] = np.shape(images)
        return shape
    except ValueError:  # ragged
        return None
