"""Whole networks: steps against an oracle composed of the slow references, features, names, memory, errors."""

import re
import tracemalloc

import numpy as np
import pytest
import reference

import hebbcore
from hebbcore import HPCA, KWTA, SWTA, BatchNorm, Conv, Dense, Flatten, Network, Pool, SoftHebb, Triangle, Whiten
from hebbcore.engine import parallel

RATE = 0.05


class Oracle:
    """A network as a list of steps in float64: (kind, parameters), each the slow reference's."""

    def __init__(self, steps, weights):
        self.steps, self.weights = steps, [w.astype(np.float64) for w in weights]
        self.running = {}

    def step(self, x, training):
        """Return the output of every step for a batch; training: change weights and running statistics."""
        outputs, learners = [], iter(range(len(self.weights)))
        for i, (kind, options) in enumerate(self.steps):
            if kind in reference.RULES:
                x = self._learn(next(learners), x, kind, dict(options), training)
            elif kind == "norm":
                mean, variance = self.running.get(i, (np.zeros(x.shape[-1]), np.ones(x.shape[-1])))
                x, mean, variance = reference.batch_norm(x, mean, variance, training=training, **options)
                self.running[i] = mean, variance
            else:
                x = getattr(reference, kind)(x, **options)
            outputs.append(x)
        return outputs

    def _learn(self, number, x, rule, options, training):
        before = self.weights[number]
        convolution = {k: options.pop(k) for k in ("stride", "padding", "padding_mode") if k in options}
        if before.ndim == 2:
            x = x.reshape(len(x), -1)
        if training:
            rate = options.pop("rate", RATE)
            self.weights[number] = reference.step(x, before, rule, rate, **convolution, **options)
        options = {k: v for k, v in options.items() if k != "rate"}
        pixels = x / 255 if x.dtype == np.uint8 else x
        rows = pixels if before.ndim == 2 else reference.patches(x, before.shape[1:3], **convolution)
        out = reference.output(rows, before.reshape(len(before), -1), rule, **options)
        if before.ndim == 2:
            return out
        sides = [  # the definition of a convolution
            (side + 2 * convolution.get("padding", 0) - kernel) // convolution.get("stride", 1) + 1
            for side, kernel in zip(x.shape[1:3], before.shape[1:3], strict=True)
        ]
        return out.reshape(len(x), *sides, len(before))


def fasthebb(rule, name, **options):
    """Return the layers, and the oracle's steps, of a small FastHebb network: 12×11×2 images."""
    layers = [
        Conv(4, 3, rule), Pool(2), BatchNorm(),
        Conv(5, 2, rule, stride=2, padding=1, learning_rate=0.02), BatchNorm(modified=True), Dense(6, rule),
        BatchNorm(modified=True),
    ]  # fmt: skip
    steps = [
        (name, options), ("max_pool", {"window": 2}), ("norm", {}),
        (name, options | {"stride": 2, "padding": 1, "rate": 0.02}), ("norm", {"modified": True}), (name, options),
        ("norm", {"modified": True}),
    ]  # fmt: skip
    return layers, steps


def softhebb():
    """Return the layers, and the oracle's steps, of a small SoftHebb network."""
    first, second = SoftHebb(temperature=1.0, adaptive_power=0.5), SoftHebb(temperature=2.0, adaptive_power=0.75)
    layers = [
        BatchNorm(), Conv(5, 3, first, padding=1, padding_mode="reflect"), Triangle(0.7), Pool(4, 2, 1),
        BatchNorm(), Conv(6, 3, second, padding=1, padding_mode="reflect"), Triangle(1.4), Pool(2, kind="average"),
    ]  # fmt: skip
    reflect = {"padding": 1, "padding_mode": "reflect"}
    steps = [
        ("norm", {}), ("softhebb", {"temperature": 1.0, "adaptive_power": 0.5, **reflect}),
        ("triangle", {"power": 0.7}), ("max_pool", {"window": 4, "stride": 2, "padding": 1}),
        ("norm", {}), ("softhebb", {"temperature": 2.0, "adaptive_power": 0.75, **reflect}),
        ("triangle", {"power": 1.4}), ("average_pool", {"window": 2}),
    ]  # fmt: skip
    return layers, steps


NETWORKS = {
    "hpca": lambda: fasthebb(HPCA(), "hpca"),
    "swta": lambda: fasthebb(SWTA(0.05), "swta", temperature=0.05),
    "kwta": lambda: fasthebb(KWTA(2), "kwta", k=2),
    "softhebb": softhebb,
}


def pixels(generator, dtype, n=11, shape=(8, 7, 2)):
    images = generator.integers(0, 256, (n, *shape)).astype(np.uint8)
    return images if dtype == np.uint8 else (images / 255).astype(dtype)


def made(name, precision="float64", **options):
    layers, steps = NETWORKS[name]()
    network = Network(layers, (8, 7, 2), seed=3, device="cpu", precision=precision, **options)
    weights = [layer.weights for layer in network.learners.values()]
    return network, Oracle(steps, weights)


