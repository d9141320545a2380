"""Cases chosen to break the engine: extremes of the numbers, of memory and of threads, against the same oracle."""

import os
import subprocess
import sys
import threading
import time
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import reference
from test_rules import STATELESS, assert_close, batch, parameters

import hebbcore
from hebbcore.engine import backend, devices, parallel, sums, tuning
from hebbcore.engine.chunks import Plan
from hebbcore.engine.patches import Geometry
from hebbcore.training.ahead import ahead

# Numbers


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("vectors", "weights"),
    [
        ([[-3, 0]], [[2, 0]]),
        ([[-3, 0], [1, 1]], [[2, 0], [4, 0]]),  # the first patch is opposite to both units, the second is not
    ],
)
def test_power_competition_shares_nothing_where_all_units_score_zero(vectors, weights, dtype, backend_module):
    vectors, weights = np.array(vectors, dtype), np.array(weights, dtype)
    rule = hebbcore.SWTA(temperature=0.05, competition="power")
    expected = reference.weight_update(vectors, weights, "swta", temperature=0.05, competition="power")
    assert_close(hebbcore.weight_update(vectors, weights, rule), expected, dtype)


@pytest.mark.parametrize(
    ("dtype", "temperature", "loser"),
    [
        (np.float32, 0.005, [-1, 0]),  # exp(-200)
        (np.float32, 0.005, [0.45, 0.893]),  # exp(-95), a denormal float32 whose inverse overflows
        (np.float64, 0.001, [0.05, 0.99875]),  # exp(-724), the same in float64
    ],
)
@pytest.mark.parametrize("winners", [1, 8])
def test_a_unit_with_next_to_no_share_stays_finite(dtype, temperature, loser, winners, backend_module):
    vectors, weights = np.array([[1, 0]], dtype), np.array([[1, 0]] * winners + [loser], dtype)
    delta = hebbcore.weight_update(vectors, weights, hebbcore.SWTA(temperature))
    expected = reference.weight_update(vectors, weights, "swta", temperature=temperature)
    assert np.isfinite(expected).all()
    np.testing.assert_allclose(delta, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("k", range(1, 8))
def test_kwta_of_neighbouring_denormals(twin, k):
    scores = np.array([[5, 1, 4, 2, 9, 7, 3]], np.int32).view(np.float32)  # multiples of the least number
    assert (scores > 0).all()
    gate = scores.copy()
    twin.kwta(gate, np.ones(7, np.float32), k, np.zeros((twin.cells(1, 7), 7), np.float32))
    np.testing.assert_array_equal(gate, reference.k_wta(scores, k))


@pytest.mark.parametrize(("dtype", "temperature"), [(np.float32, 1e-39), (np.float64, 1e-310)])
def test_softmax_at_a_temperature_whose_inverse_overflows(dtype, temperature):
    shares = hebbcore.softmax_wta(np.array([[1, 3, 2]], dtype), temperature)
    np.testing.assert_allclose(shares, [[0, 1, 0]], rtol=0, atol=1e-37)


@pytest.mark.parametrize("anti_hebbian", [True, False])
def test_softhebb_at_a_low_temperature_in_float32(anti_hebbian, backend_module, generator):
    vectors, weights = batch(generator, (6, 5), np.float32), batch(generator, (4, 5), np.float32)
    rule = hebbcore.SoftHebb(temperature=0.005, anti_hebbian=anti_hebbian)
    expected = reference.weight_update(vectors, weights, "softhebb", temperature=0.005, anti_hebbian=anti_hebbian)
    np.testing.assert_allclose(hebbcore.weight_update(vectors, weights, rule), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    "program",
    ["softmax", "soft_hebb", "ranked", "signed_wta", "biased_signed_wta", "hard_wta", "cosine_wta", "swta"],
)
def test_rows_of_nan_end_and_leave_the_other_rows_alone(twin, program):
    scores = np.array([[np.nan] * 3, [0.5, 0.25, -0.5]])
    sums, ones, sharpness = np.zeros((twin.cells(2, 3), 3)), np.ones(3), np.float64(2)
    winners = np.zeros(2, np.int64)
    run = {
        "softmax": lambda s: twin.softmax(s, sharpness),
        "soft_hebb": lambda s: twin.soft_hebb(s, sharpness, True, sums.copy()),
        "ranked": lambda s: twin.ranked(s, 2, np.float64(0.5), sums.copy()),
        "signed_wta": lambda s: twin.signed_wta(s, ones, winners[: len(s)], sums.copy()),
        "biased_signed_wta": lambda s: twin.biased_signed_wta(
            s, ones[: len(s)], ones, ones, winners[: len(s)], sums.copy()
        ),
        "hard_wta": lambda s: twin.hard_wta(s, winners[: len(s)], sums.copy()),
        "cosine_wta": lambda s: twin.cosine_wta(s, ones, winners[: len(s)], sums.copy()),
        "swta": lambda s: twin.swta(s, ones[: len(s)], ones, sharpness, False, sums.copy(), sums.copy()),
    }[program]
    both, alone = scores.copy(), scores[1:].copy()
    run(both)
    run(alone)
    assert np.isfinite(alone).all()
    np.testing.assert_array_equal(both[1:], alone)


# Whole pipelines


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("rule", STATELESS, ids=repr)
def test_two_steps_of_training_with_both_kernels(rule, dtype, backend_module, generator):
    name, params = parameters(rule)
    batches = [batch(generator, (1, 3, 3, 2), dtype) for _ in range(2)]
    weights = batch(generator, (4, 2, 3, 2), dtype)
    options = {"stride": 2, "padding": 1, "padding_mode": "reflect"}
    expected = weights
    for images in batches:
        expected = reference.step(images, expected, name, 0.1, **options, **params)
    layer = hebbcore.train_layer(
        batches, 4, (2, 3), rule=rule, learning_rate=0.1, initial_weights=weights, precision=np.dtype(dtype).name,
        device="cpu", **options,
    )  # fmt: skip
    assert_close(layer.weights, expected, dtype)


def test_images_on_another_device_are_streamed_chunk_by_chunk(monkeypatch, generator):
    class Elsewhere(np.ndarray):
        """An array that a stand-in says to be on the other device."""

    other = SimpleNamespace(**(vars(np) | {"empty": lambda *size: np.empty(*size).view(Elsewhere)}))
    moved = []

    def to_device(array, device):
        moved.append(len(array))
        return array.view(Elsewhere if device == "cuda" else np.ndarray)

    images, weights = generator.normal(size=(9, 4, 5, 2)), generator.normal(size=(3, 2, 2, 2))
    layer = hebbcore.HebbianLayer(weights, hebbcore.HPCA("identity"), precision="float64")
    expected = layer.transform(images)
    monkeypatch.setattr(backend, "device_of", lambda array: "cuda" if isinstance(array, Elsewhere) else "cpu")
    monkeypatch.setattr(backend, "namespace", lambda array: other if isinstance(array, Elsewhere) else np)
    monkeypatch.setattr(devices, "to_device", to_device)
    out = layer.transform(images.view(Elsewhere), workspace=4000)
    assert isinstance(out, Elsewhere)
    np.testing.assert_allclose(np.asarray(out), expected, rtol=1e-12)
    assert len(moved) > 6  # several chunks, each there and back
    assert max(moved[::2]) < 9  # and never the images as a whole


@pytest.mark.parametrize("name", ["softhebb", "hardwta", "krotov"])
def test_rules_that_divide_by_the_largest_change_do_so_however_small_it_is(name, generator):
    vectors, weights = 1e-7 * generator.normal(size=(20, 5)), 1e-9 * generator.normal(size=(4, 5))
    delta = hebbcore.weight_update(vectors, weights, name)
    assert_close(delta, reference.weight_update(vectors, weights, name), np.float64)
    assert np.abs(delta).max() == pytest.approx(1)


# Memory and time


@pytest.mark.parametrize(("device", "precision"), [("cpu", "float32"), ("cpu", "float64"), ("cuda", "bf16")])
@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("kibibytes", [600, 2000, 9000])
def test_chunks_and_sums_of_all_threads_fit_the_workspace(
    device, precision, threads, kibibytes, few_threads, monkeypatch, tune
):
    monkeypatch.setattr(parallel, "threads", lambda: threads)
    tune(cache_patches=10**9)  # the workspace alone bounds a chunk
    units, size, workspace = 40, 500, kibibytes * 1024
    item = 8 if precision == "float64" else 4
    g = Geometry.of("test", (1, 1, 1, size), 1, 1, 0, "zeros")
    sums = units * size * item
    shares = Plan("test", g, units, precision, workspace, device).chunks(100_000, sums)
    rows = sum(max(map(g.rows, chunks)) for chunks in shares)
    bits = 2 * (size + units) if precision == "bf16" else 0  # the factors of the products, rounded
    cells = 2 * tuning.MEASURED.most_blocks * units * item if device == "cuda" else 0  # mass and decay
    needed = rows * ((size + units) * item + bits) + (len(shares) - 1) * sums + cells
    assert workspace / 3 < needed <= workspace


@pytest.mark.parametrize(
    ("images", "threads", "expected"),
    [
        (64, 2, [[6, 6, 7, 6, 7], [6, 6, 7, 6, 7]]),
        (10, 3, [[3], [3], [4]]),
        (1, 4, [[1]] * 4),
        (3, 4, [[1], [1, 1]] * 2),
    ],
)
def test_threads_have_as_much_to_do_in_chunks_of_even_sizes(images, threads, expected, monkeypatch, tune):
    monkeypatch.setattr(parallel, "threads", lambda: threads)
    tune(thread_patches=1, thread_products=1, cache_patches=700, chunk_bytes=1)
    plan = Plan("test", Geometry.of("test", (1, 10, 10, 1), 1, 1, 0, "zeros"), 5, "float32", 2**28, "cpu")
    shares = plan.chunks(images)
    assert [[chunk.last - chunk.first for chunk in share] for share in shares] == expected
    lines = [
        (i, row) for share in shares for c in share for i in range(c.first, c.last) for row in range(c.top, c.bottom)
    ]
    assert lines == [(i, row) for i in range(images) for row in range(10)]


def test_the_cheaper_way_to_add_up_winners_is_chosen():
    assert sums.scatter_is_cheaper(1, 1000, 1000, 1000)
    assert not sums.scatter_is_cheaper(1, 10, 1000, 10)
    assert not sums.scatter_is_cheaper(500, 1000, 1000, 1000)
    assert sums.scatter_is_cheaper(1, 30, 100, 0)  # nothing but the winners is looked at
    assert not sums.scatter_is_cheaper(1, 30, 100, 30)


# Threads and processes, each in a process of its own: what hangs must not hang the suite


def in_a_process(code):
    """Run code; fail if it hangs."""
    try:
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=20)
    except subprocess.TimeoutExpired:
        pytest.fail("the process hangs")
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_tasks_may_run_tasks():
    code = """
from hebbcore.engine import parallel
def two(): return parallel.run([lambda: 1, lambda: 2])
print(*parallel.run([two, two])[1])
"""
    assert in_a_process(code) == ["1", "2"]


