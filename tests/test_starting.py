"""Weights that start from patches of the first data, in train_layer and in networks, also after an interruption."""

import warnings

import numpy as np
import pytest
from fit_helpers import arrays, assert_same
from sklearn.datasets import load_digits

import hebbcore
from hebbcore import checkpoint, serialize
from hebbcore.engine.patches import Geometry, as_images, patches_at
from hebbcore.training.loop import Loop

COMPETING = ["swta", "kwta", "signedwta", "softhebb", "hardwta", "krotov"]
STILL = 1e-30  # a learning rate that leaves weights as they start


@pytest.fixture(scope="module")
def digits():
    """Return 300 digits, (300, 8, 8, 1) in 0…1, float64."""
    return load_digits().images[:300, ..., None] / 16


def cosines(weights, patches):
    """Return the cosine of each unit and its nearest patch."""
    directions = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (weights, patches[patches.any(1)])]
    return (directions[0] @ directions[1].T).max(axis=1)


def start(data, units, kernel=None, **options):
    """Return the weights (units, D) that a layer starts from."""
    options = {"rule": "kwta", "initial_weights": "patches", "precision": "float64"} | options
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".* won none of the")  # it does not matter here
        layer = hebbcore.train_layer(data, units, kernel, learning_rate=STILL, device="cpu", **options)
    return layer.weights.reshape(units, -1)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
@pytest.mark.parametrize(
    ("shape", "kernel", "options"),
    [
        ((3, 5, 4, 2), (2, 3), {}),
        ((2, 4, 5, 3), (3, 3), {"stride": (2, 1), "padding": (1, 2)}),
        ((2, 4, 4, 2), (3, 2), {"padding": (2, 1), "padding_mode": "reflect", "stride": 2}),
        ((2, 4, 4, 2), (3, 2), {"padding": (5, 1), "padding_mode": "edge", "stride": 2}),
        ((4, 1, 1, 6), (1, 1), {}),
    ],
)
def test_single_patches_are_rows_of_im2col(shape, kernel, options, dtype, generator):
    images = generator.integers(0, 256, shape).astype(dtype)
    expected = hebbcore.im2col(images, kernel, **options)
    settings = {"stride": 1, "padding": 0, "padding_mode": "zeros"} | options
    geometry = Geometry.of("test", as_images("test", "images", images).shape, kernel, *settings.values())
    places = generator.permutation(len(expected))
    np.testing.assert_array_equal(patches_at(images, geometry, places, expected.dtype), expected[places])


@pytest.mark.parametrize("how", ["patches", "k-means++"])
@pytest.mark.parametrize("rule", COMPETING)
def test_units_start_as_different_patches_as_long_as_the_rule_has_them(rule, how, digits):
    options = {"padding": 1, "stride": 2}
    weights = start(digits, 20, 4, rule=rule, initial_weights=how, **options)
    assert cosines(weights, hebbcore.im2col(digits, 4, **options)).min() > 1 - 1e-12
    assert len(np.unique(np.round(weights / np.linalg.norm(weights, axis=1, keepdims=True), 3), axis=0)) == 20
    lengths = np.linalg.norm(weights, axis=1)
    if rule in ("softhebb", "hardwta"):
        assert (abs(lengths / 25 - 1) < 0.5).all()
    elif rule == "signedwta":
        np.testing.assert_allclose(lengths, 1)
    elif rule == "krotov":
        assert (abs(lengths / 4 - 1) < 0.8).all()  # normal numbers in 16 dimensions
    else:
        patches = hebbcore.im2col(digits, 4, **options)
        assert max(abs(patches - row).max(axis=1).min() for row in weights) < 1e-12


def test_k_means_plus_plus_starts_farther_apart(digits):
    patches = hebbcore.im2col(digits, 5)

    def far_from_the_next_unit(how):
        nearest = [
            cosines(patches[patches.any(1)], start(digits, 30, 5, initial_weights=how, seed=i)) for i in range(3)
        ]
        return 1 - np.mean(nearest)

    assert far_from_the_next_unit("k-means++") < far_from_the_next_unit("patches") - 0.005


@pytest.mark.parametrize("how", ["patches", "k-means++"])
def test_the_seed_decides_and_the_workspace_does_not(how, digits):
    first = start(digits, 30, 3, initial_weights=how, seed=1)
    np.testing.assert_array_equal(start(digits, 30, 3, initial_weights=how, seed=1, workspace="8 KiB"), first)
    assert not np.array_equal(start(digits, 30, 3, initial_weights=how, seed=2), first)


