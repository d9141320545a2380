"""The examples run, and say what they promise."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

import hebbcore

EXAMPLES = Path(__file__).parent.parent / "examples"


def run(name, *arguments):
    """Run an example to its end."""
    command = [sys.executable, str(EXAMPLES / name), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def output_of(name, *arguments):
    """Return what an example prints."""
    done = run(name, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_features_in_other_libraries():
    lines = output_of("other_libraries.py").splitlines()
    found = {line.split()[0]: [float(figure) for figure in re.findall(r"([\d.]+) %", line)] for line in lines[:2]}
    assert set(found) == {"pixels", "features"}
    assert len(found["pixels"]) == (2 if importlib.util.find_spec("jax") else 1)
    for better, worse in zip(found["features"], found["pixels"], strict=True):
        assert better > worse > 80


@pytest.fixture
def cifar(tmp_path, generator):
    """Return a file like CIFAR-10's, of little images whose classes are easy to tell."""
    path = tmp_path / "images.h5"
    with h5py.File(path, "w") as file:
        for split, count in (("train", 1200), ("test", 100)):
            labels = np.arange(count) % 10
            noise = generator.integers(0, 60, (count, 12, 12, 3))
            noise[np.arange(count), 1 + labels, :, 0] += 150  # a bright row
            file[f"{split}/images"], file[f"{split}/labels"] = noise.astype(np.uint8), labels
    return path


def test_every_bank_of_the_layer(cifar):
    options = ["--images", 1000, "--units", 12, "--cells", 4, "--mirror", "--validate", 200, "--banks"]
    banks = ["hpca", "swta", "kwta", "signedwta", "softhebb", "hardwta", "krotov", "patches", "random", "k-means"]
    _, _, *rows = output_of("cifar10_layer.py", cifar, *options, *banks).splitlines()
    assert [row.split()[0] for row in rows] == banks
    assert all(float(row.split()[1]) > 60 for row in rows)


def test_too_few_images_are_refused_before_any_work(cifar):
    done = run("cifar10_layer.py", cifar, "--images", 500)
    assert (done.returncode, done.stdout) == (2, "")
    assert "error: --images 500 are too few, of which 1 % shall have labels: labelled_subset: " in done.stderr


@pytest.mark.parametrize("name", ["quickstart.py", "cifar10_layer.py", "other_libraries.py"])
def test_help_runs_nothing(name):
    text = output_of(name, "--help")
    assert text.startswith(f"usage: {name}")
    assert " %\n" not in text


def test_a_benchmark_of_unknown_layers_is_refused():
    done = run("../benchmarks/step.py", "--layers", "nope")
    assert (done.returncode, done.stdout) == (2, "")
    assert "--layers 'nope' is in no name: 6-layer conv1, " in done.stderr


def test_fine_tuning(cifar, tmp_path):
    pytest.importorskip("torch", reason="needs PyTorch")
    layers = [hebbcore.Conv(16, 5), hebbcore.Pool(2), hebbcore.BatchNorm()]
    hebbcore.save(tmp_path / "a.h5", hebbcore.Network(layers, (12, 12, 3), device="cpu"))
    text = output_of(
        "fine_tune.py", tmp_path / "a.h5", cifar, "--percent", 50, "--device", "cpu", "--out", tmp_path / "b.h5"
    )
    found = [float(figure) for figure in text.splitlines()[1].removeprefix("50 %").split()]
    assert len(found) == 5
    assert min(found[:4]) > 60
    text = output_of("fine_tune.py", tmp_path / "a.h5", cifar, "--percent", 50, "--device", "cpu", "--only", "frozen")
    assert text.splitlines()[0].split() == ["labels", "frozen,", "ridge", "frozen,", "few", "seconds"]
    assert [float(figure) for figure in text.splitlines()[1].removeprefix("50 %").split()][:2] == found[2:4]
    before, after = (hebbcore.load(tmp_path / name, device="cpu")["conv1"].weights for name in ("a.h5", "b.h5"))
    assert np.abs(before - after).max() > 1e-3
