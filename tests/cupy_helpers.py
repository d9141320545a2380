"""A stand-in for CuPy on NumPy, as strict as CuPy about arrays of the host among those of the device."""

import sys
from types import ModuleType

import numpy as np
import pytest

from hebbcore.engine import devices


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
    """Return an array as one of the device, other things as they are."""
    return value.view(DeviceArray) if isinstance(value, np.ndarray) else value


def _stand_in():
    module = ModuleType("cupy")
    module.ndarray = DeviceArray
    module.asarray = on_device
    module.asnumpy = lambda array: array.view(np.ndarray).copy()

    def call(function):
        def called(*args, **options):
            _refuse_host(args)
            plain = [_plain(value) for value in args]
            return on_device(function(*plain, **options))

        return called

    for name in ("arange", "concatenate", "einsum", "empty", "flatnonzero", "isfinite", "sqrt", "take_along_axis"):
        setattr(module, name, call(getattr(np, name)))
    return module


def _plain(value):
    if isinstance(value, (tuple, list)):
        return [_plain(one) for one in value]
    return value.view(np.ndarray) if isinstance(value, DeviceArray) else value


@pytest.fixture
def cupy(monkeypatch):
    """Put the stand-in in CuPy's place."""
    module = _stand_in()
    monkeypatch.setitem(sys.modules, "cupy", module)
    monkeypatch.setattr(devices, "cuda_status", lambda: (True, "a stand-in"))
    return module
