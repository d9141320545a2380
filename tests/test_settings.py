"""Settings that would change nothing are refused, and what is set on a layer has its effect or is refused."""

import dataclasses
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from fit_helpers import arrays, assert_near, assert_same, images, network

import hebbcore
import loaders
from hebbcore import checkpoint, serialize
from hebbcore.training.settings import Training


def own_rates():
    """Return a network whose layers all have rates of their own."""
    layers = [hebbcore.Conv(3, 3, "softhebb", learning_rate=0.08), hebbcore.Dense(2, "kwta", learning_rate=0.5)]
    return hebbcore.Network(layers, (7, 7, 2), device="cpu")


# Rates


@pytest.mark.parametrize("rate", [0.001, 0.01, 1.0, "auto"])
def test_a_learning_rate_that_no_layer_takes_is_refused(rate):
    with pytest.raises(ValueError, match=r"no effect, .*\(conv1 0.08, fc2 0.5\); leave it out and .*rate_factor"):
        hebbcore.fit(own_rates(), images(), learning_rate=rate)
    with pytest.raises(ValueError, match="no effect"):
        hebbcore.fit(hebbcore.preset("softhebb-cifar", device="cpu"), np.zeros((2, 32, 32, 3)), learning_rate=rate)
    mixed = network()  # one layer takes it
    hebbcore.fit(mixed, images(), learning_rate=0.1)


def test_the_factor_multiplies_all_rates():
    by_hand = own_rates()
    by_hand["conv1"].learning_rate, by_hand["fc2"].learning_rate = 0.04, 0.25
    expected = hebbcore.fit(by_hand, images())
    assert_same(arrays(hebbcore.fit(own_rates(), images(), rate_factor=0.5)), arrays(expected))
    halved = hebbcore.fit(network(), images(), learning_rate=0.2, rate_factor=0.5)
    by_hand = network()
    by_hand["conv1"].learning_rate, by_hand["fc3"].learning_rate = 0.25, 0.025
    assert_near(arrays(halved), arrays(hebbcore.fit(by_hand, images(), learning_rate=0.1)), 1e-12)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cache": "memory"}, "cache='memory' has no effect: it is for mode=\"layerwise\""),
        ({"keep": 5}, "keep=5 has no effect: no checkpoints are written; give run a folder"),
        ({"checkpoint_minutes": 1}, "checkpoint_minutes=1 has no effect: no checkpoints"),
        ({"log_seconds": 1}, "log_seconds=1 has no effect: it is the time between records, which nobody gets"),
        ({"mode": "layerwise", "sample": 9, "schedule": "linear"}, "schedule='linear' has no effect with sample and"),
        ({"mode": "layerwise", "sample": 9, "schedule": "cosine"}, "schedule='cosine' has no effect with sample and"),
        ({"mode": "layerwise", "sample": 9, "schedule": "epochs"}, "schedule='epochs' has no effect with sample and"),
        ({"schedule": "linear"}, "schedule='linear' has no effect: the training is one step"),
        ({"schedule": "cosine", "data": [images()]}, "schedule='cosine' has no effect: the training is one step"),
        ({"schedule": "linear", "mode": "layerwise"}, "schedule='linear' has no effect: the training is one step"),
        ({"previous": True}, "previous has no effect: there is no run"),
        ({"seed": 1, "shuffle": False}, "seed=1 has no effect: it shuffles arrays"),
        ({"data": [images()], "seed": 1}, "seed=1 has no effect: it shuffles arrays"),
        ({"data": [images()], "batch_size": 4}, "batch_size=4 has no effect on data that come in batches"),
        ({"data": [images()], "shuffle": True}, "shuffle=True has no effect on data that come in batches"),
    ],
)
def test_settings_of_fit_without_effect_are_refused(options, message):
    with pytest.raises(ValueError, match=f"fit: {message}"):
        hebbcore.fit(network(), **{"data": images(), **options})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"data": [images()], "batch_size": 4}, "batch_size=4 has no effect"),
        ({"data": [images()], "shuffle": True}, "shuffle=True has no effect"),
        ({"initial_weights": np.ones((2, 3, 3, 2)), "shuffle": False, "seed": 4}, "seed 4 has no effect"),
        ({"initial_weights": np.ones((2, 3, 3, 2)), "data": [images()], "seed": 4}, "seed 4 has no effect"),
    ],
)
def test_settings_of_train_layer_without_effect_are_refused(options, message):
    with pytest.raises(ValueError, match=f"train_layer: {message}"):
        hebbcore.train_layer(**{"data": images(), "units": 2, "kernel_size": 3, **options})


