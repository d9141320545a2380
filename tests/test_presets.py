"""Presets: the sizes, parameters and settings of the papers, and every layer learns."""

import dataclasses
import math

import numpy as np
import pytest

import hebbcore
from hebbcore import BatchNorm, Conv, Dense, Pool, Triangle, Whiten, presets
from hebbcore.layers import Learner
from hebbcore.presets import PRESETS

PAPERS = [name for name in PRESETS if name != "dictionary"]  # which test_preset_dictionary.py is about
CLASSES = 1000  # of the classifier that the papers count

# The output of every layer by name, as rules.md lists the networks: conv (the side after it), pool, batch norm.
FASTHEBB_6 = {
    "conv1": (28, 28, 96), "pool1": (14, 14, 96), "bn1": (14, 14, 96),
    "conv2": (12, 12, 128), "bn2": (12, 12, 128),
    "conv3": (10, 10, 192), "pool3": (5, 5, 192), "bn3": (5, 5, 192),
    "conv4": (3, 3, 256), "bn4": (3, 3, 256),
    "fc5": (4096,), "bn5": (4096,),
}  # fmt: skip
FASTHEBB_10 = {
    "conv1": (204, 204, 96), "pool1": (68, 68, 96), "bn1": (68, 68, 96),
    "conv2": (66, 66, 128), "bn2": (66, 66, 128),
    "conv3": (64, 64, 192), "pool3": (32, 32, 192), "bn3": (32, 32, 192),
    "conv4": (30, 30, 192), "bn4": (30, 30, 192),
    "conv5": (28, 28, 256), "pool5": (14, 14, 256), "bn5": (14, 14, 256),
    "conv6": (12, 12, 256), "bn6": (12, 12, 256),
    "conv7": (10, 10, 384), "pool7": (5, 5, 384), "bn7": (5, 5, 384),
    "conv8": (3, 3, 512), "bn8": (3, 3, 512),
    "fc9": (4096,), "bn9": (4096,),
}  # fmt: skip
VGG = {  # channels of the convolutions of the published configurations A, B, D and E, M: a pool
    "vgg11": "64 M 128 M 256 256 M 512 512 M 512 512 M",
    "vgg13": "64 64 M 128 128 M 256 256 M 512 512 M 512 512 M",
    "vgg16": "64 64 M 128 128 M 256 256 256 M 512 512 512 M 512 512 512 M",
    "vgg19": "64 64 M 128 128 M 256 256 256 256 M 512 512 512 512 M 512 512 512 512 M",
}
SOFTHEBB = {
    "softhebb-cifar": {
        "size": 32, "units": (96, 384, 1536), "t": (1, 0.65, 0.25), "rates": (0.08, 0.005, 0.01), "power": 0.5,
        "q": (0.7, 1.4, 1), "pools": ("max", "max", "average"), "sides": (32, 16, 8, 4),
    },
    "softhebb-stl": {
        "size": 96, "units": (96, 384, 1536, 6144), "t": (1, 0.65, 0.45, 0.25), "rates": (0.08, 0.005, 0.01, 0.01),
        "power": 0.5, "q": (0.7, 0.7, 1.4, 1), "pools": ("average", "max", "average", "average"),
        "sides": (96, 48, 24, 12, 6),
    },
    "softhebb-imagenet": {
        "size": 160, "units": (48, 192, 768, 3072, 12288), "t": (1.1, 0.7, 0.5, 0.4, 0.25),
        "rates": (0.08, 0.01, 0.01, 0.01, 0.01), "power": 0.75, "q": (0.7, 0.7, 0.7, 1.4, 1),
        "pools": ("max", "max", "max", "max", "average"), "sides": (160, 80, 40, 20, 10, 5),
    },
}  # fmt: skip


@pytest.fixture
def no_weights(monkeypatch):
    """Build networks without their weights, hundreds of millions in some."""
    monkeypatch.setattr(Learner, "build", lambda self, site, shape, generator: setattr(self, "given", shape))


def shapes_of(network):
    return dict(zip(network.names, network.shapes, strict=True))


def weights_of(network):
    """Return how many weights each learner of a network without weights would have."""
    return {name: math.prod(layer._weights_shape(layer.given)) for name, layer in network.learners.items()}


