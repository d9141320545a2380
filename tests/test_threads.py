"""What may run side by side gives the same numbers as alone: threads of one process, and forked children."""

import os
import pickle
import signal
import sys
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import numpy as np
import pytest
import threadpoolctl
from fit_helpers import arrays, assert_same, images, network

import hebbcore
from hebbcore.engine import parallel
from hebbcore.estimators import HebbianTransformer
from hebbcore.training.ahead import ahead
from loaders.workers import available_cores

COUNTS = [1, 2, 4, 8]
CALLS = 24
DATA = images(40, np.float32)


def whitened():
    """Return a network whose layers use every kind of work memory; whitening is learned."""
    net = network(True, "float32")
    return hebbcore.fit(net, DATA, batch_size=10)


def in_threads(count, calls):
    """Run the calls in so many threads at once, and return their results in order."""
    with ThreadPoolExecutor(count) as pool:
        return [future.result() for future in [pool.submit(call) for call in calls]]


def parts(call):
    """Return calls for different images, and what each gives alone."""
    chosen = [np.random.default_rng(i).permutation(len(DATA))[: 5 + i] for i in range(CALLS)]
    return [lambda rows=rows: call(DATA[rows]) for rows in chosen], [call(DATA[rows]) for rows in chosen]


@pytest.mark.parametrize("threads", COUNTS)
def test_one_network_in_several_threads(threads):
    net = whitened()
    layers = ["conv1", "bn1", net.names[-1]]
    for call in (
        net.transform,
        lambda x: net.transform(x, "bn2", mirror=True, workspace="20 KiB"),
        lambda x: np.concatenate([net.features(x, layers)[name].reshape(len(x), -1) for name in layers], axis=1),
    ):
        calls, expected = parts(call)
        for found, alone in zip(in_threads(threads, calls), expected, strict=True):
            np.testing.assert_array_equal(found, alone)


@pytest.mark.parametrize("threads", COUNTS)
def test_networks_layers_and_trainings_side_by_side(threads):
    nets = [whitened() for _ in range(4)]
    layer = hebbcore.train_layer(DATA, 5, 3, rule="kwta", learning_rate=0.1)

    def train(seed):
        net = network(seed=seed)
        return arrays(hebbcore.fit(net, images(), epochs=2, batch_size=4))

    jobs = [lambda net=net: net.transform(DATA) for net in nets for _ in range(3)]
    jobs += [lambda: layer.transform(DATA), lambda: hebbcore.weight_update(DATA, layer.weights, "swta")] * 3
    jobs += [lambda seed=seed: hebbcore.train_layer(DATA, 5, 3, seed=seed).weights for seed in range(3)]
    trainings = [lambda seed=seed: train(seed) for seed in range(3)]
    alone = [job() for job in jobs], [job() for job in trainings]
    found = in_threads(threads, [*jobs, *trainings])
    for one, expected in zip(found[: len(jobs)], alone[0], strict=True):
        np.testing.assert_array_equal(one, expected)
    for one, expected in zip(found[len(jobs) :], alone[1], strict=True):
        assert_same(one, expected)


