"""One stream in several threads, in other processes, and across a fork: the same batches as alone, or an error."""

import gc
import multiprocessing
import os
import pickle
import subprocess
import sys
import threading
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from loaders_helpers import make_arrays, make_tree

import loaders
from loaders import ArrayStream, RandomResizedCrop, ShardStream

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(loaders.__file__).parents[1])}


@pytest.fixture(scope="module")
def raw(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("raw")
    loaders.write_shards(make_arrays(103), folder, shard_bytes=12 * 240)
    return folder


@pytest.fixture(scope="module")
def packed(tmp_path_factory) -> Path:
    tree = make_tree(tmp_path_factory.mktemp("data") / "tree", classes=3, images=8)
    folder = tmp_path_factory.mktemp("packed")
    loaders.build_shards(tree, folder, workers=1, shard_bytes=20_000)
    return folder


def open_stream(raw, packed, kind):
    if kind == "raw":
        return ShardStream(raw, batch_size=8, shuffle=True, seed=3, threads=2)
    if kind == "packed":
        crop = RandomResizedCrop(24)
        return ShardStream(packed, batch_size=5, shuffle=True, transform=crop, dtype="float32", threads=2)
    return ArrayStream(*make_arrays(50), batch_size=8)


KINDS = pytest.mark.parametrize("kind", ["raw", "packed"])
ALL_KINDS = pytest.mark.parametrize("kind", ["raw", "packed", "arrays"])


def taken(batches) -> list[bytes]:
    return [images.tobytes() + labels.tobytes() for images, labels in batches]


@KINDS
@pytest.mark.parametrize("threads", [2, 4])
def test_threads_that_share_a_stream_get_an_epoch_each(raw, packed, kind, threads):
    alone = open_stream(raw, packed, kind)
    expected = [taken(alone) for _ in range(3 * threads)]
    shared = open_stream(raw, packed, kind)
    with ThreadPoolExecutor(threads) as pool:
        found = list(pool.map(lambda _: taken(shared), range(3 * threads)))
    assert sorted(found) == sorted(expected)
    assert shared.state() == alone.state()
    assert taken(shared) == taken(alone)


@KINDS
def test_threads_with_streams_of_their_own(raw, packed, kind):
    expected = taken(open_stream(raw, packed, kind))
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: taken(open_stream(raw, packed, kind)), range(8)))
    assert found == [expected] * 8


def test_the_state_is_of_the_loop_that_began_last(raw):
    stream = ShardStream(raw, batch_size=8)
    first = iter(stream)
    next(first)
    second = iter(stream)
    next(second)
    list(islice(first, 4))
    assert (stream.state()["epoch"], stream.state()["batch"]) == (1, 1)
    stream.restore({**stream.state(), "epoch": 5, "batch": 2})
    list(islice(second, 4))
    assert (stream.state()["epoch"], stream.state()["batch"]) == (5, 2)


def test_states_are_whole_while_another_thread_iterates(raw):
    stream, stop = ShardStream(raw, batch_size=8, threads=1), threading.Event()

    def iterate():
        while not stop.is_set():
            taken(stream)

    thread = threading.Thread(target=iterate)
    thread.start()
    places = [(state["epoch"], state["batch"]) for state in (stream.state() for _ in range(3000))]
    stop.set()
    thread.join()
    assert places == sorted(places)