def vgg_shapes(name):
    """Return the outputs by name of a VGG at 224 × 224."""
    shapes, side, number, channels = {}, 224, 0, 3
    for part in VGG[name].split():
        if part == "M":
            side //= 2
            shapes[f"pool{number}"] = (side, side, channels)
        else:
            number, channels = number + 1, int(part)
            shapes[f"conv{number}"] = shapes[f"bn{number}"] = (side, side, channels)
    return {**shapes, f"fc{number + 1}": (4096,), f"bn{number + 1}": (4096,)}


def softhebb_shapes(name):
    given = SOFTHEBB[name]
    shapes, channels = {}, 3
    for i, units in enumerate(given["units"]):
        side, after = given["sides"][i], given["sides"][i + 1]
        shapes[f"bn{i + 1}"] = (side, side, channels)
        shapes[f"conv{i + 1}"] = shapes[f"triangle{i + 1}"] = (side, side, units)
        shapes[f"pool{i + 1}"] = (after, after, units)
        channels = units
    return shapes


SHAPES = {
    "fasthebb-6": FASTHEBB_6,
    "fasthebb-10": FASTHEBB_10,
    **{name: vgg_shapes(name) for name in VGG},
    **{name: softhebb_shapes(name) for name in SOFTHEBB},
}


def test_no_preset_is_left_out():
    assert list(SHAPES) == PAPERS


@pytest.mark.parametrize("name", SHAPES)
def test_every_layer_has_the_size_of_the_paper(name, no_weights):
    assert shapes_of(hebbcore.preset(name)) == SHAPES[name]


def test_parameters_of_fasthebb(no_weights):
    six = weights_of(hebbcore.preset("fasthebb-6"))
    assert six == {
        "conv1": 96 * 5 * 5 * 3, "conv2": 128 * 3 * 3 * 96, "conv3": 192 * 3 * 3 * 128, "conv4": 256 * 3 * 3 * 192,
        "fc5": 4096 * 3 * 3 * 256,
    }  # fmt: skip
    ten = sum(weights_of(hebbcore.preset("fasthebb-10")).values())
    assert ten + 4096 * CLASSES == 27_334_432
    assert round((ten + 4096 * CLASSES) / 1e6, 1) == 27.3


@pytest.mark.parametrize("name", VGG)
def test_parameters_of_vgg(name, no_weights):
    channels = [int(part) for part in VGG[name].split() if part != "M"]
    convolutions = sum(9 * a * b for a, b in zip([3, *channels], channels, strict=False))
    weights = weights_of(hebbcore.preset(name))
    assert len(weights) == len(channels) + 1
    assert sum(weights.values()) == convolutions + 7 * 7 * 512 * 4096
    assert len(channels) == int(name[3:]) - 3  # the published networks end in three dense layers


@pytest.mark.parametrize("name", SOFTHEBB)
def test_parameters_of_softhebb(name, no_weights):
    units = SOFTHEBB[name]["units"]
    kernels = [25, *[9] * (len(units) - 1)]
    expected = [k * a * b for k, a, b in zip(kernels, [3, *units], units, strict=False)]
    assert list(weights_of(hebbcore.preset(name)).values()) == expected


def test_parameters_counts_what_is_built():
    network = hebbcore.preset("fasthebb-6", device="cpu")
    assert network.parameters == 10_218_528 == sum(layer.weights.size for layer in network.learners.values())


@pytest.mark.parametrize(
    ("name", "modified"),
    [
        ("fasthebb-6", {"bn3", "bn4", "bn5"}),
        ("fasthebb-10", {"bn7", "bn8", "bn9"}),
        ("vgg11", {"bn9"}),
        ("vgg13", {"bn11"}),
        ("vgg16", {"bn14"}),
        ("vgg19", {"bn17"}),
        *((name, set()) for name in SOFTHEBB),
    ],
)
def test_where_batch_norms_are_modified(name, modified, no_weights):
    network = hebbcore.preset(name)
    found = {n for n in network.names if isinstance(network[n], BatchNorm) and network[n].modified}
    assert found == modified
    assert {n for n in network.names if isinstance(network[n], BatchNorm)} >= modified


