"""The batched update: orders of multiplication, chunks, threads and memory do not change the answer."""

import functools
import multiprocessing
import threading
import tracemalloc
from dataclasses import dataclass

import numpy as np
import pytest
import reference
import threadpoolctl
from hypothesis import given, settings
from hypothesis import strategies as st

import hebbcore
from hebbcore.engine import backend, decay, gemm, parallel, update
from hebbcore.engine.memory import Memory
from hebbcore.engine.patches import Geometry

HPCA_ORDERS = [True, False]


@pytest.fixture(scope="module")
def images():
    """Return float64 images."""
    return np.random.default_rng(1).normal(size=(30, 9, 8, 3))


@pytest.fixture(scope="module")
def weights():
    """Return float64 weights."""
    return np.random.default_rng(2).normal(size=(20, 3, 3, 3)) / 5


def close(actual, expected, relative=1e-12):
    np.testing.assert_allclose(actual, expected, rtol=0, atol=relative * np.abs(expected).max())


@pytest.mark.parametrize("blocked", HPCA_ORDERS)
@pytest.mark.parametrize("block", [1, 7, 64])
@pytest.mark.parametrize("rule", ["relu", "tanh"])
def test_gram_and_blocked_orders_agree(images, weights, blocked, block, rule, monkeypatch, tune):
    expected = reference.weight_update(images[:3], weights, "hpca", activation=rule)
    monkeypatch.setattr(update, "blocked_is_cheaper", lambda *sizes: blocked)
    tune(block_units={"cpu": block}, gram_rows={"cpu": block})
    before = images.copy()
    close(hebbcore.weight_update(images[:3], weights, hebbcore.HPCA(rule)), expected)
    dense = reference.weight_update(images[:, 0, 0], weights[:, 0, 0], "hpca", activation=rule)
    close(hebbcore.weight_update(images[:, 0, 0], weights[:, 0, 0], hebbcore.HPCA(rule)), dense)
    np.testing.assert_array_equal(images, before)  # the blocked order overwrites patches, never images


@pytest.mark.parametrize("add", [False, True])
def test_a_block_by_one_product_and_by_two_agree(add, generator, tune):
    """CUDA makes two, of which one adds: it is no slower there, and fewer arrays are made."""
    tune(block_units={"cpu": 4})
    values, x, weights, outer = (generator.normal(size=shape) for shape in ((5, 10), (5, 7), (10, 7), (10, 7)))
    stacked, product = np.concatenate([x, np.empty((4, 7))]), gemm.Gemm("float64", Memory())
    by_two, by_one = outer.copy(), outer.copy()
    decay.add_blocked(product, values, values, x.copy(), weights, by_two, add)
    left = np.empty((10, 9))
    decay.gates_and_decays(values, values, 4, 0, 3, left)
    decay.add_blocked_by_one(product, left, None, 4, stacked, weights, by_one, add)
    close(by_two, add * outer + values.T @ x - np.tril(values.T @ values) @ weights)
    close(by_one, by_two)


@pytest.mark.parametrize("threads", [1, 2, 9])
def test_threads_share_the_columns_of_a_gram_decay(threads, generator, tune):
    """Nine threads have seven columns."""
    tune(gram_rows={"cpu": 4}, split_products=1, lower_products=0)
    gram, weights, outer = (generator.normal(size=shape) for shape in ((10, 10), (10, 7), (10, 7)))
    out = outer.copy()
    decay.subtract_gram_decay(gemm.Gemm("float64", Memory(), threads), gram, weights, out)
    close(out, outer - np.tril(gram) @ weights)


@pytest.mark.parametrize("threads", [1, 2, 3, 9])
@pytest.mark.parametrize("rows", [2, 128])
def test_threads_share_the_units_of_an_outer_product_and_its_gram_decay(threads, rows, generator, tune):
    """Three threads have two parts each, nine have ten in all, of which each is one unit."""
    tune(gram_rows={"cpu": rows})
    values, x, weights = (generator.normal(size=shape) for shape in ((5, 10), (5, 7), (10, 7)))
    out, gram = np.empty((10, 7)), np.empty((10, 10))
    decay.outer_less_decay(gemm.Gemm("float64", Memory(), threads), gram, values, x, weights, out)
    close(out, values.T @ x - np.tril(values.T @ values) @ weights)


def test_the_cheaper_order_is_chosen():
    assert update.blocked_is_cheaper(64, 4096, 2304, 64)
    assert not update.blocked_is_cheaper(50176, 96, 75, 64)
    for units in (70, 75):  # of a pair as a whole: 2 · 300 · 40 / 340 = 70.6
        assert update.blocked_is_cheaper(300, units, 40, 64, True, True) == (units > 70.6)


