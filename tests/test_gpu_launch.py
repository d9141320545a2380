"""Launches of kernels on a real GPU: what arrays they take, on which stream, from which thread, at what cost."""

import threading
import time
import warnings

import numpy as np
import pytest

import hebbcore

pytestmark = [pytest.mark.gpu, pytest.mark.hardware]

DTYPES = [np.float32, np.float64]


@pytest.fixture
def cupy():
    return pytest.importorskip("cupy")


@pytest.fixture
def cuda():
    from hebbcore.engine.kernels import cuda

    return cuda


VIEWS = {
    "C": lambda a: a,
    "Fortran's order": lambda a: a.copy(order="F"),
    "transposed": lambda a: a.T.copy().T,
    "every other column": lambda a: a.repeat(2, axis=1)[:, ::2],
    "every other row": lambda a: a.repeat(2, axis=0)[::2],
    "backwards": lambda a: a[::-1, ::-1].copy()[::-1, ::-1],
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("view", VIEWS)
def test_kernels_read_and_write_arrays_of_any_strides(cupy, cuda, view, dtype, generator):
    target, source = generator.normal(size=(2, 37, 70)).astype(dtype)
    factors = generator.normal(size=37).astype(dtype)
    expected = target + factors[:, None] * source
    there, other = VIEWS[view](cupy.asarray(target)), VIEWS[view](cupy.asarray(source))
    np.testing.assert_array_equal(there.get(), target)
    cuda.add_scaled(there, cupy.asarray(factors.repeat(3))[::3], other)
    np.testing.assert_allclose(there.get(), expected, rtol=1e-5, atol=1e-5)
    out = cupy.zeros(37, dtype)
    cuda.norms(there, out)
    np.testing.assert_allclose(out.get(), np.linalg.norm(expected, axis=1), rtol=1e-5)
    cuda.norms(VIEWS[view](cupy.asarray(target)), out[::-1])  # strides below 0
    np.testing.assert_allclose(out.get(), np.linalg.norm(target, axis=1)[::-1], rtol=1e-5)


def test_dtypes_and_numbers_take_turns(cupy, cuda, generator):
    scores = generator.normal(size=(50, 40))
    for _ in range(3):
        for dtype in DTYPES:
            for number in (2, 2.0, np.float32(2), np.float64(2), np.int64(2)):
                there = cupy.asarray(scores.astype(dtype))
                cuda.softmax(there, number)
                powers = np.exp(2 * scores)
                np.testing.assert_allclose(there.get(), powers / powers.sum(axis=1, keepdims=True), rtol=1e-4)
            for anti in (True, False, np.True_, np.False_):
                there, decay = cupy.asarray(scores.astype(dtype)), cupy.zeros((cuda.cells(50, 40), 40), dtype)
                cuda.soft_hebb(there, 1, anti, decay)
                assert (there.get() < 0).any() == bool(anti)


@pytest.mark.parametrize("non_blocking", [True, False])
def test_kernels_run_on_cupys_current_stream(cupy, cuda, non_blocking, generator):
    matrix = generator.normal(size=(300, 200)).astype(np.float32)
    there, late, out = cupy.asarray(matrix), cupy.zeros((300, 200), np.float32), cupy.empty(300, np.float32)
    busy = cupy.ones((4096, 4096), np.float32)
    cuda.norms(late, out)  # compiles
    cupy.cuda.Device().synchronize()
    with cupy.cuda.Stream(non_blocking=non_blocking) as stream:
        product = busy @ busy
        stream.synchronize()
        for _ in range(50):
            cupy.matmul(busy, busy, out=product)
        late[...] = there
        cuda.norms(late, out)
        assert not stream.done, "a launch waited for the GPU"
        stream.synchronize()
    np.testing.assert_allclose(out.get(), np.linalg.norm(matrix, axis=1), rtol=1e-5)


def test_threads_launch_at_once_each_on_its_stream(cupy, cuda, generator):
    matrices = generator.normal(size=(8, 64, 50))
    found, begin = [None] * 8, threading.Barrier(8)

    def work(i):
        begin.wait()
        with cupy.cuda.Stream(non_blocking=True) as stream:
            for dtype in DTYPES * 20:
                there, out = cupy.asarray(matrices[i].astype(dtype)), cupy.zeros(64, dtype)
                cuda.norms(there, out)
                stream.synchronize()
            found[i] = out.get()

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    np.testing.assert_allclose(np.array(found), np.linalg.norm(matrices, axis=2), rtol=1e-10)


def test_a_thread_that_asked_cuda_for_nothing_can_launch(cupy, cuda, generator):
    matrix = generator.normal(size=(30, 20))
    there, out = cupy.asarray(matrix), cupy.zeros(30)
    cupy.cuda.Device().synchronize()
    thread = threading.Thread(target=cuda.norms, args=(there, out))
    thread.start()
    thread.join()
    cupy.cuda.Device().synchronize()
    np.testing.assert_allclose(out.get(), np.linalg.norm(matrix, axis=1), rtol=1e-10)


def test_a_launch_is_cheap_and_silent(cupy, cuda):
    there, out = cupy.ones((8, 8), np.float32), cupy.empty(8, np.float32)
    cuda.norms(there, out)
    times = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(20):
            cupy.cuda.Device().synchronize()
            begin = time.perf_counter()
            for _ in range(50):
                cuda.norms(there, out)
            times.append((time.perf_counter() - begin) / 50)
    assert not [str(warning.message) for warning in caught]
    assert min(times) < 100e-6  # seconds; Numba's own launch takes several times as long


@pytest.mark.parametrize("name", ["hpca", "swta", "kwta"])
def test_work_memory_does_not_grow_with_the_batch(cupy, name, generator):
    weights = cupy.asarray(generator.normal(size=(96, 5, 5, 3)).astype(np.float32))
    images = cupy.asarray(generator.integers(0, 256, (4096, 32, 32, 3)).astype(np.uint8))
    peaks = []
    for count in (64, 4096):
        cupy.cuda.Device().synchronize()
        pool = cupy.cuda.MemoryPool()
        with cupy.cuda.using_allocator(pool.malloc):
            hebbcore.weight_update(images[:count], weights, name, workspace="16 MiB", check_finite=False)
        cupy.cuda.Device().synchronize()
        peaks.append(pool.total_bytes())
        pool.free_all_blocks()
    assert peaks[1] <= 1.25 * peaks[0] + 2**20
