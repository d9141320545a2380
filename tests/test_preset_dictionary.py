"""The preset "dictionary": layers for images of any size, and how it is trained without further arguments."""

import numpy as np
import pytest
from fit_helpers import arrays, assert_same

import hebbcore
from hebbcore import Branches, Conv, GaussianPool, Nystrom, Power, Scale, SignedWTA, Split, Whiten
from hebbcore.presets import training_of
from hebbcore.serialize import layer_table

UNITS = (4, 6, 7, 5)  # of layers 1, 2, 3 and of the wide branch
TWO_LAYERS = (4, 6, 5)

# What was measured, and may change: stated here once.
DEFAULT_UNITS = (128, 512, 512, 200)
THRESHOLD, EXPONENT, THIRD_EXPONENT = 0.25, 0.35, 0.5
WINNERS = {5: 4, 6: 4, 7: 4, 25: 4, 64: 4, 80: 5, 100: 6, 200: 12, 256: 16, 400: 25, 512: 32, 1024: 32}  # by units
EPSILONS = {"whiten1": 0.01, "whiten2": 3.0, "whiten3": 1e4, "whiten4": 4.0, "whiten5": 0.3}
CHANNELS, COMPONENTS = 128, 192  # the most
DEFAULTS = {"mode": "layerwise", "epochs": 4, "batch_size": 200, "statistics_images": 2_000, "sample": 100_000}


def recipe(units):
    """Return the layers for images of 32×32×3 as they were measured."""
    *deep_units, wide_units = units
    given = {"learning_rate": 1.0, "initial_weights": "patches"}
    common = {"contrast": None, "relative": True}

    def codes(whiten, count, components):
        return [
            Whiten(3, padding=1, epsilon=EPSILONS[whiten], components=components, **common),
            Conv(count, 1, SignedWTA(WINNERS[count]), response="cosine", **given),
            Scale(),
            Split(THRESHOLD),
        ]

    deep = [
        Whiten(3, padding=1, padding_mode="edge", epsilon=EPSILONS["whiten1"], centre=True, **common),
        Conv(deep_units[0], 3, "kwta", padding=1, response="cosine-exp", normalize_patches=True, **given),
        GaussianPool(2),
        Nystrom(),
        *codes("whiten2", deep_units[1], COMPONENTS),
    ]
    cells = [GaussianPool(6), Power(EXPONENT)]
    if len(deep_units) == 3:
        third = [
            GaussianPool(2),
            Power(THIRD_EXPONENT),
            Whiten(1, epsilon=EPSILONS["whiten3"], components=CHANNELS, **common),
            *codes("whiten4", deep_units[2], COMPONENTS),
            GaussianPool(3),
            Power(EXPONENT),
        ]
        deep.append(Branches(cells, third))
    else:
        deep += cells
    wide = [
        Whiten(6, epsilon=EPSILONS["whiten5"]),
        Conv(wide_units, 1, SignedWTA(WINNERS[wide_units]), linear=True, **given),
        Scale(),
        Split(THRESHOLD),
        GaussianPool(9),
        Power(EXPONENT),
    ]
    return hebbcore.Network([Branches(deep, wide)], device="cpu")


def made(shape=(12, 11, 3), units=UNITS, **options):
    return hebbcore.preset("dictionary", image_shape=shape, units=units, device="cpu", **options)


def images_of(shape, count, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), np.uint8)


@pytest.mark.parametrize("units", [None, (128, 1024, 400), (128, 64, 80, 25), (128, 256, 256, 100)])
def test_the_default_is_the_recipe(units):
    network, expected = hebbcore.preset("dictionary", units=units, device="cpu"), recipe(units or DEFAULT_UNITS)
    assert network.image_shape == (32, 32, 3)
    assert [layer_table("t", layer) for layer in network.stack] == [layer_table("t", x) for x in expected.stack]
    assert network.shapes[-1] == (3, 3, 2 * sum((units or DEFAULT_UNITS)[1:]))
    assert sum(isinstance(layer, hebbcore.Conv) for layer in network.layers) == len(units or DEFAULT_UNITS)


def test_a_sample_has_a_hundred_patches_for_each_unit_of_the_largest_layer():
    assert training_of("dictionary") == {**DEFAULTS, "sample": max(100_000, 100 * max(DEFAULT_UNITS))}
    assert training_of("dictionary", UNITS) == DEFAULTS
    assert training_of("dictionary", (4, 6, 3000, 5)) == {**DEFAULTS, "sample": 300_000}
    assert training_of("dictionary", (4, 6, 1001)) == {**DEFAULTS, "sample": 100_100}
    assert hebbcore.preset("dictionary", units=(1500, 6, 5), device="cpu").training["sample"] == 150_000


