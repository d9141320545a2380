"""Two signals at any moment end any command within seconds, with one line at most, and the next run goes on."""

import gc
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from loaders_helpers import make_tree, members

import hebbcore
import loaders
from hebbcore import interrupts
from loaders.workers import map_ordered

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(hebbcore.__file__).parents[1])}
CONFIG = """
seed = 1
device = "cpu"
data.path = "images.h5"
training.batch_size = 16
training.epochs = 8
network.layers = [{type = "conv", units = 6, kernel_size = 3}, {type = "batchnorm"}]
"""
COMMANDS = {
    "build": "shards build tree out --size 100 --shard-size 30K --workers 2",
    "verify": "shards verify shards",
    "train": "train run.toml --out out",
    "extract": "extract run images.h5 out.h5 --batch-size 2",
    "evaluate": "evaluate run --train images.h5 --test images.h5 --out out --labels 50,100 --seeds 1 --baselines none",
    "help": "--help",
}
STARTING = r'/hebbcore/(?!__init__\.py", line 3,|interrupts\.py)'  # a traceback without it is of Python's own start


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Return a working folder with a tree of photographs, images.h5, shards, run.toml and a run."""
    place = tmp_path_factory.mktemp("place")
    tree = make_tree(place / "tree", classes=2, images=40, height=200, width=300)
    loaders.build_shards(tree, place / "shards", size=100, workers=1)
    random = np.random.default_rng(0)
    with h5py.File(place / "images.h5", "w") as file:
        for split in ("train", "test"):
            file[f"{split}/images"] = random.integers(0, 256, (120, 8, 8, 3), np.uint8)
            file[f"{split}/labels"] = random.integers(0, 3, 120)
    (place / "run.toml").write_text(CONFIG)
    finish(place, "train run.toml --out run")
    return place


def begin(place, line):
    command = [sys.executable, "-m", "hebbcore", *line.split()]
    return subprocess.Popen(
        command, cwd=place, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip


def finish(place, line):
    process = begin(place, line)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err


def remove_results(place):
    for path in place.glob("*out*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def bytes_of_results(place):
    """Return {path: bytes} of shards and features; checkpoints say how long a training took (see test_resume.py)."""
    return {path: path.read_bytes() for path in (place / "out.h5", *place.glob("out/*.h5")) if path.exists()}


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")
@pytest.mark.parametrize("name", COMMANDS)
def test_two_signals_at_any_moment(place, name):
    line, clock = COMMANDS[name], random.Random(name)
    remove_results(place)
    began = time.monotonic()
    finish(place, line)
    life, expected = time.monotonic() - began, bytes_of_results(place)
    for share in (0.1, 0.6):
        remove_results(place)
        process = begin(place, line)
        time.sleep(life * (share + clock.uniform(-0.1, 0.4)))
        sent = [clock.choice(interrupts.SIGNALS) for _ in range(2)]
        to_all = clock.random() < 0.5  # as a terminal sends them
        for number in sent:
            if process.poll() is None:
                (os.killpg if to_all else os.kill)(process.pid, number)
                time.sleep(clock.choice([0, 0.001, 0.01, 0.1]))
        _, err = process.communicate(timeout=30)
        lines = [text for text in err.splitlines() if text.startswith("hebbcore: ")]
        if lines:
            assert process.returncode in [128 + number for number in sent], err
            assert len(lines) == 1, err
            assert "Traceback" not in err, err
        elif "Traceback" in err:
            assert not re.search(STARTING, err), err
        else:  # done, or Python is about to begin or end, and has no handlers
            assert process.returncode in [0, *(-number for number in sent)], err
        until = time.monotonic() + 10
        while (left := members(process.pid)) and time.monotonic() < until:
            time.sleep(0.01)
        assert not left
    if expected or name == "train":
        finish(place, line)
        assert bytes_of_results(place) == expected


COMMAND = """
import sys
sys.argv = ["hebbcore", *sys.argv[1:]]
from hebbcore import cli, interrupts
interrupts.PATIENCE = 0.3
sys.modules["stand_in"] = sys.modules["__main__"]
cli.COMMANDS["plot"] = "stand_in", "for the test"

