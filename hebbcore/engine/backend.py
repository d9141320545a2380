"""Which library an array belongs to, and what becomes an array of it."""

import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np

from hebbcore import checks
from hebbcore.engine import tuning
from hebbcore.engine.frames import missing, of_numpy_types

Array = Any  # numpy.ndarray or cupy.ndarray: the two share their interface, not a type

_NUMBERS = "biuf"  # kinds of dtypes
_DLPACK_HOST, _DLPACK_CUDA = (1, 3), (2, 13)  # CPU and pinned memory; CUDA and managed memory


def on_cuda(array: Any) -> bool:
    """Return True for CuPy arrays."""
    if type(array) is np.ndarray:  # to look further takes longer, which counts beside small steps
        return False
    cupy = sys.modules.get("cupy")
    return cupy is not None and isinstance(array, cupy.ndarray)


def namespace(array: Any) -> ModuleType:
    """Return the module, numpy or cupy, that an array belongs to, so that one code serves both.

    Parameters
    ----------
    array : Array
        NumPy or CuPy.

    Returns
    -------
    module
        cupy for CuPy arrays, else numpy.
    """
    return np if type(array) is np.ndarray or not on_cuda(array) else sys.modules["cupy"]


def device_of(array: Any) -> str:
    """Return "cuda" for CuPy arrays and "cpu" for NumPy arrays."""
    return "cpu" if type(array) is np.ndarray or not on_cuda(array) else "cuda"


def module(device: str) -> ModuleType:
    """Return numpy for "cpu" and cupy for "cuda"."""
    if device == "cpu":
        return np
    import cupy

    return cupy  # type: ignore[no-any-return]


def row_norms(matrix: Array, p: float = 2) -> Array:
    """Return the p-norm of each row (n, 1), some rows at a time: no other array of the matrix's size is made."""
    xp = namespace(matrix)
    step = max(1, tuning.MEASURED.norm_numbers[device_of(matrix)] // matrix.shape[1])
    if step >= len(matrix):
        return xp.linalg.norm(matrix, ord=p, axis=1, keepdims=True)
    out = xp.empty((len(matrix), 1), matrix.dtype)
    for i in range(0, len(matrix), step):
        out[i : i + step] = xp.linalg.norm(matrix[i : i + step], ord=p, axis=1, keepdims=True)
    return out


def largest_magnitude(array: Array) -> Array:
    """Return max|array| of a floating array, NaN if it holds any; no array of magnitudes is made."""
    return namespace(array).maximum(array.max(), -array.min())


def is_writable(array: Array) -> bool:
    """Return False for an array that may only be read, such as one that another process shares."""
    return bool(getattr(array.flags, "writeable", True))  # CuPy's all are


def writable(array: Array) -> Array:
    """Return an array, or a copy of one that may only be read."""
    return array if is_writable(array) else namespace(array).array(array)


def pieces(array: Array) -> Iterator[Array]:
    """Return views of consecutive rows, each of a bounded number of bytes."""
    step = max(1, int(tuning.MEASURED.piece_bytes // max(1, array[:1].nbytes)))
    return (array[first : first + step] for first in range(0, len(array), step))


def as_array(function: str, name: str, value: Any) -> Array:
    """Return value as a NumPy or CuPy array without a copy where its library allows it.

    value: a NumPy or CuPy array, an object with __cuda_array_interface__, DLPack or __array__, a table of pandas with
    numbers of any type, or nested sequences of numbers. Raises TypeError for what does not become an array of numbers.
    """
    if isinstance(value, np.matrix):
        array = np.asarray(value)  # its rows stay matrices, and * multiplies matrices
    elif isinstance(value, np.ndarray) or on_cuda(value):
        array = value
    elif hasattr(value, "__cuda_array_interface__"):
        array = module("cuda").asarray(value)
    else:
        require_unmasked(function, name, value)
        try:
            array = _host_or_dlpack(of_numpy_types(value))
        except (ValueError, TypeError, RuntimeError) as error:  # ragged, or what a library refuses
            problem = f"must be an array of numbers, got {type(value).__name__} ({error})."
            raise checks.wrong(TypeError, function, name, problem) from error
    if array.dtype.kind not in _NUMBERS and (lacking := missing(value)):
        problem = f"must be an array of numbers, but {lacking} are missing; fill them in, or leave these rows out."
        raise checks.wrong(TypeError, function, name, problem)
    require_numbers(function, name, array, value)
    if isinstance(array, np.ma.MaskedArray):
        if array is value or np.ma.is_masked(array):  # objects such as netCDF4's make masked arrays of all they hold
            require_unmasked(function, name, array)
        array = np.ma.getdata(array)
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def require_numbers(function: str, name: str, array: Array, given: Any) -> None:
    """Raise TypeError if an array, made of what was given, holds dates, times, complex numbers or other things."""
    if array.dtype.kind not in _NUMBERS:
        problem = f"must be an array of numbers, got {type(given).__name__} ({array.dtype})."
        raise checks.wrong(TypeError, function, name, problem)


def require_unmasked(function: str, name: str, value: Any) -> None:
    """Raise TypeError for a masked array of NumPy, or a list of some: what works on numbers does not see the mask."""
    if isinstance(value, list | tuple):
        for each in value:
            if isinstance(each, np.ma.MaskedArray | list | tuple):
                require_unmasked(function, name, each)
    elif isinstance(value, np.ma.MaskedArray):
        problem = f"must not be masked; {name}.filled(0) puts a number where the mask is (-1 for no label)."
        raise checks.wrong(TypeError, function, name, problem)


def _host_or_dlpack(value: Any) -> Array:
    if hasattr(value, "__dlpack__") and hasattr(value, "__dlpack_device__"):
        kind = value.__dlpack_device__()[0]
        if kind in _DLPACK_CUDA:
            return module("cuda").from_dlpack(value)
        if kind in _DLPACK_HOST:
            try:
                return np.from_dlpack(value)
            except (BufferError, TypeError, RuntimeError):
                pass  # a library that does not export read-only or odd memory: it may still know __array__
    return np.asanyarray(value)  # which may be masked


def same_device(function: str, name: str, array: Any, other_name: str, other: Any) -> None:
    """Raise TypeError unless both arrays live on one device."""
    if device_of(array) != device_of(other):
        raise TypeError(
            f"{function}: {name} are on {device_of(array)} but {other_name} on {device_of(other)}; "
            "move one with hebbcore.to_device()."
        )
