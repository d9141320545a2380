"""`hebbcore train` as a user runs it: what it prints, what it refuses, what may change when it goes on."""

import json
import os
import re
import threading
from pathlib import Path

import h5py
import numpy as np
import pytest
from cli_helpers import CONFIG, CONV, config_text, names, weights

import hebbcore
import loaders
from hebbcore import checkpoint
from hebbcore.cli import main, train
from hebbcore.cli.progress import line_of
from hebbcore.files import locked, locked_until_taken

pytest_plugins = "cli_helpers"


def test_train_from_arrays(place, call):
    out, err = call("train run.toml --out runs/a --set training.epochs=3")
    assert out.startswith("runs/a: done; runs/a/checkpoints/step-0000000012.h5 holds the network\nlayer ")
    assert re.search(r"^conv1 +6 × 6 × 6 +162$", out, re.MULTILINE)
    assert [line.split(",")[0] for line in err.splitlines()] == [f"epochs done: {i}" for i in (1, 2, 3)]
    assert re.match(r"epochs done: 1, 60 images, \d+ img/s, \d+:\d\d:\d\d left; change conv1 .*$", err.splitlines()[0])
    assert names("runs/a") == ["checkpoints", "config.json", "metrics.jsonl"]
    given = json.loads(Path("runs/a/config.json").read_text())
    assert (given["seed"], given["training"]["epochs"], given["training"]["batch_size"]) == (1, 3, 16)
    assert given["training"]["learning_rate"] is None
    with h5py.File("images.h5") as file:
        images = file["train/images"][...]
    network = hebbcore.Network([hebbcore.Conv(6, 3), hebbcore.Pool(2), hebbcore.BatchNorm()], seed=1, device="cpu")
    hebbcore.fit(network, images, epochs=3, batch_size=16, seed=1)
    np.testing.assert_array_equal(weights("runs/a"), network["conv1"].weights)


@pytest.mark.parametrize(
    ("layers", "advice"),
    [
        (
            [CONV],
            'initial_weights = "patches" of the layer, a layer whiten before the others, or fewer units',
        ),
        ([{"type": "whiten"}, {**CONV, "rule": "swta", "initial_weights": "patches"}], "Fewer units"),
    ],
)
def test_advice_against_units_that_win_nothing_is_for_the_configuration(layers, advice, place, call, monkeypatch):
    monkeypatch.setattr("hebbcore.cli.train.dead_texts", lambda path: ["5 of 6 units of conv won none."])
    Path("run.toml").write_text(config_text(*layers))
    assert call("train run.toml --out a")[0].endswith(f"\n5 of 6 units of conv won none. {advice} may help.\n")


def test_the_same_command_again_changes_nothing(place, call, files_of):
    first, _ = call("train run.toml --out a")
    before, numbers = files_of("a"), [path.stat().st_ino for path in sorted(Path("a").rglob("*"))]
    again, err = call("train run.toml --out a")
    assert (again, err) == (first, "")
    assert files_of("a") == before
    assert [path.stat().st_ino for path in sorted(Path("a").rglob("*"))] == numbers  # nothing is written


def test_train_from_shards_and_again_from_config_json(place, call):
    call("train run.toml --out a --set data.path=shards/train --set data.image_size=6 --set data.subset=0.5")
    call("train a/config.json --out b")
    assert Path("a/config.json").read_bytes() == Path("b/config.json").read_bytes()
    np.testing.assert_array_equal(weights("a"), weights("b"))
    assert hebbcore.load("a", device="cpu").image_shape == (6, 6, 3)
    call("train a/config.json --out c --set data.crop=random")
    assert (weights("a") != weights("c")).any()


def test_shards_are_decoded_by_as_many_threads_as_the_process_has_cores(place, call, monkeypatch):
    begun = loaders.ShardStream
    given = []
    monkeypatch.setattr(
        loaders, "ShardStream", lambda *path, **more: given.append(more["threads"]) or begun(*path, **more)
    )
    monkeypatch.setattr("hebbcore.engine.parallel.cores", lambda: 3)
    call("train run.toml --out a --set data.path=shards/train --set data.image_size=6")
    call("extract a shards/test f.h5")
    assert given == [3, 3]


