"""A stand-in for CuPy on NumPy, as strict as CuPy about arrays of the host among those of the device."""

import contextlib
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import scipy.linalg

from hebbcore.engine import devices

FUNCTIONS = (
    *("arange", "argmin", "array", "ascontiguousarray", "concatenate", "einsum", "empty", "exp", "eye", "flatnonzero"),
    *("isfinite", "log"),
    *(
        "matmul",
        "maximum",
        "ones",
        "ones_like",
        "outer",
        "sqrt",
        "split",
        "take_along_axis",
        "triu_indices",
        "where",
        "zeros",
    ),
)
_raises: list[bool] = []


def _refuse_host(values):
    for value in values:
        if isinstance(value, (tuple, list)):
            _refuse_host(value)
        elif isinstance(value, np.ndarray) and not isinstance(value, DeviceArray) and value.ndim:
            raise TypeError("Unsupported type <class 'numpy.ndarray'>")


class DeviceArray(np.ndarray):
    """An array of the device: computing with arrays of the host, or putting them into it, is refused."""

    def __array_ufunc__(self, ufunc, method, *inputs, out=(), **options):
        _refuse_host([*inputs, *out])
        plain = [value.view(np.ndarray) if isinstance(value, DeviceArray) else value for value in inputs]
        if out:
            options["out"] = tuple(value.view(np.ndarray) for value in out)
        return on_device(getattr(ufunc, method)(*plain, **options))

    def __array_function__(self, function, types, args, options):
        raise TypeError(f"numpy.{function.__name__} does not take arrays of the device here; take cupy's")

    def __getitem__(self, key):
        _refuse_host([key])
        return super().__getitem__(key)

    def __setitem__(self, key, value):
        _refuse_host([key, value])
        super().__setitem__(key, value)


def on_device(value):
    """Return an array, or several, as such of the device, other things as they are."""
    if isinstance(value, (tuple, list)):
        return type(value)(map(on_device, value)) if type(value) in (tuple, list) else tuple(map(on_device, value))
    return value.view(DeviceArray) if isinstance(value, np.ndarray) else value


def _stand_in():
    module = ModuleType("cupy")
    module.ndarray = DeviceArray
    module.asarray = on_device
    module.asnumpy = lambda array: array.view(np.ndarray).copy()

    def call(function):
        def called(*args, **options):
            _refuse_host([*args, *options.values()])
            plain = [_plain(value) for value in args]
            options = {name: _plain(value) for name, value in options.items()}
            return on_device(function(*plain, **options))

        return called

    for name in FUNCTIONS:
        setattr(module, name, call(getattr(np, name)))
    linalg = {name: call(getattr(np.linalg, name)) for name in ("norm", "qr")}
    module.linalg = SimpleNamespace(**linalg, cholesky=call(_cholesky), LinAlgError=np.linalg.LinAlgError)
    module.cuda = SimpleNamespace(runtime=SimpleNamespace(memGetInfo=lambda: (2**30, 2**34)))
    module.get_default_memory_pool = lambda: SimpleNamespace(free_bytes=lambda: 0)
    return module


def _cholesky(matrix):
    """Return garbage, as CuPy does, for what has no factor, unless a caller of errstate wants to know."""
    factor, info = scipy.linalg.lapack.dpotrf(matrix, lower=1)
    if info and _raises:
        raise np.linalg.LinAlgError("Error reported by potrf in cuSOLVER")
    return factor


@contextlib.contextmanager
def _errstate(linalg):
    assert linalg == "raise"
    _raises.append(True)
    yield
    _raises.pop()


def _solve_triangular(factor, right, trans, lower, overwrite_b):
    """Solve as cupyx does, which takes arrays of the device alone."""
    assert isinstance(factor, DeviceArray)
    assert isinstance(right, DeviceArray)
    return on_device(scipy.linalg.solve_triangular(_plain(factor), _plain(right), trans, lower, check_finite=False))


def _plain(value):
    if isinstance(value, (tuple, list)):
        return [_plain(one) for one in value]
    return value.view(np.ndarray) if isinstance(value, DeviceArray) else value


@pytest.fixture
def cupy(monkeypatch):
    """Put the stand-in in CuPy's place."""
    module = _stand_in()
    monkeypatch.setitem(sys.modules, "cupy", module)
    monkeypatch.setitem(sys.modules, "cupyx", SimpleNamespace(errstate=_errstate))
    solver = SimpleNamespace(solve_triangular=_solve_triangular)
    monkeypatch.setitem(sys.modules, "cupyx.scipy.linalg", solver)
    monkeypatch.setattr(devices, "cuda_status", lambda: (True, "a stand-in"))
    return module
