"""`hebbcore train`, `extract` and `plot` as a user runs them: output, exit status, and errors without a traceback."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import weakref
from pathlib import Path

import h5py
import numpy as np
import pytest
from cli_helpers import BATCH_NORM, CONV, POOL, config_text
from PIL import Image

import hebbcore
from hebbcore import checkpoint, cli, plots
from hebbcore.cli import main
from hebbcore.files import locked

pytest_plugins = "cli_helpers"

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(hebbcore.__file__).parents[1])}
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


# train


def test_paths_are_printed_without_what_a_terminal_acts_on(place, call):
    lines = [
        "train run.toml --out \x1b[31m/run",
        "extract \x1b[31m/run images.h5 \x1b[31m/f.h5",
        "evaluate \x1b[31m/run --train images.h5 --test images.h5 --out \x1b[31m/e --labels 100 --queries 0 "
        "--baselines none --layers conv1",
        "plot \x1b[31m/run",
        "plot \x1b[31m/run \x1b[31m/e \x1b[31m/run",
        "sweep run.toml --out \x1b[31m/s --grid training.rate_factor=1,1e30",
    ]
    for line in lines:
        out, err = call(line)
        assert "\\x1b[31m" in out
        assert "\x1b" not in out + err


def test_train_from_arrays(place, call):
    out, err = call("train run.toml --out runs/a --set training.epochs=3")
    assert out.startswith("runs/a: done; runs/a/checkpoints/step-0000000012.h5 holds the network\nlayer ")
    assert re.search(r"^conv1 +6 × 6 × 6 +162$", out, re.MULTILINE)
    assert [line.split(",")[0] for line in err.splitlines()] == [f"epochs done: {i}" for i in (1, 2, 3)]
    assert re.match(r"epochs done: 1, 60 images, \d+ img/s, \d+:\d\d:\d\d left$", err.splitlines()[0])
    assert names("runs/a") == ["checkpoints", "config.json", "metrics.jsonl"]
    given = json.loads(Path("runs/a/config.json").read_text())
    assert (given["seed"], given["training"]["epochs"], given["training"]["batch_size"]) == (1, 3, 16)
    assert given["training"]["learning_rate"] is None
    with h5py.File("images.h5") as file:
        images = file["train/images"][...]
    network = hebbcore.Network([hebbcore.Conv(6, 3), hebbcore.Pool(2), hebbcore.BatchNorm()], seed=1, device="cpu")
    hebbcore.fit(network, images, epochs=3, batch_size=16, seed=1)
    np.testing.assert_array_equal(weights("runs/a"), network["conv1"].weights)


def test_the_same_command_again_changes_nothing(place, call, files_of):
    first, _ = call("train run.toml --out a")
    before = files_of("a")
    again, err = call("train run.toml --out a")
    assert (again, err) == (first, "")
    assert files_of("a") == before


def test_train_from_shards_and_again_from_config_json(place, call):
    call("train run.toml --out a --set data.path=shards/train --set data.image_size=6 --set data.subset=0.5")
    call("train a/config.json --out b")
    assert Path("a/config.json").read_bytes() == Path("b/config.json").read_bytes()
    np.testing.assert_array_equal(weights("a"), weights("b"))
    assert hebbcore.load("a", device="cpu").image_shape == (6, 6, 3)
    call("train a/config.json --out c --set data.crop=random")
    assert (weights("a") != weights("c")).any()


def test_metrics_are_printed_as_they_come(place, call):
    _, err = call("train run.toml --out a --set training.log_seconds=0")
    assert re.search(r"^epochs done: 0, 16 images, .*; change conv1 \d\.\de-\d\d$", err, re.MULTILINE)
    assert "conv1 0.0e+00" not in err


def test_a_changed_configuration_is_refused_by_its_keys(place, call, fails):
    call("train run.toml --out a")
    before = Path("a/config.json").read_text()
    message = fails("train run.toml --out a --set seed=2 --set network.layers=[] --set data.split=test")
    assert message.startswith("config: network: layers must not be empty")
    message = fails("train run.toml --out a --set seed=2 --set training.learning_rate=0.5 --set data.split=test")
    assert message == (
        "train: a is a run of another configuration: data.split is 'test' here and 'train' there; "
        "training.learning_rate is 0.5 here and 0.001 there; seed is 2 here and 1 there; name another --out."
    )
    Path("run.toml").write_text(CONFIG.replace("units = 6", "units = 7"))
    assert "network.layers[0].units is 7 here and 6 there" in fails("train run.toml --out a")
    assert Path("a/config.json").read_text() == before


def test_what_may_change_when_a_training_goes_on(place, call):
    line = "train run.toml --out a --set training.mode=layerwise"
    call(f"{line} --set training.keep=1")
    call(f"{line} --set training.keep=2 --set training.log_seconds=1 --set training.cache=memory")
    assert json.loads(Path("a/config.json").read_text())["training"]["keep"] == 2


def test_more_epochs_layer_by_layer_are_refused_and_change_nothing(place, call, fails):
    line = "train run.toml --out a --set training.mode=layerwise"
    call(line)
    before = Path("a/config.json").read_text()
    assert "training.epochs is 2 here and 1 there" in fails(f"{line} --set training.epochs=2")
    assert Path("a/config.json").read_text() == before
    call(line)


def test_the_configuration_is_what_the_weights_were_trained_with(place, call, fails):
    for epochs in (2, 3):
        call(f"train run.toml --out a --set training.epochs={epochs}")
    before = Path("a/config.json").read_text()
    message = fails("train run.toml --out a --set training.epochs=2")
    assert message == "fit: epochs is 2, but a has begun epoch 3; give at least 3, or train into another folder."
    assert Path("a/config.json").read_text() == before


def test_more_epochs_of_a_schedule_to_the_end_are_refused(place, call, fails):
    line = "train run.toml --out a --set training.schedule=linear"
    call(line)
    assert fails(f"{line} --set training.epochs=2") == (
        "train: a is a run of another configuration: training.epochs is 2 here and 1 there (epochs may change in mode "
        "together with a constant schedule only: nothing learned depends on them there); name another --out."
    )


def test_the_images_may_move_but_not_change(place, call, fails):
    call("train run.toml --out a")
    os.rename("images.h5", "moved.h5")
    call("train run.toml --out a --set data.path=moved.h5")
    assert json.loads(Path("a/config.json").read_text())["data"]["path"] == "moved.h5"
    os.rename("moved.h5", "images.h5")
    with h5py.File("images.h5", "r+") as file:
        file["train/images"][:] = 0
    assert "data.checksum is" in fails("train run.toml --out a")
    before = Path("a/config.json").read_text()
    os.rename("images.h5", "other.h5")
    assert "data.checksum is" in fails("train run.toml --out a --set data.path=other.h5")
    assert Path("a/config.json").read_text() == before


def test_a_folder_in_use_keeps_its_configuration(place, call, fails):
    call("train run.toml --out a --set training.epochs=2")
    for path in Path("a/checkpoints").iterdir():
        path.unlink()  # as before the first checkpoint
    before = Path("a/config.json").read_text()
    with locked(Path("a"), "training into"):
        assert fails("train run.toml --out a") == "another process is training into a; wait for it or stop it."
    assert Path("a/config.json").read_text() == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ("data.path=gone.h5", "gone.h5 does not exist; give a folder of shards (hebbcore shards build), or an HDF5"),
        ("data.path=run.toml", "run.toml cannot be read as HDF5"),
        ("data.path=shards", "read_index: shards/index.json does not exist"),
        ("data.split=val", "images.h5 must hold val/images; it holds alone, grouped, half, short, test, train."),
        ("data.split=alone", "images.h5 must hold alone/images; it holds"),
        (
            "data.split=short",
            "images.h5: short/labels must hold 2 labels, one for each of short/images, or be left out",
        ),
        ("data.split=grouped", "images.h5: grouped/labels must hold 2 labels, one for each of grouped/images, or be"),
        ("data.path=shards/train data.split=test", "config: data.split is for HDF5 files; shards/train is a folder"),
        ("data.image_size=8", "config: data.image_size is for shards; images.h5 is a file of arrays, which are taken"),
        ("data.subset=61", "images.h5: data.subset must be at most the number of its images (60), got 61."),
        ("data.path=shards/train data.subset=61", "ShardStream: subset must be an int between 1 and the number of"),
        ("network.image_shape=[9,9,3]", "fit: images must be (n, 9, 9, 3), as the network was made for, got shape"),
        ("training.epoch=3", "config: training.epoch is unknown. Did you mean epochs?"),
        ("training", "config: a change must be key.path=value, got 'training'."),
        ("device=cuda", 'config: device="cuda" does not work: CuPy'),
    ],
)
def test_errors_of_train(place, fails, changes, message, monkeypatch):
    monkeypatch.setattr("hebbcore.engine.devices.cuda_status", lambda: (False, "CuPy is not there"))
    line = "train run.toml --out a" + "".join(f" --set {change}" for change in changes.split())
    assert fails(line).startswith(message)
    assert not list(Path("a").glob("checkpoints/*"))


def test_errors_of_files_and_folders(place, fails):
    assert fails("train gone.toml --out a") == "No such file or directory: gone.toml"
    assert fails("train shards --out a") == "Is a directory: shards"
    message = fails("train images.h5 --out a")
    assert message.startswith("config: images.h5 is not valid TOML: 'utf-8' codec can't decode")
    assert message.endswith("; give a TOML file, or the config.json of a run.")
    assert fails("train run.toml --out run.toml") == "File exists: run.toml"
    assert fails("train run.toml --out images.h5/a") == "Not a directory: images.h5/a"
    h5py.File("empty.h5", "w").close()
    message = "empty.h5 must hold train/images; it holds nothing."
    assert fails("train run.toml --out a --set data.path=empty.h5") == message


def test_debug_shows_the_traceback(place):
    with pytest.raises(FileNotFoundError):
        main(["--debug", "train", "gone.toml", "--out", "a"])
    command = [sys.executable, "-m", "hebbcore", "--debug", "train", "gone.toml", "--out", "a"]
    result = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True)
    assert result.returncode == 1
    assert "Traceback" in result.stderr
    assert "FileNotFoundError" in result.stderr.splitlines()[-1]


def test_an_error_without_words_names_its_kind(place, fails, monkeypatch):
    def fail(*arguments, **options):
        raise AssertionError

    monkeypatch.setattr("hebbcore.cli.train.fit", fail)
    assert fails("train run.toml --out a") == "AssertionError"


# Interruptions

LONG = "train run.toml --out a --set training.epochs=100"


def start(line):
    """Start a command line as a process, and wait until its training writes metrics."""
    command = [sys.executable, "-m", "hebbcore", *line.split()]
    process = subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    metrics = Path("a/metrics.jsonl")
    until = time.monotonic() + 60
    while not (metrics.exists() and metrics.stat().st_size):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.005)
    return process


@pytest.mark.parametrize(
    ("number", "name", "status"), [(signal.SIGINT, "SIGINT", 130), (signal.SIGTERM, "SIGTERM", 143)]
)
def test_a_stopped_training_goes_on_to_the_same_bits(place, call, number, name, status):
    process = start(LONG)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == status
    assert out == ""
    assert "Traceback" not in err
    pattern = rf"hebbcore: stopped by {name} after step \d+; saved in a, from where the same command goes on"
    assert re.fullmatch(pattern, err.splitlines()[-1])
    step = int(re.search(r"after step (\d+)", err)[1])
    assert 0 < step < 400
    assert checkpoint.checkpoints(Path("a"))[-1].name == f"step-{step:010d}.h5"
    call(LONG)
    call(LONG.replace("--out a", "--out whole"))
    whole = hebbcore.load("whole", device="cpu")
    again = hebbcore.load("a", device="cpu")
    for layer in ("conv1", "bn1"):
        for key, array in whole[layer].arrays().items():
            np.testing.assert_array_equal(again[layer].arrays()[key], array)
    ours, theirs = (Path(run, "metrics.jsonl").read_text().splitlines() for run in ("a", "whole"))
    assert [json.loads(line)["step"] for line in ours] == [json.loads(line)["step"] for line in theirs]


def test_an_interrupt_elsewhere_is_status_130(place, call, monkeypatch, capsys):
    call("train run.toml --out a")

    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(hebbcore.Network, "transform", interrupted)
    line = "extract a images.h5 f.h5"
    _, err = call(line, status=130)
    assert err == "hebbcore: interrupted\n"
    with pytest.raises(KeyboardInterrupt):
        main(["--debug", *line.split()])
    monkeypatch.undo()
    os.chdir(place)
    call(line)
    assert names(".").count("f.h5") == 1
    assert "f.h5.partial" not in names(".")


def test_an_interrupt_in_a_callback_is_not_lost(place, call, monkeypatch):
    call("train run.toml --out a")

    def interrupted(*arguments, **options):
        class Victim:
            pass

        victim = Victim()
        watch = weakref.ref(victim, lambda watch: signal.raise_signal(signal.SIGINT))
        del victim
        assert watch() is None  # reached: Python dropped the interrupt of the callback
        time.sleep(10)

    monkeypatch.setattr(hebbcore.Network, "transform", interrupted)
    hook = sys.unraisablehook
    _, err = call("extract a images.h5 f.h5", status=130)
    assert err == "hebbcore: interrupted\n"
    assert sys.unraisablehook is hook


def test_an_interrupt_while_a_command_is_imported(place, call, monkeypatch):
    Path("slow_module.py").write_text("import signal\n\nsignal.raise_signal(signal.SIGINT)\n")
    monkeypatch.syspath_prepend(place)
    monkeypatch.setitem(cli.COMMANDS, "plot", ("slow_module", "plots"))
    assert call("plot a", status=130) == ("", "hebbcore: interrupted\n")
    with pytest.raises(KeyboardInterrupt):
        main(["--debug", "plot", "a"])


# Damage


def damage(path):
    data = bytearray(path.read_bytes())
    data[-200] ^= 1
    path.write_bytes(data)


def test_a_damaged_checkpoint_and_the_one_before(place, call, fails):
    call("train run.toml --out a --set training.epochs=3")
    whole = weights("a")
    latest = checkpoint.checkpoints(Path("a"))[-1]
    damage(latest)
    for line in ("train run.toml --out a --set training.epochs=3", "extract a images.h5 f.h5", "plot a"):
        message = fails(line)
        assert f"{latest} is damaged" in message
        assert message.endswith("The one before it, step-0000000008.h5, is used with previous.")
    call("plot a --previous --out pictures")
    assert names("pictures") == ["curves.png", "filters.png"]
    call("extract a images.h5 f.h5 --previous")
    call("train run.toml --out a --set training.epochs=3 --previous")
    np.testing.assert_array_equal(weights("a"), whole)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{}", "config: data is missing."),
        ('{"data": {"path": "images.h5"}, "network": {"layers": []}, "training": {}, "x": 1}', "config: x is unknown."),
        ("[1]", "config: a/config.json must hold a table, got [1]."),
        ('{"seed": "\n"}', "config: a/config.json is not valid JSON: Invalid control character at:"),
        ("\udcff", "config: a/config.json is not valid JSON: 'utf-8' codec can't decode"),
    ],
)
def test_a_damaged_configuration_of_a_run(place, call, fails, text, reason):
    call("train run.toml --out a")
    stored = Path("a/config.json").read_bytes()
    Path("a/config.json").write_bytes(text.encode(errors="surrogateescape"))
    message = fails("train run.toml --out a")
    assert message.startswith(f"train: a/config.json is no configuration of a run ({reason}")
    assert message.endswith("restore it, or remove it and train writes it anew.")
    Path("a/config.json").unlink()
    call("train run.toml --out a")
    assert Path("a/config.json").read_bytes() == stored


@pytest.mark.parametrize("line", ['{"x": 1}', "5"])
def test_a_foreign_line_among_the_metrics(place, call, fails, line):
    call("train run.toml --out a")
    before = Path("a/metrics.jsonl").read_text()
    Path("a/metrics.jsonl").write_text(f"{before}{line}\n")
    message = "a/metrics.jsonl: line 2 is no record of a training; remove that line."
    assert fails("train run.toml --out a --set training.epochs=2") == message
    assert call("plot a", status=1) == ("a/filters.png\n", f"hebbcore: {message}\n")
    Path("a/metrics.jsonl").write_text('{"step": 9, "images": 2, "layers": {"conv1": {}}}\n')
    message = "plot: a/metrics.jsonl: the record of step 9 is damaged; remove its line."
    assert call("plot a", status=1) == ("a/filters.png\n", f"hebbcore: {message}\n")
    Path("a/metrics.jsonl").write_bytes(before.encode() + b'{"step": 5, "na\xc3')  # as a kill cuts it off
    call("plot a")
    call("train run.toml --out a --set training.epochs=2")


def test_what_does_not_belong_among_the_checkpoints(place, call, fails):
    call("train run.toml --out a")
    Path("a/checkpoints/step-9999999999.h5").mkdir()
    call("train run.toml --out a --set training.epochs=2")
    call("extract a images.h5 f.h5")
    foreign = Path("a/checkpoints/step-0000000009.h5")
    hebbcore.save(foreign, hebbcore.load("a", device="cpu"))
    message = fails("train run.toml --out a --set training.epochs=2")
    assert message == (
        f"fit: {foreign} was written by hebbcore.save, and does not say how to go on with a training; "
        "move it out of the run."
    )


# extract


def test_extract_from_arrays_and_shards(place, call):
    call("train run.toml --out a")
    out, err = call("extract a images.h5 f.h5")
    assert (out, err) == ("f.h5: features of 20 images\n", "")
    call("extract a shards/test g.h5 --layer pool1 --dtype float16")
    call("extract a images.h5 m.h5 --mirror")
    call("extract a images.h5 new/h.h5 --split train --layer conv1 --pool 2 --batch-size 7 --device cpu")
    network = hebbcore.load("a", device="cpu")
    with h5py.File("m.h5") as m, h5py.File("images.h5") as data:
        np.testing.assert_array_equal(m["features"], network.transform(data["test/images"][...], mirror=True))
    with h5py.File("images.h5") as data, h5py.File("f.h5") as f, h5py.File("g.h5") as g, h5py.File("new/h.h5") as h:
        images = data["test/images"][...]
        np.testing.assert_array_equal(f["features"], network.transform(images))
        np.testing.assert_array_equal(f["labels"], data["test/labels"])
        np.testing.assert_array_equal(g["features"], network.transform(images, "pool1").astype(np.float16))
        np.testing.assert_array_equal(g["labels"], data["test/labels"])
        assert h["features"].shape == (60, 2, 2, 6)
        np.testing.assert_array_equal(h["labels"], data["train/labels"])
    before = Path("f.h5").read_bytes()
    call("extract a images.h5 f.h5")
    assert Path("f.h5").read_bytes() == before


def test_extract_cuts_what_the_network_takes(place, call, fails):
    call("train run.toml --out a --set data.path=shards/train --set data.image_size=6")
    call("extract a shards/test f.h5")
    call("extract a shards/test f.h5 --image-size 6")
    assert fails("extract a shards/test g.h5 --image-size 7").startswith("extract: images must be (6, 6, 3), as the")
    assert fails("extract a images.h5 g.h5").startswith("extract: images must be (6, 6, 3), as the network was made")
    assert not list(place.glob("g.h5*"))


def test_extract_from_a_saved_network(place, call, fails):
    network = hebbcore.Network([hebbcore.Dense(3)], (8, 8, 3), device="cpu")
    hebbcore.save("net.h5", network)
    call("extract net.h5 images.h5 f.h5")
    with h5py.File("f.h5") as file:
        assert file["features"].shape == (20, 3)
    hebbcore.save("layer.h5", network["fc1"].as_layer())
    assert fails("extract layer.h5 images.h5 g.h5") == "layer.h5 holds a single layer, not a network."


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("extract gone images.h5 f.h5", "load: gone does not exist."),
        ("extract shards images.h5 f.h5", "load: shards holds no checkpoint; train into it first."),
        ("extract images.h5 images.h5 f.h5", "load: images.h5 is damaged or no checkpoint of hebbcore."),
        ("extract run.toml images.h5 f.h5", "load: run.toml is damaged or no checkpoint of hebbcore"),
        ("extract a gone f.h5", "gone does not exist; give a folder of shards (hebbcore shards build), or an HDF5"),
        ("extract a run.toml f.h5", "run.toml cannot be read as HDF5"),
        ("extract a shards f.h5", "read_index: shards/index.json does not exist"),
        ("extract a images.h5 f.h5 --split val", "images.h5 must hold val/images; it holds"),
        ("extract a images.h5 f.h5 --split short", "images.h5: short/labels must hold 2 labels, one for each of"),
        (
            "extract a shards/test f.h5 --split test",
            "--split is for HDF5 files; shards/test is a folder of shards, which",
        ),
        ("extract a images.h5 f.h5 --image-size 8", "--image-size is for shards; images.h5 is a file of arrays."),
        ("extract a images.h5 f.h5 --layer conv2", "extract: layer must be one of 'conv1', 'pool1', 'bn1'; got"),
        ("extract a images.h5 f.h5 --layer bn1 --pool 4", "extract: pool must be at most the sides of bn1's output"),
        ("extract a images.h5 f.h5 --batch-size 0", "ArrayStream: batch_size must be an integer >= 1, got 0"),
        ("extract a images.h5 run.toml", "extract: run.toml exists and holds something else"),
        ("extract a images.h5 run.toml/f.h5", "File exists: run.toml"),
    ],
)
def test_errors_of_extract(place, call, fails, line, message):
    call("train run.toml --out a")
    assert fails(line).startswith(message)
    assert not list(place.glob("f.h5*"))


def test_images_without_labels(place, call, fails):
    call("train run.toml --out a --set data.split=half")
    call("extract a images.h5 f.h5 --split half")
    with h5py.File("f.h5") as f, h5py.File("images.h5", "r+") as data:
        expected = hebbcore.load("a", device="cpu").transform(data["half/images"][...])
        np.testing.assert_array_equal(f["features"], expected)
        np.testing.assert_array_equal(f["labels"], [-1, -1])
        del data["test/labels"]
    message = fails("evaluate a --train images.h5 --test images.h5 --out report")
    assert message == "images.h5 holds test/images without test/labels, which are needed to evaluate."


# plot


def test_plot_draws_filters_and_curves(place, call):
    call("train run.toml --out a --set training.log_seconds=0")
    out, err = call("plot a")
    assert (out, err) == ("a/filters.png\na/curves.png\n", "")
    with Image.open("a/filters.png") as picture:
        assert picture.size == (12 * 20 + 2, 22)
        tile = np.asarray(picture)[2:20, 2:20].reshape(3, 6, 3, 6, 3)[:, 0, :, 0]
    first = weights("a")[0]
    np.testing.assert_array_equal(tile, (255 * (first - first.min()) / (first.max() - first.min())).astype(np.uint8))
    with Image.open("a/curves.png") as picture:
        assert picture.size == (1440, 960)
        assert len(np.unique(np.asarray(picture.convert("RGB")).reshape(-1, 3), axis=0)) > 10


def test_plot_of_a_run_too_short_for_a_measured_change(place, call):
    call("train run.toml --out a")
    assert json.loads(Path("a/metrics.jsonl").read_text().splitlines()[0])["layers"]["conv1"]["change"] is None
    assert call("plot a --out pictures/a") == ("pictures/a/filters.png\npictures/a/curves.png\n", "")


def test_plot_without_matplotlib(place, call, monkeypatch):
    call("train run.toml --out a")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    out, err = call("plot a", status=1)
    assert out == "a/filters.png\n"  # these need none
    assert err == 'hebbcore: plot: curves need Matplotlib; install hebbcore with the extra "plot".\n'


def test_plot_of_layers_that_see_no_images(place, call):
    Path("run.toml").write_text(config_text({"type": "dense", "units": 6}, BATCH_NORM, seed=1))
    call("train run.toml --out a")
    out, _ = call("plot a")
    assert out.startswith("no filters to draw: the first layer that learns sees no plain images of 1 or 3 channels\n")
    assert names("a") == ["checkpoints", "config.json", "curves.png", "metrics.jsonl"]


def test_errors_of_plot(place, call, fails):
    assert fails("plot gone") == "load: gone does not exist."
    assert fails("plot shards") == "load: shards holds no checkpoint; train into it first."
    assert fails("plot images.h5") == "plot: images.h5 is a file; give the folder of a run."
    call("train run.toml --out a")
    Path("a/metrics.jsonl").unlink()
    out, err = call("plot a", status=1)
    assert (out, err) == ("a/filters.png\n", "hebbcore: plot: a/metrics.jsonl holds no metrics; train first.\n")


def test_filters_behind_a_whitening_are_drawn_as_patches(generator):
    images = generator.normal(size=(40, 6, 6, 1))
    network = hebbcore.Network([hebbcore.Whiten(3, contrast=None), hebbcore.Conv(4, 1)], device="cpu")
    hebbcore.fit(network, images, batch_size=10)
    filters = plots.first_filters(network)
    assert filters.shape == (4, 3, 3, 1)
    patch = images[0, :3, :3]
    whiten, conv = network.layers
    expected = conv.weights.reshape(4, 9) @ ((patch.reshape(9) - whiten.mean) @ whiten.matrix)
    np.testing.assert_allclose(filters.reshape(4, 9) @ (patch.reshape(9) - whiten.mean), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("layers", "shape", "drawn"),
    [
        ([hebbcore.Conv(2, 3)], (6, 6, 1), (2, 3, 3, 1)),
        ([hebbcore.BatchNorm(), hebbcore.Conv(2, 3)], (6, 6, 3), (2, 3, 3, 3)),
        ([hebbcore.Conv(2, 3)], (6, 6, 2), None),
        ([hebbcore.Dense(2)], (6,), None),
        ([hebbcore.Dense(2)], (6, 6, 3), None),
        ([hebbcore.Whiten(), hebbcore.Conv(2, 3)], (6, 6, 3), None),
        ([hebbcore.Whiten(3), hebbcore.Conv(2, 3)], (6, 6, 3), None),
    ],
)
def test_which_filters_can_be_drawn(layers, shape, drawn):
    filters = plots.first_filters(hebbcore.Network(layers, shape, device="cpu"))
    assert (None if filters is None else filters.shape) == drawn


def test_a_failure_before_the_first_step_does_not_bind_the_folder(place, call, fails):
    fails("train run.toml --out a --set network.image_shape=[9,9,3]")
    call("train run.toml --out a --set network.image_shape=[8,8,3]")


@pytest.mark.parametrize("path", ["images.h5", "shards/train"])
def test_a_preset_for_images_of_another_size_says_what_to_do(place, fails, path):
    Path("preset.toml").write_text(f'[data]\npath = "{path}"\n[network]\npreset = "softhebb-cifar"\n')
    message = fails("train preset.toml --out a")
    assert message.startswith("fit: images must be (n, 32, 32, 3), as the network was made for, got shape")
    assert message.endswith(
        "For these, make the network or preset with image_shape=(8, 8, 3) (network.image_shape=[8, 8, 3] in a "
        "configuration), or take another preset."
    )


def test_a_grid_of_constant_filters_and_several_rows(tmp_path):
    (tmp_path / "f.png").write_bytes(plots.filters_png(np.ones((5, 2, 3, 1), np.float32), columns=2, scale=1))
    with Image.open(tmp_path / "f.png") as picture:
        pixels = np.asarray(picture)
    assert pixels.shape == (3 * 4 + 2, 2 * 5 + 2, 3)
    assert (pixels[2:4, 2:5] == 0).all()
    assert (pixels[10:12, 7:10] == 255).all()  # no sixth one


# Usage


@pytest.mark.parametrize(
    "line",
    [
        "", "nothing", "train", "train run.toml", "train --out a", "train run.toml --out a --sets x=1",
        "extract a images.h5", "extract a images.h5 f.h5 --dtype float64", "extract a b c --pool two", "plot",
        "extract a b c --device tpu",
    ],
)  # fmt: skip
def test_wrong_usage_is_status_2(line, capsys):
    with pytest.raises(SystemExit) as caught:
        main(line.split())
    assert caught.value.code == 2
    assert "usage: hebbcore" in capsys.readouterr().err


def test_help_lists_every_command(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    for command in ("shards", "train", "extract", "plot"):
        assert re.search(rf"^    {command} +\w.+", text, re.MULTILINE), command
    assert len(cli.COMMANDS) == len(re.findall(r"^    \w+ +\w", text, re.MULTILINE))


def test_help_imports_no_command():
    """The commands' modules take seconds, in which an interrupt would find no handler."""
    code = "import sys\nfrom hebbcore.cli import main\ntry: main(['--help'])\nfinally: print(*sys.modules, sep='\\n')"
    done = subprocess.run([sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.split("\n"))
    assert "hebbcore.cli" in loaded
    heavy = {
        "loaders",
        "h5py",
        "PIL",
        "sklearn",
        "scipy",
        "matplotlib",
        "numba",
        *(module for module, _ in cli.COMMANDS.values()),
    }
    assert not loaded & heavy


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("train", ["config", "--out FOLDER", "--set KEY=VALUE", "--previous", "goes on when the same command"]),
        (
            "extract",
            ["images", "out", "--layer", "--pool CELLS", "--dtype", "--previous", "goes on when the same command"],
        ),
        ("plot", ["run", "--out FOLDER", "filters.png", "curves.png", "--previous"]),
        ("shards", ["build", "verify", "info", "download"]),
    ],
)
def test_help_of_a_command(command, words, capsys):
    with pytest.raises(SystemExit) as caught:
        main([command, "--help"])
    assert caught.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    assert not [word for word in words if word not in text]


def test_train_works_in_a_thread(place):
    """Signals can be caught in the main thread alone; elsewhere a training runs without."""
    statuses = []
    thread = threading.Thread(target=lambda: statuses.append(main(["train", "run.toml", "--out", "a"])))
    thread.start()
    thread.join()
    assert statuses == [0]
    assert checkpoint.checkpoints(Path("a"))
