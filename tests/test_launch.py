"""The arguments with which kernels are launched on CUDA; CuPy and its driver interface are played by the test.

tests/test_ptx.py compares the layout with what compiled kernels take, tests/test_gpu_launch.py launches on a real GPU.
"""

import ctypes
import struct
import sys
import threading
from types import SimpleNamespace

import numpy as np
import pytest

from hebbcore.engine.kernels import launch


class Arrays:
    """Stands for cupy.ndarray: an array of the host."""

    def __init__(self, array):
        self.array, self.data = array, SimpleNamespace(ptr=array.ctypes.data)

    def __getattr__(self, name):
        return getattr(self.array, name)


class Kernel:
    """Stands for a kernel of numba.cuda.jit; types are what it was compiled for, one tuple each time."""

    def __init__(self):
        self.types = []

    def typeof_pyval(self, value):
        kind = SimpleNamespace(of=type(value), layout=None)
        kind.copy = lambda layout: SimpleNamespace(of=kind.of, layout=layout)
        return kind

    def compile(self, types):
        self.types.append([kind.layout or kind.of for kind in types])
        cubin = SimpleNamespace(code=b"code %d" % len(self.types))
        return SimpleNamespace(library=SimpleNamespace(get_cubin=lambda: cubin), entry_name="name")


class Module:
    """Stands for cupy.cuda.Module."""

    def load(self, cubin):
        self.cubin = cubin

    def get_function(self, name):
        return SimpleNamespace(ptr=int(self.cubin.split()[1]), module=self)


class Cupy:
    """Stands for CuPy; launches are (function, grid and block, stream, block of arguments)."""

    ndarray = Arrays

    def __init__(self):
        self.launches, self.device, self.with_context = [], 0, set()
        runtime = SimpleNamespace(
            getDevice=lambda: self.device,
            setDevice=lambda device: self.with_context.add((threading.get_ident(), device)),
        )
        self.cuda = SimpleNamespace(
            Module=Module, runtime=runtime, driver=SimpleNamespace(launchKernel=self.launch_kernel),
            get_current_stream=lambda: SimpleNamespace(ptr=77),
        )  # fmt: skip

    def launch_kernel(self, function, gx, gy, gz, bx, by, bz, shared, stream, parameters, extra):
        assert (threading.get_ident(), self.device) in self.with_context
        assert (shared, parameters) == (0, 0)
        tags = (ctypes.c_size_t * 5).from_address(extra)
        assert (tags[0], tags[2], tags[4]) == (1, 2, 0)  # CU_LAUNCH_PARAM_BUFFER_POINTER, …_SIZE, …_END
        content = ctypes.string_at(tags[1], ctypes.c_size_t.from_address(tags[3]).value)
        self.launches.append((function, (gx, gy, gz, bx, by, bz), stream, content))


@pytest.fixture
def cupy(monkeypatch):
    module = Cupy()
    monkeypatch.setitem(sys.modules, "cupy", module)
    return module


def test_arguments_lie_as_numbas_kernels_take_them(cupy):
    matrix, column = Arrays(np.ones((4, 6), np.float32)[:, ::2]), Arrays(np.ones(5)[::-1])
    launch.launch(Kernel(), 3, (32, 2), matrix, np.float32(0.5), True, 7, column)
    (_, shape, stream, content), *more = cupy.launches
    assert not more
    assert (shape, stream) == ((3, 1, 1, 32, 2, 1), 77)
    where = {"f": 72, "?": 76, "q": 80}  # behind 9 numbers of the matrix; each on a multiple of its size
    assert struct.unpack_from("9q", content) == (0, 0, 12, 4, matrix.data.ptr, 4, 3, 24, 8)
    assert [struct.unpack_from(kind, content, start) for kind, start in where.items()] == [(0.5,), (True,), (7,)]
    assert struct.unpack_from("7q", content, 88) == (0, 0, 5, 8, column.data.ptr, 5, -8)
    assert len(content) == 88 + 7 * 8


def test_a_kernel_is_compiled_once_for_arguments_of_a_kind(cupy):
    kernel, whole = Kernel(), np.ones((4, 6), np.float32)
    of_a_kind = [whole, whole[:2], whole.copy()[1:]]
    others = [whole[:, ::2], whole.T, whole.astype(np.float64), whole[0]]
    for array in [*of_a_kind, *others, *of_a_kind, *others]:
        launch.launch(kernel, 1, (32, 1), Arrays(array), 1)
    launch.launch(kernel, 1, (32, 1), Arrays(whole), 1.5)
    # strides that are not C's are read from the arguments: one code serves whatever they are
    assert kernel.types == [["C", int], ["A", int], ["C", int], ["C", int], ["C", float]]
    assert [function for function, *_ in cupy.launches] == 2 * [1, 1, 1, 2, 2, 3, 4] + [5]


def test_each_device_has_its_code_and_each_kernel_too(cupy):
    first, second, array = Kernel(), Kernel(), Arrays(np.ones(3))
    for cupy.device in (0, 1, 0):
        launch.launch(first, 1, (32, 1), array)
        launch.launch(second, 1, (32, 1), array)
    assert (len(first.types), len(second.types)) == (2, 2)


def test_a_thread_that_asked_cuda_for_nothing_can_launch(cupy):
    kernel, array = Kernel(), Arrays(np.ones(3))
    thread = threading.Thread(target=launch.launch, args=(kernel, 1, (32, 1), array))
    thread.start()
    thread.join()
    assert len(cupy.launches) == 1