def test_other_threads_work_on_the_callers_cuda_device_and_stream(monkeypatch):
    kept = threading.local()  # as CuPy keeps them

    class Entered:
        def __init__(self, kind, name=None):
            self.kind, self.id = kind, name or getattr(kept, kind, None) or f"default {kind}"

        def __enter__(self):
            self.before = getattr(kept, self.kind, None)
            setattr(kept, self.kind, self.id)

        def __exit__(self, *error):
            setattr(kept, self.kind, self.before)

    def found(batch=None):
        return kept.device, kept.stream

    cuda = SimpleNamespace(Device=partial(Entered, "device"), get_current_stream=partial(Entered, "stream"))
    monkeypatch.setitem(sys.modules, "cupy", SimpleNamespace(cuda=cuda))
    monkeypatch.setattr(devices, "cuda_status", lambda: (True, ""))
    expected = ("device 1", "stream 7")
    with Entered("device", expected[0]), Entered("stream", expected[1]):
        assert parallel.run([found, found]) == [expected] * 2
        assert list(ahead(iter([1, 2, 3]), found)) == [expected] * 3
    assert list(ahead(iter([1]), found)) == [("default device", "default stream")]


def test_an_error_is_raised_after_all_tasks_ended():
    ended = threading.Event()

    def fails():
        raise KeyError("first")

    def ends():
        time.sleep(0.2)
        ended.set()

    with pytest.raises(KeyError, match="first"):
        parallel.run([fails, ends])
    assert ended.is_set()