def test_metrics_are_printed_as_they_come(place, call):
    _, err = call("train run.toml --out a --set training.log_seconds=0")
    assert re.search(r"^epochs done: 0, 16 images, .*; change conv1 \d\.\de-\d\d$", err, re.MULTILINE)
    assert "conv1 0.0e+00" not in err


@pytest.mark.parametrize(("rate", "text"), [(12_345.6, "12346"), (7.25, "7.2"), (0.034, "0.034"), (0.0, "0")])
def test_a_slow_training_has_a_speed_above_0(rate, text):
    record = {"epoch": 1, "images": 20, "images_per_second": rate, "layers": {}}
    assert line_of(record, None) == f"epochs done: 1, 20 images, {text} img/s"


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
    message = fails("train run.toml --out a --set training.schedule=linear --set training.epochs=3")
    assert "training.epochs is 3 here and 1 there (epochs may change in mode together" in message
    Path("run.toml").write_text(CONFIG.replace("units = 6", "units = 7"))
    assert "network.layers[0].units is 7 here and 6 there" in fails("train run.toml --out a")
    assert Path("a/config.json").read_text() == before


def test_a_default_that_is_written_out_is_the_same_configuration(place, call, fails):
    call("train run.toml --out a")
    written = {"conv1.stride": 1, "conv1.padding_mode": "zeros", "conv1.linear": "false"}
    options = [f"--set network.layers.{key}={value}" for key, value in written.items()]
    call(f"train run.toml --out a --set data.split=train --set workspace=268435456 {' '.join(options)}")
    message = fails(f"train run.toml --out a {' '.join(options)} --set network.layers.conv1.stride=2")
    assert message.startswith("train: a is a run of another configuration: network.layers[0].stride")
    assert message.count(" here and ") == message.count("stride[") == 2


def test_the_shape_of_the_images_that_is_written_out_is_the_same_configuration(place, call, fails):
    call("train run.toml --out a")
    assert "images must be (n, 8, 6, 3)" in fails("train run.toml --out a --set network.image_shape=[8,6,3]")
    call("train run.toml --out a --set network.image_shape=[8,8,3]")
    assert json.loads(Path("a/config.json").read_text())["network"]["image_shape"] == [8, 8, 3]
    call("train run.toml --out a")


def test_a_refused_configuration_does_not_stay_in_a_run_that_has_lost_its_own(place, call, fails):
    call("train run.toml --out a")
    Path("a/config.json").unlink()
    assert "layers[0].units is 7 here and 6 there" in fails("train run.toml --out a --set network.layers.conv1.units=7")
    assert not Path("a/config.json").exists()
    call("train run.toml --out a")


def test_a_seed_draws_the_weights_of_arrays_that_are_not_shuffled(place, call):
    call("train run.toml --out a --set training.shuffle=false --set seed=3")
    call("train run.toml --out a --set training.shuffle=false --set seed=3 --set training.epochs=2")
    assert "damaged: 0" in call("verify a")[0]
    network = hebbcore.Network([hebbcore.Conv(6, 3), hebbcore.Pool(2), hebbcore.BatchNorm()], seed=3, device="cpu")
    with h5py.File("images.h5") as file:
        hebbcore.fit(network, file["train/images"][...], epochs=2, batch_size=16, shuffle=False, run="b")
    np.testing.assert_array_equal(hebbcore.load("a", device="cpu")["conv1"].weights, network["conv1"].weights)
    call("train b/config.json --out c --set data.path=images.h5")
    assert "damaged: 0" in call("verify a b c")[0]


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


