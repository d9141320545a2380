"""Branches: their layers do and learn what networks of their own would, and are saved and set as others are."""

import copy
import pickle
import tomllib

import numpy as np
import pytest
from fit_helpers import IMAGES, arrays, assert_near, assert_same, images

import hebbcore
from hebbcore import Branches, checkpoint, serialize
from hebbcore.cli.preset import _toml
from hebbcore.evaluation.evaluate import block_ends
from hebbcore.runs.config import changed_config, config_of
from hebbcore.training.diagnostics import lines

MODES = {
    "together": {"statistics_images": 10_000},
    "layerwise": {"mode": "layerwise"},
    "memory": {"mode": "layerwise", "cache": "memory"},
    "disk": {"mode": "layerwise", "cache": "disk"},
    "partly": {"mode": "layerwise", "cache": "memory", "cache_bytes": 6_000},  # the input of conv3 does not fit
}
OPTIONS = {"epochs": 2, "batch_size": 4, "learning_rate": 0.1, "schedule": "linear", "statistics_images": 7}


def left(name="left"):
    return [
        hebbcore.Whiten(2, epsilon=0.01, contrast=0.01, name=f"{name}-whiten"),
        hebbcore.Conv(4, 1, hebbcore.SWTA(0.1), learning_rate=0.5, linear=True, name=name),
        hebbcore.Split(name=f"{name}-split"),
        hebbcore.BatchNorm(name=f"{name}-bn"),
        hebbcore.Conv(3, 1, "kwta", initial_weights="patches", conscience=0.1, name=f"{name}-second"),
        hebbcore.GridPool(2, name=f"{name}-grid"),
    ]


def right(name="right"):
    return [
        hebbcore.BatchNorm(name=f"{name}-bn"),
        hebbcore.Conv(5, 3, "hpca", name=name),
        hebbcore.Triangle(name=f"{name}-triangle"),
        hebbcore.GridPool(2, "max", name=f"{name}-grid"),
    ]


def whole(precision="float32", trunk=True, **options):
    """Return a network in which branches follow layers that learn, hold branches, and come before some."""
    before = [hebbcore.Conv(3, 2, "hpca"), hebbcore.Relu()] if trunk else []
    inner = Branches([hebbcore.Relu(2), hebbcore.Split()], [hebbcore.Power(0.5)], name="inner")
    return hebbcore.Network(
        [
            *before,
            Branches(
                [hebbcore.Conv(4, 2, "swta", learning_rate=0.5), hebbcore.Pool(2)],
                [inner, hebbcore.Conv(2, 2, "hpca", initial_weights="patches"), hebbcore.BatchNorm(), hebbcore.Pool(2)],
                name="join",
            ),
            hebbcore.BatchNorm(),
            hebbcore.Dense(3, "softhebb", learning_rate=0.05),
        ],
        IMAGES[1:],
        precision=precision,
        device="cpu",
        **options,
    )


def train(network, run=None, mode="layerwise", count=10, **options):
    return hebbcore.fit(network, images(count, np.uint8), run=run, **{**OPTIONS, **MODES[mode], **options})


@pytest.mark.parametrize("learn", ["layerwise", "memory", "disk"])
def test_branches_learn_what_networks_of_their_own_do(learn):
    joined = hebbcore.Network([Branches(left(), right())], IMAGES[1:], device="cpu")
    alone = [hebbcore.Network(layers, IMAGES[1:], device="cpu") for layers in (left(), right())]
    for network in alone:  # the same weights at first, and what is drawn for starts
        for name, layer in network.learners.items():
            layer._seed = joined[name]._seed
            layer.restore({key: array.copy() for key, array in joined[name].arrays().items()})
    for network in (joined, *alone):
        train(network, mode=learn, shuffle=False)
    assert_same(arrays(joined), arrays(alone[0]) | arrays(alone[1]))
    pictures = images(9, np.float32, seed=2)
    for mirror in (False, True):
        expected = np.concatenate([network.transform(pictures, mirror=mirror) for network in alone], axis=-1)
        np.testing.assert_array_equal(joined.transform(pictures, mirror=mirror), expected)
    assert joined.shapes[-1] == expected.shape[1:] == (2, 2, 8)