def test_a_users_gate_may_use_the_library():
    code = """
import numpy as np
import hebbcore
from hebbcore.engine import parallel
parallel.threads = lambda: 2
x, w = np.ones((1200, 8), np.float32), np.ones((4, 8), np.float32)
class Inner(hebbcore.Rule):
    def gate(self, scores, norms):
        hebbcore.weight_update(x, w, "swta")
        return hebbcore.Gate(scores, decay=(scores * scores).sum(axis=0))
print(hebbcore.weight_update(x, w, Inner()).shape)
"""
    assert in_a_process(code) == ["(4,", "8)"]


@pytest.mark.parametrize("fails", [False, True])
def test_blas_gets_its_threads_back(fails):
    # Two threads are asked for first: where BLAS has one already, a limit that is never lifted would not show.
    code = f"""
import threadpoolctl
from hebbcore.engine import parallel
threadpoolctl.threadpool_limits(2, user_api="blas")
counts = [parallel._blas_threads()]
def task():
    counts.append(parallel._blas_threads())
    if {fails}: raise KeyError
try:
    parallel.run([task])
except KeyError:
    pass
print(*counts, parallel._blas_threads())
"""
    assert in_a_process(code) == ["2", "1", "2"]


@pytest.mark.parametrize("inside", [False, True])
def test_a_limit_holds_for_libraries_that_were_loaded_later(inside):
    """SciPy's BLAS is another than NumPy's where both are wheels; it may come long after the first step."""
    code = f"""
import contextlib, threadpoolctl
from hebbcore.engine import parallel
with parallel.one_blas_thread() if {inside} else contextlib.nullcontext():
    parallel.threads()
    import scipy.linalg
    if not {inside}:
        threadpoolctl.threadpool_limits(2, user_api="blas")
    with parallel.one_blas_thread():
        blas = threadpoolctl.ThreadpoolController().select(user_api="blas")
        print(*{{library.num_threads for library in blas.lib_controllers}})
"""
    assert in_a_process(code) == ["1"]