# height and width: what is averaged for all but half of layer 1, the strides behind layer 1, of layer 2's cells, before
# layer 3 and of layer 3's cells, the kernel of the wide branch, the stride of its cells and the kernel of layer 1
SIZES = {
    (8, 8, 1): (1, 1, (3, 3), (1, 1), (3, 3), (4, 4), (2, 2), 3),
    (9, 30, 2): (1, 1, (3, 10), (2, 2), (2, 5), (5, 6), (2, 9), 3),
    (13, 60, 1): (1, 2, (3, 10), (1, 2), (3, 5), (6, 6), (3, 19), 3),
    (28, 28, 1): (1, 2, (5, 5), (2, 2), (3, 3), (6, 6), (8, 8), 3),
    (32, 32, 3): (1, 2, (6, 6), (2, 2), (3, 3), (6, 6), (9, 9), 3),
    (47, 47, 3): (1, 3, (6, 6), (2, 2), (3, 3), (6, 6), (14, 14), 3),
    (48, 64, 3): (1, 3, (6, 8), (2, 2), (3, 4), (6, 6), (15, 20), 5),
    (64, 64, 3): (1, 4, (6, 6), (2, 2), (3, 3), (6, 6), (20, 20), 5),
    (95, 95, 3): (1, 6, (6, 6), (2, 2), (3, 3), (6, 6), (30, 30), 5),
    (96, 96, 3): (2, 3, (6, 6), (2, 2), (3, 3), (6, 6), (15, 15), 5),
    (97, 131, 3): (2, 3, (6, 8), (2, 2), (3, 4), (6, 6), (15, 20), 5),
    (47, 200, 1): (2, 3, (3, 12), (1, 2), (3, 6), (6, 6), (6, 32), 3),
    (191, 191, 3): (2, 6, (6, 6), (2, 2), (3, 3), (6, 6), (30, 30), 5),
    (224, 224, 3): (4, 4, (5, 5), (2, 2), (3, 3), (6, 6), (17, 17), 5),
    (320, 200, 3): (4, 4, (7, 5), (2, 2), (4, 3), (6, 6), (25, 15), 5),
}


@pytest.mark.parametrize("shape", SIZES)
def test_what_is_derived_from_the_size(shape):
    factor, first, second, third, cells, kernel, wide, patches = SIZES[shape]
    network = made(shape)
    scales = 1 + (factor > 1)  # of layer 1
    pools = [layer.stride for layer in network.layers if isinstance(layer, GaussianPool)]
    assert pools == [(times * first,) * 2 for times in (1, 2)[:scales]] + [second, third, cells, wide]
    whitens = [layer for layer in network.layers if isinstance(layer, Whiten)]
    assert [layer.kernel_size for layer in whitens] == [(patches,) * 2] * scales + [(3, 3), (1, 1), (3, 3), kernel]
    learners = list(network.learners.values())
    assert [layer.units for layer in learners] == [[4], [2, 2]][scales - 1] + [6, 7, 5]
    assert [layer.kernel_size for layer in learners[:scales]] == [(patches,) * 2] * scales
    components = [layer.components for layer in whitens[scales:-1]]
    assert components == [36, 12, 108]  # 9 · 4 codes, 2 · 6 codes, 9 · 12 components: all of them
    out = network.transform(images_of(shape, 2))
    assert out.shape == (2, 3, 3, 2 * 6 + 2 * 7 + 2 * 5)
    assert np.isfinite(out).all()
    pools = [layer.stride for layer in made(shape, TWO_LAYERS).layers if isinstance(layer, GaussianPool)]
    assert pools == [(times * first,) * 2 for times in (1, 2)[:scales]] + [second, wide]


