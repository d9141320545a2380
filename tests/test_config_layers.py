"""Layers in a configuration: rules and parameters by name or place, recorded with the run; settings without effect."""

import json
import re

import pytest

import hebbcore
from hebbcore.runs.config import read_config

PRESET = '[data]\npath = "x.h5"\n[network]\npreset = "softhebb-cifar"\n'
LAYERS = """
[data]
path = "x.h5"
[[network.layers]]
type = "batchnorm"
[[network.layers]]
type = "conv"
units = 96
kernel_size = 5
rule = "swta"
[[network.layers]]
type = "pool"
window = 2
"""
BRANCHED = """
[data]
path = "x.h5"
[[network.layers]]
type = "branches"
branches = [
    [{type = "conv", units = 8, kernel_size = 3}],
    [
        {type = "relu"},
        {type = "branches", branches = [[{type = "conv", units = 4, kernel_size = 3}], [{type = "relu"}]]},
    ],
]
"""


@pytest.fixture
def read(tmp_path):
    """Write a text to a file and read it as a configuration."""

    def read(text, *changes, name="run.toml", check=True):
        path = tmp_path / name
        path.write_text(text, "utf-8")
        config = read_config(path, changes)
        if check:
            config.check()
        return config

    return read


def layers_of(config):
    return {table["name"]: table for table in config.layer_tables()}


@pytest.mark.parametrize(
    ("text", "change", "layer", "key", "value"),
    [
        (PRESET, "network.layers.conv1.learning_rate=0.01", "conv1", "learning_rate", 0.01),
        (PRESET, "network.layers.conv1.learning_rate=none", "conv1", "learning_rate", None),
        (PRESET, "network.layers.1.units=64", "conv1", "units", 64),
        (PRESET, "network.layers[5].units=64", "conv2", "units", 64),
        (PRESET, "network.layers.pool2.kind=average", "pool2", "kind", "average"),
        (PRESET, "network.layers.triangle3.power=2", "triangle3", "power", 2.0),
        (LAYERS, "network.layers.conv1.learning_rate=0.01", "conv1", "learning_rate", 0.01),
        (LAYERS, "network.layers.1.units=64", "conv1", "units", 64),
        (LAYERS, "network.layers[2].padding=[0, 1]", "pool1", "padding", [0, 1]),
        (LAYERS, "network.layers.bn1.epsilon=0.5", "bn1", "epsilon", 0.5),
    ],
)
def test_a_parameter_of_a_layer_is_set_by_name_or_place(read, text, change, layer, key, value):
    before, config = layers_of(read(text)), read(text, change)
    after = layers_of(config)
    assert after[layer][key] == value != before[layer][key]
    after[layer][key] = before[layer][key]
    assert after == before
    again = read(json.dumps(config.table()), name="config.json")
    assert again == config
    assert layers_of(again) == layers_of(config)


@pytest.mark.parametrize("places", [("conv1", "conv1"), ("[1]", "conv1"), ("conv1", "[1]")])
def test_changes_of_a_layer_are_looked_at_together(read, places):
    """Each of them alone would be refused, in whichever order they are given."""
    text = LAYERS.replace('rule = "swta"', 'rule = "swta"\nconscience = 0.05')
    changes = [f"network.layers.{places[0]}.rule=hpca", f"network.layers.{places[1]}.conscience=0"]
    changes = [change.replace(".[", "[") for change in changes]
    config = read(text, *changes)
    assert layers_of(config)["conv1"]["rule"]["name"] == "hpca"
    assert read(text, *reversed(changes)) == config
    with pytest.raises(ValueError, match=r"^config: network.layers\[1\].conscience is for rules whose units compete"):
        read(text, changes[0])
    renamed = read(text, "network.layers.conv1.name=first", "network.layers.first.units=7")
    assert layers_of(renamed)["first"]["units"] == 7


