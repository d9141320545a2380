"""Options of commands that would change nothing are refused, with what to do."""

from pathlib import Path

import h5py
import numpy as np
import pytest
from cli_helpers import CONV, config_text

pytest_plugins = "cli_helpers"

CONFIG = config_text(CONV, {"type": "dense", "units": 3})
EVALUATE = "evaluate a --train images.h5 --test images.h5 --out e --queries 0 --baselines none"


@pytest.fixture
def run(images, call):
    Path("run.toml").write_text(CONFIG)
    call("train run.toml --out a")
    return Path("a/checkpoints")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            f"{EVALUATE} --labels 100 --seeds 3",
            "evaluate: --seeds has no effect: --labels 100 takes all labels, so that",
        ),
        (f"{EVALUATE} --labels 100 --select stratified", "evaluate: --select has no effect: --labels 100"),
        (f"{EVALUATE} --image-size 8", "--image-size is for shards; images.h5 is a file of arrays."),
        (
            "extract FILE images.h5 f.h5 --previous",
            "--previous is for the folder of a run; a/checkpoints/step-0000000004",
        ),
        ("extract a images.h5 f.h5 --image-size 8", "--image-size is for shards; images.h5 is a file of arrays."),
        ("extract a shards/test f.h5 --split test", "--split is for HDF5 files; shards/test is a folder of shards"),
        ("extract a images.h5 f.h5 --pool 2", "extract: pool "),
        (
            "train run.toml --out b --set data.image_size=8",
            "config: data.image_size is for shards; images.h5 is a file",
        ),
        ("train run.toml --out b --set data.crop=random", 'config: data.crop "random" needs image_size'),
        (
            "train run.toml --out b --set data.path=shards/train --set data.split=test",
            "config: data.split is for HDF5 files; shards/train is a folder of shards, which is one split.",
        ),
        ("train run.toml --out b --set training.cache=memory", "config: training.cache='memory' has no effect"),
        (
            "train run.toml --out b --set network.rule=swta",
            "config: network.rule goes with a preset; layers have rules",
        ),
        ("train run.toml --out b --set network.preprocess=whiten", "config: network.preprocess goes with a preset"),
    ],
)
def test_an_option_that_changes_nothing_is_refused(run, fails, line, message):
    assert fails(line.replace("FILE", str(next(run.iterdir())))).startswith(message)
    assert not Path("b").exists()
    assert not Path("f.h5").exists()


def test_options_that_change_something_are_taken(run, call):
    call(f"{EVALUATE} --labels 50,100 --seeds 1 --select stratified")


def test_what_is_wrong_with_the_numbers_of_a_file_names_it(images, call, fails):
    Path("run.toml").write_text(
        'device = "cpu"\n[data]\npath = "bad.h5"\n[[network.layers]]\ntype = "conv"\nunits = 2\nkernel_size = 3\n'
    )
    with h5py.File("images.h5") as file, h5py.File("bad.h5", "w") as bad:
        pixels = file["train/images"][...] / np.float32(255)
        pixels[7, 0, 0, 0] = np.nan
        bad["train/images"], bad["train/labels"] = pixels, file["train/labels"][...] + 0.5
    assert fails("train run.toml --out a").endswith("if you mean it. The data are bad.h5.")
    with h5py.File("bad.h5", "r+") as bad:
        bad["train/images"][7] = 1e30
    assert fails("train run.toml --out b").endswith("to standard deviations of about 1. The data are bad.h5.")
    call("train run.toml --out a --set data.path=images.h5")
    assert fails("evaluate a --train bad.h5 --test images.h5 --out r") == (
        "bad.h5: train/labels must be integers, numbers of classes, got float64."
    )