@pytest.mark.parametrize("branches", [0, 2])
def test_a_cache_without_a_layer_before_one_that_learns_is_refused(branches):
    layer = hebbcore.Branches(*([hebbcore.Conv(2, 3)] for _ in range(branches))) if branches else hebbcore.Conv(2, 3)
    net = hebbcore.Network([layer], (7, 7, 2), device="cpu")
    with pytest.raises(ValueError, match="cache='memory' has no effect: it keeps outputs of finished layers"):
        hebbcore.fit(net, images(), mode="layerwise", cache="memory")


def test_a_schedule_of_two_steps_has_its_effect():
    for options in ({"epochs": 2}, {"batch_size": 5}, {"data": [images(), images()]}):
        given = {"data": images(), **options}
        constant, linear = (arrays(hebbcore.fit(network(), **given, schedule=way)) for way in ("constant", "linear"))
        assert any(not np.array_equal(linear[key], array) for key, array in constant.items())


def test_images_for_statistics_that_are_learned_already_are_refused(tmp_path):
    net, idle = network(whiten=True), {"statistics_images": 5}
    hebbcore.fit(net, images(), run=tmp_path / "run", **idle)
    hebbcore.fit(net, images(), run=tmp_path / "run", epochs=2, **idle)  # the same training, which goes on
    for run in (None, tmp_path / "other"):
        with pytest.raises(ValueError, match=r"statistics_images has no effect: .* whitens by is learned already"):
            hebbcore.fit(net, images(), run=run, **idle)
    net.training = idle  # not of the call
    hebbcore.fit(net, images())
    hebbcore.fit(net, images(), mode="layerwise", **idle)  # for the batch norms


@pytest.mark.parametrize(("layer", "name"), [(hebbcore.BatchNorm, "bn1"), (hebbcore.Scale, "scale1")])
def test_a_momentum_layer_by_layer_is_refused(layer, name, tmp_path):
    def made(momentum):
        branches = hebbcore.Branches([hebbcore.Conv(2, 3), layer(momentum=momentum)], [hebbcore.Conv(3, 3)])
        return hebbcore.Network([branches], (7, 7, 2), device="cpu")

    with pytest.raises(ValueError, match=rf"fit: {name}.momentum=0.3 has no effect layer by layer.*\.momentum = 0.1"):
        hebbcore.fit(made(0.3), images(), mode="layerwise")
    hebbcore.fit(made(0.3), images())
    hebbcore.fit(made(0.1), images(), mode="layerwise", run=tmp_path)
    path = checkpoint.checkpoints(tmp_path)[-1]  # as an earlier version wrote it
    header, stored = checkpoint.read("fit", path)
    header["layers"][0]["branches"][0][1]["momentum"] = 0.3
    checkpoint.write(path, header, stored)
    hebbcore.fit(made(0.1), images(), mode="layerwise", run=tmp_path)


def test_a_seed_that_only_revival_draws_by_has_its_effect():
    given = np.ones((4, 3, 3, 2))
    given[2:] = -1  # these win nothing
    options = {"units": 4, "kernel_size": 3, "rule": "kwta", "batch_size": 2, "epochs": 4, "device": "cpu"}
    options |= {"initial_weights": given, "shuffle": False, "revival": 1.0}
    one, other = (hebbcore.train_layer(images(), seed=seed, **options).weights for seed in (3, 4))
    assert (one != other).any()


def test_settings_that_agree_with_a_stream_are_taken(tmp_path):
    loaders.write_shards((images(dtype=np.uint8), np.zeros(10, int)), tmp_path)
    with loaders.ShardStream(tmp_path, batch_size=5, shuffle=True) as stream:
        hebbcore.fit(network(), stream, batch_size=5, shuffle=True)
        for options in ({"batch_size": 4}, {"shuffle": False}):
            with pytest.raises(ValueError, match="has no effect on data that come in batches"):
                hebbcore.fit(network(), stream, **options)


def test_every_setting_of_a_training_has_an_effect_or_is_a_bound(tmp_path):
    """A new setting must be added here: to what changes the weights, or to what changes something else."""
    changes = {
        "epochs": 2, "learning_rate": 0.2, "rate_factor": 0.5, "schedule": "linear", "mode": "layerwise",
        "batch_size": 3, "shuffle": False, "seed": 1,
    }  # fmt: skip
    elsewhere = {
        "cache", "cache_bytes", "checkpoint_minutes", "keep", "log_seconds", "check_finite", "statistics_images",
        "sample", "teacher", "classes",  # the last two: test_fit_teacher.py
    }  # fmt: skip
    assert changes.keys() | elsewhere == {field.name for field in dataclasses.fields(Training)}
    before = arrays(hebbcore.fit(network(), images(), batch_size=5))
    for name, value in changes.items():
        after = arrays(hebbcore.fit(network(), images(), **{"batch_size": 5, name: value}))
        assert any(not np.array_equal(after[key], array) for key, array in before.items()), name