def test_a_preset_counts_its_classifier(read):
    text = '[data]\npath = "x.h5"\n[network]\npreset = "fasthebb-6"\nclasses = 10\n'
    assert layers_of(read(text, "network.layers[12].learning_rate=0.5"))["classifier"]["learning_rate"] == 0.5
    with pytest.raises(ValueError, match="there are 13 layers, counted from 0"):
        read(text, "network.layers[13].learning_rate=0.5")


def test_a_file_names_layers_of_its_preset(read):
    text = f"{PRESET}[network.layers.conv1]\nlearning_rate = 0.5\nunits = 7\n[network.layers.pool1]\nkind = 'average'\n"
    layers = layers_of(read(text))
    assert (layers["conv1"]["learning_rate"], layers["conv1"]["units"], layers["pool1"]["kind"]) == (0.5, 7, "average")
    network = read(text, "network.layers.conv1.units=5", "network.image_shape=[8, 8, 3]").make_network()
    assert network["conv1"].weights.shape == (5, 5, 5, 3)


def test_a_change_of_a_layer_of_a_runs_configuration(read):
    stored = json.dumps(read(PRESET).table())
    assert '"layers": null' in stored
    config = read(stored, "network.layers.conv1.units=7", name="config.json")
    assert layers_of(config)["conv1"]["units"] == 7
    again = read(json.dumps(config.table()), "network.layers.0.epsilon=0.5", name="config.json")
    assert (layers_of(again)["conv1"]["units"], layers_of(again)["bn1"]["epsilon"]) == (7, 0.5)


def test_rules_of_a_preset(read):
    swta = {"name": "swta", "temperature": 0.5, "competition": "exp"}
    own = layers_of(read(PRESET))
    for changes in (
        ["network.rule={conv2 = {name = 'swta', temperature = 0.5}}"],
        ["network.rule.conv2.name=swta", "network.rule.conv2.temperature=0.5"],
        ["network.layers.conv2.rule={name = 'swta', temperature = 0.5}"],
        ["network.layers.conv2.rule=swta", "network.layers.conv2.rule.temperature=0.5"],
        ["network.rule=hpca", "network.layers.conv2.rule=swta", "network.layers.5.rule.temperature=0.5"],
    ):
        layers = layers_of(read(PRESET, *changes))
        assert (layers["conv2"]["rule"], layers["conv2"]["learning_rate"], layers["conv2"]["linear"]) == (
            swta,
            None,
            True,
        )
        if "network.rule=hpca" in changes:
            assert layers["conv3"]["rule"]["name"] == "hpca"
        else:
            assert layers["conv3"] == own["conv3"]
    rule = layers_of(read(PRESET, "network.rule=swta", "network.rule.temperature=0.5"))["conv3"]["rule"]
    assert rule == swta
    changed = layers_of(read(PRESET, "network.layers.conv2.rule.temperature=3"))["conv2"]
    assert changed == {**own["conv2"], "rule": {**own["conv2"]["rule"], "temperature": 3}}
    rated = layers_of(read(PRESET, "network.rule=hpca", "network.layers.conv2.learning_rate=0.25"))
    assert [rated[name]["learning_rate"] for name in ("conv1", "conv2", "conv3")] == [None, 0.25, None]
    listed = layers_of(read(LAYERS, "network.layers.conv1.rule.temperature=0.5"))["conv1"]["rule"]
    assert listed == swta


def test_the_layers_of_a_configuration_are_the_presets(read):
    config = read(PRESET, "network.image_shape=[8, 8, 3]", "network.rule={conv1 = 'krotov'}", "seed=3", "device=cpu")
    network = hebbcore.preset("softhebb-cifar", rule={"conv1": "krotov"}, image_shape=(8, 8, 3), seed=3, device="cpu")
    made = config.make_network()
    assert made.names == network.names
    for name, layer in network.learners.items():
        assert (made[name].weights == layer.weights).all()


