"""The row programs compiled for CUDA: one block a row at a time, launched on CuPy's current stream.

Under Numba's simulator (NUMBA_ENABLE_CUDASIM=1) the same launches work on NumPy arrays.
"""

import functools
import inspect
import math
from collections.abc import Callable
from types import FunctionType, ModuleType
from typing import Any

import numpy as np
from numba import cuda

from hebbcore.engine import backend, tuning
from hebbcore.engine.kernels.launch import launch
from hebbcore.engine.kernels.programs import PROGRAMS
from hebbcore.engine.kernels.rows import kinds


def _lanes(columns: int) -> int:
    """Return how many threads share a row: at least a warp, a power of two, a few entries each."""
    lanes, most = 32, tuning.MEASURED.most_lanes
    while lanes < most and lanes * tuning.MEASURED.entries_a_lane < columns:
        lanes *= 2
    return lanes


def cells(rows: int, columns: int) -> int:
    """Return how many rows the `mass` and `decay` arrays must have: one a block."""
    return max(1, min(rows, tuning.MEASURED.most_blocks, tuning.MEASURED.cell_bytes // (8 * columns)))


def moment_cells(rows: int, columns: int) -> int:
    """Return how many rows the arrays of `moments` must have: one a block."""
    return cells(rows, columns)


def cell_bytes(columns: int, itemsize: int) -> int:
    """Return the most memory that a gate's sums (mass and decay) take beside its result."""
    return 2 * min(tuning.MEASURED.most_blocks * columns * itemsize, tuning.MEASURED.cell_bytes)


@cuda.jit(device=True)
def _own_rows(count):
    return range(cuda.blockIdx.x, count, cuda.gridDim.x)


@cuda.jit(device=True)
def _own_cell():
    return cuda.blockIdx.x


@cuda.jit(device=True)
def _own_cells(cells):
    return range(cuda.blockIdx.x, cells, cuda.gridDim.x)


@cuda.jit(device=True)
def _rows_of_cell(cell, cells, count):
    return range(cell, count, cells)


@cuda.jit(device=True)
def _entries(size):
    return range(cuda.threadIdx.x, size, cuda.blockDim.x)


@cuda.jit(device=True)
def _larger(a, b):
    return a if a > b or a != a else b


def _lowest(dtype: np.dtype[Any]) -> Any:
    least = np.finfo(dtype).min if dtype.kind == "f" else None  # no program of other numbers asks

    @cuda.jit(device=True)
    def lowest(x):
        return least

    return lowest


def _meetings(dtype: np.dtype[Any]) -> dict[str, Any]:
    """Return what combines numbers of this dtype of the lanes of a row, through shared memory."""
    size = tuning.MEASURED.most_lanes  # shared memory needs its size and dtype at compile time

    @cuda.jit(device=True)
    def highest(value):
        values = cuda.shared.array(size, dtype)
        lane, half = cuda.threadIdx.x, cuda.blockDim.x // 2
        values[lane] = value
        cuda.syncthreads()
        while half > 0:
            if lane < half:
                values[lane] = _larger(values[lane], values[lane + half])
            cuda.syncthreads()
            half //= 2
        value = values[0]
        cuda.syncthreads()
        return value

    @cuda.jit(device=True)
    def total(value):
        values = cuda.shared.array(size, dtype)
        lane, half = cuda.threadIdx.x, cuda.blockDim.x // 2
        values[lane] = value
        cuda.syncthreads()
        while half > 0:
            if lane < half:
                values[lane] += values[lane + half]
            cuda.syncthreads()
            half //= 2
        value = values[0]
        cuda.syncthreads()
        return value

    @cuda.jit(device=True)
    def leader(value, index, none):
        values = cuda.shared.array(size, dtype)
        indices = cuda.shared.array(size, np.int64)
        lane, half = cuda.threadIdx.x, cuda.blockDim.x // 2
        values[lane] = value
        indices[lane] = index
        cuda.syncthreads()
        while half > 0:
            if lane < half:
                other, other_index = values[lane + half], indices[lane + half]
                if other_index != none and (
                    indices[lane] == none
                    or other > values[lane]
                    or (other == values[lane] and other_index < indices[lane])
                ):
                    values[lane] = other
                    indices[lane] = other_index
            cuda.syncthreads()
            half //= 2
        value, index = values[0], indices[0]
        cuda.syncthreads()
        return value, index

    return {"highest": highest, "total": total, "leader": leader}


@functools.cache
def compiled(dtype: np.dtype[Any]) -> dict[str, Any]:
    """Return the row programs' kernels by name, for a first argument of this dtype."""
    words = {
        "own_rows": _own_rows, "own_cell": _own_cell, "own_cells": _own_cells, "rows_of_cell": _rows_of_cell,
        "entries": _entries, "exp": math.exp, "log": math.log, "larger": _larger, "lowest": _lowest(dtype),
        **_meetings(dtype),
    }  # fmt: skip
    return {
        name: cuda.jit(FunctionType(body.__code__, body.__globals__ | words, name)) for name, body in PROGRAMS.items()
    }


@cuda.jit
def gather_kernel(flat, offsets, out, places, across, image, down, right):
    """out[n, d] ← flat[start of patch n + offsets[d]]: threads x over d, y over n.

    An image has so many places, so many of them across; image, down, right: from one image or place to the next.
    """
    for n in range(
        cuda.blockIdx.x * cuda.blockDim.y + cuda.threadIdx.y, out.shape[0], cuda.gridDim.x * cuda.blockDim.y
    ):
        place = n % places
        start = n // places * image + place // across * down + place % across * right
        for d in range(cuda.threadIdx.x, out.shape[1], cuda.blockDim.x):
            out[n, d] = flat[start + offsets[d]]


@cuda.jit
def bfloat16_kernel(bits, out):
    """out (uint16) ← the upper half of float32 bits (uint32), rounded to nearest, ties to even."""
    for i in range(cuda.grid(1), bits.size, cuda.gridsize(1)):
        b = np.uint32(bits[i])
        if (b & np.uint32(0x7FFFFFFF)) > np.uint32(0x7F800000):  # NaN, whose rounding could carry into the sign
            b = np.uint32(0x7FC00000)
        out[i] = np.uint16((b + np.uint32(0x7FFF) + ((b >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16))


def _launch(kernel: Any, blocks: int, threads: tuple[int, int], *arguments: Any) -> None:
    """Run the kernel, for arguments of which the first is an array: on CuPy's current stream, or in the simulator."""
    if backend.on_cuda(arguments[0]):
        launch(kernel, blocks, threads, *arguments)
    else:
        kernel[blocks, threads](*arguments)


def _launcher(name: str) -> Callable[..., None]:
    """Return what launches a row program: the twin of the CPU's kernel of this name."""
    of = kinds(name)
    numbers = [i for i, kind in enumerate(of.values()) if kind == "number"]
    sums = list(of.values()).index("sums") if "sums" in of.values() else None

    def launch(*arguments: Any) -> None:
        array, given = arguments[0], list(arguments)
        for i in numbers:
            given[i] = array.dtype.type(given[i])
        blocks = min(array.shape[0], tuning.MEASURED.most_blocks) if sums is None else len(given[sums])
        if blocks:  # a process may have none of some rows
            _launch(compiled(array.dtype)[name], blocks, (_lanes(array.shape[1]), 1), *given)

    launch.__name__ = launch.__qualname__ = name
    launch.__doc__ = PROGRAMS[name].__doc__
    launch.__signature__ = inspect.signature(PROGRAMS[name])  # type: ignore[attr-defined]
    return launch


globals().update({name: _launcher(name) for name in PROGRAMS})


def largest_magnitude(array: Any) -> Any:
    """Return max|array| of a floating array, NaN if it holds any."""
    return backend.largest_magnitude(array)


def gather(images: Any, kernel: tuple[int, int], stride: tuple[int, int], out: Any) -> None:
    """out (n·oh·ow, kh·kw·C) ← the patches of images (n, H, W, C), C-contiguous, padded and of out's dtype."""
    xp = backend.namespace(images)
    _, height, width, channels = images.shape
    oh, ow = (height - kernel[0]) // stride[0] + 1, (width - kernel[1]) // stride[1] + 1
    line = width * channels
    offsets = _offsets(xp, 0 if xp is np else xp.cuda.runtime.getDevice(), kernel[0], kernel[1] * channels, line)
    threads = tuning.MEASURED.gather_threads
    blocks = max(1, min(-(-out.shape[0] // threads[1]), 16 * tuning.MEASURED.most_blocks))
    _launch(
        gather_kernel, blocks, threads, images.reshape(-1), offsets, out, oh * ow, ow, height * line, stride[0] * line,
        stride[1] * channels,
    )  # fmt: skip


@functools.cache
def _offsets(xp: ModuleType, device: int, rows: int, entries: int, line: int) -> Any:
    """Return where a patch's numbers lie, from its first: rows of so many entries, `line` from one to the next."""
    offsets = xp.asarray((np.arange(rows, dtype=np.int64)[:, None] * line + np.arange(entries)).ravel())
    if xp is not np:
        xp.cuda.get_current_stream().synchronize()  # once: then they are there for all streams
    return offsets


def bfloat16(array: Any) -> Any:
    """Return float32 numbers rounded to bfloat16, as the uint16 of their bits."""
    xp = backend.namespace(array)
    out = xp.empty(array.shape, np.uint16)
    blocks = max(1, min(-(-array.size // 256), tuning.MEASURED.most_blocks))
    _launch(bfloat16_kernel, blocks, (256, 1), array.view(np.uint32).reshape(-1), out.reshape(-1))
    return out
