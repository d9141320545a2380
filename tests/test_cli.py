"""The command line as a user meets it: its use, its help, errors without a traceback."""

import re
import subprocess
import sys

import h5py
import pytest
from cli_helpers import ENVIRONMENT, weights

from hebbcore import cli
from hebbcore.cli import main

pytest_plugins = "cli_helpers"


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


def test_errors_of_files_and_folders(place, fails):
    assert fails("train gone.toml --out a") == "No such file or directory: gone.toml"
    assert fails("train shards --out a") == "Is a directory: shards"
    message = fails("train images.h5 --out a")
    assert message.startswith("config: images.h5 is not valid TOML: 'utf-8' codec can't decode")
    assert message.endswith("; give a TOML file, or the config.json of a run.")
    assert (
        fails("train run.toml --out run.toml")
        == "run.toml is a file, and a folder is to be made there: name another folder, or move the file."
    )
    assert fails("train run.toml --out images.h5/a") == (
        "images.h5 is a file, and the folder images.h5/a is to be made there: name another folder, or move the file."
    )
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


@pytest.mark.parametrize("closed", [">&-", "2>&-"])
def test_closed_streams_change_nothing(place, closed):
    """As those of a daemon; without them Python writes to standard output what is for standard error."""
    line = f"{sys.executable} -m hebbcore train run.toml --out a {closed}"
    done = subprocess.run(["sh", "-c", line], env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done
    assert "epochs done" not in done.stdout
    assert weights("a").any()


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
