"""The stand-in's array: no numpy.ndarray, as CuPy's is none."""

import operator
from types import SimpleNamespace

import numpy as np

REDUCTIONS = ("all", "any", "argmax", "argmin", "max", "mean", "min", "prod", "std", "sum", "var")
OTHERS = (
    *("argsort", "clip", "conj", "cumsum", "diagonal", "dot", "flatten", "nonzero", "partition", "ravel", "repeat"),
    *("round", "sort", "squeeze", "swapaxes", "take", "transpose"),
)
OPERATORS = ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "and", "or", "xor", "lshift", "rshift", "matmul")
COMPARISONS = ("lt", "le", "gt", "ge", "eq", "ne")


def on_host(value):
    """Return what NumPy takes for an argument. Raises TypeError for arrays of the host, as CuPy does."""
    if isinstance(value, ndarray):
        return value.held
    if isinstance(value, (tuple, list)):
        return type(value)(map(on_host, value))
    if isinstance(value, np.ndarray) and value.ndim:
        raise TypeError("Unsupported type <class 'numpy.ndarray'>")
    return value


def require_numbers(arguments):
    """Raise TypeError for what no elementwise function takes: lists, and arrays of the host, of one number too."""
    for value in arguments:
        if not isinstance(value, (ndarray, np.generic, bool, int, float, complex)):
            raise TypeError(f"Unsupported type {type(value)}")


def on_device(function, arguments, options):
    """Return what a function of NumPy makes of arguments of the device, as arrays of the device."""
    out = options.get("out")
    out = out[0] if isinstance(out, tuple) else out
    if not isinstance(out, ndarray | None):
        raise TypeError(f"out must be an array of the device, got {type(out)}")
    held = {name: on_host(value) for name, value in options.items() if name != "out"}
    if out is not None:
        held["out"] = out.held
    with np.errstate(all="ignore"):  # no device warns
        found = function(*map(on_host, arguments), **held)
    return _wrapped(found) if out is None else out


def _wrapped(value):
    if isinstance(value, (tuple, list)):
        return type(value)(map(_wrapped, value)) if type(value) in (tuple, list) else tuple(map(_wrapped, value))
    return ndarray(np.asarray(value)) if isinstance(value, (np.ndarray, np.generic)) else value


class ndarray:
    """An array of the device. held: where its numbers are."""

    __hash__ = None

    def __init__(self, held):
        if held.dtype.char not in "?bhilqBHILQefdFD" or not held.dtype.isnative:
            raise ValueError(f"Unsupported dtype {held.dtype}")
        self.held = held

    def __array__(self, dtype=None, copy=None):
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Please use `.get()`.")

    def __array_ufunc__(self, ufunc, method, *inputs, **options):
        if method != "__call__":
            raise TypeError(f"numpy.{ufunc.__name__}.{method} does not take arrays of the device here; take cupy's")
        return on_device(ufunc, inputs, options)

    def __array_function__(self, function, types, arguments, options):
        raise TypeError(f"numpy.{function.__name__} does not take arrays of the device here; take cupy's")

    @property
    def __cuda_array_interface__(self):
        return {**self.held.__array_interface__, "stream": 1}

    def __dlpack_device__(self):
        return (2, 0)

    def __reduce__(self):
        return ndarray, (self.held,)

    def __deepcopy__(self, memo):
        return self.copy()

    def __len__(self):
        return len(self.held)

    def __iter__(self):
        return (self[i] for i in range(len(self)))

    def __getitem__(self, key):
        key = on_host(key)
        each = key if isinstance(key, tuple) else (key,)
        is_one = len(each) == self.ndim and all(isinstance(i, int | np.integer) for i in each)
        return ndarray(np.asarray(self.held[(*each, ...) if is_one else key]))  # of one number a view too

    def __setitem__(self, key, value):
        self.held[on_host(key)] = on_host(value)

    def __bool__(self):
        return bool(self.held)

    def __int__(self):
        return int(self.held)

    def __float__(self):
        return float(self.held)

    def __format__(self, how):
        return format(self.held if self.ndim else self.held[()], how)

    def __repr__(self):
        return repr(self.held)

    def __neg__(self):
        return on_device(operator.neg, (self,), {})

    def __abs__(self):
        return on_device(abs, (self,), {})

    def __invert__(self):
        return on_device(operator.invert, (self,), {})

    @property
    def flags(self):
        flags = self.held.flags
        return SimpleNamespace(c_contiguous=flags.c_contiguous, f_contiguous=flags.f_contiguous, owndata=flags.owndata)

    @property
    def T(self):
        return ndarray(self.held.T)

    @property
    def data(self):
        return _Pointer(self.held.__array_interface__["data"][0])

    def get(self, order="C"):
        return self.held.copy(order)

    def set(self, arr):
        if type(arr) is not np.ndarray:
            raise TypeError("Only numpy.ndarray can be set to cupy.ndarray")
        if (arr.dtype, arr.shape) != (self.dtype, self.shape):
            raise TypeError("dtype or shape mismatch")
        self.held[...] = arr

    def astype(self, dtype, order="K", copy=True):
        held = self.held.astype(dtype, order=order, copy=copy)
        return self if held is self.held else ndarray(held)

    def view(self, dtype):
        return ndarray(self.held.view(dtype))

    def reshape(self, *shape, order="C"):
        return ndarray(self.held.reshape(*shape, order=order))

    def copy(self, order="C"):
        return ndarray(self.held.copy(order))

    def fill(self, value):
        self.held.fill(on_host(value))

    def item(self):
        return self.held.item()

    def tolist(self):
        return self.held.tolist()


class _Pointer:
    def __init__(self, ptr):
        self.ptr = ptr


def _method(name):
    function, known = getattr(np.ndarray, name), {"axis", "out", "keepdims", "dtype", "ddof", "min", "max"}

    def method(self, *arguments, **options):
        if unknown := set(options) - known:
            raise TypeError(f"{name}() got unexpected keyword arguments {unknown}")
        return on_device(function, (self, *arguments), options)

    return method


def _operator(name):
    function, into = getattr(operator, f"__{name}__"), getattr(operator, f"__i{name}__", None)

    def of_both(self, other):
        require_numbers((other,))
        return on_device(function, (self, other), {})

    def reversed_of_both(self, other):
        require_numbers((other,))
        return on_device(function, (other, self), {})

    def in_place(self, other):
        require_numbers((other,))
        on_device(into, (self, other), {})
        return self

    return of_both, reversed_of_both, in_place


def _comparison(name):
    of_both = _operator(name)[0]

    def compared(self, other):
        if name in ("eq", "ne") and type(other).__eq__ is object.__eq__:  # None, and what is like it
            return NotImplemented
        return of_both(self, other.item() if isinstance(other, np.ndarray) and not other.ndim else other)

    return compared


for _name in ("shape", "ndim", "size", "nbytes", "itemsize", "strides", "dtype"):
    setattr(ndarray, _name, property(lambda self, name=_name: getattr(self.held, name)))
for _name in (*REDUCTIONS, *OTHERS):
    setattr(ndarray, _name, _method(_name))
for _name in OPERATORS:
    for _prefix, _function in zip(("", "r", "i"), _operator(_name), strict=True):
        if (_prefix, _name) != ("i", "matmul"):  # CuPy has none: the name is bound to a new array
            setattr(ndarray, f"__{_prefix}{_name}__", _function)
for _name in COMPARISONS:
    setattr(ndarray, f"__{_name}__", _comparison(_name))
