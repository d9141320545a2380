"""Work memory: parts of one block, arrays that grow, and networks whose layers share them."""

import copy
import tracemalloc

import numpy as np
import pytest

import hebbcore
from hebbcore import Conv, Dense, Flatten, Network
from hebbcore.engine.memory import Memory

F32, F64 = np.dtype(np.float32), np.dtype(np.float64)


def test_parts_hold_what_was_asked_for_and_do_not_overlap():
    memory = Memory()
    memory.lay_out("cpu", {"a": 24, "b": 0, "c": 700})
    a, b, c = memory.part("a", (3,), F64), memory.part("b", (0, 5), F32), memory.part("c", (5, 5, 7), F32)
    a[:], c[:] = 1, 2
    assert b.shape == (0, 5)
    np.testing.assert_array_equal(a, [1, 1, 1])
    np.testing.assert_array_equal(memory.part("c", (175,), F32), 2)
    assert c.flags.c_contiguous
    with pytest.raises(ValueError, match="reshape"):
        memory.part("a", (4,), F64)
    with pytest.raises(KeyError):
        memory.part("d", (1,), F64)


def test_a_smaller_layout_uses_the_same_bytes_and_a_larger_one_new_ones():
    memory = Memory()
    memory.lay_out("cpu", {"a": 10_000})
    first = memory.part("a", (2500,), F32)
    memory.lay_out("cpu", {"b": 600, "c": 8})
    assert np.shares_memory(first, memory.part("c", (1,), F64))
    memory.lay_out("cpu", {"a": 20_000})
    assert not np.shares_memory(first, memory.part("a", (5000,), F32))


def test_grown_arrays_outlive_layouts():
    memory = Memory()
    first = memory.grown("sum", (4, 5), F32, "cpu")
    first[:] = 3
    memory.lay_out("cpu", {"a": 1000})
    memory.part("a", (250,), F32)[:] = 0
    np.testing.assert_array_equal(memory.grown("sum", (5, 4), F32, "cpu"), 3)
    assert np.shares_memory(first, memory.grown("sum", (2,), F64, "cpu"))
    assert memory.grown("sum", (4, 5), F64, "cpu").shape == (4, 5)


def test_a_copy_starts_empty():
    memory = Memory()
    memory.lay_out("cpu", {"a": 8})
    with pytest.raises(KeyError):
        copy.deepcopy(memory).part("a", (1,), F64)


@pytest.mark.parametrize("rule", ["hpca", "swta", "kwta", "softhebb"])
def test_the_layers_of_a_network_share_one_workspace(rule, generator):
    workspace = 2**20
    layers = [Conv(8 + 4 * (i % 2), 3, rule, padding=1) for i in range(12)]
    network = Network([*layers, Flatten(), Dense(9, rule)], (20, 20, 3), device="cpu", workspace=workspace)
    images = generator.random((16, 20, 20, 3), np.float32)

    def step():
        learn = lambda i, x, out: network.layers[i].learn(x, out, 1e-3, measure=False)  # noqa: E731
        network.run(images, 0, len(network), training=True, learn=learn)

    step()  # compiles
    network = copy.deepcopy(network)  # without the memory of the step before
    tracemalloc.start()
    step()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    largest = max(layer.weights.nbytes for layer in network.learners.values())
    planned = network.image_bytes() * len(images) + workspace + largest
    assert peak <= planned + 2**17  # small arrays, and objects


def test_layers_that_share_memory_learn_as_layers_alone(generator):
    images = generator.random((10, 9, 9, 3), np.float32)
    network = Network([Conv(7, 3, "hpca"), Conv(5, 2, "swta", padding=1), Dense(20, "hpca")], (9, 9, 3), device="cpu")
    outputs = [images, *(network.transform(images, name) for name in network.names)]
    expected = [
        layer.weights + 0.1 * hebbcore.weight_update(
            given.reshape(len(images), -1) if isinstance(layer, Dense) else given, layer.weights, layer.rule,
            padding=getattr(layer, "padding", 0),
        )
        for layer, given in zip(network.layers, outputs, strict=False)
    ]  # fmt: skip
    network.run(
        images, 0, 3, training=True, learn=lambda i, x, out: network.layers[i].learn(x, out, 0.1, measure=False)
    )
    for layer, weights in zip(network.layers, expected, strict=True):
        np.testing.assert_allclose(layer.weights, weights, rtol=1e-5, atol=1e-6)
