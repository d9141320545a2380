"""Trainings that are killed at random moments go on to the bits of one that never was."""

import json
import os
import random
import signal
import subprocess
import sys
import time
import traceback

import numpy as np
import pytest
from conftest import ROOT
from fit_helpers import arrays, assert_same
from resume_helpers import MODES, steps_of

import hebbcore
import loaders
from hebbcore import checkpoint

DIGITS = {"epochs": 3, "batch_size": 60, "learning_rate": 0.05, "statistics_images": 500, "schedule": "cosine"}


def digits():
    """Return scikit-learn's real digits, (600, 8, 8, 1) uint8."""
    from sklearn.datasets import load_digits

    return (load_digits().images[:600, ..., None] * 15).astype(np.uint8)


def digits_network():
    return hebbcore.Network(
        [
            hebbcore.Whiten(3, epsilon=0.1),
            hebbcore.Conv(8, 1, hebbcore.SWTA(0.1), learning_rate=0.3),
            hebbcore.Pool(2),
            hebbcore.BatchNorm(),
            hebbcore.Dense(10, "hpca"),
            hebbcore.BatchNorm(modified=True),
        ],
        device="cpu",
    )


def train_digits(source, run, mode):
    settings = {**DIGITS, **MODES[mode], "log_seconds": 0, "checkpoint_minutes": 1e-5}
    return hebbcore.fit(digits_network(), source, run=run, **settings)


def child(task):
    """Run the task in a fork and return its process id; the exit status says whether it came to its end."""
    pid = os.fork()
    if not pid:
        try:
            task()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
    return pid


def kill_again_and_again(source, folder, mode, kills, seed):
    """Let children train into folder, and kill them at random moments all along; return what each kill left."""
    clock, left = random.Random(seed), []
    began = time.monotonic()
    pid = child(lambda: train_digits(source(), folder / "whole", mode))
    assert os.waitpid(pid, 0)[1] == 0
    last = steps_of(folder / "whole")[-1]
    step_seconds = (time.monotonic() - began) / last
    run = folder / "run"
    while True:
        pid = child(lambda: train_digits(source(), run, mode))
        step = clock.randrange(last * len(left) // kills, last * (len(left) + 1) // kills) if left else -1
        while (
            len(left) < kills
            and latest(run) < step
            and not os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        ):
            time.sleep(step_seconds / 10)
        if len(left) < kills:
            time.sleep(clock.uniform(0, 2 * step_seconds))
            os.kill(pid, signal.SIGKILL)
        status = os.waitpid(pid, 0)[1]
        if status != signal.SIGKILL:
            assert status == 0, "a resumed training failed"
            return left
        left.append(sorted(str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()))


def latest(run):
    return max((int(path.stem.removeprefix("step-")) for path in checkpoint.checkpoints(run)), default=-1)


def main(folder, mode, kind, kills, seed):
    """Train, kill and resume in forks of a process that has everything loaded; print what there was to see."""
    from pathlib import Path

    folder = Path(folder)
    content = digits()

    def source():
        if kind == "array":
            return content
        return loaders.ShardStream(folder / "shards", batch_size=60, shuffle=True, seed=2, threads=1)

    if kind == "stream":
        loaders.write_shards((content, np.zeros(len(content), int)), folder / "shards", shard_bytes=10_000)
    hebbcore.fit(digits_network(), content[:120])  # compiles
    print(json.dumps(kill_again_and_again(source, folder, mode, int(kills), int(seed))))


@pytest.mark.parametrize(
    ("mode", "kind"),
    [
        ("together", "array"),
        ("together", "stream"),
        ("disk", "array"),
        ("disk", "stream"),
        ("layerwise", "array"),
        ("sample", "array"),
    ],
)
def test_killed_trainings_go_on_to_the_same_bits(mode, kind, tmp_path):
    path = f"import sys; sys.path.insert(0, {str(ROOT / 'tests')!r})"
    script = f"{path}; import test_resume_killed; test_resume_killed.main(*sys.argv[1:])"
    kills = 8
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script, str(tmp_path), mode, kind, str(kills), str(len(mode + kind))],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    left = json.loads(done.stdout)
    assert len(left) >= 6, "the training ended too soon to be killed"
    for names in left:
        assert sum(name.endswith(".partial") for name in names) <= 1
        known = ("checkpoints/", "metrics", ".metrics", "config.json", ".config.json")
        assert not [name for name in names if not name.startswith(known)]
    whole, run = tmp_path / "whole", tmp_path / "run"
    assert_same(arrays(hebbcore.load(run, device="cpu")), arrays(hebbcore.load(whole, device="cpu")))
    steps = steps_of(whole)
    assert steps == list(range(1, len(steps) + 1))
    assert steps_of(run) == steps
    names = [path.relative_to(whole) for path in whole.rglob("*")]
    assert sorted(path.relative_to(run) for path in run.rglob("*")) == sorted(names)
