"""Trainings that are stopped go on to the bits of one that never was."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from conftest import ROOT
from fit_helpers import arrays, assert_same, images, network
from resume_helpers import MODES, Stopped, steps_of, stop_at, told_of_passes, train

import hebbcore
import loaders
from hebbcore import checkpoint, interrupts
from hebbcore.training.diagnostics import cut_after, lines
from hebbcore.training.header import Position
from loaders.shards.format import read_table


@pytest.fixture(scope="module", params=["array", "list", "stream"])
def data(request, tmp_path_factory):
    """Return a function that makes the data anew."""
    content = images(30, np.uint8)
    if request.param == "array":
        return content.copy
    if request.param == "list":
        return lambda: [content[:8], content[8:11], content[11:16], content[16:]]
    folder = tmp_path_factory.mktemp("shards")
    loaders.write_shards((content, np.arange(30) % 3), folder / "shards", shard_bytes=1000)
    return lambda: loaders.ShardStream(folder / "shards", batch_size=8, shuffle=True, seed=5, threads=1)


@pytest.fixture
def fast_disk(monkeypatch):
    """Do not wait for the disk: what a killed process has written stays, whatever was synced."""
    monkeypatch.setattr("hebbcore.files.sync", lambda path: None)


def modes_of(data):
    return ["together", "layerwise", "sample"] if isinstance(data(), list) else list(MODES)


# Stopped by the callback


@pytest.mark.parametrize("minutes", [1e-9, 60])
def test_after_a_stop_at_any_step_the_same_call_goes_on(data, minutes, tmp_path, fast_disk):
    """A checkpoint after each step, and at the ends of epochs only; with the network at hand, and a new one."""
    for mode in modes_of(data):
        whole = tmp_path / f"{mode}-whole"
        expected = arrays(train(data(), whole, mode))
        steps = steps_of(whole)
        assert steps == list(range(1, len(steps) + 1))
        for step in steps if mode == "together" else steps[:: 4 if minutes < 1 else 6]:
            run, source, net = tmp_path / f"{mode}-{step}", data(), network(True, "float32")
            with pytest.raises(Stopped):
                train(source, run, mode, net, stop_at(step), checkpoint_minutes=minutes)
            if step % 2:
                source, net = data(), None
            assert_same(arrays(train(source, run, mode, net, checkpoint_minutes=minutes)), expected)
            assert steps_of(run) == steps
            assert told_of_passes(run) == told_of_passes(whole)
            assert sorted(path.name for path in run.iterdir()) == ["checkpoints", "config.json", "metrics.jsonl"]


def test_a_training_that_ended_does_nothing_more(data, tmp_path, fast_disk):
    expected = arrays(train(data(), tmp_path))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert_same(arrays(train(data(), tmp_path, callback=stop_at(1))), expected)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_run_changes_nothing_that_is_learned(data, tmp_path, fast_disk):
    for mode in modes_of(data):
        assert_same(
            arrays(train(data(), tmp_path / mode, mode, checkpoint_minutes=1e-9)), arrays(train(data(), None, mode))
        )


@pytest.mark.parametrize("number", ["os.replace", "os.fsync"])
def test_a_write_that_fails_at_any_time_loses_no_earlier_checkpoint(number, tmp_path, monkeypatch):
    data = images(30, np.uint8)
    expected = arrays(train(data))
    call = getattr(os, number.removeprefix("os."))
    for failing in range(1, 14, 4):
        run, calls = tmp_path / str(failing), 0

        def fail(*arguments, failing=failing):
            nonlocal calls
            calls += 1
            if calls == failing:
                raise OSError(28, "No space left on device")
            return call(*arguments)

        with monkeypatch.context() as patch:
            patch.setattr(number, fail)
            with pytest.raises(OSError, match="cannot write: No space left on device"):
                train(data, run, checkpoint_minutes=1e-9)
        assert not list(run.rglob("*.partial"))
        assert_same(arrays(train(data, run)), expected)
        assert steps_of(run) == list(range(1, 12))


@pytest.mark.parametrize("cache", ["memory", "disk"])
def test_a_resumed_training_caches_what_an_unstopped_one_has_kept(cache, tmp_path, monkeypatch, fast_disk):
    """The input of conv2 fits, that of fc3 does not: both trainings compute it from conv2's."""
    data, filled, fill = images(30, np.uint8), [], hebbcore.training.cache.CachedBatches.fill

    def noted(self, first, outputs):
        filled.append(outputs.shape)
        fill(self, first, outputs)

    def growing():
        return hebbcore.Network([hebbcore.Conv(2, 3), hebbcore.Conv(40, 1), hebbcore.Dense(3)], (7, 7, 2))

    monkeypatch.setattr("hebbcore.training.cache.CachedBatches.fill", noted)
    options = {"mode": "layerwise", "cache": cache, "cache_bytes": 30 * 25 * 2 * 4, "statistics_images": 10_000}
    expected = arrays(train(data, tmp_path / "whole", net=growing(), **options))
    assert filled == [(8, 5, 5, 2)] * 3 + [(6, 5, 5, 2)]
    with pytest.raises(Stopped):
        train(data, tmp_path / "run", net=growing(), callback=stop_at(18), **options)
    filled.clear()
    assert_same(arrays(train(data, tmp_path / "run", net=growing(), **options)), expected)
    assert filled == [(8, 5, 5, 2)] * 3 + [(6, 5, 5, 2)]


