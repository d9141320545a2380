"""Without a GPU the CUDA kernels run in Numba's simulator, which must be chosen before Numba is first imported."""

import dataclasses
import gc
import os
import signal
import sys
from pathlib import Path

# before OpenBLAS is loaded: its threads wait for work in a loop of 2 to this power clock cycles (2²⁶ if nothing is
# said), on cores that the tests of other workers want
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")

try:
    import cupy

    cupy.ones((2, 2)) @ cupy.ones((2, 2))
    GPU = True
except Exception:  # whatever keeps CuPy from working, the simulator takes its place
    GPU = False
if not GPU:
    os.environ["NUMBA_ENABLE_CUDASIM"] = "1"

import hypothesis
import numpy as np
import pytest

from hebbcore.engine import devices, kernels, tuning
from hebbcore.engine.kernels import cpu

sys.path.insert(0, str(Path(__file__).parent))
if not GPU:
    import simulator

    simulator.wait_without_asking()
PLUGINS = ("browser", "cli", "evaluate", "extract", "hostile", "layers", "loaders_hostile", "ridge", "stream")
pytest.register_assert_rewrite(*(f"{name}_helpers" for name in PLUGINS))  # before a test file imports its plugin
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it, and pass that on,
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # as those of nohup do this

# on a busy machine an example takes as long as it takes
hypothesis.settings.register_profile("busy", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("busy")

CUDA_STATUS = devices.cuda_status
if GPU:  # the other tests expect NumPy arrays of device="auto"
    devices.cuda_status = lambda: (False, "only tests marked gpu use the GPU")

ROOT = Path(__file__).parent.parent
SHARED = Path(os.environ.get("HEBBCORE_SHARED", ROOT.parent / "shared"))


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """Let Python's garbage collector pass over all tests, which stay to the end, in place of searching them often."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(items):
    """Skip gpu-marked tests with what hebbcore found."""
    works, detail = CUDA_STATUS()
    for item in items:
        if "gpu" in item.keywords and not works:
            item.add_marker(pytest.mark.skip(reason=detail))


@pytest.fixture(autouse=True)
def gpu_if_marked(request, monkeypatch):
    """Let tests marked gpu use what was found."""
    if "gpu" in request.keywords:
        monkeypatch.setattr(devices, "cuda_status", CUDA_STATUS)


@pytest.fixture
def tune(monkeypatch):
    """Return a function that puts other values in the place of measured constants, for the test."""

    def put(**values):
        monkeypatch.setattr(tuning, "MEASURED", dataclasses.replace(tuning.MEASURED, **values))

    return put


@pytest.fixture
def few_threads(monkeypatch, tune):
    """Make CUDA's blocks and grids small: the simulator starts a Python thread for each CUDA thread."""
    if GPU:
        pytest.skip("the simulator is off: a GPU works")
    from hebbcore.engine.kernels import cuda

    monkeypatch.setattr(cuda, "_lanes", lambda columns: 4)
    monkeypatch.setattr(cuda, "relu", cpu.relu, raising=False)  # on a GPU CuPy's own function takes its place
    tune(most_blocks=3, gather_threads=(2, 2))
    return cuda


@pytest.fixture(params=["cpu", "cuda"])
def twin(request):
    """Return each kernel module in turn."""
    return cpu if request.param == "cpu" else request.getfixturevalue("few_threads")


@pytest.fixture(params=["cpu", "simulator"])
def backend_module(request, monkeypatch, tune):
    """Run the whole engine on NumPy arrays with the CPU's kernels, then with CUDA's in the simulator."""
    if request.param == "simulator":
        cuda = request.getfixturevalue("few_threads")
        monkeypatch.setattr(kernels, "for_device", lambda device: cuda)
        for module in ("sums", "update"):
            monkeypatch.setattr(f"hebbcore.engine.{module}.scatter_is_cheaper", lambda *sizes: False)
        tune(thread_patches=10**9, lower_products=0)  # CUDA has one thread, and no kernel for few units
    return request.param


@pytest.fixture
def generator():
    """Return a seeded random generator."""
    return np.random.default_rng(0)