# Parameters of layers


def test_a_rule_that_is_set_is_used_as_a_whole(tmp_path):
    for rule in ("swta", hebbcore.KWTA(2), "softhebb", hebbcore.HPCA("tanh")):
        layers = [hebbcore.Conv(4, 3, "hpca"), hebbcore.BatchNorm()]
        changed = hebbcore.Network(layers, (7, 7, 2), device="cpu")
        changed["conv1"].rule = rule
        made = hebbcore.Network([hebbcore.Conv(4, 3, rule), hebbcore.BatchNorm()], (7, 7, 2), device="cpu")
        made["conv1"].weights = changed["conv1"].weights
        assert changed["conv1"].rule == made["conv1"].rule
        for net in (changed, made):
            hebbcore.fit(net, images(), learning_rate=0.05)
        assert_same(arrays(changed), arrays(made))
        np.testing.assert_array_equal(changed.transform(images()), made.transform(images()))
        hebbcore.save(tmp_path / "net.h5", changed)
        loaded = hebbcore.load(tmp_path / "net.h5", device="cpu")
        assert loaded["conv1"].rule == made["conv1"].rule
        np.testing.assert_array_equal(loaded.transform(images()), made.transform(images()))


def test_what_can_be_set_takes_effect():
    net = hebbcore.fit(network(), images(), batch_size=5)
    conv = net["conv1"]
    before = net.transform(images(), "conv1")
    assert (before >= 0).all()
    conv.linear = True
    assert (net.transform(images(), "conv1") < 0).any()
    for name, parameter, value in (
        ("pool1", "kind", "average"), ("bn1", "epsilon", 0.5), ("bn1", "modified", True), ("triangle2", "power", 2.0),
    ):  # fmt: skip
        before = net.transform(images(), name)
        setattr(net[name], parameter, value)
        assert not np.array_equal(net.transform(images(), name), before), (name, parameter)


@pytest.mark.parametrize(
    ("layer", "name", "value"),
    [("conv1", "units", 8), ("conv1", "kernel_size", 3), ("conv1", "padding", 1), ("conv1", "stride", 2),
     ("conv1", "padding_mode", "reflect"), ("conv1", "name", "other"), ("pool1", "window", 3), ("pool1", "stride", 1),
     ("whiten1", "epsilon", 1.0), ("whiten1", "contrast", None), ("whiten1", "kernel_size", 3), ("fc3", "units", 1)],
)  # fmt: skip
def test_what_would_be_half_used_cannot_be_set(layer, name, value):
    net = network(whiten=True)
    before = getattr(net[layer], name)
    with pytest.raises(AttributeError, match=f"{layer}.{name} cannot be set: the layer belongs to a network"):
        setattr(net[layer], name, value)
    assert getattr(net[layer], name) == before


def test_a_value_that_is_impossible_is_refused_and_the_old_one_stays():
    net = network()
    for name, parameter, value, error in (
        ("conv1", "rule", hebbcore.KWTA(9), ValueError), ("conv1", "rule", "nobody", ValueError),
        ("conv1", "learning_rate", -1, ValueError), ("conv1", "linear", "yes", TypeError),
        ("bn1", "momentum", 2, ValueError), ("pool1", "kind", "sum", ValueError), ("triangle2", "power", 0, ValueError),
    ):  # fmt: skip
        before = getattr(net[name], parameter)
        with pytest.raises(error):
            setattr(net[name], parameter, value)
        assert getattr(net[name], parameter) is before
    hebbcore.fit(net, images())  # and it goes on working


def test_weights_that_are_set_are_checked_and_copied():
    net = network(precision="float32")
    conv = net["conv1"]
    given = np.random.default_rng(0).normal(size=conv.weights.shape)
    conv.weights = np.asfortranarray(given)
    assert conv.weights.dtype == np.float32
    assert conv.weights.flags.c_contiguous
    np.testing.assert_array_equal(conv.weights, given.astype(np.float32))
    kept = given.copy()
    hebbcore.fit(net, images())
    np.testing.assert_array_equal(given, kept)
    for bad, error, message in (
        (given[:2], ValueError, r"conv1: weights must have the shape \(4, 2, 2, 2\), got \(2, 2, 2, 2\)"),
        (given * np.nan, ValueError, "conv1: weights must be finite"),
        (given * 1e30, ValueError, r"conv1: weights must be at most 1e\+12"),
        ("none", TypeError, "conv1: weights must be an array of numbers"),
    ):
        before = conv.weights
        with pytest.raises(error, match=message):
            conv.weights = bad
        assert conv.weights is before


