"""The simulator of the tests: threads of a block wait for each other, end, and fail as Numba's own let them."""

import threading

import numpy as np
import pytest
from conftest import GPU
from numba import cuda

pytestmark = pytest.mark.skipif(GPU, reason="the simulator is off: a GPU works")


def test_threads_meet_and_those_that_ended_are_not_waited_for():
    @cuda.jit
    def sums_of_those_right_of(out):
        values = cuda.shared.array(5, np.int64)
        lane = cuda.threadIdx.x
        values[lane] = lane
        cuda.syncthreads()
        while lane < 4:
            right = values[lane + 1]
            cuda.syncthreads()
            values[lane] += right
            cuda.syncthreads()
            out[cuda.blockIdx.x, lane] = values[lane]
            if out[cuda.blockIdx.x, lane] > 6 + lane:
                return

    out = np.zeros((2, 4), int)
    sums_of_those_right_of[2, 5](out)
    expected, ended = [0, 1, 2, 3, 4], []
    while len(ended) < 4:
        before = list(expected)
        for lane in set(range(4)) - set(ended):
            expected[lane] += before[lane + 1]
        ended += [lane for lane in set(range(4)) - set(ended) if expected[lane] > 6 + lane]
    np.testing.assert_array_equal(out, [expected[:4]] * 2)


def test_an_error_of_one_thread_is_raised_and_ends_the_others():
    @cuda.jit
    def fails(out):
        lane = cuda.threadIdx.x
        cuda.syncthreads()
        if lane == 1:
            raise ValueError("no such number")
        cuda.syncthreads()
        out[lane] = 1

    out, before = np.zeros(3), threading.active_count()
    with pytest.raises(ValueError, match=r"tid=\[1, 0, 0\] ctaid=\[0, 0, 0\]: no such number"):
        fails[1, 3](out)
    for thread in set(threading.enumerate()) - {threading.current_thread()}:
        if type(thread).__name__ == "Lane":
            thread.join(10)
    assert threading.active_count() == before
    assert not out.any()


def test_without_syncthreads_numbers_are_missing():
    """The simulator lets threads run far enough ahead of each other for a kernel that does not wait to fail."""

    @cuda.jit
    def reversed_too_early(values):
        shared = cuda.shared.array(4, np.int64)
        lane = cuda.threadIdx.x
        shared[lane] = values[lane]
        values[lane] = shared[3 - lane]

    found = []
    for _ in range(20):
        values = np.arange(1, 5)
        reversed_too_early[1, 4](values)
        found.append(values.tolist() == [4, 3, 2, 1])
    assert not all(found)
