"""Which value of 16-bit images is white: that of the images learned from, whatever other images hold."""

import csv
import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from classify_helpers import rows_of, save_network, write_labels
from cli_helpers import POOL, call, config_text
from PIL import Image
from sklearn.datasets import load_digits

import hebbcore
import loaders
from hebbcore import checkpoint
from hebbcore.checkpoint import checkpoints

__all__ = ["call"]
CONV = {"type": "conv", "units": 6, "kernel_size": 3}
BRIGHT, DIM = 4000, 900  # largest values: 12 and 10 bits


def write_digits(folder, first, count, highest, in_classes=False):
    """Write digits as PNGs of 16 bits whose largest value is `highest`; returns {file: class}."""
    data, truth = load_digits(), {}
    for number in range(first, first + count):
        name = f"{'odd' if data.target[number] % 2 else 'even'}/{number:03}.png"
        path = Path(folder, name if in_classes else Path(name).name)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((data.images[number] * highest / 16).astype(np.uint16)).save(path)
        truth[path.name] = Path(name).parent.name
    return truth


def images_of(folder, value_range):
    loaders.build_shards(loaders.ImageFiles(folder), f"{folder}-shards", size=8, layout="raw", value_range=value_range)
    with loaders.ShardStream(f"{folder}-shards", batch_size=100, labels=False) as stream:
        return next(iter(stream))


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_a_test_set_is_read_as_the_training_set(here, call):
    write_digits("train", 0, 20, BRIGHT, True)
    write_digits("test", 20, 20, DIM, True)
    for kind, layout in (("found", "--raw --size 8"), ("kept", "--raw")):
        given = "--range 4095" if kind == "kept" else ""
        call(f"shards build train {kind}/train {layout} {given} --workers 1")
        call(f"shards build test {kind}/test {layout} --stats-from {kind}/train --workers 1")
        assert loaders.read_index(f"{kind}/test").settings["range"] == 4095
        with loaders.ShardStream(f"{kind}/test", batch_size=20, labels=False) as stream:
            images = next(iter(stream))
        largest = images.max() / (255 if images.dtype == np.uint8 else 1)
        assert largest == pytest.approx(DIM / 4095, abs=1 / 255)
    call("shards build test other --raw --size 8 --stats-from found/train --range 1023 --workers 1")
    assert loaders.read_index("other").settings["range"] == 1023


def test_a_set_of_a_range_of_its_own_can_be_kept(here, call):
    write_digits("train", 0, 20, BRIGHT, True)
    write_digits("test", 20, 20, DIM, True)
    call("shards build train a --raw --size 8 --workers 1")
    line = "shards build test b --raw --size 8 --stats-from a --workers 1"
    call(f"{line} --range 1023")  # as earlier versions found it
    _, error = call(line, 1)
    assert "(range 1023 there and 4095 here); choose another folder or delete it. That of stats_from" in error
    assert "(--range) 1023 keeps the one there" in error
    call(f"{line} --range 1023")