def add_plot(commands):
    commands.add_parser("plot").set_defaults(run=run)
"""


def as_command(tmp_path, code):
    """Run code as the work of `hebbcore plot`; returns (status, what it wrote to stderr)."""
    script = tmp_path / "script.py"
    script.write_text(f"{COMMAND}\n{code}\nsys.exit(cli.main(['plot']))")
    done = subprocess.run([sys.executable, script], env=ENVIRONMENT, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stderr


NUMBERS = pytest.mark.parametrize(("number", "status"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])


@NUMBERS
def test_a_signal_while_hebbcore_is_imported(tmp_path, number, status):
    (tmp_path / "numpy.py").write_text(f"import signal\nsignal.raise_signal(signal.{number})")
    script = "import sys; sys.argv = ['/bin/hebbcore']; sys.path.insert(0, '.'); import hebbcore"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (status, "hebbcore: interrupted\n")


@NUMBERS
def test_signals_raise_one_interrupt_and_no_other_in_what_it_puts_in_order(tmp_path, number, status):
    code = f"""
import signal
def run(options):
    try:
        signal.raise_signal(signal.{number})
    finally:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)
        print("in order", file=sys.stderr)
"""
    assert as_command(tmp_path, code) == (status, "in order\nhebbcore: interrupted\n")


@NUMBERS
def test_a_signal_while_a_text_runs_as_code_ends_with_its_own_status(tmp_path, number, status):
    """Python would end by SIGINT, whatever the command's status, where it was started as `python -m`."""
    code = f"""
def run(options):
    exec("import signal; signal.raise_signal(signal.{number})")
"""
    (tmp_path / "script.py").write_text(f"{COMMAND}\n{code}\nsys.exit(cli.main(['plot']))")
    environment = ENVIRONMENT | {"PYTHONPATH": os.pathsep.join([str(tmp_path), ENVIRONMENT.get("PYTHONPATH", "")])}
    done = subprocess.run([sys.executable, "-m", "script"], env=environment, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (status, "hebbcore: interrupted\n")


@NUMBERS
@pytest.mark.parametrize("swallowed", [False, True])
def test_a_command_that_does_not_come_to_its_end_is_ended(tmp_path, number, status, swallowed):
    code = f"""
import signal, time
def run(options):
    try:
        signal.raise_signal(signal.{number})
    except KeyboardInterrupt:
        time.sleep(100 if {swallowed} else 0)
        raise
    finally:
        time.sleep(100)
"""
    assert as_command(tmp_path, code) == (status, "hebbcore: interrupted\n")


def test_a_process_that_hangs_after_its_line_is_ended_without_another(tmp_path):
    code = """
import atexit, signal, time
atexit.register(time.sleep, 100)
def run(options):
    signal.raise_signal(signal.SIGTERM)
"""
    assert as_command(tmp_path, code) == (143, "hebbcore: interrupted\n")


def test_a_signal_after_the_line_changes_nothing(tmp_path):
    code = """
import atexit, signal
atexit.register(signal.raise_signal, signal.SIGTERM)
def run(options):
    signal.raise_signal(signal.SIGINT)
"""
    assert as_command(tmp_path, code) == (130, "hebbcore: interrupted\n")


def test_a_handler_of_the_work_may_take_its_time_for_the_first_signal_alone(tmp_path):
    code = """
import signal, time
def run(options):
    signal.signal(signal.SIGTERM, lambda number, frame: None)
    signal.raise_signal(signal.SIGTERM)
    time.sleep(1)
    print("saved", file=sys.stderr)
    signal.raise_signal(signal.SIGTERM)
    time.sleep(100)
"""
    assert as_command(tmp_path, code) == (143, "saved\nhebbcore: interrupted\n")


def test_a_closed_terminal_is_one_signal_however_often_it_is_sent(tmp_path):
    code = """
import signal, time
def run(options):
    signal.signal(signal.SIGHUP, lambda number, frame: None)
    for _ in range(3):
        signal.raise_signal(signal.SIGHUP)
        time.sleep(0.3)
    print("saved", file=sys.stderr)
    raise KeyboardInterrupt("stopped", signal.SIGHUP)
"""
    assert as_command(tmp_path, code) == (129, "saved\nhebbcore: stopped\n")


@pytest.mark.parametrize("name", ["SIGINT", "SIGHUP"])
def test_signals_that_are_ignored_stay_ignored(tmp_path, name):
    """As in a shell's background jobs, and under nohup."""
    code = f"""
import signal
def run(options):
    signal.raise_signal(signal.{name})
    return 7
"""
    ignored = f"import signal\nsignal.signal(signal.{name}, signal.SIG_IGN)"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.modules[__name__], "COMMAND", ignored + COMMAND)
        assert as_command(tmp_path, code) == (7, "")