def test_branches_learn_together_what_networks_of_their_own_do():
    parts = [right, lambda: left()[:3]]
    joined = hebbcore.Network(
        [Branches(*[[*part(), hebbcore.GridPool(2)] for part in parts])], IMAGES[1:], device="cpu"
    )
    alone = [hebbcore.Network(part(), IMAGES[1:], device="cpu") for part in parts]
    for network in alone:
        for name, layer in network.learners.items():
            layer.restore({key: array.copy() for key, array in joined[name].arrays().items()})
    for network in (joined, *alone):  # the whitening, though it comes after a layer that learns, sees a pass before all
        train(network, mode="together", shuffle=False, learning_rate=None)
    assert_same(arrays(joined), arrays(alone[0]) | arrays(alone[1]))


@pytest.mark.parametrize("trunk", [True, False])
def test_the_output_of_every_layer_is_found_alone_and_in_one_pass(trunk):
    network = train(whole("float64", trunk))
    pictures = images(6)
    few = 3 * network.image_bytes()
    found = network.features(pictures, network.names, workspace=few)
    for name in network.names:
        alone = network.transform(pictures, name, workspace=few)  # in chains, and by other batches: up to rounding
        np.testing.assert_allclose(found[name], alone, rtol=1e-12, atol=1e-13, err_msg=name)
        assert found[name].shape[1:] == network.shapes[network.index_of("test", name)]
    by_layer = dict(zip(network.names, network.graph.reads, strict=True))
    for join in ("inner", "join"):
        ends = [found[network.names[value - 1]] for value in by_layer[join]]
        np.testing.assert_array_equal(found[join], np.concatenate(ends, axis=-1))
    given = found["relu1"] if trunk else pictures
    np.testing.assert_array_equal(found["inner"][..., -given.shape[-1] :], np.sign(given) * np.abs(given) ** 0.5)


@pytest.mark.parametrize("mode", ["memory", "disk", "partly"])
def test_a_cache_changes_nothing(mode):
    expected = arrays(train(whole(), shuffle=False))
    assert_same(arrays(train(whole(), mode=mode, shuffle=False)), expected)
    # of shuffled images it holds what other batches made, of which a GEMM may round other numbers of rows otherwise
    assert_near(arrays(train(whole(), mode=mode)), arrays(train(whole())), 1e-6)


@pytest.mark.parametrize("trunk", [True, False])
def test_the_arrays_are_as_large_as_told(trunk):
    network = whole(trunk=trunk)
    network.run(images(11, np.uint8), 0, len(network), training=True)
    assert sum(buffer.nbytes for buffer in network._pipeline._buffers) == 11 * network.image_bytes()


class Stopped(Exception):
    pass


@pytest.mark.parametrize("mode", MODES)
def test_a_training_that_was_stopped_goes_on_to_the_same_bits(mode, tmp_path, monkeypatch):
    monkeypatch.setattr("hebbcore.files.sync", lambda path: None)
    steps = []
    expected = arrays(train(whole(), mode=mode, log_seconds=0, callback=lambda record: steps.append(record["step"])))
    for step in sorted(set(steps))[::3]:
        run = tmp_path / str(step)

        def stop(record, step=step):
            if record["step"] == step:
                raise Stopped

        with pytest.raises(Stopped):
            train(whole(), run, mode, checkpoint_minutes=1e-9, log_seconds=0, callback=stop)
        network = train(whole(), run, mode, checkpoint_minutes=1e-9, log_seconds=0)
        assert_same(arrays(network), expected)
    assert set(lines(run / "metrics.jsonl")[-1]["layers"]) <= set(network.learners)
    told = {name for record in lines(run / "metrics.jsonl") for name in record["layers"]}
    assert told == set(network.learners) == {"conv1", "conv2", "conv3", "fc4"}


