"""A run that an earlier version left in the middle goes on; tests/old_run was written by 0.1.0 of November 2026."""

import json
import shutil
from pathlib import Path

import numpy as np

import hebbcore
from hebbcore.runs.config import read_config

pytest_plugins = "cli_helpers"

OLD = Path(__file__).parent / "old_run"


def test_a_run_of_an_earlier_version_goes_on_with_the_same_command(images, call):
    shutil.copytree(OLD, "a")
    shutil.move("a/run.toml", "run.toml")
    call("train run.toml --out a")
    assert [path.name for path in sorted(Path("a/checkpoints").iterdir())] == [
        "step-0000000004.h5",
        "step-0000000008.h5",
    ]
    call("train run.toml --out whole")
    one, two = (hebbcore.load(run, device="cpu")["conv1"].weights for run in ("a", "whole"))
    np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-5)  # the first half is of another machine
    call("train a/config.json --out a")
    call("extract a images.h5 f.h5")
    call("plot a whole --out both")


def test_the_configuration_of_an_earlier_version_has_no_setting_without_effect(images):
    """It lists every default, and its only layer has a rate of its own."""
    config = read_config(OLD / "config.json")
    config.check()
    assert json.loads((OLD / "config.json").read_text())["training"]["learning_rate"] == 0.001
    assert config.layer_tables() == read_config(OLD / "run.toml").layer_tables()


def test_a_preset_of_an_earlier_version(tmp_path):
    training = json.loads((OLD / "config.json").read_text())["training"]
    network = {"preset": "softhebb-cifar", "rule": None, "preprocess": "none", "layers": None, "image_shape": None}
    (tmp_path / "config.json").write_text(
        json.dumps({"data": {"path": "x"}, "network": network, "training": training, "seed": 3})
    )
    config = read_config(tmp_path / "config.json")
    config.check()
    assert (config.seed, config.training.seed, config.network.preset) == (3, 3, "softhebb-cifar")
