"""`hebbcore train`, `extract`, `evaluate` and `classify` on archives of images."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from cli_helpers import POOL, call, config_text, fails, names
from loaders_helpers import crop, encoded, make_tar, make_zip

import hebbcore

__all__ = ["call", "fails"]
CONV = {"type": "conv", "units": 6, "kernel_size": 3}


def files(split: str = "") -> dict[str, bytes]:
    return {
        f"{split}{label}/{number}.png": encoded(crop(7 * number + shift, 12, 12), "PNG")
        for shift, label in enumerate(("cat", "dog"))
        for number in range(6)
    }


@pytest.fixture
def inside(tmp_path, monkeypatch):
    """In a folder with a network for 12 × 12 pixels and archives of 12 images, of two splits in both.zip."""
    monkeypatch.chdir(tmp_path)
    network = hebbcore.Network([hebbcore.Conv(4, 3), hebbcore.Pool(2)], (12, 12, 3), device="cpu")
    hebbcore.save("net.h5", network)
    make_zip(Path("one.zip"), files())
    make_tar(Path("one.tar"), files())
    make_zip(Path("both.zip"), {**files("train/"), **dict(list(files("test/").items())[3:9])})


@pytest.mark.parametrize("archive", ["one.zip", "one.tar"])
def test_features_of_an_archive(archive, inside, call, fails):
    call(f"extract net.h5 {archive} f.h5 --device cpu")
    with h5py.File("f.h5") as file:
        assert file["names"].asstr()[:].tolist() == list(files())
        assert file["labels"][:].tolist() == [0] * 6 + [1] * 6
    assert not [name for name in names(".") if name.startswith(".")]
    assert f"{archive} is an archive of images, which is one split" in fails(
        f"extract net.h5 {archive} g.h5 --split test"
    )


def test_splits_of_an_archive(inside, call):
    for options, count in (("", 12), ("--split train", 12), ("--split test", 6)):
        out, _ = call(f"extract net.h5 both.zip {count}{options[-4:].strip()}.h5 --device cpu {options}")
        assert f"features of {count} images" in out
    call("evaluate net.h5 --train both.zip --test both.zip --out report --labels 100 --queries 0 --baselines none")
    assert [len(list(Path(f"report/images/{split}").glob("shard*"))) for split in ("train", "test")] == [1, 1]
    assert '"records": 6' in Path("report/images/test/index.json").read_text()


def test_a_network_is_trained_on_an_archive_and_labels_are_learned(inside, call, fails):
    text = config_text(CONV, POOL, epochs=1).replace('"images.h5"', '"one.zip"\nimage_size = 12')
    Path("run.toml").write_text(text)
    call("train run.toml --out run")
    assert Path("run/images/index.json").is_file()
    assert "one.zip is an archive of images, which is one split" in fails(
        "train run.toml --out b --set data.split=test"
    )
    call("classify one.zip --out work --features net.h5 --device cpu")
    assert Path("work/predictions.csv").read_text().startswith("file,label")


def test_stacks_of_many_channels_are_trained_on(inside, call):
    images = np.random.default_rng(0).integers(0, 4096, (20, 12, 12, 5), np.uint16)
    np.save("stack.npy", images)
    np.save("stack_labels.npy", np.arange(20) % 2)
    call("shards build stack.npy shards --raw --range 4095")
    for source in ("shards", "stack.npy"):
        text = config_text(CONV, POOL, epochs=1).replace('"images.h5"', f'"{source}"')
        Path("run.toml").write_text(text)
        call(f"train run.toml --out run-{source}")
    out, _ = call("extract run-shards shards f.h5 --device cpu")
    assert "features of 20 images" in out
    with h5py.File("f.h5") as file:
        network = hebbcore.load("run-shards", device="cpu")
        np.testing.assert_allclose(file["features"], network.transform(np.float32(images / 4095)), rtol=1e-4, atol=1e-5)
        assert file["labels"][:].tolist() == [0, 1] * 10


def test_a_sweep_trains_and_judges_on_an_archive(inside, call):
    text = config_text(CONV, POOL, epochs=1).replace('"images.h5"', '"both.zip"\nimage_size = 12')
    Path("run.toml").write_text(text)
    line = "sweep run.toml --out s --grid training.learning_rate=0.001,0.01"
    call(f"{line} --evaluate both.zip")
    runs = json.loads(Path("s/sweep.json").read_text())["runs"]
    assert [run["accuracy"] is not None for run in runs.values()] == [True, True]
    assert '"records": 12' in Path("s/images/index.json").read_text()
    (shared,) = Path("s").glob("images-*")  # one for both runs
    assert '"records": 12' in (shared / "index.json").read_text()
    assert not list(Path("s").glob("*/images"))
    before = Path("s/sweep.json").read_bytes()
    call(f"{line} --evaluate both.zip")
    assert Path("s/sweep.json").read_bytes() == before