@pytest.mark.parametrize("damaged", [(0,), (1, 2), (2,), (3,)])
@pytest.mark.parametrize("mode", ["together", "layerwise"])
def test_batches_left_out_for_damage_do_not_shift_a_resumed_training(mode, damaged, tmp_path, fast_disk):
    shards = tmp_path / "shards"
    loaders.write_shards((images(30, np.uint8), np.zeros(30, int)), shards)
    (path,) = shards.glob("*.h5")
    content = bytearray(path.read_bytes())
    for batch in damaged:
        for record in range(8 * batch, min(8 * batch + 8, 30)):
            content[int(read_table(path).starts[record])] ^= 1
    path.write_bytes(content)

    def data():
        return loaders.ShardStream(shards, batch_size=8, on_error="skip", threads=1)

    whole = tmp_path / "whole"

    def keep(record):
        kept.append(tmp_path / str(len(kept)))
        shutil.copytree(whole, kept[-1])  # as a training leaves it that is killed here

    kept = []
    expected = arrays(train(data(), whole, mode, callback=keep, checkpoint_minutes=1e-9))
    assert_same(arrays(train(data(), None, mode)), expected)
    for run in kept:
        assert_same(arrays(train(data(), run, mode)), expected)
        assert steps_of(run) == steps_of(whole)


# Stopped by a signal


@pytest.mark.parametrize("number", interrupts.SIGNALS)
@pytest.mark.parametrize("mode", ["together", "disk"])
def test_a_signal_lets_the_step_finish_and_saves(number, mode, tmp_path):
    data = images(30, np.uint8)
    expected = arrays(train(data, None, mode))
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    for step in (1, 3, 4, 11) if mode == "together" else (2, 9, 25):
        run = tmp_path / str(step)

        def send(record, step=step):
            if record["step"] == step:
                os.kill(os.getpid(), number)

        message = f"stopped by {number.name} after step {step}; saved in {run}, from where the same command goes on"
        with pytest.raises(KeyboardInterrupt, match=re.escape(message)) as caught:
            train(data, run, mode, callback=send)
        assert caught.value.args[1] == number
        assert checkpoint.checkpoints(run)[-1] == checkpoint.checkpoint_path(run, step)
        assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers
        assert_same(arrays(train(data, run, mode)), expected)