def close(actual, expected, precision="float64"):
    exact = 1e-10 if precision == "float64" else 3e-3
    assert np.shape(actual) == np.shape(expected)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=exact * max(1e-30, np.abs(expected).max()))


def same_state(network, oracle, precision="float64"):
    for layer, expected in zip(network.learners.values(), oracle.weights, strict=True):
        close(layer.weights, expected, precision)
    norms = [layer for layer in network.layers if isinstance(layer, BatchNorm)]
    assert len(norms) == len(oracle.running)
    for layer, (mean, variance) in zip(norms, oracle.running.values(), strict=True):
        close(layer.mean, mean, precision)
        close(layer.variance, variance, precision)


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
    tune(split_numbers=1, thread_patches=16)
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


# Features


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.float32, np.float64])
def test_features_of_several_layers_are_those_of_each(name, dtype, generator):
    network, _ = made(name, "float32")
    images = pixels(generator, dtype)
    given = images.copy()
    network.run(images.astype(np.float32), 0, len(network), training=True)  # so that norms do something
    alone = {layer: network.transform(images, layer) for layer in network.names}
    np.testing.assert_array_equal(network.transform(images), alone[network.names[-1]])
    for several in (network.names, network.names[::-1], [network.names[-1], network.names[1], network.names[1]]):
        features = network.features(images, several)
        assert set(features) == set(several)
        for layer, feature in features.items():
            assert feature.shape == (11, *network.shapes[network.names.index(layer)])
            assert feature.dtype == np.float32
            np.testing.assert_array_equal(feature, alone[layer])
    np.testing.assert_array_equal(images, given)


@pytest.mark.parametrize("name", NETWORKS)
def test_sub_batches_give_the_whole(name, generator):
    network, _ = made(name)
    images = pixels(generator, np.uint8)
    whole = network.features(images, network.names)
    for most in (1, 4 * network.image_bytes(), 10 * network.image_bytes()):  # 1, 4 and 10 images at a time
        for layer, feature in network.features(images, network.names, workspace=most).items():
            close(feature, whole[layer])


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("workspace", [1, "64 MiB"])
def test_mirrored_features_are_the_mean_over_both_images(name, workspace, generator):
    network, _ = made(name)
    images = pixels(generator, np.uint8)
    given = images.copy()
    found = network.features(images, network.names, mirror=True, workspace=workspace)
    there, mirrored = (network.features(view, network.names) for view in (images, np.flip(images, axis=2).copy()))
    for layer, features in found.items():
        close(features, (there[layer] + mirrored[layer]) / 2)
        np.testing.assert_array_equal(network.transform(images, layer, mirror=True, workspace=workspace), features)
    np.testing.assert_array_equal(images, given)
    close(network.transform(np.flip(images, axis=2), mirror=True), found[network.names[-1]])


def test_vectors_have_no_mirror_image(generator):
    with pytest.raises(ValueError, match="evaluate: the network has no weights yet"):
        Network([Conv(3, 2)]).require_mirror("evaluate")
    network = Network([Dense(3)], (5,))
    with pytest.raises(ValueError, match=r"transform: mirror is for images, but the network takes vectors \(5,\)"):
        network.transform(generator.normal(size=(2, 5)), mirror=True)
    with pytest.raises(TypeError, match="transform: mirror must be true or false, got 1"):
        network.transform(generator.normal(size=(2, 5)), mirror=1)


@pytest.mark.parametrize("name", NETWORKS)
def test_image_bytes_are_what_a_run_keeps(name, generator):
    network, _ = made(name)
    network.run(pixels(generator, np.uint8), 0, len(network))
    assert (
        sum(buffer.nbytes for buffer in network._pipeline._buffers if buffer is not None) == 11 * network.image_bytes()
    )


def test_a_result_is_not_overwritten_by_the_next(generator):
    network, _ = made("softhebb")
    images = pixels(generator, np.float64)
    first = network.transform(images)
    kept = first.copy()
    network.transform(images[::-1])
    np.testing.assert_array_equal(first, kept)


def test_views_lists_and_strides_of_images(generator):
    network, _ = made("hpca")
    images = pixels(generator, np.float64)
    expected = network.transform(images)
    close(network.transform(images.tolist()), expected)
    close(network.transform(np.asfortranarray(images)), expected)
    close(network.transform(np.moveaxis(np.ascontiguousarray(np.moveaxis(images, 3, 1)), 1, 3)), expected)
    close(network.transform(images[::-2]), expected[::-2])
    images.flags.writeable = False
    close(network.transform(images), expected)


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize(
    "layers",
    [
        lambda: [BatchNorm(), Conv(4, 3), Pool(2)], lambda: [Conv(16, 3), Pool(2), BatchNorm()],
        lambda: [Conv(1, 8, stride=8)],
    ],
)  # fmt: skip
def test_memory_of_transform_does_not_grow_with_the_images(layers, mirror):
    network = Network(layers(), (16, 16, 3), device="cpu", workspace="2 MiB")
    images = np.ones((3000, 16, 16, 3), np.uint8)  # the outputs of all layers for all of them would be 18 MiB or more
    for part in (images[:50], images):  # the first compiles
        network._pipeline._forget()
        tracemalloc.start()
        out = network.transform(part, workspace="2 MiB", mirror=mirror)
        peak = tracemalloc.get_traced_memory()[1] - out.nbytes
        tracemalloc.stop()
    # outputs of layers, the network's own workspace, and what the objects take
    assert peak < 2 * 2**21 + 2**17


