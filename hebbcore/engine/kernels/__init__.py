"""Competition, patches and row sums as Numba kernels: a CPU and a CUDA module with the same names and signatures."""

import importlib
from types import ModuleType
from typing import Any

from hebbcore.engine import backend

MODULES = {"cpu": "cpu", "cuda": "cuda"}  # which module serves a device


def for_array(array: Any) -> ModuleType:
    """Return the kernel module of the device that holds the array."""
    return for_device(backend.device_of(array))


def for_device(device: str) -> ModuleType:
    """Return the kernel module for "cpu" or "cuda"."""
    return importlib.import_module(f"hebbcore.engine.kernels.{MODULES[device]}")
