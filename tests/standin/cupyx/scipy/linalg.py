"""cupyx.scipy.linalg."""

import scipy.linalg
from cupy._array import ndarray, on_device


def solve_triangular(a, b, trans=0, lower=False, unit_diagonal=False, overwrite_b=False, check_finite=False):
    assert isinstance(a, ndarray)
    assert isinstance(b, ndarray)
    return on_device(scipy.linalg.solve_triangular, (a, b, trans, lower), {"check_finite": False})
