"""The preset "dictionary" as users reach it: configurations, commands, sweeps and scikit-learn."""

import dataclasses
import json
import tomllib
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import RidgeClassifier
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import hebbcore
from hebbcore import checkpoint
from hebbcore.estimators import HebbianNetworkTransformer
from hebbcore.presets import training_of
from hebbcore.runs.config import config_of, read_config

pytest_plugins = "cli_helpers"

EXAMPLE = Path(__file__).parent.parent / "examples" / "cifar10_dictionary.toml"
SMALL = "--set data.path=images.h5 --set network.image_shape=[8,8,3] --set network.units=[4,6,7,5] --set device=cpu"
NETWORK = {"preset": "dictionary", "units": [4, 6, 7, 5], "image_shape": [12, 12, 1]}
DEFAULTS = training_of("dictionary", (4, 6, 7, 5))


def test_the_example_trains_and_is_evaluated(images, call, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr("hebbcore.cli.train.dead_texts", lambda path: ["3 of 6 units of conv2 won none."])
        out, _ = call(f"train {EXAMPLE} --out runs/d {SMALL} --set training.epochs=2")
    assert "\nfit trains it by default with mode='layerwise', epochs=4, " in out  # which were 2 here
    assert "training: " not in out
    assert "3 of 6 units of conv2 won none. Fewer network.units may help." in out  # preprocess would be refused
    given = json.loads(Path("runs/d/config.json").read_text())
    effective = {**DEFAULTS, "epochs": 2}
    assert {key: given["training"][key] for key in effective} == effective
    assert given["network"]["units"] == [4, 6, 7, 5]
    network = hebbcore.load("runs/d", device="cpu")
    assert network.training == DEFAULTS
    call("evaluate runs/d --train images.h5 --test images.h5 --out report --mirror --labels 100 --queries 0")
    results = json.loads(Path("report/results.json").read_text())
    assert results["sources"]["branches4"]["features"] == 3 * 3 * 36
    call("train runs/d/config.json --out runs/e")
    again = hebbcore.load("runs/e", device="cpu")
    np.testing.assert_array_equal(again["conv2"].weights, network["conv2"].weights)


def test_shards_and_the_size_of_their_batches(images, call):
    shards = "--set data.path=shards/train --set training.batch_size=30"
    call(f"train {EXAMPLE} --out runs/d {SMALL} {shards} --set training.epochs=1")
    given = json.loads(Path("runs/d/config.json").read_text())["training"]
    assert (given["mode"], given["batch_size"], given["epochs"]) == ("layerwise", 30, 1)


def test_a_configuration_without_the_sample_of_the_preset_trains_without_it(images, call):
    call(f"train {EXAMPLE} --out d {SMALL} --set training.epochs=1 --set training.sample=none")
    assert json.loads(Path("d/config.json").read_text())["training"]["sample"] is None
    assert checkpoint.header_of("test", checkpoint.checkpoints(Path("d"))[-1])["training"]["sample"] is None
    call("verify d")
    call(f"train {EXAMPLE} --out d {SMALL} --set training.epochs=1 --set training.sample=none")


def test_verify_does_not_call_the_run_of_an_earlier_preset_damaged_alone(images, call, monkeypatch):
    with monkeypatch.context() as before:
        before.setattr("hebbcore.dictionary.wide_kernel", lambda side: 3)
        call(f"train {EXAMPLE} --out d {SMALL} --set training.epochs=1")
        assert "damaged: 0" in call("verify d")[0]
    out, _ = call("verify d", 1)
    told = "d/config.json is damaged, or its preset is one of another version of hebbcore: network.layers[0].branches["
    assert told in out


def test_what_branches_join_is_kept_whole_unless_features_are_told(images, call):
    wide = SMALL.replace("[4,6,7,5]", "[4,300,7,5]")
    call(f"train {EXAMPLE} --out runs/d {wide} --set training.epochs=1")
    options = "--train images.h5 --test images.h5 --labels 100 --queries 0 --baselines pixels"
    for features, found in (("", 3 * 3 * 624), ("--features 2500", 2 * 2 * 624)):
        folder = f"report{len(features)}"
        call(f"evaluate runs/d {options} --out {folder} --layers branches4 {features}")
        results = json.loads(Path(folder, "results.json").read_text())
        assert results["sources"]["branches4"]["features"] == found


def test_a_sweep_judges_a_layer_inside_of_branches(images, call):
    options = "--seeds 2 --set training.epochs=1 --evaluate images.h5 --layer gaussianpool2"
    call(f"sweep {EXAMPLE} --out s {SMALL} {options}")
    runs = json.loads(Path("s/sweep.json").read_text())["runs"]
    assert [entry["judge"][2] for entry in runs.values() if entry["accuracy"] >= 0] == 2 * ["gaussianpool2"]


def config(training=None, **network):
    table = {"data": {"path": "x.h5"}, "network": {**NETWORK, **network}, "device": "cpu", "seed": 3}
    return config_of(table if training is None else {**table, "training": training})


def test_what_a_configuration_says_wins_over_the_preset():
    plain = config()
    assert vars(plain.training) == {**vars(plain.training), **DEFAULTS, "seed": 3}
    told = config({"epochs": 3, "mode": "layerwise"})
    assert vars(told.training) == {**vars(plain.training), "epochs": 3}
    other = config_of({"data": {"path": "x.h5"}, "network": {"preset": "vgg11"}})
    assert (other.training.mode, other.training.epochs, other.training.batch_size) == ("together", 1, 64)
    assert config_of(plain.table()).table() == plain.table()


def test_a_configuration_makes_the_network_of_its_images():
    network = config().make_network()
    assert network["whiten5"].kernel_size == (6, 6)
    assert network["gaussianpool1"].stride == (1, 1)
    assert network.training == DEFAULTS
    changed = config(layers={"conv2": {"units": 9}, "split3": {"threshold": 0.1}}).make_network()
    assert (changed["conv2"].units, changed["split3"].threshold) == (9, 0.1)
    large = config(image_shape=[192, 192, 1], layers={"reduced": {"cells": 48}}).make_network()
    assert large.shapes[0] == (48, 48, 1)


def test_changes_from_the_command_line_find_its_layers(images):
    changes = ["network.units=[4,7,8,5]", "network.layers.conv4.revival=5", "training.epochs=2"]
    read = read_config(EXAMPLE, changes)
    network = read.make_network()
    assert (network["conv2"].units, network["conv4"].revival, read.training.epochs) == (7, 5, 2)


@pytest.mark.parametrize(
    ("network", "message"),
    [
        ({"units": [4, 6]}, r"config: network\.units must be four numbers"),
        ({"units": [4, 6, 7, 0]}, r"config: network\.units must be at least 1, got 0"),
        ({"preset": "vgg11"}, r"config: network\.units is for 'dictionary' alone, not for 'vgg11'"),
        ({"preset": None, "layers": [{"type": "relu"}]}, r"config: network\.units goes with a preset"),
        ({"image_shape": [4, 4, 1]}, r"config: network: image_shape must be .* of 8 pixels a side or more"),
        ({"preprocess": "normalize"}, r'config: network: preprocess must be "none" for .dictionary.'),
    ],
)
def test_wrong_configurations(network, message):
    with pytest.raises(ValueError, match=message):
        config(**network)


def test_the_printed_preset_tells_the_training(call):
    out, _ = call("preset dictionary --set network.units=[4,6,7,5]")
    assert 'mode = "layerwise"' in out
    assert config_of(tomllib.loads(out)).training == dataclasses.replace(config().training, seed=0)


# scikit-learn


@pytest.fixture(scope="module")
def digits():
    data = load_digits()
    images = (data.images * 15).astype(np.uint8)[..., None]
    return train_test_split(images, data.target, train_size=100, stratify=data.target, random_state=0)


def accuracy(train, test, train_labels, test_labels):
    model = make_pipeline(StandardScaler(), RidgeClassifier(100.0))
    return model.fit(train, train_labels).score(test, test_labels)


def test_a_hundred_digits_beat_raw_pixels(digits):
    train, test, *labels = digits
    transformer = HebbianNetworkTransformer("dictionary", units=(32, 64, 64, 64), random_state=0, device="cpu")
    seen = transformer.fit_transform(train)
    assert seen.shape == (100, 9 * 2 * (64 + 64 + 64))
    assert transformer.network_.training == training_of("dictionary", transformer.units)
    raw = accuracy(train.reshape(len(train), -1), test.reshape(len(test), -1), *labels)
    assert accuracy(seen, transformer.transform(test), *labels) > raw + 0.05


@pytest.mark.parametrize("count", [1, 50])
@pytest.mark.filterwarnings("error")
def test_few_images_are_no_reason_to_warn(digits, count):
    transformer = HebbianNetworkTransformer("dictionary", units=(8, 16, 16, 8), random_state=0, device="cpu")
    seen = transformer.fit_transform(digits[0][:count])
    assert seen.shape == (count, 9 * 2 * (16 + 16 + 8))
    assert np.isfinite(seen).all()


def test_flattened_images_and_mirrors(digits):
    images = digits[0][:30]
    options = {"units": (4, 6, 7, 5), "random_state": 0, "device": "cpu", "epochs": 1}
    straight = HebbianNetworkTransformer("dictionary", **options).fit_transform(images)
    flat = HebbianNetworkTransformer("dictionary", image_shape=(8, 8, 1), **options)
    np.testing.assert_array_equal(flat.fit_transform(images.reshape(30, -1)), straight)
    mirrored = HebbianNetworkTransformer("dictionary", mirror=True, **options).fit(images)
    np.testing.assert_allclose(mirrored.transform(images[:, :, ::-1]), mirrored.transform(images), rtol=1e-5, atol=1e-6)


def test_vectors_are_refused(digits):
    with pytest.raises(ValueError, match=r"image_shape must be \(height, width, channels\) of 8 pixels a side"):
        HebbianNetworkTransformer("dictionary").fit(digits[0].reshape(100, -1))
