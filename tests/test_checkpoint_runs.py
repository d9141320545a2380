"""A run's checkpoints: which are kept, which is taken, and what may change before a training goes on."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT
from fit_helpers import arrays, assert_same, images, layers, network

import hebbcore
import loaders
from hebbcore import checkpoint


def steps_in(run):
    return [int(path.stem.removeprefix("step-")) for path in checkpoint.checkpoints(run)]


def test_a_run_from_before_a_parameter_came_goes_on(tmp_path):
    options = {"batch_size": 5, "run": tmp_path / "run"}
    hebbcore.fit(network(), images(), **options)
    path = checkpoint.checkpoints(tmp_path / "run")[-1]
    header, stored = checkpoint.read("fit", path)
    del header["layers"][0]["linear"], header["training"]["log_seconds"], header["training"]["statistics_images"]
    del header["training"]["sample"]
    checkpoint.write(path, header, stored)
    hebbcore.fit(network(), images(), epochs=2, **options)
    assert_same(
        arrays(hebbcore.load(tmp_path / "run")), arrays(hebbcore.fit(network(), images(), epochs=2, batch_size=5))
    )


def test_a_run_from_when_a_stream_in_its_order_took_a_seed_goes_on(tmp_path):
    loaders.write_shards((images(dtype=np.uint8), np.zeros(10, int)), tmp_path / "shards")
    with loaders.ShardStream(tmp_path / "shards", batch_size=5) as stream:
        options = {"run": tmp_path / "run"}
        hebbcore.fit(network(), stream, **options)
        path = checkpoint.checkpoints(tmp_path / "run")[-1]
        header, stored = checkpoint.read("fit", path)
        header["data"] |= {"seed": 3, "shuffle_buffer": 4096}
        checkpoint.write(path, header, stored)
        hebbcore.fit(network(), stream, epochs=2, **options)
        checkpoint.write(path, header | {"data": header["data"] | {"subset": 5}}, stored)
        for other in checkpoint.checkpoints(tmp_path / "run"):
            if other != path:
                other.unlink()
        with pytest.raises(ValueError, match=r"data.subset is None here and 5 there[^;]*$"):
            hebbcore.fit(network(), stream, epochs=2, **options)


@pytest.mark.parametrize("keep", [1, 2, 5])
def test_the_latest_checkpoints_are_kept(keep, tmp_path):
    hebbcore.fit(network(), images(), epochs=4, batch_size=5, keep=keep, run=tmp_path)
    assert steps_in(tmp_path) == [0, 2, 4, 6, 8][-keep:]
    every = tmp_path / "every"
    hebbcore.fit(network(), images(), epochs=4, batch_size=5, keep=keep, run=every, checkpoint_minutes=1e-9)
    assert steps_in(every) == list(range(9))[-keep:]


def test_copies_of_checkpoints_stay_and_are_never_the_latest(tmp_path):
    options = {"batch_size": 5, "run": tmp_path}
    hebbcore.fit(network(), images(), **options)
    first, copies = checkpoint.checkpoints(tmp_path)[0], ("step-best.h5", "step-0000000000-before.h5", "step-0.h5")
    for name in copies:
        shutil.copy(first, first.with_name(name))
    trained = arrays(hebbcore.fit(network(), images(), epochs=4, keep=1, **options))
    assert_same(trained, arrays(hebbcore.fit(network(), images(), epochs=4, batch_size=5)))
    assert_same(arrays(hebbcore.load(tmp_path, device="cpu")), trained)
    assert {path.name for path in first.parent.iterdir()} == {*copies, "step-0000000008.h5"}
    with pytest.raises(FileNotFoundError, match=rf"checkpoints is of the run {tmp_path}; give that"):
        hebbcore.load(first.parent)


def test_a_damaged_latest_checkpoint_and_the_one_before(tmp_path):
    options = {"epochs": 3, "batch_size": 5, "run": tmp_path / "run"}
    expected = arrays(hebbcore.fit(network(), images(), **options))
    last = checkpoint.checkpoints(tmp_path / "run")[-1]
    content = last.read_bytes()
    last.write_bytes(content[:2000])
    message = r"step-0000000006\.h5 is damaged.*The one before it, step-0000000004\.h5, is used with previous=True"
    with pytest.raises(ValueError, match=f"load: .*{message}"):
        hebbcore.load(tmp_path / "run")
    with pytest.raises(ValueError, match=f"fit: .*{message}"):
        hebbcore.fit(network(), images(), **options)
    assert last.read_bytes() == content[:2000]
    before = hebbcore.load(tmp_path / "run", device="cpu", previous=True)
    two = hebbcore.fit(network(), images(), epochs=2, batch_size=5)
    assert_same(arrays(before), arrays(two))
    assert_same(arrays(hebbcore.fit(network(), images(), previous=True, **options)), expected)
    assert checkpoint.checkpoints(tmp_path / "run")[-1] == last
    assert_same(arrays(hebbcore.load(tmp_path / "run", device="cpu")), expected)
    for path in checkpoint.checkpoints(tmp_path / "run"):
        path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"every checkpoint in .* is damaged or .*, move .*checkpoints away"):
        hebbcore.fit(network(), images(), previous=True, **options)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"learning_rate": 0.2}, "training.learning_rate is 0.2 here and 0.001 there"),
        ({"seed": 1}, "training.seed is 1 here and 0 there"),
        ({"batch_size": 4}, "training.batch_size is 4 here and 5 there; data.batch_size is 4 here and 5 there"),
        ({"shuffle": False}, "training.shuffle is False here and True there"),
        ({"schedule": "linear"}, "training.schedule is 'linear' here and 'constant' there"),
        ({"mode": "layerwise"}, "training.mode is 'layerwise' here and 'together' there"),
        ({"data": images(9)}, r"data.shape\[0\] is 9 here and 10 there"),
        ({"data": images(seed=5)}, "data.checksum"),
        ({"data": images(dtype=np.float32)}, "data.dtype is 'float32' here and 'float64' there"),
        ({"data": [images()], "batch_size": None}, "data.batches is 1 here and not set there"),
        ({"network": network(seed=3)}, "seed is 3 here and 0 there"),
        ({"network": network(precision="float32")}, "precision is 'float32' here and 'float64' there"),
        ({"network": network(True)}, "layers is"),
        (
            {"network": hebbcore.Network([hebbcore.Conv(4, 2, hebbcore.SWTA(0.2), learning_rate=0.5), *layers()[1:]])},
            r"layers\[0\].rule.temperature is 0.2 here and 0.1 there",
        ),
    ],
)
def test_a_run_goes_on_with_its_own_settings_only(change, named, tmp_path):
    options = {"network": network(), "data": images(), "batch_size": 5, "run": tmp_path}
    hebbcore.fit(**options)
    if "network" in change and change["network"].image_shape is None:
        change["network"] = hebbcore.Network(change["network"].layers, precision="float64")
    files = {path: path.read_bytes() for path in checkpoint.checkpoints(tmp_path)}
    with pytest.raises(ValueError, match=f"holds another training: (.*; )?{named}"):
        hebbcore.fit(**{**options, **change})
    assert {path: path.read_bytes() for path in checkpoint.checkpoints(tmp_path)} == files


@pytest.mark.parametrize("as_list", [False, True])
def test_one_other_pixel_makes_other_data(as_list, tmp_path, tune):
    tune(piece_bytes=1000)  # several pieces
    first = images()
    second = first.copy()
    second[3, 1, 1, 0] += 1e-9
    given = [[(array[:4], np.arange(4)), (array[4:], np.arange(6))] if as_list else array for array in (first, second)]
    hebbcore.fit(network(), given[0], run=tmp_path)
    with pytest.raises(ValueError, match=r"holds another training: data.checksum is \d+ here and \d+ there"):
        hebbcore.fit(network(), given[1], run=tmp_path)
    hebbcore.fit(network(), given[0], run=tmp_path, epochs=2)


def test_what_does_not_change_the_result_may_change(tmp_path):
    options = {"mode": "layerwise", "run": tmp_path}
    expected = arrays(hebbcore.fit(network(), images(), **options))
    free = {"cache_bytes": "1 GiB", "checkpoint_minutes": 1, "keep": 1, "log_seconds": 1, "check_finite": False}
    assert_same(arrays(hebbcore.fit(network(), images(), cache="memory", **free, **options)), expected)


def test_epochs_may_be_raised_together_only(tmp_path):
    options = {"batch_size": 4, "log_seconds": 0}
    expected = hebbcore.fit(network(True), images(), epochs=5, run=tmp_path / "whole", **options)
    for epochs in (1, 3, 5, 5):
        net = hebbcore.fit(network(True), images(), epochs=epochs, run=tmp_path / "raised", **options)
    assert_same(arrays(net), arrays(expected))
    steps = [
        [json.loads(line)["step"] for line in (tmp_path / run / "metrics.jsonl").read_text().splitlines()]
        for run in ("whole", "raised")
    ]
    assert steps[0] == steps[1] == list(range(1, 19))
    hebbcore.fit(network(), images(), epochs=1, mode="layerwise", run=tmp_path / "layerwise")
    with pytest.raises(ValueError, match=r"training\.epochs is 2 here and 1 there"):
        hebbcore.fit(network(), images(), epochs=2, mode="layerwise", run=tmp_path / "layerwise")


@pytest.mark.parametrize("schedule", ["linear", "cosine", "epochs"])
def test_epochs_that_rates_depend_on_stay(schedule, tmp_path):
    options = {"schedule": schedule, "run": tmp_path}
    hebbcore.fit(network(), images(), epochs=3, **options)
    for epochs in (2, 4):
        with pytest.raises(ValueError, match=rf"training\.epochs is {epochs} here and 3 there \(epochs may change in"):
            hebbcore.fit(network(), images(), epochs=epochs, **options)


def test_epochs_that_were_learned_are_not_unlearned(tmp_path):
    def stop(record):
        if record["step"] == 8:  # in the third epoch
            raise KeyboardInterrupt

    options = {"run": tmp_path, "batch_size": 4, "log_seconds": 0, "checkpoint_minutes": 1e-9}
    with pytest.raises(KeyboardInterrupt):
        hebbcore.fit(network(), images(), epochs=4, callback=stop, **options)
    with pytest.raises(ValueError, match=r"epochs is 2, but .* has begun epoch 3; give at least 3"):
        hebbcore.fit(network(), images(), epochs=2, **options)
    expected = hebbcore.fit(network(), images(), epochs=3, batch_size=4)
    assert_same(arrays(hebbcore.fit(network(), images(), epochs=3, **options)), arrays(expected))


def test_two_processes_do_not_train_into_one_folder(tmp_path):
    tried = []

    def try_too(record):
        script = f"""
import numpy as np, hebbcore
try:
    net = hebbcore.Network([hebbcore.Dense(2)], (3,))
    hebbcore.fit(net, np.ones((4, 3)), run={str(tmp_path)!r})
except BlockingIOError as error:
    print("blocked", error)
"""
        tried.append(subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True))
        with pytest.raises(BlockingIOError, match="another process is training into"):
            hebbcore.fit(network(), images(), run=tmp_path)

    hebbcore.fit(network(), images(), run=tmp_path, callback=try_too)
    assert [done.stdout.strip() for done in tried] == [
        f"blocked another process is training into {tmp_path}; wait for it or stop it."
    ]
    hebbcore.fit(network(), images(), run=tmp_path)  # the lock went with the training
