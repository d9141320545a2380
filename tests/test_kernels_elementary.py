"""The kernels' own exp, log and maximum against NumPy's and the C library's."""

import numpy as np
import pytest
from kernel_helpers import DTYPES
from numba import njit

from hebbcore.engine.kernels import elementary


@pytest.mark.parametrize("numbers", [np.linspace(-87, 0, 200_001), np.linspace(0, 88, 50_001)])
def test_float32_exp_is_accurate(numbers):
    numbers = numbers.astype(np.float32)
    exact = np.exp(numbers.astype(np.float64))
    np.testing.assert_allclose(_each(elementary.exp)(numbers), exact, rtol=5e-7)


def test_float32_exp_of_very_small_is_next_to_nothing():
    out = _each(elementary.exp)(np.array([-88, -1e3, -1e30], np.float32))
    assert ((out >= 0) & (out < 2e-38)).all()


def test_float32_exp_of_very_large_is_infinite_and_of_nan_nan():
    out = _each(elementary.exp)(np.array([89, 1e3, np.inf, np.nan], np.float32))
    np.testing.assert_array_equal(out, [np.inf] * 3 + [np.nan])


@pytest.mark.parametrize("dtype", DTYPES)
def test_larger_is_numpys_maximum(dtype, generator):
    numbers = generator.choice([np.nan, -np.inf, np.inf, -2, 0, 3], (2, 500)).astype(dtype)
    larger = njit(lambda a, b: elementary.larger(a, b))
    for function in (larger, elementary.larger):
        out = [function(a, b) for a, b in numbers.T]
        np.testing.assert_array_equal(out, np.maximum(*numbers))


def test_float32_log_is_accurate():
    numbers = np.geomspace(2e-38, 3e38, 200_001).astype(np.float32)
    np.testing.assert_allclose(_each(elementary.log)(numbers), np.log(numbers.astype(np.float64)), rtol=5e-7, atol=1e-7)


def test_float64_exp_and_log_are_the_c_librarys():
    numbers = np.linspace(0.1, 50, 1001)
    np.testing.assert_allclose(_each(elementary.exp)(numbers), np.exp(numbers), rtol=4e-16)
    np.testing.assert_allclose(_each(elementary.log)(numbers), np.log(numbers), rtol=4e-16, atol=1e-16)


def _each(function):
    @njit
    def loop(numbers):
        out = np.empty_like(numbers)
        for i in range(numbers.size):
            out[i] = function(numbers[i])
        return out

    return loop
