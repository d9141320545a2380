"""Chains of layers do what the layers do one after the other, and make no map of a batch between them."""

import tracemalloc

import numpy as np
import pytest

import hebbcore
from hebbcore import (
    KWTA,
    BatchNorm,
    Conv,
    Dense,
    Flatten,
    GaussianPool,
    GridPool,
    Network,
    Pool,
    Power,
    Relu,
    Split,
    Triangle,
    Whiten,
)
from hebbcore.engine import kernels, parallel
from hebbcore.graph import Graph
from hebbcore.layers import Scale

SHAPE = (13, 10, 3)
STACKS = {
    "dictionary": lambda: [Conv(5, 3, "signedwta", response="cosine"), Scale(), Split(0.25), GaussianPool(4), Power()],
    "codes": lambda: [Conv(6, 3, "kwta", padding=1, response="cosine-exp"), GaussianPool((2, 3)), Conv(4, 2), Relu()],
    "pooled": lambda: [Conv(7, 2, "hpca", stride=2), BatchNorm(), Triangle(1.4), Pool(3, 2), Flatten(), Dense(3)],
    "split twice": lambda: [Conv(2, 3), Split(), Relu(2), Split(0.1), GridPool(2, "max"), Split(), GaussianPool(1)],
    "no learner": lambda: [Scale(), Split(0.1), GaussianPool(3), Conv(3, 1), Split(), Scale(), Pool(2), BatchNorm()],
    "in place": lambda: [BatchNorm(), Relu(), Power(0.7), Conv(3, 1, "softhebb")],
    "whitened": lambda: [Whiten(3), Conv(7, 1, "signedwta", linear=True), Scale(), Split(0.1), GaussianPool(4)],
    "components": lambda: [Relu(), Whiten(3, padding=1, components=9), Conv(4, 1, "softhebb"), Pool(3, 2), Flatten()],
    "centred": lambda: [Whiten((2, 3), 2, epsilon=None), Conv(5, 1, KWTA(2)), Conv(3, 2, response="cosine"), Power()],
}  # fmt: skip


def made(stack, precision="float64", device="cpu", **options):
    network = Network(STACKS[stack](), SHAPE, device=device, precision=precision, **options)
    for layer in network.layers:
        if isinstance(layer, Scale):
            layer.variance = np.array([0.04])
        if isinstance(layer, BatchNorm):
            layer.mean, layer.variance = layer.mean + 0.1, 2 * layer.variance
        if isinstance(layer, Whiten):
            layer.mean = layer.mean + 0.1
        if isinstance(layer, Whiten) and layer.epsilon is not None:
            layer.matrix = np.random.default_rng(1).normal(size=layer.matrix.shape).astype(layer.matrix.dtype)
    return network


def one_by_one(monkeypatch, network, images, layer=None):
    """Return the output without chains."""
    with monkeypatch.context() as patch:
        patch.setattr(Graph, "chains", lambda self, first, lasts: {})
        network._pipeline._forget()
        found = network.transform(images, layer)
    network._pipeline._forget()
    return found


def close(actual, expected, precision="float64"):
    assert actual.shape == expected.shape
    exact = 1e-12 if precision == "float64" else 2e-5
    np.testing.assert_allclose(actual, expected, rtol=exact, atol=exact * np.abs(expected).max())


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("cache_bytes", [1, 2**21])
@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("stack", STACKS)
def test_a_chain_is_its_layers(stack, precision, cache_bytes, threads, monkeypatch, tune, generator):
    monkeypatch.setattr(parallel, "threads", lambda: threads)
    tune(cache_bytes=cache_bytes, cache_patches=1, thread_patches=1, thread_products=1, split_numbers=1)
    network, images = made(stack, precision), generator.random((9, *SHAPE))
    before = images.copy()
    assert network.graph.chains(0, [len(network)])
    for name in (None, *network.names[1:-1]):
        close(network.transform(images, name), one_by_one(monkeypatch, network, images, name), precision)
    np.testing.assert_array_equal(images, before)


@pytest.mark.parametrize("stack", ["dictionary", "no learner", "whitened"])
def test_cudas_kernels_do_the_same(stack, few_threads, monkeypatch, generator):
    images = generator.random((2, 7, 6, 3))
    network = Network(STACKS[stack](), images.shape[1:], device="cpu", precision="float64")
    expected = one_by_one(monkeypatch, network, images)
    monkeypatch.setattr(kernels, "for_device", lambda device: few_threads)
    close(network.transform(images), expected)