@pytest.mark.parametrize(
    ("arguments", "original", "expected"),
    [
        (["/usr/bin/hebbcore", "train"], ["python", "/usr/bin/hebbcore", "train"], True),
        (["-m", "train"], ["python", "-X", "dev", "-m", "hebbcore", "train"], True),
        (["-m"], ["python", "-mhebbcore"], True),
        (["-m", "hebbcore"], ["python", "-m", "pytest", "hebbcore"], False),
        (["/usr/bin/pytest", "hebbcore"], ["/usr/bin/pytest", "hebbcore"], False),
        (["-c"], ["python", "-c", "import hebbcore"], False),
        ([""], ["python"], False),
        ([], [], False),
    ],
)
def test_which_process_is_the_command(arguments, original, expected):
    assert interrupts.is_command(arguments, original) is expected


def test_a_program_that_imports_hebbcore_keeps_its_handlers():
    script = """
import signal
before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
import hebbcore.cli
assert hebbcore.cli.main(["shards", "info", "nothing"]) == 1
assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
"""
    subprocess.run([sys.executable, "-c", script], env=ENVIRONMENT, check=True, capture_output=True)


def slow(number):
    time.sleep(0.05)
    return number


def test_interrupts_while_workers_start_and_work_leave_none_of_them():
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    for delay in (0, 0.02, 0.1, 0.4):
        timer = threading.Timer(delay, signal.pthread_kill, (threading.main_thread().ident, signal.SIGINT))
        results = map_ordered(slow, range(1000), workers=2)
        gc.collect()  # so that no object of other tests is deleted when the signal comes: Python drops it there
        with pytest.raises(KeyboardInterrupt):  # noqa: PT012  # it may come at any of these lines
            timer.start()
            for number, result in enumerate(results):
                assert result == number
        results.close()
        timer.join()
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("loaders-worker")]
        assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers


def test_an_interrupt_of_an_import_is_one():
    script = """
import sys
from hebbcore import cli
def parser(named):
    try:
        raise KeyboardInterrupt
    except KeyboardInterrupt as error:
        raise ImportError("initialization failed") from error  # as modules made by pybind11 do
cli._parser = parser
sys.exit(cli.main(["train"]))
"""
    done = subprocess.run([sys.executable, "-c", script], env=ENVIRONMENT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (130, "hebbcore: interrupted\n")


def test_a_program_ends_though_workers_are_left_waiting(tmp_path):
    script = tmp_path / "script.py"
    script.write_text("""
import sys
from loaders.workers import map_ordered
if __name__ == "__main__":
    results = map_ordered(abs, range(-100, 0), workers=2)
    print(next(results))
    raise KeyboardInterrupt  # whose traceback keeps the frame, and with it the iterator
""")
    done = subprocess.run([sys.executable, script], env=ENVIRONMENT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (-signal.SIGINT, "100\n")
    assert done.stderr.rstrip().endswith("KeyboardInterrupt")


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_that_ends_leaves_its_parent_the_workers():
    results = map_ordered(slow, range(12), workers=2)
    found = [next(results)]
    child = os.fork()
    if child == 0:
        results.close()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert found + list(results) == list(range(12))