@pytest.mark.parametrize(
    ("layer", "name", "shape"),
    [
        (hebbcore.Conv(4, 3), "weights", (4, 3, 3, 2)), (hebbcore.Dense(4), "weights", (4, 98)),
        (hebbcore.BatchNorm(), "mean", (2,)), (hebbcore.BatchNorm(), "variance", (2,)),
        (hebbcore.Scale(), "variance", (1,)),
        (hebbcore.Whiten(3), "mean", (18,)), (hebbcore.Whiten(3), "matrix", (18, 18)),
    ],
)  # fmt: skip
def test_arrays_of_every_layer_are_checked_when_they_are_set(layer, name, shape):
    with pytest.raises(AttributeError, match=rf"\w+\.{name} cannot be set before the network is built"):
        setattr(layer, name, np.ones(shape))
    net = hebbcore.Network([layer], (7, 7, 2), device="cpu")
    before, given = getattr(layer, name), np.random.default_rng(0).uniform(0.5, 1, shape)
    for bad, error, message in (
        (given[None], ValueError, re.escape(f"{layer.name}: {name} must have the shape {shape}, got {(1, *shape)}.")),
        (given.astype(int), TypeError, f"{layer.name}: {name} must be floating, such as float.., got int64."),
        (given * np.nan, ValueError, f"{layer.name}: {name} must be finite"),
    ):
        with pytest.raises(error, match=message):
            setattr(layer, name, bad)
        assert getattr(layer, name) is before
    if name == "variance":
        with pytest.raises(ValueError, match=rf"{layer.name}: variance must be 0 or more, got -0.5"):
            setattr(layer, name, np.where(given == given.min(), -0.5, given))
        for scale in (1e-18, 1e18):  # of data of 1e-9, or 1e9: the squares are these
            setattr(layer, name, given * scale)
    out = net.transform(images())
    setattr(layer, name, given.tolist())
    kept = getattr(layer, name)
    assert (kept.dtype, kept.shape) == (before.dtype, shape)
    np.testing.assert_array_equal(kept, given.astype(kept.dtype))
    assert layer.arrays()[name] is kept
    assert not np.allclose(net.transform(images()), out)


def test_whitening_that_is_set_has_its_effect_or_is_refused():
    net = hebbcore.Network([hebbcore.Whiten(3, epsilon=None), hebbcore.Conv(4, 1)], (7, 7, 2), device="cpu")
    with pytest.raises(AttributeError, match=r"whiten1.matrix cannot be set: with epsilon=None patches are multiplied"):
        net.layers[0].matrix = 3 * np.eye(18)
    for learned in (False, True):
        net = hebbcore.Network([hebbcore.Whiten(3), hebbcore.Conv(4, 1)], (7, 7, 2), device="cpu")
        net.layers[0].mean, net.layers[0].matrix, net.layers[0].learned = np.ones(18), 3 * np.eye(18), learned
        hebbcore.fit(net, images(dtype=np.float32))
        assert np.array_equal(net.layers[0].matrix, 3 * np.eye(18)) == learned
        assert np.array_equal(net.layers[0].mean, np.ones(18)) == learned


def test_what_is_set_before_a_layer_is_in_a_network_is_checked_there():
    conv = hebbcore.Conv(4, 3)
    conv.rule, conv.kernel_size = "softhebb", 2
    hebbcore.Network([conv])  # one without weights may be tried in several
    net = hebbcore.Network([conv], (7, 7, 2), device="cpu")
    assert conv.rule == hebbcore.SoftHebb()
    assert net.transform(images()).shape[1:] == (6, 6, 4)
    for name, bad in (("padding_mode", "mirror"), ("units", 0), ("rule", "nobody"), ("learning_rate", -1)):
        conv = hebbcore.Conv(4, 3)
        setattr(conv, name, bad)
        with pytest.raises(ValueError, match=f"Conv: {name} must be"):
            hebbcore.Network([conv])


@pytest.mark.parametrize("made", [hebbcore.Conv(4, 3), hebbcore.Network([hebbcore.Conv(4, 3)])["conv1"]])
def test_weights_cannot_be_set_before_there_are_any(made):
    with pytest.raises(AttributeError, match=r"onv1?.weights cannot be set before the network is built; build it"):
        made.weights = np.ones((4, 3, 3, 2))
    assert made.weights is None


