"""`hebbcore preset`: what it prints trains as the preset does."""

import dataclasses
import tomllib
from pathlib import Path

import h5py
import numpy as np
import pytest

import hebbcore
from hebbcore.presets import PRESETS
from hebbcore.runs.config import config_of

pytest_plugins = "cli_helpers"


def test_it_lists_the_presets(call):
    out, _ = call("preset")
    assert [line.split()[0] for line in out.splitlines()] == list(PRESETS)
    assert "softhebb-cifar      32 × 32 × 3     3 layers that learn by SoftHebb\n" in out


@pytest.mark.parametrize("name", PRESETS)
def test_what_is_printed_has_the_presets_layers(call, name):
    out, _ = call(f"preset {name}")
    printed = config_of(tomllib.loads(out))
    own = config_of({"data": {"path": "images.h5"}, "network": {"preset": name}})
    assert printed.layer_tables() == own.layer_tables()
    assert printed.network.image_shape == list(hebbcore.presets.preset_layers(name)[1])
    rate = 0.001 if any(layer.learning_rate is None for layer in own.learners()) else None  # what None means
    assert printed.training == dataclasses.replace(own.training, learning_rate=rate)
    assert printed.seed == own.seed


@pytest.mark.parametrize(
    "changes",
    [
        "--set network.preset=softhebb-cifar",
        "--set network.preset=softhebb-cifar --set network.rule=swta --set training.learning_rate=0.5 --set seed=3",
        "--set network.preset=fasthebb-6 --set network.preprocess=normalize --set network.image_shape=[26,26,3] "
        "--set network.layers.fc5.units=20 --set network.rule.fc5=kwta --set network.rule.fc5.k=3 "
        "--set training.schedule=linear",
    ],
)
def test_the_printed_file_trains_to_the_same_bits(images, call, changes):
    side = 26 if "26" in changes else 8
    with h5py.File("own.h5", "w") as file:
        file["train/images"] = np.random.default_rng(1).integers(0, 256, (6, side, side, 3), np.uint8)
    if side == 8:
        changes += " --set network.image_shape=[8,8,3] --set network.layers.conv3.units=20"
    changes += " --set training.batch_size=3 --set device=cpu"
    Path("preset.toml").write_text('[data]\npath = "own.h5"\n[network]\npreset = "vgg11"\n')
    call(f"train preset.toml --out a {changes}")
    name = changes.split("network.preset=")[1].split()[0]
    Path("printed.toml").write_text(call(f"preset {name} {changes}")[0])
    call("train printed.toml --out b --set data.path=own.h5")
    one, two = (hebbcore.load(run, device="cpu") for run in "ab")
    assert one.names == two.names
    for mine, other in zip(one.layers, two.layers, strict=True):
        for key, array in mine.arrays().items():
            np.testing.assert_array_equal(other.arrays()[key], array)


def test_values_that_toml_writes_in_its_own_way(call):
    line = [
        "preset", "softhebb-cifar", "--set", "network.rule={name = 'softhebb', adaptive_power = 'none', p = 2.5}",
        "--set", "network.preprocess=whiten", "--set", 'data.split=a "b" \\ \x7f\n', "--set", "data.subset=0.5",
    ]  # fmt: skip
    printed = config_of(tomllib.loads(call(line)[0]))
    layers = {table["name"]: table for table in printed.layer_tables()}
    assert (layers["input"]["kernel_size"], layers["input"]["contrast"]) == (None, None)
    assert layers["conv1"]["rule"]["adaptive_power"] is None
    assert (printed.data.split, printed.data.subset) == ('a "b" \\ \x7f', 0.5)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("preset softhebb", "config: network.preset must be one of 'dictionary', "),
        ("preset --set seed=3", "preset: --set changes a network; name one."),
        ("preset vgg11 --set network.rule=hpac", "config: network.rule.name is 'hpac', which is unknown. Did you mean"),
        ("preset vgg11 --set training.cache=disk", "config: training.cache='disk' has no effect"),
    ],
)
def test_errors_of_preset(fails, line, message):
    assert fails(line).startswith(message)


def test_an_unknown_preset_may_be_one_of_ones_own(fails):
    message = fails("preset mine")
    assert message.startswith("config: network.preset must be one of 'dictionary', ")
    assert message.endswith("got 'mine'. (One of your own is known once its module is imported: --import MODULE.)")
