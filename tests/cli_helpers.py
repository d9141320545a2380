"""A working folder, and command lines in it, for the tests of commands."""

from pathlib import Path

import h5py
import numpy as np
import pytest

import loaders
from hebbcore.cli import main


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
        last = err.splitlines()[-1]
        assert last.startswith("hebbcore: ")
        return last.removeprefix("hebbcore: ")

    return fails


@pytest.fixture
def files_of():
    """Return {path: contents} of a folder."""

    def files_of(folder):
        return {path: path.read_bytes() for path in sorted(Path(folder).rglob("*")) if path.is_file()}

    return files_of
