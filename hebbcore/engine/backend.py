"""Which library an array belongs to, which devices work, moves between host and device. The one file importing CuPy."""

import contextlib
import functools
import importlib
import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from hebbcore import checks

Array = Any  # numpy.ndarray or cupy.ndarray: the two share their interface, not a type

_NORM_NUMBERS = {"cpu": 2**20, "cuda": 2**24}  # whose powers are in memory at a time
_PIECE_BYTES = 16 * 2**20
_DLPACK_HOST, _DLPACK_CUDA = (1, 3), (2, 13)  # CPU and pinned memory; CUDA and managed memory


class Device(NamedTuple):
    """A device of hebbcore.devices(): its name for device=, whether it works, and what was found."""

    name: str
    works: bool
    detail: str


def on_cuda(array: Any) -> bool:
    """Return True for CuPy arrays."""
    cupy = sys.modules.get("cupy")
    return cupy is not None and isinstance(array, cupy.ndarray)


def namespace(array: Any) -> ModuleType:
    """Return the module, numpy or cupy, that the array belongs to."""
    return sys.modules["cupy"] if on_cuda(array) else np


def device_of(array: Any) -> str:
    """Return "cuda" for CuPy arrays and "cpu" for NumPy arrays."""
    return "cuda" if on_cuda(array) else "cpu"


def module(device: str) -> ModuleType:
    """Return numpy for "cpu" and cupy for "cuda"."""
    if device == "cpu":
        return np
    import cupy

    return cupy  # type: ignore[no-any-return]


def row_norms(matrix: Array, p: float = 2) -> Array:
    """Return the p-norm of each row (n, 1), some rows at a time: no other array of the matrix's size is made."""
    xp = namespace(matrix)
    out = xp.empty((len(matrix), 1), matrix.dtype)
    step = max(1, _NORM_NUMBERS[device_of(matrix)] // matrix.shape[1])
    for i in range(0, len(matrix), step):
        out[i : i + step] = xp.linalg.norm(matrix[i : i + step], ord=p, axis=1, keepdims=True)
    return out


def largest_magnitude(array: Array) -> Array:
    """Return max|array| of a floating array, NaN if it holds any; no array of magnitudes is made."""
    return namespace(array).maximum(array.max(), -array.min())


def pieces(array: Array) -> Iterator[Array]:
    """Return views of consecutive rows, each of a bounded number of bytes."""
    step = max(1, int(_PIECE_BYTES // max(1, array[:1].nbytes)))
    return (array[first : first + step] for first in range(0, len(array), step))


@functools.cache
def cuda_status() -> tuple[bool, str]:
    """Return whether CuPy can multiply matrices here and Numba run a kernel, and what was found or why not. Once."""
    try:
        import cupy
    except Exception as error:
        return False, f'CuPy cannot be imported ({error}); install hebbcore with the extra "cuda12" or "cuda13"'
    try:
        count = cupy.cuda.runtime.getDeviceCount()
        ones = cupy.ones((8, 8), np.float32)
        if float((ones @ ones)[0, 0]) != 8.0:
            return False, "a test matrix product on the GPU gave a wrong result"
        name = cupy.cuda.runtime.getDeviceProperties(cupy.cuda.Device().id)["name"].decode()
    except Exception as error:
        return False, f"CuPy {cupy.__version__} is installed but no GPU works: {type(error).__name__}: {error}"
    try:
        kernels = importlib.import_module("hebbcore.engine.kernels.cuda")  # which imports this module
        if int(kernels.bfloat16(ones)[0, 0]) != 0x3F80:
            return False, "a test kernel on the GPU gave a wrong result"
    except Exception as error:
        return False, (
            f"CuPy works, but no kernel of Numba does: {type(error).__name__}: {error}; install hebbcore with the "
            'extra "cuda12" or "cuda13", and leave NUMBA_ENABLE_CUDASIM unset'
        )
    return True, f"{name}, {count} device(s), CuPy {cupy.__version__}"


def here() -> Callable[[], contextlib.AbstractContextManager[None]]:
    """Return what brings another thread to the CUDA device and stream of this one; CuPy keeps both for each thread."""
    if "cupy" not in sys.modules or not cuda_status()[0]:
        return contextlib.nullcontext
    cuda = module("cuda").cuda
    device, stream = cuda.Device().id, cuda.get_current_stream()

    @contextlib.contextmanager
    def enter() -> Iterator[None]:
        with cuda.Device(device), stream:
            yield

    return enter


def devices() -> list[Device]:
    """Return the devices that hebbcore knows, whether each works here, and what was found or why not."""
    works, detail = cuda_status()
    return [Device("cpu", True, f"NumPy {np.__version__}"), Device("cuda", works, detail)]


def resolve(function: str, device: str) -> str:
    """Return "cpu" or "cuda" for a device= argument; "auto" is CUDA when it works.

    Raises ValueError for an unknown name, RuntimeError if "cuda" is asked for and does not work.
    """
    checks.choice(function, "device", device, ("auto", "cpu", "cuda"))
    if device == "cpu":
        return "cpu"
    works, detail = cuda_status()
    if device == "cuda" and not works:
        raise RuntimeError(f'{function}: device="cuda" does not work: {detail}. Use device="cpu" or "auto".')
    return "cuda" if works else "cpu"


def as_array(function: str, name: str, value: Any) -> Array:
    """Return value as a NumPy or CuPy array without a copy where its library allows it.

    value: a NumPy or CuPy array, an object with __cuda_array_interface__, DLPack or __array__, or nested sequences of
    numbers. Raises TypeError for what does not become an array of numbers.
    """
    if isinstance(value, np.ndarray) or on_cuda(value):
        array = value
    elif hasattr(value, "__cuda_array_interface__"):
        array = module("cuda").asarray(value)
    else:
        try:
            array = _host_or_dlpack(value)
        except ValueError as error:  # ragged sequences
            raise TypeError(
                f"{function}: {name} must be an array of numbers, got {type(value).__name__} ({error})."
            ) from error
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{function}: {name} must be an array of numbers, got {type(value).__name__} ({array.dtype}).")
    if isinstance(array, np.ma.MaskedArray):
        raise TypeError(f"{function}: {name} must not be masked; {name}.filled(0) puts a number where the mask is.")
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


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
    return np.asarray(value)


def to_device(array: Any, device: str) -> Array:
    """Return the array on "cpu" (NumPy) or "cuda" (CuPy, its current device); no copy if it is there already.

    Raises RuntimeError if "cuda" does not work here.
    """
    array = as_array("to_device", "array", array)
    device = resolve("to_device", device)
    if device == device_of(array):
        return array
    return namespace(array).asnumpy(array) if device == "cpu" else module("cuda").asarray(array)


def same_device(function: str, name: str, array: Any, other_name: str, other: Any) -> None:
    """Raise TypeError unless both arrays live on one device."""
    if device_of(array) != device_of(other):
        raise TypeError(
            f"{function}: {name} are on {device_of(array)} but {other_name} on {device_of(other)}; "
            "move one with hebbcore.to_device()."
        )
