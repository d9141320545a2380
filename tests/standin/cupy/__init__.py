"""A stand-in for CuPy on NumPy, as strict as CuPy: arrays of the host among those of the device are refused.

It has the part of CuPy 14 that the project uses: a function or an argument that is not listed here is an error until
somebody has looked it up in CuPy. Numbers are where the host can read them, and nothing is queued.
"""

import inspect

import numpy as np

from . import cuda
from ._array import ndarray, on_device, on_host, require_numbers
from ._linalg import linalg

__all__ = ["cuda", "linalg", "ndarray"]
__version__ = "14.2.0 (a stand-in)"

UFUNCS = (
    *("abs", "add", "copysign", "divide", "exp", "isfinite", "log", "maximum", "minimum", "multiply", "sign", "sqrt"),
    *("subtract", "tanh"),
)
FUNCTIONS = {
    "arange": "start stop step dtype",
    "argmin": "a axis dtype out keepdims",
    "argsort": "a axis kind",
    "array_equal": "a1 a2 equal_nan",
    "broadcast_to": "array shape",
    "clip": "a a_min a_max out",
    "concatenate": "tup axis out dtype casting",
    "cumsum": "a axis dtype out",
    "empty": "shape dtype order",
    "eye": "N M k dtype order",
    "flatnonzero": "a",
    "full": "shape fill_value dtype order",
    "matmul": "a b out",
    "nonzero": "a",
    "ones": "shape dtype order",
    "ones_like": "a dtype order subok shape",
    "outer": "a b out",
    "partition": "a kth axis",
    "split": "ary indices_or_sections axis",
    "take_along_axis": "a indices axis",
    "tril": "m k",
    "triu_indices": "n k m",
    "where": "condition x y",
    "zeros": "shape dtype order",
    "zeros_like": "a dtype order subok shape",
}
ARRAYS = ("a", "a1", "a2", "ary", "array", "b", "condition", "indices", "m")  # parameters that take nothing else


def _function(name, parameters):
    """Return NumPy's function of a name, which takes CuPy's parameters alone."""
    kinds = [inspect.Parameter(each, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=None) for each in parameters]
    signature, function = inspect.Signature(kinds), getattr(np, name)

    def called(*arguments, **options):
        given = signature.bind(*arguments, **options).arguments
        for each, value in given.items():
            parts = [isinstance(part, ndarray) for part in (value if isinstance(value, (tuple, list)) else [value])]
            if (
                (each in ARRAYS and not isinstance(value, ndarray))
                or (each == "tup" and not all(parts))
                or (each == "shape" and any(parts))
            ):
                raise TypeError(f"cupy.{name}: {each} cannot be {type(value)}")
        if given.get("kind") not in (None, "stable"):
            raise ValueError(f"cupy.{name}: kind can be None or 'stable' only")
        found = on_device(function, arguments, options)
        return ndarray(np.asarray(found)) if isinstance(found, bool) else found

    return called


class _Ufunc:
    """An elementwise function."""

    def __init__(self, name):
        self._function = getattr(np, name)

    def __call__(self, *arguments, **options):
        if unknown := set(options) - {"out", "dtype", "casting"}:
            raise TypeError(f"Wrong arguments {unknown}")
        require_numbers(arguments)
        return on_device(self._function, arguments, options)

    def at(self, array, indices, values):
        """Change some entries, each as often as it is named."""
        if array.dtype.char not in "iIQLefd":
            raise TypeError(f"cupyx.scatter_add does not support {array.dtype}")
        self._function.at(on_host(array), on_host(indices), on_host(values))


globals().update({name: _function(name, parameters.split()) for name, parameters in FUNCTIONS.items()})
globals().update({name: _Ufunc(name) for name in UFUNCS})


def einsum(subscripts, *operands, out=None):
    return on_device(np.einsum, (subscripts, *operands), {"out": out})


def asarray(a, dtype=None, order=None):
    """Return an array of the device: itself, or a copy of one of the host."""
    if isinstance(a, ndarray) and (dtype is None or a.dtype == dtype) and order is None:
        return a
    return array(a, dtype, order=order)


def array(obj, dtype=None, copy=True, order="K"):
    given = obj.get(order="A") if isinstance(obj, ndarray) else _gathered(obj)
    made = np.array(given, dtype, order=order)
    return ndarray(made.astype(made.dtype.newbyteorder("="), copy=False))


def ascontiguousarray(a, dtype=None):
    if isinstance(a, ndarray) and a.flags.c_contiguous and (dtype is None or a.dtype == dtype):
        return a
    return array(a, dtype, order="C")


def asnumpy(a, order="C"):
    return a.get(order=order) if isinstance(a, ndarray) else np.asarray(a, order=order)


def _gathered(values):
    """Return a list of numbers and of arrays of the device as one of the host."""
    if isinstance(values, (list, tuple)):
        return [_gathered(each) for each in values]
    return values.get() if isinstance(values, ndarray) else values


class _Pool:
    """Memory that CuPy keeps for later arrays: none here."""

    def free_bytes(self):
        return 0


def get_default_memory_pool():
    return _Pool()