def test_one_loop_in_two_threads_is_an_error(raw):
    loop, errors = iter(ShardStream(raw, batch_size=1, threads=1)), []

    def consume():
        try:
            for _ in loop:
                pass
        except ValueError as error:
            errors.append(str(error))

    threads = [threading.Thread(target=consume) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(errors) <= {"generator already executing"}


def test_a_stream_that_another_thread_closes_ends_its_loops_with_an_error(raw):
    stream, begun, errors = ShardStream(raw, batch_size=1, threads=1), threading.Event(), []

    def consume():
        try:
            while True:
                for _ in stream:
                    begun.set()
        except ValueError as error:
            errors.append(str(error))

    thread = threading.Thread(target=consume)
    thread.start()
    begun.wait(60)
    stream.close()
    thread.join(60)
    assert not thread.is_alive()
    assert len(errors) == 1
    assert errors[0] in (
        "ShardStream: the stream was closed during this loop",
        "ShardStream: the stream is closed; make a new one",
    )


# Pickled


@ALL_KINDS
def test_a_fresh_stream_pickles(raw, packed, kind):
    stream = open_stream(raw, packed, kind)
    copy = pickle.loads(pickle.dumps(stream))
    assert copy.state() == stream.state()
    for _ in range(2):
        assert taken(copy) == taken(stream)


@ALL_KINDS
def test_a_used_stream_pickles_with_its_next_loop(raw, packed, kind):
    stream = open_stream(raw, packed, kind)
    taken(stream)
    list(islice(stream, 2))
    gc.collect()
    copy = pickle.loads(pickle.dumps(stream))
    assert taken(copy) == taken(stream)
    stream.restore({**stream.state(), "batch": 2})
    copy = pickle.loads(pickle.dumps(stream))
    assert taken(copy) == taken(stream)


@KINDS
def test_a_stream_in_a_loop_pickles_where_the_loop_is(raw, packed, kind):
    stream = open_stream(raw, packed, kind)
    taken(stream)
    loop = iter(stream)
    list(islice(loop, 2))
    copy = pickle.loads(pickle.dumps(stream))
    assert copy.state() == stream.state()
    assert taken(copy) == taken(loop)
    assert taken(copy) == taken(stream)


def test_a_closed_stream_stays_closed(raw):
    stream = ShardStream(raw)
    stream.close()
    with pytest.raises(ValueError, match="the stream is closed"):
        iter(pickle.loads(pickle.dumps(stream)))


@ALL_KINDS
def test_another_process_gets_the_same_batches(raw, packed, kind, tmp_path):
    stream = open_stream(raw, packed, kind)
    (tmp_path / "stream").write_bytes(pickle.dumps(stream))
    script = """
import pickle, sys, zlib
stream = pickle.load(open(sys.argv[1], "rb"))
for _ in range(2):
    for images, labels in stream:
        print(zlib.crc32(images.tobytes() + labels.tobytes()))
"""
    line = [sys.executable, "-c", script, tmp_path / "stream"]
    done = subprocess.run(line, env=ENVIRONMENT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(zlib.crc32(data)) for _ in range(2) for data in taken(stream)]


# Forked

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform cannot fork")


def in_a_fork(task):
    """Run task in a fork of this process and return what it returns."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of a fork with threads, which is what is tested
        context = multiprocessing.get_context("fork")
        here, there = context.Pipe()
        process = context.Process(target=lambda: there.send(task()))
        process.start()
    try:
        assert here.poll(60), "the child process hangs"
        return here.recv()
    finally:
        process.kill()
        process.join()


@forks
@KINDS
def test_a_fork_begins_loops_and_the_parent_goes_on(raw, packed, kind):
    alone = open_stream(raw, packed, kind)
    expected = [taken(alone) for _ in range(3)]
    stream = open_stream(raw, packed, kind)
    assert in_a_fork(lambda: taken(stream)) == expected[0]
    assert taken(stream) == expected[0]
    loop = iter(stream)
    begun = taken(islice(loop, 2))
    assert in_a_fork(lambda: taken(stream)) == expected[2]
    assert begun + taken(loop) == expected[1]


@forks
@KINDS
def test_a_loop_does_not_go_on_in_a_fork(raw, packed, kind):
    stream = open_stream(raw, packed, kind)
    loop = iter(stream)
    next(loop)

    def go_on():
        try:
            return taken(loop)
        except RuntimeError as error:
            stream.close()
            return str(error)

    assert in_a_fork(go_on).startswith("ShardStream: this loop began before a fork")
    assert len(taken(loop)) == len(stream) - 1


@forks
def test_forks_while_threads_begin_and_end_loops(raw):
    stream, stop = ShardStream(raw, batch_size=32, threads=1), threading.Event()
    expected = len(ShardStream(raw, batch_size=32))

    def iterate():
        while not stop.is_set():
            taken(stream)

    threads = [threading.Thread(target=iterate) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(8):
            assert in_a_fork(lambda: len(taken(stream))) == expected
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert np.concatenate([labels for _, labels in stream]).shape == (103,)