@pytest.mark.parametrize(
    "rule", [hebbcore.KWTA(2), hebbcore.SignedWTA(), hebbcore.HardWTA(), hebbcore.Krotov()], ids=repr
)
def test_scattering_and_multiplying_agree(images, weights, rule, monkeypatch):
    results = []
    for scatter in (True, False):
        monkeypatch.setattr(update, "scatter_is_cheaper", lambda *sizes, scatter=scatter: scatter)
        results.append(hebbcore.weight_update(images, weights, rule))
    close(*results)


@pytest.mark.parametrize("workspace", ["60 KiB", "200 KiB", "1 MiB", "64 MiB"])
@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("rule", reference.UNSUPERVISED)
def test_workspace_and_threads_do_not_change_the_result(images, weights, rule, workspace, threads, monkeypatch, tune):
    expected = hebbcore.weight_update(images, weights, rule)
    monkeypatch.setattr(parallel, "threads", lambda: threads)
    tune(thread_patches=16, thread_products=1, split_products=1, add_numbers=1)
    close(hebbcore.weight_update(images, weights, rule, workspace=workspace), expected)
    layer = hebbcore.HebbianLayer(weights, hebbcore.RULES[rule](), precision="float64")
    close(layer.transform(images, workspace=workspace), layer.transform(images))


@settings(max_examples=30)
@given(
    cut=st.integers(1, 29),
    rule=st.sampled_from([hebbcore.HPCA(), hebbcore.HPCA("identity")]),
    order=st.permutations(range(30)),
)
def test_changes_add_up_over_samples_in_any_order(images, weights, cut, rule, order):
    whole = hebbcore.weight_update(images, weights, rule)
    shuffled = images[np.array(order)]
    parts = [hebbcore.weight_update(part, weights, rule) for part in (shuffled[:cut], shuffled[cut:])]
    close((cut * parts[0] + (30 - cut) * parts[1]) / 30, whole)


@settings(max_examples=20)
@given(
    rule=st.sampled_from(reference.UNSUPERVISED),
    order=st.permutations(range(30)),
    kibibytes=st.integers(40, 4000),
)
def test_order_of_samples_and_workspace_do_not_matter(images, weights, rule, order, kibibytes):
    whole = hebbcore.weight_update(images, weights, rule)
    permuted = hebbcore.weight_update(images[np.array(order)], weights, rule, workspace=kibibytes * 1024)
    close(permuted, whole)


@pytest.mark.parametrize("rule", ["swta", "softhebb", "signedwta"])
def test_a_million_equal_patches_teach_in_float32_what_one_does(rule, generator):
    """Sums over all rows of a chunk, hundreds of thousands, were wrong by up to 0.4 %."""
    patch, weights = generator.random((1, 3)).astype(np.float32), generator.normal(size=(8, 3)).astype(np.float32)
    found = hebbcore.weight_update(np.tile(patch, (10**6, 1)), weights, rule)
    close(found, hebbcore.weight_update(patch, weights, rule), 6e-4)


@pytest.mark.parametrize("rule", ["hpca", "swta", "kwta", hebbcore.SignedWTA(8), "softhebb"], ids=str)
def test_memory_does_not_grow_with_the_batch(rule):
    few = np.ones((64, 12, 12, 8), np.uint8)
    many = np.ones((4096, 12, 12, 8), np.uint8)  # its patches would be 1.1 GB
    weights = np.ones((32, 3, 3, 8), np.float32)
    peaks = []
    for images in (few, few, many):  # the first run compiles
        tracemalloc.start()
        hebbcore.weight_update(images, weights, rule, workspace="4 MiB")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[2] < peaks[1] + 2**20
    assert peaks[2] < 4 * 2**20 + 3 * weights.nbytes + 2**17  # the workspace, ΔW, and what the objects take


def test_a_blocked_decay_keeps_to_the_workspace(generator):
    images, weights = (generator.normal(size=shape).astype(np.float32) for shape in ((64, 1, 1, 500), (600, 500)))
    geometry = Geometry.of("test", images.shape, 1, 1, 0, "zeros")
    assert update.blocked_is_cheaper(64, 600, 500, 48)
    for workspace in (2**20, 2**17):  # all patches in a chunk, and some with smaller blocks
        for _ in range(2):  # the first run compiles
            updates = update.BatchedUpdate(hebbcore.HPCA(), geometry, 600, "float32", workspace, "test")
            tracemalloc.start()
            delta, _ = updates.delta(images, weights)
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        scratch = 0 if workspace == 2**20 else weights.nbytes  # of a sum over chunks
        assert peak < workspace + delta.nbytes + scratch + 2**16
        y = np.maximum(images[:, 0, 0] @ weights.T, 0)
        close(delta, y.T @ images[:, 0, 0] - np.tril(y.T @ y) @ weights, 1e-4)