def test_a_run_of_other_branches_is_refused(tmp_path):
    train(whole(), tmp_path)
    other = whole()
    layers = serialize.layers_of(checkpoint.describe("test", other)["layers"], "layers")
    layers[2].branches[0][0].learning_rate = 0.25
    with pytest.raises(
        ValueError, match=r"layers\[2\]\.branches\[0\]\[0\]\.learning_rate is 0\.25 here and 0\.5 there"
    ):
        train(hebbcore.Network(layers, IMAGES[1:], device="cpu"), tmp_path)


def test_copies_pickles_and_files_are_the_same_network(tmp_path):
    network = train(whole())
    hebbcore.save(tmp_path / "network.h5", network)
    pictures = images(5, np.uint8)
    for other in (
        hebbcore.load(tmp_path / "network.h5", device="cpu"),
        pickle.loads(pickle.dumps(network)),
        copy.deepcopy(network),
    ):
        assert other.names == network.names
        assert_same(arrays(other), arrays(network))
        assert checkpoint.digest_of(other) == checkpoint.digest_of(network)
        np.testing.assert_array_equal(other.transform(pictures, mirror=True), network.transform(pictures, mirror=True))
    network["conv2"].weights += 1
    assert checkpoint.digest_of(other) != checkpoint.digest_of(network)


def test_a_file_that_lacks_an_array_of_a_branch_is_refused(tmp_path):
    network = whole()
    header, found = checkpoint.describe("test", network), checkpoint.arrays_of(network)
    checkpoint.write(tmp_path / "a.h5", header, {key: found[key] for key in found if key != "conv2/weights"})
    with pytest.raises(ValueError, match="conv2 lacks its weights"):
        hebbcore.load(tmp_path / "a.h5", device="cpu")


def test_names_summary_and_blocks():
    network = whole()
    assert network.names == [
        "conv1", "relu1", "conv2", "pool2", "relu2", "split2", "power2", "inner", "conv3", "bn3", "pool3", "join",
        "bn4", "fc4",
    ]  # fmt: skip
    assert [network[name] for name in network.names] == list(network.layers)
    assert len(network.stack) == 5
    starts = [line[: len(line) - len(line.lstrip()) + 5] for line in network.summary().splitlines()]
    assert starts[3:8] == ["  conv2", "  pool2", "    relu2", "    split", "    power"]
    assert block_ends(network) == ["relu1", "pool2", "inner", "pool3", "bn4", "fc4"]


TABLES = """
[data]
path = "images.h5"
[network]
image_shape = [7, 7, 2]
[[network.layers]]
type = "conv"
units = 3
kernel_size = 2
[[network.layers]]
type = "branches"
branches = [
  [
    {type = "conv", units = 4, kernel_size = 2, rule = {name = "swta", temperature = 0.1}},
    {type = "flatten"},
  ],
  [{type = "dense", units = 2, name = "side"}],
]
[[network.layers]]
type = "split"
"""


def test_a_configuration_with_branches():
    config = changed_config(
        tomllib.loads(TABLES),
        ["network.layers.conv2.units=6", "network.layers.side.rule=krotov", "network.layers.side.rule.p=4.0",
         "network.layers.2.threshold=0.5"], [],
    )  # fmt: skip
    network = config.make_network()
    assert network.names == ["conv1", "conv2", "flatten2", "side", "branches3", "split3"]
    assert (network["conv2"].units, network["side"].rule) == (6, hebbcore.Krotov(p=4.0))
    assert network["split3"].threshold == 0.5
    assert network.shapes[-1] == (2 * (6 * 5 * 5 + 2),)
    again = config_of({**config.table(), "network": {"layers": config.layer_tables()}})
    assert again.layer_tables() == config.layer_tables()