@pytest.mark.parametrize(
    ("text", "change", "message"),
    [
        (PRESET, "network.layers.conv4.units=3", "network.layers.conv4 is unknown. Did you mean conv3?"),
        (
            PRESET,
            "network.layers.12.units=3",
            "network.layers.12.units is unknown: there are 12 layers, counted from 0.",
        ),
        (PRESET, "network.layers.conv1.unit=3", "network.layers.conv1.unit is unknown. Did you mean units?"),
        (PRESET, "network.layers.conv1.units=0", "network.layers.conv1.units must be at least 1, got 0."),
        (PRESET, "network.layers.conv1=3", "network.layers.conv1 must be a table of what is to be changed, got 3."),
        (
            PRESET,
            "network.layers.pool1.rule=hpca",
            "network.layers.pool1.rule is unknown. Known: window, stride, padding, ",
        ),
        (
            PRESET,
            "network.layers.conv1.type=dense",
            "network.layers.conv1.type cannot be changed; print the preset (hebbcore preset) and edit it.",
        ),
        (
            PRESET,
            "network.layers.conv1.rule.k=3",
            "network.layers.conv1.rule.k is unknown. Known: temperature, p, anti_",
        ),
        (
            PRESET,
            "network.rule={conv9 = 'hpca'}",
            "network.rule.conv9 is unknown; a rule is its name, a table with name",
        ),
        (
            PRESET,
            "network.rule={conv1 = 'hpac'}",
            "network.rule.conv1.name is 'hpac', which is unknown. Did you mean hpca",
        ),
        (
            PRESET,
            "network.rule={name = 'kwta', k = 97}",
            "network: conv1: k must be between 1 and the number of units (96)",
        ),
        (LAYERS, "network.layers.conv2.units=3", "network.layers.conv2.units is unknown. Did you mean conv1?"),
        (LAYERS, "network.layers.3.units=3", "network.layers.3.units is unknown: there are 3 layers, counted from 0."),
        (LAYERS, "network.layers.conv1.unit=3", "network.layers[1].unit is unknown. Did you mean units?"),
        (
            f"{LAYERS}[[network.layers]]\nwindow = 2\n",
            "network.layers.conv1.units=3",
            "network.layers[3].type is missing",
        ),
        (LAYERS, "network.layers={3 = 4}", "network.layers by name are changes to those of a preset; give preset"),
        (
            BRANCHED.replace("branches = [\n", "branches = 3 # [\n", 1).split("# [")[0],
            "network.layers.conv1.units=3",
            "network.layers[0].branches must be lists of tables of layers, got 3.",
        ),
        (LAYERS, "network.layers.conv1.units.x=3", "network.layers.conv1.units.x cannot be set: units is no table."),
        (
            '[data]\npath = "x"\n[network.layers.conv1]\nunits = 3\n',
            "seed=1",
            "network.layers by name are changes to those of a preset; give preset, or [[network.layers]].",
        ),
    ],
)
def test_what_is_wrong_with_a_change_of_a_layer(read, text, change, message):
    with pytest.raises((TypeError, ValueError)) as caught:
        read(text, change)
    assert str(caught.value).startswith(f"config: {message}")


@pytest.mark.parametrize("preset", ["fasthebb-6", "dictionary"])
def test_a_changed_layer_that_does_not_fit_is_told_without_the_advice_of_the_preset(read, preset):
    text = f'device = "cpu"\n[data]\npath = "x.h5"\n[network]\npreset = "{preset}"\nimage_shape = [32, 32, 3]\n'
    told = r"kernel_size 40×40 is larger than the padded image \S+; use a smaller kernel or more padding\.$"
    with pytest.raises(ValueError, match=f"^config: network: conv2: {told}"):
        read(f"{text}layers.conv2.kernel_size = 40").make_network()
    network = read(f"{text}layers.conv1.learning_rate = 0.5").make_network()
    assert network["conv1"].learning_rate == 0.5
    assert network.training == hebbcore.presets.training_of(preset)