@pytest.mark.parametrize("name", [name for name in PAPERS if name not in SOFTHEBB])
def test_convolutions_and_pools_of_fasthebb_and_vgg(name, no_weights):
    network = hebbcore.preset(name)
    padding = 1 if name in VGG else 0
    for layer in network.layers:
        if isinstance(layer, Conv):
            first = {"fasthebb-6": 5, "fasthebb-10": 7}.get(name, 3)
            kernel = first if layer.name == "conv1" else 3
            assert (layer.kernel_size, layer.stride, layer.padding) == ((kernel, kernel), (1, 1), (padding, padding))
            assert layer.padding_mode == "zeros"
        if isinstance(layer, Pool):
            window = 3 if (name, layer.name) == ("fasthebb-10", "pool1") else 2
            assert (layer.window, layer.stride, layer.padding, layer.kind) == (
                (window, window), (window, window), (0, 0), "max",
            )  # fmt: skip
    assert all(layer.learning_rate is None for layer in network.learners.values())


@pytest.mark.parametrize("name", SOFTHEBB)
def test_settings_of_softhebb(name, no_weights):
    given = SOFTHEBB[name]
    network = hebbcore.preset(name)
    last = len(given["units"]) - 1
    assert network.image_shape == (given["size"], given["size"], 3)
    for i in range(last + 1):
        norm, conv, triangle, pool = network.layers[4 * i : 4 * i + 4]
        assert isinstance(norm, BatchNorm)
        kernel = 5 if i == 0 else 3
        assert (conv.units, conv.kernel_size) == (given["units"][i], (kernel, kernel))
        assert (conv.padding, conv.padding_mode) == ((kernel // 2, kernel // 2), "reflect")
        assert conv.learning_rate == given["rates"][i]
        rule = hebbcore.SoftHebb(temperature=1 / given["t"][i], adaptive_power=given["power"])
        assert conv.rule == rule
        assert isinstance(triangle, Triangle)
        assert triangle.power == given["q"][i]
        window, stride, padding = (2, 2, 0) if i == last else (4, 2, 1)
        assert (pool.window, pool.stride, pool.padding) == ((window,) * 2, (stride,) * 2, (padding,) * 2)
        assert pool.kind == given["pools"][i]
    assert len(network) == 4 * (last + 1)


def test_softhebb_sharpness_multiplies_the_scores(no_weights):
    """Rules.md: y = softmax(t·u); the rule divides by its temperature."""
    rule = hebbcore.preset("softhebb-cifar")["conv3"].rule
    scores = np.array([[0.3, -1.0, 0.9]])
    expected = np.exp(0.25 * scores) / np.exp(0.25 * scores).sum()
    np.testing.assert_allclose(np.abs(rule.gate(scores, None).values), expected, rtol=1e-12)


@pytest.mark.parametrize("name", [name for name in PAPERS if name not in SOFTHEBB])
def test_the_rule_is_of_all_layers_and_hpca_by_default(name, no_weights):
    for rule, expected in [(None, hebbcore.HPCA()), ("swta", hebbcore.SWTA()), (hebbcore.KWTA(3), hebbcore.KWTA(3))]:
        network = hebbcore.preset(name, rule=rule)
        assert {layer.rule for layer in network.learners.values()} == {expected}


def test_rules_of_some_layers(no_weights):
    network = hebbcore.preset("fasthebb-6", rule={"conv2": hebbcore.KWTA(3), "fc5": "swta"}, preprocess="normalize")
    rules = {name: layer.rule for name, layer in network.learners.items()}
    assert rules == {
        "conv1": hebbcore.HPCA(), "conv2": hebbcore.KWTA(3), "conv3": hebbcore.HPCA(), "conv4": hebbcore.HPCA(),
        "fc5": hebbcore.SWTA(),
    }  # fmt: skip


@pytest.mark.parametrize("name", SOFTHEBB)
def test_another_kind_of_rule_in_softhebb_learns_by_the_rate_of_the_training(name, no_weights):
    """The preset's rates are SoftHebb's; and a Triangle needs responses of both signs, which HPCA's output is not."""
    network = hebbcore.preset(name, rule={"conv1": "hpca", "conv2": hebbcore.SoftHebb(temperature=3)})
    rates, own = SOFTHEBB[name]["rates"], hebbcore.preset(name)
    first, second, third = list(network.learners.values())[:3]
    assert (first.rule, first.learning_rate, first.linear) == (hebbcore.HPCA(), None, True)
    assert (second.rule, second.learning_rate, second.linear) == (hebbcore.SoftHebb(temperature=3), rates[1], False)
    assert (third.rule, third.learning_rate) == (own["conv3"].rule, rates[2])
    assert network.shapes == own.shapes
    assert {layer.rule for layer in hebbcore.preset(name, rule="krotov").learners.values()} == {hebbcore.Krotov()}


def test_preprocess_puts_a_layer_before_the_first(no_weights):
    for name in PAPERS:
        network = hebbcore.preset(name, preprocess="normalize")
        assert network.names[0] == "input"
        assert type(network["input"]) is BatchNorm
        assert network.names[1:] == list(SHAPES[name])
    whiten = hebbcore.preset("fasthebb-6", preprocess="whiten")["input"]
    assert type(whiten) is Whiten
    assert (whiten.kernel_size, whiten.epsilon, whiten.contrast) == (None, 0.01, None)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("fasthebb6", {}, r"preset: name must be one of 'dictionary', .*; got 'fasthebb6'. Did you mean 'fasthebb-6'"),
        ("vgg11", {"rule": "hpac"}, r"preset: rule must be one of .*got 'hpac'. Did you mean 'hpca'"),
        ("vgg11", {"preprocess": "norm"}, r"preset: preprocess must be one of .* Did you mean 'normalize'"),
        (
            "softhebb-stl",
            {"rule": {"conv5": "hpca"}},
            r"preset: each layer of rule must be one of 'conv1', .*'conv4'; got 'conv5'. Did you mean 'conv4'",
        ),
        ("vgg11", {"rule": {"bn1": "hpca"}}, r"preset: each layer of rule must be one of .*; got 'bn1'"),
        (
            "vgg11",
            {"rule": hebbcore.KWTA(65)},
            r"preset: conv1: k must be between 1 and the number of units \(64\), got",
        ),
        (
            "fasthebb-6",
            {"image_shape": (8, 8, 3)},
            r"Network: conv2: kernel_size 3×3 .* \(fasthebb-6 is made for images of \(32, 32, 3\): make larger",
        ),
        ("fasthebb-10", {"image_shape": (210, 210)}, r"Network: image_shape must be \(height, width, channels\)"),
        ("vgg11", {"preprocess": "whiten"}, r"input: patches of 150528 numbers are too large to whiten"),
        ("vgg11", {"seed": -1}, r"Network: seed must be at least 0, got -1"),
    ],
)
def test_wrong_arguments(name, options, message):
    with pytest.raises(ValueError, match=message):
        hebbcore.preset(name, **options)