def test_a_preset_with_branches(monkeypatch):
    def build():
        return [hebbcore.Conv(4, 2), Branches(left("a"), right("b")), hebbcore.Power(0.5)], IMAGES[1:]

    monkeypatch.setitem(hebbcore.PRESETS, "forked", build)
    network = hebbcore.preset("forked", rule={"a": "softhebb", "b": "swta"}, preprocess="normalize", device="cpu")
    assert [type(layer.rule).__name__ for layer in network.learners.values()] == ["HPCA", "SoftHebb", "KWTA", "SWTA"]
    assert network["b"].linear  # a Triangle follows
    assert {layer.rule for layer in hebbcore.preset("forked", rule="swta").learners.values()} == {hebbcore.SWTA()}
    table = {"data": {"path": "images.h5"}, "network": {"preset": "forked", "rule": {"b": "swta"}}}
    config = changed_config(table, ["network.layers.a.units=6", "network.layers.a.rule.temperature=0.5"], [])
    assert (config.make_network()["a"].units, config.make_network()["a"].rule.temperature) == (6, 0.5)
    printed = config_of(tomllib.loads(_toml(config)))
    assert printed.layer_tables() == config.layer_tables()
    with pytest.raises(ValueError, match=r"network\.layers\.aa is unknown"):
        changed_config(table, ["network.layers.aa.units=6"], []).make_network()


def conv(units=2, kernel_size=3, **options):
    return hebbcore.Conv(units, kernel_size, **options)


WRONG = {
    "none": (lambda: Branches(), ValueError, "Branches: branches must be lists of layers, two or more, got ()"),
    "one": (lambda: Branches([conv()]), ValueError, "two or more"),
    "an empty one": (lambda: Branches([conv()], []), TypeError, "must be lists of hebbcore layers"),
    "no lists": (lambda: Branches(conv(), conv()), TypeError, "must be lists of hebbcore layers"),
    "no layers": (lambda: Branches([conv()], [3]), TypeError, "must be lists of hebbcore layers"),
    "both ways": (lambda: Branches([conv()], branches=[[conv()]]), ValueError, "says the same as the lists"),
    "sides": (
        lambda: hebbcore.Network([Branches([conv()], [conv(4, 2)], name="it")], (7, 7, 2)),
        ValueError,
        "Network: it joins outputs (5, 5, 2), (6, 6, 4), but they must have the same height and width",
    ),
    "vectors and images": (
        lambda: hebbcore.Network([Branches([conv()], [hebbcore.Dense(3)])], (7, 7, 2)),
        ValueError,
        "or all be vectors",
    ),
    "a layer that does not fit": (
        lambda: hebbcore.Network([Branches([conv()], [conv(2, 9)])], (7, 7, 2)),
        ValueError,
        "conv2",
    ),
    "a name twice": (
        lambda: hebbcore.Network([conv(name="a"), Branches([conv()], [conv(name="a")])]),
        ValueError,
        "two layers are named 'a'",
    ),
    "a layer twice": (
        lambda: hebbcore.Network([Branches([same := conv()], [same])]),
        ValueError,
        "a layer appears twice",
    ),
    "set in a network": (
        lambda: setattr(whole()["join"], "branches", ([conv()], [conv()])),
        AttributeError,
        "join.branches cannot be set",
    ),
    "whitening what is still changing": (
        lambda: train(hebbcore.Network([conv(), Branches([hebbcore.Whiten(2)], [conv(2, 2)])]), mode="together"),
        ValueError,
        "whiten1 comes after layers that learn",
    ),
    "a part alone": (
        lambda: whole().run(images(2), 3, len(whole())),
        ValueError,
        "cannot be run from value 3 alone",
    ),
    "no list in a table": (
        lambda: serialize.layer_of({"type": "branches", "branches": [[], 3]}, "network.layers[0]"),
        TypeError,
        "config: network.layers[0].branches[1] must be a list of tables of layers, got 3",
    ),
    "a key in a table": (
        lambda: serialize.layer_of(
            {"type": "branches", "branches": [[{"type": "conv", "unit": 2}]]}, "network.layers[0]"
        ),
        ValueError,
        "config: network.layers[0].branches[0][0].unit is unknown. Did you mean units?",
    ),
}


@pytest.mark.parametrize(("make", "kind", "message"), WRONG.values(), ids=WRONG)
def test_what_cannot_be_is_refused(make, kind, message):
    with pytest.raises(kind) as told:
        make()
    assert message in str(told.value)