def test_images_of_8_bits_learned_from_say_nothing_of_16(here, call):
    write_digits("train", 0, 20, BRIGHT, True)
    for path in Path("train").glob("*/*.png"):
        Image.fromarray((np.asarray(Image.open(path)) // 16).astype(np.uint8)).save(path)
    write_digits("test", 20, 20, DIM, True)
    call("shards build train a --raw --size 8 --workers 1")
    call("shards build test b --raw --size 8 --stats-from a --workers 1")
    assert loaders.read_index("b").settings["range"] == 1023


def test_features_and_reports_are_of_the_range_of_the_run(here, call):
    write_digits("train", 0, 40, BRIGHT, True)
    write_digits("test", 40, 20, DIM, True)
    Path("run.toml").write_text(config_text(CONV, POOL, epochs=1).replace('"images.h5"', '"train"\nimage_size = 8'))
    call("train run.toml --out run")
    call("extract run test f.h5")
    dim = images_of("test", 4095)
    with h5py.File("f.h5") as file:
        np.testing.assert_array_equal(file["features"], hebbcore.load("run", device="cpu").transform(dim))
    options = "--labels 100 --queries 0 --device cpu --baselines none"
    call(f"evaluate run --train test --test train --out report {options}")  # the run's images are bright
    assert loaders.read_index("report/images/train").settings["range"] == 4095
    save_network("net.h5")
    call(f"evaluate net.h5 --train train --test test --out other {options}")  # the training images are
    assert loaders.read_index("other/images/test").settings["range"] == 4095


@pytest.mark.parametrize("kept", ["run", "checkpoint", "elsewhere", "h5", "safetensors"])
def test_a_run_of_shards_knows_their_range(here, call, kept):
    write_digits("train", 0, 40, BRIGHT, True)
    truth = write_digits("test", 40, 20, DIM, True)
    call("shards build train shards --raw --size 8 --workers 1")
    Path("run.toml").write_text(config_text(CONV, POOL, epochs=1).replace('"images.h5"', '"shards"'))
    call("train run.toml --out run")
    run = {"run": "run", "checkpoint": str(checkpoints(Path("run"))[-1]), "elsewhere": "moved"}.get(kept, f"net.{kept}")
    if kept == "elsewhere":
        shutil.move("run", "moved")
        shutil.rmtree("shards")
    elif run.startswith("net"):
        hebbcore.save(run, hebbcore.load("run", device="cpu"))
    call(f"extract {run} test f.h5 --device cpu")
    dim = images_of("test", 4095)
    with h5py.File("f.h5") as file:
        np.testing.assert_array_equal(file["features"], hebbcore.load(run, device="cpu").transform(dim))
    write_labels(Path("labels.csv"), {f"{label}/{name}": label for name, label in truth.items()})
    call(f"classify test --labels labels.csv --features {run} --out work --device cpu")
    assert loaders.read_index("work/images").settings["range"] == 4095
    call(f"evaluate {run} --train test --test test --out report --labels 100 --queries 0 --device cpu --baselines none")
    assert loaders.read_index("report/images/train").settings["range"] == 4095


@pytest.mark.parametrize("given", ["photos", "shards"])
def test_a_sweep_judges_and_keeps_the_range_of_its_images(here, call, given):
    write_digits("train", 0, 40, BRIGHT, True)
    write_digits("test", 40, 20, DIM, True)
    if given == "shards":
        call("shards build train shards --raw --size 8 --workers 1")
    data = '"train"\nimage_size = 8' if given == "photos" else '"shards"'
    Path("run.toml").write_text(config_text(CONV, POOL, epochs=1).replace('"images.h5"', data))
    call("sweep run.toml --seeds 2 --out swept --evaluate test")
    assert loaders.read_index("swept/images").settings["range"] == 4095
    call("extract swept/seed=1 test f.h5 --device cpu")
    with h5py.File("f.h5") as file:
        features = hebbcore.load("swept/seed=1", device="cpu").transform(images_of("test", 4095))
        np.testing.assert_array_equal(file["features"], features)


def test_a_training_goes_on_from_a_checkpoint_that_says_nothing_of_the_range(here, call):
    write_digits("train", 0, 40, BRIGHT, True)
    call("shards build train shards --raw --size 8 --workers 1")
    Path("run.toml").write_text(config_text(CONV, POOL, epochs=1).replace('"images.h5"', '"shards"'))
    call("train run.toml --out run")
    path = checkpoints(Path("run"))[-1]
    table, arrays = checkpoint.read("test", path)
    assert table.pop("pixel_scale") == ["uint8", False, 4095]
    checkpoint.write(path, table, arrays)
    call("train run.toml --out run --set training.epochs=2")
    assert checkpoint.header_of("test", checkpoints(Path("run"))[-1])["pixel_scale"] == ["uint8", False, 4095]


def test_shards_of_unlike_ranges_are_told(here, call, caplog):
    write_digits("train", 0, 40, BRIGHT, True)
    write_digits("test", 40, 20, DIM, True)
    for path in (*Path("train").glob("*/*.png"), *Path("test").glob("*/*.png")):
        np.save(path.with_suffix(".npy"), np.repeat(np.asarray(Image.open(path))[..., None], 3, axis=2))
        path.unlink()
    call("shards build train a --raw --range 4095 --workers 1")
    call("shards build test b --raw --workers 1")
    call("shards build test c --raw --stats-from a --workers 1")
    save_network("net.h5")
    options = "--labels 100 --queries 0 --device cpu --baselines none"
    call(f"evaluate net.h5 --train a --test c --out same {options}")
    assert "is white in these images" not in caplog.text
    call(f"evaluate net.h5 --train a --test b --out other {options}")
    told = "b: 65535 is white in these images, and 4095 in those that were learned from"
    assert told in caplog.text
    Path("run.toml").write_text(config_text(CONV, POOL, epochs=1).replace('"images.h5"', '"a"'))
    call("train run.toml --out run")
    for command in ("extract run b f.h5", f"evaluate run --train b --test b --out both {options}"):
        caplog.clear()
        call(command)
        assert told in caplog.text


def test_a_guess_of_a_photo_is_the_same_whatever_others_there_are(here, call):
    truth = write_digits("photos", 0, 60, BRIGHT)
    write_labels(Path("labels.csv"), dict(list(truth.items())[:30]))
    write_digits("dim", 60, 20, DIM)
    save_network("net.h5")
    call("classify photos --labels labels.csv --features net.h5 --out work --device cpu")
    call("predict work dim --out dim.csv --device cpu")
    model = hebbcore.load("work/model", device="cpu")
    assert model.value_range == 4095
    expected = model.predict(images_of("dim", 4095))
    assert [row["label"] for row in rows_of(Path("dim.csv"))] == expected
    note = Path("work/model/model.json")
    older = {key: value for key, value in json.loads(note.read_text()).items() if key != "range"}
    note.write_text(json.dumps(older))
    call("predict work dim --out older.csv --device cpu")
    assert Path("older.csv").read_bytes() == Path("dim.csv").read_bytes()
    write_digits("dim", 0, 1, BRIGHT)
    call("predict work dim --out more.csv --device cpu")
    with open("dim.csv") as alone, open("more.csv") as more:
        found = {tuple(row) for row in csv.reader(alone)}
        assert found < {tuple(row) for row in csv.reader(more)}
