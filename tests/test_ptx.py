"""What CUDA's own compiler and assembler say about every kernel, on a machine without a GPU or a driver."""

import functools
import importlib.metadata
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from hebbcore.engine import tuning
from hebbcore.engine.kernels.programs import PROGRAMS

ARCHITECTURES = ["sm_80", "sm_90"]
MEETINGS = {"highest": 4, "total": 4, "leader": 4 + 8}  # bytes of shared memory a lane, in float32
KERNELS = [(name, dtype) for name in [*PROGRAMS, "gather_kernel"] for dtype in ("float32", "float64")]
KERNELS += [("bfloat16_kernel", "uint32")]

PTX = {"q": "u64", "l": "u64", "Q": "u64", "f": "f32", "d": "f64", "?": "u8"}  # by the struct's character

# 65,536 registers a multiprocessor: four blocks of most_lanes threads at 64 registers, three at 80
MOST_REGISTERS = {"float32": 64, "uint32": 64, "float64": 80}
MOST_SHARED = 48 * 2**10  # more needs dynamic shared memory


def _ptxas():
    """Return the path of ptxas, which the nvidia-cuda-nvcc wheel carries, or None."""
    try:
        files = importlib.metadata.files("nvidia-cuda-nvcc") or []
    except importlib.metadata.PackageNotFoundError:
        return None
    return next((str(file.locate()) for file in files if file.name in ("ptxas", "ptxas.exe")), None)


@functools.cache
def _reports():
    """Return what ptxas reports of every kernel, by "name dtype architecture"."""
    for package in ("numba-cuda", "nvidia-nvvm", "nvidia-cuda-nvcc"):
        try:
            importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            pytest.skip(f"{package} is not installed; it comes with the extra test")
    ptxas = _ptxas()
    if ptxas is None:
        pytest.skip("nvidia-cuda-nvcc carries no ptxas for this platform")
    environment = {k: v for k, v in os.environ.items() if k != "NUMBA_ENABLE_CUDASIM"}
    script = Path(__file__).with_name("compile_ptx.py")
    done = subprocess.run(
        [sys.executable, str(script), ptxas], env=environment, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def _report(name, dtype, architecture):
    report = _reports()[f"{name} {dtype} {architecture}"]
    assert "error" not in report, report["error"]
    return report


def test_every_kernel_of_the_module_is_compiled():
    expected = {f"{name} {dtype} {architecture}" for name, dtype in KERNELS for architecture in ARCHITECTURES}
    assert set(_reports()) == expected
    assert not [report["error"] for report in _reports().values() if "error" in report]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize(("name", "dtype"), KERNELS)
class TestEveryKernel:
    def test_keeps_its_numbers_in_registers(self, name, dtype, architecture):
        report = _report(name, dtype, architecture)
        assert (report["spill_stores"], report["spill_loads"], report["stack"]) == (0, 0, 0)
        assert 0 < report["registers"] <= MOST_REGISTERS[dtype]

    def test_needs_only_static_shared_memory(self, name, dtype, architecture):
        shared = _report(name, dtype, architecture)["shared"]
        assert shared <= MOST_SHARED
        if dtype == "float32" and name in PROGRAMS:
            meet = MEETINGS.keys() & set(PROGRAMS[name].__code__.co_names)
            assert shared == tuning.MEASURED.most_lanes * sum(MEETINGS[word] for word in meet)

    def test_takes_its_arguments_as_a_launch_lays_them_out(self, name, dtype, architecture):
        report = _report(name, dtype, architecture)
        assert report["arguments"][0] == "@"  # on multiples of their sizes, as parameters of kernels
        laid_out = [PTX[char] for count, char in re.findall(r"(\d*)(\D)", report["arguments"][1:])
                    for _ in range(int(count or 1))]  # fmt: skip
        assert report["parameters"] == laid_out

    def test_in_float32_promotes_nothing_to_float64(self, name, dtype, architecture):
        if dtype != "float64":
            assert _report(name, dtype, architecture)["f64"] == []