def test_parameters_that_are_set_take_effect(monkeypatch, generator):
    network, images = made("dictionary"), generator.random((4, *SHAPE))
    first = network.transform(images)
    network["scale1"].variance = np.array([0.3])
    network["split1"].threshold = 0.1
    second = network.transform(images)
    assert np.abs(second - first).max() > 0.01
    close(second, one_by_one(monkeypatch, network, images))
    network["scale1"].variance = np.zeros(1)  # numbers that do not vary stay as they are
    close(network.transform(images), one_by_one(monkeypatch, network, images))


def test_a_whitening_that_is_set_takes_effect(monkeypatch, generator):
    network, images = made("whitened"), generator.integers(0, 256, (4, *SHAPE), dtype=np.uint8)
    outputs = [network.transform(images)]
    for name, value in (("mean", 0.3 * generator.random(27)), ("matrix", generator.random((27, 27)))):
        setattr(network["whiten1"], name, value)
        outputs.append(network.transform(images))
        assert np.abs(outputs[-1] - outputs[-2]).max() > 0.01
        close(outputs[-1], one_by_one(monkeypatch, network, images))


def test_a_whitening_goes_into_units_where_that_is_less_work():
    def chains(*layers):
        network = Network([*layers, Relu()], SHAPE, device="cpu")
        return network.graph.chains(0, [len(network)])

    assert chains(Whiten(3), Conv(88, 1)) == {0: 2}
    assert chains(Whiten(3), Conv(89, 1)) == {1: 2}  # of an image there are 88 patches
    assert chains(Whiten(3, components=3), Conv(3, 1)) == {0: 2}
    assert chains(Whiten(3, components=3), Conv(4, 1)) == {1: 2}  # 27 · 4 multiplications for 3 · (27 + 4)
    assert chains(Whiten(3, centre=True), Conv(9, 1)) == {1: 2}
    assert chains(Whiten(3), Conv(4, 1, response="cosine")) == {1: 2}  # needs the whitened patches' norms
    for other in (Conv(4, 2), Conv(4, 1, stride=2), Conv(4, 1, padding=1), Dense(4)):
        assert chains(Whiten(3), other) == {1: 2}
    assert chains(Whiten(contrast=None), Dense(1)) == {0: 2}
    network = made("whitened")
    assert network.graph.chains(0, [1, 5]) == {1: 4}
    assert network.graph.chains(0, [2]) == {0: 1}
    branches = hebbcore.Branches([Conv(4, 1)], [Conv(3, 1)])
    assert chains(Whiten(3), branches) == {}  # two read it


def test_what_others_read_or_is_wanted_is_in_no_chain():
    graph = made("dictionary").graph
    assert graph.chains(0, [5]) == {0: 4}
    assert graph.chains(0, [1, 5]) == {1: 4}
    assert graph.chains(0, [4, 3]) == {0: 2}
    assert graph.chains(2, [5]) == {2: 4}
    branches = hebbcore.Branches([Relu(), Split()], [Power(), Scale(), Split()])
    graph = Graph([Conv(4, 1), Scale(), branches, Relu(), Pool(2)])
    assert graph.chains(0, [len(graph.layers)]) == {0: 1, 2: 3, 4: 6, 8: 9}


def test_no_map_of_a_batch_is_made(generator):
    stack = [Conv(200, 3, "signedwta", response="cosine"), Scale(), Split(0.25), GaussianPool(6), Power(0.5)]
    network = Network(stack, (20, 20, 3), device="cpu", workspace="4 MiB")
    images = generator.random((60, 20, 20, 3), np.float32)
    whole_map = 60 * 18 * 18 * 200 * 4
    network.transform(images[:2])
    network._pipeline._forget()
    network.site.memories.clear()
    tracemalloc.start()
    out = network.transform(images)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * 2**20 + 3 * out.nbytes + 2**17 < whole_map
    assert sum(buffer.nbytes for buffer in network._pipeline._buffers) == out.nbytes


@pytest.mark.parametrize("stack", ["dictionary", "codes", "pooled", "split twice"])
def test_layers_of_large_images_are_done_one_by_one(stack, generator):
    images = generator.random((3, *SHAPE))
    network = made(stack, workspace="6 KiB" if stack != "codes" else "9 KiB")
    steps = network._pipeline._steps(0, (len(network),), None, True)
    assert any(step.last == step.layer for step in steps)
    close(network.transform(images), made(stack).transform(images))
