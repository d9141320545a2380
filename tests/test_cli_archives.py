"""`hebbcore train`, `extract`, `evaluate` and `classify` on archives of images."""

from pathlib import Path

import h5py
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
