"""The row programs compiled for CUDA: one block a row at a time, launched on CuPy's current stream.

Under Numba's simulator (NUMBA_ENABLE_CUDASIM=1) the same launches work on NumPy arrays.
"""

import functools
import math
import warnings
from types import SimpleNamespace
from typing import Any

import numpy as np
from numba import cuda

from hebbcore.engine import backend
from hebbcore.engine.kernels import rows

MAX_LANES = 256  # threads a row; a power of two
MAX_BLOCKS = 4096  # enough to fill any device; the blocks walk over the rows
CELL_BYTES = 16 * 2**20  # most memory for the partial column sums of one array
GATHER_THREADS = (32, 8)  # entries of a patch, patches


def _lanes(columns: int) -> int:
    """Return how many threads share a row: at least a warp, a power of two, about four entries each."""
    lanes = 32
    while lanes < MAX_LANES and lanes * 4 < columns:
        lanes *= 2
    return lanes


def cells(rows: int, columns: int) -> int:
    """Return how many rows the `mass` and `decay` arrays must have: one a block."""
    return max(1, min(rows, MAX_BLOCKS, CELL_BYTES // (8 * columns)))


def moment_cells(rows: int, columns: int) -> int:
    """Return how many rows the arrays of `moments` must have: one a block."""
    return cells(rows, columns)


def cell_bytes(columns: int, itemsize: int) -> int:
    """Return the most memory that a gate's sums (mass and decay) take beside its result."""
    return 2 * min(MAX_BLOCKS * columns * itemsize, CELL_BYTES)


@cuda.jit(device=True)
def _entries(size, lane, lanes):
    return range(lane, size, lanes)


@cuda.jit(device=True)
def _larger(a, b):
    return a if a > b or a != a else b


@cuda.jit(device=True)
def _highest(value, values, places, lane, lanes):
    values[lane] = value
    cuda.syncthreads()
    half = lanes // 2
    while half > 0:
        if lane < half:
            values[lane] = max(values[lane], values[lane + half])
        cuda.syncthreads()
        half //= 2
    value = values[0]
    cuda.syncthreads()
    return value


@cuda.jit(device=True)
def _total(value, values, places, lane, lanes):
    values[lane] = value
    cuda.syncthreads()
    half = lanes // 2
    while half > 0:
        if lane < half:
            values[lane] += values[lane + half]
        cuda.syncthreads()
        half //= 2
    value = values[0]
    cuda.syncthreads()
    return value


@cuda.jit(device=True)
def _leader(value, place, none, values, places, lane, lanes):
    values[lane] = value
    places[lane] = place
    cuda.syncthreads()
    half = lanes // 2
    while half > 0:
        if lane < half:
            other, other_place = values[lane + half], places[lane + half]
            if other_place != none and (
                places[lane] == none or other > values[lane] or (other == values[lane] and other_place < places[lane])
            ):
                values[lane] = other
                places[lane] = other_place
        cuda.syncthreads()
        half //= 2
    value, place = values[0], places[0]
    cuda.syncthreads()
    return value, place


@functools.cache
def compiled(dtype: np.dtype[Any]) -> SimpleNamespace:
    """Return the kernels for scores of this dtype (shared memory needs it at compile time)."""
    program = rows.build(cuda.jit(device=True), math.exp, math.log, _larger, _entries, _highest, _total, _leader)
    softmax_, swta_, kwta_ = program.softmax, program.swta, program.kwta
    soft_hebb_, ranked_, signed_wta_ = program.soft_hebb, program.ranked, program.signed_wta
    norms_, add_scaled_ = program.norms, program.add_scaled
    moments_, standardize_, contrast_ = program.moments, program.standardize, program.contrast
    triangle_, split_, pool_ = program.triangle, program.split, program.pool
    size = MAX_LANES

    @cuda.jit
    def softmax(scores, sharpness):
        values = cuda.shared.array(size, dtype)
        block, lane = cuda.blockIdx.x, cuda.threadIdx.x
        softmax_(block, cuda.gridDim.x, block, lane, cuda.blockDim.x, values, None, scores, sharpness)

    @cuda.jit
    def swta(scores, patch_norms, unit_norms, sharpness, power, mass, decay):
        values = cuda.shared.array(size, dtype)
        block, step, lane, lanes = cuda.blockIdx.x, cuda.gridDim.x, cuda.threadIdx.x, cuda.blockDim.x
        swta_(
            block, step, block, lane, lanes, values, None,
            scores, patch_norms, unit_norms, sharpness, power, mass, decay,
        )  # fmt: skip

    @cuda.jit
    def kwta(scores, unit_norms, winners, decay):
        values = cuda.shared.array(size, dtype)
        block, lane = cuda.blockIdx.x, cuda.threadIdx.x
        kwta_(block, cuda.gridDim.x, block, lane, cuda.blockDim.x, values, None, scores, unit_norms, winners, decay)

    @cuda.jit
    def soft_hebb(scores, sharpness, anti, decay):
        values = cuda.shared.array(size, dtype)
        places = cuda.shared.array(size, np.int64)
        block, step, lane, lanes = cuda.blockIdx.x, cuda.gridDim.x, cuda.threadIdx.x, cuda.blockDim.x
        soft_hebb_(block, step, block, lane, lanes, values, places, scores, sharpness, anti, decay)

    @cuda.jit
    def ranked(scores, rank, strength, decay):
        values = cuda.shared.array(size, dtype)
        places = cuda.shared.array(size, np.int64)
        block, step, lane, lanes = cuda.blockIdx.x, cuda.gridDim.x, cuda.threadIdx.x, cuda.blockDim.x
        ranked_(block, step, block, lane, lanes, values, places, scores, rank, strength, decay)

    @cuda.jit
    def signed_wta(scores, unit_norms, decay):
        values = cuda.shared.array(size, dtype)
        places = cuda.shared.array(size, np.int64)
        block, step, lane, lanes = cuda.blockIdx.x, cuda.gridDim.x, cuda.threadIdx.x, cuda.blockDim.x
        signed_wta_(block, step, block, lane, lanes, values, places, scores, unit_norms, decay)

    @cuda.jit
    def norms(vectors, out):
        values = cuda.shared.array(size, dtype)
        block, lane = cuda.blockIdx.x, cuda.threadIdx.x
        norms_(block, cuda.gridDim.x, block, lane, cuda.blockDim.x, values, None, vectors, out)

    @cuda.jit
    def add_scaled(target, factors, source):
        block, lane = cuda.blockIdx.x, cuda.threadIdx.x
        add_scaled_(block, cuda.gridDim.x, block, lane, cuda.blockDim.x, None, None, target, factors, source)

    @cuda.jit
    def moments(vectors, shift, sums, squares):
        block, lane = cuda.blockIdx.x, cuda.threadIdx.x
        moments_(block, cuda.gridDim.x, block, lane, cuda.blockDim.x, None, None, vectors, shift, sums, squares)

    @cuda.jit
    def standardize(vectors, shift, factors):
        block, lane = cuda.blockIdx.x, cuda.threadIdx.x
        standardize_(block, cuda.gridDim.x, block, lane, cuda.blockDim.x, None, None, vectors, shift, factors)

    @cuda.jit
    def contrast(vectors, share, floor):
        values = cuda.shared.array(size, dtype)
        block, lane = cuda.blockIdx.x, cuda.threadIdx.x
        contrast_(block, cuda.gridDim.x, block, lane, cuda.blockDim.x, values, None, vectors, share, floor)

    @cuda.jit
    def triangle(scores, share, power):
        values = cuda.shared.array(size, dtype)
        block, lane = cuda.blockIdx.x, cuda.threadIdx.x
        triangle_(block, cuda.gridDim.x, block, lane, cuda.blockDim.x, values, None, scores, share, power)

    @cuda.jit
    def split(out, scores, threshold):
        block, lane = cuda.blockIdx.x, cuda.threadIdx.x
        split_(block, cuda.gridDim.x, block, lane, cuda.blockDim.x, None, None, out, scores, threshold)

    @cuda.jit
    def pool(out, images, tops, bottoms, lefts, rights, average, row_shares, column_shares):
        block, lane = cuda.blockIdx.x, cuda.threadIdx.x
        pool_(
            block, cuda.gridDim.x, block, lane, cuda.blockDim.x, None, None,
            out, images, tops, bottoms, lefts, rights, average, row_shares, column_shares,
        )  # fmt: skip

    return SimpleNamespace(
        softmax=softmax, swta=swta, kwta=kwta, soft_hebb=soft_hebb, ranked=ranked, signed_wta=signed_wta, norms=norms,
        add_scaled=add_scaled, moments=moments, standardize=standardize, contrast=contrast, triangle=triangle,
        split=split, pool=pool,
    )  # fmt: skip


@cuda.jit
def gather_kernel(flat, starts, offsets, out):
    """out[n, d] ← flat[starts[n] + offsets[d]]: threads x over d, y over n."""
    for n in range(
        cuda.blockIdx.x * cuda.blockDim.y + cuda.threadIdx.y, out.shape[0], cuda.gridDim.x * cuda.blockDim.y
    ):
        start = starts[n]
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


def _launch(kernel: Any, blocks: int, threads: int | tuple[int, int], *arguments: Any) -> None:
    """Run the kernel on CuPy's current stream, without the synchronisation that Numba's import of an array does."""
    if backend.on_cuda(next(a for a in arguments if hasattr(a, "dtype"))):
        import cupy

        stream = cuda.external_stream(cupy.cuda.get_current_stream().ptr)
        arguments = tuple(
            cuda.from_cuda_array_interface(a.__cuda_array_interface__, owner=a, sync=False)
            if isinstance(a, cupy.ndarray)
            else a
            for a in arguments
        )
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Grid size")  # small layers are as they are
            configured = kernel[blocks, threads, stream]
        configured(*arguments)
    else:
        kernel[blocks, threads](*arguments)


def _by_rows(name: str, array: Any, *arguments: Any, blocks: int | None = None) -> None:
    kernel = getattr(compiled(array.dtype), name)
    blocks = min(array.shape[0], MAX_BLOCKS) if blocks is None else blocks
    _launch(kernel, blocks, _lanes(array.shape[1]), array, *arguments)


def softmax(scores: Any, sharpness: float) -> None:
    """See rows.py."""
    _by_rows("softmax", scores, sharpness)


def swta(scores: Any, patch_norms: Any, unit_norms: Any, sharpness: float, power: bool, mass: Any, decay: Any) -> None:
    """See rows.py."""
    _by_rows("swta", scores, patch_norms, unit_norms, sharpness, power, mass, decay, blocks=len(decay))


def kwta(scores: Any, unit_norms: Any, winners: int, decay: Any) -> None:
    """See rows.py."""
    # a number of the scores' dtype: comparing float32 with an int goes by float64
    _by_rows("kwta", scores, unit_norms, scores.dtype.type(winners), decay, blocks=len(decay))


def soft_hebb(scores: Any, sharpness: float, anti: bool, decay: Any) -> None:
    """See rows.py."""
    _by_rows("soft_hebb", scores, sharpness, anti, decay, blocks=len(decay))


def ranked(scores: Any, rank: int, strength: float, decay: Any) -> None:
    """See rows.py."""
    _by_rows("ranked", scores, rank, strength, decay, blocks=len(decay))


def signed_wta(scores: Any, unit_norms: Any, decay: Any) -> None:
    """See rows.py."""
    _by_rows("signed_wta", scores, unit_norms, decay, blocks=len(decay))


def norms(vectors: Any, out: Any) -> None:
    """See rows.py."""
    _by_rows("norms", vectors, out)


def add_scaled(target: Any, factors: Any, source: Any) -> None:
    """See rows.py."""
    _by_rows("add_scaled", target, factors, source)


def moments(vectors: Any, shift: Any, sums: Any, squares: Any) -> None:
    """See rows.py."""
    _by_rows("moments", vectors, shift, sums, squares, blocks=len(sums))


def standardize(vectors: Any, shift: Any, factors: Any) -> None:
    """See rows.py."""
    _by_rows("standardize", vectors, shift, factors)


def contrast(vectors: Any, share: float, floor: float) -> None:
    """See rows.py."""
    _by_rows("contrast", vectors, share, floor)


def triangle(scores: Any, share: float, power: float) -> None:
    """See rows.py."""
    _by_rows("triangle", scores, share, power)


def split(out: Any, scores: Any, threshold: float) -> None:
    """See rows.py."""
    _by_rows("split", out, scores, threshold)


def pool(
    out: Any, images: Any, tops: Any, bottoms: Any, lefts: Any, rights: Any, average: bool, row_shares: Any,
    column_shares: Any,
) -> None:  # fmt: skip
    """See rows.py."""
    _by_rows("pool", out, images, tops, bottoms, lefts, rights, average, row_shares, column_shares)


def gather(images: Any, kernel: tuple[int, int], stride: tuple[int, int], out: Any) -> None:
    """out (n·oh·ow, kh·kw·C) ← the patches of images (n, H, W, C), C-contiguous, padded and of out's dtype."""
    xp = backend.namespace(images)
    n, height, width, channels = images.shape
    oh, ow = (height - kernel[0]) // stride[0] + 1, (width - kernel[1]) // stride[1] + 1
    starts = (
        xp.arange(n, dtype=np.int64)[:, None, None] * (height * width)
        + xp.arange(oh, dtype=np.int64)[:, None] * (stride[0] * width)
        + xp.arange(ow, dtype=np.int64) * stride[1]
    ).ravel() * channels
    offsets = (
        xp.arange(kernel[0], dtype=np.int64)[:, None] * (width * channels)
        + xp.arange(kernel[1] * channels, dtype=np.int64)
    ).ravel()
    blocks = max(1, min(-(-out.shape[0] // GATHER_THREADS[1]), 16 * MAX_BLOCKS))
    _launch(gather_kernel, blocks, GATHER_THREADS, images.reshape(-1), starts, offsets, out)


def bfloat16(array: Any) -> Any:
    """Return float32 numbers rounded to bfloat16, as the uint16 of their bits."""
    xp = backend.namespace(array)
    out = xp.empty(array.shape, np.uint16)
    blocks = max(1, min(-(-array.size // 256), MAX_BLOCKS))
    _launch(bfloat16_kernel, blocks, 256, array.view(np.uint32).reshape(-1), out.reshape(-1))
    return out
