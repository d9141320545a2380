"""What a step asks of a GPU: few launches, and that nobody waits for it. benchmarks/counting.py plays CuPy."""

import numpy as np
import pytest
from conftest import ROOT

import hebbcore
from hebbcore import BatchNorm, Conv, Dense, Network, Pool, SoftHebb, Triangle
from hebbcore.engine.patches import Geometry
from hebbcore.engine.update import BatchedUpdate, add_scaled
from hebbcore.rules import as_rule


@pytest.fixture
def counting(monkeypatch):
    """Return the module that counts, while it plays CuPy."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import counting

    with counting.counting():
        counting.COUNTS.clear()
        yield counting


def counted_of(counting, step):
    """Return the launches of a step in its steady state, by kind."""
    step()
    counting.COUNTS.clear()
    step()
    return {kind: counting.total(kind) for kind in ("kernel", "gemm", "operation", "synchronisation")}


def layer_step(counting, rule, workspace=2**28):
    generator = np.random.default_rng(0)
    images = counting.counted(generator.random((64, 14, 14, 6), np.float32))
    weights = counting.counted(generator.random((20, 54), np.float32))
    rule, g = as_rule("step", rule), Geometry.of("step", images.shape, 3, 1, 0, "zeros")
    update = BatchedUpdate(rule, g, 20, "float32", workspace, "step")

    def step():
        delta, scale = update.delta(images, weights)
        add_scaled(weights, rule.rate(weights, 0.01) * scale, delta)

    return step


MOST = {
    "hpca": (2, 4, 4),
    "ica": (3, 3, 8),
    "swta": (7, 2, 8),
    "kwta": (6, 2, 7),
    "softhebb": (5, 2, 11),
    "krotov": (4, 2, 12),
}


@pytest.mark.parametrize("rule", MOST)
def test_a_layers_step_makes_few_launches_and_waits_for_nothing(counting, rule):
    found = counted_of(counting, layer_step(counting, rule))
    assert found["synchronisation"] == 0
    for kind, most in zip(("kernel", "gemm", "operation"), MOST[rule], strict=True):
        assert 0 < found[kind] <= most, counting.COUNTS


def test_launches_grow_with_the_chunks_alone(counting):
    few, many = (counted_of(counting, layer_step(counting, "hpca", size)) for size in (2**28, 2**20))
    chunks = many["kernel"] - 1  # a gather each, and the new weights
    assert chunks > 2
    assert many["gemm"] - few["gemm"] == 3 * (chunks - 1)
    assert many["operation"] - few["operation"] == chunks - 1


def test_a_networks_step_makes_few_launches_and_waits_for_nothing(counting):
    layers = [
        BatchNorm(), Conv(8, 3, SoftHebb(), padding=1, padding_mode="reflect"), Triangle(), Pool(2),
        Conv(9, 3, "swta"), BatchNorm(modified=True), Dense(7, "hpca"),
    ]  # fmt: skip
    network = Network(layers, (32, 32, 3), seed=0, device="cuda")
    x = counting.counted(np.zeros((16, 32, 32, 3), np.uint8))

    def learn(i, before, out):
        network.layers[i].learn(before, out, 0.01, measure=False)

    found = counted_of(counting, lambda: network.run(x, 0, len(network), training=True, learn=learn))
    assert found["synchronisation"] == 0
    assert found["kernel"] <= 25
    assert found["operation"] <= 110, counting.COUNTS


@pytest.mark.filterwarnings("ignore:train_layer")  # of units that win nothing: kernels only count
def test_a_training_waits_for_the_gpu_less_than_once_a_step(counting):
    x = counting.counted(np.random.default_rng(0).random((40 * 32, 12, 12, 3), np.float32))

    def waits(images):
        counting.COUNTS.clear()
        hebbcore.train_layer(images, 8, 3, rule="swta", batch_size=32, device="cuda", check_finite=False)
        return counting.total("synchronisation")

    assert waits(x) - waits(x[: 20 * 32]) < 20
