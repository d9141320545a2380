"""Layers, images and names that do not fit a network are refused in words that help."""

import re
import tracemalloc

import numpy as np
import pytest
from network_helpers import pixels

import hebbcore
from hebbcore import BatchNorm, Conv, Dense, GaussianPool, Network, Nystrom, Pool


def raises(error, message):
    return pytest.raises(error, match=f"^{re.escape(message)}$")


def test_impossible_layers():
    twice = Conv(3, 3)
    for layers, error, message in (
        ([], ValueError, "Network: layers must not be empty."),
        (Conv(4, 3), TypeError,
         "Network: layers must be a list of layers, got Conv; a single layer goes into brackets."),
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
    with raises(ValueError, "Network: conv1 was built for another network; make new layers for each."):
        Network([Pool(2), layer], (8, 8, 3), device="cpu", seed=5)
    assert layer.weights is weights


def test_a_layer_without_units_of_another_network_is_refused(generator):
    """It began anew, and the network that had it put out other numbers, or NaN, without a word."""
    images = generator.normal(size=(20, 8, 8, 2)) + 1
    layers = [Conv(3, 3, response="cosine-exp"), Nystrom(), BatchNorm(), GaussianPool(2), Pool(2)]
    network = hebbcore.fit(Network(layers, device="cpu"), images)
    expected = network.transform(images)
    for layer in layers[1:]:
        for shape in (None, (6, 6, 3)):
            with raises(ValueError, f"Network: {layer.name} was built for another network; make new layers for each."):
                Network([Conv(3, 1, response="cosine-exp"), layer], shape, device="cpu")
    np.testing.assert_array_equal(network.transform(images), expected)
    shared = [Conv(3, 3), BatchNorm()]
    first, second = Network(shared, device="cpu"), Network(shared, device="cpu")
    first.build((8, 8, 2))
    with raises(ValueError, "Network: conv1 was built for another network; make new layers for each."):
        second.build((8, 8, 2))


def test_a_network_that_is_not_built():
    network = Network([Conv(3, 3)], device="cpu")
    rest = "the network has no weights yet; give Network an image_shape, build it, or train it."
    for name, use in (
        ("transform", lambda: network.transform(np.ones((1, 8, 8, 3)))),
        ("Network.summary", network.summary),
        ("Network.gflop", network.gflop),
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
    for shape in ((4, 8, 7, 3), (4, 112), (1, 9, 7, 2)):
        with raises(ValueError, fit.format(shape)):
            network.transform(np.ones(shape, np.float32))
    turned = np.ones((4, 2, 8, 7), np.float32)
    message = f"{fit.format(turned.shape)} np.moveaxis(images, 1, -1) turns channels-first ones."
    with raises(ValueError, message):
        network.transform(turned)
    with raises(ValueError, message.replace("transform", "fit")):  # no advice to make another network
        hebbcore.fit(network, turned)
    with raises(
        ValueError,
        "transform: images must be (n, height, width, channels) or (n, features), got shape (8, 7, 2). "
        "Stack images into one array; a single image is images[None], and images without channels are "
        "images[..., None].",
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


EIGHT = np.zeros((2, 8, 8, 3), np.float32)


def built(layer, shape=(8, 8, 3)):
    return hebbcore.Network([layer], shape, device="cpu")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: built(hebbcore.Conv(4, 3, padding=10**6)), "Network: conv1: with padding 1000000×1000000 the 4,000,"),
        (lambda: built(hebbcore.Whiten(3, padding=10**6)), "Network: whiten1: with padding 1000000×1000000 the"),
        (lambda: built(hebbcore.Conv(4, 3, padding=10**5)), "Network: conv1: with padding 100000×100000 the"),
        (lambda: built(hebbcore.Conv(10**11, 3)), "Network: conv1's output for an image takes .* use fewer units"),
        (lambda: built(hebbcore.Dense(10**6)), "Network: fc1: the weights 1000000 × 192 take .* use fewer units"),
        (lambda: built(hebbcore.Relu(), shape=(10**6, 10**6, 3)), "Network: relu1's output .* or smaller images"),
        (lambda: hebbcore.im2col(EIGHT, 3, padding=10**6), "im2col: with padding .* use less padding"),
        (lambda: hebbcore.train_layer(EIGHT, 4, 3, padding=10**6), "train_layer: with padding .* use less padding"),
        (lambda: hebbcore.train_layer(EIGHT, 10**11, 3), r"train_layer: the weights 100000000000 × 3 .* fewer units"),
    ],
)
def test_what_no_memory_holds_is_refused_before_it_is_asked_for(make, message, monkeypatch):
    monkeypatch.setattr("hebbcore.engine.devices.total_bytes", lambda device: 2**30)
    tracemalloc.start()
    with pytest.raises(ValueError, match=f"^{message}.*") as caught:
        make()
    assert tracemalloc.get_traced_memory()[1] < 2**24
    tracemalloc.stop()
    assert "and the memory is" in str(caught.value)


def test_memory_that_a_machine_has_is_not_refused(monkeypatch):
    monkeypatch.setattr("hebbcore.engine.devices.total_bytes", lambda device: 4 * 6 * 6 * 8)
    assert built(hebbcore.Conv(1, (3, 3)), shape=(8, 8, 1)).image_shape == (8, 8, 1)
    monkeypatch.setattr("hebbcore.engine.devices.total_bytes", lambda device: 4 * 6 * 6 - 1)
    with pytest.raises(ValueError, match="the memory is 143 B"):
        built(hebbcore.Conv(1, (3, 3)), shape=(8, 8, 1))
