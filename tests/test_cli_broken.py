"""Commands that are interrupted, and runs whose files are damaged, as a user meets them."""

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
import weakref
from pathlib import Path

import numpy as np
import pytest
from cli_helpers import ENVIRONMENT, names, weights

import hebbcore
from hebbcore import checkpoint, cli
from hebbcore.cli import main

pytest_plugins = "cli_helpers"


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
    ("number", "name", "status"),
    [(signal.SIGINT, "SIGINT", 130), (signal.SIGTERM, "SIGTERM", 143), (signal.SIGHUP, "SIGHUP", 129)],
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


def test_a_closed_terminal_lets_a_training_save_its_step(place, call):
    """The terminal fails what is written to it, and the training is told so."""
    pid, terminal = pty.fork()
    line = [sys.executable, "-m", "hebbcore", *LONG.split(), "--set", "training.log_seconds=0.001"]
    if not pid:
        os.execvpe(sys.executable, line, ENVIRONMENT)
    until = time.monotonic() + 60
    while not list(Path("a").glob("checkpoints/step-*[1-9].h5")):
        assert time.monotonic() < until
        if select.select([terminal], [], [], 0.005)[0]:
            os.read(terminal, 10_000)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 129
    call(LONG)


def test_a_command_outlives_its_terminal(place):
    """As one that was disowned does; the terminal fails all that is written."""
    terminal, other = pty.openpty()
    line = [sys.executable, "-m", "hebbcore", *LONG.split()]
    process = subprocess.Popen(line, env=ENVIRONMENT, stdout=other, stderr=other, start_new_session=True)
    os.close(other)
    os.read(terminal, 1)
    os.close(terminal)
    assert process.wait(timeout=60) == 0
    assert weights("a").any()


def test_a_training_outlives_who_reads_its_progress(place):
    """As tee, which Ctrl-C ends at once while the training is yet to be saved."""
    process = start(LONG)
    process.stderr.close()
    with process.stdout as printed:
        assert printed.read().startswith("a: done;")
    assert process.wait(timeout=60) == 0


def test_an_interrupt_elsewhere_is_status_130(place, call, monkeypatch, capsys):
    call("train run.toml --out a")

    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(hebbcore.Network, "features", interrupted)
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

    monkeypatch.setattr(hebbcore.Network, "features", interrupted)
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
        assert message.endswith("The one before it, step-0000000008.h5, is used with previous=True (--previous).")
    out, _ = call("verify a", 1)
    assert out.count(f"{latest} is damaged") == 1
    assert "a/config.json: readable, and network and training are those of step-0000000008.h5" in out
    assert "damaged: 1\n" in out
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


@pytest.mark.parametrize("line", ['{"x": 1}', "5", '{"step": 3, "loss": 0.5}'])
def test_a_foreign_line_among_the_metrics(place, call, fails, line):
    call("train run.toml --out a")
    before = Path("a/metrics.jsonl").read_text()
    Path("a/metrics.jsonl").write_text(f"{before}{line}\n")
    advice = "no record of a training; remove that line, or move the file if it is another program's."
    message = f"a/metrics.jsonl: line 2 is {advice}"
    assert fails("train run.toml --out a --set training.epochs=2") == message
    assert call("plot a", status=1) == ("a/filters.png\n", f"hebbcore: {message}\n")
    Path("a/metrics.jsonl").write_text('{"phase": 0, "epoch": 1, "step": 9, "images": 2, "layers": {"conv1": {}}}\n')
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
