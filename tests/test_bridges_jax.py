"""Networks as functions for JAX: the same numbers, compiled and not, and gradients."""

import numpy as np
import pytest
from formula_helpers import LAYERS, RULES, assert_same, large_dictionary, learned_layer, network_by, small_preset

import hebbcore
from hebbcore.bridges.jax import to_function

jax = pytest.importorskip("jax", reason="needs JAX")


@pytest.mark.parametrize(("name", "shape", "parameters"), LAYERS)
def test_a_layer(name, shape, parameters):
    network, images = learned_layer(name, shape, parameters)
    function, arrays = to_function(network)
    assert_same(np.asarray(jax.jit(function)(arrays, images)), network.transform(images))


@pytest.mark.parametrize(("rule", "parameters", "linear"), RULES[::2])
def test_a_rule(rule, parameters, linear):
    network, images = network_by(rule, parameters, linear)
    layer = network["conv1"].as_layer()
    function, arrays = to_function(layer)
    assert sorted(arrays) == sorted(["weights", *(f"state_{name}" for name in layer.rule.initial_state())])
    assert_same(np.asarray(jax.jit(function)(arrays, images)), layer.transform(images))


def test_the_dictionary():
    network, images = small_preset("dictionary")
    function, arrays = to_function(network, "gaussianpool2", mirror=True)
    expected = network.transform(images, "gaussianpool2", mirror=True)
    assert_same(np.asarray(jax.jit(function)(arrays, images)), expected)
    slopes = jax.jit(jax.grad(lambda arrays: function(arrays, images).sum()))(arrays)
    assert all(bool(jax.numpy.isfinite(leaf).all()) for leaf in jax.tree.leaves(slopes))
    assert float(abs(slopes["conv1"]["weights"]).max()) > 0


def test_the_dictionary_of_large_images():
    network, images = large_dictionary()
    function, arrays = to_function(network, "branches2")
    assert_same(np.asarray(jax.jit(function)(arrays, images)), network.transform(images, "branches2"))


def test_channels_first_and_what_is_refused():
    network = hebbcore.Network([hebbcore.Conv(3, 2)], (4, 5, 2), device="cpu", precision="float64")
    images = np.random.default_rng(0).random((3, 4, 5, 2))
    function, arrays = to_function(network, channels="first")
    assert_same(np.moveaxis(np.asarray(function(arrays, np.moveaxis(images, 3, 1))), 1, 3), network.transform(images))
    with pytest.raises(ValueError, match=r"^to_function: channels must be one of"):
        to_function(network, channels="middle")


@pytest.mark.parametrize("mirror", [False, True])
def test_images_that_transform_refuses_are_refused(mirror):
    images = np.random.default_rng(0).random((4, 6, 6, 2)).astype(np.float32)
    network = hebbcore.Network([hebbcore.Conv(3, 3), hebbcore.GridPool(2)], (6, 6, 2), device="cpu")
    function, arrays = to_function(network, mirror=mirror)
    for other in (np.zeros((4, 14, 14, 2)), images[..., :1], images[0], images.reshape(4, -1)):
        with pytest.raises(ValueError, match=r"^to_function: images must be \(n, 6, 6, 2\), as the model was made for"):
            jax.jit(function)(arrays, other)
    for dtype in (np.int32, bool):  # as whole numbers they would be read as they are
        with pytest.raises(TypeError, match=r"^to_function: images must be uint8 \(read as 0…1\) or floating, got"):
            function(arrays, images.astype(dtype))
    assert function(arrays, images.astype(np.float16)).shape == (4, 2, 2, 3)
    assert jax.vmap(lambda image: function(arrays, image[None])[0])(images).shape == (4, 2, 2, 3)


def test_a_layer_alone_takes_images_of_any_size():
    layer = hebbcore.train_layer(np.random.default_rng(0).random((4, 6, 6, 2)), 3, 3, device="cpu")
    function, arrays = to_function(layer, channels="first")
    assert function(arrays, np.zeros((1, 2, 9, 7))).shape == (1, 3, 7, 5)
    with pytest.raises(ValueError, match=r"images must be \(n, 2, height, width\), as the model was made for"):
        function(arrays, np.zeros((1, 9, 7, 2)))
    with pytest.raises(ValueError, match=r"^to_function: kernel_size 3×3 is larger than the padded image 2×7"):
        function(arrays, np.zeros((1, 2, 2, 7)))


def test_a_function_is_of_what_the_network_was():
    """Also for images of another number, for which JAX goes through the function anew."""
    network = hebbcore.Network([hebbcore.Conv(3, 2, linear=True), hebbcore.Split(0.1)], (4, 5, 2), device="cpu")
    images = np.random.default_rng(0).random((3, 4, 5, 2)).astype(np.float32)
    function, arrays = to_function(network)
    function, expected = jax.jit(function), network.transform(images)
    assert_same(np.asarray(function(arrays, images)), expected)
    network["split1"].threshold = 0.5
    assert_same(np.asarray(function(arrays, images[:2])), expected[:2])


def test_channels_of_vectors_are_refused():
    network = hebbcore.Network([hebbcore.Dense(2)], (3,), device="cpu")
    with pytest.raises(ValueError, match=r'^to_function: channels="first" has no effect: the model takes vectors'):
        to_function(network, channels="first")


def test_nan_stays():
    network = hebbcore.Network([hebbcore.Conv(3, 2), hebbcore.Relu(0.5)], (4, 4, 2), device="cpu")
    images = np.ones((2, 4, 4, 2), np.float32)
    images[1, 0, 0] = np.nan
    function, arrays = to_function(network)
    np.testing.assert_array_equal(np.isnan(function(arrays, images)), np.isnan(network.transform(images)))
