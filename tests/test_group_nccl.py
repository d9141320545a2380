"""Sums by NCCL: a strict stand-in for CuPy's on the CPU, and NCCL itself on a GPU."""

import ctypes
import json
import os
import subprocess
import sys
import threading
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from conftest import ROOT
from group_helpers import NEEDS_MPI, environment, mpiexec

from hebbcore.engine.group import groups, nccl

FLOAT32, FLOAT64, SUM = 7, 8, 0


class DeviceArray:
    """What NCCL sees of an array of CuPy: a pointer, a number of entries, a dtype."""

    def __init__(self, host):
        self.host, self.size, self.dtype = host, host.size, host.dtype
        self.data = SimpleNamespace(ptr=host.ctypes.data)


class Library:
    """NCCL for threads in place of processes; what it would not forgive is refused."""

    NCCL_FLOAT32, NCCL_FLOAT64, NCCL_SUM, available = FLOAT32, FLOAT64, SUM, True

    def __init__(self, size):
        self.size, self.ids, self.arrays = size, [], {}
        self.barrier = threading.Barrier(size, timeout=20)

    def get_unique_id(self):
        self.ids.append((len(self.ids),) * 128)
        return self.ids[-1]

    def NcclCommunicator(self, ndev, commId, rank, /):
        assert (ndev, self.ids) == (self.size, [commId])  # one name, rank 0's, for all
        return Communicator(self, rank)


class Communicator:
    def __init__(self, library, rank):
        self.library, self.rank, self.aborted = library, rank, False

    def allReduce(self, source, target, count, kind, operation, stream, /):
        assert not self.aborted
        assert source == target
        assert operation == SUM
        assert stream == "the current stream"
        number = {FLOAT32: ctypes.c_float, FLOAT64: ctypes.c_double}[kind]
        mine = np.ctypeslib.as_array((number * count).from_address(source))
        library = self.library
        library.arrays[self.rank] = mine
        library.barrier.wait()
        kinds = {(len(array), array.dtype) for array in library.arrays.values()}
        assert len(kinds) == 1, f"processes add up different arrays: {kinds}"
        total = sum(library.arrays[rank] for rank in range(library.size))
        library.barrier.wait()
        mine[...] = total

    def abort(self):
        self.aborted = True


class Event:
    """Done at the second look, if it was recorded on the current stream."""

    def __init__(self, disable_timing):
        assert disable_timing
        self.looks = None

    def record(self, stream):
        assert stream.ptr == "the current stream"
        self.looks = 0

    @property
    def done(self):
        self.looks += 1
        return self.looks > 1


@pytest.fixture
def library(monkeypatch):
    """Put a library for two threads in the place of CuPy's."""
    found = Library(2)
    stream = SimpleNamespace(ptr="the current stream")
    cuda = SimpleNamespace(get_current_stream=lambda: stream, Event=Event)  # no nccl before it is imported, as CuPy
    monkeypatch.setattr(nccl.backend, "module", lambda device: SimpleNamespace(cuda=cuda))
    for name in ("cupy", "cupy.cuda"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, "cupy.cuda.nccl", found)
    return found


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_arrays_become_their_sum_in_all_processes(library, dtype):
    names, ready, found, errors = [], threading.Event(), {}, []

    def broadcast(value):
        if value is not None:
            names.append(value)
            ready.set()
        assert ready.wait(20)
        return names[0]

    def process(rank):
        try:
            each = nccl.Nccl(rank, 2, broadcast)
            array = np.arange(5, dtype=dtype) + rank
            done = each.start(DeviceArray(array))
            assert [done(), done()] == [False, True]
            found[rank] = array
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=process, args=(rank,)) for rank in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    for rank in range(2):
        np.testing.assert_array_equal(found[rank], 2 * np.arange(5) + 1)


def test_an_abort_ends_the_communicator(library):
    library.size = 1
    each = nccl.Nccl(0, 1, lambda value: value)
    each.abort()
    with pytest.raises(AssertionError):
        each.start(DeviceArray(np.zeros(3)))


@pytest.mark.parametrize(
    ("gpus", "reason"),
    [
        (["a", None], "not every process has a GPU"),
        (["a", "b", "a"], "several processes share a GPU"),
        (["a", "b"], None),
    ],
)
def test_why_nccl_cannot_be_used(library, gpus, reason):
    found = nccl.problem(gpus)
    assert found is None if reason is None else reason in found


def test_it_is_said_once_that_sums_go_through_the_hosts(monkeypatch, caplog):
    group = groups.Group()
    monkeypatch.setattr(group, "_comm", SimpleNamespace(Idup=lambda: (None, SimpleNamespace(Test=lambda: True))))
    monkeypatch.setattr(group, "_problem", "there is none")
    monkeypatch.setattr(groups, "Team", lambda *arguments: None)
    for device in ("cpu", "cuda", "cuda"):
        group.team("fit", device)
    assert [record.getMessage() for record in caplog.records] == [
        "fit: sums go through the hosts, not by NCCL: there is none"
    ]


@pytest.mark.parametrize(("available", "reason"), [(True, "None"), (False, "install nvidia-nccl"), (None, "install")])
def test_the_library_is_asked_for_where_cupy_has_it(tmp_path, available, reason):
    """A package laid out as CuPy's: its `cuda` does not import `nccl`, which says whether NCCL can be loaded."""
    package = tmp_path / "cupy" / "cuda"
    package.mkdir(parents=True)
    (package.parent / "__init__.py").write_text("from cupy import cuda")
    (package / "__init__.py").write_text("")
    if available is not None:
        (package / "nccl.py").write_text(f"available = {available}")
    program = "from hebbcore.engine.group import nccl; print(nccl.problem(['a', 'b']))"
    path = os.pathsep.join([str(tmp_path), environment()["PYTHONPATH"]])
    done = subprocess.run(
        [sys.executable, "-c", program], env={**environment(), "PYTHONPATH": path}, capture_output=True, text=True
    )
    assert reason in done.stdout, done.stderr


@pytest.mark.gpu
@pytest.mark.hardware
def test_nccl_adds_up_on_the_gpu():
    import cupy

    if nccl.problem(["a"]) is not None:
        pytest.skip(nccl.problem(["a"]))
    each = nccl.Nccl(0, 1, lambda value: value)
    array = cupy.arange(1000, dtype=np.float32)
    done = each.start(array)
    cupy.cuda.get_current_stream().synchronize()
    assert done()
    np.testing.assert_array_equal(array.get(), np.arange(1000, dtype=np.float32))


@pytest.mark.gpu
@NEEDS_MPI
def test_processes_that_share_a_gpu_learn_what_one_learns(tmp_path):
    path, more = tmp_path / "results", {"GROUP_DEVICE": "cuda"}
    if "twins" in sys.modules:  # CuPy is a stand-in
        more["GROUP_TWINS"] = "1"
    done = mpiexec(4, ROOT / "tests" / "group_cases.py", path, "softhebb", more=more)
    assert done.returncode == 0, done.stderr
    for rank in range(4):
        for name, sizes in json.loads(path.with_name(f"results.{rank}").read_text()).items():
            for size, difference in sizes.items():
                assert not isinstance(difference, str), difference
                assert difference < 1e-10, (name, size)
