"""Numba's kernels, launched by CuPy's driver interface on its current stream, in some 15 µs of the host.

Numba's own launch wraps and types every array anew, and warns of small grids: it takes longer than most kernels. Here
Numba compiles, once for each device and kinds of arguments; the code is loaded and launched as CuPy does with its own.
"""

import ctypes
import struct
from typing import Any, NamedTuple

import numpy as np

_BUFFER, _BUFFER_SIZE, _END = 1, 2, 0  # CU_LAUNCH_PARAM_… of cuda.h: all arguments in one block of memory

Kinds = tuple[Any, ...]  # of arguments: (dtype's character, axes, C-contiguous) of an array, the type of a number


class _Code(NamedTuple):
    """Code on a device. function: a cupy.cuda.Function, which keeps its module. size: bytes of the arguments."""

    function: Any
    arguments: struct.Struct
    size: ctypes.c_size_t


_CODE: dict[tuple[Any, int, Kinds], _Code] = {}


def flattened(arguments: tuple[Any, ...], array: Any) -> tuple[list[Any], Kinds]:
    """Return the numbers that a kernel takes for its arguments, and the kinds of these; array: the type of arrays."""
    values: list[Any] = []
    kinds: list[Any] = []
    for a in arguments:
        if isinstance(a, array):
            # Numba's array: two pointers to owners, entries, bytes of one, address, shape, strides in bytes
            values += (0, 0, a.size, a.itemsize, a.data.ptr, *a.shape, *a.strides)
            kinds.append((a.dtype.char, a.ndim, a.flags.c_contiguous))
        else:
            values.append(a)
            kinds.append(type(a))
    return values, tuple(kinds)


def layout(kinds: Kinds) -> struct.Struct:
    """Return how the flattened arguments lie in memory: each on a multiple of its size, as the struct's own "@"."""
    each = [f"4qQ{2 * kind[1]}q" if isinstance(kind, tuple) else np.dtype(kind).char for kind in kinds]
    return struct.Struct("@" + "".join(each))


def launch(kernel: Any, blocks: int, threads: tuple[int, int], *arguments: Any) -> None:
    """Queue a kernel of numba.cuda.jit for arguments that are CuPy's arrays and numbers."""
    import cupy

    values, kinds = flattened(arguments, cupy.ndarray)
    device = cupy.cuda.runtime.getDevice()
    code = _CODE.get((kernel, device, kinds))
    if code is None:
        code = _CODE[kernel, device, kinds] = _compiled(kernel, arguments, kinds)
    buffer = ctypes.create_string_buffer(code.arguments.size)
    code.arguments.pack_into(buffer, 0, *values)
    extra = (ctypes.c_void_p * 5)(_BUFFER, ctypes.addressof(buffer), _BUFFER_SIZE, ctypes.addressof(code.size), _END)
    cupy.cuda.runtime.setDevice(device)  # a thread that asked CUDA for nothing yet has no context
    cupy.cuda.driver.launchKernel(
        code.function.ptr, blocks, 1, 1, *threads, 1, 0, cupy.cuda.get_current_stream().ptr, 0, ctypes.addressof(extra)
    )


def _compiled(kernel: Any, arguments: tuple[Any, ...], kinds: Kinds) -> _Code:
    """Return the kernel's code for such arguments on the current device."""
    import cupy

    types = [kernel.typeof_pyval(a) for a in arguments]
    for i, kind in enumerate(kinds):
        if isinstance(kind, tuple):
            types[i] = types[i].copy(layout="C" if kind[2] else "A")
    made = kernel.compile(tuple(types))
    cubin = made.library.get_cubin()
    module = cupy.cuda.Module()
    module.load(getattr(cubin, "code", cubin))  # bytes in older versions of numba-cuda
    lie = layout(kinds)
    return _Code(module.get_function(made.entry_name), lie, ctypes.c_size_t(lie.size))
