"""For which images `hebbcore train` and `sweep` make the dictionary, where nobody says it."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from cli_helpers import call, fails
from loaders_helpers import crop, encoded, make_tree
from PIL import features

import hebbcore
import loaders
from hebbcore.cli.photos import read_photos
from hebbcore.cli.stages import Stages
from hebbcore.cli.train import _SETTING

__all__ = ["call", "fails"]
TOLD = f"48 × 48 pixels, as large as their usual shorter side, 8 to 48; {_SETTING} sets another size\n"
LINE = "train run.toml --out run"


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """A working folder with class folders of photos of 60 to 80 pixels a side, and a configuration of a dictionary."""
    monkeypatch.chdir(tmp_path)
    make_tree(tmp_path / "tree", classes=2, images=5, height=60, width=80)
    network = 'preset = "dictionary"\nunits = [2, 2, 2]'
    training = "epochs = 1\nsample = 50"
    Path("run.toml").write_text(
        f'device = "cpu"\n[data]\npath = "tree"\n[network]\n{network}\n[training]\n{training}\n'
    )


def shapes(run="run"):
    """The shape of the images that a run's configuration, its network and its images say."""
    images = Path(run, "images")
    stored = loaders.read_index(images).image_shape if images.exists() else None
    given = json.loads(Path(run, "config.json").read_text())["network"]["image_shape"]
    return given, hebbcore.load(run, device="cpu").image_shape, stored


def forget(run="run"):
    """Let a run be of an earlier version, which noted no shape that nobody had said."""
    path = Path(run, "config.json")
    table = json.loads(path.read_text())
    table["network"]["image_shape"] = None
    path.write_text(json.dumps(table))


def test_it_is_made_for_the_size_that_photos_get_by_themselves(tree, call):
    assert f"images: read in {TOLD}" in call(LINE)[1]
    assert shapes() == ([48, 48, 3], (48, 48, 3), (48, 48, 3))
    assert "usual" not in call(LINE)[1]


def test_it_is_made_for_the_size_that_photos_are_given(tree, call):
    assert "usual" not in call(f"{LINE} --set data.image_size=16")[1]
    assert shapes() == ([16, 16, 3], (16, 16, 3), (16, 16, 3))


def test_it_is_made_for_the_channels_of_shards_that_are_given_a_size(tree, call):
    loaders.write_shards(
        (np.random.default_rng(0).integers(0, 256, (10, 20, 20, 1), np.uint8), np.arange(10) % 2), "grey"
    )
    call(f"{LINE} --set data.path=grey --set data.image_size=16")
    assert hebbcore.load("run", device="cpu").image_shape == (16, 16, 1)


def test_photos_that_are_given_too_small_a_size_name_it(tree, fails):
    assert fails(f"{LINE} --set data.image_size=4").startswith(
        "config: data.image_size must be 8 or more for the preset "
    )


def test_it_is_made_for_arrays_as_they_are(tree, call):
    with h5py.File("a.h5", "w") as file:
        file["train/images"] = np.random.default_rng(0).integers(0, 256, (30, 12, 14, 1), np.uint8)
    call(f"{LINE} --set data.path=a.h5")
    assert shapes()[:2] == ([12, 14, 1], (12, 14, 1))


def test_a_run_of_an_earlier_version_goes_on_with_its_32_pixels(tree, call):
    call(f"{LINE} --set network.image_shape=[32,32,3]")
    forget()
    before = hebbcore.load("run", device="cpu")["conv1"].weights
    assert "usual" not in call(LINE)[1]
    assert shapes() == ([32, 32, 3], (32, 32, 3), (32, 32, 3))
    np.testing.assert_array_equal(hebbcore.load("run", device="cpu")["conv1"].weights, before)


@pytest.mark.parametrize("finished", [True, False])
def test_a_reading_that_was_begun_goes_on_in_its_size(tree, call, finished):
    def stop(progress):
        raise KeyboardInterrupt

    options = {"size": 32, "layout": "raw", "workers": 1, "shard_bytes": 2**24}
    if finished:
        loaders.build_shards("tree", "run/images", **options)
    else:
        with pytest.raises(KeyboardInterrupt):
            loaders.build_shards("tree", "run/images", progress=stop, **options)
    call(LINE)
    assert shapes() == ([32, 32, 3], (32, 32, 3), (32, 32, 3))


def test_the_networks_of_a_sweep_are_made_for_one_size(tree, call):
    line = "sweep run.toml --out s --evaluate tree"
    _, err = call(f"{line} --grid training.sample=50,60")
    assert err.count(f"images: read in {TOLD}") == 1
    runs = [f"s/training.sample={sample},seed=0" for sample in (50, 60)]
    assert [shapes(run)[1] for run in runs] == 2 * [(48, 48, 3)]
    assert "epochs done" not in call(f"{line} --grid training.sample=50,60")[1]


def test_a_sweep_of_an_earlier_version_goes_on_with_its_32_pixels(tree, call):
    line = "sweep run.toml --out s --grid training.sample=50,60"
    call(f"{line} --set network.image_shape=[32,32,3]")
    for run in Path("s").glob("training*"):
        forget(run)
    call(f"{line},70")
    assert [hebbcore.load(run, device="cpu").image_shape for run in Path("s").glob("training*")] == 3 * [(32, 32, 3)]


@pytest.mark.parametrize("kind", ["packed shards", "raw shards", "arrays"])
def test_shards_and_arrays_of_which_less_is_taken_are_told(tree, capsys, kind):
    images = np.random.default_rng(0).integers(0, 256, (3, 100, 110, 3), np.uint8)
    if kind == "packed shards":
        loaders.build_shards("tree", "source", workers=1)
    elif kind == "raw shards":
        loaders.write_shards((images, np.zeros(3, np.int64)), "source")
    else:
        with h5py.File("source", "w") as file:
            file["train/images"] = images
    photos = read_photos(Path("source"), Path("read"), size=None, split=None, without_labels=True, stages=Stages())
    assert photos.image_size == 48
    assert TOLD.replace(_SETTING, "--image-size") in capsys.readouterr().err


@pytest.mark.skipif(not features.check("avif"), reason="Pillow has no AVIF")
def test_a_damaged_photo_says_nothing_of_the_size(tree, call):
    data = bytearray(encoded(crop(1, 60, 60), "AVIF"))
    data[data.index(b"pitm") + 8] = 255  # Pillow raises RuntimeError
    Path("tree/class_0/damaged.avif").write_bytes(data)
    assert "left out: class_0/damaged.avif (Failed to decode image" in call(LINE)[1]
    assert shapes()[0] == [48, 48, 3]
