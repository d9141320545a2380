"""What is said of a GPU that does not work, and the memory of a container; both are played by the test."""

import os
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import CUDA_STATUS

from hebbcore.engine import devices
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


GROUPS = {  # what processes are told of their control groups, the limits that lie in the trees, and the least of them
    "version 2": ("0::/pod/work\n", {"pod/work/memory.max": "max\n", "pod/memory.max": "4096\n"}, 4096),
    "version 2, a tree of its own": ("0::/\n", {"memory.max": "8192\n"}, 8192),
    "version 1": (
        "5:cpu:/job\n4:memory:/job\n0::/\n",
        {
            "memory/job/memory.limit_in_bytes": "4096\n",
            "memory/memory.limit_in_bytes": f"{2**63 - 4096}\n",
            "job/memory.max": "64\n",
        },
        4096,
    ),
    "version 1, a tree of its own": ("4:cpu,memory:/docker/7\n", {"memory/memory.limit_in_bytes": "512\n"}, 512),
    "none": ("0::/user\n", {"user/memory.max": "max\n", "memory.max": "max\n"}, None),
    "something else": ("what is this\n", {}, None),
}


@pytest.mark.parametrize("case", GROUPS)
def test_the_memory_is_that_of_the_container(case, tmp_path, monkeypatch):
    told, limits, least = GROUPS[case]
    (tmp_path / "cgroup").write_text(told)
    for name, text in limits.items():
        (tmp_path / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "tree" / name).write_text(text)
    monkeypatch.setattr(devices, "_GROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(devices, "_LIMITS", tmp_path / "tree")
    host = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert devices.total_bytes.__wrapped__("cpu") == (least or host)
