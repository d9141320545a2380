"""cupy.cuda.cublas: the one product that is asked for, read from and written to the addresses that are given."""

import ctypes

import numpy as np

TYPES = {0: ctypes.c_float, 1: ctypes.c_double, 14: ctypes.c_uint16}  # CUDA_R_32F, CUDA_R_64F, CUDA_R_16BF


def _matrix(address, rows, columns, leading, kind):
    """Return a matrix that lies column by column, the next one `leading` numbers on."""
    assert leading >= max(1, rows), "leading dimension"
    size = leading * (columns - 1) + rows if rows and columns else 0
    flat = np.ctypeslib.as_array((TYPES[kind] * size).from_address(address)) if size else np.empty(0, TYPES[kind])
    return np.lib.stride_tricks.as_strided(flat, (rows, columns), (flat.itemsize, leading * flat.itemsize))


def _numbers(matrix):
    """Return bfloat16 bits as float32, other numbers as they are."""
    if matrix.dtype != np.uint16:
        return matrix
    return np.left_shift(matrix.astype(np.uint32), 16).view(np.float32)


def gemmEx(
    handle, a_transposed, b_transposed, m, n, k, factor, a, a_type, a_leading, b, b_type, b_leading, beta, out,
    out_type, out_leading, compute, algorithm,
):  # fmt: skip
    """out (m, n) ← factor a b + beta out, all column by column."""
    assert a_type == b_type
    assert (a_type, out_type) in ((0, 0), (1, 1), (14, 0))
    number = ctypes.c_double if out_type == 1 else ctypes.c_float
    factor, beta = number.from_address(factor).value, number.from_address(beta).value
    left = _matrix(a, k, m, a_leading, a_type).T if a_transposed else _matrix(a, m, k, a_leading, a_type)
    right = _matrix(b, n, k, b_leading, b_type).T if b_transposed else _matrix(b, k, n, b_leading, b_type)
    target = _matrix(out, m, n, out_leading, out_type)
    with np.errstate(all="ignore"):
        product = factor * (_numbers(left) @ _numbers(right))
        target[...] = product + beta * target if beta else product
