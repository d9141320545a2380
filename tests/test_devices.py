"""What is said of a GPU that does not work; CuPy and the kernels are played by the test."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import CUDA_STATUS

from hebbcore.engine.kernels import cuda

FAILURES = {
    "NumPy is too new": (
        AttributeError("module 'numpy' has no attribute 'row_stack'"),
        ["has no attribute 'row_stack'", f"NumPy {np.__version__}", 'pip install "numpy<2.5"'],
    ),
    "another error": (RuntimeError("no NVVM"), ["RuntimeError: no NVVM", '"cuda12" or "cuda13"', "CUDASIM"]),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_a_gpu_without_numbas_kernels_is_told_with_what_to_do(failure, monkeypatch):
    error, said = FAILURES[failure]

    def fail(array):
        raise error

    runtime = SimpleNamespace(getDeviceCount=lambda: 1, getDeviceProperties=lambda i: {"name": b"A card"})
    found = SimpleNamespace(runtime=runtime, Device=lambda: SimpleNamespace(id=0))
    monkeypatch.setitem(sys.modules, "cupy", SimpleNamespace(cuda=found, ones=np.ones, __version__="14"))
    monkeypatch.setattr(cuda, "bfloat16", fail)
    works, detail = CUDA_STATUS.__wrapped__()
    assert not works
    assert [text for text in said if text not in detail] == []
