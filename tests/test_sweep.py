"""`hebbcore sweep`: every combination is trained once, interruptions included, and the tables say how it ended."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from cli_helpers import BATCH_NORM, CONV, POOL, config_text

import hebbcore
import loaders
from hebbcore.cli import sweep as cli_sweep
from hebbcore.evaluation.metrics import mean_interval
from hebbcore.evaluation.selection import held_out_accuracy
from hebbcore.runs import sweeps
from hebbcore.runs.config import read_config
from hebbcore.runs.entries import read_entries, write_entries

pytest_plugins = "cli_helpers"

CONFIG = config_text(CONV, POOL, BATCH_NORM)
LINE = ["sweep", "run.toml", "--out", "s", "--grid", "training.learning_rate=0.001,0.01", "--seeds", "2"]
RULES = ["--grid", "network.layers.conv1.rule=hpca,{name = 'swta', temperature = 0.5}"]


@pytest.fixture
def place(images):
    Path("run.toml").write_text(CONFIG)
    return images


def results():
    return json.loads(Path("s/sweep.json").read_text())["runs"]


def test_every_combination_and_seed_is_trained(place, call):
    out, err = call([*LINE, *RULES])
    runs = results()
    assert len(runs) == 8
    name = "network.layers.conv1.rule=hpca,training.learning_rate=0.01,seed=1"
    assert runs[name]["settings"] == {
        "network.layers.conv1.rule": "hpca", "training.learning_rate": 0.01, "seed": 1,
    }  # fmt: skip
    call(["train", "run.toml", "--out", "alone", "--set", "training.learning_rate=0.01", "--set", "seed=1"])
    alone, found = (hebbcore.load(run, device="cpu")["conv1"].weights for run in ("alone", f"s/{name}"))
    np.testing.assert_array_equal(found, alone)
    record = json.loads(Path(f"s/{name}/metrics.jsonl").read_text().splitlines()[-1])
    for key in ("dead", "norm_mean", "entropy"):
        assert runs[name]["figures"]["layers"]["conv1"][key] == record["layers"]["conv1"][key]
    heads = [line for line in err.splitlines() if "epochs done" not in line]
    assert [line.split(":")[0] for line in heads] == [f"run {i} of 8" for i in range(1, 9)]
    assert re.fullmatch(r"run 8 of 8: network\S+seed=1, \d:\d\d:\d\d left", heads[-1])
    assert re.search(r"^run 1 of 8: epochs done: 1, 60 images, \d+ img/s, \d:\d\d:\d\d left", err, re.MULTILINE)
    assert out.splitlines()[-2:] == ["s/sweep.json", "s/sweep.md"]
    assert len(out.splitlines()) == 1 + 4 + 2


def test_the_table_is_the_mean_over_the_seeds(place, call):
    call(LINE)
    text = Path("s/sweep.md").read_text()
    norms = {
        rate: [
            results()[f"training.learning_rate={rate},seed={i}"]["figures"]["layers"]["conv1"]["norm_mean"]
            for i in (0, 1)
        ]
        for rate in ("0.001", "0.01")
    }
    section = text.split("## Mean norm of the units\n\n")[1].split("\n\n")[0].splitlines()
    assert section[0] == "| training.learning_rate | conv1 |"
    for line, (rate, values) in zip(section[2:], norms.items(), strict=True):
        mean, half = mean_interval(values)
        assert line == f"| {rate} | {mean:.4g} ± {half:.2g} |"
    assert text.count("2 of 2") == 2
    assert "| training.learning_rate=0.01,seed=1 | done |" in text


def test_finished_runs_are_not_trained_again(place, call, files_of, monkeypatch):
    first, _ = call(LINE)
    before = files_of("s")
    with monkeypatch.context() as patch:
        patch.delattr("hebbcore.cli.sweep.train_into")
        again, err = call(LINE)
    assert (again, err) == (first, "")
    assert files_of("s") == before
    call([*LINE[:5], "training.learning_rate=0.001,0.01,0.1", *LINE[6:]])  # a larger grid: two more
    after = files_of("s")
    assert len(results()) == 6
    assert all(after[path] == data for path, data in before.items() if path.name not in ("sweep.json", "sweep.md"))
    _, err = call([*LINE, "--set", "training.epochs=2"])
    assert [line.split(":")[0] for line in err.splitlines() if "epochs" not in line] == [
        f"run {i} of 4" for i in (1, 2, 3, 4)
    ]
    assert results()["training.learning_rate=0.01,seed=0"]["figures"]["images"] == 120


def test_runs_of_other_epochs_are_not_compared(place, call, fails, files_of, monkeypatch):
    call(LINE)
    name, train_into, left = "training.learning_rate=0.01,seed=0", cli_sweep.train_into, [True]
    call(["train", f"s/{name}/config.json", "--set", "training.epochs=3", "--out", f"s/{name}"])
    before = files_of("s")
    assert fails(LINE).startswith(f"sweep: training.epochs is 1, but s/{name} has begun epoch 3; give at least 3, ")
    assert files_of("s") == before
    shutil.rmtree(f"s/{name}")

    def one(*given):
        if not left:
            raise OSError(28, "No space left on device")
        left.clear()
        return train_into(*given)

    monkeypatch.setattr(cli_sweep, "train_into", one)
    call([*LINE, "--set", "training.epochs=2"], 1)  # ends when one of the four has two epochs
    assert "| 0.001 | 1 of 2 | " in Path("s/sweep.md").read_text()


def test_a_killed_sweep_goes_on(place, call):
    environment = {**os.environ, "PYTHONPATH": str(Path(hebbcore.__file__).parents[1])}
    line = [*LINE, "--set", "training.epochs=20"]
    for number in (signal.SIGKILL, signal.SIGTERM):
        process = subprocess.Popen(
            [sys.executable, "-m", "hebbcore", *line], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True,
        )  # fmt: skip
        sent = False
        for text in process.stderr:
            if not sent and re.match("run [23] of 4: epochs done: 3", text):
                process.send_signal(number)
                sent = True
        assert process.wait(60) in (-signal.SIGKILL, 143)
        if process.returncode == 143:
            assert "from where the same command goes on" in text
        process.stdout.close()
        process.stderr.close()
    done = results()
    assert len(done) < 4
    call(line)
    assert {name: entry for name, entry in results().items() if name in done} == done
    for rate in ("0.001", "0.01"):
        for seed in "01":
            call(
                f"train run.toml --out whole-{rate}-{seed} --set training.epochs=20 --set seed={seed} --set "
                f"training.learning_rate={rate}"
            )
            runs = (f"whole-{rate}-{seed}", f"s/training.learning_rate={rate},seed={seed}")
            one, two = (hebbcore.load(run, device="cpu")["conv1"].weights for run in runs)
            np.testing.assert_array_equal(one, two)


def test_a_run_that_fails_does_not_stop_the_others(place, call, monkeypatch):
    line = "sweep run.toml --out s --grid training.learning_rate=1e30,0.01 --grid network.layers.pool1.window=2,7"
    _, err = call(line)
    states = {name: entry["state"] for name, entry in results().items()}
    key = "network.layers.pool1.window={},training.learning_rate={},seed=0".format
    assert states == {
        key(2, "1e30"): "diverged", key(2, "0.01"): "done", key(7, "1e30"): "failed", key(7, "0.01"): "failed",
    }  # fmt: skip
    assert re.search(rf"^diverged: {re.escape(key(2, '1e30'))}: fit: the weights of conv1", err, re.MULTILINE)
    assert f"failed: {key(7, '0.01')}: Network: pool1: window (7, 7) is larger than" in err
    assert "diverged: fit: the weights of conv1" in Path("s/sweep.md").read_text()
    trained = []
    train_into = sys.modules["hebbcore.cli.sweep"].train_into
    monkeypatch.setattr(
        "hebbcore.cli.sweep.train_into", lambda run, *arguments: trained.append(run.name) or train_into(run, *arguments)
    )
    call(line)
    assert trained == [key(7, "1e30"), key(7, "0.01")]  # what diverged does so again; else something may be better now
    call("sweep run.toml --out t --grid training.learning_rate=0.1,0.01 --set network.layers.pool1.window=7", status=1)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "sweep: give --grid KEY=VALUE,VALUE,…, or --seeds of at least 2; `train` does a single run."),
        ("--seeds 1", "sweep: give --grid KEY=VALUE,VALUE"),
        ("--seeds 0", "sweep: --seeds must be at least 1, got 0."),
        ("--grid training.epochs", "config: a change must be key.path=value, got 'training.epochs'."),
        ("--grid training.epochs=2", "sweep: --grid must be KEY=VALUE,VALUE,…, got 'training.epochs=2'; --set"),
        ("--grid training.epochs=2,", "sweep: --grid must be KEY=VALUE,VALUE,…, got 'training.epochs=2,'"),
        ("--grid training.epochs=2,3,2", "sweep: --grid training.epochs has 2 twice; leave one out."),
        ("--grid training.epochs=2,3 --grid training.epochs=4,5", "sweep: --grid training.epochs is there twice; give"),
        ("--grid training.epoch=2,3", "config: training.epoch is unknown. Did you mean epochs?"),
        ("--grid network.layers.conv2.units=2,3", "config: network.layers.conv2.units is unknown. Did you mean conv1?"),
        ("--grid network.layers.conv1.units=2,0", "config: network.layers[0].units must be at least 1, got 0."),
        ("--grid workspace=1MiB,1048576", "sweep: workspace=1MiB,seed=0 and workspace=1048576,seed=0 are"),
        ("--grid training.keep=2,3", "sweep: training.keep=2,seed=0 and training.keep=3,seed=0 are the same training;"),
        ("--grid training.learning_rate=0.01,1e-2", "sweep: --grid training.learning_rate has 1e-2 twice"),
        ("--grid training.rate_factor=1,1.0", "sweep: --grid training.rate_factor has 1.0 twice"),
        ("--grid network.layers=[{learning_rate=1}],[{learning_rate=1.0}]", "sweep: --grid network.layers has [{"),
        ("--grid network.layers.conv1.units=6,7 --grid network.layers[0].units=8,9", "sweep: network.layers.0."),
        ("--grid training.learning_rate=none,0.001", "sweep: training.learning_rate=none,seed=0 and"),
        ("--grid training.cache_bytes=1,2", "config: training.cache_bytes has no effect: it"),
        ("--grid seed=1,2", "sweep: --grid does not take seed; use --seeds COUNT"),
        ("--seeds 2 --set seed=3", "sweep: seed has several values; leave out --set seed."),
        ("--grid training.epochs=2,3 --set training.epochs=4", "sweep: training.epochs has several values; leave out"),
        ("--seeds 2 --layer conv1", "sweep: --layer is for --evaluate IMAGES; give both, or leave it out."),
        ("--seeds 2 --evaluate gone.h5", "gone.h5 does not exist; give a folder of shards"),
        ("--seeds 2 --evaluate images.h5 --layer conv2", "sweep: --layer of seed=0 must be one of 'conv1',"),
    ],
)  # fmt: skip
def test_what_is_refused_before_any_work(place, fails, line, message):
    assert fails(f"sweep run.toml --out s {line}").startswith(message)
    assert not Path("s").exists()


def test_rates_that_no_layer_takes_are_no_grid(place, fails):
    Path("preset.toml").write_text('[data]\npath = "images.h5"\n[network]\npreset = "softhebb-cifar"\n')
    message = fails("sweep preset.toml --out s --grid training.learning_rate=0.1,0.5")
    assert message.startswith(
        "config: training.learning_rate=0.1 has no effect, since every layer has a rate of its own"
    )


def test_a_changed_figure_is_found(place, call, fails):
    call(LINE)
    assert "s/sweep.json: sound" in call("verify s")[0]
    path = Path("s/sweep.json")
    text = path.read_text()
    changed = re.sub(r'("norm_mean": 0\.)(\d)', lambda found: found[1] + str((int(found[2]) + 1) % 10), text, count=1)
    assert changed != text
    path.write_text(changed)
    assert fails(LINE).startswith("sweep: s/sweep.json is damaged, or not what this version writes; remove it")
    assert "s/sweep.json is damaged" in call("verify s", status=1)[0]


def test_the_runs_of_a_sweep_are_verified_with_it(place, call):
    call(LINE)
    checkpoint = max(Path("s").glob("*/checkpoints/*.h5"))
    assert f"{checkpoint}: sound" in call("verify s")[0]
    content = bytearray(checkpoint.read_bytes())
    content[len(content) // 2] ^= 1
    checkpoint.write_bytes(content)
    out, _ = call("verify s", status=1)
    assert f"{checkpoint} is damaged" in out
    assert out.endswith(", damaged: 1\n")


def test_another_configuration_is_refused(place, call, fails, files_of):
    call(LINE)
    before = files_of("s")
    message = fails([*LINE, "--set", "training.batch_size=8"])
    assert message.startswith(
        "sweep: s/training.learning_rate=0.001,seed=0 is a run of another configuration: training.batch_size is 8 here"
    )
    assert files_of("s") == before
    for text in ("{", "[]", '{"runs": {"a": {"state": "done"}}}', '{"runs": {"a": {"state": "x", "epochs": 1}}}'):
        Path("s/sweep.json").write_text(text)
        assert fails(LINE).startswith("sweep: s/sweep.json is damaged, or not what this version writes; remove it")
    Path("s/sweep.json").unlink()
    _, err = call(LINE)  # the runs are finished all the same
    assert "epochs done" not in err
    assert {path: data for path, data in files_of("s").items() if path.suffix == ".h5"} == {
        path: data for path, data in before.items() if path.suffix == ".h5"
    }


def test_finished_runs_of_other_images_are_refused(place, call, fails, files_of):
    line = ["sweep", "run.toml", "--out", "s", "--seeds", "2"]
    call(line)
    before = files_of("s")
    moved = Path("moved.h5")
    shutil.copy(place / "images.h5", moved)
    call([*line, "--set", f"data.path={moved}"])  # the same images
    assert files_of("s") == before
    with h5py.File(moved, "r+") as file:
        file["train/images"][0] ^= 1
    message = fails([*line[:-1], "3", "--set", f"data.path={moved}"])
    assert message.startswith("sweep: s/seed=0 has learned from other images or labels than moved.h5 holds now: data.")
    assert files_of("s") == before


def test_names_of_runs_fit_a_file_system(place):
    conv1 = {
        "conscience": "0.01,0.02", "initial_weights": "rule,patches", "learning_rate": "0.001,0.002",
        "normalize_patches": "true,false", "rule": "{name='swta',temperature=1.0},{name='swta',temperature=0.5}",
    }  # fmt: skip
    grid = [f"network.layers.conv1.{key}={values}" for key, values in conv1.items()]
    grid += ["training.batch_size=8,16", "training.rate_factor=0.5,1"]
    Path("swta.toml").write_text(config_text({**CONV, "rule": "swta"}, POOL, BATCH_NORM))
    runs = sweeps.plan(lambda changes: read_config(Path("swta.toml"), changes), sweeps.read_grid(grid), [0, 1])
    assert len({run.name for run in runs}) == len(runs) == 256
    assert max(len(run.name) for run in runs) == 255


def test_runs_with_the_same_weights_are_named(place, call):
    """A value that has no effect on these data alone, which nobody can know before."""
    Path("run.toml").write_text(config_text(CONV, POOL, BATCH_NORM, mode="layerwise"))
    call("sweep run.toml --out s --grid training.statistics_images=100,200")
    title = "## The same weights to the bit: what differs here changed nothing that units learned"
    text = Path("s/sweep.md").read_text().split(title)[1]
    assert "| training.statistics_images=100,seed=0, training.statistics_images=200,seed=0 |" in text
    call("sweep run.toml --out u --grid network.layers.pool1.kind=max,average --evaluate images.h5")
    assert "had no effect" not in Path("u/sweep.md").read_text()  # it has on features, and their accuracy
    call([*LINE[:3], "t", *LINE[4:]])
    assert "The same weights" not in Path("t/sweep.md").read_text()


def test_accuracy_on_held_out_training_images(place, call, fails):
    with h5py.File("images.h5", "r+") as file:
        file["train/labels"][:20] = -1  # none
        data, labels = file["train/images"][...], file["train/labels"][...]
    call(LINE)
    assert "accuracy" not in Path("s/sweep.md").read_text()
    out, err = call([*LINE, "--evaluate", "images.h5", "--layer", "pool1"])  # of runs that are finished
    assert "epochs done" not in err
    assert "accuracy on held-out images, %" in out
    name = "training.learning_rate=0.01,seed=1"
    found = results()[name]["accuracy"]
    network = hebbcore.load(f"s/{name}", device="cpu")
    stream = hebbcore_stream(data, labels)
    assert found == held_out_accuracy(network, stream, "pool1")
    assert results()[name]["judge"][::2] == ["images.h5", "pool1"]
    call([*LINE, "--evaluate", "images.h5"])
    assert results()[name]["accuracy"] == held_out_accuracy(network, stream)
    before = results()
    call(LINE)
    assert results() == before
    path = Path("s/sweep.json")
    older = {
        key: replace(one, judge=one.judge[:3], accuracy=0.0, figures=replace(one.figures, layers={}))
        for key, one in read_entries(path).items()
    }
    write_entries(path, older)  # of a version whose readout chose its penalty otherwise, and counted others as dead
    call([*LINE, "--evaluate", "images.h5"])
    assert results() == before
    shutil.copy("images.h5", "others.h5")
    with h5py.File("images.h5", "r+") as file:  # other labels under the same name
        file["train/labels"][...] = labels = np.roll(labels, 1)
    call([*LINE, "--set", "data.path=others.h5", "--evaluate", "images.h5"])
    assert results()[name]["accuracy"] == held_out_accuracy(network, hebbcore_stream(data, labels))
    call([*LINE, "--set", "training.epochs=2"])  # other weights: the accuracy is not theirs
    assert "accuracy" not in results()[name]
    call([*LINE, "--set", "training.epochs=2", "--evaluate", "shards/train"])
    assert results()[name]["accuracy"] >= 0


def test_images_whose_identity_hides_a_change_are_judged_by_anew(place, call, monkeypatch):
    monkeypatch.setattr(loaders.ArraySource, "describe", lambda self: {"kind": "some"})
    with h5py.File("images.h5", "r") as file:
        data, labels = file["train/images"][...], file["train/labels"][...]
    seen = []
    for _ in range(2):
        loaders.write_shards((data, labels), "some")
        call(["sweep", "run.toml", "--out", "s", "--seeds", "2", "--evaluate", "some"])
        seen.append((loaders.read_index("some").identity, results()["seed=0"]["judge"][1]))
        shutil.rmtree("some")
        data[7] //= 2
    assert seen[0][0] == seen[1][0]
    assert seen[0][1] != seen[1][1]


def hebbcore_stream(images, labels):
    import loaders

    return loaders.ArrayStream(images, labels, 17)


def test_held_out_accuracy_is_of_images_that_were_not_fitted():
    """Random labels of many features: what was fitted is told to the last image, the rest by chance."""
    random = np.random.default_rng(0)
    images, labels = random.integers(0, 256, (300, 8, 8, 3), np.uint8), random.integers(0, 10, 300)
    network = hebbcore.Network([hebbcore.Conv(64, 3, "softhebb")], (8, 8, 3), device="cpu")
    assert held_out_accuracy(network, hebbcore_stream(images, labels)) < 35
    kinds = random.integers(0, 128, (10, 8, 8, 3))
    told = (images // 2 + kinds[labels]).astype(np.uint8)
    assert held_out_accuracy(network, hebbcore_stream(told, labels)) > 90
    alone = np.where(
        np.arange(len(labels)) < 20, 100 + np.arange(len(labels)), labels
    )  # the only ones of their classes
    assert held_out_accuracy(network, hebbcore_stream(told, alone)) > 90
    with pytest.raises(ValueError, match=r"sweep: a fifth of 20 labelled images is held out, .* got 4 of 5; give more"):
        held_out_accuracy(network, hebbcore_stream(images[:20], np.arange(20) % 5))


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("a=1,2", ["1", "2"]),
        ("a = x , y", ["x", "y"]),
        ("a={n = 'p,q', m = [1, 2]},[3, 4],\"u,v\"", ["{n = 'p,q', m = [1, 2]}", "[3, 4]", '"u,v"']),
        ("a=b=1,c", ["b=1", "c"]),
    ],
)
def test_values_of_a_grid(text, values):
    assert sweeps.read_grid([text]) == {"a": values}


def test_another_sweep_into_the_folder_waits(place, fails):
    from hebbcore.files import locked

    Path("s").mkdir()
    with locked(Path("s"), "sweeping into"):
        assert fails(LINE) == "another process is sweeping into s; wait for it or stop it."
