"""RidgeReadout in many threads at once, pickled, cloned, and in a forked process."""

import os
import pickle
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from sklearn.base import clone

from hebbcore.evaluation import RidgeReadout

BATCHES, THREADS = 24, (1, 2, 8)


@pytest.fixture
def rows(generator):
    """Return features of three classes and labels."""
    labels = np.arange(2400) % 3
    return (generator.normal(size=(3, 40))[labels] + 3 * generator.normal(size=(2400, 40))).astype(np.float32), labels


def together(threads, tasks):
    """Run the tasks in threads that begin at once, and return what they return."""
    barrier = threading.Barrier(threads)

    def first(task):
        barrier.wait()
        return task()

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(first, tasks[:threads])) + list(pool.map(lambda task: task(), tasks[threads:]))


@pytest.mark.parametrize("repeat", range(3))
@pytest.mark.parametrize("threads", THREADS)
@pytest.mark.parametrize("lazy", [False, True])
def test_threads_share_one_readout(rows, threads, lazy, repeat):
    features, labels = rows
    model, alone = RidgeReadout(), RidgeReadout()
    for one in (model, alone):
        if lazy:
            one.partial_fit(features[:1200], labels[:1200])
            one.partial_fit(features[1200:], labels[1200:])
        else:
            one.fit(features, labels)
    parts = np.array_split(features, BATCHES)
    methods = ["decision_function", "predict", "predict_proba"]
    expected = [getattr(alone, methods[i % 3])(part) for i, part in enumerate(parts)]
    found = together(threads, [lambda i=i: getattr(model, methods[i % 3])(parts[i]) for i in range(BATCHES)])
    for mine, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(mine, other)


def test_the_lazy_solution_is_computed_once(rows, monkeypatch):
    features, labels = rows
    model, calls = RidgeReadout(1.0).partial_fit(features, labels), []
    solve = RidgeReadout._solve

    def counted(self, *arguments):
        calls.append(threading.get_ident())
        return solve(self, *arguments)

    monkeypatch.setattr(RidgeReadout, "_solve", counted)
    together(8, [lambda: model.predict(features)] * 8)
    assert len(calls) == 1


def test_each_thread_may_fit_its_own(rows):
    features, labels = rows
    expected = RidgeReadout(standardize=True).fit(features, labels)
    found = together(8, [lambda: RidgeReadout(standardize=True).fit(features, labels)] * 8)
    for model in found:
        np.testing.assert_array_equal(model.coef_, expected.coef_)


@pytest.mark.parametrize("solved", [False, True])
def test_pickles_and_clones(rows, solved):
    features, labels = rows
    model = RidgeReadout(class_weight={0: 2.0}).partial_fit(features, labels)
    if solved:
        model.predict(features)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict_proba(features), model.predict_proba(features))
    assert clone(again).get_params() == model.get_params()
    assert not hasattr(clone(model), "classes_")


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_fork_while_another_thread_solves(rows, monkeypatch):
    features, labels = rows
    model = RidgeReadout().partial_fit(features, labels)
    expected = RidgeReadout().partial_fit(features, labels).predict(features[:100])
    entered, done, solve = threading.Event(), [], RidgeReadout._solve

    def slowly(*arguments):
        entered.set()
        time.sleep(0.3)  # as a solution that takes its time
        solution = solve(*arguments)
        done.append(True)
        return solution

    monkeypatch.setattr(RidgeReadout, "_solve", slowly)
    thread = threading.Thread(target=model.predict, args=(features,))
    thread.start()
    entered.wait()
    child = os.fork()
    if not child:
        os._exit(0 if done and np.array_equal(model.predict(features[:100]), expected) else 1)
    thread.join()
    assert os.waitpid(child, 0)[1] == 0
    np.testing.assert_array_equal(model.predict(features[:100]), expected)


def test_another_number_of_alphas_needs_another_fit(rows):
    model = RidgeReadout(1.0).fit(*rows).set_params(alphas=(1.0, 2.0))
    with pytest.raises(ValueError, match="fitted with a single alpha; fit it again"):
        model.predict_proba(rows[0])