@pytest.mark.parametrize("change", ["units=7", "rule.temperature=0.5", "kernel_size=[5, 3]"])
def test_layers_of_branches_are_counted_too(read, change):
    text = BRANCHED.replace("units = 4", 'units = 4, rule = "swta"').replace("units = 8", 'units = 8, rule = "swta"')
    first = read(text, f"network.layers[0].branches[0][0].{change}")
    assert first == read(text, f"network.layers.conv1.{change}") != read(text)
    inner = read(text, f"network.layers[0].branches[1][1].branches[0][0].{change}")
    assert inner == read(text, f"network.layers.conv2.{change}") != first
    whole = "network.layers[0].branches[1][0]={type = 'triangle'}"
    assert "triangle" in json.dumps(read(text, whole).table())
    for place, at in (("branches[2][0]", "2 stands a list of 2"), ("branches.conv[0]", "conv stands a list of 2")):
        with pytest.raises(ValueError, match=rf"^config: network\.layers\.0\.branches.* is unknown: at {at}, counted"):
            read(text, f"network.layers[0].{place}.{change}")


@pytest.mark.parametrize(
    ("text", "changes", "message"),
    [
        (
            PRESET,
            ["training.learning_rate=0.5"],
            "training.learning_rate=0.5 has no effect, since every layer has a rate of its own",
        ),
        (PRESET, ["training.cache=memory"], "training.cache='memory' has no effect: it is for mode="),
        (PRESET, ["training.cache_bytes=1"], "training.cache_bytes has no effect: it bounds a cache, and cache is"),
        (
            PRESET,
            ["training.statistics_images=5"],
            "training.statistics_images has no effect: it is for layers with a pass of their own",
        ),
        (
            PRESET,
            ["training.schedule=epochs"],
            'training.schedule="epochs" has no effect: it lowers the rates after each epoch',
        ),
        (
            PRESET,
            ["training.mode=layerwise", "network.layers.bn1.momentum=0.3"],
            "network.layers.bn1.momentum=0.3 has no effect layer by layer",
        ),
        (
            PRESET,
            ["network.rule=hpca", *(f"network.layers.conv{i}.rule=swta" for i in (1, 2, 3))],
            "network.rule changes nothing: network.layers gives every layer its own.",
        ),
        (
            PRESET,
            ["network.rule.conv1=hpca", "network.rule.conv2=hpca", "network.layers.conv2.rule={name = 'swta'}"],
            "network.rule.conv2 changes nothing: network.layers.conv2 gives the layer another rule",
        ),
    ],
)
def test_a_setting_that_changes_nothing_is_refused(read, text, changes, message):
    config = read(text, *changes, check=False)
    with pytest.raises(ValueError, match=f"^config: {re.escape(message)}"):
        config.check()


@pytest.mark.parametrize(
    ("text", "changes"),
    [
        (PRESET, ["training.learning_rate=none", "training.cache=none", "training.statistics_images=10000"]),
        (PRESET, ["training.learning_rate=0.5", "network.layers.conv1.learning_rate=none"]),
        (PRESET, ["training.learning_rate=0.5", "network.rule={conv1 = 'swta'}"]),
        (PRESET, ["training.cache=memory", "training.cache_bytes=1", "training.mode=layerwise"]),
        (PRESET, ["training.statistics_images=5", "training.mode=layerwise"]),
        (PRESET, ["training.statistics_images=5", "network.preprocess=whiten"]),
        (PRESET, ["training.schedule=epochs", "training.epochs=2"]),
        (PRESET, ["network.layers.bn1.momentum=0.3"]),
        (PRESET, ["network.rule=hpca", "network.layers.conv1.rule=swta"]),
        (PRESET, ["network.rule=swta", *(f"network.layers.conv{i}.rule.temperature=0.5" for i in (1, 2, 3))]),
        (PRESET, ["network.rule.conv1=swta", "network.layers.conv1.rule.temperature=0.5"]),
        (LAYERS, ["training.learning_rate=0.5"]),
    ],
)
def test_a_setting_that_changes_something_is_taken(read, text, changes):
    read(text, *changes)
