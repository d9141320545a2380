"""Labels, teachers and a classifier on top in configurations, and what `hebbcore train` makes of them."""

import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from cli_helpers import CONV, POOL, config_text

import hebbcore
import loaders
from hebbcore.cli.sources import some_labels
from hebbcore.runs.config import read_config
from hebbcore.training.diagnostics import lines

pytest_plugins = "cli_helpers"


TAUGHT = (
    config_text(
        {**CONV, "rule": "kwta", "name": "a"}, POOL, {"type": "dense", "units": 5, "rule": "supervised"}, epochs=2
    )
    + "[training.teacher]\na = 5\n"
)


def test_labels_come_along_where_layers_learn_from_them(images, call):
    Path("taught.toml").write_text(TAUGHT)
    _, err = call("train taught.toml --out a --set data.labels=0.5")
    ends = [record for record in lines(Path("a/metrics.jsonl")) if "accuracy" in record]
    assert [record["epoch"] for record in ends] == [1, 2]
    with h5py.File("images.h5") as file:
        pixels, labels = file["train/images"][...], file["train/labels"][...]
    left = some_labels(Path("x"), labels, 0.5)
    assert ends[0]["labelled"] == (left >= 0).sum() < 60
    assert "accuracy" in err
    network = hebbcore.load("a")
    expected = read_config(Path("taught.toml")).make_network()
    hebbcore.fit(expected, pixels, labels=left, teacher={"a": 5}, epochs=2, batch_size=16)
    np.testing.assert_array_equal(network["a"].weights, expected["a"].weights)
    np.testing.assert_array_equal(network.predict(pixels), expected.predict(pixels))
    call("train taught.toml --out b --set data.path=shards/train")
    assert any("accuracy" in record for record in lines(Path("b/metrics.jsonl")))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            ["training.teacher={b=5}"],
            "config: training.teacher names b, which is no layer that learns: those are a, fc2",
        ),
        (["training.teacher={a=4}"], "config: training.teacher names a, of which 4 units are fewer than the 5 classes"),
        (["training.teacher={a=0}"], "config: training.teacher.a must be at least 1, got 0"),
        (["training.classes=4"], "config: training.classes is 4, but fc2 has 5 units"),
        (["network.layers.a.rule=krotov"], "config: training.teacher is for rules that define taught_gate"),
        (["data.labels=70"], "data.labels must be at most the number of its labels (60), got 70"),
        (
            ["data.labels=5", "data.path=shards/train"],
            "config: data.labels is for HDF5 files; shards/train is a folder",
        ),
    ],
)
def test_what_makes_no_sense_of_a_teacher_is_said_by_its_key(images, fails, changes, message):
    Path("taught.toml").write_text(TAUGHT)
    words = [word for change in changes for word in ("--set", change)]
    assert message in fails(["train", "taught.toml", "--out", "a", *words])


def test_labels_that_nobody_learns_from_are_no_setting(images, fails):
    Path("plain.toml").write_text(config_text(CONV))
    assert "config: data.labels has no effect" in fails("train plain.toml --out a --set data.labels=5")


def test_a_preset_gets_a_classifier_on_top(images, call):
    text = '[data]\npath = "images.h5"\n[network]\npreset = "fasthebb-6"\nclasses = 5\nrule = "swta"\n'
    Path("six.toml").write_text(text + '[training]\nteacher = "fasthebb-6"\n')
    config = read_config(Path("six.toml"))
    config.check()
    tables = config.layer_tables()
    assert tables[-1]["name"] == "classifier"
    assert tables[-1]["rule"] == {"name": "supervised"}
    assert tables[0]["rule"]["name"] == "swta"
    out, _ = call("preset fasthebb-6 --set network.classes=5")
    assert 'rule = {name = "supervised"}' in out


def test_evaluate_says_how_often_a_network_is_right_by_itself(images, call):
    pytest.importorskip("matplotlib")
    Path("taught.toml").write_text(TAUGHT)
    call("train taught.toml --out a")
    line = "evaluate a --train images.h5 --test images.h5 --labels 100 --baselines none --queries 0 --out report"
    with h5py.File("images.h5", "r+") as file:
        pixels, labels = file["test/images"][...], file["test/labels"][...].astype(np.int64)
        labels[3] = -1
        del file["test/labels"]
        file["test/labels"] = labels
    found = hebbcore.load("a").predict(pixels)
    accuracy = 100 * (found == labels)[labels >= 0].mean()
    out, _ = call(line)
    said = (
        f"its last layer, fc2, which learned from labels, is right for {accuracy:.2f} % of the 19 labelled test images"
    )
    assert said in out
    assert said in Path("report/report.md").read_text()
    assert seen_shifted("a", pixels, labels) != accuracy  # else the next lines would say nothing
    out, _ = call(f"{line}-shifted --shifts 2 --mirror")
    assert f"is right for {seen_shifted('a', pixels, labels):.2f} % of the 19 labelled test images" in out


def seen_shifted(run, pixels, labels):
    """Return the accuracy of a network by the mean of its outputs for images shifted by two pixels, and mirrored."""
    network, padded = hebbcore.load(run), np.pad(pixels, ((0, 0), (2, 2), (2, 2), (0, 0)), "edge")
    height, width = pixels.shape[1:3]
    views = [padded[:, y : y + height, x : x + width] for y, x in [(2, 2), (2, 4), (2, 0), (4, 2), (0, 2)]]
    scores = sum(network.transform(view, mirror=True) for view in views)
    return 100 * (scores.argmax(axis=1) == labels)[labels >= 0].mean()


@pytest.mark.parametrize("of_photos", [True, False])
def test_evaluate_tells_no_accuracy_of_classes_that_are_numbered_otherwise(images, call, of_photos):
    pytest.importorskip("matplotlib")
    with h5py.File("images.h5", "r+") as file:
        file.attrs["class_names"] = names = list("abcde")
    shutil.copy("images.h5", "other.h5")
    with h5py.File("other.h5", "r+") as file:
        file.attrs["class_names"] = names[::-1]
    Path("taught.toml").write_text(TAUGHT)
    call("train taught.toml --out a")
    if of_photos:  # which lie in the run, whatever its configuration's path holds now
        loaders.write_shards((np.zeros((5, 8, 8, 3), np.uint8), np.arange(5)), "a/images", class_names=names)
        Path("images.h5").unlink()
        shutil.copy("other.h5", "images.h5")
    line = "evaluate a --train other.h5 --test other.h5 --labels 100 --baselines none --queries 0 --out report"
    out, _ = call(line)
    assert "not into these classes: 0 is 'a' among the images that it learned from and 'e' here" in out
    assert "is right for" not in out
