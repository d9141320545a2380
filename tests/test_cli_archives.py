"""`hebbcore train`, `extract`, `evaluate` and `classify` on archives of images."""

import io
import json
import re
from base64 import b64decode
from pathlib import Path

import h5py
import numpy as np
import pytest
from cli_helpers import POOL, call, config_text, fails, names
from loaders_helpers import crop, encoded, make_tar, make_zip
from PIL import Image

import hebbcore
from hebbcore.cli.label import Tables
from hebbcore.cli.photos import Photos
from hebbcore.cli.pictures import pictures_of

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
        out, err = call(f"extract net.h5 both.zip {count}{options[-4:].strip()}.h5 --device cpu {options}")
        assert f"features of {count} images" in out
        assert ("images: those of the split train; --split takes others: test\n" in err) == (not options)
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


def test_a_table_labels_an_archive_as_it_labels_the_folder(inside, call):
    some = {f"photos/{name}": data for name, data in {**files(), **files("2019/")}.items()}
    for name, data in some.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(data)
    make_zip(Path("photos.zip"), some)
    make_tar(Path("photos.tar"), {f"./{name}": data for name, data in some.items()})
    Path("labels.csv").write_text("file,label\n2019/cat/0.png,cat\n2019/cat/1.png,dog\n")
    call("shards build photos shards --workers 1")
    found = []
    for source in ("photos", "photos.zip", "photos.tar", "shards"):
        call(f"classify {source} --labels labels.csv --out work-{source} --features net.h5 --device cpu")
        text = Path(f"work-{source}/predictions.csv").read_text().replace("./", "").replace("\nphotos/", "\n")
        found.append(sorted(line.partition(",")[0] for line in text.splitlines() if line.endswith(",1")))
    assert found[0] == sorted([*files(), "2019/cat/0.png", "2019/cat/1.png"])  # folders of those names give theirs too
    assert found == [found[0]] * 4
    some |= {"photos/2019/cat/1.png": b"\x89PNG no more", "photos/beside.png": some["photos/cat/0.png"]}
    make_zip(Path("photos.zip"), some)
    _, err = call("classify photos.zip --labels labels.csv --out damaged --features net.h5 --device cpu")
    assert "left out: photos/2019/cat/1.png" in err
    assert "photos/beside.png,cat" in Path("damaged/predictions.csv").read_text()
    make_tar(Path("photos.tar"), {f"./{name}": data for name, data in some.items()})
    Path("photos/2019/cat/1.png").write_bytes(some["photos/2019/cat/1.png"])
    Path("photos/notes.txt").write_text("no image")  # which lies elsewhere in the tar
    call("shards build photos cut --workers 1")
    for source in ("photos", "photos.tar", "cut"):
        _, err = call(f"classify {source} --labels labels.csv --out cut-{source} --features net.h5 --device cpu")
        assert "2019/cat/1.png (" in next(line for line in err.splitlines() if line.startswith("left out: "))
        text = Path(f"cut-{source}/predictions.csv").read_text()
        assert "2019/cat/0.png,cat," in text
        assert "2019/cat/1.png" not in text
    names = ["photos/2019/cat/0.png", "photos/2019/cat/1.png", "photos/dog/0.png"]
    assert Tables(names, Path("photos.zip")).read(Path("labels.csv").read_bytes()) == ({0: "cat", 1: "dog"}, 0, [], [])


def test_a_single_image_is_told_from_an_archive(inside, fails):
    Path("one.png").write_bytes(files()["cat/0.png"])
    for line in ("classify one.png --out w", "shards build one.png w"):
        assert "one.png is a single image; put it into a folder" in fails(line)


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_stacks_of_wide_numbers_get_labels_and_pictures(dtype, inside, call):
    images = np.random.default_rng(0).integers(100, 4096, (20, 12, 12, 1)).repeat(5, axis=3).astype(dtype)
    np.save("stack.npy", images)
    np.save("stack_labels.npy", np.r_[0, 0, 1, 1, np.full(16, -1)])
    hebbcore.save("wide.h5", hebbcore.Network([hebbcore.Conv(4, 3), hebbcore.Pool(2)], (12, 12, 5), device="cpu"))
    call("classify stack.npy --out work --features wide.h5 --device cpu")
    page = Path("work/report.html").read_text()
    shown = np.asarray(Image.open(io.BytesIO(b64decode(re.findall('data:image/png;base64,([^"]+)', page)[0]))))
    assert (shown.shape, shown.min(), shown.max()) == ((12, 12, 3), 0, 255)
    pictures = pictures_of(Photos(Path("stack.npy"), Path("work/images"), None), [str(i) for i in range(20)])
    large = np.asarray(Image.open(io.BytesIO(pictures.jpeg(3, 256))), float)
    own = images[3, :, :, :3].astype(float) - images[3, :, :, :3].min()
    assert np.abs(large - 255 * own / own.max()).mean() < 12  # JPEG


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
