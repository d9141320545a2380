"""A training from Python keeps its configuration with the run, and the command line is not confused by it."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest

import hebbcore
import loaders
from hebbcore.runs.config import read_config

pytest_plugins = "cli_helpers"


def network(seed=1, units=6):
    layers = [
        hebbcore.Conv(units, 3, hebbcore.SWTA(0.5), learning_rate=0.25, initial_weights="patches"),
        hebbcore.Pool(2),
        hebbcore.BatchNorm(),
    ]
    return hebbcore.Network(layers, seed=seed, device="cpu")


def fit(run, seed=1, units=6, **settings):
    with h5py.File("images.h5") as file:
        data = file["train/images"][...]
    return hebbcore.fit(network(seed, units), data, run=run, seed=seed, **{"batch_size": 16, **settings})


def config(run):
    return json.loads(Path(run, "config.json").read_text())


def test_a_run_from_python_has_its_configuration(images, call, files_of):
    fit("a", epochs=2)
    table = config("a")
    assert table["data"] == {"path": None}
    assert (table["seed"], table["device"], table["precision"], table["imports"]) == (1, "cpu", "float32", [])
    assert (table["training"]["epochs"], table["training"]["batch_size"]) == (2, 16)
    assert "seed" not in table["training"]
    assert table["network"]["image_shape"] == [8, 8, 3]
    conv = table["network"]["layers"][0]
    assert (conv["rule"], conv["learning_rate"]) == ({"name": "swta", "temperature": 0.5, "competition": "exp"}, 0.25)
    before = files_of("a")
    fit("a", epochs=2)
    assert files_of("a") == before
    fit("a", epochs=3, keep=2)
    assert (config("a")["training"]["epochs"], config("a")["training"]["keep"]) == (3, 2)
    call("train a/config.json --out b --set data.path=images.h5")  # says all that is needed for the same weights
    np.testing.assert_array_equal(
        *(hebbcore.load(run, device="cpu")["conv1"].weights for run in "ab")
    )  # fmt: skip


def test_the_command_line_goes_on_with_a_run_from_python(images, call, fails):
    fit("a")
    message = fails("train a/config.json --out a")
    assert message == (
        "config: data.path is null: the run was trained from Python, on images whose place is not known; give it, "
        "--set data.path=…."
    )
    line = "train a/config.json --set data.path=images.h5 --out a"
    stored = Path("a/config.json").read_bytes()
    assert fails(f"{line} --set network.layers.conv1.rule.temperature=0.25").startswith(
        "fit: a holds another training: layers[0].rule.temperature is 0.25 here and 0.5 there. Train into another"
    )
    assert Path("a/config.json").read_bytes() == stored
    call(f"{line} --set training.epochs=2")
    assert (config("a")["data"]["path"], config("a")["training"]["epochs"]) == ("images.h5", 2)
    np.testing.assert_array_equal(
        fit("b", epochs=2)["conv1"].weights, hebbcore.load("a", device="cpu")["conv1"].weights
    )
    fit("a", epochs=3)  # and the other way round
    assert (config("a")["data"]["path"], config("a")["training"]["epochs"]) == ("images.h5", 3)
    call(f"{line} --set training.epochs=3")


def test_a_stream_has_its_own_batches(images):
    stream = loaders.ShardStream("shards/train", batch_size=20, shuffle=True, labels=False)
    hebbcore.fit(network(), stream, run="a")
    assert "seed" not in config("a")["training"]
    assert (config("a")["training"]["batch_size"], config("a")["training"]["shuffle"]) == (20, True)


def test_two_seeds_are_no_configuration_of_one(images, fails):
    with h5py.File("images.h5") as file:
        hebbcore.fit(network(seed=1), file["train/images"][...], run="a", seed=2)
    assert (config("a")["seed"], config("a")["training"]["seed"]) == (1, 2)
    message = fails("train a/config.json --out b --set data.path=images.h5")
    assert message == "config: training.seed is unknown; seed stands at the top, for the whole run."


def test_a_configuration_that_cannot_be_read_stays(images):
    fit("a")
    for text in ("{", "[1]", '{"training": 3}'):
        Path("a/config.json").write_text(text)
        fit("a", epochs=2)
        assert Path("a/config.json").read_text() == text


@pytest.mark.parametrize("number", [np.float32(0.5), np.float64(0.25)])
def test_numpys_numbers_are_written_as_plain_ones(images, number):
    fit("a", rate_factor=number)
    assert config("a")["training"]["rate_factor"] == number
    assert read_config(Path("a/config.json"), ["data.path=images.h5"]).training.rate_factor == number


def test_verify_knows_what_a_run_was_trained_with(images, call, fails):
    """From Python and the command line, of arrays and of streams, whose batches, order and seed are their own."""
    fit("a", seed=2)
    with h5py.File("images.h5") as file:
        hebbcore.fit(network(seed=1), file["train/images"][...], run="b", seed=2)
    stream = loaders.ShardStream("shards/train", batch_size=20, shuffle=True, seed=5, labels=False)
    hebbcore.fit(network(), stream, run="c")
    Path("run.toml").write_text(
        'seed = 3\ndevice = "cpu"\n[data]\npath = "images.h5"\n[training]\nbatch_size = 16\n'
        '[[network.layers]]\ntype = "conv"\nunits = 2\nkernel_size = 3\n'
    )
    call("train run.toml --out d")
    call("train run.toml --out e --set data.path=shards/train")
    out, _ = call("verify a b c d e")
    assert out.count("config.json: readable, and network and training are those of step-") == 5
    for run in "abcde":
        path = Path(run, "config.json")
        before = path.read_text()
        units = '"units": 6' if run in "abc" else '"units": 2'
        for old, new, key in (
            ('"rate_factor": 1.0', '"rate_factor": 2.0', "training.rate_factor"),
            (units, '"units": 7', "network.layers[0].units"),
            ('"kernel_size": ', '"kernel_size_": ', "network"),
            ('"float32"', '"float64"', "precision"),
        ):
            assert old in before
            path.write_text(before.replace(old, new))
            out, _ = call(f"verify {run}", 1)
            assert f"verify: {run}/config.json is damaged: {key} is not what {run}/checkpoints/" in out
