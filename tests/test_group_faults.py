"""Processes that train together stop together, whatever happens to one of them, and the same command goes on."""

import os
import random
import signal
import time

import numpy as np
import pytest
from conftest import ROOT
from group_helpers import NEEDS_MPI, finished, line_of, mpiexec
from resume_helpers import told_of_passes

import loaders
from hebbcore import HPCA, checkpoint
from hebbcore.engine.group.portion import Portion, taking
from hebbcore.engine.group.team import NOTES
from hebbcore.engine.patches import Geometry
from hebbcore.engine.update import BatchedUpdate

pytestmark = NEEDS_MPI

KILLS = int(os.environ.get("GROUP_KILLS", "5"))  # CONTRIBUTING.md says when to set it
EACH = 6  # kills of one training, of so many steps:
STEPS = 66
CONFIG = """
device = "cpu"
precision = "float64"
[data]
path = "shards"
[[network.layers]]
type = "whiten"
kernel_size = [3, 3]
[[network.layers]]
type = "conv"
units = 6
kernel_size = [1, 1]
rule = {name = "slow"}
[[network.layers]]
type = "batchnorm"
[[network.layers]]
type = "dense"
units = 4
rule = {name = "softhebb"}
[training]
epochs = 3
batch_size = 7
learning_rate = 0.01
log_seconds = 0.1
checkpoint_minutes = 1e-9
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder with shards and a configuration, and the run of two processes that nothing interrupted."""
    path = tmp_path_factory.mktemp("faults")
    pixels = np.random.default_rng(0).integers(0, 256, (150, 6, 6, 3), np.uint8)
    loaders.write_shards((pixels, np.arange(150) % 5), path / "shards", shard_bytes=3000)
    (path / "run.toml").write_text(CONFIG.replace("shards", str(path / "shards")))
    assert run(path, "whole").returncode == 0
    return path


def arguments(folder, out, *more):
    faults = ROOT / "tests" / "group_faults.py"
    return ["-m", "hebbcore", "train", folder / "run.toml", "--out", folder / out, "--import", faults, *more]


def run(folder, out, *more, size=2, fault=""):
    """Train to the end; returns what subprocess.run does."""
    return mpiexec(size, *arguments(folder, out, *more), timeout=60, more=told(folder, fault))


def told(folder, fault=""):
    return {"FAULTS": str(folder), "FAULT": fault}


def interrupted(folder, out, rank, number, wait, size=2):
    """Send a signal to one process so long after its first checkpoint; returns what group_helpers.finished does."""
    for path in folder.glob("pid.*"):
        path.unlink()

    def interrupt():
        if not ready(folder, out, size):
            return False
        time.sleep(wait)
        os.kill(int((folder / f"pid.{rank}").read_text()), number)
        return True

    return finished(line_of(size, *arguments(folder, out)), 60, told(folder), interrupt)


def ready(folder, out, size):
    return len(list(folder.glob("pid.*"))) == size and list((folder / out / "checkpoints").glob("step-*"))


def weights(folder, out):
    return checkpoint.read("test", checkpoint.find("test", folder / out))[1]


def assert_same(folder, out, tolerance=0.0):
    whole = weights(folder, "whole")
    for key, array in weights(folder, out).items():
        np.testing.assert_allclose(array, whole[key], rtol=tolerance, atol=tolerance, err_msg=key)
    assert told_of_passes(folder / out) == told_of_passes(folder / "whole")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_one_process_stops_all_and_other_numbers_go_on(folder, number):
    out = number.name
    done = interrupted(folder, out, 1, number, 0.1)
    assert done.returncode == 128 + number, done.stderr
    assert f"stopped by {number.name} after step" in done.stderr
    assert done.stderr.count("stopped by") == 1
    assert done.seconds < 30
    assert run(folder, out, size=3).returncode == 0
    assert_same(folder, out, 1e-10)


def test_a_signal_in_the_last_step_is_not_lost(folder):
    done = run(folder, "stopped", fault=f"1 stop {STEPS}")
    assert done.returncode == 128 + signal.SIGTERM, done.stderr
    assert done.stderr.count("stopped by SIGTERM after step") == 1
    assert run(folder, "stopped").returncode == 0
    assert_same(folder, "stopped")


