"""Matrix products: how cuBLAS is called, by a stand-in that reads memory as cuBLAS does; bfloat16 rounding."""

import ctypes
from types import SimpleNamespace

import numpy as np
import pytest

from hebbcore.engine import gemm
from hebbcore.engine.memory import Memory

CUDA_TYPES = {0: ctypes.c_float, 1: ctypes.c_double, 14: ctypes.c_uint16}


class DeviceArray(np.ndarray):
    """A NumPy array with the .data.ptr of CuPy's."""

    @property
    def data(self):
        return SimpleNamespace(ptr=self.ctypes.data)


def on_device(array):
    return array.view(DeviceArray)


def widen(bits):
    """Return the float32 numbers of bfloat16 bits."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


class Cublas:
    """gemmEx on host memory: column-major matrices with leading dimensions."""

    def __init__(self):
        self.calls = []

    def gemmEx(
        self,
        handle,
        transa,
        transb,
        m,
        n,
        k,
        alpha,
        a,
        a_type,
        lda,
        b,
        b_type,
        ldb,
        beta,
        c,
        c_type,
        ldc,
        compute,
        algo,
    ):
        assert ldc >= m
        assert lda >= (k if transa else m)
        assert ldb >= (n if transb else k)
        scalar = CUDA_TYPES[1 if compute == 70 else 0]
        one, zero_or_one = (scalar.from_address(address).value for address in (alpha, beta))
        left, right = self.read(a, a_type, lda, *((k, m) if transa else (m, k))), None
        right = self.read(b, b_type, ldb, *((n, k) if transb else (k, n)))
        product = one * ((left.T if transa else left) @ (right.T if transb else right))
        kind = CUDA_TYPES[c_type]
        for j in range(n):
            for i in range(m):
                cell = kind.from_address(c + (j * ldc + i) * ctypes.sizeof(kind))
                cell.value = product[i, j] + (zero_or_one * cell.value if zero_or_one else 0)
        self.calls.append((compute, algo))

    @staticmethod
    def read(address, cuda_type, leading, rows, columns):
        kind = CUDA_TYPES[cuda_type]
        out = np.empty((rows, columns), np.dtype(kind))
        for j in range(columns):
            for i in range(rows):
                out[i, j] = kind.from_address(address + (j * leading + i) * ctypes.sizeof(kind)).value
        return (widen(out) if cuda_type == 14 else out).astype(np.float64)


@pytest.fixture
def cublas(monkeypatch):
    """Return a stand-in for cuBLAS."""
    monkeypatch.setattr(gemm, "_handle", lambda: 0)
    return Cublas()


def operand(generator, shape, layout, dtype):
    """Return a matrix of small integers: stored row by row, column by column, or part of a larger one."""
    rows, columns = shape
    if dtype == np.uint16:
        numbers = generator.integers(-4, 5, (rows + 3, columns + 3)).astype(np.float32)
        large = (numbers.view(np.uint32) >> 16).astype(np.uint16)
    else:
        large = generator.integers(-4, 5, (rows + 3, columns + 3)).astype(dtype)
    if layout == "columns of a larger matrix":
        return on_device(large)[:rows, 2 : columns + 2]
    if layout == "transposed part":
        return on_device(np.ascontiguousarray(large[: rows + 1, :columns].T)).T[:rows]
    part = np.array(large[:rows, :columns], order="F" if layout == "transposed" else "C")
    return on_device(part)


LAYOUTS = ["rows", "transposed", "columns of a larger matrix", "transposed part"]


@pytest.mark.parametrize("sizes", [(2, 3, 4), (1, 3, 2), (3, 1, 2), (2, 3, 1), (1, 1, 3), (3, 1, 1), (1, 1, 1)])
@pytest.mark.parametrize("a_layout", LAYOUTS)
@pytest.mark.parametrize("b_layout", LAYOUTS)
@pytest.mark.parametrize("add", [False, True])
def test_cublas_multiplies_every_layout(cublas, sizes, a_layout, b_layout, add, generator):
    m, k, n = sizes
    a = operand(generator, (m, k), a_layout, np.float32)
    b = operand(generator, (k, n), b_layout, np.float32)
    large = generator.integers(-4, 5, (m, n + 2)).astype(np.float32)
    out = on_device(large)[:, :n]
    expected = np.asarray(a) @ np.asarray(b) + (np.asarray(out) if add else 0)
    beside = large[:, n:].copy()
    gemm._gemm_ex(cublas, a, b, out, add, 68)
    np.testing.assert_array_equal(np.asarray(out), expected)
    np.testing.assert_array_equal(large[:, n:], beside)


@pytest.mark.parametrize(
    ("precision", "stored", "result"),
    [
        ("float64", np.float64, np.float64),
        ("tf32", np.float32, np.float32),
        ("bf16", np.uint16, np.float32),
    ],
)
def test_cublas_gets_the_types_of_each_precision(cublas, precision, stored, result, generator):
    a, b = operand(generator, (3, 2), "rows", stored), operand(generator, (2, 4), "transposed", stored)
    out = on_device(np.full((3, 4), np.nan, result))  # what was there must not matter
    gemm._gemm_ex(cublas, a, b, out, False, gemm._COMPUTE[precision])
    left, right = (widen(np.asarray(x)) if stored == np.uint16 else np.asarray(x) for x in (a, b))
    np.testing.assert_array_equal(np.asarray(out), left @ right)
    assert cublas.calls == [({"float64": 70, "tf32": 77, "bf16": 68}[precision], -1)]


def test_bfloat16_rounds_to_nearest_even(few_threads, generator):
    numbers = generator.normal(size=300).astype(np.float32)
    ties = np.array([0x3F808000, 0x3F818000, 0xBF808000, 0x3F808001, 0x3F807FFF, 0, 0x80000000], np.uint32)
    numbers[: len(ties)] = ties.view(np.float32)
    rounded = widen(few_threads.bfloat16(numbers))
    grid = widen((numbers.view(np.uint32) >> 16).astype(np.uint16))  # towards zero
    away = widen(((numbers.view(np.uint32) >> 16) + 1).astype(np.uint16))
    low, high = np.abs(numbers.astype(float) - grid), np.abs(away.astype(float) - numbers)
    even = (grid.view(np.uint32) >> 16) % 2 == 0
    expected = np.where((low < high) | ((low == high) & even), grid, away)
    np.testing.assert_array_equal(rounded, expected)


@pytest.mark.parametrize("shape", [(5, 3, 4), (3, 70, 2), (300, 20, 500)])
@pytest.mark.parametrize("add", [False, True])
@pytest.mark.parametrize("threads", [1, 3])
def test_products_on_the_cpu(shape, add, threads, generator, tune):
    tune(split_products=1, scratch_bytes=4000)
    m, k, n = shape
    a, b, out = (generator.integers(-5, 6, size).astype(float) for size in ((k, m), (k, n), (m, n)))
    expected = a.T @ b + (out if add else 0)
    gemm.Gemm("float64", Memory(), threads).multiply(a.T, b, out, add)
    np.testing.assert_array_equal(out, expected)
