"""Tests for a GPU, by a stand-in for CuPy: what the host does for CUDA is tested where there is none."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from cupy_helpers import cupy

__all__ = ["cupy"]

TESTS = Path(__file__).parent


def test_tests_for_a_gpu_pass_on_a_stand_in():
    path = os.pathsep.join([str(TESTS / "standin"), str(TESTS.parent), os.environ.get("PYTHONPATH", "")])
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "NUMBA_ENA"))}
    options = ("-q", "-m", "gpu and not hardware", "-p", "twins", "-p", "no:cacheprovider", "-p", "no:xdist", "-rfE")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, str(TESTS)], env={**environment, "PYTHONPATH": path},
        cwd=TESTS.parent, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-10_000:] + done.stderr
    assert " passed" in done.stdout.splitlines()[-1]


@pytest.mark.parametrize(
    "call",
    [
        lambda cp, x: cp.maximum(x, np.zeros(3)),
        lambda cp, x: cp.maximum(x, np.array(1.0)),
        lambda cp, x: cp.maximum(x, [1, 2, 3]),
        lambda cp, x: cp.maximum(x, x, where=x > 0),
        lambda cp, x: x * [1, 2, 3],
        lambda cp, x: x.astype(np.int64).__iadd__(x),
        lambda cp, x: cp.argsort([1, 2, 3]),
        lambda cp, x: cp.argsort(x, kind="quicksort"),
        lambda cp, x: cp.concatenate([x, [1.0]]),
        lambda cp, x: cp.matmul(x, [1, 2, 3]),
        lambda cp, x: cp.zeros((x.sum().astype(np.int64),)),
        lambda cp, x: cp.zeros(3, np.longdouble),
        lambda cp, x: cp.zeros(3, ">f4"),
        lambda cp, x: cp.add.at(x.astype(np.int64), cp.arange(3), 1),
        lambda cp, x: x.flags.writeable,
        lambda cp, x: np.asarray(x),
    ],
)
def test_the_stand_in_refuses_what_cupy_refuses(call, cupy):
    with pytest.raises((TypeError, ValueError, AttributeError)):
        call(cupy, cupy.ones(3))


def test_the_stand_in_makes_float64_of_float32(cupy):
    """NumPy's dtype of float64 equals None, so that arrays stayed as they were."""
    ones = cupy.ones(3, np.float32)
    for made in (cupy.asarray(ones, np.dtype(np.float64)), cupy.ascontiguousarray(ones, np.dtype(np.float64))):
        assert made.dtype == np.float64
    assert cupy.asarray(ones) is cupy.ascontiguousarray(ones) is ones


def test_the_stand_in_has_no_product_in_place(cupy):
    before = x = cupy.eye(2)
    x @= 2 * before
    assert x is not before
    assert cupy.array_equal(before, cupy.eye(2)).ndim == 0
    assert (x == None) is False  # noqa: E711