@pytest.mark.parametrize("late", ["hebbcore.checkpoint.write", "hebbcore.training.network._require_finite_features"])
def test_a_signal_that_comes_last_is_not_lost(late, tmp_path, monkeypatch):
    data, (module, _, name) = images(30, np.uint8), late.rpartition(".")
    act, run = getattr(sys.modules[module], name), tmp_path / "run"

    def send(*arguments):
        act(*arguments)
        if checkpoint.checkpoint_path(run, 11).exists():
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(late, send)
        with pytest.raises(KeyboardInterrupt, match="SIGTERM after step 11; saved in"):
            train(data, run)
    before = (run / "metrics.jsonl").read_bytes()
    assert_same(arrays(train(data, run)), arrays(train(data)))
    assert (run / "metrics.jsonl").read_bytes() == before


@pytest.mark.parametrize("number", interrupts.SIGNALS)
@pytest.mark.parametrize("mode", ["memory", "disk"])
def test_a_signal_is_answered_while_a_cache_is_filled(number, mode, tmp_path, monkeypatch, fast_disk):
    data, fill, calls = images(30, np.uint8), hebbcore.training.cache.CachedBatches.fill, []
    expected = arrays(train(data, tmp_path / "whole", mode))

    def send(self, first, outputs):
        fill(self, first, outputs)
        calls.append(first)
        if len(calls) == last:
            os.kill(os.getpid(), number)

    monkeypatch.setattr("hebbcore.training.cache.CachedBatches.fill", send)
    for last in (1, 6):  # in the first cache, and in the second, which is made from it
        run = tmp_path / str(last)
        calls.clear()
        with pytest.raises(KeyboardInterrupt, match=f"stopped by {number.name} after step \\d+; saved in"):
            train(data, run, mode)
        assert len(calls) == last
        assert sorted(path.name for path in run.iterdir()) == ["checkpoints", "config.json", "metrics.jsonl"]
        assert_same(arrays(train(data, run, mode)), expected)
        assert steps_of(run) == steps_of(tmp_path / "whole")


def test_a_signal_is_answered_while_a_sample_is_gathered(tmp_path, monkeypatch, fast_disk):
    data, take, calls = images(30, np.uint8), hebbcore.training.sample._take, []
    expected = arrays(train(data, tmp_path / "whole", "sample"))

    def send(*arguments):
        take(*arguments)
        calls.append(arguments)
        if len(calls) == last:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr("hebbcore.training.sample._take", send)
    for last in (1, 3, 5):  # of three batches a sample, the last one cut at statistics_images
        run = tmp_path / str(last)
        calls.clear()
        with pytest.raises(KeyboardInterrupt, match=r"stopped by SIGINT after step \d+; saved in"):
            train(data, run, "sample")
        assert len(calls) == last
        assert_same(arrays(train(data, run, "sample")), expected)
        assert steps_of(run) == steps_of(tmp_path / "whole")


def test_a_second_signal_stops_at_once(tmp_path):
    data, handlers = images(30, np.uint8), signal.getsignal(signal.SIGINT)

    def send_twice(record):
        if record["step"] == 6:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)

    with pytest.raises(KeyboardInterrupt, match="stopped at once; the latest checkpoint holds"):
        train(data, tmp_path, callback=send_twice)
    assert signal.getsignal(signal.SIGINT) == handlers
    assert_same(arrays(train(data, tmp_path)), arrays(train(data)))


def test_a_thread_trains_without_handlers(tmp_path):
    data, done = images(30, np.uint8), []
    thread = threading.Thread(target=lambda: done.append(arrays(train(data, tmp_path))))
    thread.start()
    thread.join()
    assert_same(done[0], arrays(train(data)))


