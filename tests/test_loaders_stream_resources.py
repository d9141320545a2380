"""What a ShardStream holds and lets go: threads, files and memory."""

import gc
import os
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from loaders_helpers import make_arrays
from stream_helpers import COUNT, assert_same, collect

import loaders
from loaders import RandomResizedCrop, ShardStream

pytest_plugins = "stream_helpers"


reads_proc = pytest.mark.skipif(not Path("/proc/self").exists(), reason="reads /proc")


def no_threads() -> bool:
    return not [thread for thread in threading.enumerate() if thread.name.startswith("loaders")]


@pytest.mark.parametrize("threads", range(1, 9))
def test_threads_and_prefetch_do_not_change_a_byte(packed, threads):
    options = {"batch_size": 7, "shuffle": True, "transform": RandomResizedCrop(16), "dtype": "float32"}
    expected = ShardStream(packed, threads=1, prefetch=1, **options)
    stream = ShardStream(packed, threads=threads, prefetch=1 + threads % 3, **options)
    for _ in range(2):
        assert_same(collect(stream), collect(expected))


def test_leaving_early_ends_the_threads(packed):
    assert no_threads()
    for _ in ShardStream(packed, batch_size=2, image_size=16, shuffle=True):
        assert not no_threads()
        break
    gc.collect()
    assert no_threads()

    with ShardStream(packed, batch_size=2, image_size=16, shuffle=True) as stream:
        iterator = iter(stream)
        next(iterator)
        assert not no_threads()
    assert no_threads()
    with pytest.raises(StopIteration):
        next(iterator)
    with pytest.raises(ValueError, match="closed"):
        iter(stream)

    iterator = iter(ShardStream(packed, batch_size=2, image_size=16))
    next(iterator)
    cycle = [iterator]
    cycle.append(cycle)
    del iterator, cycle
    gc.collect()
    assert no_threads()


@reads_proc
def test_no_file_stays_open(packed):
    before = set(os.listdir("/proc/self/fd"))
    stream = ShardStream(packed, batch_size=4, image_size=16, shuffle=True)
    iterator = iter(stream)
    next(iterator)
    time.sleep(0.05)
    assert set(os.listdir("/proc/self/fd")) == before
    stream.close()


def test_an_unstarted_or_finished_loop_leaves_nothing_behind(raw):
    stream = ShardStream(raw)
    iter(stream)
    collect(stream)
    assert no_threads()


def test_two_loops_at_once_do_not_disturb_each_other(raw):
    stream = ShardStream(raw, batch_size=8, shuffle=True)
    expected = ShardStream(raw, batch_size=8, shuffle=True)
    first, second = iter(stream), iter(stream)
    pairs = list(zip(first, second, strict=True))
    assert_same([left for left, _ in pairs], collect(expected))
    assert_same([right for _, right in pairs], collect(expected))


def test_the_consumer_may_keep_and_change_its_batches(raw):
    stream = ShardStream(raw, batch_size=8)
    batches = collect(stream)
    for images, labels in batches:
        images[...] = 0
        labels[...] = 0
    np.testing.assert_array_equal(np.concatenate([images for images, _ in stream]), make_arrays(COUNT)[0])
    np.testing.assert_array_equal(np.concatenate([labels for _, labels in stream]), make_arrays(COUNT)[1])


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@reads_proc
@pytest.mark.parametrize("shuffle", [False, True])
def test_memory_is_flat_over_many_epochs(tmp_path, shuffle):
    images = np.random.default_rng(0).integers(0, 256, (2000, 64, 64, 3), np.uint8)
    loaders.write_shards((images, np.zeros(2000, int)), tmp_path, shard_bytes=2**21)
    del images
    bound = {"shuffle_buffer": 2**22} if shuffle else {}
    stream = ShardStream(tmp_path, batch_size=50, shuffle=shuffle, dtype="float32", **bound)
    sizes = []
    for _ in range(30):
        for _ in stream:
            pass
        sizes.append(resident())
    assert max(sizes[20:]) - max(sizes[:10]) < 4 * 2**20  # 720 MB went by