@pytest.mark.parametrize("kind", ["array", "list", "iterator"])
def test_a_start_takes_more_batches_if_the_first_is_too_small_and_leaves_the_data_as_they_are(kind, digits):
    rows = digits.reshape(300, -1)
    seen = []

    def batches():
        for first in range(0, 300, 10):
            seen.append(first)
            yield rows[first : first + 10]

    data = {"array": rows, "list": [*batches()], "iterator": batches()}[kind]
    seen.clear()
    cut = {"batch_size": 10, "shuffle": False} if kind == "array" else {}
    layer = hebbcore.train_layer(
        data, 25, rule="kwta", initial_weights="patches", learning_rate=0.3, precision="float64", device="cpu", **cut
    )
    given = start([*batches()], 25, shuffle=False)
    assert cosines(given, rows[:30]).min() > 1 - 1e-12  # of three batches
    again = hebbcore.train_layer(
        [*batches()], 25, rule="kwta", initial_weights=given, learning_rate=0.3, precision="float64", device="cpu"
    )
    np.testing.assert_allclose(layer.weights, again.weights, atol=1e-15)


def test_too_few_different_patches_are_told_and_the_rest_is_drawn(digits):
    three = np.concatenate([np.zeros((5, 64)), digits.reshape(300, -1)[[1, 2, 1, 3, 2, 2]], np.zeros((5, 64))])
    three[6] *= 0.5  # the same direction as another row, or nearly
    with pytest.warns(
        UserWarning, match="train_layer: the data have only 3 different patches .* fewer than the 8 units"
    ):
        weights = start(three, 8)
    assert (cosines(weights[:3], three) > 1 - 1e-12).all()
    assert (cosines(weights[3:], three) < 0.9).all()
    with pytest.warns(UserWarning, match="only 0 different patches"):
        start(np.zeros((10, 4)), 3)


@pytest.mark.parametrize("shape", [(64,), (8, 8, 1)])
def test_patches_are_found_among_many_that_are_0(shape, digits, recwarn):
    images = np.zeros((3000, *shape))
    images[::60] = digits[:50].reshape(50, *shape)
    weights = start(images, 40, None if len(shape) == 1 else 5, batch_size=3000)
    assert not [w for w in recwarn if "different patches" in str(w.message)]
    if len(shape) == 1:
        assert cosines(weights, images).min() > 1 - 1e-12


@pytest.mark.parametrize("how", ["patches", "k-means++"])
@pytest.mark.parametrize("rule", ["signedwta", "swta", "softhebb", "krotov"])
def test_patches_whose_squares_vanish_are_no_start(rule, how, generator):
    """They made infinite weights, for which the learning rate was blamed, and a new start of a unit did so later."""
    data = generator.random((300, 9)).astype(np.float32)
    data[:280] *= np.float32(1e-25)
    weights = start(data, 12, rule=rule, initial_weights=how, precision="float32", revival=1.0, batch_size=100)
    assert cosines(weights.astype(np.float64), data[280:].astype(np.float64)).min() > 0.9999


@pytest.mark.parametrize("scale", [1e-3, 1, 255])
@pytest.mark.parametrize("rule", [hebbcore.SoftHebb, hebbcore.HardWTA, hebbcore.Krotov])
def test_patches_are_as_long_as_the_rule_has_them_by_any_power(rule, scale, generator):
    """In float32 weights were infinite, or all 0 without a word."""
    data = (generator.random((60, 9)) * scale).astype(np.float32)
    found, expected = (start(data, 6, rule=rule(p=24), precision=each) for each in ("float32", "float64"))
    np.testing.assert_allclose(found, expected, rtol=1e-4)


@pytest.mark.parametrize("mode", ["together", "layerwise"])
@pytest.mark.parametrize("how", ["patches", "k-means++"])
def test_deeper_layers_start_from_what_the_layers_before_make(mode, how, digits):
    layers = [
        hebbcore.Conv(6, 3, "kwta", initial_weights=how), hebbcore.BatchNorm(), hebbcore.Triangle(),
        hebbcore.Conv(9, 3, "swta", initial_weights=how), hebbcore.Dense(4, "softhebb", initial_weights=how),
    ]  # fmt: skip
    net = hebbcore.Network(layers, (8, 8, 1), precision="float64", device="cpu")
    hebbcore.fit(net, digits, learning_rate=STILL, batch_size=300, mode=mode, shuffle=False)
    statistics = net["bn1"].mean, net["bn1"].variance
    first = hebbcore.im2col(digits, 3)
    assert cosines(net["conv1"].weights.reshape(6, -1), first).min() > 1 - 1e-12
    before = net.transform(digits, "conv1")
    mean, variance = before.mean(axis=(0, 1, 2)), before.var(axis=(0, 1, 2))
    if mode == "layerwise":
        variance = before.var(axis=(0, 1, 2), ddof=1)
        np.testing.assert_allclose(statistics, (mean, variance), rtol=1e-6)
    else:  # as of one step, whatever the start looked at
        np.testing.assert_allclose(statistics[0], 0.1 * mean)
    seen = (before - mean) / np.sqrt(variance + 1e-5)
    seen = np.maximum(seen - seen.mean(axis=-1, keepdims=True), 0)
    assert cosines(net["conv2"].weights.reshape(9, -1), hebbcore.im2col(seen, 3)).min() > 1 - 1e-6
    assert len(np.unique(net["fc3"].weights, axis=0)) == 4