@dataclass(frozen=True)
class Oja(hebbcore.Rule):
    """Oja's rule for each unit by itself."""

    def gate(self, scores, norms):
        return hebbcore.Gate(scores, decay=(scores * scores).sum(axis=0))


def test_a_users_own_rule(images, weights):
    delta = hebbcore.weight_update(images, weights, Oja())
    x, w = reference.patches(images, 3), weights.reshape(20, -1)
    y = x @ w.T
    close(delta.reshape(20, -1), (y.T @ x - (y**2).sum(axis=0)[:, None] * w) / len(x))
    layer = hebbcore.train_layer(images, 20, 3, rule=Oja(), learning_rate=1e-3, epochs=2)
    assert layer.transform(images).shape == (30, 7, 6, 20)


@dataclass(frozen=True)
class HardOja(hebbcore.Rule):
    """The unit of the largest |s| learns s (x − s w)."""

    winners: int | None

    def gate(self, scores, norms):
        values = np.zeros_like(scores)
        rows, units = np.arange(len(scores)), np.abs(scores).argmax(axis=1)
        values[rows, units] = scores[rows, units]
        return hebbcore.Gate(values)

    def expected_winners(self):
        return self.winners


@pytest.mark.parametrize("workspace", ["1200 KiB", "256 MiB"])
def test_a_hard_gate_may_have_the_decay_of_its_products(workspace, generator):
    images, weights = generator.random((9, 8, 8, 30)), 0.1 * generator.normal(size=(300, 3, 3, 30))
    found, expected = (hebbcore.weight_update(images, weights, HardOja(n), workspace=workspace) for n in (1, None))
    close(found, expected)
    X, W = reference.patches(images, 3), weights.reshape(300, -1)
    S = X @ W.T
    G = np.where(reference.argmax_wta(abs(S)) == 1, S, 0)
    close(found.reshape(300, -1), (G.T @ X - np.tril(G.T @ G) @ W) / len(X))


@pytest.mark.parametrize("workspace", ["40 KiB", "256 MiB"])  # several chunks, and one
@pytest.mark.parametrize("decay", [True, False])
@pytest.mark.parametrize(
    ("winners", "error", "message"),
    [
        (lambda rows: np.full(rows, 20), ValueError, "winners from 0 to 19, or −1 .*, got 20 to 20"),
        (lambda rows: np.full(rows, 2**40), ValueError, "winners from 0 to 19"),
        (lambda rows: np.full(rows, -2), ValueError, "winners from 0 to 19, or −1 .*, got -2 to -2"),
        (lambda rows: np.zeros(rows - 1, np.int64), ValueError, r"winners of the shape \(\d+,\), got \(\d+,\)"),
        (lambda rows: [0] * rows, ValueError, r"winners of the shape"),
        (lambda rows: np.zeros(rows), TypeError, "winners of integers, got float64"),
    ],
)
def test_winners_that_are_no_units_are_refused(images, weights, workspace, decay, winners, error, message, tune):
    """A kernel adds patches to the rows of ΔW that winners name."""
    tune(scatter_ns=0.0)

    class Wild(hebbcore.Rule):
        def gate(self, scores, norms):
            return hebbcore.Gate(scores, scores.sum(axis=0) if decay else None, winners=winners(len(scores)))

        def expected_winners(self):
            return 1

    with pytest.raises(error, match=rf"^Wild\.gate must return {message}"):
        hebbcore.weight_update(images, weights, Wild(), workspace=workspace)


@dataclass(frozen=True)
class Broken(hebbcore.Rule):
    """A rule that fails."""

    def gate(self, scores, norms):
        raise KeyError("broken on purpose")


def blas_threads():
    return [library["num_threads"] for library in threadpoolctl.threadpool_info() if library["user_api"] == "blas"]


def test_an_error_in_a_thread_reaches_the_caller_and_blas_gets_its_threads_back(images, weights, monkeypatch):
    before = blas_threads()
    monkeypatch.setattr(parallel, "threads", lambda: 2)
    with pytest.raises(KeyError, match="broken on purpose"):
        hebbcore.weight_update(images, weights, Broken())
    assert blas_threads() == before


def test_a_rule_whose_gate_is_an_array_says_so(images, weights):
    class Bare(hebbcore.Rule):
        def gate(self, scores, norms):
            return scores

    with pytest.raises(TypeError, match=r"Bare\.gate must return a hebbcore.Gate, got ndarray"):
        hebbcore.weight_update(images, weights, Bare())