@pytest.mark.parametrize("number", interrupts.SIGNALS)
def test_a_process_told_to_stop_says_how_to_go_on(number, tmp_path):
    script = f"""
import sys
sys.path.insert(0, {str(ROOT / "tests")!r})
import numpy as np
from fit_helpers import images
from resume_helpers import train
def tell(record):
    print(record["step"], flush=True)
train(images(30, np.uint8), {str(tmp_path / "run")!r}, epochs=100_000, callback=tell, schedule="constant")
"""
    process = subprocess.Popen(
        [sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    for line in process.stdout:
        if line.strip() == "10":
            break
    process.send_signal(number)
    _, error = process.communicate(timeout=60)
    assert process.returncode != 0
    step = int(re.search(rf"KeyboardInterrupt: .*stopped by {number.name} after step (\d+); saved in", error)[1])
    assert checkpoint.checkpoints(tmp_path / "run")[-1] == checkpoint.checkpoint_path(tmp_path / "run", step)
    assert steps_of(tmp_path / "run")[-1] == step


# The file of records


def test_a_torn_line_and_later_records_are_left_out(tmp_path):
    path = tmp_path / "metrics.jsonl"
    records = [{"step": step, "phase": 0, "epoch": 0, "layers": {"é": {}}} for step in range(1, 6)]
    whole = "".join(json.dumps(record) + "\n" for record in records)
    for length in range(len(whole)):
        path.write_text(whole[:length])
        found = lines(path)
        assert found == records[: len(found)]
        cut_after(path, Position(step=3))
        assert path.read_text() == "".join(json.dumps(record) + "\n" for record in found if record["step"] <= 3)
    assert lines(tmp_path / "missing") == []
    cut_after(tmp_path / "missing", Position(step=3))
    assert not (tmp_path / "missing").exists()


def test_leftovers_of_killed_writes_are_removed(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    for name in (".metrics.jsonl", "checkpoints/.step-0000000003.h5"):
        for ending in ("partial", "writing"):
            (tmp_path / f"{name}.{ending}").write_bytes(b"half")
    others = {"mine.partial", ".another's.partial"}
    for name in others:
        (tmp_path / name).write_bytes(b"half")
    train(images(30, np.uint8), tmp_path)
    assert {path.name for path in tmp_path.rglob("*.partial")} == others
    assert not list(tmp_path.rglob(".*.writing"))


def test_a_resumed_training_tells_the_time_of_all_its_parts(tmp_path):
    data, records = images(30, np.uint8), []

    def slowly(record):
        time.sleep(0.03)
        stop_at(8)(record)

    with pytest.raises(Stopped):
        train(data, tmp_path, callback=slowly, checkpoint_minutes=1e-9)
    train(data, tmp_path, callback=records.append, progress=False)
    assert [record["step"] for record in records] == [8, 9, 10, 11]
    assert records[0]["seconds"] >= 7 * 0.03
    assert [record["images"] for record in records] == [20 + 30 + 8, 20 + 30 + 16, 20 + 30 + 24, 20 + 60]


def test_a_closed_terminal_that_tells_it_twice_stops_nothing_at_once(tmp_path):
    def send_twice(record):
        if record["step"] == 6:
            for _ in range(2):
                os.kill(os.getpid(), signal.SIGHUP)

    with pytest.raises(KeyboardInterrupt, match="stopped by SIGHUP after step 6; saved in"):
        train(images(30, np.uint8), tmp_path, callback=send_twice)


def test_a_program_that_answers_sighup_itself_goes_on_to(tmp_path):
    """As daemons do, which read their settings anew."""
    came = []
    before = signal.signal(signal.SIGHUP, lambda number, frame: came.append(number))
    try:
        net = train(images(30, np.uint8), tmp_path, callback=lambda record: signal.raise_signal(signal.SIGHUP))
    finally:
        signal.signal(signal.SIGHUP, before)
    assert set(came) == {signal.SIGHUP}
    assert_same(arrays(net), arrays(train(images(30, np.uint8))))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_a_signal_that_is_ignored_stays_ignored(tmp_path, number):
    """As in a shell's background jobs, and under nohup."""

    def interrupt(record):
        for _ in range(2):
            os.kill(os.getpid(), number)

    before = signal.signal(number, signal.SIG_IGN)
    try:
        net = train(images(30, np.uint8), tmp_path, callback=interrupt)
        assert signal.getsignal(number) is signal.SIG_IGN
    finally:
        signal.signal(number, before)
    assert_same(arrays(net), arrays(train(images(30, np.uint8))))