def test_what_kills_interrupt_becomes_the_same_bits(folder):
    chance, kills, trainings = random.Random(1), 0, 0
    while kills < KILLS:
        out, rank, step = f"killed{trainings}", chance.randrange(2), chance.randrange(1, 2 * STEPS // EACH)
        done = run(folder, out, fault=f"{rank} kill {step} {chance.uniform(0, 30):.1f}")
        if done.returncode:
            kills += 1
            seconds = time.time() - float((folder / "killed").read_text())
            print(f"kill {kills}: rank {rank}, in its step {step}; all ended in {seconds:.2f} s")
        if done.returncode == 0 or kills % EACH == 0 or kills == KILLS:
            assert run(folder, out).returncode == 0
            assert_same(folder, out)
            trainings += 1


@pytest.mark.parametrize("rank", [0, 1])
def test_an_error_of_one_process_ends_all(folder, rank):
    done = run(folder, f"raise{rank}", fault=f"{rank} raise 9")
    assert done.returncode == 1
    assert f"rank {rank} on {os.uname().nodename} failed: " in done.stderr
    assert "as it was told to" in done.stderr
    assert done.seconds < 30


def test_sums_that_a_failure_leaves_behind_lie_nowhere_else():
    done = mpiexec(3, ROOT / "tests" / "group_failures.py", 30)
    assert done.returncode == 0, done.stderr


class FailingTeam:
    """A team of one, whose first sum fails. arrays: those that it was to sum up."""

    notes = np.zeros(NOTES)

    def __init__(self):
        self.arrays = []

    def start(self, array):
        self.arrays.append(array)
        return self

    def wait(self):
        if len(self.arrays) == 1:
            raise RuntimeError("another process failed")

    def hear(self, notes):
        pass


def test_the_sum_after_a_failure_has_memory_of_its_own(generator):
    images, weights, team = generator.normal(size=(4, 6, 6, 2)), generator.normal(size=(5, 18)), FailingTeam()
    update = BatchedUpdate(HPCA(), Geometry.of("it", images.shape, 3, 1, 0, "zeros"), 5, "float64", 2**20, "it")
    with taking(Portion(team, 0, 4, 4)):
        with pytest.raises(RuntimeError):
            update.delta(images, weights)
        left = team.arrays[0]
        for _ in range(2):
            update.delta(images, weights)
    assert not any(np.shares_memory(left, array) for array in team.arrays[1:])
    assert np.shares_memory(*team.arrays[1:])  # where nothing failed it is used again


def test_numbers_that_differ_at_one_process_are_not_saved(folder):
    done = run(folder, "flipped", fault="1 scale 9 1.5")
    assert done.returncode == 1
    assert f"fit: rank 1 on {os.uname().nodename} has learned other numbers than rank 0: fc2" in done.stderr
    assert run(folder, "flipped").returncode == 0
    assert_same(folder, "flipped")


def test_numbers_that_differ_by_rounding_become_those_of_one(folder):
    assert run(folder, "rounded", fault="1 scale 9 1.000000000001").returncode == 0
    assert_same(folder, "rounded", 1e-9)


def test_a_full_disk_ends_all_and_the_run_goes_on(folder):
    done = run(folder, "full", fault="0 full 9")
    assert done.returncode == 1
    assert "rank 0 on" in done.stderr
    assert "cannot write" in done.stderr
    assert run(folder, "full").returncode == 0
    assert_same(folder, "full")


def test_a_damaged_record_ends_all(folder):
    shard = sorted((folder / "shards").glob("*.h5"))[-1]
    sound = shard.read_bytes()
    pixels = np.random.default_rng(0).integers(0, 256, (150, 6, 6, 3), np.uint8)
    place = sound.index(pixels[-1].tobytes())
    shard.write_bytes(sound[:place] + bytes([sound[place] ^ 1]) + sound[place + 1 :])
    try:
        done = run(folder, "damaged")
    finally:
        shard.write_bytes(sound)
    assert done.returncode == 1
    assert "failed: " in done.stderr
    assert "is damaged: its CRC-32" in done.stderr


def test_processes_that_would_not_do_the_same_are_refused(folder):
    mine = line_of(1, *arguments(folder, "other"))
    theirs = line_of(1, *arguments(folder, "other", "--set", "training.learning_rate=0.02"))[1:]
    done = finished([*mine, ":", *theirs], 60, told(folder))
    assert done.returncode == 1
    assert "rank 1 on" in done.stderr
    assert "training.learning_rate is 0.02 here and 0.01 there" in done.stderr


def test_commands_for_one_process_refuse_several(folder):
    done = mpiexec(2, "-m", "hebbcore", "plot", folder / "whole")
    assert done.returncode == 1
    assert "plot: 2 processes were started, but this command is for one" in done.stderr
    assert done.stderr.count("hebbcore: rank") == 1
