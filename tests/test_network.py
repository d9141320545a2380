"""Whole networks: steps against an oracle composed of the slow references, names, seeds."""

import numpy as np
import pytest
import reference
from network_helpers import NETWORKS, RATE, Oracle, close, fasthebb, made, pixels, same_state, softhebb

import hebbcore
from hebbcore import HPCA, SWTA, BatchNorm, Conv, Dense, Flatten, Network, Pool, Triangle, Whiten
from hebbcore.engine import parallel

# Steps


@pytest.mark.parametrize("dtype", [np.uint8, np.float64])
@pytest.mark.parametrize("name", NETWORKS)
def test_layers_learn_together_from_one_forward_pass(name, dtype, generator):
    network, oracle = made(name)
    images = pixels(generator, dtype)
    given = images.copy()
    for first in (0, 4, 8):  # the last batch is smaller
        outputs = {}

        def learn(i, x, out, outputs=outputs):
            layer = network.layers[i]
            layer.learn(x, out, layer.learning_rate or RATE, False)
            outputs[i] = out.copy()

        x = images[first : first + 4]
        last = network.run(x, 0, len(network), training=True, learn=learn)
        expected = oracle.step(x, training=True)
        close(last.reshape(expected[-1].shape), expected[-1])
        assert set(outputs) == {i for i, (kind, _) in enumerate(oracle.steps) if kind in reference.RULES}
        for i, out in outputs.items():
            close(out.reshape(expected[i].shape), expected[i])  # by the weights from before the step
        same_state(network, oracle)
    features = network.features(images, network.names)
    for feature, slow in zip(features.values(), oracle.step(images, training=False), strict=True):
        close(feature, slow)
    same_state(network, oracle)  # transforming changes nothing
    np.testing.assert_array_equal(images, given)


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("name", NETWORKS)
def test_fit_in_order_makes_the_same_steps(name, precision, generator):
    network, oracle = made(name, precision)
    images = pixels(generator, precision)
    hebbcore.fit(network, images, epochs=2, batch_size=4, shuffle=False, learning_rate=RATE)
    for _ in range(2):
        for first in (0, 4, 8):
            oracle.step(images[first : first + 4], training=True)
    same_state(network, oracle, precision)
    out = network.transform(images)
    assert out.dtype == precision
    close(out, oracle.step(images, training=False)[-1], precision)


@pytest.mark.parametrize("name", ["swta", "softhebb"])
def test_a_step_in_threads_and_small_pieces(name, generator, monkeypatch, tune):
    monkeypatch.setattr(parallel, "threads", lambda: 3)
    tune(split_numbers=1, add_numbers=1, thread_patches=16, thread_products=1)
    network, oracle = made(name, workspace="32 KiB")
    images = pixels(generator, np.float64)
    hebbcore.fit(network, images, batch_size=6, shuffle=False, learning_rate=RATE)
    for x in (images[:6], images[6:]):
        oracle.step(x, training=True)
    same_state(network, oracle)


def test_a_small_network_on_both_kernels(backend_module, generator):
    layers = [Conv(2, 2, SWTA(0.05)), Pool(2), BatchNorm(), Dense(2)]
    steps = [("swta", {"temperature": 0.05}), ("max_pool", {"window": 2}), ("norm", {}), ("hpca", {})]
    network = Network(layers, (3, 3, 1), device="cpu", precision="float64")
    oracle = Oracle(steps, [layers[0].weights, layers[3].weights])
    images = generator.normal(size=(3, 3, 3, 1))
    hebbcore.fit(network, images, batch_size=2, shuffle=False, learning_rate=RATE)
    for x in (images[:2], images[2:]):
        oracle.step(x, training=True)
    same_state(network, oracle)
    close(network.transform(images), oracle.step(images, training=False)[-1])