def network():
    """Return a network whose layers start from patches, with conscience and revival."""
    options = {"initial_weights": "patches", "conscience": 0.1, "revival": 2.0}
    return hebbcore.Network(
        [
            hebbcore.Conv(6, 3, "kwta", learning_rate=0.2, **options), hebbcore.BatchNorm(), hebbcore.Triangle(),
            hebbcore.Conv(5, 3, "softhebb", learning_rate=0.1, **(options | {"conscience": 0.0})),
            hebbcore.Dense(4, "signedwta", learning_rate=0.1, **(options | {"initial_weights": "k-means++"})),
        ],
        (8, 8, 1), device="cpu",
    )  # fmt: skip


OPTIONS = {"epochs": 2, "batch_size": 10, "log_seconds": 0}


class Stopped(Exception):
    pass


@pytest.mark.parametrize("mode", ["together", "layerwise"])
def test_a_training_killed_at_any_time_goes_on_to_the_same_bits(mode, digits, tmp_path, monkeypatch):
    monkeypatch.setattr("hebbcore.files.sync", lambda path: None)
    data = digits[:30]
    records = []
    expected = arrays(hebbcore.fit(network(), data, mode=mode, callback=records.append, **OPTIONS))
    assert expected["conv1/rivalry_steps"].tolist() == [6]
    step = Loop._step
    for stop in range(len({record["step"] for record in records})):

        def killed(self, *arguments, stop=stop):
            if self._state.position.step == stop:
                raise Stopped
            step(self, *arguments)

        monkeypatch.setattr(Loop, "_step", killed)
        with pytest.raises(Stopped):
            hebbcore.fit(network(), data, mode=mode, run=tmp_path / f"{stop}", checkpoint_minutes=1e-9, **OPTIONS)
        monkeypatch.setattr(Loop, "_step", step)
        again = hebbcore.fit(network(), data, mode=mode, run=tmp_path / f"{stop}", checkpoint_minutes=1e-9, **OPTIONS)
        assert_same(arrays(again), expected)
    assert_same(arrays(hebbcore.load(tmp_path / "0", device="cpu")), expected)


def test_what_has_started_does_not_start_again(digits, tmp_path):
    options = {**OPTIONS, "log_seconds": 5}
    net = hebbcore.fit(network(), digits[:30], **options)
    hebbcore.save(tmp_path / "net.h5", net)
    again = hebbcore.load(tmp_path / "net.h5", device="cpu")
    assert [layer.started for layer in again.learners.values()] == [True] * 3
    for trained in (net, again):
        hebbcore.fit(trained, digits[30:60], **options)
    assert_same(arrays(again), arrays(net))
    fresh = network()
    assert not fresh["conv1"].started
    fresh["conv1"].restore({"weights": net["conv1"].weights})  # weights of one's own
    assert fresh["conv1"].started
    fresh["conv2"].weights = net["conv2"].weights
    assert fresh["conv2"].started
    assert not fresh["fc3"].started


def test_files_of_layers_with_the_rules_own_weights_are_as_they_were():
    net = hebbcore.Network([hebbcore.Conv(2, 3, "kwta"), hebbcore.Dense(2)], (5, 5, 1), device="cpu")
    names = {"type", "units", "kernel_size", "rule", "stride", "padding", "padding_mode", "learning_rate", "linear"}
    table = serialize.layer_table("save", net["conv1"])
    assert set(table) == names | {"name"}
    assert set(checkpoint.arrays_of(net)) == {"conv1/weights", "fc2/weights"}
    assert serialize.layer_of(table, "layers[0]").initial_weights == "rule"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"initial_weights": "patch"}, "initial_weights must be one of .* Did you mean 'patches'"),
        ({"conscience": -1}, "conscience must be at least 0"),
        ({"revival": float("nan")}, "revival must be finite"),
        ({"rule": "hpca", "conscience": 0.1}, "conscience is for rules whose units compete, .* HPCA do not"),
        ({"rule": "softhebb", "conscience": 0.1}, "conscience is for rules whose units compete by a cosine"),
        ({"rule": "hpca", "revival": 5}, "revival is for rules whose units compete"),
    ],
)
def test_wrong_values_are_refused(options, message):
    options = {"rule": "kwta", **options}
    with pytest.raises(ValueError, match=message):
        hebbcore.Dense(3, **options)
    with pytest.raises(ValueError, match=message):
        hebbcore.train_layer(np.ones((5, 4)), 3, **options)