def test_each_call_makes_new_layers(no_weights):
    first, second = hebbcore.preset("fasthebb-6"), hebbcore.preset("fasthebb-6")
    assert not {id(layer) for layer in first.layers} & {id(layer) for layer in second.layers}


SIDES = {  # of the smallest images, or nearly, that a network takes
    "fasthebb-6": 26,
    "fasthebb-10": 162,
    **dict.fromkeys(VGG, 32),
    "softhebb-cifar": 8,
    "softhebb-stl": 16,
    "softhebb-imagenet": 32,
}
LARGE = {"softhebb-stl": 4, "softhebb-imagenet": 8}  # 85 and 340 million weights; their units are divided
LEARN = [(name, None, LARGE.get(name, 1)) for name in PAPERS]
LEARN += [("softhebb-cifar", "hpca", 8), ("softhebb-cifar", {"conv2": "swta"}, 8)]
LEARN += [(name, rule, 8) for name in ("fasthebb-6", "fasthebb-10", "vgg11") for rule in ("swta", "kwta", "softhebb")]


@pytest.mark.parametrize(("name", "rule", "part"), LEARN)
def test_every_layer_learns(name, rule, part, monkeypatch, generator):
    side = SIDES[name]
    build = presets.network_of

    def fewer(name, layers, *arguments, **options):
        smaller = [
            dataclasses.replace(layer, units=layer.units // part) if isinstance(layer, Learner) else layer
            for layer in layers
        ]
        return build(name, smaller, *arguments, **options)

    monkeypatch.setattr(presets, "network_of", fewer)
    network = hebbcore.preset(name, rule=rule, preprocess="normalize", image_shape=(side, side, 3), device="cpu")
    assert len(network.learners) == sum(isinstance(layer, Conv | Dense) for layer in network.layers)
    before = {name: layer.weights.copy() for name, layer in network.learners.items()}
    images = generator.integers(0, 256, (2, side, side, 3), np.uint8)
    hebbcore.fit(network, images, batch_size=2, rate_factor=1 if name.startswith("softhebb") else 10)
    for learner, layer in network.learners.items():
        assert np.isfinite(layer.weights).all(), learner
        assert (layer.weights != before[learner]).any(), learner
    assert network.transform(images[:1]).shape == (1, *network.shapes[-1])
