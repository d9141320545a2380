"""Matrix products in a chosen precision: NumPy's BLAS on the CPU, cuBLAS on CUDA.

cuBLAS is called through gemmEx, the one entry that takes the precision per call (so no global setting of CuPy is
touched), adds to its output, and multiplies bfloat16 numbers into a float32 result.
"""

import copy
import ctypes
import functools
from functools import partial
from typing import Any

import numpy as np

from hebbcore import checks
from hebbcore.engine import backend, parallel, tuning
from hebbcore.engine.backend import Array
from hebbcore.engine.memory import Memory

PRECISIONS = ("float32", "float64", "tf32", "bf16")

# cudaDataType and cublasComputeType_t of the CUDA headers
_TYPES = {np.dtype(np.float32): 0, np.dtype(np.float64): 1, np.dtype(np.uint16): 14}
_COMPUTE = {"float32": 68, "bf16": 68, "tf32": 77, "float64": 70}
_DEFAULT_ALGORITHM = -1
_NUMBERS: list[Any] = []  # that cuBLAS reads


def check_precision(function: str, precision: str, device: str) -> np.dtype[Any]:
    """Return the dtype in which arrays are kept for a precision. Raises ValueError if the device lacks it."""
    checks.choice(function, "precision", precision, PRECISIONS)
    if device == "cpu" and precision in ("tf32", "bf16"):
        problem = f'{precision!r} needs CUDA; on the CPU use "float32" or "float64".'
        raise checks.wrong(ValueError, function, "precision", problem)
    return dtype_of(precision)


def dtype_of(precision: str) -> np.dtype[Any]:
    """Return the dtype in which weights, patches and scores are kept for a precision."""
    return np.dtype(np.float64 if precision == "float64" else np.float32)


class Gemm:
    """Multiplies 2-D arrays of one device in one precision.

    memory: where the CPU keeps scratch arrays, of a few MiB (tuning.scratch_bytes); for one thread at a time.
    threads: on the CPU a large product is cut among so many threads, whose BLAS must be limited to one thread each
    (parallel.one_blas_thread); BLAS's own threads would go on spinning after the product, in the way of what follows.
    """

    def __init__(self, precision: str, memory: Memory, threads: int = 1) -> None:
        self.precision = precision
        self._parts = [_Part(memory, thread) for thread in range(threads)]

    def split(self) -> list["Gemm"]:
        """Return a Gemm of one thread for each of the threads, for products that run side by side."""
        alone = [copy.copy(self) for _ in self._parts]
        for one, part in zip(alone, self._parts, strict=True):
            one._parts = [part]
        return alone

    def splits(self, products: int) -> bool:
        """Return whether a product of so many multiplications is cut among threads."""
        return len(self._parts) > 1 and products >= tuning.MEASURED.split_products

    def operand(self, array: Array) -> Array:
        """Return what to pass to multiply for the array: itself, or its bfloat16 bits. Convert once, use often."""
        if self.precision != "bf16":
            return array
        from hebbcore.engine.kernels import cuda

        return cuda.bfloat16(array)

    def multiply(self, a: Array, b: Array, out: Array, add: int = 0) -> None:
        """out ← a b; add 1: out + a b; −1: out − a b.

        out: neither a nor b; on CUDA its last axis of unit stride.
        """
        if backend.on_cuda(out):
            _gemm_ex(_cublas(), a, b, out, add, _COMPUTE[self.precision])
            return
        if not self.splits(out.size * a.shape[1]):
            self._parts[0].multiply(a, b, out, add)
            return
        by_rows = len(out) >= out.shape[1]
        cuts = parallel.cuts(max(out.shape), len(self._parts))
        parallel.run(
            [
                partial(part.multiply, a[i:j], b, out[i:j], add)
                if by_rows
                else partial(part.multiply, a, b[:, i:j], out[:, i:j], add)
                for part, (i, j) in zip(self._parts, cuts, strict=False)
            ],
            blas=False,  # it is limited already
        )


class _Part:
    """One thread's share of the products on the CPU."""

    def __init__(self, memory: Memory, thread: int) -> None:
        self._memory, self._name = memory, f"scratch {thread}"

    def multiply(self, a: Array, b: Array, out: Array, add: int) -> None:
        if not add:
            np.matmul(a, b, out=out)
            return
        # by blocks of rows: NumPy has no product that adds, and a small temporary stays in the cache
        block = max(1, min(len(out), tuning.MEASURED.scratch_bytes // (out.shape[1] * out.itemsize)))
        scratch = self._memory.grown(self._name, (block, out.shape[1]), out.dtype, "cpu")
        combine = np.add if add > 0 else np.subtract
        if block == len(out):
            np.matmul(a, b, out=scratch)
            combine(out, scratch, out=out)
            return
        for i in range(0, len(out), block):
            rows = out[i : i + block]
            product = scratch[: len(rows)]
            np.matmul(a[i : i + block], b, out=product)
            combine(rows, product, out=rows)


def _cublas() -> Any:
    from cupy.cuda import cublas

    return cublas


def _handle() -> int:
    from cupy.cuda import device

    return int(device.get_cublas_handle())


def _readable(array: Array) -> tuple[Array, int, int]:
    """Return a matrix as cuBLAS reads it, whether that is as a transpose, and its leading dimension.

    It is a copy where neither axis will do, as of some views that a rule of one's own answers with.
    """
    (rows, columns), (down, right), item = array.shape, array.strides, array.itemsize
    if leading := _leading(rows, columns, down, right, item):
        return array, 0, leading
    if leading := _leading(columns, rows, right, down, item):
        return array, 1, leading
    return backend.namespace(array).ascontiguousarray(array), 0, columns


def _leading(rows: int, columns: int, down: int, right: int, item: int) -> int:
    """Return how far rows lie apart, in numbers; 0 if theirs are not side by side, or they overlap or run backwards."""
    apart = down if rows > 1 else columns * item
    return apart // item if (right == item or columns == 1) and apart >= columns * item and not apart % item else 0


@functools.cache
def _address(number: int, dtype: np.dtype[Any]) -> int:
    """Return where a number of this dtype lies on the host, for good."""
    kept = ctypes.c_double(number) if dtype == np.float64 else ctypes.c_float(number)
    _NUMBERS.append(kept)
    return ctypes.addressof(kept)


def _gemm_ex(cublas: Any, a: Array, b: Array, out: Array, add: int, compute: int) -> None:
    """Call cuBLAS, which sees row-major matrices as their transposes: outᵀ ← ±bᵀ aᵀ (+ outᵀ)."""
    (m, k), n = a.shape, b.shape[1]
    (a, a_transposed, lda), (b, b_transposed, ldb) = _readable(a), _readable(b)
    factor, beta = _address(-1 if add < 0 else 1, out.dtype), _address(1 if add else 0, out.dtype)
    cublas.gemmEx(
        _handle(), b_transposed, a_transposed, n, m, k,
        factor, b.data.ptr, _TYPES[b.dtype], ldb, a.data.ptr, _TYPES[a.dtype], lda,
        beta, out.data.ptr, _TYPES[out.dtype], _readable(out)[2], compute, _DEFAULT_ALGORITHM,
    )  # fmt: skip
