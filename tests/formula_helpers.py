"""Networks of every layer, rule and preset, for the tests of what is made of formulas."""

import dataclasses

import numpy as np
import pytest
import reference
from test_every_layer import EXAMPLES, learned

import hebbcore
from hebbcore.layers import Learner
from hebbcore.layers.branches import with_changes
from hebbcore.presets import PRESETS, preset_layers

LAYERS = EXAMPLES  # of learned_layer
RULES = [
    pytest.param(name, parameters, linear, id=f"{name} {parameters} {'linear' if linear else ''}")
    for name in hebbcore.RULES
    for parameters in reference.variants(name)
    for linear in (False, True)
]
SIDES = {"softhebb-imagenet": 80, "softhebb-stl": 48, **dict.fromkeys(("vgg11", "vgg13", "vgg16", "vgg19"), 32)}


def learned_layer(name, shape, parameters, precision="float32"):
    """Return a network of such a layer, behind those it needs, and images, some of them black."""
    network, images = learned(name, shape, parameters, np.random.default_rng(0), precision)
    return network, np.concatenate([images, np.zeros_like(images[:1])]).astype(np.float32)


def network_by(rule, parameters, linear):
    """Return a network of units that learn by a rule, and images."""
    layer = hebbcore.Conv(4, (2, 3), hebbcore.RULES[rule](**parameters), linear=linear, learning_rate=0.1)
    network = hebbcore.Network([layer], (5, 6, 2), device="cpu")
    if layer.rule.initial_state():
        hebbcore.fit(network, np.random.default_rng(1).normal(size=(20, 5, 6, 2)))
    return network, np.random.default_rng(0).normal(size=(3, 5, 6, 2)).astype(np.float32)


def small_preset(name):
    """Return a preset with a sixteenth of its units, whose layers have statistics of images, and uint8 images."""

    def fewer(layers):
        return [
            dataclasses.replace(layer, units=max(4, layer.units // 16)) if isinstance(layer, Learner) else layer
            for layer in layers
        ]

    layers, shape = preset_layers(name)
    side = SIDES.get(name, shape[0])
    images = np.random.default_rng(0).integers(0, 256, (6, side, side, 3), np.uint8)
    images[0] = 0
    if name == "dictionary":
        layers, options = preset_layers(name, units=(8, 16, 16, 12))[0], {"mode": "layerwise"}
    else:
        layers, options = with_changes(layers, fewer), {}
    network = hebbcore.Network(layers, images.shape[1:], device="cpu")
    hebbcore.fit(network, images, batch_size=3, **options)
    return network, images


def large_dictionary():
    """Return the dictionary for images that layer 1 sees at two scales, of odd sides, and uint8 images."""
    images = np.random.default_rng(0).integers(0, 256, (3, 99, 101, 3), np.uint8)
    network = hebbcore.preset("dictionary", image_shape=images.shape[1:], units=(8, 6, 6, 4), device="cpu")
    return hebbcore.fit(network, images, epochs=1), images


PRESETS = list(PRESETS)


def assert_same(found, expected, exact=1e-5):
    """Compare with what a network puts out, in units of its largest entry."""
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=0, atol=exact * max(1e-30, np.abs(expected).max()))