def test_vectors_through_dense_layers(generator):
    layers = [BatchNorm(), Dense(5, "swta"), Triangle(), Dense(3)]
    network = Network(layers, (6,), device="cpu", precision="float64")
    assert network.names == ["bn1", "fc1", "triangle1", "fc2"]
    oracle = Oracle(
        [("norm", {}), ("swta", {}), ("triangle", {}), ("hpca", {})], [layers[1].weights, layers[3].weights]
    )
    vectors = generator.normal(size=(7, 6))
    before = vectors.copy()
    hebbcore.fit(network, vectors, batch_size=3, shuffle=False, learning_rate=RATE)
    for first in (0, 3, 6):  # the last batch is one row, without a variance
        oracle.step(vectors[first : first + 3], training=True)
    same_state(network, oracle)
    out = network.transform(vectors)
    assert out.shape == (7, 3)
    close(out, oracle.step(vectors, training=False)[-1])
    np.testing.assert_array_equal(vectors, before)


def test_whitening_comes_first_and_then_the_layers_learn(generator):
    layers = [Whiten(2, epsilon=0.01), Conv(3, 1, SWTA(0.05)), Pool(2)]
    network = Network(layers, (5, 5, 1), device="cpu", precision="float64")
    start = layers[1].weights.copy()
    images = pixels(generator, np.uint8, 8, (5, 5, 1))
    hebbcore.fit(network, images, batch_size=4, shuffle=False, learning_rate=RATE)
    seen = reference.contrast_normalised(reference.patches(images, 2), 10 / 255**2)
    mean, matrix = reference.zca(seen, 0.01)
    whitened = ((seen - mean) @ matrix).reshape(8, 4, 4, 4)
    close(network.transform(images, "whiten1"), whitened)
    oracle = Oracle([("swta", {"temperature": 0.05}), ("max_pool", {"window": 2})], [start])
    for x in (whitened[:4], whitened[4:]):
        oracle.step(x, training=True)
    close(layers[1].weights, oracle.weights[0])


# Layers by name


def test_names_by_kind_and_the_learner_before():
    layers, _ = fasthebb(HPCA(), "hpca")
    assert Network(layers, device="cpu").names == ["conv1", "pool1", "bn1", "conv2", "bn2", "fc3", "bn3"]
    layers, _ = softhebb()
    assert Network(layers, device="cpu").names == [
        "bn1", "conv1", "triangle1", "pool1", "bn2", "conv2", "triangle2", "pool2"
    ]  # fmt: skip
    layers = [Flatten(), Dense(3, name="bn2"), BatchNorm(), BatchNorm(), Whiten(name="my-own_1")]
    assert Network(layers, device="cpu").names == ["flatten1", "bn2", "bn1", "bn3", "my-own_1"]
    assert [layer.name for layer in layers] == ["flatten1", "bn2", "bn1", "bn3", "my-own_1"]


def test_summary_and_lookup():
    network, _ = made("hpca")
    shapes = [(6, 5, 4), (3, 2, 4), (3, 2, 4), (2, 2, 5), (2, 2, 5), (6,), (6,)]
    assert network.shapes == shapes
    weights = [4 * 3 * 3 * 2, 5 * 2 * 2 * 4, 6 * 20]
    assert network.parameters == sum(weights)
    assert list(network.learners) == ["conv1", "conv2", "fc3"]
    assert network["fc3"] is network.layers[5]
    assert len(network) == 7
    lines = network.summary().splitlines()
    assert lines[0].split() == ["layer", "output", "weights"]
    assert lines[1].split() == ["conv1", "6", "×", "5", "×", "4", str(weights[0])]
    assert lines[2].split() == ["pool1", "3", "×", "2", "×", "4"]
    assert lines[6].split() == ["fc3", "6", str(weights[2])]
    assert lines[-1].split() == [str(sum(weights))]


def test_the_seed_draws_the_weights():
    def weights(**options):
        network = Network([Conv(3, 2), Conv(3, 2)], device="cpu", **options)
        network.build((5, 5, 3))
        return [layer.weights for layer in network.learners.values()]

    first, again, other = weights(seed=1), weights(seed=1), weights(seed=2)
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])
    assert not np.array_equal(first[0], other[0])
    assert not np.array_equal(first[0], first[1])