def test_a_limit_holds_after_a_signal_that_came_while_the_last_one_was_lifted():
    code = """
import threadpoolctl
from hebbcore.engine import parallel
threadpoolctl.threadpool_limits(2, user_api="blas")
parallel._before[:] = [(library, library.num_threads) for library in parallel._libraries()]
with parallel.one_blas_thread():
    print(parallel._blas_threads())
print(parallel._blas_threads())
"""
    assert in_a_process(code) == ["1", "2"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform cannot fork")
def test_a_child_forked_while_another_thread_works_gets_its_threads_back_too():
    code = """
import os, threading, warnings
import threadpoolctl
from hebbcore.engine import parallel
warnings.simplefilter("ignore")
threadpoolctl.threadpool_limits(2, user_api="blas")
inside, leave = threading.Event(), threading.Event()
def work():
    with parallel.one_blas_thread():
        inside.set()
        leave.wait()
thread = threading.Thread(target=work)
thread.start()
inside.wait()
child = os.fork()
if child == 0:
    with parallel.one_blas_thread():
        pass
    os._exit(parallel._blas_threads())
status = os.waitpid(child, 0)[1]
leave.set()
thread.join()
print(os.waitstatus_to_exitcode(status))
"""
    assert in_a_process(code) == ["2"]


# Messages


def test_a_list_of_images_and_fewer_labels_is_refused_in_words():
    images = np.zeros((10, 6, 5, 3), np.float32)
    with pytest.raises((TypeError, ValueError), match=r"^train_layer: data must be "):
        hebbcore.train_layer([[images, np.arange(4)]], 4, 3, device="cpu")


@pytest.mark.parametrize("seed", [-1, "a", 1.5, None, [1, 2], np.arange(2)])
def test_a_bad_seed_is_refused_in_words(seed):
    with pytest.raises((TypeError, ValueError), match=r"^train_layer: seed must be "):
        hebbcore.train_layer(np.zeros((10, 6, 5, 3), np.float32), 4, 3, seed=seed, device="cpu")