# Errors


def raises(error, message):
    return pytest.raises(error, match=f"^{re.escape(message)}$")


def test_impossible_layers():
    twice = Conv(3, 3)
    for layers, error, message in (
        ([], ValueError, "Network: layers must not be empty."),
        (["conv"], TypeError, "Network: layers must be hebbcore layers such as Conv(…), got 'conv'."),
        ([twice, twice], ValueError, "Network: a layer appears twice; make a new one for each place."),
        ([Conv(3, 3, name="a"), Pool(2, name="a")], ValueError,
         "Network: two layers are named 'a'; names must differ."),
        ([Conv(3, 3, name="a/b")], ValueError, "Network: a layer's name must be letters, digits, - and _, got 'a/b'."),
    ):  # fmt: skip
        with raises(error, message):
            Network(layers, (8, 8, 3), device="cpu")
    with raises(ValueError, "Network: image_shape must be (height, width, channels) or (features,), got (8, 8)."):
        Network([Conv(3, 3)], (8, 8), device="cpu")
    with raises(TypeError, "Network: image_shape must be (height, width, channels) or (features,), got 8."):
        Network([Dense(3)], 8, device="cpu")
    with raises(ValueError, 'Network: precision \'bf16\' needs CUDA; on the CPU use "float32" or "float64".'):
        Network([Dense(3)], (8,), device="cpu", precision="bf16")


def test_a_layer_of_another_network_is_refused():
    layer = Conv(3, 3)
    Network([layer], (8, 8, 3), device="cpu")
    weights = layer.weights
    with raises(ValueError, "Network: conv1 has weights of another network; make new layers for each."):
        Network([Pool(2), layer], (8, 8, 3), device="cpu", seed=5)
    assert layer.weights is weights


def test_a_network_that_is_not_built():
    network = Network([Conv(3, 3)], device="cpu")
    rest = "the network has no weights yet; give Network an image_shape, build it, or train it."
    for name, use in (
        ("transform", lambda: network.transform(np.ones((1, 8, 8, 3)))),
        ("Network.summary", network.summary),
        ("Network.parameters", lambda: network.parameters),
    ):
        with raises(ValueError, f"{name}: {rest}"):
            use()
    network.build((8, 8, 3))
    with raises(ValueError, "Network.build: it is built already, for images of (8, 8, 3); make a new one."):
        network.build((8, 8, 3))


def test_a_network_that_failed_to_build_can_be_built_for_other_images():
    network = Network([Conv(3, 3), Pool(2)], device="cpu")
    with pytest.raises(ValueError, match=r"^Network: pool1: window \(2, 2\) is larger"):
        network.build((3, 3, 1))
    network.build((6, 6, 1))
    assert network.shapes == [(4, 4, 3), (2, 2, 3)]


def test_training_builds_a_network_for_its_images(generator):
    network = Network([Conv(3, 3)], device="cpu")
    hebbcore.fit(network, pixels(generator, np.uint8))
    assert network.image_shape == (8, 7, 2)


def test_images_that_do_not_fit():
    network = Network([Conv(3, 3), Dense(2)], (8, 7, 2), device="cpu")
    fit = "transform: images must be (n, 8, 7, 2), as the network was made for, got shape {}; images are channels-last."
    for shape in ((4, 2, 8, 7), (4, 8, 7, 3), (4, 112), (1, 9, 7, 2)):
        with raises(ValueError, fit.format(shape)):
            network.transform(np.ones(shape, np.float32))
    with raises(
        ValueError,
        "transform: images must be (n, height, width, channels) or (n, features), got shape (8, 7, 2). "
        "Stack images into one array; a single image is images[None].",
    ):
        network.transform(np.ones((8, 7, 2)))
    with raises(ValueError, "transform: images must not be empty, got shape (0, 8, 7, 2)."):
        network.transform(np.ones((0, 8, 7, 2)))
    with pytest.raises(TypeError, match=r"^transform: images must be uint8 .*, got int32; "):
        network.transform(np.ones((1, 8, 7, 2), np.int32))
    vectors = Network([Dense(2)], (9,), device="cpu")
    with raises(
        ValueError,
        "transform: images must be (n, 9), as the network was made for, got shape (4, 1, 1, 9); "
        "images are channels-last.",
    ):
        vectors.transform(np.ones((4, 1, 1, 9)))


def test_an_unknown_layer():
    network = Network([Conv(3, 3), Dense(2)], (8, 7, 2), device="cpu")
    message = "layer must be one of 'conv1', 'fc2'; got 'conv2'. Did you mean 'conv1'?"
    with raises(ValueError, "transform: " + message):
        network.transform(np.ones((1, 8, 7, 2)), "conv2")
    with raises(ValueError, "Network: " + message):
        network["conv2"]
