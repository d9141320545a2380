"""Commands in several processes give what one process gives, and rank 0 alone prints."""

import json

import h5py
import numpy as np
import pytest
from conftest import ROOT
from group_helpers import NEEDS_MPI, finished, line_of, mpiexec

import hebbcore
import loaders
from hebbcore.cli import main

pytestmark = NEEDS_MPI


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder with a network and images."""
    path = tmp_path_factory.mktemp("commands")
    layers = [hebbcore.Conv(5, 3, "swta"), hebbcore.Pool(2), hebbcore.Dense(4)]
    hebbcore.save(path / "network.h5", hebbcore.Network(layers, (8, 8, 3), device="cpu"))
    generator = np.random.default_rng(0)
    with h5py.File(path / "images.h5", "w") as file:
        for split, count in (("train", 60), ("test", 25)):
            file[f"{split}/images"] = generator.integers(0, 256, (count, 8, 8, 3), np.uint8)
            file[f"{split}/labels"] = np.arange(count) % 3
    return path


def test_extract_shares_images(folder):
    line = ["extract", str(folder / "network.h5"), str(folder / "images.h5")]
    assert main([*line, str(folder / "one.h5"), "--batch-size", "8"]) == 0
    done = mpiexec(3, "-m", "hebbcore", *line, folder / "many.h5", "--batch-size", "8", timeout=100)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{folder / 'many.h5'}: features of 25 images of the split test\n"
    with h5py.File(folder / "one.h5") as one, h5py.File(folder / "many.h5") as many:
        np.testing.assert_allclose(many["features"][...], one["features"][...], rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(many["labels"][...], one["labels"][...])


def test_evaluate_shares_images(folder):
    pytest.importorskip("matplotlib")
    images = str(folder / "images.h5")
    line = ["evaluate", str(folder / "network.h5"), "--train", images, "--test", images, "--labels", "100"]
    line += ["--baselines", "pixels,pca", "--queries", "0"]
    assert main([*line, "--out", str(folder / "one")]) == 0
    done = mpiexec(2, "-m", "hebbcore", *line, "--out", folder / "many", timeout=100)
    assert done.returncode == 0, done.stderr
    one, many = (json.loads((folder / name / "results.json").read_text()) for name in ("one", "many"))
    assert one["sources"].keys() == many["sources"].keys()
    for name, source in one["sources"].items():
        assert [run["top1"] for run in many["sources"][name]["runs"]] == [run["top1"] for run in source["runs"]]


def test_evaluate_reads_shards_in_all_processes(folder, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    layers = [hebbcore.Conv(5, 3, "swta"), hebbcore.Pool(2), hebbcore.Dense(3, "supervised")]
    hebbcore.save(tmp_path / "network.h5", hebbcore.Network(layers, (8, 8, 3), device="cpu"))
    with h5py.File(folder / "images.h5") as file:
        for split in ("train", "test"):
            loaders.write_shards((file[f"{split}/images"][...], file[f"{split}/labels"][...]), tmp_path / split)
    line = ["evaluate", str(tmp_path / "network.h5"), "--train", str(tmp_path / "train"), "--test"]
    line += [str(tmp_path / "test"), "--labels", "50,100", "--seeds", "1", "--baselines", "pixels", "--batch-size", "7"]
    assert main([*line, "--out", str(tmp_path / "one")]) == 0
    done = mpiexec(3, "-m", "hebbcore", *line, "--out", tmp_path / "many", timeout=100)
    assert done.returncode == 0, done.stderr
    (own,) = [text for text in capsys.readouterr().out.splitlines() if "by itself" in text]
    assert own in done.stdout
    one, many = (json.loads((tmp_path / name / "results.json").read_text()) for name in ("one", "many"))
    assert one["images"] == many["images"]
    for name, source in one["sources"].items():
        assert many["sources"][name]["runs"] == source["runs"]
        assert many["sources"][name]["retrieval"] == source["retrieval"]


@pytest.mark.parametrize(("size", "kind"), [(3, "shards"), (2, "arrays")])
def test_the_sums_of_a_readout_are_those_of_one_process(tmp_path, size, kind):
    done = mpiexec(size, ROOT / "tests" / "group_ridge.py", tmp_path / "shards", kind, timeout=100)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    for many, one in zip(found["many"], found["one"], strict=True):
        np.testing.assert_allclose(many, one, rtol=1e-9, atol=1e-9)


def test_processes_with_other_arguments_are_refused(folder, tmp_path):
    line = ["-m", "hebbcore", "extract", folder / "network.h5", folder / "images.h5", tmp_path / "f.h5", "--layer"]
    done = finished([*line_of(1, *line, "conv1"), ":", *line_of(1, *line, "fc3")[1:]], 100)
    assert done.returncode == 1
    assert "extract: rank 1 on" in done.stderr
    assert "layer is 'fc3' here and 'conv1' there" in done.stderr


def test_a_wrong_line_is_told_once(folder):
    done = mpiexec(2, "-m", "hebbcore", "extract", "--no-such-option", timeout=100)
    assert done.returncode == 2
    assert done.stderr.count("usage: hebbcore extract") == 1
