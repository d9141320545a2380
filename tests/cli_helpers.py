"""A working folder, a configuration, and command lines, for the tests of commands."""

import json
import os
from pathlib import Path

import h5py
import numpy as np
import pytest

import hebbcore
import loaders
from hebbcore.cli import main

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(hebbcore.__file__).parents[1])}

CONV = {"type": "conv", "units": 6, "kernel_size": 3}
POOL = {"type": "pool", "window": 2}
BATCH_NORM = {"type": "batchnorm"}


def config_text(*layers, seed=0, **training):
    """Return a configuration (TOML) that trains a network of these layers on images.h5, on the CPU."""
    lines = [f"seed = {seed}", 'device = "cpu"', "[data]", 'path = "images.h5"']
    for layer in layers:
        lines += ["[[network.layers]]", *map(_line, layer.items())]
    return "\n".join([*lines, "[training]", *map(_line, {"batch_size": 16, **training}.items())]) + "\n"


def _line(item):
    key, value = item
    inner = ", ".join(map(_line, value.items())) if isinstance(value, dict) else None
    return f"{key} = {json.dumps(value) if inner is None else '{' + inner + '}'}"


@pytest.fixture
def images(tmp_path, monkeypatch):
    """A working folder with images.h5 and shards of the same images, 60 to train and 20 to test, 8 × 8 × 3."""
    random = np.random.default_rng(0)
    with h5py.File(tmp_path / "images.h5", "w") as file:
        for split, count in (("train", 60), ("test", 20)):
            arrays, labels = random.integers(0, 256, (count, 8, 8, 3), np.uint8), random.integers(0, 5, count)
            file[f"{split}/images"], file[f"{split}/labels"] = arrays, labels
            loaders.write_shards((arrays, labels), tmp_path / "shards" / split)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def call(capsys):
    """Run a command line, a text or its words, that must end with a status; returns what it printed."""

    def call(line, status=0):
        capsys.readouterr()
        assert main(line.split() if isinstance(line, str) else line) == status, capsys.readouterr()
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        return out, err

    return call


@pytest.fixture
def fails(call):
    """Run a command line that must fail; returns its error."""

    def fails(line):
        out, err = call(line, 1)
        assert out == ""
        *before, last = err.splitlines()
        assert all(line.startswith("left out: ") for line in before)
        assert last.startswith("hebbcore: ")
        return last.removeprefix("hebbcore: ")

    return fails


@pytest.fixture
def files_of():
    """Return {path: contents} of a folder."""

    def files_of(folder):
        return {path: path.read_bytes() for path in sorted(Path(folder).rglob("*")) if path.is_file()}

    return files_of


CONFIG = config_text(CONV, POOL, BATCH_NORM, seed=1)


@pytest.fixture
def place(images):
    """The working folder with run.toml too, and splits of images.h5 that lack something."""
    random = np.random.default_rng(1)
    with h5py.File("images.h5", "r+") as file:
        file["alone"] = [1, 2]
        for split in ("half", "short", "grouped"):
            file[f"{split}/images"] = random.integers(0, 256, (2, 8, 8, 3), np.uint8)
        file["short/labels"], file["grouped/labels/fine"] = [1], [1, 2]
    Path("run.toml").write_text(CONFIG)
    return images


def weights(run, layer="conv1"):
    return hebbcore.load(run, device="cpu")[layer].weights


def names(folder):
    return sorted(path.name for path in Path(folder).iterdir())