def test_layers_of_a_network_stay():
    net = network()
    with pytest.raises(TypeError):
        net.layers[0] = hebbcore.Conv(4, 2)
    with pytest.raises(AttributeError):
        net.layers = [hebbcore.Conv(4, 2)]


def test_the_rule_of_a_layer_alone_has_its_effect():
    layer = hebbcore.train_layer(images(dtype=np.float32), 4, 3, rule="hpca")
    other = dataclasses.replace(layer, rule=hebbcore.SWTA())
    layer.rule = hebbcore.SWTA()
    np.testing.assert_array_equal(layer.transform(images()), other.transform(images()))
    for name, value, error in (("rule", "nobody", ValueError), ("stride", 0, ValueError), ("linear", 3, TypeError)):
        with pytest.raises(error, match=f"HebbianLayer: {name} must be"):
            setattr(layer, name, value)


def test_a_layer_alone_has_units_and_as_many_as_its_rule_needs():
    """A file of it could be written, not read."""
    layer = hebbcore.HebbianLayer(np.ones((3, 4)), hebbcore.KWTA(3))
    for name, value in (("rule", hebbcore.KWTA(5)), ("weights", np.ones((2, 4)))):
        with pytest.raises(ValueError, match="HebbianLayer: k must be between 1 and the number of units"):
            setattr(layer, name, value)
    with pytest.raises(ValueError, match=r"HebbianLayer: weights must be floating, .* not empty, got float64 of shape"):
        layer.weights = np.ones((0, 4))
    assert (layer.rule, layer.weights.shape) == (hebbcore.KWTA(3), (3, 4))


def test_a_dense_layer_alone_has_no_stride_and_no_padding():
    conv = hebbcore.train_layer(images(dtype=np.float32), 4, 3, stride=2)
    dense = hebbcore.train_layer(images(dtype=np.float32).reshape(len(images()), -1), 4)
    weights = dense.weights
    for layer, name, value in ((dense, "stride", 2), (dense, "padding", (0, 1)), (conv, "weights", weights)):
        with pytest.raises(ValueError, match="HebbianLayer: stride and padding are for convolutions; a dense layer"):
            setattr(layer, name, value)
    with pytest.raises(ValueError, match="HebbianLayer: stride and padding are for convolutions"):
        hebbcore.HebbianLayer(weights, "hpca", padding=(1, 1))
    dense.stride, dense.weights = 1, weights[:2]


# Runs of the version before


def test_a_run_whose_header_lacks_the_new_settings_goes_on(tmp_path):
    def stop(record):
        if record["step"] == 3:
            raise RuntimeError("stopped")

    options = {"batch_size": 4, "epochs": 2, "learning_rate": 1e-3, "checkpoint_minutes": 1e-9, "log_seconds": 0}
    expected = arrays(hebbcore.fit(network(), images(), **{**options, "checkpoint_minutes": 10, "log_seconds": 5}))
    with pytest.raises(RuntimeError, match="stopped"):
        hebbcore.fit(network(), images(), run=tmp_path / "run", callback=stop, **options)
    path = checkpoint.checkpoints(tmp_path / "run")[-1]
    header, kept = checkpoint.read("test", path)
    del header["rates"], header["training"]["rate_factor"]
    header["training"]["learning_rate"] = 1e-3  # how an older version wrote the default
    checkpoint.write(path, header, kept)
    for name, rate in (("default", {}), ("given", {"learning_rate": 1e-3})):
        shutil.copytree(tmp_path / "run", tmp_path / name)
        again = {**{key: value for key, value in options.items() if key != "learning_rate"}, **rate}
        assert_same(arrays(hebbcore.fit(network(), images(), run=tmp_path / name, **again)), expected)
    with pytest.raises(ValueError, match=r"training.learning_rate is 0.01 here and 0.001 there"):
        hebbcore.fit(network(), images(), run=tmp_path / "run", **{**options, "learning_rate": 0.01})
    with pytest.raises(ValueError, match=r"training.rate_factor is 2.0 here and 1.0 there"):
        hebbcore.fit(network(), images(), run=tmp_path / "run", rate_factor=2.0, **options)


def test_tables_of_layers_keep_what_can_be_set(tmp_path: Path):
    net = network()
    net["conv1"].learning_rate = "auto"
    net["conv1"].rule = "hpca"
    table = json.loads(json.dumps(serialize.layer_table("test", net["conv1"])))
    assert serialize.layer_of(table, "layer").learning_rate == "auto"