def test_layer_1_sees_large_images_at_two_scales():
    network = made((201, 203, 3), (5, 6, 7, 5))
    images = images_of((201, 203, 3), 3)
    names = network.names[: network.names.index("branches2") + 1]
    assert names[:3] == ["reduced", "pool1", "whiten1"]
    maps = network.features(images, names)
    reduced = maps["reduced"]
    rows, columns = (np.repeat(np.arange(100), np.diff(np.arange(101) * side // 100)) for side in (201, 203))
    cells = np.zeros((100, 100, 3))
    np.add.at(cells, np.ix_(rows, columns), images[0] / 255)
    cells /= np.outer(np.bincount(rows), np.bincount(columns))[..., None]
    np.testing.assert_allclose(reduced[0], cells, atol=1e-6)  # even sides: none lies between two pixels of the half
    np.testing.assert_allclose(maps["pool1"], reduced.reshape(3, 50, 2, 50, 2, 3).mean(axis=(2, 4)), atol=1e-6)
    assert maps["conv1"].shape == (3, 50, 50, 3)
    assert maps["conv2"].shape == (3, 100, 100, 2)
    both = np.concatenate([maps["nystrom1"], maps["nystrom2"]], axis=3)
    np.testing.assert_array_equal(maps["branches2"], both)
    assert both.shape == (3, 17, 17, 5)
    wide = network.names[network.names.index("whiten6") - 1]
    np.testing.assert_array_equal(network.transform(images, wide), maps["pool1"])


@pytest.mark.parametrize("count", [1, 2, 3])
def test_layer_1_of_large_images_has_a_unit_at_each_scale_at_least(count):
    network = made((96, 96, 1), (count, 2, 2, 2))
    assert [layer.units for layer in network.learners.values()][:2] == [-(-count // 2), max(1, count // 2)]


def test_every_size_has_nine_cells_and_bounded_maps():
    for height, width in [(h, w) for h in range(8, 321, 13) for w in range(8, 321, 7)]:
        layers, _ = hebbcore.presets.preset_layers("dictionary", None, "none", (height, width, 1), UNITS)
        shapes = hebbcore.Network(layers, device="cpu").shapes_for((height, width, 1))
        assert shapes[-1] == (3, 3, 2 * (6 + 7 + 5)), (height, width)
        if max(height, width) <= 4 * min(height, width):
            assert max(h * w for h, w, _ in shapes[1:]) < 192**2, (height, width)


@pytest.mark.parametrize("shape", [(8, 8, 1), (28, 28, 1), (12, 40, 3), (64, 64, 3)])
def test_fit_without_arguments_trains_it(shape):
    images = images_of(shape, 24)
    network = made(shape)
    before = {name: layer.weights.copy() for name, layer in network.learners.items()}
    records = []
    hebbcore.fit(network, images, callback=records.append, log_seconds=0)
    assert all((layer.weights != before[name]).any() for name, layer in network.learners.items())
    assert all(network[name].learned for name in EPSILONS)
    looks, samples_and_epochs = 5 + 3, 4 * (1 + 4)  # of whiten and scale; of the layers of units
    assert records[-1]["images"] == 24 * (looks + samples_and_epochs)
    features = network.transform(images, mirror=True).reshape(24, -1)
    assert (features.std(axis=0) > 0).mean() > 0.9


def test_the_call_wins_over_what_the_network_says():
    images = images_of((12, 11, 3), 10)
    network, other = made(), made()
    changes = {"epochs": 1, "batch_size": 5, "statistics_images": 7, "sample": 300}
    hebbcore.fit(network, images, **changes)
    other.training = {"mode": "layerwise", **changes}
    assert_same(arrays(hebbcore.fit(other, images)), arrays(network))
    other = made()
    other.training = {}
    assert_same(arrays(hebbcore.fit(other, images, mode="layerwise", **changes)), arrays(network))


def test_the_sample_that_the_network_says_can_be_turned_off():
    images = images_of((12, 11, 3), 10)
    changes = {"epochs": 1, "batch_size": 5, "statistics_images": 7}
    network, other = made(), made()
    other.training = {}
    hebbcore.fit(other, images, mode="layerwise", **changes)
    assert_same(arrays(hebbcore.fit(network, images, sample="none", **changes)), arrays(other))
    assert network.training == DEFAULTS


def test_batches_of_a_stream_are_its_own():
    images = images_of((12, 11, 3), 10)
    network, stream = made(), made()
    hebbcore.fit(network, images, batch_size=5, shuffle=False)
    hebbcore.fit(stream, [images[:5], images[5:]])
    assert_same(arrays(stream), arrays(network))


def test_all_at_once_is_refused_with_the_way_out():
    with pytest.raises(ValueError, match=r'whiten2 comes after .* what is still changing; use mode="layerwise"'):
        hebbcore.fit(made(), images_of((12, 11, 3), 4), mode="together")


@pytest.mark.parametrize("training", [{"epoch": 3}, {"rate_factor": 2.0}])
def test_unknown_keys_of_training_are_refused(training):
    network = made()
    with pytest.raises(ValueError, match="Network: each key of training must be one of 'batch_size', 'epochs', 'mode'"):
        network.training = training
    with pytest.raises(TypeError):
        network.training["epochs"] = 3
    with pytest.raises(TypeError, match=r"Network: training must be a dict of fit's arguments, got \['epochs'\]"):
        network.training = ["epochs"]
    assert network.training == DEFAULTS


def test_impossible_values_of_training_are_refused_by_fit():
    network = made()
    network.training = {"mode": "layerwise", "epochs": 0}
    with pytest.raises(ValueError, match="fit: epochs must be at least 1, got 0"):
        hebbcore.fit(network, images_of((12, 11, 3), 4))


def test_training_is_saved_and_shown(tmp_path):
    network = made()
    last = network.summary().splitlines()[-1]
    assert last.startswith("fit trains it by default with mode='layerwise', epochs=4, batch_size=200")
    hebbcore.save(tmp_path / "network.h5", network)
    again = hebbcore.load(tmp_path / "network.h5", device="cpu")
    assert again.training == DEFAULTS
    images = images_of((12, 11, 3), 12)
    np.testing.assert_array_equal(again.transform(images), network.transform(images))
    network._training["epoch"] = 3  # of a later version, or damaged
    hebbcore.save(tmp_path / "other.h5", network)
    with pytest.raises(ValueError, match=r"load: .*other.h5 does not hold .* each key of training must be one of"):
        hebbcore.load(tmp_path / "other.h5", device="cpu")
    plain = hebbcore.preset("fasthebb-6", device="cpu")
    assert plain.training == {}
    assert "training" not in plain.summary()


class Stopped(Exception):
    pass


def test_a_run_goes_on_without_arguments(tmp_path, monkeypatch):
    monkeypatch.setattr("hebbcore.files.sync", lambda path: None)
    images = images_of((12, 11, 3), 12)
    expected = hebbcore.fit(made(), images)

    def stop(record):
        if record["phase"] == 5:
            raise Stopped

    with pytest.raises(Stopped):
        hebbcore.fit(made(), images, run=tmp_path, log_seconds=0, callback=stop)
    begun = hebbcore.load(tmp_path, device="cpu")
    assert begun.training == DEFAULTS
    assert_same(arrays(hebbcore.fit(made(), images, run=tmp_path)), arrays(expected))
    given = made()
    given.training = {}  # the settings decide, not where they came from
    hebbcore.fit(given, images, run=tmp_path, **DEFAULTS)
    with pytest.raises(ValueError, match=r"training\.epochs is 7 here and 4 there"):
        hebbcore.fit(made(), images, run=tmp_path, epochs=7)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (
            "dictionary",
            {"image_shape": (7, 32, 3)},
            r"preset: image_shape .* of 8 pixels a side .* \(7, 32, 3\)",
        ),
        ("dictionary", {"image_shape": (3072,)}, r"preset: image_shape must be \(height, width, channels\)"),
        ("dictionary", {"units": (4, 6)}, r"preset: units must be four numbers .* or three, .* got \(4, 6\)"),
        ("dictionary", {"units": (4, 6, 7, 5, 5)}, r"preset: units must be four numbers .* got \(4, 6, 7, 5, 5\)"),
        ("dictionary", {"units": (4, 0, 6, 5)}, "preset: units must be at least 1, got 0"),
        ("dictionary", {"units": 4}, "preset: units must be four numbers"),
        ("dictionary", {"units": (2048, 4, 4)}, r"whiten2: patches of 18432 .* \(dictionary .*: take fewer units"),
        ("dictionary", {"preprocess": "whiten"}, 'preset: preprocess must be "none" for .dictionary., .* got .whiten.'),
        ("fasthebb-6", {"units": UNITS}, "preset: units is for 'dictionary' alone, not for 'fasthebb-6'"),
    ],
)
def test_wrong_arguments(name, options, message):
    with pytest.raises(ValueError, match=message):
        hebbcore.preset(name, **options)


def test_units_that_are_no_integers():
    with pytest.raises(TypeError, match=r"preset: units must be an integer, got 1\.5"):
        hebbcore.preset("dictionary", units=(4, 1.5, 3, 5))


@pytest.mark.parametrize("rule", ["hpca", "swta", "softhebb", {"conv2": "kwta"}])
def test_other_rules_learn_by_the_rate_of_the_training_and_keep_the_responses(rule):
    network, own = made(rule=rule), made()
    for name, layer in network.learners.items():
        assert (layer.response, layer.linear) == (own[name].response, own[name].linear)
        if type(layer.rule) is not type(own[name].rule):
            assert layer.learning_rate is None
    hebbcore.fit(network, images_of((12, 11, 3), 8), epochs=1, learning_rate=0.01)
    assert np.isfinite(network.transform(images_of((12, 11, 3), 2))).all()


def test_more_units_than_patches_are_told():
    network = hebbcore.preset("dictionary", image_shape=(8, 8, 1), units=(4, 600, 7, 5), device="cpu")
    with pytest.warns(UserWarning, match="conv2: the data have only .* fewer than the 600 units"):
        hebbcore.fit(network, images_of((8, 8, 1), 6), epochs=1)