@pytest.mark.parametrize("threads", COUNTS)
def test_an_estimator_in_several_threads(threads):
    model = HebbianTransformer(
        12, 3, rule="kwta", whiten=True, activation="split", pool=2, random_state=0, learning_rate=0.5
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        model.fit(DATA)
    calls, expected = parts(model.transform)
    for found, alone in zip(in_threads(threads, calls), expected, strict=True):
        np.testing.assert_array_equal(found, alone)


def test_a_network_is_used_and_saved_while_it_is_trained(tmp_path):
    """What comes out belongs to the weights between two steps: two calls in a row differ by whole steps only."""
    net, seen, done = network(precision="float64"), [], threading.Event()
    states = {net["conv1"].weights.tobytes(): net.transform(DATA)}

    def watch():
        while not done.is_set():
            seen.append(net.transform(DATA))
            path = tmp_path / f"{len(seen)}.h5"
            hebbcore.save(path, net)
            seen.append(hebbcore.load(path, device="cpu").transform(DATA))

    def note(record):
        states[net["conv1"].weights.tobytes()] = net.transform(DATA)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        hebbcore.fit(net, DATA, epochs=3, batch_size=5, learning_rate=0.1, log_seconds=0, callback=note)
    finally:
        done.set()
        watcher.join()
    assert len(seen) > 2
    possible = {out.tobytes() for out in states.values()}
    assert all(out.tobytes() in possible for out in seen)


def test_two_trainings_of_one_network_at_once_are_refused():
    net, errors = network(), []

    def again(record):
        with pytest.raises(RuntimeError, match="fit: the network is being trained already, by thread"):
            hebbcore.fit(net, images())
        errors.append(True)

    hebbcore.fit(net, images(), callback=again, log_seconds=0)
    assert errors
    hebbcore.fit(net, images())  # the mark went with the training
    with pytest.raises(ValueError, match="finite"):
        hebbcore.fit(net, images() * np.nan)
    hebbcore.fit(net, images())


def child_of(work):
    """Fork, and return True if the child ends well within a minute after work()."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that a process with threads forks is what is tested
        process = os.fork()
    if process == 0:
        status = 1
        try:
            status = 0 if work() else 1
        finally:
            os._exit(status)
    killer = threading.Timer(60, os.kill, (process, 9))
    killer.start()
    status = os.waitpid(process, 0)[1]
    killer.cancel()
    return status == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_children_forked_during_and_after_use():
    net = whitened()
    expected, stop = net.transform(DATA), threading.Event()
    before = parallel.threads()

    def work():
        right = np.array_equal(net.transform(DATA), expected) and parallel.threads() == before
        trained = arrays(hebbcore.fit(network(), images(), batch_size=5))
        return right and all(np.array_equal(trained[key], array) for key, array in alone.items())

    alone = arrays(hebbcore.fit(network(), images(), batch_size=5))
    assert child_of(work)

    def use():
        while not stop.is_set():
            net.transform(DATA)

    users = [threading.Thread(target=use) for _ in range(3)]
    for user in users:
        user.start()
    try:
        assert all(child_of(work) for _ in range(8))
    finally:
        stop.set()
        for user in users:
            user.join()
    np.testing.assert_array_equal(net.transform(DATA), expected)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_no_child_keeps_a_limit_of_blas_that_a_thread_was_about_to_lift(monkeypatch):
    if (before := parallel.threads()) == 1:
        pytest.skip("one thread anyhow: a kept limit would not show")
    lift, lifting = parallel._restore_limit, threading.Event()

    def slowly():
        lifting.set()
        time.sleep(0.2)
        lift()

    def use():
        with parallel.one_blas_thread():
            pass

    monkeypatch.setattr(parallel, "_restore_limit", slowly)
    user = threading.Thread(target=use)
    user.start()
    assert lifting.wait(30)
    assert child_of(lambda: parallel.threads() == before)
    user.join()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_threads_of_a_child_share_its_locks():
    locks = [parallel.ForkedLock() for _ in range(300)]

    def work():
        inside, both = set(), []
        start = threading.Barrier(8)

        def take(number):
            for lock in locks:
                start.wait(30)
                with lock:
                    both.append(bool(inside))
                    inside.add(number)
                    inside.remove(number)

        sys.setswitchinterval(1e-6)
        in_threads(8, [lambda number=number: take(number) for number in range(8)])
        return len(both) == 8 * len(locks) and not any(both)

    assert child_of(work)


def test_blas_is_limited_whichever_thread_asks():
    """The thread that limits it first is not the only one that may: else sums would be rounded otherwise in others."""

    def counts():
        blas = [library for library in threadpoolctl.threadpool_info() if library["user_api"] == "blas"]
        # that of faiss, which other tests load, counts by OpenMP, for each thread by itself
        return {library["num_threads"] for library in blas if library["threading_layer"] != "openmp"}

    def inside():
        with parallel.one_blas_thread():
            return counts()

    with threadpoolctl.threadpool_limits(2, user_api="blas"):
        before = counts()
        assert inside() == {1}
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(inside).result() == {1}
            first = parallel.one_blas_thread()  # begins in the other thread and ends here, after it
            pool.submit(first.__enter__).result()
            with parallel.one_blas_thread():
                assert counts() == {1}
            first.__exit__(None, None, None)
        assert counts() == before


@pytest.mark.parametrize("lifted", [False, True])
def test_blas_gets_its_threads_back_after_a_signal_that_comes_while_a_limit_is_set_or_lifted(lifted, monkeypatch):
    """It stayed at one thread for all that the process did next."""

    def interrupted(set_num_threads):
        def called(count):
            set_num_threads(count)
            left[0] -= 1
            if left[0] == 0:
                raise KeyboardInterrupt

        return called

    with threadpoolctl.threadpool_limits(2, user_api="blas"):
        libraries = parallel._libraries()
        left = [1 + lifted * len(libraries)]
        for library in libraries:
            monkeypatch.setattr(library, "set_num_threads", interrupted(library.set_num_threads))
        with pytest.raises(KeyboardInterrupt), parallel.one_blas_thread():
            pass
        assert {library.num_threads for library in libraries} == {2}
        assert (parallel._users, parallel._before) == (0, [])


def test_tasks_warn_of_overflow_as_the_caller_wants():
    def overflow():
        return np.float32(1e38) * np.full(2, 1e10, np.float32)

    with np.errstate(over="ignore"):
        assert np.isinf(parallel.run([overflow] * 3)).all()
    with np.errstate(over="raise"), pytest.raises(FloatingPointError, match="overflow"):
        parallel.run([lambda: np.zeros(2), overflow])


def test_what_reads_ahead_warns_of_overflow_as_the_caller_wants():
    def batches():
        for number in range(3):
            yield np.float32(1e38) * np.full(2, number * 1e10, np.float32)

    with np.errstate(over="ignore"), closing(ahead(batches(), lambda batch: batch * batch)) as found:
        assert [np.isinf(batch).all() for batch in found] == [False, True, True]
    with np.errstate(over="raise"), closing(ahead(batches(), lambda batch: batch)) as found:
        next(found)
        with pytest.raises(FloatingPointError, match="overflow"):
            next(found)


def test_a_lock_is_copied_free():
    lock = parallel.ForkedLock()
    with lock, lock:  # the same thread may take it again
        copy = pickle.loads(pickle.dumps(lock))
        taken = in_threads(1, [lambda: copy.__enter__()])
    assert taken == [None]


def test_a_signal_is_raised_when_the_tasks_have_ended():
    """They work on memory of the caller. The threads after it are as before."""
    ended = []

    def slow():
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.2)
        ended.append(True)

    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            parallel.run([int, slow])
        assert ended.pop()
    assert parallel.run([lambda: 1, lambda: 2, lambda: 3]) == [1, 2, 3]


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_each_item_is_worked_on_once(threads, monkeypatch):
    monkeypatch.setattr(parallel, "threads", lambda: threads)
    done = []
    parallel.each(done.append, iter(range(100)))
    assert sorted(done) == list(range(100))
    parallel.each(done.append, [])
    assert len(done) == 100

    def fail(item):
        begun.append(item)
        raise IndexError(f"of the work on {item}")

    begun = []
    with pytest.raises(IndexError, match="of the work on"):
        parallel.each(fail, range(100))
    assert len(begun) <= threads


def test_a_containers_limit_counts_as_cores(monkeypatch):
    """Of the cores that a container sees it may use what its limit says, which joblib reads of the system."""
    monkeypatch.setattr("joblib.cpu_count", lambda: 1)
    parallel._allowed.cache_clear()
    try:
        assert parallel.threads() == 1
        assert available_cores() == 1
    finally:
        parallel._allowed.cache_clear()


def test_a_limit_of_the_environment_that_is_no_number_is_named(monkeypatch):
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "two")
    parallel._allowed.cache_clear()
    for function in (parallel.threads, available_cores):
        with pytest.raises(ValueError, match="LOKY_MAX_CPU_COUNT must be a number of cores, got 'two'"):
            function()