@pytest.mark.parametrize(
    ("method", "answer", "message"),
    [
        (
            "gate",
            lambda s, n: hebbcore.Gate(s, (s * s).sum()),
            r"gate must return a decay of the shape \(6,\), got \(\)",
        ),
        ("gate", lambda s, n: hebbcore.Gate(s, s[:, 0]), r"gate must return a decay of the shape \(6,\), got \(\d+,\)"),
        (
            "gate",
            lambda s, n: hebbcore.Gate(s, s[0], s.sum()),
            r"gate must return a mass of the shape \(6,\), got \(\)",
        ),
        ("gate", lambda s, n: hebbcore.Gate(s[:, :1], s[0]), r"gate must return values of the shape \(\d+, 6\), got"),
        ("scale", lambda d, r, m: np.ones(6), r"scale must return a number, or \(6, 1\), got \(6,\)"),
        ("rate", lambda w, r: np.full(6, r), r"rate must return a number, or \(6, 1\), got \(6,\)"),
        ("projection", lambda w: w.T, r"projection must return an array of the shape \(6, 9\), got \(9, 6\)"),
        ("initial_weights", lambda g, k, d: np.ones((d, k)), r"initial_weights must return an array .* got \(9, 6\)"),
        ("activate", lambda s, n: s[:, :1], r"activate must return outputs of the shape \(\d+, 6\), got \(\d+, 1\)"),
    ],
)
def test_what_a_rule_answers_must_have_its_shape(generator, method, answer, message):
    """NumPy would stretch some of these over the units, and the rest are errors of its own that name no rule."""
    data = generator.random((40, 9))

    class Wrong(hebbcore.Rule):
        def gate(self, scores, norms):
            return hebbcore.Gate(scores, decay=(scores * scores).sum(axis=0))

    setattr(Wrong, method, lambda self, *given: answer(*given))
    with pytest.raises(ValueError, match=rf"^Wrong\.{message}"):
        hebbcore.fit(hebbcore.Network([hebbcore.Dense(6, Wrong())], (9,), device="cpu"), data)
    with pytest.raises(ValueError, match=rf"^Wrong\.{message}"):
        hebbcore.train_layer(data, 6, rule=Wrong(), device="cpu").transform(data)


def test_a_rule_without_a_gate_says_so(images, weights):
    with pytest.raises(NotImplementedError, match="Rule must define gate"):
        hebbcore.weight_update(images, weights, hebbcore.Rule())


def test_threads_of_the_user_can_train_at_the_same_time(images, weights, monkeypatch, tune):
    monkeypatch.setattr(parallel, "threads", lambda: 2)
    tune(thread_patches=16, thread_products=1)
    before, results = blas_threads(), {}
    alone = hebbcore.weight_update(images, weights, "swta")

    def work(name):
        for _ in range(10):
            results[name] = hebbcore.weight_update(images, weights, "swta")

    users = [threading.Thread(target=work, args=(name,)) for name in range(3)]
    for user in users:
        user.start()
    for user in users:
        user.join()
    assert blas_threads() == before
    for result in results.values():
        np.testing.assert_array_equal(result, alone)


def test_blas_limits_of_the_user_are_respected():
    with threadpoolctl.threadpool_limits(1, user_api="blas"):
        assert parallel.threads() == 1


def _in_child(pipe, images, weights):
    pipe.send(hebbcore.weight_update(images, weights, "swta"))


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_it_works_after_a_fork(images, weights, monkeypatch, tune):
    monkeypatch.setattr(parallel, "threads", lambda: 2)
    tune(thread_patches=16, thread_products=1)
    expected = hebbcore.weight_update(images, weights, "swta")  # starts threads, which a fork does not copy
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_in_child, args=(sender, images, weights), daemon=True)  # killed if it hangs
    child.start()
    assert receiver.poll(60), "the child hangs"
    np.testing.assert_array_equal(receiver.recv(), expected)
    child.join()


def test_run_returns_in_order_and_raises_the_first_tasks_error():
    assert parallel.run([functools.partial(int, str(i)) for i in range(7)]) == list(range(7))
    with pytest.raises(ValueError, match="'a'"):
        parallel.run([functools.partial(int, text) for text in ("1", "a", "b")])


@pytest.mark.parametrize(("length", "parts"), [(1, 1), (7, 3), (3, 7), (8, 2)])
def test_cuts_cover_all_without_empty_parts(length, parts):
    cuts = parallel.cuts(length, parts)
    assert [i for start, end in cuts for i in range(start, end)] == list(range(length))
    assert len(cuts) == min(length, parts)
    assert all(start < end for start, end in cuts)


@pytest.mark.parametrize("p", [2, 2.5, 3])
def test_norms_of_many_rows_are_those_of_each(p, generator, tune):
    matrix = generator.normal(size=(11, 7))
    tune(norm_numbers={"cpu": 15})  # two rows at a time
    expected = (np.abs(matrix) ** p).sum(axis=1, keepdims=True) ** (1 / p)
    np.testing.assert_allclose(backend.row_norms(matrix, p), expected, rtol=1e-14)