def test_no_other_configuration_comes_between_that_of_a_training_and_its_begin(place, call, monkeypatch):
    fit, statuses = train.fit, []

    def other_first(*given, **options):
        monkeypatch.setattr(train, "fit", fit)
        other = ["train", "run.toml", "--out", "a", "--set", "seed=5"]
        thread = threading.Thread(target=lambda: statuses.append(main(other)))
        thread.start()
        thread.join()
        return fit(*given, **options)

    monkeypatch.setattr(train, "fit", other_first)
    _, err = call("train run.toml --out a")
    assert "another process is training into a" in err
    assert statuses == [1]
    assert json.loads(Path("a/config.json").read_text())["seed"] == 1
    call("train run.toml --out a")


def test_a_lock_is_lent_once(tmp_path):
    with locked_until_taken(tmp_path, "here"):
        with locked(tmp_path, "there"), pytest.raises(BlockingIOError), locked(tmp_path, "there"):
            pass
        with pytest.raises(BlockingIOError), locked(tmp_path, "there"):
            pass
    with locked(tmp_path, "there"), pytest.raises(BlockingIOError), locked_until_taken(tmp_path, "here"):
        pass


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ("data.path=gone.h5", "gone.h5 does not exist; give a folder of shards (hebbcore shards build) or of images"),
        ("data.path=run.toml", "run.toml cannot be read as HDF5"),
        ("data.path=shards", "ImageFolder: shards holds splits, not classes: has train, test; give shards/train"),
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


@pytest.mark.parametrize("path", ["images.h5", "shards/train"])
def test_a_sample_of_patches_is_set_and_kept(place, call, fails, path):
    line = f"train run.toml --set data.path={path} --set training.mode=layerwise --set training.sample="
    call(f"{line}200 --out a")
    assert json.loads(Path("a/config.json").read_text())["training"]["sample"] == 200
    trained = weights("a")
    call(f"{line}200 --out a")
    np.testing.assert_array_equal(weights("a"), trained)
    call(f"{line}200 --out b --set seed=5")
    assert (weights("b") != trained).any()
    assert "training.sample is 201 here and 200 there" in fails(f"{line}201 --out a")
    call(f"{line}none --out c")
    assert json.loads(Path("c/config.json").read_text())["training"]["sample"] is None
    assert "training.sample=7 has no effect" in fails("train run.toml --out d --set training.sample=7")


def test_a_training_that_is_not_finished_is_told_where_its_network_is_used(place, call, monkeypatch):
    call("train run.toml --out r --set training.epochs=2")
    Path("r", "checkpoints", sorted(os.listdir("r/checkpoints"))[-1]).unlink()  # as if it was killed before
    line = "extract r shards/test out.h5"
    _, err = call(line)
    assert err == (
        "hebbcore: warning: the training in r is not finished (phase 1 of 1, all layers: 1 of 2 epochs); the network "
        "is taken as it is. The command or call that began the training goes on with it.\n"
    )
    assert "warning" not in call("plot r")[1]
    with monkeypatch.context() as later:
        later.setattr("hebbcore.training.header.FORMAT", 0)  # the checkpoint is of a later version
        assert "warning" not in call("extract r shards/test out.h5")[1]
    call("train run.toml --out r --set training.epochs=2")
    assert "warning" not in call("extract r shards/test finished.h5")[1]


def test_train_works_in_a_thread(place):
    """Signals can be caught in the main thread alone; elsewhere a training runs without."""
    statuses = []
    thread = threading.Thread(target=lambda: statuses.append(main(["train", "run.toml", "--out", "a"])))
    thread.start()
    thread.join()
    assert statuses == [0]
    assert checkpoint.checkpoints(Path("a"))


def test_a_run_whose_images_have_moved_is_told_where(place, call, fails):
    call("train run.toml --out runs/a --set training.epochs=1")
    Path("images.h5").rename("moved.h5")
    line = "train run.toml --out runs/a --set training.epochs=2"
    assert "images.h5 does not exist, and runs/a learns from it; if the images have moved, --set" in fails(line)
    call(f"{line} --set data.path=moved.h5")
    assert json.loads(Path("runs/a/config.json").read_text())["data"]["path"] == "moved.h5"
