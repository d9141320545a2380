"""Competition, patches and row sums as Numba kernels: a CPU and a CUDA module with the same names and signatures."""

import functools
from types import ModuleType
from typing import Any

from hebbcore.engine import backend


def for_array(array: Any) -> ModuleType:
    """Return the kernel module of the device that holds the array."""
    return for_device(backend.device_of(array))


@functools.cache
def for_device(device: str) -> ModuleType:
    """Return the kernel module for "cpu" or "cuda"; each is loaded when it is first asked for."""
    if device == "cuda":
        from hebbcore.engine.kernels import cuda

        return cuda
    from hebbcore.engine.kernels import cpu

    return cpu
